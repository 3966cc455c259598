"""The base of the families whose pixels are independent given the component."""

from abc import abstractmethod
from typing import Self

from torch import Tensor

from vaexp.models.absent import Absent
from vaexp.models.covariances import features
from vaexp.models.covariances.base import Gaussians, Size
from vaexp.models.covariances.statistics import Statistics, Sums
from vaexp.models.moments import Images


class IndependentPixels(Gaussians):
    """Sigma_k is diagonal, so that the pixels of an image are independent given its component.

    ``variances`` is the diagonal (K, D), or (K,) where the pixels of a component share one. A
    family says which features of x its density is linear in.
    """

    independent_pixels = True

    def __init__(self, mean: Tensor, variances: Tensor):
        super().__init__(mean)
        self.register_buffer("variances", variances)
        self.variances: Tensor

    @property
    def covariance_parameters(self) -> int:
        """The variances themselves."""
        return self.variances.numel()

    @classmethod
    def from_assigned(
        cls, images: Images, assigned: Tensor, mean: Tensor, size: Size, floor: float
    ) -> Self:
        """The variances of the images of each component, with the floor added."""
        about_mean = cls(mean.to(images.x.dtype), images.x.new_empty(0))
        return about_mean.m_step(
            features.statistics_of_assigned(about_mean, images.x, assigned, size.components), floor
        )

    @property
    def centre(self) -> Tensor:
        """The mean of the means, (D,)."""
        return self.mean.mean(0)

    # The distribution

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma_k), (N, K), which is linear in the features."""
        return features.log_joint(self, x, log_weight)

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """x - c, with c the centre, and what of its squares the density needs: (n, D) -> (n, F)."""

    @abstractmethod
    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The constant (K,) and the slope (F, K) of ``log_joint`` in the features."""

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """mu_k + sigma_k noise (n, D)."""
        return self.mean[k] + self.variances[k].sqrt() * noise

    # EM

    def e_step(self, images: Images, log_weight: Tensor) -> Statistics:
        """The statistics whose sums are those of r times the features."""
        return features.e_step(self, images.x, log_weight)

    @abstractmethod
    def sums_of(self, total: Tensor) -> Sums:
        """The sums of ``Statistics``, from the sums (K, F) of r times features."""

    # The floor of the covariances

    def with_floor(self, floor: float, other: float) -> Self:
        """The variances less ``floor`` plus ``other``."""
        return type(self)(self.mean, self.variances + (other - floor))

    @classmethod
    def images_that_vary(cls, size: Size) -> int | Absent:  # noqa: ARG003
        """2, as each variance is of one direction or of all of them together."""
        return 2
