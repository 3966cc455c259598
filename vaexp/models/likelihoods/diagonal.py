"""The Gaussian N(mu, diag sigma^2), whose pixels are independent."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.distributions import Normal, constraints

from vaexp.models.likelihoods.independent import IndependentPixels
from vaexp.models.likelihoods.interface import Quadratic, Tempered

LOG_2_PI = math.log(2 * math.pi)


class DiagonalGaussian(IndependentPixels):
    """N(mu, diag sigma^2) with mu (..., D) and sigma of a shape that broadcasts to it."""

    support = constraints.real_vector

    pixels: Normal

    def __init__(self, mean: Tensor, sigma: Tensor):
        super().__init__(Normal(mean, sigma, validate_args=False))

    @property
    def stddev(self) -> Tensor:
        """sigma, (..., D)."""
        return self.pixels.stddev

    @property
    def sigma(self) -> Tensor:
        """sigma, (..., D)."""
        return self.pixels.stddev

    def double(self) -> Self:
        """The same distribution in float64."""
        return type(self)(self.mean.double(), self.sigma.double())

    def tempered(self, beta: float) -> Tempered:
        """N(mu, beta sigma^2) and ln Z, which ``log_z_of_power`` gives."""
        log_z = log_z_of_power(self.pixels.scale, self.mean.shape[-1], beta)
        wider = DiagonalGaussian(self.pixels.loc, math.sqrt(beta) * self.pixels.scale)
        return Tempered(wider, log_z)

    def log_prob_at_sigmas(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Ln N(x; mu, diag sigma_s^2), (N, S) float64."""
        return log_normal_of_squares((x.double() - self.mean.double()).square(), sigma)

    def log_prob_at_floors(self, x: Tensor, floor: float, factors: Sequence[float]) -> Tensor:
        """Ln N(x; mu, (sigma + (factor - 1) floor)^2), (N, F) float64."""
        columns = []
        for factor in factors:
            sigma = self.sigma if factor == 1 else self.sigma + (factor - 1) * floor
            squares = ((x - self.mean) / sigma).square().sum(1, dtype=torch.float64)
            columns.append(-0.5 * squares - sigma.log().sum(1, dtype=torch.float64))
        return torch.stack(columns, 1) - 0.5 * x.shape[1] * LOG_2_PI

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Ln of the product of Phi((upper - mu) / sigma) - Phi((lower - mu) / sigma), (...)."""
        mean, sigma = self.pixels.loc, self.pixels.scale
        return log_normal_mass(mean, sigma, lower, upper).sum(-1)

    def quadratic(self) -> Quadratic:
        """Ln p(x|z) as a polynomial in x, with a = mu / sigma^2 and b = -1 / (2 sigma^2)."""
        precision = self.pixels.scale.square().reciprocal()
        linear = self.pixels.loc * precision
        log_det = self.pixels.scale.log().sum(-1)
        constant = 0.5 * torch.linalg.vecdot(linear, self.pixels.loc) + log_det
        constant = -constant - 0.5 * LOG_2_PI * linear.shape[-1]
        return Quadratic(constant, linear, -0.5 * precision)


def log_z_of_power(sigma: Tensor, pixels: int, beta: float) -> Tensor:
    """ln Z of N(x; mu, diag sigma^2)^(1/beta) = Z N(x; mu, beta diag sigma^2), (...).

    It is (1 - 1/beta)/2 ln |2 pi Sigma| + D/2 ln beta. sigma is (..., D), or (..., 1) if it is the
    same for all of the D = ``pixels``.
    """
    log_det = (LOG_2_PI + 2 * sigma.log()).sum(-1) * (pixels / sigma.shape[-1])
    return 0.5 * (1 - 1 / beta) * log_det + pixels / 2 * math.log(beta)


def log_normal_of_squares(squares: Tensor, sigma: Tensor) -> Tensor:
    """Ln N(x; mu, diag sigma^2), (N, S) float64, at each sigma of (S, D).

    ``squares`` is (x - mu)^2, (N, D). The formula is
    -sum_j [ln(2 pi sigma_j^2) + (x_j - mu_j)^2 / sigma_j^2] / 2.
    """
    variance = sigma.double().square()
    constant = -0.5 * (2 * math.pi * variance).log().sum(1)
    return constant - squares.double() @ (0.5 / variance).T


def log_normal_mass(mean: Tensor, sigma: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Ln P(lower < x < upper) of x ~ N(mean, sigma^2), elementwise, float64.

    With a < b the edges in units of sigma, it is ln Phi(b) + ln(1 - e^(ln Phi(a) - ln Phi(b))).
    Where a is above 0, both edges change sides and signs: there both Phi are nearly 1, and here
    their logarithms keep all digits.
    """
    a, b = ((edge.double() - mean.double()) / sigma.double() for edge in (lower, upper))
    above = a > 0
    a, b = torch.where(above, -b, a), torch.where(above, -a, b)
    log_b = torch.special.log_ndtr(b)
    below = (torch.special.log_ndtr(a) - log_b).exp_()
    return log_b + (-below).log1p()
