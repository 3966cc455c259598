"""Comparing the test metrics of runs, with paired differences. This module imports no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, assert_never, get_args

import numpy as np

from vaexp.comparison.older import in_words_of_today
from vaexp.config import Config, differing, flatten
from vaexp.errors import RunError
from vaexp.evaluation.scope import Scope
from vaexp.runs.folder import RunFolder, short_names


@dataclass(frozen=True)
class Difference:
    """A metric of one run minus that of the reference run on the same test images."""

    value: float | None = None
    se: float | None = None
    """The standard error of the difference."""
    refused: str | None = None
    """Why there is no such difference, if there is none."""


@dataclass(frozen=True)
class Ranking:
    """The order of runs by one likelihood, the best first."""

    metric: str
    order: list[str]
    refused: str | None = None
    """Why the runs cannot be ranked, if they cannot."""
    ties: list[str] = field(default_factory=list)
    """Neighbours in the order whose difference is below two of its standard errors."""


@dataclass(frozen=True)
class Spread:
    """The mean and spread of a metric over runs that differ in their seed only."""

    mean: float
    sd: float
    """The sample standard deviation over runs."""
    n: int


@dataclass(frozen=True)
class OverSeeds:
    """A group of runs that differ in their seed only."""

    runs: list[str]
    settings: dict[str, Any]
    """The settings in which such groups differ: dotted key -> value."""
    metrics: dict[str, Spread]
    differences: dict[str, Difference]
    """For each metric, its mean minus that of the first group, unpaired (Welch 1947).

    The first group has none."""


@dataclass(frozen=True)
class Comparison:
    """The content of ``vaexp compare``. Lists have one item per run; the first is the reference."""

    runs: list[str]
    """Short names."""
    paths: list[str]
    descriptions: list[str]
    settings: dict[str, list[Any]]
    """The settings that differ: dotted key -> its value in each run, None if it does not apply."""
    metrics: dict[str, list[dict[str, Any] | None]]
    """metric -> its entry in the test split of each run, None if it was not measured."""
    differences: dict[str, list[Difference]]
    """metric -> its difference in each run except the first."""
    ranking: Ranking
    over_seeds: list[OverSeeds]
    """Groups of runs that differ in their seed only, if there are any."""


def compare(runs: Sequence[RunFolder]) -> Comparison:
    """Compare finished runs on their test split. Raises RunError for a run that has no metrics."""
    for run in runs:
        run.check_config()
    configs = [run.config() for run in runs]
    tests = [_test_metrics(run, config) for run, config in zip(runs, configs, strict=True)]
    arrays = [run.per_example() for run in runs]
    settings = [flatten(config.model_dump()) for config in configs]
    facts = [
        {
            "data": (run.environment().get("data_sha256"), str(sorted(config.data.labels or []))),
            "data.transform": config.data.transform,
        }
        for run, config in zip(runs, configs, strict=True)
    ]

    sides = list(zip(tests, arrays, facts, strict=True))
    names = _unique(short_names(runs))
    keys = [key for key in differing(settings) if key != "name"]
    metrics = list(dict.fromkeys(name for test in tests for name in test))
    differences = {
        name: [_difference(name, sides[0], side) for side in sides[1:]] for name in metrics
    }
    return Comparison(
        runs=names,
        paths=[str(run.path) for run in runs],
        descriptions=[config.describe() for config in configs],
        settings={key: [flat.get(key) for flat in settings] for key in keys},
        metrics={name: [test.get(name) for test in tests] for name in metrics},
        differences=differences,
        ranking=_rank(names, sides),
        over_seeds=_over_seeds(names, settings, sides),
    )


def _test_metrics(run: RunFolder, config: Config) -> dict[str, dict[str, Any]]:
    """The entries of the test split. Raises RunError if the run has none."""
    test = run.metrics().get("test")
    if test is None:
        if run.status() == "failed":
            raise RunError(f"{run.path}: has no final metrics, it failed: {run.info()['error']}")
        raise RunError(
            f"{run.path}: has no final metrics (status {run.status()}); "
            f"vaexp train --resume {run.path} finishes it"
        )
    return {
        name: entry if "scope" in entry else in_words_of_today(name, entry, config.data.transform)
        for name, entry in test.items()
    }


def incomparable(
    a: dict[str, Any], b: dict[str, Any], facts_a: dict[str, Any], facts_b: dict[str, Any]
) -> str | None:
    """Why the numbers of two runs must not be subtracted or ranked, or None if they may be.

    a and b are their entries of metrics.json. The facts say which test data and transform the runs
    have.
    """
    if facts_a["data"] != facts_b["data"]:
        return "the test images differ"
    if a["scope"] != b["scope"]:
        return "they were measured by versions of vaexp that define the measure differently"
    refused = _out_of_scope(a, b, facts_a["data.transform"], facts_b["data.transform"])
    if refused is not None:
        return refused
    on = a.get("on"), b.get("on")
    if a.get("measure") == b.get("measure") == "mass" and None not in on and on[0] != on[1]:
        return f"a mass on {on[0]} and a mass on {on[1]} cannot be compared"
    for key, what in (
        ("measure", "a {} and a {} cannot be compared"),
        ("of", "one is of {}, the other of {}"),
        ("difference_of", "one is a difference of {}, the other of {}"),
        ("floor_of", "half the floor is of a {} in one, of a {} in the other"),
        ("kind", "{} and {} are of different kinds"),
        ("k", "k differs ({} and {})"),
        ("clusters", "there are {} and {} clusters"),
        ("against", "they are measured against {} and {} images"),
        ("n", "one is of {} images or draws, the other of {}"),
    ):
        ours, theirs = a.get(key), b.get(key)
        # an exact number may be compared with an unbiased estimate of the same quantity
        if ours != theirs and {ours, theirs} != {"exact", "estimate"}:
            return what.format(ours, theirs).replace("_", " ")
    return None


def _out_of_scope(
    a: dict[str, Any], b: dict[str, Any], transform_a: str, transform_b: str
) -> str | None:
    """Why two numbers with the same scope and test images are not comparable, or None."""
    if a["scope"] not in get_args(Scope):
        return f"a later version of vaexp measured them, with the scope {a['scope']}"
    scope: Scope = a["scope"]
    both = f"the transforms differ ({transform_a} and {transform_b})"
    other_x = f"{both}, so these are numbers of different x"
    match scope:
        case "any_transform":
            return None
        case "own_draws":
            return "each is of images that its own model drew"
        case "same_look":
            alike = a.get("look", transform_a) == b.get("look", transform_b)
            return None if alike else f"{both}, so the images look different"
        case "same_x":
            return None if transform_a == transform_b else other_x
        case "same_objective":
            if transform_a != transform_b:
                return other_x
            if a.get("beta") != b.get("beta"):
                return "beta differs, so they bound ln p(x) of different distributions"
            return None
    assert_never(scope)


Side = tuple[dict[str, dict[str, Any]], dict[str, "np.ndarray[Any, Any]"], dict[str, Any]]


def _difference(name: str, reference: Side, other: Side) -> Difference:
    """A metric of ``other`` minus that of ``reference``, paired where images have values."""
    (test_a, arrays_a, facts_a), (test_b, arrays_b, facts_b) = reference, other
    if name not in test_a or name not in test_b:
        return Difference(refused="not measured on both")
    a, b = test_a[name], test_b[name]
    refused = incomparable(a, b, facts_a, facts_b)
    if refused is not None:
        return Difference(refused=refused)
    if "whole" in (a["aggregate"], b["aggregate"]):  # no image has a value of its own
        if a == b:  # as for controls, which are of the same images
            return Difference(0.0, 0.0)
        errors = _standard_error(a), _standard_error(b)
        se = None if None in errors else math.hypot(*errors)  # type: ignore[arg-type]
        return Difference(b["value"] - a["value"], se)
    try:
        values_a, values_b = arrays_a[name], arrays_b[name]
    except KeyError:
        return Difference(refused="per_example.npz lacks it")
    if len(values_a) != len(values_b):
        return Difference(refused="the test images differ")
    paired = _influence(values_b, b) - _influence(values_a, a)
    se = paired.std(ddof=1) / math.sqrt(len(paired)) if len(paired) > 1 else None
    return Difference(b["value"] - a["value"], None if se is None else float(se))


def _standard_error(entry: dict[str, Any]) -> float | None:
    """The standard error of an entry, or that of a normal distribution with its 95 % interval."""
    if entry.get("se") is not None or "interval" not in entry:
        return entry.get("se")
    low, high = entry["interval"]
    return (high - low) / (2 * 1.96)


def _over_seeds(
    names: list[str], settings: list[dict[str, Any]], sides: list[Side]
) -> list[OverSeeds]:
    """Groups of two or more runs whose settings are the same except for seed and name."""
    groups: dict[str, dict[int, int]] = {}
    for i, flat in enumerate(settings):
        rest = {key: value for key, value in flat.items() if key not in ("seed", "name")}
        groups.setdefault(repr(sorted(rest.items())), {}).setdefault(flat["seed"], i)
    several = [list(by_seed.values()) for by_seed in groups.values() if len(by_seed) > 1]
    keys = [
        key
        for key in differing([settings[members[0]] for members in several])
        if key not in ("seed", "name")
    ]
    over_seeds: list[OverSeeds] = []
    for members in several:
        tests = [sides[i][0] for i in members]
        metrics = {
            name: _spread([test[name]["value"] for test in tests])
            for name in tests[0]
            if all(_comparable(name, sides[members[0]], sides[i]) for i in members)
        }
        first = several[0][0]
        differences = {}
        for name, spread in metrics.items() if over_seeds else ():
            if name in over_seeds[0].metrics:
                a, b = sides[first], sides[members[0]]
                differences[name] = _welch(
                    over_seeds[0].metrics[name],
                    spread,
                    incomparable(a[0][name], b[0][name], a[2], b[2]),
                )
        over_seeds.append(
            OverSeeds(
                [names[i] for i in members],
                {key: settings[members[0]].get(key) for key in keys},
                metrics,
                differences,
            )
        )
    return over_seeds


def _comparable(name: str, side: Side, other: Side) -> bool:
    """Whether both have the metric and it may be compared."""
    (test_a, _, facts_a), (test_b, _, facts_b) = side, other
    both = name in test_a and name in test_b
    return both and incomparable(test_a[name], test_b[name], facts_a, facts_b) is None


def _spread(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))


def _welch(a: Spread, b: Spread, refused: str | None) -> Difference:
    """The unpaired difference b - a of two means and its standard error (Welch 1947)."""
    if refused is not None:
        return Difference(refused=refused)
    return Difference(b.mean - a.mean, math.hypot(a.sd / math.sqrt(a.n), b.sd / math.sqrt(b.n)))


def _influence(values: "np.ndarray[Any, Any]", entry: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """The contribution of each image (N,) to the metric, by the delta method for a root mean."""
    if entry["aggregate"] == "root_mean" and entry["value"]:
        slope: float = 1 / (2 * entry["value"])
        return values * slope
    return values


def _rank(names: list[str], sides: list[Side]) -> Ranking:
    """Rank the runs by the tightest likelihood in which all of them may be compared.

    That is ln p(x) itself, the importance-weighted bound with the same K, or the ELBO. The ELBO of
    a model with an exact posterior is ln p(x).
    """
    refused = "no likelihood was measured on every run"
    metric = ""
    for metric in _by_tightness(sides):
        reason = _why_not_ranked(metric, names, sides)
        if reason is None:
            return _ranking(metric, names, sides)
        refused = reason
    return Ranking(metric, [], refused)


def _by_tightness(sides: list[Side]) -> list[str]:
    """The names of the measures that runs may be ranked by, the tightest first."""
    tightness = {
        name: entry["tightness"]
        for test, _, _ in sides
        for name, entry in test.items()
        if "tightness" in entry
    }
    return sorted(tightness, key=lambda name: -tightness[name])


def _why_not_ranked(metric: str, names: list[str], sides: list[Side]) -> str | None:
    """Why the runs cannot be ranked by a likelihood, or None if they can."""
    tests, _, facts = zip(*sides, strict=True)
    if not all(metric in test for test in tests):
        return f"not every run has {metric}"
    for i in range(1, len(names)):
        why = incomparable(tests[0][metric], tests[i][metric], facts[0], facts[i])
        if why is not None:
            return f"{names[0]} and {names[i]}: {why}"
    return None


def _ranking(metric: str, names: list[str], sides: list[Side]) -> Ranking:
    """Rank the runs by a likelihood that all of them have."""
    order = sorted(range(len(names)), key=lambda i: -sides[i][0][metric]["value"])
    ties = []
    for better, worse in pairwise(order):
        gap = _difference(metric, sides[worse], sides[better])
        if gap.value is not None and gap.se is not None and gap.value < 2 * gap.se:
            ties.append(f"{names[better]} and {names[worse]}")
    return Ranking(metric, [names[i] for i in order], ties=ties)


def _unique(names: list[str]) -> list[str]:
    """The names, with a count added to each that occurs a second time."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
