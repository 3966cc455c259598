"""How near a mixture's covariances come to their floor; ``collapse`` says why that matters."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import Tensor

from vaexp.evaluation.collapse import (
    FACTORS,
    HALVED,
    LEVELS,
    NEAR,
    ROWS,
    nearest_square,
    numpy_arrays,
    share_of,
    sigma_median,
    standard_error,
    train_test_gap,
    weighted_quantiles,
)
from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.noise_collapse import noise_collapse
from vaexp.models import GMM, LinearGaussian
from vaexp.models.absent import Absent
from vaexp.models.covariances import SingularCovariance

FEW = 10_000  # training images that a mixture with another floor is evaluated on
NO_FLOOR = "the floor of the covariances is 0"


@torch.no_grad()
def covariance_collapse(
    model: GMM | LinearGaussian,
    x: Tensor,
    label: Tensor,  # noqa: ARG001
    train: Iterable[tuple[Tensor, Tensor]],
    *,
    floor: float,
) -> Evidence:
    """The questions of ``sigma_collapse``, to the covariances of a model.

    x (N, D) are test images; their label is not looked at. ``train`` gives blocks of the training
    images and is gone through once. ``floor`` is that of the covariances, in units of x squared.

    Sigma is here the standard deviation of a pixel in a component. Its means and quantiles are over
    the responsibilities of the test images. Entries: ``smallest_sigma``, ``sigma_median``,
    ``pixels_at_floor``, ``log_prob_at_floor`` where pixels are independent given z and else
    ``eigenvalues_at_floor``, ``singleton_components``, ``train_test_gap``, ``floor_slope``,
    ``nearest_train_distance``. Arrays: those of ``sigma_collapse``, and for each component
    ``smallest_sigma``, ``effective_count``, ``nearest_train_distance`` (K,) and ``eigenvalues``
    (K, D), or (1, D) where all share one covariance. The curve is that of ln p(x) of the test
    images and of the first FEW training images, at the floors that leave all covariances positive
    definite.

    All that is of mixtures; for a linear-Gaussian model see ``noise_collapse``. Raises
    SingularCovariance.
    """
    match model:
        case GMM():
            return _mixture_collapse(model, x, train, floor)
        case LinearGaussian():
            return noise_collapse(model, x, train, floor=floor)
        case _:
            assert_never(model)


@dataclass(frozen=True)
class _Mixture:
    """A mixture, its test images, and what one pass through the training images gives; float64."""

    model: GMM
    floor: float
    """The floor of the covariances, in units of x squared."""
    x: Tensor
    """Test images, (N, D)."""
    log_prob: Tensor
    """ln p(x) of the test images, (N,), nats."""
    r: Tensor
    """Their responsibilities, (N, K)."""
    variance: Tensor
    """The variances of pixels in components, (K, D)."""
    eigenvalues: Tensor
    """Those of the covariances, ascending, (K, D); (1, D) where all components share one."""
    first_train: Tensor
    """The first training images, (M, D), M <= FEW."""
    log_prob_train: Tensor
    """ln p(x) of all training images, nats."""
    distance: Tensor
    """Root-mean-square distance per pixel of each mean to the nearest training image, (K,)."""

    @classmethod
    def of(
        cls, model: GMM, x: Tensor, train: Iterable[tuple[Tensor, Tensor]], floor: float
    ) -> "_Mixture":
        """With ``train`` gone through once."""
        gaussians = model.gaussians
        k, d = gaussians.mean.shape
        joint = model.log_joint(x)
        log_prob = joint.logsumexp(1)
        r = (joint - log_prob[:, None]).exp()
        variance, eigenvalues = gaussians.variance().double(), gaussians.eigenvalues()
        squares = eigenvalues.new_full((k,), math.inf)
        log_prob_train, first_train = [], []
        count = 0
        for images, _ in train:
            log_prob_train.append(model.log_prob(images))
            squares = torch.minimum(squares, nearest_square(gaussians.mean, images))
            if count < FEW:
                first_train.append(images[: FEW - count])
            count += len(images)
        return cls(
            model,
            floor,
            x,
            log_prob,
            r,
            variance,
            eigenvalues,
            torch.cat(first_train),
            torch.cat(log_prob_train),
            (squares / d).sqrt(),
        )

    @property
    def smallest(self) -> Tensor:
        """The smallest eigenvalue of each component's covariance, (K,)."""
        return self.eigenvalues[:, 0].expand(len(self.variance))

    @property
    def effective_count(self) -> Tensor:
        """The training images that each component holds, (K,)."""
        return self.model.weight.double() * len(self.log_prob_train)

    @property
    def facts(self) -> dict[str, Any]:
        """What stands beside a share of what is near the floor."""
        return {"covariance_floor": self.floor, "kind": "exact", "near_floor": NEAR}


def _mixture_collapse(
    model: GMM, x: Tensor, train: Iterable[tuple[Tensor, Tensor]], floor: float
) -> Evidence:
    mixture = _Mixture.of(model, x, train, floor)
    parts = [_sigma(mixture), _beside_training_images(mixture), _singletons(mixture)]
    if model.gaussians.independent_pixels:
        parts.append(_log_prob_at_floor(mixture))
    else:
        parts.append(_eigenvalues_at_floor(mixture))
    parts += [_pixels_at_floor(mixture), _floor_curve(mixture)]
    evidence = Evidence()
    for part in parts:
        evidence.entries.update(part.entries)
        evidence.arrays.update(part.arrays)
        evidence.absent.update(part.absent)
    return evidence


def _sigma(mixture: _Mixture) -> Evidence:
    """``smallest_sigma``, ``sigma_median``, and the arrays of sigma."""
    smallest, sigma = mixture.smallest, mixture.variance.sqrt()
    weight = mixture.r.mean(0)[:, None].expand_as(sigma)
    quantiles = weighted_quantiles(sigma.flatten(), weight.flatten(), LEVELS)
    median, arrays = sigma_median(quantiles, len(mixture.x), {"kind": "exact"})
    lowest = Estimate(
        smallest.min().sqrt().item(),
        "units of x",
        len(mixture.log_prob_train),
        facts={"covariance_floor": mixture.floor, "kind": "exact"},
    )
    arrays |= numpy_arrays(
        sigma_map=mixture.r.mean(0) @ sigma,
        smallest_sigma=smallest.sqrt(),
        eigenvalues=mixture.eigenvalues,
        effective_count=mixture.effective_count,
    )
    return Evidence({"smallest_sigma": lowest, "sigma_median": median}, arrays)


def _beside_training_images(mixture: _Mixture) -> Evidence:
    """``train_test_gap``, and how near the most singular components lie to a training image."""
    distance = mixture.distance
    lowest = most_singular(mixture.smallest, mixture.effective_count, mixture.floor)
    gap = train_test_gap(mixture.log_prob_train, mixture.log_prob, {"difference_of": "log_prob"})
    nearest = Estimate(
        distance[lowest].quantile(0.5).item(),
        "units of x",
        len(mixture.log_prob_train),
        facts={
            "control": distance.quantile(0.5).item(),
            "lowest": len(lowest),
            "of_components": len(distance),
            "statistic": "median",
        },
    )
    return Evidence(
        {"train_test_gap": gap, "nearest_train_distance": nearest},
        numpy_arrays(nearest_train_distance=distance),
    )


def _singletons(mixture: _Mixture) -> Evidence:
    """``singleton_components``: those of too few images to vary in every direction."""
    gaussians, count = mixture.model.gaussians, mixture.effective_count
    needed = gaussians.images_that_vary(gaussians.size)
    if isinstance(needed, Absent):
        return Evidence(absent={"singleton_components": needed.reason})
    singletons = count < needed * (1 - 1e-6)  # weights may be float32
    entry = Estimate(
        float(singletons.sum().item()),
        "components",
        len(mixture.log_prob_train),
        facts={
            "fewer_than": needed,
            "of_components": len(count),
            "smallest_count": count.min().item(),
            "kind": "exact",
        },
    )
    return Evidence({"singleton_components": entry})


def _log_prob_at_floor(mixture: _Mixture) -> Evidence:
    """``log_prob_at_floor``, for pixels that are independent given z."""
    near = mixture.variance < NEAR**2 * mixture.floor
    at_floor, log_prob_map = pixel_log_prob(
        mixture.model.gaussians.mean, mixture.variance, mixture.r, mixture.x, near
    )
    absent = {"eigenvalues_at_floor": "they are the variances of pixels; see pixels_at_floor"}
    arrays = numpy_arrays(log_prob_map=log_prob_map)
    if mixture.floor == 0:
        return Evidence({}, arrays, absent | {"log_prob_at_floor": NO_FLOOR})
    share = share_of(at_floor.mean().item(), log_prob_map.sum().item())
    entry = Measure(at_floor.cpu(), "nats", facts=mixture.facts | share, likelihood="derived")
    return Evidence({"log_prob_at_floor": entry}, arrays, absent)


def _eigenvalues_at_floor(mixture: _Mixture) -> Evidence:
    """``eigenvalues_at_floor``, for pixels that are not independent given z."""
    absent = {
        "log_prob_at_floor": "pixels are not independent given z, so no pixel has a part of its "
        "own; see eigenvalues_at_floor"
    }
    if mixture.floor == 0:
        return Evidence(absent=absent | {"eigenvalues_at_floor": NO_FLOOR})
    near = (mixture.eigenvalues < NEAR**2 * mixture.floor).double().mean(1)
    share = mixture.r @ near.expand(len(mixture.variance))
    entry = Measure(share.cpu(), "share", facts=mixture.facts)
    return Evidence({"eigenvalues_at_floor": entry}, absent=absent)


def _pixels_at_floor(mixture: _Mixture) -> Evidence:
    """``pixels_at_floor``, and for each pixel how often it is near the floor."""
    if mixture.floor == 0:
        return Evidence(absent={"pixels_at_floor": NO_FLOOR})
    near = (mixture.variance < NEAR**2 * mixture.floor).double()
    entry = Measure((mixture.r @ near.mean(1)).cpu(), "share", facts=mixture.facts)
    return Evidence({"pixels_at_floor": entry}, numpy_arrays(floor_map=mixture.r.mean(0) @ near))


def _floor_curve(mixture: _Mixture) -> Evidence:
    """ln p(x) under other floors, and ``floor_slope``, what half the floor adds to it.

    A smaller floor leaves no covariance below Sigma times other / floor, so that halving it adds at
    most D/2 ln 2 nats.
    """
    if mixture.floor == 0:
        return Evidence(absent={"floor_slope": NO_FLOOR})
    model, floor = mixture.model, mixture.floor
    as_trained = [mixture.log_prob, mixture.log_prob_train[: len(mixture.first_train)]]
    floors, curves = [], []
    entries: dict[str, Measure | Estimate] = {}
    absent: dict[str, str] = {}
    for factor in FACTORS:
        values = as_trained
        if factor != 1:
            try:
                moved = model.with_floor(floor, factor * floor)
                values = [moved.log_prob(images) for images in (mixture.x, mixture.first_train)]
            except SingularCovariance as error:
                if factor == FACTORS[HALVED]:
                    precision = str(model.gaussians.mean.dtype).split(".")[1]
                    absent["floor_slope"] = (
                        f"with half the floor the covariance of component {error.component} is "
                        f"not positive definite in {precision}"
                    )
                continue
        floors.append(factor * floor)
        curves.append([value.mean().item() for value in values])
        if factor == FACTORS[HALVED]:
            test, train = (new - old for new, old in zip(values, as_trained, strict=True))
            entries["floor_slope"] = _floor_slope(test, train, mixture)
    curve = torch.tensor(curves, dtype=torch.float64)
    arrays = numpy_arrays(
        floor_curve_floors=torch.tensor(floors, dtype=torch.float64),
        floor_curve_test=curve[:, 0],
        floor_curve_train=curve[:, 1],
    )
    return Evidence(entries, arrays, absent)


def _floor_slope(test: Tensor, train: Tensor, mixture: _Mixture) -> Measure:
    """From what half the floor adds to ln p(x) of test images (N,) and training images (M,)."""
    return Measure(
        test.cpu(),
        "nats",
        likelihood="derived",
        facts={
            "covariance_floor": mixture.floor,
            "kind": "exact",
            "floor_of": "variance",
            "train": train.mean().item(),
            "train_se": standard_error(train),
            "train_images": len(train),
            "at_most": mixture.x.shape[1] * math.log(2) / 2,
        },
    )


def pixel_log_prob(
    mean: Tensor, variance: Tensor, r: Tensor, x: Tensor, near: Tensor
) -> tuple[Tensor, Tensor]:
    """E ln N(x_j; mu_kj, variance_kj) over the responsibilities r (N, K), summed in two ways.

    The first is for each image the sum over those pixels that are ``near`` (K, D), (N,). The second
    is for each pixel the mean over images, (D,). Both are float64 and in nats; mean and variance
    are (K, D), x is (N, D). Squares are x^2 - 2 x mu + mu^2 in matrix products, which in float64
    lose little where x is of order 1 and variances are far above 1e-12.
    """
    mean, variance = mean.double(), variance.double()
    constant = -0.5 * ((2 * math.pi * variance).log() + mean.square() / variance)
    slopes = (mean / variance, -0.5 / variance)
    linear, square = (torch.where(near, slope, 0).T for slope in slopes)
    offset = torch.where(near, constant, 0).sum(1)
    per_image, total = [], torch.zeros_like(mean)
    for block, weight in zip(x.split(ROWS), r.split(ROWS), strict=True):
        images = block.double()
        squares = images.square()
        per_image.append((weight * (images @ linear + squares @ square + offset)).sum(1))
        total += slopes[0] * (weight.T @ images) + slopes[1] * (weight.T @ squares)
    per_pixel = (total + constant * r.sum(0)[:, None]).sum(0) / len(x)
    return torch.cat(per_image), per_pixel


def most_singular(smallest: Tensor, effective_count: Tensor, floor: float) -> Tensor:
    """The indices of the tenth of the K components, at least one, nearest to a singularity.

    These have the smallest of the ``smallest`` eigenvalues (K,), where those within 1 % of the
    floor count as equal. Among equals the ones that hold the fewest images, by
    ``effective_count`` (K,), come first, as in the figure of the training history.
    """
    levelled = smallest.clamp(min=1.01 * floor)
    by_count = effective_count.argsort(stable=True)
    order = by_count[levelled[by_count].argsort(stable=True)]
    return order[: max(1, len(order) // 10)]
