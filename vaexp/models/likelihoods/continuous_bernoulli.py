"""The continuous Bernoulli likelihood: a density on images of grey values in [0, 1]."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.models.likelihoods.logits import LogitsDecoded, LogitsHead


class ContinuousBernoulliHead(LogitsHead):
    """p(x|z) = prod_j ContinuousBernoulli(x_j; logits_j(z))."""

    family = LIKELIHOODS["continuous_bernoulli"]

    def forward(self, features: Tensor) -> "IndependentContinuousBernoulli":
        """p(x|z) of features (..., H): batch (...), event (D,)."""
        return IndependentContinuousBernoulli(self.logits(features))


class IndependentContinuousBernoulli(LogitsDecoded):
    """Independent continuous Bernoulli pixels."""

    @staticmethod
    def of_pixels(logits: Tensor) -> "ContinuousBernoulli":
        """Continuous Bernoulli distributions with these logits, (..., D)."""
        return ContinuousBernoulli(logits)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Ln of the product of (e^(eta b) - e^(eta a)) / (e^eta - 1), (...), with the edges a < b.

        Written for |eta|, where a and b change sides if eta < 0, it is
        -|eta| (1 - b) + ln(1 - e^(-|eta| (b - a))) - ln(1 - e^-|eta|): nothing overflows.
        """
        eta = self.logits.double()
        a, b = lower.double().clamp(min=0), upper.double().clamp(max=1)
        beyond = torch.where(eta > 0, 1 - b, a)
        magnitude = eta.abs().clamp(min=1e-12)
        inside, whole = -torch.expm1(-magnitude * (b - a)), -torch.expm1(-magnitude)
        return (inside.log() - whole.log() - magnitude * beyond).sum(-1)


class ContinuousBernoulli(Distribution):
    """The density p(x) = exp(eta x) eta / (e^eta - 1) on [0, 1] (Loaiza-Ganem and Cunningham 2019).

    eta are the logits. torch.distributions.ContinuousBernoulli clamps probabilities, which bounds
    its normaliser and mean where |eta| > 16, and the black pixels of MNIST lie there. Here every
    formula is written in eta, with its Taylor series around the removable singularity at 0.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = False

    def __init__(self, logits: Tensor):
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def _split(self) -> tuple[Tensor, Tensor]:
        """Where |eta| is small, and eta with 1 in these places, for the general formula."""
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
        # computed for |eta| and mirrored, so that no exponential overflows
        positive = -1 / torch.expm1(-magnitude) - 1 / magnitude
        general = torch.where(eta > 0, positive, 1 - positive)
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        return torch.where(small, series, general)

    @property
    def variance(self) -> Tensor:
        """1 / eta^2 - 1 / (2 sinh(eta/2))^2.

        The terms are nearly equal where |eta| is small, so they are subtracted in float64.
        """
        small, eta = self._split()
        eta = eta.double()
        general = (eta**-2 - (2 * torch.sinh(eta / 2)) ** -2).to(self.logits.dtype)
        t = self.logits**2
        series = 1 / 12 - t / 240 + t**2 / 6048
        return torch.where(small, series, general)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws by inverting the distribution function (e^(eta x) - 1) / (e^eta - 1)."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            # Computed for -|eta| and mirrored, so that no exponential overflows. x is u below 1e-6.
            magnitude = self.logits.abs().clamp(min=1e-6)
            x = torch.log1p(u * torch.expm1(-magnitude)) / -magnitude
            return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)
