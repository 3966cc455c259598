"""Runs side by side: what differs, the test metrics, and paired differences. Imports no torch."""

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
    """A metric of one run minus the reference run's, over the same test images; or why not."""

    value: float | None = None
    se: float | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Ranking:
    """Runs that may be ranked, best first, by one likelihood."""

    metric: str
    order: list[str]
    refused: str | None = None
    """Why the runs cannot be ranked, when they cannot."""
    ties: list[str] = field(default_factory=list)
    """Neighbours in that order that differ by less than two standard errors of the difference."""


@dataclass(frozen=True)
class Spread:
    """A metric over runs that differ by nothing but their seed."""

    mean: float
    sd: float
    """The sample standard deviation over runs."""
    n: int


@dataclass(frozen=True)
class OverSeeds:
    """Runs that differ by nothing but their seed, taken together."""

    runs: list[str]
    settings: dict[str, Any]
    """dotted key -> value, where such groups differ"""
    metrics: dict[str, Spread]
    differences: dict[str, Difference]
    """metric -> its mean minus the first group's, unpaired (Welch 1947); empty in the first"""


@dataclass(frozen=True)
class Comparison:
    """What ``vaexp compare`` prints. Lists run over the runs; the first is the reference."""

    runs: list[str]
    """Short names."""
    paths: list[str]
    descriptions: list[str]
    settings: dict[str, list[Any]]
    """dotted key -> its value in each run, only where they differ; None where it does not apply"""
    metrics: dict[str, list[dict[str, Any] | None]]
    """metric -> its entry in each run's test split"""
    differences: dict[str, list[Difference]]
    """metric -> its difference in each run but the first"""
    ranking: Ranking
    over_seeds: list[OverSeeds]
    """Where some runs differ by their seed only"""


def compare(runs: Sequence[RunFolder]) -> Comparison:
    """Compare finished runs on their test split. Raises RunError for a run without metrics."""
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
    """Why the numbers of two runs must not be subtracted or ranked; None if they may be.

    a and b are their entries of metrics.json; the facts are the runs' test data and transform.
    """
    if facts_a["data"] != facts_b["data"]:
        return "the test images differ"
    if a["scope"] != b["scope"]:
        return "the two were measured by versions that mean different things by it"
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
        if ours != theirs and {ours, theirs} != {"exact", "estimate"}:  # unbiased, of the same
            return what.format(ours, theirs).replace("_", " ")
    return None


def _out_of_scope(
    a: dict[str, Any], b: dict[str, Any], transform_a: str, transform_b: str
) -> str | None:
    """Why two numbers of one scope, of the same test images, are none of the same thing."""
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
                return "beta differs, and each is the bound of another distribution"
            return None
    assert_never(scope)


Side = tuple[dict[str, dict[str, Any]], dict[str, "np.ndarray[Any, Any]"], dict[str, Any]]


def _difference(name: str, reference: Side, other: Side) -> Difference:
    (test_a, arrays_a, facts_a), (test_b, arrays_b, facts_b) = reference, other
    if name not in test_a or name not in test_b:
        return Difference(refused="not measured on both")
    a, b = test_a[name], test_b[name]
    refused = incomparable(a, b, facts_a, facts_b)
    if refused is not None:
        return Difference(refused=refused)
    if "whole" in (a["aggregate"], b["aggregate"]):  # no image has a value of its own
        if a == b:  # of the same images, as controls are
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
    """Its own, or that of a normal distribution with its 95 % interval."""
    if entry.get("se") is not None or "interval" not in entry:
        return entry.get("se")
    low, high = entry["interval"]
    return (high - low) / (2 * 1.96)


def _over_seeds(
    names: list[str], settings: list[dict[str, Any]], sides: list[Side]
) -> list[OverSeeds]:
    """Groups of two or more runs whose settings are the same but for the seed and the name."""
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
    found: list[OverSeeds] = []
    for members in several:
        tests = [sides[i][0] for i in members]
        metrics = {
            name: _spread([test[name]["value"] for test in tests])
            for name in tests[0]
            if all(_alike(name, sides[members[0]], sides[i]) for i in members)
        }
        first = several[0][0]
        differences = {}
        for name, spread in metrics.items() if found else ():
            if name in found[0].metrics:
                a, b = sides[first], sides[members[0]]
                differences[name] = _welch(
                    found[0].metrics[name],
                    spread,
                    incomparable(a[0][name], b[0][name], a[2], b[2]),
                )
        found.append(
            OverSeeds(
                [names[i] for i in members],
                {key: settings[members[0]].get(key) for key in keys},
                metrics,
                differences,
            )
        )
    return found


def _alike(name: str, side: Side, other: Side) -> bool:
    (test_a, _, facts_a), (test_b, _, facts_b) = side, other
    both = name in test_a and name in test_b
    return both and incomparable(test_a[name], test_b[name], facts_a, facts_b) is None


def _spread(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))


def _welch(a: Spread, b: Spread, refused: str | None) -> Difference:
    if refused is not None:
        return Difference(refused=refused)
    return Difference(b.mean - a.mean, math.hypot(a.sd / math.sqrt(a.n), b.sd / math.sqrt(b.n)))


def _influence(values: "np.ndarray[Any, Any]", entry: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """What each image adds to the metric, to first order: the delta method for a root mean."""
    if entry["aggregate"] == "root_mean" and entry["value"]:
        slope: float = 1 / (2 * entry["value"])
        return values * slope
    return values


def _rank(names: list[str], sides: list[Side]) -> Ranking:
    """By the tightest likelihood in which all runs may be compared.

    That is ln p(x) itself, the importance-weighted bound at the same K, or the ELBO, which for a
    model with an exact posterior is ln p(x).
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
    """The measures that runs may be ranked by, the tightest first."""
    tightness = {
        name: entry["tightness"]
        for test, _, _ in sides
        for name, entry in test.items()
        if "tightness" in entry
    }
    return sorted(tightness, key=lambda name: -tightness[name])


def _why_not_ranked(metric: str, names: list[str], sides: list[Side]) -> str | None:
    """Why a likelihood does not rank all the runs; None where it does."""
    tests, _, facts = zip(*sides, strict=True)
    if not all(metric in test for test in tests):
        return f"not every run has {metric}"
    for i in range(1, len(names)):
        why = incomparable(tests[0][metric], tests[i][metric], facts[0], facts[i])
        if why is not None:
            return f"{names[0]} and {names[i]}: {why}"
    return None


def _ranking(metric: str, names: list[str], sides: list[Side]) -> Ranking:
    order = sorted(range(len(names)), key=lambda i: -sides[i][0][metric]["value"])
    ties = []
    for better, worse in pairwise(order):
        gap = _difference(metric, sides[worse], sides[better])
        if gap.value is not None and gap.se is not None and gap.value < 2 * gap.se:
            ties.append(f"{names[better]} and {names[worse]}")
    return Ranking(metric, [names[i] for i in order], ties=ties)


def _unique(names: list[str]) -> list[str]:
    """Names with a count where the same run, or two of the same name, come twice."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
