"""What the collapse of a VAE's sigma and of a mixture's covariances have in common.

The likelihood of a Gaussian grows without bound where its variance falls to 0 on an image: of
mixtures Bishop 2006, section 9.2.1; of VAEs Mattei and Frellsen 2018, Leveraging the exact
likelihood of deep latent variable models. What stops it is a floor. Both models get the same
questions: how much of them lies at the floor, what it adds to the likelihood, what a lower floor
would add, and whether test images share in it. Letters in shapes: N test images, D pixels, K
components, F floors. Nats per image, summed over pixels.
"""

import math
from typing import Any

import torch
from torch import Tensor

from vaexp.evaluation.measure import Estimate

ROWS = 1_000  # images compared with others at once
NEAR = 2.0  # sigma is near its floor where it is less than so many times the floor
FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25)  # floors of the curve, in units of the one trained with
AS_TRAINED, HALVED = FACTORS.index(1.0), FACTORS.index(0.5)
LEVELS = torch.linspace(0, 1, 101, dtype=torch.float64)

AT_FLOOR = ("pixels_at_floor", "log_prob_at_floor", "floor_slope")


def train_test_gap(train: Tensor, test: Tensor, facts: dict[str, Any]) -> Estimate:
    """The mean over training images (M,) minus that over test images (N,), nats.

    se^2 is the sum of the squared standard errors of two independent means.
    """
    value = (train.mean() - test.mean()).item()
    errors = (standard_error(train), standard_error(test))
    known = [error for error in errors if error is not None]
    se = math.hypot(*known) if len(known) == 2 else None
    beside = {"train": train.mean().item(), "test": test.mean().item(), "train_images": len(train)}
    return Estimate(value, "nats", len(test), se, facts=facts | beside, likelihood="derived")


def nearest_square(points: Tensor, images: Tensor) -> Tensor:
    """The squared distance of points (P, D) to the nearest of images (n, D), (P,) float64."""
    nearest = points.new_full((len(points),), math.inf, dtype=torch.float64)
    points = points.double()
    lengths = points.square().sum(1)
    for block in images.split(ROWS):
        others = block.double()
        # |a|^2 - 2 a b + |b|^2, in float64, where it loses little
        squares = torch.addmm(others.square().sum(1), points, others.T, alpha=-2).amin(1)
        nearest = torch.minimum(nearest, (squares + lengths).clamp(min=0))
    return nearest


def weighted_quantiles(values: Tensor, weight: Tensor, levels: Tensor) -> Tensor:
    """The smallest of values (M,) up to which lies the share ``levels`` (Q,) of the weight (M,)."""
    values, weight = values[weight > 0].double(), weight[weight > 0].double()
    values, order = values.sort()
    below = weight[order].cumsum(0)
    place = torch.searchsorted(below, levels.to(below) * below[-1] * (1 - 1e-12))
    return values[place.clamp(max=len(values) - 1)]


def sigma_median(
    quantiles: Tensor, n: int, facts: dict[str, Any]
) -> tuple[Estimate, dict[str, Any]]:
    """``sigma_median``, of quantiles (101,) at LEVELS, and the arrays that hold them all."""
    low, median, high = quantiles[[1, 50, 99]].tolist()
    ends = {"q01": low, "q99": high, "min": quantiles[0].item(), "max": quantiles[-1].item()}
    estimate = Estimate(median, "units of x", n, facts=facts | ends)
    return estimate, numpy_arrays(sigma_levels=LEVELS, sigma_quantiles=quantiles)


def share_of(part: float, total: float) -> dict[str, float]:
    """Beside a part of E ln p(x|z): all of it, and the share, which means nothing below 0."""
    return {"total": total} | ({"share_of_total": part / total} if total > 0 else {})


def standard_error(values: Tensor) -> float | None:
    """Of the mean of values (M,); one value has none."""
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else None


def numpy_arrays(**arrays: Tensor) -> dict[str, Any]:
    """Tensors by name as arrays."""
    return {name: array.detach().cpu().numpy() for name, array in arrays.items()}
