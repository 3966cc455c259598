"""The questions that every family of covariances answers, for K Gaussians at once.

Letters in shapes: N data, D pixels, K components, q factors. A family holds the means and the
covariances of the K components of a mixture in float32 or float64. Products with the images are
computed in that precision. Everything else is computed in float64, and so are all answers that are
log densities, sums over images or eigenvalues.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from vaexp.models.absent import Absent
from vaexp.models.covariances.statistics import Statistics
from vaexp.models.moments import Images


class Size(NamedTuple):
    """The sizes from which the shapes of all parameters follow."""

    components: int
    """K, the number of Gaussians."""
    pixels: int
    """D."""
    factors: int
    """q, which has a meaning for lowrank covariances only."""


class Collapsed(NamedTuple):
    """What a user should know about a singular covariance."""

    what: str
    """Whose covariance it is: "component 3"."""
    images: str
    """How many training images it is estimated from: "2.0 of 600"."""
    reason: str
    """Why these images leave it singular, as the end of a sentence."""


class Gaussians(nn.Module, ABC):
    """N(mu_k, Sigma_k) for K components, with covariances of one family.

    Where a density is needed and a covariance is not positive definite, methods raise
    SingularCovariance.
    """

    name: ClassVar[str]
    """The family's name in a config."""
    independent_pixels: ClassVar[bool]
    """Whether the pixels of an image are independent given its component."""

    def __init__(self, mean: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.mean: Tensor

    # Parameters

    @classmethod
    @abstractmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Parameters of the right shapes whose values mean nothing until they are loaded."""

    @classmethod
    @abstractmethod
    def from_assigned(
        cls, images: Images, assigned: Tensor, mean: Tensor, size: Size, floor: float
    ) -> Self:
        """The parameters that EM starts from when each image belongs to one component alone.

        ``assigned`` (N,) holds the component of each image, and ``mean`` (K, D) float64 the mean of
        the images of each component. ``floor`` is that of ``m_step``.
        """

    @property
    def size(self) -> Size:
        """K, D and q; q is 0 for a family without factors."""
        k, d = self.mean.shape
        return Size(k, d, 0)

    @property
    def noise_dim(self) -> int:
        """The number of standard normal numbers that one draw takes."""
        return self.mean.shape[1]

    @property
    @abstractmethod
    def covariance_parameters(self) -> int:
        """The number of free parameters of all K covariances together."""

    @property
    @abstractmethod
    def centre(self) -> Tensor:
        """The point c that sums over images are taken about, so that they lose few digits.

        One for each component (K, D), or one for all (D,).
        """

    # The distribution

    @abstractmethod
    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma_k) of x (N, D) and ln pi (K,), (N, K) float64, nats."""

    @abstractmethod
    def draw(self, k: int, noise: Tensor) -> Tensor:
        """Draws of component k, (n, D), from standard normal noise (n, noise_dim)."""

    @abstractmethod
    def variance(self) -> Tensor:
        """The variance of each pixel in each component, (K, D)."""

    @abstractmethod
    def eigenvalues(self) -> Tensor:
        """All eigenvalues of the covariances in ascending order, (K, D) float64.

        (1, D) where the components share one covariance.
        """

    @abstractmethod
    def smallest_eigenvalues(self) -> Tensor:
        """The smallest eigenvalue of each covariance, (K,), to a percent or better."""

    # EM

    @abstractmethod
    def e_step(self, images: Images, log_weight: Tensor) -> Statistics:
        """The sums over images that the M-step needs, under the exact posterior p(z|x).

        ``log_weight`` (K,) are the ln pi_k.
        """

    @abstractmethod
    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """The means and covariances that maximise the expected complete-data log-likelihood.

        ``statistics`` are those of ``e_step``. ``floor`` is added to the diagonal of each
        covariance, or is the least sigma^2 of lowrank ones, in units of x squared.
        """

    @abstractmethod
    def expected_log_density(self, statistics: Statistics, before: Self, floor: float) -> Tensor:
        """Mean of ln N(x; mu_k, Sigma_k) over the images that component k holds, (K,) nats.

        These parameters must be ``before.m_step(statistics, floor)``. Then the mean follows from
        the statistics, and no image is needed again. A family whose M-step maximises a lower bound
        on this mean, with a posterior of further latents, returns that bound.
        """

    # The floor of the covariances

    @abstractmethod
    def with_floor(self, floor: float, other: float) -> Self:
        """The same parameters, had their M-step had the floor ``other`` instead of ``floor``."""

    @classmethod
    @abstractmethod
    def images_that_vary(cls, size: Size) -> int | Absent:
        """The fewest images that a component needs so that no eigenvalue depends on the floor.

        n images vary in n - 1 directions. Absent where no component has a covariance of its own.
        """

    def collapsed(self, component: int, held: float, images: int) -> Collapsed:
        """What a user should know about a singular covariance.

        ``held`` is the sum of the component's responsibilities over all training images, of which
        there are ``images``.
        """
        needed = self.images_that_vary(self.size)
        reason = "in some direction they do not vary, as where a pixel is the same in all"
        if not isinstance(needed, Absent) and held <= needed - 1:
            kind = f"{self.name} covariance of {self.size.pixels} pixels"
            reason = f"fewer than {needed} leave a {kind} singular"
        return Collapsed(f"component {component}", f"{held:,.1f} of {images:,}", reason)
