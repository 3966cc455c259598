"""How near a mixture's covariances come to their floor; ``collapse`` says why that matters."""

import math
from collections.abc import Iterable
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
from vaexp.models.gaussians import (
    Diag,
    Full,
    Gaussians,
    LowRank,
    SingularCovariance,
    Spherical,
    Tied,
)

FEW = 10_000  # training images that a mixture with another floor is evaluated on


@torch.no_grad()
def covariance_collapse(
    model: GMM | LinearGaussian,
    x: Tensor,
    label: Tensor,  # noqa: ARG001
    train: Iterable[tuple[Tensor, Tensor]],
    *,
    floor: float,
) -> Evidence:
    """What ``sigma_collapse`` asks, of covariances.

    x (N, D); label is not looked at; train: blocks of the training images, gone through once;
    ``floor``: that of the covariances, in units of x squared. Sigma is here the standard deviation
    of a pixel in a component, and its means and quantiles are over the responsibilities of the test
    images. Entries: ``smallest_sigma``, ``sigma_median``, ``pixels_at_floor``,
    ``log_prob_at_floor`` (diag, spherical) or ``eigenvalues_at_floor`` (full, tied, lowrank),
    ``singleton_components``, ``train_test_gap``, ``floor_slope``, ``nearest_train_distance``.
    Arrays: as for ``sigma_collapse``, and of each component ``smallest_sigma``,
    ``effective_count``, ``nearest_train_distance`` (K,) and ``eigenvalues`` (K, D), of tied
    covariances (1, D). The curve, of ln p(x), has the floors that leave all covariances positive
    definite, and the first FEW training images.

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


def _mixture_collapse(
    model: GMM, x: Tensor, train: Iterable[tuple[Tensor, Tensor]], floor: float
) -> Evidence:
    gaussians = model.gaussians
    k, d = gaussians.mean.shape
    joint = model.log_joint(x)
    log_prob = joint.logsumexp(1)
    r = (joint - log_prob[:, None]).exp()
    variance, eigenvalues = gaussians.variance().double(), spectrum(gaussians)
    smallest = eigenvalues[:, 0].expand(k)

    squares = smallest.new_full((k,), math.inf)
    log_prob_train, kept = [], []
    count = 0
    for images, _ in train:
        log_prob_train.append(model.log_prob(images))
        squares = torch.minimum(squares, nearest_square(gaussians.mean, images))
        if count < FEW:
            kept.append(images[: FEW - count])
        count += len(images)
    few, every = torch.cat(kept), torch.cat(log_prob_train)

    sigma, arrays = _sigma_of_components(variance, r, {"kind": "exact"})
    held = model.weight.double() * count
    distance = (squares / d).sqrt()
    arrays |= numpy_arrays(
        sigma_map=r.mean(0) @ variance.sqrt(),
        smallest_sigma=smallest.sqrt(),
        eigenvalues=eigenvalues,
        effective_count=held,
        nearest_train_distance=distance,
    )
    lowest = most_singular(smallest, held, floor)
    entries: dict[str, Measure | Estimate] = {
        "smallest_sigma": Estimate(
            smallest.min().sqrt().item(),
            "units of x",
            count,
            facts={"covariance_floor": floor, "kind": "exact"},
        ),
        "sigma_median": sigma,
        "train_test_gap": train_test_gap(every, log_prob, {"difference_of": "log_prob"}),
        "nearest_train_distance": Estimate(
            distance[lowest].quantile(0.5).item(),
            "units of x",
            count,
            facts={
                "control": distance.quantile(0.5).item(),
                "lowest": len(lowest),
                "of_components": k,
                "statistic": "median",
            },
        ),
    }
    absent: dict[str, str] = {}
    fewer = images_that_vary(gaussians)
    if fewer is None:
        absent["singleton_components"] = "the covariance is of the images of all components"
    else:
        singletons = held < fewer * (1 - 1e-6)  # weights may be float32
        entries["singleton_components"] = Estimate(
            float(singletons.sum().item()),
            "components",
            count,
            facts={
                "fewer_than": fewer,
                "of_components": k,
                "smallest_count": held.min().item(),
                "kind": "exact",
            },
        )
    if isinstance(gaussians, Diag | Spherical):
        absent["eigenvalues_at_floor"] = "they are the variances of pixels; see pixels_at_floor"
        at_floor, log_prob_map = pixel_log_prob(
            gaussians.mean, variance, r, x, variance < NEAR**2 * floor
        )
        arrays |= numpy_arrays(log_prob_map=log_prob_map)
    else:
        absent["log_prob_at_floor"] = (
            "pixels are not independent given z, so no pixel has a part of its own; "
            "see eigenvalues_at_floor"
        )
    if floor == 0:
        names = ("pixels_at_floor", "log_prob_at_floor", "eigenvalues_at_floor", "floor_slope")
        absent = dict.fromkeys(names, "the floor of the covariances is 0") | absent
        return Evidence(entries, arrays, absent)

    beside = {"covariance_floor": floor, "kind": "exact", "near_floor": NEAR}
    near = (variance < NEAR**2 * floor).double()
    arrays |= numpy_arrays(floor_map=r.mean(0) @ near)
    entries["pixels_at_floor"] = Measure((r @ near.mean(1)).cpu(), "share", facts=beside)
    if isinstance(gaussians, Diag | Spherical):
        share = share_of(at_floor.mean().item(), log_prob_map.sum().item())
        entries["log_prob_at_floor"] = Measure(at_floor.cpu(), "nats", facts=beside | share)
    else:
        share_near = (eigenvalues < NEAR**2 * floor).double().mean(1).expand(k)
        entries["eigenvalues_at_floor"] = Measure((r @ share_near).cpu(), "share", facts=beside)
    return _with_floor_curve(
        Evidence(entries, arrays, absent), model, (x, log_prob), (few, every[: len(few)]), floor
    )


def _with_floor_curve(
    evidence: Evidence,
    model: GMM,
    test: tuple[Tensor, Tensor],
    train: tuple[Tensor, Tensor],
    floor: float,
) -> Evidence:
    """With ``floor_slope`` and the curve, of images and their ln p(x) as trained."""
    floors, curves, entries, absent = [], [], dict(evidence.entries), dict(evidence.absent)
    for factor in FACTORS:
        values = [test[1], train[1]]
        if factor != 1:
            try:
                moved = with_floor(model, floor, factor * floor)
                values = [moved.log_prob(images) for images in (test[0], train[0])]
            except SingularCovariance as error:
                if factor == FACTORS[HALVED]:
                    absent["floor_slope"] = (
                        f"with half the floor the covariance of component {error.component} is "
                        f"not positive definite in {_name(model.gaussians.mean.dtype)}"
                    )
                continue
        floors.append(factor * floor)
        curves.append([value.mean().item() for value in values])
        if factor == FACTORS[HALVED]:
            entries["floor_slope"] = Measure(
                (values[0] - test[1]).cpu(),
                "nats",
                facts={
                    "covariance_floor": floor,
                    "kind": "exact",
                    "floor_of": "variance",
                    "train": (values[1] - train[1]).mean().item(),
                    "train_se": standard_error(values[1] - train[1]),
                    "train_images": len(train[0]),
                    "at_most": test[0].shape[1] * math.log(2) / 2,
                },
            )
    curve = torch.tensor(curves, dtype=torch.float64)
    arrays = evidence.arrays | numpy_arrays(
        floor_curve_floors=torch.tensor(floors, dtype=torch.float64),
        floor_curve_test=curve[:, 0],
        floor_curve_train=curve[:, 1],
    )
    return Evidence(entries, arrays, absent)


def with_floor(model: GMM, floor: float, other: float) -> GMM:
    """The same mixture, had the M-step that it came from had another floor of its covariances.

    Sigma - floor I + other I. Of lowrank covariances, where the floor is the least sigma^2
    (``fitting.gmm.m_step``), those that it holds move to ``other``, all the way: an M-step would
    stop where the images' own sigma^2 is above it, which the model no longer knows. A smaller floor
    is no less than Sigma times other / floor, so that halving it adds at most D/2 ln 2 nats to
    ln p(x).
    """
    old, more = model.gaussians, other - floor
    match old:
        case Full():
            covariance = old.covariance.clone()
            covariance.diagonal(dim1=1, dim2=2).add_(more)
            new: Gaussians = Full(old.mean, covariance)
        case Tied():
            covariance = old.covariance.clone()
            covariance.diagonal().add_(more)
            new = Tied(old.mean, covariance)
        case Diag():
            new = Diag(old.mean, old.variances + more)
        case Spherical():
            new = Spherical(old.mean, old.variances + more)
        case LowRank():
            held = old.variances <= floor * (1 + 1e-6)  # rounding
            variances = torch.where(held, other, old.variances).clamp(min=other)
            new = LowRank(old.mean, old.factors, variances.to(old.variances))
        case _:
            assert_never(old)
    return GMM(model.weight, new)


def images_that_vary(gaussians: Gaussians) -> int | None:
    """How many images a component needs so that its covariance is not singular but for the floor.

    n images vary in n - 1 directions, of which W of lowrank covariances takes q and leaves sigma^2
    the rest. None for tied covariances, which are of the images of all components.
    """
    match gaussians:
        case Full():
            return gaussians.mean.shape[1] + 1
        case LowRank():
            return gaussians.factors.shape[2] + 2
        case Diag() | Spherical():
            return 2
        case Tied():
            return None
    assert_never(gaussians)


def spectrum(gaussians: Gaussians) -> Tensor:
    """The eigenvalues of the covariances, ascending, (K, D) float64; of tied ones (1, D)."""
    match gaussians:
        case Full():
            each = [
                torch.linalg.eigvalsh(covariance.double()) for covariance in gaussians.covariance
            ]
            return torch.stack(each)
        case Tied():
            return torch.linalg.eigvalsh(gaussians.covariance.double())[None]
        case LowRank():
            d, q = gaussians.factors.shape[1:]
            rest = gaussians.variances.double()[:, None].expand(-1, d - q)
            return torch.cat([rest, torch.linalg.eigvalsh(gaussians.inner)], 1)
        case Diag() | Spherical():
            return gaussians.variance().double().sort(1).values
        case _:
            assert_never(gaussians)


def pixel_log_prob(
    mean: Tensor, variance: Tensor, r: Tensor, x: Tensor, near: Tensor
) -> tuple[Tensor, Tensor]:
    """E ln N(x_j; mu_kj, variance_kj) over the responsibilities r (N, K), of two kinds, float64.

    For each image the sum over the pixels ``near`` (K, D), (N,); for each pixel the mean over
    images, (D,). mean, variance (K, D), x (N, D). As x^2 - 2 x mu + mu^2 in matrix products, which
    in float64 lose little where x is of order 1 and variances are far above 1e-12.
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


def most_singular(smallest: Tensor, held: Tensor, floor: float) -> Tensor:
    """The tenth of the K components, at least one, that are nearest to a singularity: indices.

    By their smallest eigenvalues (K,); those within 1 % of the floor are equal, and among equals
    the ones that hold the fewest images (K,) come first, as in the figure of the training history.
    """
    levelled = smallest.clamp(min=1.01 * floor)
    by_count = held.argsort(stable=True)
    order = by_count[levelled[by_count].argsort(stable=True)]
    return order[: max(1, len(order) // 10)]


def _sigma_of_components(
    variance: Tensor, r: Tensor, facts: dict[str, Any]
) -> tuple[Estimate, dict[str, Any]]:
    weight = r.mean(0)[:, None].expand_as(variance)
    quantiles = weighted_quantiles(variance.sqrt().flatten(), weight.flatten(), LEVELS)
    return sigma_median(quantiles, len(r), facts)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).split(".")[1]
