"""EM for a Gaussian mixture: the E-step, the M-step and the initial parameters.

Letters in shapes: N data, D pixels, K components. Section 2.2 of the report this project follows.
What depends on the covariances stands with their family, in ``vaexp.models.covariances``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, assert_never, final

import torch
from torch import Tensor

from vaexp.fitting.em import Collapse, EMSteps
from vaexp.fitting.kmeans import lloyd, nearest_centre, seed_centres
from vaexp.models.covariances import SingularCovariance, Size, family
from vaexp.models.covariances.responsibilities import ROWS, Responsibilities, hard_responsibilities
from vaexp.models.covariances.statistics import Statistics
from vaexp.models.gmm import GMM, PRECISIONS
from vaexp.models.moments import Images
from vaexp.processes import ALONE, Processes
from vaexp.seeding import seeded

if TYPE_CHECKING:
    from vaexp.config.models.gmm import GMMConfig

Init = Literal["kmeans", "kmeans++", "random", "labels"]


@final
class GMMSteps(EMSteps["GMMConfig", GMM, Statistics]):
    """EM for a mixture on images x (N, D) with digits ``label`` (N,).

    ``validation`` holds other images, (M, D). The other options are those of the config. Each of
    the ``processes`` does the E-step of a share of the images. The steps raise Collapse where a
    covariance is not positive definite.
    """

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
        init: Init,
        precision: Literal["float32", "float64"],
        seed: int,
        processes: Processes = ALONE,
    ):
        self.images = Images(x.to(PRECISIONS[precision]))
        self.share = self.images.share(processes)
        self.label = label
        self.validation_images = validation
        self.components = components
        self.covariance = covariance
        self.factors = factors
        self.floor = covariance_floor
        self.init = init
        self.seed = seed
        self.processes = processes

    @classmethod
    def from_config(
        cls,
        config: "GMMConfig",
        x: Tensor,
        label: Tensor,
        validation: Tensor | None,
        seed: int,
        processes: Processes,
    ) -> Self:
        """The steps that the section describes."""
        return cls(
            x,
            label,
            validation,
            components=config.components,
            covariance=config.covariance,
            factors=config.factors,
            covariance_floor=config.covariance_floor,
            init=config.init,
            precision=config.precision,
            seed=seed,
            processes=processes,
        )

    @classmethod
    def not_finite(cls) -> str:
        """A variance has become too small for the arithmetic."""
        return "a variance is too small for these numbers; a larger model.covariance_floor helps"

    def start(self, restart: int) -> GMM:
        """Weights, means and covariances of the images that ``assign`` gives to each component."""
        with seeded(self.seed, "initial parameters", restart):
            assigned = assign(self.images.x, self.label, self.components, self.init)
        return initial_gmm(
            self.images,
            assigned,
            self.components,
            self.covariance,
            factors=self.factors,
            floor=self.floor,
        )

    def e_step(self, model: GMM) -> Statistics:
        """The statistics of the training images; see the function of this name."""
        with self._explaining_collapse(model):
            return e_step(model, self.share).total(self.processes)

    def m_step(self, expected: Statistics, model: GMM) -> GMM:
        """The mixture that maximises the ELBO; see the function of this name."""
        return m_step(expected, model, self.floor)

    def elbo_after_m(self, expected: Statistics, model: GMM, updated: GMM) -> float:
        """The mean ELBO after the M-step, nats; see the function of this name."""
        with self._explaining_collapse(updated):
            return (elbo_after_m(expected, model, updated, self.floor) / expected.count).item()

    def validation(self, model: GMM) -> float | None:
        """Mean of ln p(x) over the validation images, nats."""
        if self.validation_images is None:
            return None
        log_prob = model.log_prob(self.processes.share(self.validation_images))
        n = len(self.validation_images)
        return self.processes.total(self.processes.part_of_mean(log_prob, n)).item()

    def facts(self, model: GMM) -> dict[str, Any]:
        """The smallest eigenvalue of each component's covariance, and the N pi_k."""
        return {
            "smallest_eigenvalue": model.gaussians.smallest_eigenvalues().tolist(),
            "effective_count": (model.weight.double() * len(self.images.x)).tolist(),
        }

    @contextmanager
    def _explaining_collapse(self, model: GMM) -> Iterator[None]:
        """Turn SingularCovariance, raised for ``model``, into a Collapse with advice for a user."""
        try:
            yield
        except SingularCovariance as error:
            raise _collapse(error, model, len(self.images.x)) from None


def assign(x: Tensor, label: Tensor, components: int, init: Init) -> Tensor:
    """The component that each image of x (N, D) starts in, (N,), by torch's global generator.

    With ``labels`` it is the rank of the image's digit among the digits of the images. Otherwise it
    is the nearest of K centres: random images, the seeds of k-means++, or the centres that k-means
    finds from these seeds.
    """
    match init:
        case "labels":
            return label.unique(return_inverse=True)[1]
        case "random":
            return nearest_centre(x, x[torch.randperm(len(x))[:components].to(x.device)])
        case "kmeans++":
            return nearest_centre(x, seed_centres(x, components))
        case "kmeans":
            return nearest_centre(x, lloyd(x, seed_centres(x, components)))
    assert_never(init)


def _collapse(error: SingularCovariance, model: GMM, images: int) -> Collapse:
    """What a user should know about a component that collapsed."""
    precision = model.gaussians.mean.dtype
    held = (model.weight[error.component] * images).item()
    collapsed = model.gaussians.collapsed(error.component, held, images)
    why = (
        f"the smallest eigenvalue of its covariance is {error.smallest_eigenvalue:.2g}, zero in "
        f"{str(precision).split('.')[1]}. It holds {collapsed.images} training images, and "
        f"{collapsed.reason}. The likelihood has no maximum there: it grows without bound as the "
        "variance falls to 0. A larger model.covariance_floor prevents it"
    )
    if precision == torch.float32:
        why += "; if the floor is small, model.precision: float64 resolves smaller variances"
    return Collapse(collapsed.what, why)


def e_step(model: GMM, images: Images) -> Statistics:
    """The statistics of images (N, D) under the responsibilities that ``model`` gives them.

    Raises SingularCovariance where a covariance of ``model`` is not positive definite.
    """
    log_weight = model.weight.double().log()
    return model.gaussians.e_step(images.to(model.gaussians.mean), log_weight)


def m_step(statistics: Statistics, model: GMM, floor: float) -> GMM:
    """The mixture that maximises the expected complete-data log-likelihood.

    ``statistics`` are those of ``e_step(model, images)``. ``floor`` is added to the diagonal of
    every covariance, or is the least sigma^2 of lowrank ones. Lowrank covariances take one step
    towards their maximum.
    """
    weight = (statistics.weight / statistics.count).to(model.weight.dtype)
    return GMM(weight, model.gaussians.m_step(statistics, floor))


def elbo_after_m(statistics: Statistics, model: GMM, updated: GMM, floor: float) -> Tensor:
    """The ELBO of all images with the E-step's posterior and the M-step's parameters, () nats.

    It is the sum of E_r [ln pi_k + ln N(x; mu_k, Sigma_k) - ln r]. ``updated`` is
    ``m_step(statistics, model, floor)``. With lowrank covariances the posterior is that of the
    component and of the latents of its PCA.
    """
    density = updated.gaussians.expected_log_density(statistics, model.gaussians, floor)
    log_weight = torch.where(statistics.weight > 0, updated.weight.double().log(), 0)
    return (statistics.weight * (log_weight + density)).sum() + statistics.entropy


def initial_gmm(
    images: Images,
    assigned: Tensor,
    components: int,
    covariance: str,
    *,
    factors: int,
    floor: float,
) -> GMM:
    """The mixture that EM starts from when each image belongs to one component, ``assigned`` (N,).

    The weights and means are those of the images of each component, and the covariances are what
    their family makes of these images. ``floor`` is that of ``m_step``, ``factors`` that of lowrank
    covariances.
    """
    x = images.x
    r = hard_responsibilities(assigned, components)
    size = Size(components, x.shape[1], factors)
    gaussians = family(covariance).from_assigned(images, assigned, _means(x, r), size, floor)
    return GMM((r.weight / len(x)).to(x.dtype), gaussians)


def _means(x: Tensor, r: Responsibilities) -> Tensor:
    """The means of the images of x (N, D) that belong to each component, (K, D) float64.

    A component without images gets the mean of all.
    """
    total = torch.zeros(len(r.counts), x.shape[1], dtype=torch.float64, device=x.device)
    for sum_, (rows, _) in zip(total, r.by_component(), strict=True):
        for some in rows.split(ROWS):
            sum_ += x[some].sum(0, dtype=torch.float64)
    count = r.counts.double()[:, None]
    return torch.where(count > 0, total / count.clamp(min=1), total.sum(0) / len(x))
