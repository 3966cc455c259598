"""Comparing the test metrics of runs, with paired differences. This module imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from vaexp.comparison.differences import Difference, Side, difference, incomparable
from vaexp.comparison.older import in_words_of_today
from vaexp.comparison.over_seeds import OverSeeds, over_seeds
from vaexp.config import Config, differing, flatten
from vaexp.errors import RunError
from vaexp.runs.folder import RunFolder, short_names


@dataclass(frozen=True)
class Ranking:
    """The order of runs by one likelihood, the best first."""

    metric: str
    order: list[str]
    refused: str | None = None
    """Why the runs cannot be ranked, if they cannot."""
    ties: list[str] = field(default_factory=list)
    """Neighbours in the order whose difference is below two of its standard errors."""
    instead: dict[str, str] = field(default_factory=dict)
    """The metric of ln p(x) that takes the place of ``metric`` in a run given the label."""


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
        name: [difference(name, sides[0], side) for side in sides[1:]] for name in metrics
    }
    return Comparison(
        runs=names,
        paths=[str(run.path) for run in runs],
        descriptions=[config.describe() for config in configs],
        settings={key: [flat.get(key) for flat in settings] for key in keys},
        metrics={name: [test.get(name) for test in tests] for name in metrics},
        differences=differences,
        ranking=_rank(names, sides),
        over_seeds=over_seeds(names, settings, sides),
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
    # versions before this fact did not write it
    facts = config.model.likelihood_facts
    unbounded = {key: facts[key] for key in ("unbounded",) if key in facts}
    return {
        name: (unbounded if entry.get("measure") == "density" else {})
        | (entry if "scope" in entry else in_words_of_today(name, entry, config.data.transform))
        for name, entry in test.items()
    }


def _rank(names: list[str], sides: list[Side]) -> Ranking:
    """Rank the runs by the tightest likelihood in which all of them may be compared.

    That is ln p(x) itself, the importance-weighted bound with the same K, or the ELBO. The ELBO of
    a model with an exact posterior is ln p(x). Where some runs are given the label and others are
    not, the numbers that those have of ln p(x) are taken, if they were measured.
    """
    refused = "no likelihood was measured on every run"
    metric = ""
    for metric in _by_tightness(sides):
        reason = _why_not_ranked(metric, names, sides)
        if reason is None:
            return _ranking(metric, names, sides)
        refused = reason
    for tightness in (3, 2, 1):
        of_x = [_of_x(test, tightness) for test, _, _ in sides]
        if None in of_x:
            continue
        named = dict(zip(names, [str(name) for name in of_x], strict=True))
        common = max(named.values(), key=list(named.values()).count)
        renamed = [
            ({common: test[name]}, {common: arrays[name]} if name in arrays else {}, facts)
            for name, (test, arrays, facts) in zip(named.values(), sides, strict=True)
        ]
        if _why_not_ranked(common, names, renamed) is None:
            instead = {run: name for run, name in named.items() if name != common}
            return replace(_ranking(common, names, renamed), instead=instead)
    return Ranking(metric, [], refused)


def _of_x(test: dict[str, dict[str, Any]], tightness: int) -> str | None:
    """The name of a run's number of ln p(x), not given the label, of this tightness, if any."""
    found = (
        name
        for name, entry in test.items()
        if entry.get("tightness") == tightness and entry.get("of") == "x"
    )
    return next(found, None)


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
        gap = difference(metric, sides[worse], sides[better])
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
