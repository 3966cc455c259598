"""The families of p(x|z) that a config may name, with the facts on each that need no torch.

The entry of a family names its head, the class under ``vaexp.models.likelihoods`` that answers
everything else. It is imported only when a model is built.
"""

from dataclasses import dataclass
from typing import Literal

GREY = ("scale", "dequantize", "logit")
BINARY = ("binarize", "binarize_stochastic", "binarize_static")
GREY_LEVELS = "grey levels"


@dataclass(frozen=True)
class Family:
    """The facts on a likelihood that titles, tables and the checks of a config need."""

    caption: str
    """The name of the family in a title."""
    head: str
    """The class of its head, as ``module:class``."""
    measure: Literal["density", "mass"]
    """Whether p(x|z) is a density or a mass. The two are never compared with each other."""
    on: str
    """The values that x may have, in words. Masses on other values are not compared."""
    transforms: tuple[str, ...]
    """The values of ``data.transform`` that give such x."""
    sigma: bool = False
    """Whether it has a sigma, so that ``model.sigma_mode`` and the keys beside it apply."""
    factors: bool = False
    """Whether sigma modes with factors apply too."""
    unbounded: str | None = None
    """Why images can drive its density to infinity although no floor of sigma holds it, or None."""
    no_sweep: str | None = None
    """The reason why mu(z) + k sigma(z) is not an image of it, or None where it is."""


LIKELIHOODS: dict[str, Family] = {
    "gaussian": Family(
        "Gaussian",
        "vaexp.models.likelihoods.gaussian:GaussianHead",
        measure="density",
        on="all numbers",
        transforms=GREY + BINARY,
        sigma=True,
        factors=True,
    ),
    "bernoulli": Family(
        "Bernoulli",
        "vaexp.models.likelihoods.bernoulli:BernoulliHead",
        measure="mass",
        on="binary pixels",
        transforms=BINARY,
        no_sweep="it has no sigma",
    ),
    "continuous_bernoulli": Family(
        "continuous Bernoulli",
        "vaexp.models.likelihoods.continuous_bernoulli:ContinuousBernoulliHead",
        measure="density",
        on="[0, 1]",
        transforms=("scale", "dequantize"),
        unbounded="a pixel that is always 0 or 1 has a density of about |logit|, without limit",
        no_sweep="it has no sigma",
    ),
    "truncated_gaussian": Family(
        "Gaussian truncated to [0, 1]",
        "vaexp.models.likelihoods.truncated_gaussian:TruncatedGaussianHead",
        measure="density",
        on="[0, 1]",
        transforms=("scale", "dequantize"),
        sigma=True,
        unbounded="a pixel that is always 0 or 1 has a density of about |m| / σ², without limit",
        no_sweep="values outside of [0, 1] have the density 0",
    ),
    "discretized_logistic": Family(
        "discretised logistic",
        "vaexp.models.likelihoods.discretized_logistic:DiscretizedLogisticHead",
        measure="mass",
        on=GREY_LEVELS,
        transforms=("scale",),
        sigma=True,
        no_sweep="values between the grey levels have no mass",
    ),
}
"""The families by their names in a config. A new family is its own file and one entry here."""
