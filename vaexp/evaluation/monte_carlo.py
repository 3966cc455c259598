"""How far the logarithm of a mean weight is from what other draws would give.

The delta method, 1 / ESS - 1 / S (``measure.log_mean``), is right where many of the S draws have a
large weight. Where few have, the effective sample size (ESS) is itself too high, as the largest
weights were not drawn, and the delta method states a fraction of the true error. Parts of the
draws, on the other hand, differ from each other as much as whole sets of as many draws do.

Letters in shapes: S draws, N images, P parts.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

PARTS = 4  # of the draws: quarters
FEWEST = 10.0  # the effective sample size below which an image's value cannot be trusted
# The variance of ln((w_1 + w_2) / 2) as a share of that of ln w: 1/2 if weights vary little, and
# 1 - 1/pi = 0.68 if they vary much and are lognormal. It is used for two or three draws, whose
# error is a rough one.
SHARE_OF_TWO = 0.6


class Spread(NamedTuple):
    """How much a number varies over sets of fewer draws, for each image, (N,)."""

    of_half: Tensor
    """Its variance over sets of half of the draws."""
    of_quarter: Tensor
    """Its variance over sets of a quarter of the draws."""


def log_mean_weight(log_w: Tensor) -> Tensor:
    """Ln (1/S) sum_s w_s of weights whose logarithms are log_w (S, N), (N,)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def spread(log_w: Tensor, number: Callable[[Tensor], Tensor] = log_mean_weight) -> Spread:
    """The ``Spread`` of number(log_w) (N,), from parts of S >= 2 draws with weights log_w (S, N).

    Draw s belongs to part s modulo P. The variance of S/2 draws is E (a - b)^2 / 2 of the values a
    and b of two halves, of which there are three pairs, and that of S/4 draws is the variance over
    quarters. Two or three draws have no quarters; the variance of these follows from SHARE_OF_TWO.
    """
    if len(log_w) < PARTS:
        of_half = (number(log_w[0::2]) - number(log_w[1::2])).square() / 2
        return Spread(of_half, of_half / SHARE_OF_TWO)
    quarters = [log_w[part::PARTS] for part in range(PARTS)]
    halves = []
    for partner in range(1, PARTS):
        others = [quarters[part] for part in range(1, PARTS) if part != partner]
        a = number(torch.cat([quarters[0], quarters[partner]]))
        halves.append((a - number(torch.cat(others))).square() / 2)
    of_quarter = torch.stack([number(quarter) for quarter in quarters]).var(0)
    return Spread(torch.stack(halves).mean(0), of_quarter)


def monte_carlo_variance(spread: Spread, delta: Tensor, size: Tensor) -> Tensor:
    """The variance of a number over other sets of S draws, for each image, (N,).

    ``spread`` is that of the number, ln((1/S) sum_s w_s) or what is made of it, ``delta`` (N,) the
    variance of this logarithm by the delta method, and ``size`` (N,) the effective sample size.

    Each halving is taken to change the variance by the same factor: V(S) = V(S/2)^2 / V(S/4). It is
    1/2 where weights vary little, nearly 1 where the largest of them decides, and less than 1/2
    where a few are far too small; it is kept between 1/4 and 1. V are sums over images.

    The parts of one image say little of its own variance. So ``delta`` says how it differs between
    images, and the parts how large it is all in all, but not below ``delta``: once for the images
    with an effective sample size of at least FEWEST, and once for the others.
    """
    total = spread.of_quarter.sum()
    factor = (spread.of_half.sum() / total).clamp(0.25, 1) if total > 0 else 1.0
    of_image = spread.of_half * factor
    variance = torch.empty_like(delta)
    for rows in (size >= FEWEST, size < FEWEST):
        stated, found = delta[rows].sum(), of_image[rows].sum()
        variance[rows] = delta[rows] * (found / stated).clamp(min=1) if stated > 0 else delta[rows]
    return variance


def size_facts(size: Tensor) -> dict[str, float]:
    """What an entry says of the effective sample sizes (N,) of its images.

    The median hides how many images have only a few. Their values cannot be trusted: they may lie
    far below ln p(x), and no error shows it.
    """
    return {
        "effective_samples": size.median().item(),
        "share_below_10_effective_samples": (size < FEWEST).double().mean().item(),
    }
