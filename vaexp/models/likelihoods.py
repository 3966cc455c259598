"""The families of p(x|z), each a head that maps decoder features to a torch distribution.

Letters in shapes: N data, D pixels, H decoder features. Every head returns a distribution with
batch shape (..., ) and event shape (D,), so ``log_prob`` sums over pixels and is in nats per image.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal, constraints
from torch.nn.functional import softplus


def scale_above(floor: float, raw: Tensor) -> Tensor:
    """A standard deviation from an unconstrained ``raw``, never below ``floor``.

    floor + softplus(raw). It grows linearly, not exponentially: with exp, one latent far from all
    others sends sigma(z) to infinity and the run with it (seen in epoch 81 of per-pixel sigma).
    """
    return floor + softplus(raw)


def raw_for(scale: float, floor: float) -> float:
    """The ``raw`` for which ``scale_above(floor, raw)`` is ``scale`` > ``floor``."""
    excess = scale - floor
    return excess + math.log(-math.expm1(-excess))


class GaussianHead(nn.Module):
    """p(x|z) = N(mu(z), diag sigma^2), mu a linear map of the features.

    ``sigma_mode``: fixed, the number ``sigma``; global, one learned number; shared, sigma(z), one
    per image; pixel, sigma(z), one per pixel. Learned ones start at ``sigma`` for every z and stay
    above ``floor``.
    """

    has_sigma = True

    def __init__(
        self, features: int, data_dim: int, *, sigma_mode: str, sigma: float, floor: float
    ):
        super().__init__()
        self.mean = nn.Linear(features, data_dim)
        self.sigma_mode = sigma_mode
        self.floor = floor
        if sigma_mode == "fixed":
            self.register_buffer("sigma", torch.tensor([sigma]))
        elif sigma_mode == "global":
            start = torch.full((1,), raw_for(sigma, floor))
            self.register_parameter("raw_sigma", nn.Parameter(start))
        else:
            self.raw_sigma = nn.Linear(features, 1 if sigma_mode == "shared" else data_dim)
            nn.init.zeros_(self.raw_sigma.weight)
            nn.init.constant_(self.raw_sigma.bias, raw_for(sigma, floor))

    def forward(self, features: Tensor) -> Distribution:
        """(..., H) features to a distribution over (..., D) images."""
        if self.sigma_mode == "fixed":
            scale = self.get_buffer("sigma")
        elif self.sigma_mode == "global":
            scale = scale_above(self.floor, self.get_parameter("raw_sigma"))
        else:
            scale = scale_above(self.floor, self.raw_sigma(features))
        return Independent(Normal(self.mean(features), scale, validate_args=False), 1)


class LogitsHead(nn.Module):
    """p(x|z) = prod_j family(x_j; logits_j(z)), the logits a linear map of the features.

    The families are ``bernoulli``, a mass on binary images, and ``ContinuousBernoulli``, a density
    on [0, 1]^D.
    """

    has_sigma = False

    def __init__(self, features: int, data_dim: int, family: Callable[[Tensor], Distribution]):
        super().__init__()
        self.logits = nn.Linear(features, data_dim)
        self.family = family

    def forward(self, features: Tensor) -> Distribution:
        """(..., H) features to a distribution over (..., D) images."""
        return Independent(self.family(self.logits(features)), 1)


def bernoulli(logits: Tensor) -> Distribution:
    """Bernoulli(x_j; logits_j), whose value is 0 or 1."""
    return Bernoulli(logits=logits, validate_args=False)


class ContinuousBernoulli(Distribution):
    """The density p(x) = exp(eta x) eta / (e^eta - 1) on [0, 1] (Loaiza-Ganem and Cunningham 2019).

    eta are the logits. torch.distributions.ContinuousBernoulli clamps probabilities, which bounds
    its normaliser and mean where |eta| > 16, and the black pixels of MNIST lie there; here every
    formula is written in eta, with its Taylor series around the removable singularity at 0.
    """

    arg_constraints: dict[str, constraints.Constraint] = {"logits": constraints.real}  # noqa: RUF012
    support = constraints.unit_interval
    has_rsample = False

    def __init__(self, logits: Tensor):
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def _split(self) -> tuple[Tensor, Tensor]:
        """Where |eta| is small, and eta with a harmless value there for the general formula."""
        small = self.logits.abs() < 0.05
        return small, torch.where(small, torch.ones_like(self.logits), self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        """Ln p(value), elementwise, in nats: eta x - ln((e^eta - 1) / eta)."""
        small, eta = self._split()
        magnitude = eta.abs()
        general = eta.clamp(min=0) + torch.log(-torch.expm1(-magnitude)) - magnitude.log()
        t = self.logits**2
        series = self.logits / 2 + t / 24 - t**2 / 2880
        return self.logits * value - torch.where(small, series, general)

    @property
    def mean(self) -> Tensor:
        """1 / (1 - e^-eta) - 1 / eta."""
        small, eta = self._split()
        magnitude = eta.abs()
        # for |eta| and mirrored, so that no exponential overflows
        positive = -1 / torch.expm1(-magnitude) - 1 / magnitude
        general = torch.where(eta > 0, positive, 1 - positive)
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        return torch.where(small, series, general)

    @property
    def variance(self) -> Tensor:
        """1 / eta^2 - 1 / (2 sinh(eta/2))^2."""
        small, eta = self._split()
        general = eta**-2 - (2 * torch.sinh(eta / 2)) ** -2
        t = self.logits**2
        series = 1 / 12 - t / 240 + t**2 / 6048
        return torch.where(small, series, general)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws by inverting the distribution function (e^(eta x) - 1) / (e^eta - 1)."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            # for -|eta| and mirrored, so that no exponential overflows; below 1e-6 x is u
            magnitude = self.logits.abs().clamp(min=1e-6)
            x = torch.log1p(u * torch.expm1(-magnitude)) / -magnitude
            return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)
