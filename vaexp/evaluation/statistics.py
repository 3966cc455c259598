"""Standard errors, medians, entropies and the bootstrap: the same ones for all measures."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RESAMPLES = 100  # bootstrap samples


def standard_error(values: Tensor) -> float | None:
    """The standard error of the mean of independent values (n,): their deviation by sqrt(n).

    None for fewer than two values, which do not show how much they vary.
    """
    if len(values) < 2:
        return None
    return values.double().std().item() / math.sqrt(len(values))


def joint_standard_error(*samples: Tensor) -> float:
    """The standard error of a sum or difference of the means of independent samples (n_i,).

    The square root of the sum of the means' variances. Every sample has at least two values.
    """
    return math.sqrt(sum(values.double().var().item() / len(values) for values in samples))


def median(values: Tensor) -> float:
    """The median of values (n,): the mean of the middle two where n is even."""
    return values.double().quantile(0.5).item()


def entropy(p: Tensor) -> Tensor:
    """-sum p ln p over the last dimension of shares (..., K), nats, with 0 ln 0 = 0: (...)."""
    return torch.special.entr(p).sum(-1)


def resample(n: int) -> Tensor:
    """How often each of n images is in a bootstrap sample of n, (n,) float64.

    Drawn from torch's global generator.
    """
    return torch.randint(n, (n,)).bincount(minlength=n).double()


class Bootstrap(NamedTuple):
    """What bootstrap samples say about the error of a statistic (Efron 1979)."""

    se: float
    """The standard deviation of the statistic over the samples."""
    interval: tuple[float, float]
    """From the 2.5 to the 97.5 % quantile of the statistic over the samples, less the bias."""
    bias: float
    """The mean of the statistic over the samples, less its value."""


def bootstrap(value: float, replicates: Sequence[float]) -> Bootstrap:
    """The error of a statistic with this value, from its values of at least two bootstrap samples.

    Resampling biases distances and information upwards: a distance between two samples is larger
    than that between the distributions that they come from, and a distance between two resamples
    is larger again by about as much. The interval is therefore moved down by the bias. It says
    where the value may be for this number of images.
    """
    values = torch.tensor(replicates, dtype=torch.float64)
    bias = values.mean().item() - value
    low, high = (values - bias).quantile(values.new_tensor([0.025, 0.975])).tolist()
    return Bootstrap(values.std().item(), (low, high), bias)
