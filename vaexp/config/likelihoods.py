"""The families of p(x|z): what a config may name, and what is known of each without torch.

The entry of a family names its head, the class under ``vaexp.models.likelihoods`` that answers
everything else. It is imported only when a model is built.
"""

from dataclasses import dataclass
from typing import Literal

GREY = ("scale", "dequantize", "logit")
BINARY = ("binarize", "binarize_stochastic")


@dataclass(frozen=True)
class Family:
    """What titles, tables and the checks of a config need to know of a likelihood."""

    caption: str
    """Its name in a title."""
    head: str
    """``module:class`` of its head."""
    measure: Literal["density", "mass"]
    """What p(x|z) is. The two are never subtracted or ranked against each other."""
    on: str
    """The values that x may have, in words. Masses on other values are not compared."""
    transforms: tuple[str, ...]
    """Values of data.transform that give such x."""
    sigma: bool = False
    """Whether it has a sigma, so that model.sigma_mode and its keys apply."""
    factors: bool = False
    """Whether sigma modes with factors apply too."""
    no_sweep: str | None = None
    """Why mu(z) + k sigma(z) is not an image of it; None where it is."""


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
        no_sweep="it has no sigma",
    ),
    "truncated_gaussian": Family(
        "Gaussian truncated to [0, 1]",
        "vaexp.models.likelihoods.truncated_gaussian:TruncatedGaussianHead",
        measure="density",
        on="[0, 1]",
        transforms=("scale", "dequantize"),
        sigma=True,
        no_sweep="values outside of [0, 1] have the density 0",
    ),
    "discretized_logistic": Family(
        "discretised logistic",
        "vaexp.models.likelihoods.discretized_logistic:DiscretizedLogisticHead",
        measure="mass",
        on="grey levels",
        transforms=("scale",),
        sigma=True,
        no_sweep="values between the grey levels have no mass",
    ),
}
"""Name in a config -> family. A new family is its file and one entry here."""
