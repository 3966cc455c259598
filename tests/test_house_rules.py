"""The code obeys the rules of its own house: short files, and no kind is named outside its room."""

import ast
import pkgutil
from collections.abc import Iterator
from inspect import isabstract
from pathlib import Path
from typing import Any, get_args

import pytest

from vaexp.config.covariances import COVARIANCES
from vaexp.config.em import EMExperiment
from vaexp.config.experiments import EXPERIMENTS, Config
from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.config.linear_gaussian import LinearGaussianExperiment
from vaexp.config.sigma import SIGMA_MODES
from vaexp.fitting.em import EMSteps
from vaexp.models.build import Model
from vaexp.models.covariances import Gaussians
from vaexp.models.likelihoods.interface import Decoded, Likelihood
from vaexp.models.linear_gaussian import LinearGaussian

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "vaexp"
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = {"file": 400, "function": 60, "test file": 700}
LONG_FUNCTIONS: dict[str, str] = {}
"""file:function -> why it is longer than a screen. There is none."""


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_file_can_be_read_at_a_sitting() -> None:
    files = [*MODULES, *sorted(PACKAGE.rglob("*.js"))]
    assert [name(path) for path in files if lines(path) > MOST_LINES["file"]] == []
    tests = sorted(TESTS.glob("*.py"))
    assert [path.name for path in tests if lines(path) > MOST_LINES["test file"]] == []


def test_a_function_fits_a_screen() -> None:
    long = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > MOST_LINES["function"]:
                    long.add(f"{name(path)}:{node.name}")
    assert long == LONG_FUNCTIONS.keys()


# What a kind can do is asked of it. Only these places say which kinds there are.

ROOMS = ("config/", "models/build.py")
OTHER_MEANINGS = {("evaluation/rescoring.py", "pixel"): "a row: the best sigma of each pixel"}


def below(kind: type[Any]) -> set[str]:
    """The names of all classes that derive from one."""
    children = [*kind.__subclasses__()]
    return {child.__name__ for child in children}.union(*map(below, children))


def entry_points() -> Iterator[tuple[str, type[Any]]]:
    """Every class that a table or a section of the config names, and what it should derive from."""
    yield from ((family.head, Likelihood) for family in LIKELIHOODS.values())
    yield from ((family.gaussians, Gaussians) for family in COVARIANCES.values())
    for kind, kind_of_experiment in EXPERIMENTS.items():
        smallest = {"name": kind, "model": {"kind": kind}}
        experiment = kind_of_experiment.model_validate(smallest)
        if isinstance(experiment, EMExperiment):
            yield experiment.steps, EMSteps
        if isinstance(experiment, LinearGaussianExperiment):
            yield experiment.model.implementation, LinearGaussian


def sections() -> list[type[Any]]:
    """The section of each kind of model."""
    return [kind.model_fields["model"].annotation for kind in EXPERIMENTS.values()]


def classes() -> set[str]:
    """The names of the classes of models, configs, likelihoods and covariances."""
    for point, _ in entry_points():
        pkgutil.resolve_name(point)  # a class is known as soon as it is imported
    families = {*get_args(Model), *get_args(Config)}
    named = {one.__name__ for one in (*EXPERIMENTS.values(), *sections(), *families)}
    bases = (Likelihood, Decoded, Gaussians, LinearGaussian)
    return named.union(*map(below, bases))


NAMES = {*SIGMA_MODES, *LIKELIHOODS, *COVARIANCES, *EXPERIMENTS}
CLASSES = classes()


def strings(node: ast.AST) -> set[str]:
    found = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return {value for value in found if isinstance(value, str)}


def identifiers(node: ast.AST) -> set[str]:
    parts = list(ast.walk(node))
    attributes = {part.attr for part in parts if isinstance(part, ast.Attribute)}
    return attributes | {part.id for part in parts if isinstance(part, ast.Name)}


LITERALS = ast.Constant | ast.Tuple | ast.List | ast.Set


def named_kinds(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name where code chooses by a kind that it names, other than by matching its class.

    An assertion chooses nothing: it tells the type checker what was chosen before.
    """
    asserted = {node.test for node in ast.walk(tree) if isinstance(node, ast.Assert)}
    for node in ast.walk(tree):
        found: set[str] = set()
        match node:
            case ast.Compare(left=left, comparators=others):
                for side in (left, *others):
                    if isinstance(side, LITERALS):
                        found |= strings(side) & NAMES
                    elif isinstance(side, ast.Name | ast.Attribute):
                        found |= identifiers(side) & CLASSES  # type(model) is GMM
            case ast.match_case(pattern=pattern):
                found = strings(pattern) & NAMES
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                found = identifiers(kinds) & CLASSES if node not in asserted else set()
        yield from ((getattr(node, "lineno", 0), one) for one in sorted(found))


@pytest.mark.parametrize(("point", "base"), [*entry_points()])
def test_an_entry_point_is_a_class_that_answers_everything(point: str, base: type[Any]) -> None:
    named = pkgutil.resolve_name(point)
    assert issubclass(named, base)
    assert not isabstract(named)


FINAL = [point for point, base in entry_points() if base in (EMSteps, LinearGaussian)]
FINAL += [f"{one.__module__}:{one.__name__}" for one in (*EXPERIMENTS.values(), *sections())]


@pytest.mark.parametrize("point", FINAL)
def test_the_type_checker_names_what_a_kind_of_model_leaves_out(point: str) -> None:
    """An abstract member that is left is an error of mypy only in a class that is final."""
    assert pkgutil.resolve_name(point).__final__


def test_no_code_outside_of_a_room_names_a_kind() -> None:
    found = []
    for path in MODULES:
        if name(path).startswith(ROOMS):
            continue
        for line, kind in named_kinds(ast.parse(path.read_text(encoding="utf-8"))):
            if (name(path), kind) not in OTHER_MEANINGS:
                found.append(f"{name(path)}:{line} {kind}")
    assert found == []


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        ('if head.sigma_mode != "fixed": pass', ["fixed"]),
        ('near = head.sigma_mode in ("shared", "pixel")', ["pixel", "shared"]),
        ('if config.kind == "gmm": pass', ["gmm"]),
        ('if model.likelihood == "discretized_logistic": pass', ["discretized_logistic"]),
        ('match covariance:\n  case "full" | "tied": pass', ["full", "tied"]),
        ("if isinstance(model, VAE): pass", ["VAE"]),
        ("isinstance(head, GaussianHead) and head.learned", ["GaussianHead"]),
        ("x = isinstance(gaussians, Diag | Spherical)", ["Diag", "Spherical"]),
        ("isinstance(config, schema.GMMConfig)", ["GMMConfig"]),
        ("if type(model) is PPCA: pass", ["PPCA"]),
        ("assert isinstance(model, VAE)", []),
        ("match model:\n  case VAE(): pass\n  case GMM(): pass", []),
        ('if mode == "sample" or split == "test": pass', []),
        ("if model.has_sigma and mode.of_z: pass", []),
        ("if isinstance(answer, Absent): pass", []),
    ],
)
def test_what_names_a_kind(code: str, kinds: list[str]) -> None:
    assert sorted(kind for _, kind in named_kinds(ast.parse(code))) == kinds


def test_the_kinds_are_read_from_the_tables() -> None:
    """A new one is looked for as soon as it is there."""
    assert {"vae", "fa", "lowrank", "pixel", "truncated_gaussian", "spherical"} <= NAMES
    assert {"VAE", "FA", "LinearGaussian", "FAConfig", "GMMExperiment"} <= CLASSES
    assert {"GaussianHead", "DiscretizedLogistic", "LowRankGaussian", "Tied"} <= CLASSES
