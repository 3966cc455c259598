"""Does sigma of a VAE collapse as the covariances of a Gaussian mixture do?

The likelihood of a Gaussian grows without bound where its variance falls to 0 on an image: of
mixtures Bishop 2006, section 9.2.1; of VAEs Mattei and Frellsen 2018, Leveraging the exact
likelihood of deep latent variable models. What stops it is a floor. Both models get the same
questions: how much of them lies at the floor, what it adds to the likelihood, what a lower floor
would add, and whether test images share in it. Letters in shapes: N test images, D pixels, K
components, F floors. Nats per image, summed over pixels.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.measure import Estimate, Evidence, Measure, Moments
from vaexp.models import GMM, PPCA, VAE
from vaexp.models.gaussians import (
    Diag,
    Full,
    Gaussians,
    LowRank,
    SingularCovariance,
    Spherical,
    Tied,
)
from vaexp.models.likelihoods import GaussianHead

IMAGES_PER_BLOCK = 500  # decoded at once
ROWS = 1_000  # images compared with others at once
NEAR = 2.0  # sigma is near its floor where it is less than so many times the floor
FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25)  # floors of the curve, in units of the one trained with
AS_TRAINED, HALVED = FACTORS.index(1.0), FACTORS.index(0.5)
LOWEST = 100  # codes with the smallest sigma whose mu(z) is looked up among the training images
FEW = 10_000  # training images that a mixture with another floor is evaluated on
LEVELS = torch.linspace(0, 1, 101, dtype=torch.float64)
BINS, WIDTH = 20_000, 0.002  # of ln sigma, from the floor on

AT_FLOOR = ("pixels_at_floor", "log_prob_at_floor", "floor_slope")


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

    A fixed sigma has no floor. Of likelihoods without sigma there is the gap alone. Raises
    ValueError where ``floor`` is not the model's.
    """
    head = model.likelihood
    if not isinstance(head, GaussianHead):
        return _gap_alone(model, x, label, train, draws)
    learned = head.sigma_mode != "fixed"
    if learned and head.floor != floor:
        raise ValueError(f"sigma has the floor {head.floor:g}, not {floor:g}")
    least = floor if learned else head.get_buffer("sigma").item()
    found = _decode_test(model, x, label, least, draws)

    points = x.new_empty(0, x.shape[1], dtype=torch.float64)
    chosen = control = x.new_empty(0, dtype=torch.int64)
    varies = head.sigma_mode in ("shared", "pixel")
    if varies:
        chosen = found.mean_sigma.argsort(stable=True)[:LOWEST]
        control = torch.randperm(len(x), device=x.device)[:LOWEST]
        rows = torch.cat([chosen, control])
        points = model.decode(model.encode(x[rows], label[rows]).mean, label[rows]).mean
        points = torch.cat([points.double(), x[chosen].double()])
    squares, elbos, curves = x.new_full((len(points),), math.inf, dtype=torch.float64), [], []
    for images, labels in train:
        squares = torch.minimum(squares, nearest_square(points, images))
        for xs, label_s in _blocks(images, labels):
            q = model.encode(xs, label_s)
            p = model.decode(q.sample(), label_s)
            curves.append(log_prob_at_floors(xs, p.mean, p.stddev, least))
            elbos.append(curves[-1][:, AS_TRAINED] - kl_divergence(q, model.prior()).double())
    curve_train = torch.cat(curves).mean(0)

    sigma, arrays = _sigma_of_counts(found, least, {"draws": draws, "kind": "estimate"})
    arrays |= _numpy(sigma_map=found.sigma_map, log_prob_map=found.log_prob_map)
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
        arrays |= _numpy(
            floor_map=found.floor_map,
            floor_curve_floors=floor * torch.tensor(FACTORS, dtype=torch.float64),
            floor_curve_test=found.curve.mean(0),
            floor_curve_train=curve_train,
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
                "control_se": _se(distances[1]),
                "image_distance": distances[2].mean().item(),
                "sigma_lowest": found.mean_sigma[chosen].mean().item(),
                "sigma_control": found.mean_sigma[control].mean().item(),
            },
        )
    else:
        absent["nearest_train_distance"] = "sigma is the same for every z: no code has the smallest"
    return Evidence(entries, arrays, absent)


def _gap_alone(
    model: VAE, x: Tensor, label: Tensor, train: Iterable[tuple[Tensor, Tensor]], draws: int
) -> Evidence:
    blocks = [elbo_measures(model, *block, draws=2)["elbo"].values for block in train]
    elbo = elbo_measures(model, x, label, draws=draws)["elbo"].values
    facts = {"difference_of": "elbo", "draws": draws, "train_draws": 2}
    names = ("sigma_median", *AT_FLOOR, "nearest_train_distance")
    gap = train_test_gap(torch.cat(blocks), elbo, facts)
    return Evidence({"train_test_gap": gap}, absent=dict.fromkeys(names, "p(x|z) has no sigma"))


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
            mean, sigma = p.mean, p.stddev
            near = sigma < NEAR * floor
            each = log_normal(xs, mean, sigma)
            curve = log_prob_at_floors(xs, mean, sigma, floor)
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
    of_slope = {
        "floor_of": "sigma",
        "train": (curve_train[HALVED] - curve_train[AS_TRAINED]).item(),
        "train_draws": 1,
        "at_most": d * math.log(2),
    }
    of_near = facts | {"near_floor": NEAR}
    of_log_prob = of_near | _share(found.log_prob_near.mean().item(), total)
    return {
        "pixels_at_floor": Measure(found.near.cpu(), "share", near, facts=of_near),
        "log_prob_at_floor": Measure(
            found.log_prob_near.cpu(), "nats", log_prob, facts=of_log_prob
        ),
        "floor_slope": Measure(found.slope.cpu(), "nats", slope, facts=facts | of_slope),
    }


def _share(part: float, total: float) -> dict[str, float]:
    """Beside a part of E ln p(x|z): all of it, and the share, which means nothing below 0."""
    return {"total": total} | ({"share_of_total": part / total} if total > 0 else {})


# A Gaussian whose sigma has a floor


def log_normal(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Ln N(x_j; mu_j, sigma_j^2) of each pixel, all of one shape, nats."""
    return -0.5 * ((x - mean) / sigma).square() - sigma.log() - 0.5 * math.log(2 * math.pi)


def log_prob_at_floors(x: Tensor, mean: Tensor, sigma: Tensor, floor: float) -> Tensor:
    """Ln N(x; mu, sigma^2) with sigma's ``floor`` times each of FACTORS, (n, F) float64.

    x, mean, sigma (n, D). sigma = floor + softplus(raw) (``likelihoods.scale_above``), so the same
    weights with another floor have sigma + (other - floor). Halving it adds at most D ln 2 nats, as
    then sigma is at least half of what it was.
    """
    columns = []
    for factor in FACTORS:
        at = sigma if factor == 1 else sigma + (factor - 1) * floor
        squares = ((x - mean) / at).square().sum(1, dtype=torch.float64)
        columns.append(-0.5 * squares - at.log().sum(1, dtype=torch.float64))
    return torch.stack(columns, 1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


def bin_counts(sigma: Tensor, floor: float) -> Tensor:
    """How many of sigma lie in each of BINS steps of WIDTH in ln sigma from ln floor, float64."""
    place = ((sigma.log() - math.log(floor)) / WIDTH).clamp(0, BINS - 1).long()
    return place.flatten().bincount(minlength=BINS).double()


def weighted_quantiles(values: Tensor, weight: Tensor, levels: Tensor) -> Tensor:
    """The smallest of values (M,) up to which lies the share ``levels`` (Q,) of the weight (M,)."""
    values, weight = values[weight > 0].double(), weight[weight > 0].double()
    values, order = values.sort()
    below = weight[order].cumsum(0)
    place = torch.searchsorted(below, levels.to(below) * below[-1] * (1 - 1e-12))
    return values[place.clamp(max=len(values) - 1)]


def _sigma_of_counts(
    found: _Decoded, floor: float, facts: dict[str, Any]
) -> tuple[Estimate, dict[str, Any]]:
    """``sigma_median`` and its arrays, from the counts."""
    steps = torch.arange(BINS, dtype=torch.float64, device=found.counts.device)
    centres = (math.log(floor) + WIDTH * (steps + 0.5)).exp()
    quantiles = weighted_quantiles(centres, found.counts, LEVELS).clamp(*found.ends.tolist())
    quantiles[[0, -1]] = found.ends
    return _sigma_median(quantiles, len(found.rate), facts | {"resolution": WIDTH / 2})


def _sigma_median(
    quantiles: Tensor, n: int, facts: dict[str, Any]
) -> tuple[Estimate, dict[str, Any]]:
    low, median, high = quantiles[[1, 50, 99]].tolist()
    ends = {"q01": low, "q99": high, "min": quantiles[0].item(), "max": quantiles[-1].item()}
    estimate = Estimate(median, "units of x", n, facts=facts | ends)
    return estimate, _numpy(sigma_levels=LEVELS, sigma_quantiles=quantiles)


# Train and test


def train_test_gap(train: Tensor, test: Tensor, facts: dict[str, Any]) -> Estimate:
    """The mean over training images (M,) minus that over test images (N,), nats.

    se^2 is the sum of the squared standard errors of two independent means.
    """
    value = (train.mean() - test.mean()).item()
    errors = (_se(train), _se(test))
    known = [error for error in errors if error is not None]
    se = math.hypot(*known) if len(known) == 2 else None
    beside = {"train": train.mean().item(), "test": test.mean().item(), "train_images": len(train)}
    return Estimate(value, "nats", len(test), se, facts=facts | beside)


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


# Mixtures


@torch.no_grad()
def covariance_collapse(
    model: GMM | PPCA,
    x: Tensor,
    label: Tensor,  # noqa: ARG001
    train: Iterable[tuple[Tensor, Tensor]],
    *,
    floor: float,
) -> Evidence:
    """The same of a mixture's covariances, in closed form, and of the sigma of probabilistic PCA.

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

    Probabilistic PCA has ``smallest_sigma`` and ``train_test_gap``. Raises SingularCovariance.
    """
    match model:
        case GMM():
            return _mixture_collapse(model, x, train, floor)
        case PPCA():
            return _ppca_collapse(model, x, train)
        case _:
            assert_never(model)


def _ppca_collapse(model: PPCA, x: Tensor, train: Iterable[tuple[Tensor, Tensor]]) -> Evidence:
    values = torch.cat([model.log_prob(images) for images, _ in train])
    sigma = model.variance.sqrt().item()
    one = "sigma is one number; see smallest_sigma"
    no_floor = "sigma of probabilistic PCA has no floor"
    return Evidence(
        {
            "smallest_sigma": Estimate(sigma, "units of x", len(values), facts={"kind": "exact"}),
            "train_test_gap": train_test_gap(
                values, model.log_prob(x), {"difference_of": "log_prob"}
            ),
        },
        absent={"sigma_median": one}
        | dict.fromkeys((*AT_FLOOR, "eigenvalues_at_floor"), no_floor)
        | dict.fromkeys(("singleton_components", "nearest_train_distance"), "it has no components"),
    )


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
        kept.append(images[: max(0, FEW - count)])
        count += len(images)
    few, every = torch.cat(kept), torch.cat(log_prob_train)

    sigma, arrays = _sigma_of_components(variance, r, {"kind": "exact"})
    held = model.weight.double() * count
    distance = (squares / d).sqrt()
    arrays |= _numpy(
        sigma_map=r.mean(0) @ variance.sqrt(),
        smallest_sigma=smallest.sqrt(),
        eigenvalues=eigenvalues,
        effective_count=held,
        nearest_train_distance=distance,
    )
    lowest = most_singular(smallest, held, floor)
    fewer = d + 1 if isinstance(gaussians, Full) else 2
    entries: dict[str, Measure | Estimate] = {
        "smallest_sigma": Estimate(
            smallest.min().sqrt().item(),
            "units of x",
            count,
            facts={"covariance_floor": floor, "kind": "exact"},
        ),
        "sigma_median": sigma,
        "singleton_components": Estimate(
            float((held < fewer).sum().item()),
            "components",
            count,
            facts={
                "fewer_than": fewer,
                "of_components": k,
                "smallest_count": held.min().item(),
                "kind": "exact",
            },
        ),
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
    if isinstance(gaussians, Diag | Spherical):
        absent["eigenvalues_at_floor"] = "they are the variances of pixels; see pixels_at_floor"
        at_floor, log_prob_map = pixel_log_prob(
            gaussians.mean, variance, r, x, variance < NEAR**2 * floor
        )
        arrays |= _numpy(log_prob_map=log_prob_map)
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
    arrays |= _numpy(floor_map=r.mean(0) @ near)
    entries["pixels_at_floor"] = Measure((r @ near.mean(1)).cpu(), "share", facts=beside)
    if isinstance(gaussians, Diag | Spherical):
        share = _share(at_floor.mean().item(), log_prob_map.sum().item())
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
                    "train_images": len(train[0]),
                    "at_most": test[0].shape[1] * math.log(2) / 2,
                },
            )
    curve = torch.tensor(curves, dtype=torch.float64)
    arrays = evidence.arrays | _numpy(
        floor_curve_floors=torch.tensor(floors, dtype=torch.float64),
        floor_curve_test=curve[:, 0],
        floor_curve_train=curve[:, 1],
    )
    return Evidence(entries, arrays, absent)


def with_floor(model: GMM, floor: float, other: float) -> GMM:
    """The same mixture, had the M-step that it came from had another floor of its covariances.

    Sigma - floor I + other I; of lowrank covariances, where the floor is the least sigma^2
    (``fitting.gmm.m_step``), those that it holds move to ``other``. A smaller floor is no less than
    Sigma times other / floor, so that halving it adds at most D/2 ln 2 nats to ln p(x).
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
    return _sigma_median(quantiles, len(r), facts)


def _mean(values: Tensor, unit: str, facts: dict[str, Any]) -> Estimate:
    return Estimate(values.mean().item(), unit, len(values), _se(values), facts=facts)


def _se(values: Tensor) -> float | None:
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else None


def _numpy(**arrays: Tensor) -> dict[str, Any]:
    return {name: array.detach().cpu().numpy() for name, array in arrays.items()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).split(".")[1]


def _blocks(x: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.split(IMAGES_PER_BLOCK), label.split(IMAGES_PER_BLOCK), strict=True)
