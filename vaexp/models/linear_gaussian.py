"""The family of linear-Gaussian models: z is a vector, and x given z is N(W z + mu, Psi)."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

if TYPE_CHECKING:
    from vaexp.config import LinearGaussianConfig


class LinearGaussian(nn.Module, ABC):
    """z ~ N(0, I), x|z ~ N(W z + mu, Psi) with Psi diagonal; posterior and ln p(x) are exact.

    ``mean`` is mu (D,) and ``factors`` is W (D, L), both float64. A concrete model holds its Psi
    and answers what is abstract here. It is ``@final``, so that the type checker names what it
    leaves out. The posterior's precision is I + W^T Psi^-1 W, (L, L).
    """

    conditional = False
    has_sigma = True
    no_sweep: str | None = None

    def __init__(self, mean: Tensor, factors: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factors", factors)
        self.mean: Tensor
        self.factors: Tensor
        self.latent_dim = factors.shape[1]

    @classmethod
    @abstractmethod
    def empty(cls, config: "LinearGaussianConfig", data_dim: int) -> Self:
        """A model of D = ``data_dim`` pixels whose parameters mean nothing until they are loaded.

        ``config`` is the section that names this class.
        """

    @property
    @abstractmethod
    def noise(self) -> Tensor:
        """The diagonal of Psi, in units of x squared: (D,), or () where all pixels share it."""

    @abstractmethod
    def with_noise(self, noise: Tensor) -> "LinearGaussian":
        """The model with the same W and mu and another ``noise`` of the same shape."""

    @property
    def free_parameters(self) -> int:
        """D of mu, D L - L (L - 1) / 2 of W, whose rotations give the same p(x), and the noise."""
        d, q = self.factors.shape
        return d + d * q - q * (q - 1) // 2 + self.noise.numel()

    @property
    @abstractmethod
    def posterior_root(self) -> Tensor:
        """Lower triangular R with R R^T the covariance of p(z|x), the same for all x, (L, L)."""

    @property
    def independent_latents(self) -> bool:
        """Whether the latents are independent given x: no correlation in p(z|x) is above 1e-6.

        Then W^T Psi^-1 W is diagonal, and the columns of W are orthogonal where all pixels share
        their noise.
        """
        covariance = self.posterior_root @ self.posterior_root.T
        sd = covariance.diagonal().sqrt()
        correlation = covariance / torch.outer(sd, sd)
        return bool(correlation.triu(1).abs().max() < 1e-6)

    @abstractmethod
    def posterior_mean(self, x: Tensor) -> Tensor:
        """E[z|x] = (I + W^T Psi^-1 W)^-1 W^T Psi^-1 (x - mu) of images (..., D), (..., L)."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x) = ln N(x; mu, W W^T + Psi) of images (N, D), exact, (N,) nats."""

    @abstractmethod
    def expected_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-E ln p(x|z) in nats and E|x - W z - mu|^2, over p(z|x), of images (N, D): (N,) each."""

    def prior(self) -> Distribution:
        """p(z) = N(0, I), event shape (L,)."""
        identity = torch.eye(self.latent_dim, dtype=self.mean.dtype, device=self.mean.device)
        return MultivariateNormal(identity[0] * 0, scale_tril=identity, validate_args=False)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Distribution:  # noqa: ARG002
        """p(z|x) of images (..., D), exact: batch (...), event (L,)."""
        mean = self.posterior_mean(x)
        return MultivariateNormal(mean, scale_tril=self.posterior_root, validate_args=False)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Distribution:  # noqa: ARG002
        """p(x|z) = N(W z + mu, Psi) of latents (..., L): batch (...), event (D,)."""
        mean = z.to(self.mean) @ self.factors.T + self.mean
        return Independent(Normal(mean, self.noise.sqrt(), validate_args=False), 1)
