"""How close the noise of a linear-Gaussian model comes to its floor. ``collapse`` explains why."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vaexp.evaluation.collapse import (
    AS_TRAINED,
    AT_FLOOR,
    FACTORS,
    HALVED,
    LEVELS,
    NEAR,
    floor_slope,
    numpy_arrays,
    sigma_median,
    total_and_share,
    train_test_gap,
    weighted_quantiles,
)
from vaexp.evaluation.measure import Estimate, Evidence, Measure, merge
from vaexp.models import LinearGaussian

FEW = 10_000  # training images that models with other floors are evaluated on, at most


@torch.no_grad()
def noise_collapse(
    model: LinearGaussian, x: Tensor, train: Iterable[tuple[Tensor, Tensor]], *, floor: float
) -> Evidence:
    """How close the noise comes to its floor, what that adds to ln p(x), and for which images.

    x (N, D) are test images. ``train`` gives blocks of the training images (n, D) and their labels,
    and is gone through once. ``floor`` is the floor of the noise variances in units of x squared,
    or 0 if they have none.

    Every model has ``smallest_sigma`` and ``train_test_gap``. A model with one noise variance for
    each pixel has ``sigma_median``, and a model with a floor has ``pixels_at_floor``,
    ``log_prob_at_floor`` and ``floor_slope``. Arrays: those of ``sigma_collapse``. The curve over
    floors is the mean of ln p(x) of the test images and of the first FEW training images.
    """
    parts = [(model.log_prob(images), images) for images, _ in train]
    values, test = torch.cat([values for values, _ in parts]), model.log_prob(x)
    beside: dict[str, Any] = {"covariance_floor": floor} if floor > 0 else {}
    smallest = model.noise.min().sqrt().item()
    entries: dict[str, Measure | Estimate] = {
        "smallest_sigma": Estimate(smallest, "units of x", len(values), facts=beside, kind="exact"),
        "train_test_gap": train_test_gap(values, test, {"difference_of": "log_prob"}),
    }
    arrays: dict[str, Any] = {}
    no_components = ("singleton_components", "nearest_train_distance")
    absent = dict.fromkeys(no_components, "it has no components")
    if model.noise.dim() == 0:
        absent["sigma_median"] = "sigma is one number; see smallest_sigma"
    else:
        sigma = model.noise.sqrt()
        quantiles = weighted_quantiles(sigma, torch.ones_like(sigma), LEVELS)
        entries["sigma_median"], arrays = sigma_median(quantiles, len(x), {}, kind="exact")
        arrays |= numpy_arrays(sigma_map=sigma)
    if floor == 0:
        no_floor = "sigma of probabilistic PCA has no floor"
        absent |= dict.fromkeys((*AT_FLOOR, "eigenvalues_at_floor"), no_floor)
        return Evidence(entries, arrays, absent)
    absent["eigenvalues_at_floor"] = "the floor is that of the noise; see pixels_at_floor"
    few = torch.cat([images for _, images in parts])[:FEW]
    curve = _floor_curve(model, (x, test), (few, values[: len(few)]), floor)
    return merge([Evidence(entries, arrays, absent), _at_floor(model, x, floor), curve])


def _at_floor(model: LinearGaussian, x: Tensor, floor: float) -> Evidence:
    """The share of pixels near the floor, and their part of E ln p(x|z) with z ~ p(z|x)."""
    noise = model.noise.expand(x.shape[1])
    near = noise < NEAR**2 * floor
    spread = (model.factors @ model.posterior_root).square().sum(1)
    residual = x.to(model.mean) - model.decode(model.posterior_mean(x)).mean
    log_prob = -0.5 * ((2 * math.pi * noise).log() + (residual.square() + spread) / noise)
    part, of_pixels = log_prob[:, near].sum(1), log_prob.mean(0)
    beside = {"covariance_floor": floor, "near_floor": NEAR}
    facts = beside | total_and_share(part.mean().item(), of_pixels.sum().item())
    share = near.double().mean().item()
    return Evidence(
        {
            "pixels_at_floor": Estimate(share, "share", len(x), facts=beside, kind="exact"),
            "log_prob_at_floor": Measure(
                part.cpu(), "nats", facts=facts, kind="exact", likelihood="derived"
            ),
        },
        numpy_arrays(floor_map=near.double(), log_prob_map=of_pixels),
    )


def _floor_curve(
    model: LinearGaussian,
    test: tuple[Tensor, Tensor],
    train: tuple[Tensor, Tensor],
    floor: float,
) -> Evidence:
    """``floor_slope``, and the curve of the mean of ln p(x) over floors.

    ``test`` and ``train`` are images (n, D) and their ln p(x) as trained (n,).
    """
    rows = []
    for factor in FACTORS:
        if factor == FACTORS[AS_TRAINED]:
            rows.append((test[1], train[1]))
        else:
            moved = with_floor(model, floor, factor * floor)
            rows.append((moved.log_prob(test[0]), moved.log_prob(train[0])))
    gain_test, gain_train = (
        halved - as_trained
        for halved, as_trained in zip(rows[HALVED], rows[AS_TRAINED], strict=True)
    )
    slope = floor_slope(
        gain_test,
        gain_train,
        {"covariance_floor": floor, "floor_of": "variance", "train_images": len(gain_train)},
        at_most=test[0].shape[1] * math.log(2) / 2,
        kind="exact",
    )
    arrays = numpy_arrays(
        floor_curve_floors=floor * torch.tensor(FACTORS, dtype=torch.float64),
        floor_curve_test=torch.stack([values.mean() for values, _ in rows]),
        floor_curve_train=torch.stack([values.mean() for _, values in rows]),
    )
    return Evidence({"floor_slope": slope}, arrays)


def with_floor(model: LinearGaussian, floor: float, other: float) -> LinearGaussian:
    """The same W and mu, with the noise variances at the floor moved to another floor.

    They are moved all the way. An M-step might stop earlier, at the variance that the images leave,
    but the model no longer knows that variance.
    """
    held = model.noise <= floor * (1 + 1e-6)  # rounding may leave them slightly above the floor
    noise = torch.where(held, other, model.noise).clamp(min=other)
    return model.with_noise(noise)
