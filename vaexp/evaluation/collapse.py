"""What the groups' answers on collapsing sigmas, covariances and noise have in common.

The likelihood of a Gaussian grows without bound if its mean lies on an image and its variance goes
to 0. Bishop 2006, section 9.2.1, shows it for mixtures; Mattei and Frellsen 2018, Leveraging the
exact likelihood of deep latent variable models, for VAEs. Only a floor stops this growth. Every
model is asked the same questions. How much of it lies at the floor? How much does that part add to
the likelihood? How much would a lower floor add? Do test images gain as much as training images?

Letters in shapes: N test images, M training images, D pixels, K components, F floors. Log
quantities are in nats per image, summed over pixels.
"""

import math
from typing import Any

import torch
from torch import Tensor

from vaexp.evaluation.measure import Estimate, Kind, Measure, tails_of
from vaexp.evaluation.statistics import standard_error

ROWS = 1_000  # images that are compared with others at once
NEAR = 2.0  # a sigma below this many times its floor counts as near the floor
FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25)  # the floors of the curve, as multiples of the trained one
AS_TRAINED, HALVED = FACTORS.index(1.0), FACTORS.index(0.5)
LEVELS = torch.linspace(0, 1, 101, dtype=torch.float64)

AT_FLOOR = ("pixels_at_floor", "log_prob_at_floor", "floor_slope")


def train_test_gap(train: Tensor, test: Tensor, facts: dict[str, Any]) -> Estimate:
    """The mean over training images (M,) minus the mean over test images (N,), in nats.

    Both means are independent, so the squares of their standard errors add up. The tails are those
    of training images minus those of test images.
    """
    value = (train.mean() - test.mean()).item()
    errors = (standard_error(train), standard_error(test))
    known = [error for error in errors if error is not None]
    se = math.hypot(*known) if len(known) == 2 else None
    beside = {"train": train.mean().item(), "test": test.mean().item(), "train_images": len(train)}
    tails = tails_of(train).minus(tails_of(test)).facts()
    facts = tails | facts | beside
    return Estimate(value, "nats", len(test), se, facts=facts, likelihood="derived")


def floor_slope(
    test: Tensor,
    train: Tensor,
    facts: dict[str, Any],
    *,
    at_most: float,
    kind: Kind,
    variance: Tensor | None = None,
) -> Measure:
    """What half the floor adds to the log-likelihood of every test image (N,), in nats.

    ``train`` (M,) is the same for training images; its mean and tails become facts. ``at_most`` is
    what half the floor can add to any image, and ``variance`` (N,) the Monte Carlo variance.
    """
    beside = {"train": train.mean().item(), "train_se": standard_error(train), "at_most": at_most}
    beside |= tails_of(train).facts("train_")
    return Measure(
        test.cpu(), "nats", variance, facts=facts | beside, kind=kind, likelihood="derived"
    )


def nearest_square(points: Tensor, images: Tensor) -> Tensor:
    """The squared distance of points (P, D) to the nearest of images (n, D), (P,) float64."""
    nearest = points.new_full((len(points),), math.inf, dtype=torch.float64)
    points = points.double()
    lengths = points.square().sum(1)
    for block in images.split(ROWS):
        others = block.double()
        # |a|^2 - 2 a b + |b|^2 loses few digits to cancellation in float64
        squares = torch.addmm(others.square().sum(1), points, others.T, alpha=-2).amin(1)
        nearest = torch.minimum(nearest, (squares + lengths).clamp(min=0))
    return nearest


def weighted_quantiles(values: Tensor, weight: Tensor, levels: Tensor) -> Tensor:
    """The quantiles (Q,) of values (M,) with weights (M,), float64.

    The quantile at one of the ``levels`` (Q,) is the smallest value for which all values up to it
    hold at least that share of the weight.
    """
    values, weight = values[weight > 0].double(), weight[weight > 0].double()
    values, order = values.sort()
    below = weight[order].cumsum(0)
    place = torch.searchsorted(below, levels.to(below) * below[-1] * (1 - 1e-12))
    return values[place.clamp(max=len(values) - 1)]


def sigma_median(
    quantiles: Tensor, n: int, facts: dict[str, Any], *, kind: Kind
) -> tuple[Estimate, dict[str, Any]]:
    """``sigma_median`` from the quantiles (101,) of sigma at LEVELS, and the arrays of them all."""
    low, median, high = quantiles[[1, 50, 99]].tolist()
    ends = {"q01": low, "q99": high, "min": quantiles[0].item(), "max": quantiles[-1].item()}
    estimate = Estimate(median, "units of x", n, facts=facts | ends, kind=kind)
    return estimate, numpy_arrays(sigma_levels=LEVELS, sigma_quantiles=quantiles)


def total_and_share(part: float, total: float) -> dict[str, float]:
    """The facts of a part of E ln p(x|z): the total and, if it is positive, the part's share.

    A part of a negative number is not a share of it.
    """
    return {"total": total} | ({"share_of_total": part / total} if total > 0 else {})


def numpy_arrays(**arrays: Tensor) -> dict[str, Any]:
    """Tensors of any device as numpy arrays, by the same names."""
    return {name: array.detach().cpu().numpy() for name, array in arrays.items()}
