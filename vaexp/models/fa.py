"""Factor analysis (Rubin and Thayer 1982; Bishop 2006, section 12.2.4)."""

import math
from functools import cached_property
from typing import TYPE_CHECKING, Self, final

import torch
from torch import Tensor

from vaexp.models.linear_gaussian import LinearGaussian

if TYPE_CHECKING:
    from vaexp.config import LinearGaussianConfig


@final
class FA(LinearGaussian):
    """x|z ~ N(W z + mu, Psi), Psi diagonal: the linear-Gaussian model with noise per pixel.

    ``variances`` is the diagonal of Psi (D,). The formulas have the precision of the
    posterior, B = I + W^T Psi^-1 W, (L, L), and never the D x D covariance W W^T + Psi.
    """

    def __init__(self, mean: Tensor, factors: Tensor, variances: Tensor):
        super().__init__(mean, factors)
        self.register_buffer("variances", variances)
        self.variances: Tensor

    @classmethod
    def empty(cls, config: "LinearGaussianConfig", data_dim: int) -> Self:
        """mu and the diagonal of Psi (D,), and W (D, L), without values."""
        factors = torch.empty(data_dim, config.latent_dim, dtype=torch.float64)
        return cls(factors.new_empty(data_dim), factors, factors.new_empty(data_dim))

    @property
    def noise(self) -> Tensor:
        """The diagonal of Psi, (D,)."""
        return self.variances

    def with_noise(self, noise: Tensor) -> "FA":
        """Factor analysis with the same W and mu and another diagonal of Psi (D,)."""
        return FA(self.mean, self.factors, noise)

    @cached_property
    def _weighted(self) -> Tensor:
        """Psi^-1 W, (D, L)."""
        return self.factors / self.noise[:, None]

    @cached_property
    def _precision_root(self) -> Tensor:
        """Lower triangular R with R R^T = B, (L, L)."""
        precision = self.factors.T @ self._weighted
        precision.diagonal().add_(1)
        return torch.linalg.cholesky(precision)

    @cached_property
    def posterior_root(self) -> Tensor:
        """Lower triangular root of the posterior's covariance B^-1, (L, L)."""
        return torch.linalg.cholesky(torch.cholesky_inverse(self._precision_root))

    @cached_property
    def _log_det(self) -> Tensor:
        """Ln|W W^T + Psi| = ln|Psi| + ln|B|, by the determinant lemma, ()."""
        return self.noise.log().sum() + 2 * self._precision_root.diagonal().log().sum()

    def posterior_mean(self, x: Tensor) -> Tensor:
        """B^-1 W^T Psi^-1 (x - mu) of images (..., D), (..., L)."""
        projected = (x.to(self.mean) - self.mean) @ self._weighted
        columns = projected.reshape(-1, self.latent_dim).T
        return torch.cholesky_solve(columns, self._precision_root).T.reshape(projected.shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x) = ln N(x; mu, W W^T + Psi) of images (N, D), exact, (N,) nats.

        With m = E[z|x] and r = x - W m - mu, the Woodbury identity makes the squared Mahalanobis
        distance r^T Psi^-1 r + |m|^2. No two large numbers cancel in it, however small the noise.
        """
        m = self.posterior_mean(x)
        residual = x.to(self.mean) - self.decode(m).mean
        squares = (residual.square() / self.noise).sum(1) + m.square().sum(1)
        return -0.5 * (x.shape[1] * math.log(2 * math.pi) + self._log_det + squares)

    def expected_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-E ln p(x|z) in nats and E|x - W z - mu|^2, over p(z|x), of images (N, D): (N,) each.

        E (x - W z - mu)_j^2 = (x - W m - mu)_j^2 + (W C W^T)_jj, with m and C the posterior's.
        """
        spread = (self.factors @ self.posterior_root).square().sum(1)
        residual = x.to(self.mean) - self.decode(self.posterior_mean(x)).mean
        squares = residual.square() + spread
        constant = (2 * math.pi * self.noise).log().sum()
        return 0.5 * (constant + (squares / self.noise).sum(1)), squares.sum(1)
