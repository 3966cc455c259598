"""N(mu, diag sigma^2 + V V^T): the pixels share q factors beside the noise that each has alone.

With A = V^T diag(1/sigma), (q, D), and M = I + A A^T, (q, q), the Woodbury identity and the
determinant lemma give everything from M, so that no D x D matrix is formed:

    (x - mu)^T Sigma^-1 (x - mu) = |w|^2 - |M^(-1/2) A w|^2,   w = (x - mu) / sigma,
    ln |Sigma| = sum_j ln sigma_j^2 + ln |M|.

Where sigma is near a floor of 1e-3, the entries of A and w are up to 1e3 times those of V and
x - mu, and the two terms of the quadratic form are large and nearly equal. Their difference is
therefore taken in float64. The rounding of A and w themselves does no harm, because the quadratic
form changes with w only by 2 Sigma^-1-weighted residuals, which are of order 1.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.distributions import constraints

from vaexp.models.absent import Absent
from vaexp.models.likelihoods.diagonal import LOG_2_PI, DiagonalGaussian
from vaexp.models.likelihoods.interface import Decoded, Tempered

NOT_INDEPENDENT = Absent(
    "pixels share factors given z, so ln p(x|z) is not a sum with one term for each pixel"
)


class Woodbury(NamedTuple):
    """What log_prob needs of Sigma; float64."""

    scaled: Tensor
    """A (..., q, D)."""
    root: Tensor
    """The lower Cholesky factor of M, (..., q, q); NaN where M is not positive definite, which
    only parameters that are not finite can cause."""


class LowRankGaussian(Decoded):
    """N(mu, diag sigma^2 + V V^T): mu and sigma (..., D), factors V (..., D, q)."""

    support = constraints.real_vector

    def __init__(self, mean: Tensor, sigma: Tensor, factors: Tensor):
        self.diagonal = DiagonalGaussian(mean, sigma)
        self.factors = factors
        super().__init__(self.diagonal.mean.shape)

    @property
    def mean(self) -> Tensor:
        """mu, (..., D)."""
        return self.diagonal.mean

    @property
    def variance(self) -> Tensor:
        """The diagonal of Sigma, sigma_j^2 + sum_k V_jk^2, (..., D)."""
        # a norm has no temporary array of the size of V, which is the largest of all
        lengths: Tensor = torch.linalg.vector_norm(self.factors, dim=-1)
        return self.diagonal.variance + lengths.square()

    @property
    def stddev(self) -> Tensor:
        """The standard deviation of each pixel, its factors included, (..., D)."""
        return self.variance.sqrt()

    @property
    def sigma(self) -> Tensor:
        """sigma, (..., D): the part that the floor holds up, without the factors."""
        return self.diagonal.sigma

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """mu + sigma e + V f with standard normal e and f: sample_shape + (..., D)."""
        with torch.no_grad():
            draws = self.diagonal.sample(sample_shape)
            shared = draws.new_empty(*draws.shape[:-1], self.factors.shape[-1]).normal_()
            return draws + (self.factors @ shared[..., None])[..., 0]

    @cached_property
    def woodbury(self) -> Woodbury:
        """A and the root of M, once for all images whose density is asked for."""
        return woodbury(self.sigma, self.factors)

    def log_prob(self, value: Tensor) -> Tensor:
        """Ln N(value; mu, Sigma), (...)."""
        return self._log_prob(value).to(self.mean.dtype)

    def _log_prob(self, value: Tensor) -> Tensor:
        """Ln N(value; mu, Sigma), (...), float64."""
        scaled, root = self.woodbury
        own = ((value - self.mean) / self.sigma).double()
        shared = torch.linalg.solve_triangular(root, scaled @ own[..., None], upper=False)
        squares = own.square().sum(-1) - shared.square().sum((-2, -1))
        return -0.5 * (squares + self.log_det)

    @property
    def log_det(self) -> Tensor:
        """Ln |2 pi Sigma|, (...), float64."""
        roots = self.woodbury.root.diagonal(dim1=-2, dim2=-1)
        own = (LOG_2_PI + 2 * self.sigma.double().log()).sum(-1)
        return own + 2 * roots.log().sum(-1)

    def double(self) -> Self:
        """The same distribution in float64."""
        return type(self)(self.mean.double(), self.sigma.double(), self.factors.double())

    def pixel_log_prob(self, x: Tensor) -> Absent:  # noqa: ARG002
        """Pixels are not independent given z."""
        return NOT_INDEPENDENT

    def tempered(self, beta: float) -> Tempered:
        """N(mu, beta Sigma) and ln Z = (1 - 1/beta)/2 ln |2 pi Sigma| + D/2 ln beta."""
        log_z = 0.5 * (1 - 1 / beta) * self.log_det + self.mean.shape[-1] / 2 * math.log(beta)
        root = math.sqrt(beta)
        wider = LowRankGaussian(self.mean, root * self.sigma, root * self.factors)
        return Tempered(wider, log_z.to(self.mean.dtype))

    def log_prob_at_sigmas(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Ln N(x; mu, diag sigma_s^2), without the factors, (N, S) float64."""
        return self.diagonal.log_prob_at_sigmas(x, sigma)

    def log_prob_at_floors(self, x: Tensor, floor: float, factors: Sequence[float]) -> Tensor:
        """Ln N(x; mu, diag (sigma + (factor - 1) floor)^2 + V V^T), (N, F) float64.

        sigma alone moves. V stays, so that half the floor still adds at most D ln 2.
        """
        columns = []
        for factor in factors:
            sigma = self.sigma if factor == 1 else self.sigma + (factor - 1) * floor
            columns.append(LowRankGaussian(self.mean, sigma, self.factors)._log_prob(x))
        return torch.stack(columns, 1)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Absent:  # noqa: ARG002
        """The integral of a Gaussian over a box has no closed form where pixels depend."""
        return Absent("pixels share factors given z, so a mass of grey levels has no closed form")

    def quadratic(self) -> Absent:
        """Products of pixels appear in it."""
        return Absent("ln p(x|z) has products of pixels, as they share factors given z")


def woodbury(sigma: Tensor, factors: Tensor) -> Woodbury:
    """A and the root of M from sigma (..., D) and V (..., D, q)."""
    scaled = (factors.mT / sigma[..., None, :]).double()
    identity = torch.eye(scaled.shape[-2], dtype=scaled.dtype, device=scaled.device)
    root, failed = torch.linalg.cholesky_ex(identity + scaled @ scaled.mT)
    return Woodbury(scaled, torch.where(failed[..., None, None] == 0, root, math.nan))
