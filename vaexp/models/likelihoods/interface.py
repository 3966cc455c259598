"""The questions that every family of p(x|z) answers, so that no other code asks which one it is.

A ``Likelihood`` is the head of a decoder: it maps features (..., H) to p(x|z), a ``Decoded``.
Letters in shapes: N data, D pixels, H features, S sigmas, F floors. Log quantities are in nats per
image, summed over pixels. A question that a family cannot answer gets ``Absent`` with the reason.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaexp.config.likelihoods import Family
from vaexp.config.sigma import SigmaMode
from vaexp.models.absent import Absent

if TYPE_CHECKING:
    from vaexp.config import VAEConfig


NO_SIGMA = Absent("p(x|z) has no sigma")


class Tempered(NamedTuple):
    """p(x|z)^(1/beta) = Z(z) p_beta(x|z), where p_beta is normalised."""

    distribution: "Decoded"
    """p_beta(x|z)."""
    log_z: Tensor
    """ln Z(z), (...). Z(z) is the integral of p(x|z)^(1/beta) over x, of a mass the sum."""


class Quadratic(NamedTuple):
    """ln p(x|z_k) = c_k + a_k.x + b_k.x^2 for K latents: for many x it is a matrix product."""

    constant: Tensor
    """c (K,)."""
    linear: Tensor
    """a (K, D)."""
    square: Tensor
    """b (K, D)."""


class Affine(NamedTuple):
    """p(x|h) = N(W h + b, diag variance) of features h, whose noise is the same for every z."""

    weight: Tensor
    """W (D, H)."""
    bias: Tensor
    """b (D,)."""
    variance: Tensor
    """The variance of all pixels, (), or of each, (D,)."""


class Decoded(Distribution, ABC):
    """p(x|z) at given latents z: batch shape (...), event shape (D,).

    As for any torch distribution, ``mean`` is mu(z) and ``variance`` that of each pixel by itself,
    both (..., D), ``sample`` draws x and ``log_prob`` is summed over pixels.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, shape: torch.Size):
        super().__init__(shape[:-1], shape[-1:], validate_args=False)

    @property
    @abstractmethod
    def sigma(self) -> Tensor | Absent:
        """The standard deviations that the floor of sigma bounds, (..., D)."""

    @abstractmethod
    def double(self) -> Self:
        """The same distribution in float64."""

    @abstractmethod
    def pixel_log_prob(self, x: Tensor) -> Tensor | Absent:
        """Ln p(x_j|z) of every pixel by itself, (..., D), whose sum is ``log_prob``."""

    @abstractmethod
    def tempered(self, beta: float) -> Tempered | Absent:
        """p(x|z)^(1/beta), beta > 0, as a normalised distribution and its normaliser."""

    @abstractmethod
    def log_prob_at_sigmas(self, x: Tensor, sigma: Tensor) -> Tensor | Absent:
        """Ln p(x|z) with the same mu(z) and each of sigma (S, D) in place of sigma(z).

        x is (N, D), the batch (N,), the result (N, S) float64. Factors beside sigma are left out.
        """

    @abstractmethod
    def log_prob_at_floors(
        self, x: Tensor, floor: float, factors: Sequence[float]
    ) -> Tensor | Absent:
        """Ln p(x|z) of the same weights, had sigma's ``floor`` been multiplied by each factor.

        sigma = floor + softplus(raw) (``location_scale.scale_above``), so the same weights with
        another floor have sigma + (other - floor). x is (N, D), the batch (N,), and the result
        (N, F) float64.
        """

    @abstractmethod
    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor | Absent:
        """Ln P(lower_j < x_j < upper_j for all pixels | z), (...) float64, nats.

        lower < upper, (..., D), are the edges of the grey level of each pixel. The first level has
        no lower edge (-inf) and the last no upper one (inf). A density has such a mass too, which
        is at most 1: the density's own value has no bound.
        """

    @abstractmethod
    def quadratic(self) -> Quadratic | Absent:
        """Ln p(x|z) as a polynomial in the pixels, where the batch is (K,)."""


@dataclass(frozen=True)
class Scale:
    """What the sigma of a head is."""

    mode: SigmaMode
    least: float
    """The floor of a learned sigma, or the number that is fixed."""


class Likelihood(nn.Module, ABC):
    """A family of p(x|z) as the last layer of a decoder."""

    family: ClassVar[Family]

    def log_z(self, features: Tensor, beta: float) -> Tensor | Absent:
        """ln Z(z) of p(x|z)^(1/beta) at features (..., H), (...); ``Tempered`` says what Z is."""
        decoded: Decoded = self(features)
        tempered = decoded.tempered(beta)
        return tempered if isinstance(tempered, Absent) else tempered.log_z

    @classmethod
    @abstractmethod
    def from_config(cls, config: "VAEConfig", features: int, data_dim: int) -> "Likelihood":
        """The head that a config describes, on H ``features``, for D = ``data_dim`` pixels."""

    @abstractmethod
    def forward(self, features: Tensor) -> Decoded:
        """p(x|z) of features (..., H): batch (...), event (D,)."""

    @property
    @abstractmethod
    def scale(self) -> Scale | Absent:
        """What the sigma of the head is."""

    @property
    @abstractmethod
    def constant_log_z(self) -> bool:
        """Whether the normaliser of p(x|z)^(1/beta) is the same for every z."""

    def implied_sigma(self, beta: float) -> float | Absent:
        """The sigma that training at ``beta`` amounts to: sqrt(beta) times a sigma that is fixed.

        E_q ln N(x; mu, sigma^2) - beta KL is beta times the ELBO at variance beta sigma^2, up to a
        constant: ln Z of p(x|z)^(1/beta), which must be the same for every z.
        """
        scale = self.scale
        if isinstance(scale, Absent):
            return scale
        if scale.mode.learned:
            return Absent("sigma is learned; see induced_sigma for what beta does")
        if beta == 0:
            return Absent("beta is 0, which implies no sigma")
        if beta != 1 and not self.constant_log_z:
            return Absent("beta is more than a choice of sigma: Z(z) of p(x|z)^(1/beta) varies")
        return math.sqrt(beta) * scale.least

    @abstractmethod
    def best_sigma(self, squares: Tensor, floor: float) -> Tensor | Absent:
        """The sigma >= ``floor`` at which the mean of ln p(x|z) is largest.

        ``squares`` is the mean of (x - mu(z))^2 over the pixels and images that share a sigma. The
        result has its shape.
        """

    @abstractmethod
    def gap_to_mean(self, data_dim: int) -> float | Absent:
        """E [ln p(mu(z)|z) - ln p(x|z)] of x ~ p(x|z), if it is the same for every z, nats."""

    @abstractmethod
    def affine(self) -> Affine | Absent:
        """The head as a linear map with Gaussian noise, the same for every z, if it is one."""
