"""Factor analysis by EM: its model's section, and the whole experiment."""

from typing import Literal, final

from pydantic import Field

from vaexp.config.base import BaseConfig, DecodeMode, ModelSection
from vaexp.config.data import PIXELS
from vaexp.config.training import EMConfig


@final
class FAConfig(ModelSection):
    """Factor analysis: p(z) = N(0, I), p(x|z) = N(W z + mu, Psi), Psi diagonal, fitted in float64.

    The first restart begins at the maximum of probabilistic PCA. Other restarts begin at random.
    """

    kind: Literal["fa"]
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, lt=PIXELS)
    """L, the number of latent dimensions."""
    noise_floor: float = Field(1e-3, gt=0)
    """The least noise variance. Without a floor the likelihood has no bound, as a pixel that is the
    same in all images, or that a latent explains alone, needs no noise."""
    decode_mode: DecodeMode = "mean"
    """What figures and `vaexp sample` draw by default. mean: mu(z). sample: a draw of
    p(x|z). sweep: mu(z) + k sigma, k = -2..2, with a sigma for every pixel."""

    def caption(self) -> list[str]:
        """The number of latents, and the floor of the noise."""
        return [f"factor analysis, L = {self.latent_dim}", f"noise floor {self.noise_floor:g}"]

    @property
    def unit(self) -> Literal["epoch", "iteration"]:
        """The unit of EM is an iteration."""
        return "iteration"

    @property
    def floor(self) -> float:
        """The floor of the noise variances."""
        return self.noise_floor

    @property
    def likelihood_facts(self) -> dict[str, str | float]:
        """A density of x, which the floor of the noise variances bounds."""
        return {"measure": "density", "of": "x", "covariance_floor": self.noise_floor}

    @property
    def kl_factor(self) -> float:
        """EM maximises the ELBO itself."""
        return 1.0

    @property
    def discrete(self) -> bool:
        """z is a vector."""
        return False


class FATrainConfig(EMConfig):
    """Expectation maximisation, which takes many iterations of milliseconds each."""

    max_iter: int = Field(5000, ge=0)
    """The largest number of iterations. 0 keeps the initial parameters."""
    tolerance: float = Field(1e-7, ge=0)
    """Stop when an iteration adds fewer nats to the mean ln p(x) of the training images."""


class FAExperiment(BaseConfig):
    """Factor analysis by EM. The smallest is ``model: {kind: fa}``."""

    model: FAConfig
    train: FATrainConfig = FATrainConfig()
