"""A likelihood that vaexp does not ship, written as a user would add one."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.distributions import Laplace

from vaexp.config.likelihoods import Family
from vaexp.models.absent import Absent
from vaexp.models.likelihoods.interface import NO_SIGMA, Decoded, Likelihood, Quadratic, Tempered

if TYPE_CHECKING:
    from vaexp.config import VAEConfig

LAPLACE = Family(
    "Laplace",
    "toys:LaplaceHead",
    measure="density",
    on="all numbers",
    transforms=("scale", "dequantize"),
    no_sweep="it has no sigma",
)
NOT_POLYNOMIAL = Absent("the density of a Laplace variable is no polynomial")


class LaplaceHead(Likelihood):
    """p(x|z) = prod_j Laplace(x_j; mu_j(z), 1): absolute error instead of squared error."""

    family = LAPLACE

    def __init__(self, features: int, data_dim: int):
        super().__init__()
        self.mean = nn.Linear(features, data_dim)

    @classmethod
    def from_config(cls, config: "VAEConfig", features: int, data_dim: int) -> Self:  # noqa: ARG003
        return cls(features, data_dim)

    def forward(self, features: Tensor) -> "IndependentLaplace":
        return IndependentLaplace(self.mean(features), 1.0)

    @property
    def scale(self) -> Absent:
        return NO_SIGMA

    @property
    def constant_log_z(self) -> bool:
        return True

    def best_sigma(self, squares: Tensor, floor: float) -> Absent:  # noqa: ARG002
        return NO_SIGMA

    def gap_to_mean(self, data_dim: int) -> float:
        return float(data_dim)  # E |x - mu| = 1 in each pixel

    def affine(self) -> Absent:
        return Absent("p(x|z) is not a Gaussian")


class IndependentLaplace(Decoded):
    """Independent Laplace pixels with one scale."""

    def __init__(self, mean: Tensor, scale: float):
        self.pixels = Laplace(mean, scale, validate_args=False)
        super().__init__(mean.shape)

    @property
    def mean(self) -> Tensor:
        return self.pixels.mean

    @property
    def variance(self) -> Tensor:
        return self.pixels.variance

    @property
    def sigma(self) -> Absent:
        return NO_SIGMA

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.pixels.sample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.pixels.log_prob(value).sum(-1)

    def double(self) -> Self:
        return type(self)(self.mean.double(), self.pixels.scale.double())

    def pixel_log_prob(self, x: Tensor) -> Tensor:
        return self.pixels.log_prob(x)

    def tempered(self, beta: float) -> Tempered:
        """Laplace(mu, beta): ln Z = D [ln(2 beta) - ln(2) / beta]."""
        log_z = self.mean.shape[-1] * (math.log(2 * beta) - math.log(2) / beta)
        wider = IndependentLaplace(self.mean, beta * self.pixels.scale)
        return Tempered(wider, torch.full_like(self.mean[..., 0], log_z))

    def log_prob_at_sigmas(self, x: Tensor, sigma: Tensor) -> Absent:  # noqa: ARG002
        return NO_SIGMA

    def log_prob_at_floors(self, x: Tensor, floor: float, factors: Sequence[float]) -> Absent:  # noqa: ARG002
        return NO_SIGMA

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor | Absent:  # noqa: ARG002
        return Absent("the tests have no use for its mass")

    def quadratic(self) -> Quadratic | Absent:
        return NOT_POLYNOMIAL
