"""Factor analysis by EM: its model's section, and the whole experiment."""

from typing import Literal, final

from pydantic import Field

from vaexp.config.linear_gaussian import LinearGaussianConfig, LinearGaussianExperiment
from vaexp.config.training import EMConfig


@final
class FAConfig(LinearGaussianConfig):
    """Factor analysis: p(z) = N(0, I), p(x|z) = N(W z + mu, Psi), Psi diagonal, fitted in float64.

    The first restart begins at the maximum of probabilistic PCA. Other restarts begin at random.
    """

    kind: Literal["fa"]
    """The kind of model."""
    noise_floor: float = Field(1e-3, gt=0)
    """The least noise variance. Without a floor the likelihood has no bound, as a pixel that is the
    same in all images, or that a latent explains alone, needs no noise."""

    @property
    def implementation(self) -> str:
        """The class FA."""
        return "vaexp.models.fa:FA"

    def caption(self) -> list[str]:
        """The number of latents, and the floor of the noise."""
        return [f"factor analysis, L = {self.latent_dim}", f"noise floor {self.noise_floor:g}"]

    @property
    def captioned(self) -> frozenset[str]:
        """The keys whose values ``caption`` says."""
        return frozenset({"kind", "latent_dim", "noise_floor"})

    @property
    def floor(self) -> float:
        """The floor of the noise variances."""
        return self.noise_floor


class FATrainConfig(EMConfig):
    """Expectation maximisation, which takes many iterations of milliseconds each."""

    max_iter: int = Field(5000, ge=0)
    """The largest number of iterations. 0 keeps the initial parameters."""
    tolerance: float = Field(1e-7, ge=0)
    """Stop when an iteration adds fewer nats to the mean ln p(x) of the training images."""


@final
class FAExperiment(LinearGaussianExperiment):
    """Factor analysis by EM. The smallest is ``model: {kind: fa}``."""

    model: FAConfig
    train: FATrainConfig = FATrainConfig()

    @property
    def steps(self) -> str:
        """The class FASteps."""
        return "vaexp.fitting.fa:FASteps"
