"""The Bernoulli likelihood: a mass on images of black and white pixels."""

from torch import Tensor
from torch.distributions import Bernoulli

from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.models.absent import Absent
from vaexp.models.likelihoods.logits import LogitsDecoded, LogitsHead


class BernoulliHead(LogitsHead):
    """p(x|z) = prod_j Bernoulli(x_j; logits_j(z)), x_j 0 or 1."""

    family = LIKELIHOODS["bernoulli"]

    def forward(self, features: Tensor) -> "IndependentBernoulli":
        """p(x|z) of features (..., H): batch (...), event (D,)."""
        return IndependentBernoulli(self.logits(features))


class IndependentBernoulli(LogitsDecoded):
    """Independent Bernoulli pixels."""

    @staticmethod
    def of_pixels(logits: Tensor) -> Bernoulli:
        """Bernoulli distributions with these logits, (..., D)."""
        return Bernoulli(logits=logits, validate_args=False)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Absent:  # noqa: ARG002
        """Its pixels are black or white."""
        return Absent("p(x|z) is a mass on black and white pixels, which have no grey levels")
