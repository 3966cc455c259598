"""Measured quantities: their values, what they are, and their entries in metrics.json."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaexp.evaluation.scope import Scope, Tightness
from vaexp.evaluation.statistics import (
    bootstrap,
    bootstrap_of_distance,
    root_standard_error,
    standard_error,
)
from vaexp.evaluation.tails import Tails

Kind = Literal["exact", "lower_bound", "upper_bound", "estimate"]
"""How a number relates to the quantity that it is named after. A lower bound holds in expectation
over its random draws; an estimate may err to either side."""

Likelihood = Literal["log_prob", "derived"]
"""What a log-likelihood is. Its entry also holds the facts of the model's likelihood: whether it
is a density or a mass, of x or of x given the label, and its sigma or its floor.

``log_prob`` is ln p(x) of the measured images, or a bound on it. It is also reported in bits per
dimension where the images have them. ``derived`` is a part of ln p(x), a difference of two such
numbers, or the ln p(x) of other images or of another distribution."""

Arrays = dict[str, "np.ndarray[Any, Any]"]
"""Arrays by the name that they have in evidence/<group>.npz."""


@dataclass(frozen=True)
class Measure:
    """One quantity that every image of a split has a value of."""

    values: Tensor
    """(N,) float64, in data order."""
    unit: str
    """For example nats. Sigma and root-mean-square errors are in "units of x": x is the transformed
    image."""
    monte_carlo_variance: Tensor | None = None
    """(N,): the variance of each value over the random draws that estimate it."""
    aggregate: Literal["mean", "root_mean"] = "mean"
    """What the entry's value is: the mean over images, or the square root of that mean."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the entry says, such as the number of draws."""
    kind: Kind | None = None
    """None for a quantity that is no estimate and no bound of another one."""
    likelihood: Likelihood | None = None
    """None for a quantity that is no log-likelihood."""
    tightness: Tightness | None = None
    """None for a quantity that runs are not ranked by."""
    scope: Scope = "same_x"
    """How alike two runs must be so that their numbers may be subtracted."""
    headline: bool = False
    """Whether ``vaexp train`` shows the number in its last line on the test split."""
    influence: Tensor | None = None
    """(N,): how much the mean would change with each image, where that is not its value alone.

    Its standard deviation over images, over sqrt(N), is then the standard error of the mean."""

    def per_example(self, name: str) -> "Arrays":
        """What per_example.npz holds of the measure with this name, each (N,).

        Its influence, if it has one, stands beside its values as ``<name>_influence``.
        """
        arrays = {name: self.values.cpu().numpy()}
        if self.influence is not None:
            arrays[f"{name}_influence"] = self.influence.cpu().numpy()
        return arrays

    def summary(self) -> dict[str, Any]:
        """The entry in metrics.json.

        ``se`` is the standard error of the mean over images, which includes the Monte Carlo error.
        ``mc_se`` is the Monte Carlo error alone: how much the mean would vary over other random
        draws on the same images. The errors of a root mean follow from those of the mean by the
        delta method, d sqrt(m) = dm / (2 sqrt(m)). Beside the mean of a log-likelihood stand its
        ``Tails``. A measure with an ``influence`` is a mean.
        """
        n = len(self.values)
        value = self.values.mean().item()
        error = standard_error(self.values if self.influence is None else self.influence)
        se = math.nan if error is None else error
        mc_se = (
            None
            if self.monte_carlo_variance is None
            else math.sqrt(self.monte_carlo_variance.sum().item()) / n
        )
        if self.aggregate == "root_mean":
            value = math.sqrt(value)
            slope = 1 / (2 * value) if value else 0.0
            se = se * slope
            mc_se = None if mc_se is None else mc_se * slope
        entry: dict[str, Any] = {"value": value, "se": None if math.isnan(se) else se}
        if mc_se is not None:
            entry["mc_se"] = mc_se
        if self.likelihood is not None and self.aggregate == "mean":
            entry |= tails_of(self.values).facts()
        entry |= {"n": n, "unit": self.unit, "aggregate": self.aggregate}
        if self.tightness is not None:
            entry["tightness"] = int(self.tightness)
        return entry | _kind_and_scope(self.kind, self.scope) | self.facts


@dataclass(frozen=True)
class Estimate:
    """One number for a whole set of images, such as the distance between two sets."""

    value: float
    unit: str
    n: int
    """The number of images in the set."""
    se: float | None = None
    """The standard error over images; over draws where ``facts`` have ``over``: draws."""
    interval: tuple[float, float] | None = None
    """The 95 % interval from the bootstrap over images. Near 0 that of a squared distance is wider
    than ``se`` says, see ``statistics.bootstrap_of_distance``."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the entry says."""
    kind: Kind | None = None
    """This and the next two mean what they mean for a ``Measure``."""
    likelihood: Likelihood | None = None
    scope: Scope = "same_x"

    def summary(self) -> dict[str, Any]:
        """The entry in metrics.json. Its ``aggregate`` is "whole": no image has its own value."""
        entry: dict[str, Any] = {"value": self.value, "se": self.se}
        if self.interval is not None:
            entry["interval"] = list(self.interval)
        entry |= {"n": self.n, "unit": self.unit, "aggregate": "whole"}
        return entry | _kind_and_scope(self.kind, self.scope) | self.facts


def _kind_and_scope(kind: Kind | None, scope: Scope) -> dict[str, Any]:
    return ({} if kind is None else {"kind": kind}) | {"scope": scope}


@dataclass(frozen=True)
class Evidence:
    """Everything that one group of measures has measured."""

    entries: dict[str, Measure | Estimate] = field(default_factory=dict)
    """The keys are the names in metrics.json."""
    arrays: Arrays = field(default_factory=dict)
    """The arrays that the group's figure is drawn from."""
    absent: dict[str, str] = field(default_factory=dict)
    """The names of the measures that this model cannot have, each with the reason."""

    def with_scope(self, scope: Scope, *, but: Sequence[str] = (), **facts: Any) -> "Evidence":
        """A copy whose entries have this scope and these further facts, except those in ``but``."""
        entries = {
            name: entry if name in but else replace(entry, scope=scope, facts=entry.facts | facts)
            for name, entry in self.entries.items()
        }
        return replace(self, entries=entries)


def tails_of(values: Tensor) -> Tails:
    """The tails of values (n,), one for each image."""
    return Tails.of(values.cpu().numpy())


def average(
    values: Tensor, unit: str, facts: dict[str, Any] | None = None, *, kind: Kind | None = None
) -> Estimate:
    """The mean of values (n,), one for each image, with its standard error over images."""
    mean = values.double().mean().item()
    return Estimate(mean, unit, len(values), standard_error(values), facts=facts or {}, kind=kind)


def root_average(
    squares: Tensor, unit: str, facts: dict[str, Any] | None = None, *, kind: Kind | None = None
) -> Estimate:
    """The root of the mean of squares (n,), one for each image or draw.

    Its standard error over them is that of the jackknife.
    """
    root = math.sqrt(squares.double().mean().item())
    se = root_standard_error(squares)
    return Estimate(root, unit, len(squares), se, facts=facts or {}, kind=kind)


def average_log_likelihood(values: Tensor, facts: dict[str, Any], *, kind: Kind) -> Estimate:
    """The mean of log-likelihoods (n,), or of differences of two, in nats, and their tails.

    They are of images for which no entry of per_example.npz stands, such as images that the model
    drew, so they are "derived".
    """
    estimate = average(values, "nats", tails_of(values).facts() | facts, kind=kind)
    return replace(estimate, likelihood="derived")


def bootstrapped(
    value: float,
    replicates: Sequence[float],
    unit: str,
    n: int,
    facts: dict[str, Any] | None = None,
    *,
    kind: Kind | None = None,
    squared_distance: bool = False,
) -> Estimate:
    """A statistic of n images, with the standard error and interval of its bootstrap replicates.

    ``squared_distance`` says whether it is one, or a divergence: see ``bootstrap_of_distance``. The
    facts include ``bias``, which ``statistics.Bootstrap`` defines, and ``bootstrap``, the number of
    replicates.
    """
    error = (bootstrap_of_distance if squared_distance else bootstrap)(value, replicates)
    stated = {"bias": error.bias, "bootstrap": len(replicates), **(facts or {})}
    return Estimate(value, unit, n, error.se, error.interval, stated, kind=kind)


def merge(parts: Sequence[Evidence]) -> Evidence:
    """Join the evidence of several parts of one group of measures, in this order."""
    merged = Evidence()
    for part in parts:
        merged.entries.update(part.entries)
        merged.arrays.update(part.arrays)
        merged.absent.update(part.absent)
    return merged


def join(parts: Sequence[dict[str, Measure]]) -> dict[str, Measure]:
    """Join the measures of successive blocks of images into measures of all the images.

    Every part has the same measures, by name.
    """
    joined = {}
    for name, first in parts[0].items():
        blocks = [part[name] for part in parts]
        variances = [
            block.monte_carlo_variance for block in blocks if block.monte_carlo_variance is not None
        ]
        joined[name] = replace(
            first,
            values=torch.cat([block.values for block in blocks]),
            monte_carlo_variance=torch.cat(variances) if variances else None,
        )
    return joined


def log_mean(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithm of the mean weight, its variance and the effective sample size, each (...).

    ``log_w`` (S, ...) holds the logarithms of S weights. ESS = (sum w)^2 / sum w^2 is the effective
    sample size. The variance is 1 / ESS - 1 / S by the delta method (Owen 2013, Monte Carlo theory,
    methods and examples, section 9.3). A small ESS means that hardly any draw came near the largest
    weights. Then the logarithm is too low, and the variance is too small as well.
    """
    total = log_w.logsumexp(0)
    size = (2 * total - (2 * log_w).logsumexp(0)).exp()
    draws = len(log_w)
    return total - math.log(draws), (1 / size - 1 / draws).clamp(min=0), size


class RunningMean:
    """The running mean and variance, over draws, of one number per image. All are float64."""

    def __init__(self) -> None:
        self.draws = 0
        self.mean: Tensor = torch.zeros(())
        self._squares: Tensor = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Add one draw (N,) by Welford's update, which loses no digits to cancellation."""
        values = values.double()
        self.draws += 1
        difference = values - self.mean
        self.mean = self.mean + difference / self.draws
        self._squares = self._squares + difference * (values - self.mean)

    def variance_of_mean(self) -> Tensor:
        """The variance of ``mean`` over other sets of as many draws, (N,); at least two draws."""
        return self._squares / (self.draws - 1) / self.draws
