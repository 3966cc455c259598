"""Runs that differ in their seed only, taken together. This module imports no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaexp.comparison.differences import (
    Difference,
    Side,
    contributions,
    incomparable,
    is_mean_log_likelihood,
)
from vaexp.config import differing, of_the_run
from vaexp.evaluation.tails import ROWS, Tails
from vaexp.shown import show_value

Images = NDArray[Any] | None
"""A number of each test image (N,), if the metric has them."""


@dataclass(frozen=True)
class Spread:
    """The mean and spread of a metric over runs that differ in their seed only."""

    mean: float
    sd: float
    """The sample standard deviation over runs."""
    n: int
    se_images: float | None = None
    """The standard error over test images of each image's mean over runs.

    All runs share the test images, so more seeds do not make it smaller. None for a metric of
    whole sets of images."""
    tails: "dict[str, Spread]" = field(default_factory=dict)
    """For a mean of log-likelihoods, the same of the numbers that stand beside it in each run, by
    the names in ``ROWS``: the mean over runs of their medians over images, and so on."""


@dataclass(frozen=True)
class OverSeeds:
    """A group of runs that differ in their seed only."""

    runs: list[str]
    settings: dict[str, Any]
    """The settings in which such groups differ: dotted key -> value."""
    metrics: dict[str, Spread]
    differences: dict[str, Difference]
    """For each metric, its mean minus that of the first group. The first group has none.

    Its ``se`` is over seeds, unpaired (Welch 1947). Its ``se_images`` and its tails are over test
    images, paired: they are those of the difference of each image's means over runs."""

    @property
    def title(self) -> str:
        """The settings that it has as text, or how many seeds there are where no others differ."""
        settings = (
            f"{key}={show_value(value)}"
            for key, value in self.settings.items()
            if value is not None
        )
        return ", ".join(settings) or f"{len(self.runs)} seeds"


def over_seeds(
    names: list[str], settings: list[dict[str, Any]], sides: list[Side]
) -> list[OverSeeds]:
    """Groups of two or more runs of the same data and settings, except for seed and name."""
    groups: dict[str, dict[int, int]] = {}
    for i, flat in enumerate(settings):
        rest = {key: of for key, of in of_the_run(flat).items() if key not in ("seed", "name")}
        same = repr((sides[i].facts["data"], sorted(rest.items())))
        groups.setdefault(same, {}).setdefault(flat["seed"], i)
    several = [list(by_seed.values()) for by_seed in groups.values() if len(by_seed) > 1]
    keys = [
        key
        for key in differing([settings[members[0]] for members in several])
        if key not in ("seed", "name")
    ]
    groups_of_seeds: list[OverSeeds] = []
    means: list[dict[str, Images]] = []
    for members in several:
        group = [sides[i] for i in members]
        shared = [
            name
            for name in group[0].entries
            if all(_comparable(name, group[0], other) for other in group)
        ]
        means.append({name: _mean_of_images(name, group) for name in shared})
        metrics = {name: _spread(name, group, means[-1][name]) for name in shared}
        differences = {}
        for name in shared if groups_of_seeds else ():
            if name in groups_of_seeds[0].metrics:
                a, b = sides[several[0][0]], group[0]
                refused = incomparable(a, name, b, name)
                spreads = groups_of_seeds[0].metrics[name], metrics[name]
                images = means[0][name], means[-1][name]
                heavy = is_mean_log_likelihood(b.entries[name])
                differences[name] = (
                    _difference(*spreads, *images, heavy)
                    if refused is None
                    else Difference(refused=refused)
                )
        of_group = {key: settings[members[0]].get(key) for key in keys}
        runs = [names[i] for i in members]
        groups_of_seeds.append(OverSeeds(runs, of_group, metrics, differences))
    return groups_of_seeds


def _comparable(name: str, side: Side, other: Side) -> bool:
    """Whether both have the metric and it may be compared."""
    both = name in side.entries and name in other.entries
    return both and incomparable(side, name, other, name) is None


def _mean_of_images(name: str, group: list[Side]) -> Images:
    """The mean over runs of what each test image contributes (N,), if all runs have that."""
    found = [contributions(name, side) for side in group]
    arrays = [array for array in found if array is not None]
    if len(arrays) < len(found) or len({len(array) for array in arrays}) > 1:
        return None
    mean: NDArray[Any] = np.mean(arrays, axis=0)
    return mean


def _error_over_images(values: Images) -> float | None:
    if values is None or len(values) < 2:
        return None
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _spread(name: str, group: list[Side], of_images: Images) -> Spread:
    entries = [side.entries[name] for side in group]
    tails = {
        row: _over_runs([entry[row] for entry in entries])
        for row in ROWS
        if all(entry.get(row) is not None for entry in entries)
    }
    spread = _over_runs([entry["value"] for entry in entries])
    return replace(spread, se_images=_error_over_images(of_images), tails=tails)


def _over_runs(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))


def _difference(
    a: Spread, b: Spread, images_a: Images, images_b: Images, heavy: bool
) -> Difference:
    """The difference b - a of two means over seeds.

    ``images_a`` and ``images_b`` are the means of each image. ``heavy`` says whether their tails
    matter.
    """
    paired, tails = None, Tails()
    if images_a is not None and images_b is not None and len(images_a) == len(images_b):
        paired = images_b - images_a
    if not heavy:  # no image has a value of its own, or none is far from the others
        both = [row for row in ROWS if row in a.tails and row in b.tails]
        tails = Tails(**{row: b.tails[row].mean - a.tails[row].mean for row in both})
    elif paired is not None:
        tails = Tails.of(paired)
    return Difference(
        b.mean - a.mean,
        math.hypot(a.sd / math.sqrt(a.n), b.sd / math.sqrt(b.n)),
        tails=tails,
        se_images=_error_over_images(paired),
    )
