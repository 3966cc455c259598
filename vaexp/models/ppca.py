"""Probabilistic PCA (Tipping and Bishop 1999, Probabilistic principal component analysis)."""

import math
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaexp.models.likelihoods import Absent
from vaexp.models.vae import VAE


class PPCA(nn.Module):
    """z ~ N(0, I), x|z ~ N(W z + mu, sigma^2 I); the posterior and ln p(x) are exact. float64.

    ``mean`` is mu (D,), ``factors`` W (D, L), ``variance`` sigma^2 ().
    """

    conditional = False
    has_sigma = True

    def __init__(self, mean: Tensor, factors: Tensor, variance: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factors", factors)
        self.register_buffer("variance", variance)
        self.mean: Tensor
        self.factors: Tensor
        self.variance: Tensor
        self.latent_dim = factors.shape[1]

    @cached_property
    def _root(self) -> Tensor:
        """R lower triangular, R R^T = M = W^T W + sigma^2 I, (L, L)."""
        inner = self.factors.T @ self.factors
        inner.diagonal().add_(self.variance)
        return torch.linalg.cholesky(inner)

    @cached_property
    def posterior_root(self) -> Tensor:
        """Lower triangular root of the posterior's covariance sigma^2 M^-1, (L, L)."""
        return torch.linalg.cholesky(self.variance * torch.cholesky_inverse(self._root))

    def prior(self) -> Distribution:
        """p(z) = N(0, I), event shape (L,)."""
        identity = torch.eye(self.latent_dim, dtype=self.mean.dtype, device=self.mean.device)
        return MultivariateNormal(identity[0] * 0, scale_tril=identity, validate_args=False)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Distribution:  # noqa: ARG002
        """p(z|x) = N(M^-1 W^T (x - mu), sigma^2 M^-1), exact: batch (...), event (L,)."""
        projected = (x.to(self.mean) - self.mean) @ self.factors
        columns = projected.reshape(-1, self.latent_dim).T
        mean = torch.cholesky_solve(columns, self._root).T.reshape(projected.shape)
        return MultivariateNormal(mean, scale_tril=self.posterior_root, validate_args=False)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Distribution:  # noqa: ARG002
        """p(x|z) = N(W z + mu, sigma^2 I) of latents (..., L): batch (...), event (D,)."""
        mean = z.to(self.mean) @ self.factors.T + self.mean
        return Independent(Normal(mean, self.variance.sqrt(), validate_args=False), 1)

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


def of_linear_vae(vae: VAE) -> PPCA | None:
    """The probabilistic PCA with the p(x, z) of a VAE, if there is one: then ln p(x) is exact.

    There is for a linear decoder of N(W z + b, sigma^2 I) that sees no label.
    """
    if len(vae.decoder) > 0 or vae.conditional:
        return None
    head = vae.likelihood.affine()
    if isinstance(head, Absent) or head.variance.ndim > 0:
        return None
    return PPCA(head.bias, head.weight, head.variance)
