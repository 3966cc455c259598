"""The standard errors, medians, entropies and the bootstrap that all measures share."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RESAMPLES = 100  # the number of bootstrap samples


def standard_error(values: Tensor) -> float | None:
    """The standard error of the mean of independent values (n,): standard deviation / sqrt(n).

    Returns None for fewer than two values, as one value does not show how much values vary.
    """
    if len(values) < 2:
        return None
    return values.double().std().item() / math.sqrt(len(values))


def root_standard_error(squares: Tensor) -> float | None:
    """The standard error of the root of the mean of independent squares (n,), by the jackknife.

    It is sqrt((n - 1) / n sum_i (r_i - r)^2), where r_i is the root without square i and r the mean
    of all r_i (Efron and Tibshirani 1993, An Introduction to the Bootstrap, equation 11.5). Where
    few squares hold most of the mean, the root is not linear there, and the delta method,
    se / (2 root), would give half of the error. None for fewer than two squares.
    """
    n = len(squares)
    if n < 2:
        return None
    exact = squares.double()
    roots = ((exact.sum() - exact) / (n - 1)).clamp(min=0).sqrt()
    return math.sqrt((n - 1) / n * (roots - roots.mean()).square().sum().item())


def joint_standard_error(*samples: Tensor) -> float:
    """The standard error of the sum or difference of the means of independent samples (n_i,).

    It is the square root of the sum of the variances of the means. Every sample has at least two
    values.
    """
    return math.sqrt(sum(values.double().var().item() / len(values) for values in samples))


def tail_standard_error(values: Tensor, n: int) -> float | None:
    """The standard error of the mean of ``values`` (P,) of the first P of n images by some order.

    Among other images, others come first. With the share p = P / n, the mean m and variance v of
    the values, and their mean c at the end of the P, the squared error is
    (v + (1 - p) (m - c)^2) / P, as for an expected shortfall (Manistre and Hancock 2005). c is that
    of a straight line through the values, which are in their order. None for fewer than two values.
    """
    own = standard_error(values)
    if own is None:
        return None
    count = len(values)
    place = torch.arange(count, dtype=torch.float64, device=values.device)
    place -= place.mean()
    step = (place @ values.double() / place.square().sum() * place[-1]).item()
    return math.sqrt(own**2 + (1 - count / n) * step**2 / count)


def median(values: Tensor) -> float:
    """The median of values (n,). For an even n it is the mean of the two middle values."""
    return values.double().quantile(0.5).item()


def entropy(p: Tensor) -> Tensor:
    """The entropy -sum p ln p of shares (..., K) over the last dimension, (...), in nats.

    0 ln 0 counts as 0.
    """
    return torch.special.entr(p).sum(-1)


def resample(n: int) -> Tensor:
    """How often a bootstrap sample of n images contains each of the n images, (n,) float64.

    The sample is drawn from torch's global generator.
    """
    return torch.randint(n, (n,)).bincount(minlength=n).double()


class Bootstrap(NamedTuple):
    """The error of a statistic as estimated by the bootstrap (Efron 1979)."""

    se: float
    """The standard deviation of the statistic over the samples."""
    interval: tuple[float, float]
    """The 2.5 % and 97.5 % quantiles of the statistic over the samples, both minus the bias."""
    bias: float
    """The mean of the statistic over the samples, minus its value for the images themselves."""


def bootstrap(value: float, replicates: Sequence[float]) -> Bootstrap:
    """The error of a statistic with the given value.

    ``replicates`` are the values of the statistic for at least two bootstrap samples. Resampling
    biases distances and information upwards: the distance between two samples is larger than the
    distance between the distributions they come from, and the distance between two resamples is
    larger again by about the same amount. The interval is therefore moved down by the bias. It
    shows where the value would lie for other sets of the same number of images.
    """
    values = torch.tensor(replicates, dtype=torch.float64)
    bias = values.mean().item() - value
    low, high = (values - bias).quantile(values.new_tensor([0.025, 0.975])).tolist()
    return Bootstrap(values.std().item(), (low, high), bias)


def bootstrap_of_distance(value: float, replicates: Sequence[float]) -> Bootstrap:
    """The same for a squared distance |v|^2, or a divergence that is about one near 0.

    With the mean w of v and its covariance S, the variance is 4 w^T S w + 2 tr S^2, and that over
    resamples is 4 v^T S v + 2 tr S^2: three times as large where w is 0. The share of the value
    that is no noise, 1 - bias / value, says how much of the second is to be believed. The interval
    is that of the resamples, as one that is narrowed alike holds less than it says.
    """
    plain = bootstrap(value, replicates)
    share = min(max(1 - plain.bias / value, 0), 1) if value > 0 else 0
    factor = math.sqrt(share + (1 - share) / 3)
    return plain._replace(se=factor * plain.se)
