"""How far the logarithm of a mean weight is from what other draws would give.

The delta method, 1 / ESS - 1 / S (``measure.log_mean``), is right where many of the S draws have a
large weight. Where few have, the effective sample size (ESS) is itself too high, as the largest
weights were not drawn, and the delta method states a fraction of the true error. Parts of the
draws, on the other hand, differ from each other as much as whole sets of as many draws do.

Letters in shapes: S draws, N images, P parts.
"""

import math

import torch
from torch import Tensor

PARTS = 4  # of the draws: quarters
FEWEST = 10.0  # the effective sample size below which an image's value cannot be trusted
# The variance of ln((w_1 + w_2) / 2) as a share of that of ln w: 1/2 if weights vary little, and
# 1 - 1/pi = 0.68 if they vary much and are lognormal. It is used for two or three draws, whose
# error is a rough one.
SHARE_OF_TWO = 0.6


class Parts:
    """The sums of weights over each part of the draws, as the draws come in.

    Draw s belongs to part s modulo P. There are PARTS of four draws or more, else two halves.
    """

    def __init__(self, draws: int, images: int, device: torch.device):
        self.count = PARTS if draws >= PARTS else 2
        self.draws = 0
        self.log_sums = torch.full(
            (self.count, images), -math.inf, dtype=torch.float64, device=device
        )

    def add(self, log_w: Tensor) -> None:
        """Add draws with the logarithms of their weights (S, N)."""
        for part in range(self.count):
            of_part = log_w[(part - self.draws) % self.count :: self.count]
            if len(of_part):
                log_sum = of_part.double().logsumexp(0)
                self.log_sums[part] = torch.logaddexp(self.log_sums[part], log_sum)
        self.draws += len(log_w)


def monte_carlo_variance(log_sums: Tensor, draws: int, delta: Tensor, size: Tensor) -> Tensor:
    """The variance of ln((1/S) sum_s w_s) over other sets of S draws, for each image, (N,).

    ``log_sums`` (P, N) are those of ``Parts`` of S = ``draws`` >= 2 draws, ``delta`` (N,) is the
    variance by the delta method, and ``size`` (N,) the effective sample size.

    The variance of S/2 draws is E (a - b)^2 / 2 of the values a and b of two halves, of which there
    are three pairs, and that of S/4 draws is the variance over quarters. Each halving is taken to
    change the variance by the same factor: V(S) = V(S/2)^2 / V(S/4). It is 1/2 where weights vary
    little, nearly 1 where the largest of them decides, and less than 1/2 where a few are far too
    small; it is kept between 1/4 and 1. V are sums over images.

    The parts of one image say little of its own variance. So ``delta`` says how it differs between
    images, and the parts how large it is all in all, but not below ``delta``: once for the images
    with an effective sample size of at least FEWEST, and once for the others.
    """
    of_image = _of_whole(log_sums, draws)
    variance = torch.empty_like(delta)
    for rows in (size >= FEWEST, size < FEWEST):
        stated, found = delta[rows].sum(), of_image[rows].sum()
        variance[rows] = delta[rows] * (found / stated).clamp(min=1) if stated > 0 else delta[rows]
    return variance


def _of_whole(log_sums: Tensor, draws: int) -> Tensor:
    """The variance of the logarithm of the mean of all draws, from each image's parts, (N,)."""
    parts = len(log_sums)
    counts = [len(range(part, draws, parts)) for part in range(parts)]
    log_counts = log_sums.new_tensor(counts).log()[:, None]
    if parts == 2:
        a, b = log_sums - log_counts
        return SHARE_OF_TWO * (a - b).square() / 2
    halves = []
    for partner in range(1, parts):
        with_first = [0, partner]
        others = [part for part in range(parts) if part not in with_first]
        a, b = (
            log_sums[half].logsumexp(0) - log_counts[half].logsumexp(0)
            for half in (with_first, others)
        )
        halves.append((a - b).square() / 2)
    of_half = torch.stack(halves).mean(0)
    of_quarter = (log_sums - log_counts).var(0)
    total = of_quarter.sum()
    factor = (of_half.sum() / total).clamp(0.25, 1) if total > 0 else 1.0
    return of_half * factor


def size_facts(size: Tensor) -> dict[str, float]:
    """What an entry says of the effective sample sizes (N,) of its images.

    The median hides how many images have only a few. Their values cannot be trusted: they may lie
    far below ln p(x), and no error shows it.
    """
    return {
        "effective_samples": size.median().item(),
        "share_below_10_effective_samples": (size < FEWEST).double().mean().item(),
    }
