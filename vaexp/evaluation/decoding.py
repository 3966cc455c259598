"""Decode modes: what is lost where a generated image is mu(z) and not a draw of p(x|z).

From one model and one set of latents z ~ p(z): the images mu(z), x ~ p(x|z) and mu(z) + k sigma(z),
their first two moments against those of test images, and their log densities. On test images, how
well sigma(z) describes the errors of mu(z).

Standard errors are by the delta method: a statistic's se is the standard deviation of its influence
function over sqrt(n) (van der Vaart 1998, Asymptotic Statistics, section 20.1), and where it
depends on two sets of images, the root of the sum of both squares.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor

from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.subject import Subject
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.absent import Absent
from vaexp.models.interface import ExactModel
from vaexp.models.ppca import of_linear_vae

DENSITY_IMAGES = 1_000  # of each kind, whose log densities are averaged
ELBO_DRAWS = 4
LEVELS = (1, 2, 3)  # k of the intervals mu +- k sigma
SHIFTS = {"plus1": 1, "minus1": -1, "plus2": 2, "minus2": -2}  # k of mu + k sigma
IMAGES_PER_BLOCK = 500
STRATA = 10

NO_ENDS = "the transform gives x no ends"
NO_MASS = "p(x|z) is a mass, and mu(z) is none of the images that have one"
NOT_EXACT = "ln p(x) is not exact; see elbo_of_sample"
EXACT = "ln p(x) is exact; see log_prob_of_mean"
ALL_EQUAL = "all these images are the same, so no pixel varies"
TOO_FEW = "a half of fewer than 4 test images has no covariance"

Arrays = dict[str, "np.ndarray[Any, Any]"]


@torch.no_grad()
def decoding(
    model: Model, x: Tensor, label: Tensor, *, draws: int = 10_000, unit_interval: bool
) -> Evidence:
    """Everything below, of test images x (N, D) with digits label (N,) and ``draws`` latents.

    unit_interval: whether 0 and 1 are the ends of a pixel's range. What a model cannot have is in
    ``absent``: entries and absent together are the same names for every model. The distances named
    ``_control`` are of two random halves of the test images, N / 2 each: where draws = N, their
    sampling noise is sqrt(2) times that of the other rows. Each Estimate's fact ``images`` says
    whose number n is: generated or test. Memory holds some ten arrays of (draws, D) or (N, D),
    float32. N >= 2. Raises ValueError unless D is a square: rows are sqrt(D) pixels.
    """
    generated = generate(model, label, draws)
    data = moments(x)
    entries: dict[str, Measure | Estimate] = {}
    absent: dict[str, str] = {}
    if len(x) < 4:
        absent |= dict.fromkeys(("mean_distance_control", "covariance_distance_control"), TOO_FEW)
    else:
        half, other = (moments(part) for part in x[_shuffled(x)].chunk(2))
        entries["mean_distance_control"] = mean_distance(half, other)
        entries["covariance_distance_control"] = covariance_distance(half, other)
    _put(entries, absent, "neighbour_correlation_data", neighbour_correlation(data), ALL_EQUAL)
    arrays: Arrays = {}
    no_sweep = model.no_sweep
    for mode, images in modes(generated, sweep=no_sweep is None):
        found = moments(images)
        if mode == "mean":
            split, arrays = variance_split(found, generated.variance, data)
            entries |= split
        entries[f"mean_distance_{mode}"] = mean_distance(found, data)
        entries[f"covariance_distance_{mode}"] = covariance_distance(found, data)
        correlation = neighbour_correlation(found)
        _put(entries, absent, f"neighbour_correlation_{mode}", correlation, ALL_EQUAL)
        share = outside_share(images) if unit_interval else None
        _put(entries, absent, f"outside_share_{mode}", share, NO_ENDS)
    if no_sweep is None:
        measures, strata = calibration(model, x, label)
        entries |= measures
        arrays |= strata
    else:
        absent |= dict.fromkeys(_names_with_sigma(), f"mu(z) + k sigma(z) is no image: {no_sweep}")
    densities, without = log_densities(model, generated, x, label)
    entries |= densities
    for name, entry in entries.items():
        if isinstance(entry, Estimate):  # a Measure is of the test images, one by one
            whose = "test" if name.endswith(("_data", "_control")) else "generated"
            entries[name] = replace(entry, facts={"images": whose, **entry.facts})
    return Evidence(entries, arrays, absent | without)


class Generated(NamedTuple):
    """p(x|z) at n latents z ~ p(z), from which every decode mode follows; images float32, as x."""

    z: Tensor
    """(n, L), or (n,) component indices."""
    label: Tensor
    """(n,), with the frequencies of the test labels; only a conditional model looks at it."""
    mean: Tensor
    """mu(z) (n, D)."""
    variance: Tensor
    """Of each pixel given z, (n, D): sigma^2(z), or p (1 - p) of a Bernoulli."""
    sample: Tensor
    """One draw of p(x|z) for each z, (n, D)."""


@torch.no_grad()
def generate(model: Model, label: Tensor, draws: int) -> Generated:
    """``draws`` latents of p(z), and p(x|z) there; label (N,) are the test images'."""
    drawn = label[torch.randint(len(label), (draws,), device=label.device)]
    z = model.prior().sample(torch.Size([draws]))
    p = model.decode(z, drawn)
    return Generated(z, drawn, p.mean.float(), p.variance.float(), p.sample().float())


def modes(generated: Generated, *, sweep: bool) -> Iterator[tuple[str, Tensor]]:
    """Each decode mode's name and its images (n, D), one at a time, as each is large."""
    yield "mean", generated.mean
    yield "sample", generated.sample
    if sweep:
        for name, k in SHIFTS.items():
            yield name, generated.mean + k * generated.variance.sqrt()


class SetMoments(NamedTuple):
    """The first two moments of a set of n images, float64."""

    mean: Tensor
    """(D,)."""
    covariance: Tensor
    """(D, D), over n - 1."""
    centred: Tensor
    """The images less their mean (n, D), in their own precision, for sums over pixels."""

    def without_difference(self) -> float:
        """E |C - cov|_F^2, what the finite n adds to a squared distance between covariances.

        (mean |y|^4 - |C|_F^2) / n with y the centred images: the variance of an average of y y^T.
        """
        fourth = _squares(self.centred).square().mean()
        return ((fourth - self.covariance.square().sum()) / len(self.centred)).item()


def moments(x: Tensor) -> SetMoments:
    """Mean and covariance of images (n, D), n >= 2.

    A pixel that is the same in all of them has variance 0 exactly, without rounding.
    """
    varies = x.amax(0) > x.amin(0)
    mean = x.mean(0, dtype=torch.float64)
    centred = torch.empty_like(x)
    covariance = x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for block, out in _blocks(x, centred):
        y = torch.where(varies, block.double() - mean, 0)
        covariance.addmm_(y.T, y)
        out.copy_(y)
    return SetMoments(mean, covariance / (len(x) - 1), centred)


def variance_split(
    of_mean: SetMoments, variance: Tensor, data: SetMoments
) -> tuple[dict[str, Estimate], Arrays]:
    """Var x = E Var(x|z) + Var E(x|z), summed over pixels, beside the variance of test images.

    The law of total variance (Blitzstein and Hwang 2019, Introduction to Probability, section
    9.5). of_mean: of mu(z) over z; variance (n, D): of x given z, at the same z. Entries
    ``variance_total``, ``variance_of_mean`` = Var mu(z), ``mean_of_variance`` = E sigma^2(z) and
    ``variance_data``; arrays the last three per pixel (D,), names ending in _pixels.
    """
    n = len(variance)
    spread = _squares(of_mean.centred) * n / (n - 1)
    noise = variance.sum(1, dtype=torch.float64)
    size = len(data.centred)
    own = _squares(data.centred) * size / (size - 1)
    unit = "units of x squared"
    entries = {
        "variance_total": _average(spread + noise, unit),
        "variance_of_mean": _average(spread, unit),
        "mean_of_variance": _average(noise, unit),
        "variance_data": _average(own, unit),
    }
    arrays = {
        "variance_of_mean_pixels": of_mean.covariance.diagonal(),
        "mean_of_variance_pixels": variance.mean(0, dtype=torch.float64),
        "variance_data_pixels": data.covariance.diagonal(),
    }
    return entries, {name: array.cpu().numpy() for name, array in arrays.items()}


def mean_distance(found: SetMoments, data: SetMoments) -> Estimate:
    """|m - m'|, the Euclidean distance between the means of two sets of images.

    ``sampling_noise`` is what it would be, root-mean-square, if the two sets came from
    distributions with the same mean: sqrt(tr C / n + tr C' / n').
    """
    difference = found.mean - data.mean
    distance = difference.norm()
    direction = difference / distance if distance > 0 else difference
    squares, noise = 0.0, 0.0
    for one in (found, data):
        squares += (direction @ one.covariance @ direction).item() / len(one.centred)
        noise += one.covariance.trace().item() / len(one.centred)
    facts = {"against": len(data.centred), "sampling_noise": math.sqrt(noise)}
    n, se = len(found.centred), math.sqrt(squares)
    return Estimate(distance.item(), "units of x", n, se, facts=facts)


def covariance_distance(found: SetMoments, data: SetMoments) -> Estimate:
    """|C - C'|_F / |C'|_F, with C the covariance of images and C' that of test images.

    ``sampling_noise`` is what it would be, root-mean-square, if both had the same covariance: with
    few images the distance is that large by itself, and its square adds to that of the difference.
    """
    scale = data.covariance.norm().item()
    difference = found.covariance - data.covariance
    distance = difference.norm().item()
    direction = difference / distance if distance > 0 else difference
    value = distance / scale
    # d value = <direction, dC - dC'> / scale - value <C', dC'> / scale^2
    influence = _forms(found.centred, direction) / scale
    own = _forms(data.centred, direction + value / scale * data.covariance) / scale
    squares = influence.var().item() / len(influence) + own.var().item() / len(own)
    noise = found.without_difference() + data.without_difference()
    facts = {"against": len(data.centred), "sampling_noise": math.sqrt(max(noise, 0)) / scale}
    return Estimate(value, "", len(influence), math.sqrt(squares), facts=facts)


def neighbour_correlation(found: SetMoments) -> Estimate | None:
    """The correlation of pixels with their right and lower neighbours, over images, all pairs.

    sum_ij cov(x_i, x_j) / sum_ij sd(x_i) sd(x_j) over the pairs of neighbours i, j: each pixel's
    mean is removed first, so that it is 0 for independent pixels whatever the average image looks
    like. Independent noise adds to the standard deviations and not to the covariances. None where
    no pair varies. Images of D pixels have sqrt(D) rows.
    """
    d = len(found.mean)
    side = math.isqrt(d)
    if side**2 != d:
        raise ValueError(f"images of {d} pixels are not square")
    index = torch.arange(d, device=found.mean.device).view(side, side)
    first = torch.cat([index[:, :-1].flatten(), index[:-1].flatten()])
    second = torch.cat([index[:, 1:].flatten(), index[1:].flatten()])
    deviation = found.covariance.diagonal().sqrt()
    total = (deviation[first] * deviation[second]).sum().item()
    if total == 0:
        return None
    value = found.covariance[first, second].sum().item() / total
    # d sum sd_i sd_j = sum_i slope_i d var_i
    slope = torch.zeros_like(deviation).index_add(0, first, deviation[second])
    slope = slope.index_add(0, second, deviation[first])
    slope = torch.where(deviation > 0, slope / (2 * deviation), 0)
    # a pixel that varies by 1e-40 beside one that varies by 1 has a slope that float32 cannot hold
    slope = slope.clamp(max=torch.finfo(found.centred.dtype).max)
    influences = []
    for (y,) in _blocks(found.centred):
        images = y.view(-1, side, side)
        products = (images[:, :, :-1] * images[:, :, 1:]).sum((1, 2), dtype=torch.float64)
        products += (images[:, :-1] * images[:, 1:]).sum((1, 2), dtype=torch.float64)
        influences.append(products - value * (y.square() @ slope.to(y)).double())
    influence = torch.cat(influences) / total
    return Estimate(value, "", len(influence), _se(influence))


def outside_share(images: Tensor) -> Estimate:
    """The share of pixels below 0 or above 1, of images (n, D)."""
    return _average(((images < 0) | (images > 1)).float().mean(1), "share")


@torch.no_grad()
def calibration(model: Model, x: Tensor, label: Tensor) -> tuple[dict[str, Measure], Arrays]:
    """How sigma(z) describes the errors of mu(z) on images x (N, D), one z ~ q(z|x) for each.

    ``coverage_k``, k = 1, 2, 3, is the share of an image's pixels within mu +- k sigma; ``nominal``
    is that of a Gaussian, erf(k / sqrt 2). ``sigma_squared_bias`` is the mean over pixels of
    sigma^2 - (x - mu)^2, and ``standardised_error`` that of (x - mu)^2 / sigma^2. Arrays: coverage
    by deciles of sigma, see ``coverage_by_sigma``. Only of a model that has sigma.
    """
    covered, bias, standardised, sigmas, beyond = [], [], [], [], []
    for xs, labels in _blocks(x, label):
        p = model.decode(model.encode(xs, labels).sample(), labels)
        variance = p.variance.double()
        squares = (xs.double() - p.mean.double()).square()
        ratio = squares / variance
        outside = torch.stack([ratio > k**2 for k in LEVELS])
        covered.append(1 - outside.double().mean(2))
        bias.append((variance - squares).mean(1))
        standardised.append(ratio.mean(1))
        sigmas.append(variance.sqrt().float().cpu())
        beyond.append(outside.sum(0).to(torch.uint8).cpu())
    shares = torch.cat(covered, dim=1).cpu()
    measures = {
        f"coverage_{k}": Measure(
            share, "share", facts={"nominal": math.erf(k / math.sqrt(2)), "draws": 1}
        )
        for k, share in zip(LEVELS, shares, strict=True)
    }
    facts = {"draws": 1}
    measures["sigma_squared_bias"] = Measure(
        torch.cat(bias).cpu(), "units of x squared", facts={**facts, "calibrated": 0}
    )
    measures["standardised_error"] = Measure(
        torch.cat(standardised).cpu(), "", facts={**facts, "calibrated": 1}
    )
    return measures, coverage_by_sigma(torch.cat(sigmas), torch.cat(beyond))


def coverage_by_sigma(sigma: Tensor, beyond: Tensor) -> Arrays:
    """Coverage in strata of sigma, by the deciles of all pixels of all images.

    sigma (N, D); beyond (N, D) uint8: how many of the intervals mu +- k sigma, k = 1, 2, 3, miss
    the pixel. Equal sigmas are in one stratum, so there are S <= 10, and one if sigma is constant.
    ``coverage_strata`` (S, 3), with its standard error over images ``coverage_strata_se``, of a
    ratio of sums (Cochran 1977, Sampling Techniques, section 2.11), ``sigma_strata`` (S,) the mean
    of sigma and ``share_strata`` (S,) the share of pixels in each.
    """
    levels = np.arange(1, STRATA) / STRATA
    edges = np.unique(np.quantile(sigma.numpy(), levels, method="inverted_cdf"))
    inner = torch.from_numpy(edges)
    strata = len(edges) + 1
    counts, sums = [], torch.zeros(strata, dtype=torch.float64)
    for s, b in _blocks(sigma, beyond):
        stratum = torch.bucketize(s, inner, right=True)
        sums += torch.bincount(stratum.flatten(), s.flatten().double(), minlength=strata)
        row = torch.arange(len(s))[:, None] * strata
        code = (row + stratum) * (len(LEVELS) + 1) + b
        shape = (len(s), strata, len(LEVELS) + 1)
        counts.append(torch.bincount(code.flatten(), minlength=math.prod(shape)).view(shape))
    covered = torch.cat(counts).double().cumsum(2)  # (N, S, 4): missed by at most 0, 1, 2, 3
    pixels = covered[..., -1]
    filled = pixels.sum(0) > 0
    pixels, covered, sums = pixels[:, filled], covered[:, filled, :-1], sums[filled]
    size = pixels.sum(0)
    share = covered.sum(0) / size[:, None]
    n = len(sigma)
    rest = (covered - share * pixels[..., None]).square().sum(0) * n / max(n - 1, 1)
    arrays = {
        "coverage_strata": share,
        "coverage_strata_se": rest.sqrt() / size[:, None],
        "sigma_strata": sums / size,
        "share_strata": size / size.sum(),
    }
    return {name: array.numpy() for name, array in arrays.items()}


@torch.no_grad()
def log_densities(
    model: Model, generated: Generated, x: Tensor, label: Tensor
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """The model's own ln p of mu(z), of its samples at the same z, and of as many test images.

    ``log_prob_of_*`` where ln p(x) is exact. For a VAE ``log_density_given_z_of_*``, ln p(mu(z)|z)
    and ln p(x|z) with x ~ p(x|z), and ``elbo_of_*``, the images encoded again. The ``*_gap`` is
    that of mu(z) less that of the sample, with the error of the paired difference: of a Gaussian
    ln p(mu(z)|z) - ln p(x|z) = |x - mu|^2 / (2 sigma^2), D/2 nats on average, whatever sigma is
    (fact ``expected``). Beside each mean stands the ``median`` over images, which a few extreme
    images do not move. Test images are a random subset. Also returns which are absent, and why.
    """
    count = min(DENSITY_IMAGES, len(generated.z))
    mean, sample = generated.mean[:count], generated.sample[:count]
    given = generated.label[:count]
    chosen = _shuffled(x)[:DENSITY_IMAGES]
    data, own = x[chosen], label[chosen]
    entries: dict[str, Estimate] = {}
    absent: dict[str, str] = {}

    exact: ExactModel | None
    match model:
        case VAE():
            exact = of_linear_vae(model)
        case GMM() | LinearGaussian():
            exact = model
        case _:
            assert_never(model)
    if exact is not None:
        entries |= _compared(
            "log_prob",
            exact.log_prob(mean),
            exact.log_prob(sample),
            exact.log_prob(data),
            {"kind": "exact", "measure": "density", "of": "x"},
        )
    else:
        absent |= _every("log_prob", ("mean", "sample", "data"), NOT_EXACT)

    if not isinstance(model, VAE):  # there is nothing to bound
        absent |= _every("log_density_given_z", ("mean", "sample"), EXACT)
        absent |= _every("elbo", ("mean", "sample", "data"), EXACT)
        return entries, absent

    p = model.decode(generated.z[:count], given)
    family = model.likelihood.family
    is_mass = family.measure == "mass"
    gap = model.likelihood.gap_to_mean(x.shape[1])

    def elbo(images: Tensor, labels: Tensor) -> Tensor:
        return elbo_measures(model, images, labels, draws=ELBO_DRAWS)["elbo"].values

    of_mean, elbo_of_mean = None, None
    if is_mass:
        for name in ("log_density_given_z", "elbo"):
            absent |= _every(name, ("mean",), NO_MASS)
    else:
        of_mean, elbo_of_mean = p.log_prob(mean), elbo(mean, given)
    measure = {"measure": family.measure}
    entries |= _compared(
        "log_density_given_z",
        of_mean,
        p.log_prob(sample),
        None,
        {"kind": "exact", **measure, "of": "x given z"},
        {} if isinstance(gap, Absent) else {"expected": gap},
    )
    of = "x given label" if model.conditional else "x"
    entries |= _compared(
        "elbo",
        elbo_of_mean,
        elbo(sample, given),
        elbo(data, own),
        {"kind": "lower_bound", **measure, "of": of, "draws": ELBO_DRAWS},
        {"kind": "estimate"},  # a difference of two bounds bounds nothing
    )
    return entries, absent


def _compared(
    name: str,
    of_mean: Tensor | None,
    of_sample: Tensor,
    of_data: Tensor | None,
    facts: dict[str, Any],
    facts_of_gap: dict[str, Any] | None = None,
) -> dict[str, Estimate]:
    """``name``_of_mean, _of_sample and _of_data, and the paired _gap of the first two."""
    values = {"of_mean": of_mean, "of_sample": of_sample, "of_data": of_data}
    entries = {
        f"{name}_{of}": _log_likelihood(value, {**facts, "median": _median(value)})
        for of, value in values.items()
        if value is not None
    }
    if of_mean is not None:
        difference = of_mean.double() - of_sample.double()
        gap = {**facts, **(facts_of_gap or {}), "median": _median(difference)}
        entries[f"{name}_gap"] = _log_likelihood(difference, gap)
    return entries


def _every(name: str, of: tuple[str, ...], reason: str) -> dict[str, str]:
    """The names that ``_compared`` would have used; without mu(z) there is no gap."""
    return dict.fromkeys([*(f"{name}_of_{what}" for what in of), f"{name}_gap"], reason)


def _names_with_sigma() -> list[str]:
    shifted = ("mean_distance", "covariance_distance", "neighbour_correlation", "outside_share")
    return [
        *(f"{name}_{mode}" for name in shifted for mode in SHIFTS),
        *(f"coverage_{k}" for k in LEVELS),
        "sigma_squared_bias",
        "standardised_error",
    ]


def _put(
    entries: dict[str, Measure | Estimate],
    absent: dict[str, str],
    name: str,
    estimate: Estimate | None,
    reason: str,
) -> None:
    if estimate is None:
        absent[name] = reason
    else:
        entries[name] = estimate


def _shuffled(x: Tensor) -> Tensor:
    """A random order: MNIST's first 5,000 test images are easier than the others."""
    return torch.randperm(len(x), device=x.device)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(IMAGES_PER_BLOCK) for tensor in tensors), strict=True)


def _squares(y: Tensor) -> Tensor:
    """|y|^2 of each row of y (n, D), (n,) float64."""
    return torch.cat([block.double().square().sum(1) for (block,) in _blocks(y)])


def _forms(y: Tensor, matrix: Tensor) -> Tensor:
    """y^T A y of each row of y (n, D), (n,) float64."""
    matrix = matrix.to(y)
    return torch.cat([((block @ matrix) * block).sum(1) for (block,) in _blocks(y)]).double()


def _average(values: Tensor, unit: str, facts: dict[str, Any] | None = None) -> Estimate:
    """The mean of values (n,), one for each image."""
    values = values.double()
    return Estimate(values.mean().item(), unit, len(values), _se(values), facts=facts or {})


def _log_likelihood(values: Tensor, facts: dict[str, Any]) -> Estimate:
    """The mean of log-likelihoods, or of differences of them, (n,)."""
    return replace(_average(values, "nats", facts), likelihood="derived")


def _median(values: Tensor) -> float:
    return values.double().quantile(0.5).item()


def _se(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))


def measure(subject: Subject[Model]) -> Evidence:
    """The group ``decoding``."""
    return decoding(
        subject.model,
        subject.x,
        subject.label,
        unit_interval=subject.transform.in_unit_interval,
    )
