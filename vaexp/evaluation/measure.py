"""A measured quantity: what it is, one value per image or one number, and its summary."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaexp.evaluation.scope import Scope
from vaexp.evaluation.statistics import bootstrap, standard_error

Kind = Literal["exact", "lower_bound", "upper_bound", "estimate"]
"""How a number relates to the quantity that it is named after. A lower bound holds in expectation
over its random draws; an estimate may err to either side."""

Likelihood = Literal["log_prob", "derived"]
"""What a log-likelihood is. The facts of the model's likelihood (density or mass, of x or of x
given the label, sigma or the floor) stand beside both.

log_prob: ln p(x) of the images that are measured, or a bound on it. It also stands in bits per
dimension where the images have them. derived: a part of it, a difference of two, or that of other
images or of another distribution."""


class Tightness(IntEnum):
    """How near to ln p(x) a bound is. Runs are ranked by the tightest that all of them have."""

    ELBO = 1
    IMPORTANCE_WEIGHTED = 2
    EXACT = 3


@dataclass(frozen=True)
class Measure:
    """Per-image values of one metric on one split."""

    values: Tensor
    """(N,) float64, in data order."""
    unit: str
    """nats, or "units of x", the transformed images, for sigma and root-mean-square errors."""
    monte_carlo_variance: Tensor | None = None
    """(N,): variance of each value over the draws of z (and x) it was estimated with."""
    aggregate: Literal["mean", "root_mean"] = "mean"
    """root_mean: the square root of the mean."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else must stand beside the number: draws, k, ..."""
    kind: Kind | None = None
    """None where the number is what its name says, without a word more."""
    likelihood: Likelihood | None = None
    """None for what is not a log-likelihood."""
    tightness: Tightness | None = None
    """None for what no runs are ranked by."""
    scope: Scope = "same_x"
    """Which runs' numbers it may be subtracted from."""
    headline: bool = False
    """Whether ``vaexp train`` ends with it."""

    def summary(self) -> dict[str, Any]:
        """The entry of metrics.json.

        ``se`` is the standard error of the mean over images (it contains the Monte Carlo noise);
        ``mc_se`` is the part that other random draws on the same images would change. A root mean
        takes both through the delta method: d sqrt(m) = dm / (2 sqrt(m)).
        """
        n = len(self.values)
        value = self.values.mean().item()
        error = standard_error(self.values)
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
        entry |= {"n": n, "unit": self.unit, "aggregate": self.aggregate}
        if self.tightness is not None:
            entry["tightness"] = int(self.tightness)
        return entry | _what(self.kind, self.scope) | self.facts


@dataclass(frozen=True)
class Estimate:
    """A number of many images as a whole, such as a distance between two sets of them."""

    value: float
    unit: str
    n: int
    """The images it is of."""
    se: float | None = None
    """Its standard error over images, or over draws where ``facts`` say so."""
    interval: tuple[float, float] | None = None
    """95 %, by the bootstrap over images."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else must stand beside the number."""
    kind: Kind | None = None
    likelihood: Likelihood | None = None
    scope: Scope = "same_x"
    """As for a Measure."""

    def summary(self) -> dict[str, Any]:
        """The entry of metrics.json; ``aggregate`` is whole, as no image has a value of its own."""
        entry: dict[str, Any] = {"value": self.value, "se": self.se}
        if self.interval is not None:
            entry["interval"] = list(self.interval)
        entry |= {"n": self.n, "unit": self.unit, "aggregate": "whole"}
        return entry | _what(self.kind, self.scope) | self.facts


def _what(kind: Kind | None, scope: Scope) -> dict[str, Any]:
    return ({} if kind is None else {"kind": kind}) | {"scope": scope}


@dataclass(frozen=True)
class Evidence:
    """What one group of measures found."""

    entries: dict[str, Measure | Estimate] = field(default_factory=dict)
    """By the name each has in metrics.json."""
    arrays: dict[str, "np.ndarray[Any, Any]"] = field(default_factory=dict)
    """What the figures draw."""
    absent: dict[str, str] = field(default_factory=dict)
    """Measures that this model cannot have, and why: "p(x|z) has no sigma"."""

    def with_scope(self, scope: Scope, *, but: Sequence[str] = (), **facts: Any) -> "Evidence":
        """With this scope, and ``facts`` beside it, on all entries ``but`` some."""
        entries = {
            name: entry if name in but else replace(entry, scope=scope, facts=entry.facts | facts)
            for name, entry in self.entries.items()
        }
        return replace(self, entries=entries)


def average(values: Tensor, unit: str, facts: dict[str, Any] | None = None) -> Estimate:
    """The mean of values (n,), one for each image, with its standard error over images."""
    mean = values.double().mean().item()
    return Estimate(mean, unit, len(values), standard_error(values), facts=facts or {})


def bootstrapped(
    value: float,
    replicates: Sequence[float],
    unit: str,
    n: int,
    facts: dict[str, Any] | None = None,
) -> Estimate:
    """A statistic of n images, with the error that its bootstrap replicates show.

    Facts ``bias``, as in ``statistics.Bootstrap``, and ``bootstrap``, the number of replicates.
    """
    found = bootstrap(value, replicates)
    stated = {"bias": found.bias, "bootstrap": len(replicates), **(facts or {})}
    return Estimate(value, unit, n, found.se, found.interval, stated)


def join(parts: Sequence[dict[str, Measure]]) -> dict[str, Measure]:
    """The same measures of several blocks of images, as measures of all the images in turn."""
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
    """Ln of the mean of S weights given as logarithms (S, ...), its variance, and ESS: each (...).

    ESS = (sum w)^2 / sum w^2 is the effective sample size, and the variance is by the delta method,
    1 / ESS - 1 / S (Owen 2013, Monte Carlo theory, methods and examples, section 9.3). Where ESS is
    small the variance is too small: then no draw came near the largest weights, and the logarithm
    is too low.
    """
    total = log_w.logsumexp(0)
    size = (2 * total - (2 * log_w).logsumexp(0)).exp()
    draws = len(log_w)
    return total - math.log(draws), (1 / size - 1 / draws).clamp(min=0), size


class Moments:
    """Running mean and variance over draws of a quantity that each image has, in float64."""

    def __init__(self) -> None:
        self.draws = 0
        self.mean: Tensor = torch.zeros(())
        self._squares: Tensor = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Take in one draw (N,), by Welford's update, which does not cancel."""
        values = values.double()
        self.draws += 1
        difference = values - self.mean
        self.mean = self.mean + difference / self.draws
        self._squares = self._squares + difference * (values - self.mean)

    def variance_of_mean(self) -> Tensor:
        """(N,): the variance of ``mean`` as an estimate over draws."""
        return self._squares / (self.draws - 1) / self.draws
