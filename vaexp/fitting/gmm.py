"""The E-step and the M-step of a Gaussian mixture, as pure functions.

Letters in shapes: N data, D pixels, K components, q factors. Section 2.2 of the report this project
follows; for lowrank covariances Tipping and Bishop 1999, Mixtures of probabilistic principal
component analyzers, appendix C.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add
from typing import Any, assert_never

import torch
from torch import Tensor

from vaexp.fitting.em import Collapse, EMSteps
from vaexp.fitting.kmeans import lloyd, nearest_centre, seed_centres
from vaexp.fitting.moments import Moments, add_symmetric_product, mirror_upper
from vaexp.fitting.responsibilities import Responsibilities, of_assigned, posterior
from vaexp.models.gaussians import (
    ROWS,
    ROWS_IN_CACHE,
    ByFeatures,
    Diag,
    Full,
    Gaussians,
    LowRank,
    SingularCovariance,
    Spherical,
    Tied,
)
from vaexp.models.gmm import GMM
from vaexp.seeding import seeded

TINY = 10 * torch.finfo(torch.float64).eps  # added to weights that may be zero


class GMMSteps(EMSteps[GMM, "Statistics"]):
    """EM for a mixture on images x (N, D) with digits ``label`` (N,).

    ``validation`` holds other images, (M, D). The other options are those of the config. The steps
    raise Collapse where a covariance is not positive definite.
    """

    not_finite = "a variance is too small for these numbers; a larger model.covariance_floor helps"

    def __init__(
        self,
        x: Tensor,
        label: Tensor,
        validation: Tensor | None,
        *,
        components: int,
        covariance: str,
        factors: int,
        covariance_floor: float,
        init: str,
        precision: str,
        seed: int,
    ):
        self.x = x.to({"float32": torch.float32, "float64": torch.float64}[precision])
        self.label = label
        self.validation_images = validation
        self.moments = Moments.of(self.x) if covariance == "tied" else None
        self.components = components
        self.covariance = covariance
        self.factors = factors
        self.floor = covariance_floor
        self.init = init
        self.seed = seed

    def start(self, restart: int) -> GMM:
        """The moments of the images that each component is given, by ``assign``."""
        with seeded(self.seed, "initial parameters", restart):
            assigned = assign(self.x, self.label, self.components, self.init)
        return initial_gmm(
            self.x,
            assigned,
            self.components,
            self.covariance,
            factors=self.factors,
            floor=self.floor,
        )

    def e_step(self, model: GMM) -> "Statistics":
        """``e_step`` on the training images."""
        with self._explaining_collapse(model):
            return e_step(model, self.x, self.moments)

    def m_step(self, expected: "Statistics", model: GMM) -> GMM:
        """``m_step`` with the floor of the config."""
        return m_step(expected, model, self.floor)

    def elbo_after_m(self, expected: "Statistics", model: GMM, updated: GMM) -> float:
        """``elbo_after_m`` as a mean over the training images, nats."""
        with self._explaining_collapse(updated):
            return (elbo_after_m(expected, model, updated, self.floor) / expected.count).item()

    def validation(self, model: GMM) -> float | None:
        """Mean of ln p(x) over the validation images, nats."""
        if self.validation_images is None:
            return None
        return model.log_prob(self.validation_images).mean().item()

    def facts(self, model: GMM) -> dict[str, Any]:
        """Of each component the smallest eigenvalue of its covariance and N pi_k."""
        return {
            "smallest_eigenvalue": model.gaussians.smallest_eigenvalues().tolist(),
            "effective_count": (model.weight.double() * len(self.x)).tolist(),
        }

    @contextmanager
    def _explaining_collapse(self, model: GMM) -> Iterator[None]:
        """Turn SingularCovariance, raised for ``model``, into a Collapse with advice for a user."""
        try:
            yield
        except SingularCovariance as error:
            raise _collapse(error, model, len(self.x)) from None


def assign(x: Tensor, label: Tensor, components: int, init: str) -> Tensor:
    """The component that each image (N, D) starts in, (N,), by torch's global generator.

    labels: the rank of its digit among those there are. The others: the nearest of K centres, which
    are random images, seeds of k-means++, or where k-means moves these.
    """
    if init == "labels":
        return label.unique(return_inverse=True)[1]
    if init == "random":
        return nearest_centre(x, x[torch.randperm(len(x))[:components].to(x.device)])
    centres = seed_centres(x, components)
    return nearest_centre(x, centres if init == "kmeans++" else lloyd(x, centres))


def _collapse(error: SingularCovariance, model: GMM, images: int) -> Collapse:
    """What a user should know about a component that collapsed."""
    gaussians = model.gaussians
    k, count = error.component, (model.weight[error.component] * images).item()
    held = f"{images:,}" if isinstance(gaussians, Tied) else f"{count:,.1f} of {images:,}"
    what = "the covariance of all components" if isinstance(gaussians, Tied) else f"component {k}"
    d = gaussians.mean.shape[1]
    why = (
        "the smallest eigenvalue of its covariance is "
        f"{error.smallest_eigenvalue:.2g}, zero in {str(gaussians.mean.dtype).split('.')[1]}. It "
        f"holds {held} training images"
    )
    if isinstance(gaussians, Full) and count <= d:
        why += f", and fewer than {d + 1} leave a full covariance of {d} pixels singular"
    else:
        why += ", and in some direction they do not vary, as where a pixel is the same in all"
    why += (
        ". The likelihood has no maximum there: it grows without bound as the variance falls to 0. "
        "A larger model.covariance_floor prevents it"
    )
    if gaussians.mean.dtype == torch.float32:
        why += "; if the floor is small, model.precision: float64 resolves smaller variances"
    return Collapse(what, why)


@dataclass(frozen=True)
class Statistics:
    """All that an M-step needs of the images: sums over them, which add up over blocks of images.

    r are the responsibilities, c the ``centre`` of the components the E-step was done with: sums
    about it lose few digits. All float64.
    """

    count: Tensor
    """(): images."""
    weight: Tensor
    """(K,): sums of r."""
    first: Tensor
    """(K, D): sums of r (x - c)."""
    second: Tensor
    """Of r (x - c)(x - c)^T. full: its sums (K, D, D). tied: over components too, (D, D). diag:
    its diagonals (K, D). lowrank: its sums times W, (K, D, q). spherical: empty."""
    square: Tensor
    """spherical and lowrank: sums of r |x - c|^2, (K,). The others: empty."""
    log_prob: Tensor
    """(): sum of ln p(x), nats."""
    elbo: Tensor
    """(): sum of E_r [ln p(x, z) - ln r], which is the same, by another way."""
    entropy: Tensor
    """(): sum of -E_r ln r."""

    @property
    def mean_log_prob(self) -> float:
        """Mean of ln p(x), nats."""
        return (self.log_prob / self.count).item()

    @property
    def mean_elbo(self) -> float:
        """Mean of ``elbo``, nats."""
        return (self.elbo / self.count).item()

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(
            *[getattr(self, field.name) + getattr(other, field.name) for field in fields(self)]
        )


def e_step(model: GMM, x: Tensor, moments: Moments | None = None) -> Statistics:
    """The statistics of images x (N, D) under the responsibilities that ``model`` gives them.

    moments: those of x, which a tied covariance needs, if they are known already. Raises
    SingularCovariance.
    """
    gaussians = model.gaussians
    x = x.to(gaussians.mean)
    if isinstance(gaussians, Full | LowRank):
        r, sums = posterior(model.log_joint(x))
        return _statistics(r, _sums_about_means(gaussians, x, r), **sums)
    statistics = _e_step_by_features(gaussians, x, model.weight.double().log())
    if isinstance(gaussians, Tied):
        scatter = (moments or Moments.of(x)).scatter_about(gaussians.centre)
        quadratic = -0.5 * (gaussians.precision.double() * scatter).sum()
        statistics = replace(
            statistics,
            second=scatter,
            log_prob=statistics.log_prob + quadratic,
            elbo=statistics.elbo + quadratic,
        )
    return statistics


def _e_step_by_features(gaussians: ByFeatures, x: Tensor, log_weight: Tensor) -> Statistics:
    """Of a tied covariance without what needs the images' scatter.

    All that is computed with a few images is computed before the next ones come.
    """
    constant, slope = gaussians.natural(log_weight.clamp(min=-1e300))  # as 0 times -inf is NaN

    def of_block(block: Tensor) -> Statistics:
        features = gaussians.features(block)
        r, sums = posterior(constant + features @ slope)
        return _statistics(r, _split(gaussians, r.sums(features)), **sums)

    return reduce(add, map(of_block, x.split(ROWS_IN_CACHE)))


def _statistics(r: Responsibilities, sums: dict[str, Tensor], **of_posterior: Tensor) -> Statistics:
    return Statistics(count=r.value.new_tensor(r.images), weight=r.weight, **sums, **of_posterior)


def _split(gaussians: ByFeatures, total: Tensor) -> dict[str, Tensor]:
    """``first``, ``second`` (but for tied) and ``square`` from sums of r times features, (K, F)."""
    d = gaussians.mean.shape[1]
    first, rest = total[:, :d], total[:, d:]
    empty = total.new_zeros(0)
    match gaussians:
        case Tied():
            return {"first": first, "second": empty, "square": empty}
        case Diag():
            return {"first": first, "second": rest, "square": empty}
        case Spherical():
            return {"first": first, "second": empty, "square": rest[:, 0]}
    assert_never(gaussians)


def _sums_about_means(
    gaussians: Full | LowRank, x: Tensor, r: Responsibilities
) -> dict[str, Tensor]:
    """``first``, ``second`` and ``square``, from the images that each component holds."""
    k, d = gaussians.mean.shape
    first, square = r.value.new_zeros(k, d), r.value.new_zeros(k)
    if isinstance(gaussians, Full):
        second = r.value.new_zeros(k, d, d)
        for j, own, weight in _held(gaussians, x, r):
            first[j] += own.T @ weight
            add_symmetric_product(second[j], own * weight.sqrt()[:, None])
        for each in second:
            mirror_upper(each)
        return {"first": first, "second": second, "square": r.value.new_zeros(0)}
    second = torch.zeros_like(gaussians.factors, dtype=torch.float64)
    transposed = gaussians.factors.mT.contiguous()  # BLAS is four times faster at this order
    for j, own, weight in _held(gaussians, x, r):
        first[j] += own.T @ weight
        second[j] += ((transposed[j] @ own.T * weight) @ own).T
        square[j] += torch.dot(torch.linalg.vecdot(own, own), weight)
    return {"first": first, "second": second, "square": square}


def _held(
    gaussians: Full | LowRank, x: Tensor, r: Responsibilities
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each component k: x - mu_k (n, D) and r (n,) of the images it holds, in blocks."""
    for k, (rows, value) in enumerate(r.by_component()):
        for some, weight in zip(rows.split(ROWS), value.split(ROWS), strict=True):
            yield k, x[some].sub_(gaussians.mean[k]), weight.to(x.dtype)


def m_step(statistics: Statistics, model: GMM, floor: float) -> GMM:
    """The mixture that maximises the expected complete-data log-likelihood.

    ``model`` is the one whose responsibilities the statistics were taken with. ``floor`` is added
    to the diagonal of every covariance; of lowrank ones it is the least sigma^2. With lowrank
    covariances W and sigma^2 take one step towards their maximum: z has a second part, the latents
    of the component's PCA, whose posterior is taken at the new mean and the old W and sigma^2.
    """
    old, dtype = model.gaussians, model.gaussians.mean.dtype
    weight = statistics.weight + TINY
    shift = statistics.first / weight[:, None]
    mean = (old.centre + shift).to(dtype)
    d = mean.shape[1]
    match old:
        case Full():
            covariance = torch.empty_like(old.covariance)
            for k in range(len(mean)):
                second = statistics.second[k] / weight[k] - torch.outer(shift[k], shift[k])
                second.diagonal().add_(floor)
                covariance[k] = second
            new: Gaussians = Full(mean, covariance)
        case Tied():
            between = (shift * weight[:, None]).T @ shift
            pooled = (statistics.second - between) / statistics.count
            pooled.diagonal().add_(floor)
            new = Tied(mean, pooled.to(dtype))
        case Diag():
            second = statistics.second / weight[:, None]
            new = Diag(mean, (_resolved(second, shift.square(), dtype) + floor).to(dtype))
        case Spherical():
            second, squares = statistics.square / weight, shift.square().sum(1)
            new = Spherical(mean, (_resolved(second, squares, dtype) / d + floor).to(dtype))
        case LowRank():
            w = _Loadings.of(statistics, old)
            # W' = S W (sigma^2 I + M^-1 W^T S W)^-1
            divisor = w.noise * w.identity + torch.linalg.solve(w.inner, w.inner_second)
            factors = torch.linalg.solve(divisor, w.second, left=False)
            explained = (torch.linalg.solve(w.inner, w.second, left=False) * factors).sum((1, 2))
            variances = ((w.trace - explained) / d).clamp(min=floor)
            new = LowRank(mean, factors.to(dtype), variances.to(dtype))
        case _:
            assert_never(old)
    return GMM((statistics.weight / statistics.count).to(dtype), new)


def _resolved(second: Tensor, square: Tensor, dtype: torch.dtype) -> Tensor:
    """second - square, variances, with 0 for those that are no more than their rounding."""
    variances = second - square
    # Sums over thousands of images are off by more than eps; nothing real varies by 1e-12.
    resolution = max(16 * torch.finfo(dtype).eps, 1e-12)
    return torch.where(variances > resolution * second, variances, 0)


def elbo_after_m(statistics: Statistics, model: GMM, updated: GMM, floor: float) -> Tensor:
    """The ELBO of all images with the E-step's posterior and the M-step's parameters, () nats.

    ``updated`` is ``m_step(statistics, model, floor)``. With lowrank covariances the posterior is
    that of the component and of its latents, see ``m_step``.
    """
    new, d = updated.gaussians, updated.gaussians.mean.shape[1]
    constant = d * math.log(2 * math.pi)
    match new:
        case Full():
            upper, log_det, _ = new.whitening
            inverse_trace = torch.linalg.vector_norm(upper, dim=(1, 2), dtype=torch.float64) ** 2
            per_component = constant + log_det + d - floor * inverse_trace
        case Tied():
            upper, log_det, _ = new.whitening
            inverse_trace = upper.double().square().sum()
            per_component = (constant + log_det + d - floor * inverse_trace).expand(len(new.mean))
        case Diag():
            variances = new.variances.double()
            per_component = constant + (variances.log() + 1 - floor / variances).sum(1)
        case Spherical():
            variances = new.variances.double()
            per_component = constant + d * (variances.log() + 1 - floor / variances)
        case LowRank():
            assert isinstance(model.gaussians, LowRank)
            w = _Loadings.of(statistics, model.gaussians)
            factors, variances = new.factors.double(), new.variances.double()
            q = factors.shape[2]
            # moments of the latents: E x z^T = S W M^-1, E z z^T = sigma^2 M^-1 + M^-1 W^T E x z^T
            cross = torch.linalg.solve(w.inner, w.second, left=False)
            latent = torch.linalg.solve(w.inner, w.noise * w.identity + w.factors.mT @ cross)
            error = (
                w.trace
                - 2 * (factors * cross).sum((1, 2))
                + (factors.mT @ factors * latent).sum((1, 2))
            )
            trace = latent.diagonal(dim1=1, dim2=2).sum(1)
            entropy = q + q * w.noise[:, 0, 0].log() - torch.linalg.slogdet(w.inner).logabsdet
            per_component = constant + d * variances.log() + error / variances + trace - entropy
        case _:
            assert_never(new)
    log_weight = torch.where(statistics.weight > 0, updated.weight.double().log(), 0)
    return (statistics.weight * (log_weight - 0.5 * per_component)).sum() + statistics.entropy


@dataclass(frozen=True)
class _Loadings:
    """The old W of lowrank covariances beside what the images say of it; S is about the new means.

    float64; S = sum of r (x - mu')(x - mu')^T / sum of r.
    """

    factors: Tensor
    """W, (K, D, q)."""
    noise: Tensor
    """sigma^2, (K, 1, 1)."""
    inner: Tensor
    """M = W^T W + sigma^2 I, (K, q, q)."""
    second: Tensor
    """S W, (K, D, q)."""
    inner_second: Tensor
    """W^T S W, (K, q, q)."""
    trace: Tensor
    """tr S, (K,)."""
    identity: Tensor

    @classmethod
    def of(cls, statistics: Statistics, old: LowRank) -> "_Loadings":
        weight = statistics.weight + TINY
        shift = (statistics.first / weight[:, None])[..., None]
        factors = old.factors.double()
        second = statistics.second / weight[:, None, None] - shift @ (shift.mT @ factors)
        return cls(
            factors,
            old.variances.double()[:, None, None],
            old.inner,
            second,
            factors.mT @ second,
            statistics.square / weight - shift.square().sum((1, 2)),
            torch.eye(factors.shape[2], dtype=torch.float64, device=factors.device),
        )


def initial_gmm(
    x: Tensor,
    assigned: Tensor,
    components: int,
    covariance: str,
    *,
    factors: int,
    floor: float,
) -> GMM:
    """The mixture of the M-step when each image (N, D) belongs to one component, ``assigned`` (N,).

    covariance: full, tied, diag, spherical or lowrank, whose W and sigma^2 are those of a PCA of
    the component's images with ``factors`` latents. ``floor`` as for ``m_step``.
    """
    dtype = x.dtype
    r = of_assigned(assigned, components)
    total = torch.zeros(components, x.shape[1], dtype=torch.float64, device=x.device)
    for sum_, (rows, _) in zip(total, r.by_component(), strict=True):
        for some in rows.split(ROWS):
            sum_ += x[some].sum(0, dtype=torch.float64)
    weight = r.counts.double()
    overall = total.sum(0) / len(x)
    mean = torch.where(weight[:, None] > 0, total / weight.clamp(min=1)[:, None], overall)
    if covariance == "lowrank":
        return _initial_lowrank(x, r, mean, factors, floor)
    nothing = torch.empty(0, dtype=dtype, device=x.device)
    template: Full | ByFeatures
    match covariance:
        case "full":
            d = x.shape[1]
            template = Full(mean.to(dtype), nothing.new_empty(components, d, d))
        case "tied":
            template = Tied(mean.to(dtype), nothing)
        case "diag":
            template = Diag(mean.to(dtype), nothing)
        case _:
            template = Spherical(mean.to(dtype), nothing)
    if isinstance(template, Full):
        sums = _sums_about_means(template, x, r)
    else:
        blocks = zip(x.split(ROWS_IN_CACHE), assigned.split(ROWS_IN_CACHE), strict=True)
        totals = (of_assigned(k, components).sums(template.features(some)) for some, k in blocks)
        sums = _split(template, reduce(add, totals))
    if isinstance(template, Tied):
        sums["second"] = Moments.of(x).scatter_about(template.centre)
    zero = weight.new_zeros(())
    statistics = _statistics(r, sums, log_prob=zero, elbo=zero, entropy=zero)
    return m_step(statistics, GMM(weight, template), floor)


def _initial_lowrank(
    x: Tensor, r: Responsibilities, mean: Tensor, factors: int, floor: float
) -> GMM:
    k, d = mean.shape
    loadings, variances = mean.new_zeros(k, d, factors), mean.new_full((k,), floor)
    for j, (rows, _) in enumerate(r.by_component()):
        if len(rows):
            eigenvalues, vectors = torch.linalg.eigh(Moments.of(x[rows]).covariance)
            noise = eigenvalues[:-factors].clamp(min=0).mean()
            variances[j] = noise.clamp(min=floor)
            # So few images leave some W at 0, from which EM never moves it.
            least = 0.1 * variances[j].item() if len(rows) <= factors else 0.0
            scale = (eigenvalues[-factors:] - noise).clamp(min=least).sqrt()
            loadings[j] = vectors[:, -factors:] * scale
    gaussians = LowRank(mean.to(x.dtype), loadings.to(x.dtype), variances.to(x.dtype))
    return GMM((r.weight / len(x)).to(x.dtype), gaussians)
