"""How near a VAE's sigma(z) comes to its floor; ``collapse`` says why that matters."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.collapse import (
    AS_TRAINED,
    AT_FLOOR,
    FACTORS,
    HALVED,
    LEVELS,
    NEAR,
    nearest_square,
    numpy_arrays,
    share_of,
    sigma_median,
    standard_error,
    train_test_gap,
    weighted_quantiles,
)
from vaexp.evaluation.measure import Estimate, Evidence, Measure, Moments
from vaexp.models import VAE
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods import Decoded

IMAGES_PER_BLOCK = 500  # decoded at once
LOWEST = 100  # codes with the smallest sigma whose mu(z) is looked up among the training images
BINS, WIDTH = 20_000, 0.002  # of ln sigma, from the floor on


@torch.no_grad()
def sigma_collapse(
    model: VAE,
    x: Tensor,
    label: Tensor,
    train: Iterable[tuple[Tensor, Tensor]],
    *,
    floor: float,
    draws: int = 4,
) -> Evidence:
    """How near sigma(z) comes to its floor, what that adds to the ELBO, and to whose.

    x (N, D), label (N,); train: blocks of training images (n, D) and labels (n,), gone through
    once, with one draw of z each; ``floor``: that of the model's sigma; ``draws`` of z for each
    test image, at least two. Entries: ``sigma_median``, ``pixels_at_floor``, ``log_prob_at_floor``,
    ``floor_slope``, ``train_test_gap``, ``nearest_train_distance``. Arrays: ``sigma_quantiles`` at
    ``sigma_levels``; ``sigma_map``, ``floor_map``, ``log_prob_map`` (D,), means of sigma(z), of
    sigma(z) < 2 ``floor`` and of ln p(x_j|z); ``floor_curve_test`` and ``floor_curve_train``, mean
    E_q ln p(x|z) of the same weights at ``floor_curve_floors`` (F,).

    A fixed sigma has no floor. A likelihood without sigma, or one that is bounded whatever its
    sigma is, has the gap alone. Where pixels are not independent given z, none of them has a part
    of ln p(x|z) to itself. Raises ValueError where ``floor`` is not the model's.
    """
    scale = model.likelihood.scale
    if isinstance(scale, Absent):
        return _gap_alone(model, x, label, train, draws, scale.reason)
    probe = model.decode(model.encode(x[:1], label[:1]).mean, label[:1])
    curve = probe.log_prob_at_floors(x[:1], scale.least, FACTORS)
    if isinstance(curve, Absent):
        return _gap_alone(model, x, label, train, draws, curve.reason)
    learned, varies, least = scale.mode.learned, scale.mode.of_z, scale.least
    if learned and least != floor:
        raise ValueError(f"sigma has the floor {least:g}, not {floor:g}")
    found = _decode_test(model, x, label, least, draws)

    points = x.new_empty(0, x.shape[1], dtype=torch.float64)
    chosen = control = x.new_empty(0, dtype=torch.int64)
    if varies:
        lowest = min(LOWEST, max(1, len(x) // 10))
        chosen = found.mean_sigma.argsort(stable=True)[:lowest]
        control = torch.randperm(len(x), device=x.device)[:lowest]
        rows = torch.cat([chosen, control])
        points = model.decode(model.encode(x[rows], label[rows]).mean, label[rows]).mean
        points = torch.cat([points.double(), x[chosen].double()])
    squares, elbos, curves = x.new_full((len(points),), math.inf, dtype=torch.float64), [], []
    for images, labels in train:
        squares = torch.minimum(squares, nearest_square(points, images))
        for xs, label_s in _blocks(images, labels):
            q = model.encode(xs, label_s)
            p = model.decode(q.sample(), label_s)
            curves.append(answered(p.log_prob_at_floors(xs, least, FACTORS)))
            elbos.append(curves[-1][:, AS_TRAINED] - kl_divergence(q, model.prior()).double())
    curve_train = torch.cat(curves)

    sigma, arrays = _sigma_of_counts(found, least, {"draws": draws, "kind": "estimate"})
    arrays |= numpy_arrays(sigma_map=found.sigma_map)
    pixels = probe.pixel_log_prob(x[:1])
    if not isinstance(pixels, Absent):
        arrays |= numpy_arrays(log_prob_map=found.log_prob_map)
    elbo = found.curve[:, AS_TRAINED] - found.rate
    entries: dict[str, Measure | Estimate] = {
        "sigma_median": sigma,
        "train_test_gap": train_test_gap(
            torch.cat(elbos), elbo, {"difference_of": "elbo", "draws": draws, "train_draws": 1}
        ),
    }
    absent: dict[str, str] = {}
    if learned:
        beside = {"sigma_floor": floor, "draws": draws, "kind": "estimate"}
        entries |= _at_floor(found, beside, curve_train)
        if isinstance(pixels, Absent):
            del entries["log_prob_at_floor"]
            absent["log_prob_at_floor"] = pixels.reason
        arrays |= numpy_arrays(
            floor_map=found.floor_map,
            floor_curve_floors=floor * torch.tensor(FACTORS, dtype=torch.float64),
            floor_curve_test=found.curve.mean(0),
            floor_curve_train=curve_train.mean(0),
        )
    else:
        absent |= dict.fromkeys(AT_FLOOR, f"sigma is fixed at {least:g}, so it has no floor")
    if varies:
        distances = (squares / x.shape[1]).sqrt().split([len(chosen), len(control), len(chosen)])
        entries["nearest_train_distance"] = _mean(
            distances[0],
            "units of x",
            {
                "control": distances[1].mean().item(),
                "control_se": standard_error(distances[1]),
                "image_distance": distances[2].mean().item(),
                "sigma_lowest": found.mean_sigma[chosen].mean().item(),
                "sigma_control": found.mean_sigma[control].mean().item(),
            },
        )
    else:
        absent["nearest_train_distance"] = "sigma is the same for every z: no code has the smallest"
    return Evidence(entries, arrays, absent)


def _gap_alone(
    model: VAE,
    x: Tensor,
    label: Tensor,
    train: Iterable[tuple[Tensor, Tensor]],
    draws: int,
    reason: str,
) -> Evidence:
    blocks = [elbo_measures(model, *block, draws=2)["elbo"].values for block in train]
    elbo = elbo_measures(model, x, label, draws=draws)["elbo"].values
    facts = {"difference_of": "elbo", "draws": draws, "train_draws": 2}
    names = ("sigma_median", *AT_FLOOR, "nearest_train_distance")
    gap = train_test_gap(torch.cat(blocks), elbo, facts)
    return Evidence({"train_test_gap": gap}, absent=dict.fromkeys(names, reason))


class _Decoded(NamedTuple):
    """What draws of p(x|z) show of the test images; all float64."""

    curve: Tensor
    """E_q ln p(x|z) at each floor, (N, F)."""
    variance: Tensor
    """(N, 3): over draws, of the means of the next three."""
    slope: Tensor
    """What halving the floor adds to E_q ln p(x|z), (N,)."""
    near: Tensor
    """Share of pixels near the floor, (N,)."""
    log_prob_near: Tensor
    """What they add to E_q ln p(x|z), (N,)."""
    mean_sigma: Tensor
    """Over pixels, (N,)."""
    rate: Tensor
    """KL(q(z|x) to p(z)), (N,)."""
    sigma_map: Tensor
    floor_map: Tensor
    log_prob_map: Tensor
    """Means over images and draws, (D,)."""
    counts: Tensor
    """Images, draws and pixels by ln sigma, (BINS,)."""
    ends: Tensor
    """The smallest and the largest sigma, (2,)."""


def _decode_test(model: VAE, x: Tensor, label: Tensor, floor: float, draws: int) -> _Decoded:
    values, variances, rates, ends = [], [], [], []
    maps = x.new_zeros(3, x.shape[1], dtype=torch.float64)
    counts = x.new_zeros(BINS, dtype=torch.float64)
    for xs, labels in _blocks(x, label):
        q = model.encode(xs, labels)
        moments = Moments()
        for _ in range(draws):
            p = model.decode(q.sample(), labels)
            sigma = answered(p.sigma)
            near = sigma < NEAR * floor
            each = _pixel_log_prob(p, xs)
            curve = answered(p.log_prob_at_floors(xs, floor, FACTORS))
            columns = (
                curve[:, HALVED] - curve[:, AS_TRAINED],
                near.mean(1, dtype=torch.float64),
                torch.where(near, each, 0).sum(1, dtype=torch.float64),
                sigma.mean(1, dtype=torch.float64),
            )
            moments.add(torch.cat([curve, torch.stack(columns, 1)], 1))
            maps += torch.stack([part.sum(0, dtype=torch.float64) for part in (sigma, near, each)])
            counts += bin_counts(sigma, floor)
            ends.append(torch.stack(sigma.double().aminmax()))
        values.append(moments.mean)
        variances.append(moments.variance_of_mean()[:, len(FACTORS) : -1])
        rates.append(kl_divergence(q, model.prior()).double())
    value, sides = torch.cat(values), torch.stack(ends)
    slope, near_share, log_prob_near, mean_sigma = value[:, len(FACTORS) :].unbind(1)
    sigma_map, floor_map, log_prob_map = maps / (draws * len(x))
    return _Decoded(
        curve=value[:, : len(FACTORS)],
        variance=torch.cat(variances),
        slope=slope,
        near=near_share,
        log_prob_near=log_prob_near,
        mean_sigma=mean_sigma,
        rate=torch.cat(rates),
        sigma_map=sigma_map,
        floor_map=floor_map,
        log_prob_map=log_prob_map,
        counts=counts,
        ends=torch.stack([sides[:, 0].min(), sides[:, 1].max()]),
    )


def _at_floor(found: _Decoded, facts: dict[str, Any], curve_train: Tensor) -> dict[str, Measure]:
    d = len(found.floor_map)
    slope, near, log_prob = found.variance.cpu().unbind(1)
    total = found.curve[:, AS_TRAINED].mean().item()
    of_train = curve_train[:, HALVED] - curve_train[:, AS_TRAINED]
    of_slope = {
        "floor_of": "sigma",
        "train": of_train.mean().item(),
        "train_se": standard_error(of_train),
        "train_draws": 1,
        "at_most": d * math.log(2),
    }
    of_near = facts | {"near_floor": NEAR}
    of_log_prob = of_near | share_of(found.log_prob_near.mean().item(), total)
    return {
        "pixels_at_floor": Measure(found.near.cpu(), "share", near, facts=of_near),
        "log_prob_at_floor": Measure(
            found.log_prob_near.cpu(),
            "nats",
            log_prob,
            facts=of_log_prob,
            likelihood="derived",
        ),
        "floor_slope": Measure(
            found.slope.cpu(), "nats", slope, facts=facts | of_slope, likelihood="derived"
        ),
    }


def _pixel_log_prob(p: Decoded, x: Tensor) -> Tensor:
    """Ln p(x_j|z) of each pixel, (n, D); NaN where pixels have none, so that none is reported."""
    pixels = p.pixel_log_prob(x)
    return torch.full_like(x, math.nan) if isinstance(pixels, Absent) else pixels


def bin_counts(sigma: Tensor, floor: float) -> Tensor:
    """How many of sigma lie in each of BINS steps of WIDTH in ln sigma from ln floor, float64."""
    place = ((sigma.log() - math.log(floor)) / WIDTH).clamp(0, BINS - 1).long()
    return place.flatten().bincount(minlength=BINS).double()


def _sigma_of_counts(
    found: _Decoded, floor: float, facts: dict[str, Any]
) -> tuple[Estimate, dict[str, Any]]:
    """``sigma_median`` and its arrays, from the counts."""
    steps = torch.arange(BINS, dtype=torch.float64, device=found.counts.device)
    centres = (math.log(floor) + WIDTH * (steps + 0.5)).exp()
    quantiles = weighted_quantiles(centres, found.counts, LEVELS).clamp(*found.ends.tolist())
    quantiles[[0, -1]] = found.ends
    return sigma_median(quantiles, len(found.rate), facts | {"resolution": WIDTH / 2})


def _mean(values: Tensor, unit: str, facts: dict[str, Any]) -> Estimate:
    return Estimate(values.mean().item(), unit, len(values), standard_error(values), facts=facts)


def _blocks(x: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.split(IMAGES_PER_BLOCK), label.split(IMAGES_PER_BLOCK), strict=True)
