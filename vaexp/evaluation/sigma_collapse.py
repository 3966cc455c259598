"""How close a VAE's sigma(z) comes to its floor. ``collapse`` explains why that matters.

Letters in shapes: N test images, M training images, D pixels, F floors, P codes that are looked up
among the training images.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.collapse import (
    AS_TRAINED,
    AT_FLOOR,
    FACTORS,
    HALVED,
    LEVELS,
    NEAR,
    floor_slope,
    nearest_square,
    numpy_arrays,
    sigma_median,
    total_and_share,
    train_test_gap,
    weighted_quantiles,
)
from vaexp.evaluation.gradient_weight import NAMES as WEIGHTS
from vaexp.evaluation.gradient_weight import gradient_weight
from vaexp.evaluation.measure import Estimate, Evidence, Measure, RunningMean, average, merge
from vaexp.evaluation.statistics import standard_error, tail_standard_error
from vaexp.models import VAE
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods import Decoded

DRAWS = 4  # of z for every test image
DRAWS_OF_BOUND = 2  # of z for every training image where only the ELBO is measured: the least
LOWEST = 100  # codes with the smallest sigma whose mu(z) is looked up among the training images
LEAST_WIDTH = 0.01  # the standard deviation below which a pixel of an unbounded density is narrow
NARROW = ("narrow_pixels", "log_prob_of_narrow_pixels")
HELD = "sigma holds the density; see pixels_at_floor and log_prob_at_floor"
BOUNDED = "p(x|z) is bounded, or the noise in the data bounds what it can gain"
BINS, WIDTH = 20_000, 0.002  # the bins of ln sigma, which begin at the floor


@torch.no_grad()
def sigma_collapse(
    model: VAE,
    x: Tensor,
    label: Tensor,
    train: Iterable[tuple[Tensor, Tensor]],
    *,
    floor: float,
    unbounded: bool = False,
) -> Evidence:
    """How close sigma(z) comes to its floor, what that adds to the ELBO, and for which images.

    x (N, D) are the test images, label (N,) their digits. ``train`` gives blocks of training images
    (n, D) and labels (n,). It is gone through once, with one draw of z for each image. ``floor`` is
    the floor of the model's sigma.

    Entries: ``sigma_median``, ``pixels_at_floor``, ``log_prob_at_floor``, ``floor_slope``,
    ``train_test_gap``, ``nearest_train_distance`` and those of ``gradient_weight``. Arrays:
    ``sigma_quantiles`` at ``sigma_levels``; the maps ``sigma_map``, ``floor_map`` and
    ``log_prob_map`` (D,), which are means over images of sigma(z), of whether sigma(z) is near the
    floor, and of ln p(x_j|z); ``floor_curve_test`` and ``floor_curve_train`` (F,), the mean of
    E_q ln p(x|z) of the same weights at each of ``floor_curve_floors`` (F,).

    A fixed sigma has no floor. A likelihood without a sigma has the gap alone, and so has one that
    is bounded whatever its sigma is. One that is ``unbounded`` also has ``narrow_pixels`` and
    ``log_prob_of_narrow_pixels``. Where pixels are not independent given z, no pixel has its own
    part of ln p(x|z). Raises ValueError if ``floor`` is not the floor of the model.
    """
    scale = model.likelihood.scale
    if isinstance(scale, Absent):
        gap = _gap_alone(model, x, label, train, scale.reason)
        return merge([gap, _narrow(model, x, label, BOUNDED, unbounded=unbounded)])
    probe = model.decode(model.encode(x[:1], label[:1]).mean, label[:1])
    curve = probe.log_prob_at_floors(x[:1], scale.least, FACTORS)
    if isinstance(curve, Absent):
        gap = _gap_alone(model, x, label, train, curve.reason)
        return merge([gap, _narrow(model, x, label, BOUNDED, unbounded=unbounded)])
    least = scale.least
    if scale.mode.learned and least != floor:
        raise ValueError(f"sigma has the floor {least:g}, not {floor:g}")
    test = _decode_test(model, x, label, least)
    codes = _lowest_codes(model, x, label, test) if scale.mode.of_z else _no_codes(x)
    training = _decode_train(model, train, least, codes.points)

    pixels = probe.pixel_log_prob(x[:1])
    centres = _centres(test, least)
    parts = [_sigmas(test, centres, pixels), _gap(test, training)]
    parts.append(gradient_weight(centres, test.counts, test.weight_map, len(x), pixels))
    parts.append(_narrow(model, x, label, HELD, unbounded=unbounded))
    if scale.mode.learned:
        parts.append(_at_floor(test, training, floor, pixels))
    else:
        fixed = f"sigma is fixed at {least:g}, so it has no floor"
        parts.append(Evidence(absent=dict.fromkeys(AT_FLOOR, fixed)))
    if scale.mode.of_z:
        parts.append(_nearest(test, codes, training))
    else:
        same = "sigma is the same for every z: no code has the smallest"
        parts.append(Evidence(absent={"nearest_train_distance": same}))
    return merge(parts)


def _gap_alone(
    model: VAE, x: Tensor, label: Tensor, train: Iterable[tuple[Tensor, Tensor]], reason: str
) -> Evidence:
    """``train_test_gap`` of the ELBO; all other measures are absent for this reason."""
    of_train = torch.cat(
        [elbo_measures(model, *block, draws=DRAWS_OF_BOUND)["elbo"].values for block in train]
    )
    of_test = elbo_measures(model, x, label, draws=DRAWS)["elbo"].values
    facts = {"difference_of": "elbo", "draws": DRAWS, "train_draws": DRAWS_OF_BOUND}
    names = ("sigma_median", *AT_FLOOR, "nearest_train_distance", *WEIGHTS)
    gap = train_test_gap(of_train, of_test, facts)
    return Evidence({"train_test_gap": gap}, absent=dict.fromkeys(names, reason))


def _narrow(model: VAE, x: Tensor, label: Tensor, otherwise: str, *, unbounded: bool) -> Evidence:
    """``narrow_pixels`` and ``log_prob_of_narrow_pixels`` of a density that is ``unbounded``.

    They are absent for the reason ``otherwise`` of any other one.

    A pixel is narrow if the standard deviation of p(x_j|z) is below LEAST_WIDTH. The first is their
    share, the second their part of E_q ln p(x|z), over DRAWS draws z ~ q(z|x).
    """
    if not unbounded:
        return Evidence(absent=dict.fromkeys(NARROW, otherwise))
    values, variances = [], []
    for xs, labels in blocks(x, label):
        q, moments = model.encode(xs, labels), RunningMean()
        for _ in range(DRAWS):
            p = model.decode(q.sample(), labels)
            of_pixels, narrow = answered(p.pixel_log_prob(xs)), p.stddev < LEAST_WIDTH
            part = torch.where(narrow, of_pixels, 0).sum(1, dtype=torch.float64)
            total = of_pixels.sum(1, dtype=torch.float64)
            moments.add(torch.stack([narrow.mean(1, dtype=torch.float64), part, total], 1))
        values.append(moments.mean.cpu())
        variances.append(moments.variance_of_mean().cpu())
    share, part, total = torch.cat(values).unbind(1)
    of_share, of_part, _ = torch.cat(variances).unbind(1)
    beside: dict[str, Any] = {"draws": DRAWS, "narrower_than": LEAST_WIDTH}
    facts = beside | total_and_share(part.mean().item(), total.mean().item())
    return Evidence(
        {
            "narrow_pixels": Measure(share, "share", of_share, facts=beside, kind="estimate"),
            "log_prob_of_narrow_pixels": Measure(
                part, "nats", of_part, facts=facts, kind="estimate", likelihood="derived"
            ),
        }
    )


class _Test(NamedTuple):
    """What draws of z and p(x|z) show of the test images. All values are float64."""

    curve: Tensor
    """E_q ln p(x|z) at each floor, (N, F)."""
    variance: Tensor
    """The variances over draws of the next three values, (N, 3)."""
    slope: Tensor
    """What half the floor adds to E_q ln p(x|z), (N,)."""
    near: Tensor
    """The share of pixels near the floor, (N,)."""
    log_prob_near: Tensor
    """The part of E_q ln p(x|z) that these pixels hold, (N,)."""
    mean_sigma: Tensor
    """The mean of sigma over draws and pixels, (N,)."""
    rate: Tensor
    """KL(q(z|x) to p(z)), (N,)."""
    sigma_map: Tensor
    """The mean of sigma over images and draws, (D,)."""
    floor_map: Tensor
    """The share of images and draws for which the pixel is near the floor, (D,)."""
    log_prob_map: Tensor
    """The mean of ln p(x_j|z) over images and draws, (D,)."""
    weight_map: Tensor
    """The mean of 1 / sigma^2 over images and draws, (D,)."""
    counts: Tensor
    """How many sigmas of all images, draws and pixels lie in each bin of ln sigma, (BINS,)."""
    ends: Tensor
    """The smallest and the largest sigma, (2,)."""

    @property
    def elbo(self) -> Tensor:
        """The ELBO as trained, (N,)."""
        return self.curve[:, AS_TRAINED] - self.rate


def _decode_test(model: VAE, x: Tensor, label: Tensor, floor: float) -> _Test:
    """Decode DRAWS draws z ~ q(z|x) of the test images x (N, D) with labels (N,)."""
    values, variances, rates, ends = [], [], [], []
    maps = x.new_zeros(4, x.shape[1], dtype=torch.float64)
    counts = x.new_zeros(BINS, dtype=torch.float64)
    for xs, labels in blocks(x, label):
        q = model.encode(xs, labels)
        moments = RunningMean()
        for _ in range(DRAWS):
            p = model.decode(q.sample(), labels)
            sigma = answered(p.sigma)
            near = sigma < NEAR * floor
            of_pixels = _pixel_log_prob(p, xs)
            curve = answered(p.log_prob_at_floors(xs, floor, FACTORS))
            columns = (
                curve[:, HALVED] - curve[:, AS_TRAINED],
                near.mean(1, dtype=torch.float64),
                torch.where(near, of_pixels, 0).sum(1, dtype=torch.float64),
                sigma.mean(1, dtype=torch.float64),
            )
            moments.add(torch.cat([curve, torch.stack(columns, 1)], 1))
            pictures = (sigma, near, of_pixels, sigma.double() ** -2)
            maps += torch.stack([picture.sum(0, dtype=torch.float64) for picture in pictures])
            counts += bin_counts(sigma, floor)
            ends.append(torch.stack(sigma.double().aminmax()))
        values.append(moments.mean)
        variances.append(moments.variance_of_mean()[:, len(FACTORS) : -1])
        rates.append(kl_divergence(q, model.prior()).double())
    value, sides = torch.cat(values), torch.stack(ends)
    slope, near_share, log_prob_near, mean_sigma = value[:, len(FACTORS) :].unbind(1)
    sigma_map, floor_map, log_prob_map, weight_map = maps / (DRAWS * len(x))
    return _Test(
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
        weight_map=weight_map,
        counts=counts,
        ends=torch.stack([sides[:, 0].min(), sides[:, 1].max()]),
    )


def _pixel_log_prob(p: Decoded, x: Tensor) -> Tensor:
    """Ln p(x_j|z) of each pixel, (n, D).

    It is NaN where pixels have no such part; then none of the numbers that use it is reported.
    """
    pixels = p.pixel_log_prob(x)
    return torch.full_like(x, math.nan) if isinstance(pixels, Absent) else pixels


def bin_counts(sigma: Tensor, floor: float) -> Tensor:
    """How many of the sigmas lie in each bin of ln sigma, (BINS,) float64.

    The first bin begins at ln floor and every bin is WIDTH wide. The last bin also counts what lies
    beyond it.
    """
    place = ((sigma.log() - math.log(floor)) / WIDTH).clamp(0, BINS - 1).long()
    return place.flatten().bincount(minlength=BINS).double()


class _Codes(NamedTuple):
    """The test images with the smallest sigma, beside as many random ones."""

    lowest: Tensor
    """The indices of the images with the smallest mean sigma, (P,)."""
    control: Tensor
    """The indices of random images, (P,)."""
    points: Tensor
    """mu(z) of the lowest, mu(z) of the control, and the lowest images themselves, (3 P, D)."""


def _lowest_codes(model: VAE, x: Tensor, label: Tensor, test: _Test) -> _Codes:
    count = min(LOWEST, max(1, len(x) // 10))
    lowest = test.mean_sigma.argsort(stable=True)[:count]
    control = torch.randperm(len(x), device=x.device)[:count]
    rows = torch.cat([lowest, control])
    means = model.decode(model.encode(x[rows], label[rows]).mean, label[rows]).mean
    return _Codes(lowest, control, torch.cat([means.double(), x[lowest].double()]))


def _no_codes(x: Tensor) -> _Codes:
    none = x.new_empty(0, dtype=torch.int64)
    return _Codes(none, none, x.new_empty(0, x.shape[1], dtype=torch.float64))


class _Train(NamedTuple):
    """What one draw of z for each training image shows. All values are float64."""

    curve: Tensor
    """ln p(x|z) at each floor, (M, F)."""
    elbo: Tensor
    """ln p(x|z) as trained, minus the rate, (M,)."""
    squares: Tensor
    """The squared distance of each point to the nearest training image, (P,)."""


def _decode_train(
    model: VAE, train: Iterable[tuple[Tensor, Tensor]], floor: float, points: Tensor
) -> _Train:
    """Go through the training images once; ``points`` (P, D) are looked up among them."""
    squares = points.new_full((len(points),), math.inf)
    elbos, curves = [], []
    for images, image_labels in train:
        squares = torch.minimum(squares, nearest_square(points, images))
        for xs, labels in blocks(images, image_labels):
            q = model.encode(xs, labels)
            p = model.decode(q.sample(), labels)
            curves.append(answered(p.log_prob_at_floors(xs, floor, FACTORS)))
            elbos.append(curves[-1][:, AS_TRAINED] - kl_divergence(q, model.prior()).double())
    return _Train(torch.cat(curves), torch.cat(elbos), squares)


def _centres(test: _Test, floor: float) -> Tensor:
    """The sigma in the middle of each bin, (BINS,), none beyond the ends of what was found."""
    steps = torch.arange(BINS, dtype=torch.float64, device=test.counts.device)
    return (math.log(floor) + WIDTH * (steps + 0.5)).exp().clamp(*test.ends.tolist())


def _sigmas(test: _Test, centres: Tensor, pixels: Tensor | Absent) -> Evidence:
    """``sigma_median``, and the arrays of sigma and of ln p(x_j|z)."""
    quantiles = weighted_quantiles(centres, test.counts, LEVELS)
    quantiles[[0, -1]] = test.ends
    facts = {"draws": DRAWS, "resolution": WIDTH / 2}
    median, arrays = sigma_median(quantiles, len(test.rate), facts, kind="estimate")
    arrays |= numpy_arrays(sigma_map=test.sigma_map)
    if not isinstance(pixels, Absent):
        arrays |= numpy_arrays(log_prob_map=test.log_prob_map)
    return Evidence({"sigma_median": median}, arrays)


def _gap(test: _Test, training: _Train) -> Evidence:
    facts = {"difference_of": "elbo", "draws": DRAWS, "train_draws": 1}
    return Evidence({"train_test_gap": train_test_gap(training.elbo, test.elbo, facts)})


def _at_floor(test: _Test, training: _Train, floor: float, pixels: Tensor | Absent) -> Evidence:
    """The measures AT_FLOOR, and the curve of E_q ln p(x|z) over floors."""
    of_slope, of_near, of_log_prob = test.variance.cpu().unbind(1)
    common: dict[str, Any] = {"sigma_floor": floor, "draws": DRAWS}
    gain = training.curve[:, HALVED] - training.curve[:, AS_TRAINED]
    slope = floor_slope(
        test.slope,
        gain,
        common | {"floor_of": "sigma", "train_draws": 1},
        at_most=len(test.floor_map) * math.log(2),
        kind="estimate",
        variance=of_slope,
    )
    beside = common | {"near_floor": NEAR}
    near = Measure(test.near.cpu(), "share", of_near, facts=beside, kind="estimate")
    entries: dict[str, Measure | Estimate] = {"pixels_at_floor": near}
    absent = {}
    if isinstance(pixels, Absent):
        absent["log_prob_at_floor"] = pixels.reason
    else:
        total = test.curve[:, AS_TRAINED].mean().item()
        entries["log_prob_at_floor"] = Measure(
            test.log_prob_near.cpu(),
            "nats",
            of_log_prob,
            facts=beside | total_and_share(test.log_prob_near.mean().item(), total),
            kind="estimate",
            likelihood="derived",
        )
    entries["floor_slope"] = slope
    arrays = numpy_arrays(
        floor_map=test.floor_map,
        floor_curve_floors=floor * torch.tensor(FACTORS, dtype=torch.float64),
        floor_curve_test=test.curve.mean(0),
        floor_curve_train=training.curve.mean(0),
    )
    return Evidence(entries, arrays, absent)


def _nearest(test: _Test, codes: _Codes, training: _Train) -> Evidence:
    """``nearest_train_distance``: how close mu(z) lies to a training image where sigma is small.

    Distances are root mean squares per pixel.
    """
    distances = (training.squares / len(test.floor_map)).sqrt()
    lowest, control, images = distances.split(
        [len(codes.lowest), len(codes.control), len(codes.lowest)]
    )
    facts = {
        "control": control.mean().item(),
        "control_se": standard_error(control),
        "image_distance": images.mean().item(),
        "sigma_lowest": test.mean_sigma[codes.lowest].mean().item(),
        "sigma_control": test.mean_sigma[codes.control].mean().item(),
    }
    entry = average(lowest, "units of x", facts)
    se = tail_standard_error(lowest, len(test.mean_sigma))
    return Evidence({"nearest_train_distance": replace(entry, se=se)})
