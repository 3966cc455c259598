"""Whose gradient trains mu(z): how much of its weight, 1 / sigma^2, a few pixels hold.

d ln p(x|z) / d mu_j = (x_j - mu_j) / sigma_j(z)^2 of a Gaussian, and (x_j - E x_j) / sigma_j(z)^2
of a truncated one with location mu_j. So a pixel whose sigma is small counts for more of the
training of mu(z) than others (Seitzer et al. 2022, On the pitfalls of heteroscedastic uncertainty
estimation with probabilistic neural networks, section 3). ``train.sigma_weighting`` removes that.
"""

import torch
from torch import Tensor

from vaexp.evaluation.measure import Estimate, Evidence
from vaexp.models.absent import Absent

NAMES = ("gradient_weight_of_1_percent", "gradient_weight_of_1_percent_of_positions")
TOP = 0.01  # the share of pixels, those with the largest weight, whose part is told


def top_share(weight: Tensor, count: Tensor) -> float:
    """The part of all weight that the share TOP of the pixels with the largest weights holds.

    ``weight`` (B,) are weights, and ``count`` (B,) says how many pixels have each. Where the last
    of the TOP pixels is one of several with the same weight, a part of them is taken.
    """
    order = weight.argsort(descending=True)
    weight, count = weight[order].double(), count[order].double()
    before = count.cumsum(0) - count
    taken = (TOP * count.sum() - before).clamp(min=0).minimum(count)
    return ((taken * weight).sum() / (count * weight).sum()).item()


def gradient_weight(
    sigma: Tensor, count: Tensor, weight_map: Tensor, images: int, pixels: Tensor | Absent
) -> Evidence:
    """The share of sum 1 / sigma^2 in the largest 1 % of it.

    ``gradient_weight_of_1_percent`` is of all sigmas of all images, draws and pixels, of which
    ``count`` (B,) says how many have the value ``sigma`` (B,).
    ``gradient_weight_of_1_percent_of_positions`` is of the pixel positions, whose mean weights are
    ``weight_map`` (D,). Both are TOP where sigma is the same everywhere. They are absent where
    ``pixels``, ln p(x_j|z), is: then the gradient by one pixel's mean has those of others in it.
    """
    if isinstance(pixels, Absent):
        return Evidence(absent=dict.fromkeys(NAMES, pixels.reason))
    shares = (
        top_share(sigma**-2, count),
        top_share(weight_map, torch.ones_like(weight_map)),
    )
    facts = {"pixels_counted": TOP}
    return Evidence(
        {
            name: Estimate(share, "share", images, facts=facts, kind="estimate")
            for name, share in zip(NAMES, shares, strict=True)
        }
    )
