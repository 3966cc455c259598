"""The script of the page: its modules one after another, as one page cannot import files."""

import re
from collections.abc import Iterable
from importlib.resources import files

from vaexp.errors import UserError

ENGINE = ("numbers", "gaussians", "transforms", "unpack", "address")
PAGE = ("elements", "painting", "charts", "kept", "common", "sheets", "page")
LATENT_ENGINE = ("model", "measures", "state")
LATENT_PAGE = (
    "plane",
    "scene",
    "texts",
    "explorer",
    "saving",
    "controls",
    "latent_page",
)
MIXTURE_ENGINE = ("mixtures",)
MIXTURE_PAGE = ("mixture_explorer", "mixture_page")
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)
_INDENT = re.compile(r"^ +", re.MULTILINE)
HEAD = "// The modules of vaexp/explore, joined without their comments and indentation."


def engine(families: Iterable[str]) -> str:
    """The inference of models with latents, with these likelihoods, and what needs no page either.

    Raises UserError for a likelihood that no script runs.
    """
    names = sorted(set(families))
    # each in a scope of its own, as several of them have a function of the same name
    likelihoods = "".join(
        f"{name}: (() => {{\n{_module(f'likelihoods/{name}')}return {name};\n}})(),\n"
        for name in names
    )
    table = f"const LIKELIHOODS = {{\n{likelihoods}}};\n"
    return "\n".join([*map(_module, ENGINE + LATENT_ENGINE), table])


def script(families: Iterable[str]) -> str:
    """The whole script of a page of models with latents, which have these likelihoods."""
    return "\n".join([HEAD, engine(families), *map(_module, PAGE + LATENT_PAGE)])


def mixture_engine() -> str:
    """The inference of mixtures, and what needs no page either."""
    return "\n".join(map(_module, ENGINE + MIXTURE_ENGINE))


def mixture_script() -> str:
    """The whole script of a page of mixtures."""
    return "\n".join([HEAD, mixture_engine(), *map(_module, PAGE + MIXTURE_PAGE)])


def _module(name: str) -> str:
    """A module without imports and exports, as all share one scope, comments and indentation."""
    file = files("vaexp.explore").joinpath(f"{name}.js")
    if not file.is_file():
        raise UserError(f"no script runs this likelihood in a page: vaexp/explore/{name}.js")
    text = file.read_text(encoding="utf-8")
    for left_out in (_COMMENT, _IMPORT, _EXPORT, _INDENT):
        text = left_out.sub("", text)
    return text.lstrip("\n")
