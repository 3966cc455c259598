"""How close a mixture's covariances come to their floor. ``collapse`` explains why that matters."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.collapse import (
    FACTORS,
    HALVED,
    LEVELS,
    NEAR,
    ROWS,
    floor_slope,
    nearest_square,
    numpy_arrays,
    sigma_median,
    total_and_share,
    train_test_gap,
    weighted_quantiles,
)
from vaexp.evaluation.measure import Estimate, Evidence, Measure, merge
from vaexp.evaluation.statistics import median
from vaexp.models import GMM
from vaexp.models.absent import Absent
from vaexp.models.covariances import SingularCovariance

FEW = 10_000  # training images that mixtures with other floors are evaluated on, at most
NO_FLOOR = "the floor of the covariances is 0"


@torch.no_grad()
def covariance_collapse(
    model: GMM, x: Tensor, train: Iterable[tuple[Tensor, Tensor]], *, floor: float
) -> Evidence:
    """How close the covariances come to their floor, what that adds, and for which images.

    x (N, D) are test images. ``train`` gives blocks of the training images (n, D) and their labels,
    and is gone through once. ``floor`` is the floor of the covariances, in units of x squared.

    Sigma is the standard deviation of a pixel in a component. Its means and quantiles weight the
    components by the responsibilities of the test images. Entries: ``smallest_sigma``,
    ``sigma_median``, ``pixels_at_floor``, ``singleton_components``, ``train_test_gap``,
    ``floor_slope``, ``nearest_train_distance``, and ``log_prob_at_floor`` if pixels are independent
    given z, else ``eigenvalues_at_floor``. Arrays: those of ``sigma_collapse``; for each component
    ``smallest_sigma``, ``effective_count`` and ``nearest_train_distance`` (K,); ``eigenvalues``
    (K, D), or (1, D) if all components share one covariance. The curve over floors is the mean of
    ln p(x) of the test images and of the first FEW training images. It has only the floors that
    leave all covariances positive definite.

    Raises SingularCovariance if a covariance of the model itself is not positive definite.
    """
    mixture = _Mixture.of(model, x, train, floor)
    parts = [_sigma(mixture), _beside_training_images(mixture), _singletons(mixture)]
    if model.gaussians.independent_pixels:
        parts.append(_log_prob_at_floor(mixture))
    else:
        parts.append(_eigenvalues_at_floor(mixture))
    return merge([*parts, _pixels_at_floor(mixture), _floor_curve(mixture)])


@dataclass(frozen=True)
class _Mixture:
    """A mixture, its test images, and what one pass over the training images gives, in float64."""

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
    """The variance of each pixel in each component, (K, D)."""
    eigenvalues: Tensor
    """The eigenvalues of the covariances, ascending, (K, D), or (1, D) if components share one."""
    first_train: Tensor
    """The first training images, (M, D) with M <= FEW."""
    log_prob_train: Tensor
    """ln p(x) of all training images, nats."""
    distance: Tensor
    """The distance of each mean to the nearest training image, root mean square per pixel, (K,)."""

    @classmethod
    def of(
        cls, model: GMM, x: Tensor, train: Iterable[tuple[Tensor, Tensor]], floor: float
    ) -> "_Mixture":
        """Evaluate the mixture on x (N, D), and go through ``train`` once."""
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
        """How many training images each component holds, by its weight, (K,)."""
        return self.model.weight.double() * len(self.log_prob_train)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of a measure of what is near the floor."""
        return {"covariance_floor": self.floor, "near_floor": NEAR}


def _sigma(mixture: _Mixture) -> Evidence:
    """``smallest_sigma``, ``sigma_median``, and the arrays that describe sigma."""
    smallest, sigma = mixture.smallest, mixture.variance.sqrt()
    weight = mixture.r.mean(0)[:, None].expand_as(sigma)
    quantiles = weighted_quantiles(sigma.flatten(), weight.flatten(), LEVELS)
    middle, arrays = sigma_median(quantiles, len(mixture.x), {}, kind="exact")
    lowest = Estimate(
        smallest.min().sqrt().item(),
        "units of x",
        len(mixture.log_prob_train),
        facts={"covariance_floor": mixture.floor},
        kind="exact",
    )
    arrays |= numpy_arrays(
        sigma_map=mixture.r.mean(0) @ sigma,
        smallest_sigma=smallest.sqrt(),
        eigenvalues=mixture.eigenvalues,
        effective_count=mixture.effective_count,
    )
    return Evidence({"smallest_sigma": lowest, "sigma_median": middle}, arrays)


def _beside_training_images(mixture: _Mixture) -> Evidence:
    """``train_test_gap``, and how close the most singular components lie to a training image."""
    distance = mixture.distance
    lowest = most_singular(mixture.smallest, mixture.effective_count, mixture.floor)
    gap = train_test_gap(mixture.log_prob_train, mixture.log_prob, {"difference_of": "log_prob"})
    nearest = Estimate(
        median(distance[lowest]),
        "units of x",
        len(mixture.log_prob_train),
        facts={
            "control": median(distance),
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
    """``singleton_components``: the components with too few images to vary in all directions."""
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
        },
        kind="exact",
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
    share = total_and_share(at_floor.mean().item(), log_prob_map.sum().item())
    entry = Measure(
        at_floor.cpu(), "nats", facts=mixture.facts | share, kind="exact", likelihood="derived"
    )
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
    entry = Measure(share.cpu(), "share", facts=mixture.facts, kind="exact")
    return Evidence({"eigenvalues_at_floor": entry}, absent=absent)


def _pixels_at_floor(mixture: _Mixture) -> Evidence:
    """``pixels_at_floor``, and for each pixel how often it is near the floor."""
    if mixture.floor == 0:
        return Evidence(absent={"pixels_at_floor": NO_FLOOR})
    near = (mixture.variance < NEAR**2 * mixture.floor).double()
    share = mixture.r @ near.mean(1)
    entry = Measure(share.cpu(), "share", facts=mixture.facts, kind="exact")
    return Evidence({"pixels_at_floor": entry}, numpy_arrays(floor_map=mixture.r.mean(0) @ near))


def _floor_curve(mixture: _Mixture) -> Evidence:
    """The mean of ln p(x) under other floors, and ``floor_slope``: what half the floor adds.

    No covariance under a smaller floor is below Sigma times smaller floor / floor. Half the floor
    therefore adds at most D/2 ln 2 nats.
    """
    if mixture.floor == 0:
        return Evidence(absent={"floor_slope": NO_FLOOR})
    floor = mixture.floor
    as_trained = [mixture.log_prob, mixture.log_prob_train[: len(mixture.first_train)]]
    floors, curves = [], []
    entries: dict[str, Measure | Estimate] = {}
    absent: dict[str, str] = {}
    for factor in FACTORS:
        values = as_trained
        if factor != 1:
            try:
                moved = mixture.model.with_floor(floor, factor * floor)
                values = [moved.log_prob(images) for images in (mixture.x, mixture.first_train)]
            except SingularCovariance as error:
                if factor == FACTORS[HALVED]:
                    absent["floor_slope"] = _not_positive_definite(error, mixture)
                continue
        floors.append(factor * floor)
        curves.append([value.mean().item() for value in values])
        if factor == FACTORS[HALVED]:
            test, train = (new - old for new, old in zip(values, as_trained, strict=True))
            entries["floor_slope"] = floor_slope(
                test,
                train,
                {"covariance_floor": floor, "floor_of": "variance", "train_images": len(train)},
                at_most=mixture.x.shape[1] * math.log(2) / 2,
                kind="exact",
            )
    curve = torch.tensor(curves, dtype=torch.float64)
    arrays = numpy_arrays(
        floor_curve_floors=torch.tensor(floors, dtype=torch.float64),
        floor_curve_test=curve[:, 0],
        floor_curve_train=curve[:, 1],
    )
    return Evidence(entries, arrays, absent)


def _not_positive_definite(error: SingularCovariance, mixture: _Mixture) -> str:
    precision = str(mixture.model.gaussians.mean.dtype).split(".")[1]
    return (
        f"with half the floor the covariance of component {error.component} is not positive "
        f"definite in {precision}"
    )


def pixel_log_prob(
    mean: Tensor, variance: Tensor, r: Tensor, x: Tensor, near: Tensor
) -> tuple[Tensor, Tensor]:
    """E ln N(x_j; mu_kj, variance_kj) over the responsibilities r (N, K), summed in two ways.

    The first result (N,) is the sum over the pixels and components that are ``near`` (K, D), for
    each image x (N, D). The second (D,) is the mean over images, for each pixel. Both are float64
    and in nats; mean and variance are (K, D). Squares are computed as x^2 - 2 x mu + mu^2 in matrix
    products. In float64 this loses few digits if x is of order 1 and variances are far above 1e-12.
    """
    mean, variance = mean.double(), variance.double()
    constant = -0.5 * ((2 * math.pi * variance).log() + mean.square() / variance)
    slopes = (mean / variance, -0.5 / variance)
    linear, square = (torch.where(near, slope, 0).T for slope in slopes)
    offset = torch.where(near, constant, 0).sum(1)
    per_image, total = [], torch.zeros_like(mean)
    for block, weight in blocks(x, r, rows=ROWS):
        images = block.double()
        squares = images.square()
        per_image.append((weight * (images @ linear + squares @ square + offset)).sum(1))
        total += slopes[0] * (weight.T @ images) + slopes[1] * (weight.T @ squares)
    per_pixel = (total + constant * r.sum(0)[:, None]).sum(0) / len(x)
    return torch.cat(per_image), per_pixel


def most_singular(smallest: Tensor, effective_count: Tensor, floor: float) -> Tensor:
    """The indices of the components closest to a singularity: a tenth of all K, but at least one.

    They are those with the lowest ``smallest`` eigenvalue (K,). Eigenvalues within 1 % of the floor
    count as equal. Among equals the components that hold the fewest images come first, by their
    ``effective_count`` (K,), as in the figure of the training history.
    """
    levelled = smallest.clamp(min=1.01 * floor)
    by_count = effective_count.argsort(stable=True)
    order = by_count[levelled[by_count].argsort(stable=True)]
    return order[: max(1, len(order) // 10)]
