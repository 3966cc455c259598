"""Heads whose pixels have p(x_j|z) = h(eta_j) e^(eta_j x_j), with logits eta(z)."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaexp.models.absent import Absent
from vaexp.models.likelihoods.independent import IndependentPixels
from vaexp.models.likelihoods.interface import NO_SIGMA, Likelihood, Quadratic, Tempered

if TYPE_CHECKING:
    from vaexp.config import VAEConfig


class LogitsHead(Likelihood):
    """The logits eta are a linear map of the features. A subclass says of what distribution."""

    def __init__(self, features: int, data_dim: int):
        super().__init__()
        self.logits = nn.Linear(features, data_dim)

    @classmethod
    def from_config(cls, config: "VAEConfig", features: int, data_dim: int) -> Self:  # noqa: ARG003
        """The head on H ``features``, for D = ``data_dim`` pixels."""
        return cls(features, data_dim)

    @property
    def scale(self) -> Absent:
        """Absent: it has no sigma."""
        return NO_SIGMA

    @property
    def constant_log_z(self) -> bool:
        """False: Z(z) depends on z through the logits."""
        return False

    def best_sigma(self, squares: Tensor, floor: float) -> Absent:  # noqa: ARG002
        """Absent: it has no sigma."""
        return NO_SIGMA

    def gap_to_mean(self, data_dim: int) -> Absent:  # noqa: ARG002
        """Absent: it is another number for every z."""
        return Absent("the gap between mu(z) and a draw depends on the logits")

    def affine(self) -> Absent:
        """Absent: the noise is not Gaussian."""
        return Absent("p(x|z) is not a Gaussian")


class LogitsDecoded(IndependentPixels):
    """Independent pixels with logits eta (..., D)."""

    def __init__(self, logits: Tensor):
        self.logits = logits
        super().__init__(self.of_pixels(logits))

    @staticmethod
    @abstractmethod
    def of_pixels(logits: Tensor) -> Distribution:
        """The distribution of every pixel by itself."""

    @property
    def sigma(self) -> Absent:
        """Absent: it has no sigma."""
        return NO_SIGMA

    def double(self) -> Self:
        """The same distribution in float64."""
        return type(self)(self.logits.double())

    def tempered(self, beta: float) -> Tempered:
        """The same family with logits eta / beta; Z = p(0)^(1/beta) / p_beta(0)."""
        p_beta = type(self)(self.logits / beta)
        zero = torch.zeros_like(self.logits)
        return Tempered(p_beta, self.log_prob(zero) / beta - p_beta.log_prob(zero))

    def log_prob_at_sigmas(self, x: Tensor, sigma: Tensor) -> Absent:  # noqa: ARG002
        """Absent: it has no sigma."""
        return NO_SIGMA

    def log_prob_at_floors(self, x: Tensor, floor: float, factors: Sequence[float]) -> Absent:  # noqa: ARG002
        """Absent: it has no sigma."""
        return NO_SIGMA

    def quadratic(self) -> Quadratic:
        """Ln p(x|z) as a polynomial in x, with a = eta and b = 0."""
        zero = torch.zeros_like(self.logits)
        return Quadratic(self.log_prob(zero), self.logits, zero)
