"""The script of the page: its modules one after another, as one page cannot import files."""

import re
from collections.abc import Iterable
from importlib.resources import files

from vaexp.errors import UserError

ENGINE = ("numbers", "model", "transforms", "unpack", "measures", "state")
PAGE = (
    "elements",
    "painting",
    "charts",
    "plane",
    "scene",
    "texts",
    "explorer",
    "saving",
    "controls",
    "page",
)
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)
HEAD = "// The modules of vaexp/explore, joined without their comments."


def engine(families: Iterable[str]) -> str:
    """The script without its page: the inference with these likelihoods, measures and the state.

    Raises UserError for a likelihood that no script runs.
    """
    names = sorted(set(families))
    # each in a scope of its own, as several of them have a function of the same name
    likelihoods = "".join(
        f"{name}: (() => {{\n{_module(f'likelihoods/{name}')}return {name};\n}})(),\n"
        for name in names
    )
    table = f"const LIKELIHOODS = {{\n{likelihoods}}};\n"
    return "\n".join([*map(_module, ENGINE), table])


def script(families: Iterable[str]) -> str:
    """The whole script of a page whose models have these likelihoods."""
    return "\n".join([HEAD, engine(families), *map(_module, PAGE)])


def _module(name: str) -> str:
    """A module without imports and exports, as all share one scope, and without comment lines."""
    file = files("vaexp.explore").joinpath(f"{name}.js")
    if not file.is_file():
        raise UserError(f"no script runs this likelihood in a page: vaexp/explore/{name}.js")
    text = file.read_text(encoding="utf-8")
    return _EXPORT.sub("", _IMPORT.sub("", _COMMENT.sub("", text))).lstrip("\n")
