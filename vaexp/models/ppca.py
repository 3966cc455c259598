"""Probabilistic PCA (Tipping and Bishop 1999, Probabilistic principal component analysis)."""

import math
from functools import cached_property
from typing import TYPE_CHECKING, Self, final

import torch
from torch import Tensor

from vaexp.models.absent import Absent
from vaexp.models.linear_gaussian import LinearGaussian
from vaexp.models.vae import VAE

if TYPE_CHECKING:
    from vaexp.config import LinearGaussianConfig


@final
class PPCA(LinearGaussian):
    """x|z ~ N(W z + mu, sigma^2 I): the linear-Gaussian model with the same noise in every pixel.

    ``variance`` is sigma^2 (). The formulas have M = W^T W + sigma^2 I, (L, L), which is sigma^2
    times the precision of the posterior.
    """

    def __init__(self, mean: Tensor, factors: Tensor, variance: Tensor):
        super().__init__(mean, factors)
        self.register_buffer("variance", variance)
        self.variance: Tensor

    @classmethod
    def empty(cls, config: "LinearGaussianConfig", data_dim: int) -> Self:
        """mu (D,), W (D, L) and sigma^2 () without values."""
        factors = torch.empty(data_dim, config.latent_dim, dtype=torch.float64)
        return cls(factors.new_empty(data_dim), factors, factors.new_empty(()))

    @property
    def noise(self) -> Tensor:
        """sigma^2, ()."""
        return self.variance

    def with_noise(self, noise: Tensor) -> "PPCA":
        """Probabilistic PCA with the same W and mu and another sigma^2 ()."""
        return PPCA(self.mean, self.factors, noise)

    @cached_property
    def _root(self) -> Tensor:
        """R lower triangular, R R^T = M, (L, L)."""
        inner = self.factors.T @ self.factors
        inner.diagonal().add_(self.variance)
        return torch.linalg.cholesky(inner)

    @cached_property
    def posterior_root(self) -> Tensor:
        """Lower triangular root of the posterior's covariance sigma^2 M^-1, (L, L)."""
        return torch.linalg.cholesky(self.variance * torch.cholesky_inverse(self._root))

    def posterior_mean(self, x: Tensor) -> Tensor:
        """M^-1 W^T (x - mu) of images (..., D), (..., L)."""
        projected = (x.to(self.mean) - self.mean) @ self.factors
        columns = projected.reshape(-1, self.latent_dim).T
        return torch.cholesky_solve(columns, self._root).T.reshape(projected.shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x) = ln N(x; mu, W W^T + sigma^2 I) of images (N, D), exact, (N,) nats."""
        d, q = self.factors.shape
        centred = x.to(self.mean) - self.mean
        explained = torch.linalg.solve_triangular(
            self._root, (centred @ self.factors).T, upper=False
        )
        squares = (centred.square().sum(-1) - explained.square().sum(0)) / self.variance
        log_det = (d - q) * self.variance.log() + 2 * self._root.diagonal().log().sum()
        return -0.5 * (d * math.log(2 * math.pi) + log_det + squares)

    def expected_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-E ln p(x|z) in nats and E|x - W z - mu|^2, over p(z|x), of images (N, D): (N,) each.

        E|x - W z - mu|^2 = |x - W m - mu|^2 + tr(W C W^T), with m and C the posterior's.
        """
        spread = (self.factors @ self.posterior_root).square().sum()
        residual = x.to(self.mean) - self.decode(self.posterior_mean(x)).mean
        squares = residual.square().sum(1) + spread
        constant = x.shape[1] * (2 * math.pi * self.variance).log()
        return 0.5 * (constant + squares / self.variance), squares


def of_linear_vae(vae: VAE) -> PPCA | None:
    """The probabilistic PCA that has the p(x, z) of a VAE, or None where there is none.

    There is one for a linear decoder of N(W z + b, sigma^2 I) that sees no label. Its ln p(x) is
    the exact ln p(x) of the VAE.
    """
    if len(vae.decoder) > 0 or vae.conditional:
        return None
    head = vae.likelihood.affine()
    if isinstance(head, Absent) or head.variance.ndim > 0:
        return None
    return PPCA(head.bias, head.weight, head.variance)
