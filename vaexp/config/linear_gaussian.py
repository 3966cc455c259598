"""The base of the linear-Gaussian models, p(x|z) = N(W z + mu, Psi) with Psi diagonal.

A model of this family is its section in ``config/models/``, which derives from the classes here,
its file in ``models/``, its steps in ``fitting/``, and its name in ``config/experiments.py``. The
section names the other two, which need torch, and they are imported when a model is built.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import Field

from vaexp.config.base import WIDEST, DecodeMode, ModelSection
from vaexp.config.em import EMExperiment


class LinearGaussianConfig(ModelSection):
    """The section ``model`` of a linear-Gaussian model, fitted by EM in float64."""

    below_pixels: ClassVar[tuple[str, ...]] = ("latent_dim",)

    kind: str
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, le=WIDEST)
    """L, the number of latent dimensions, which is below the number of pixels."""
    decode_mode: DecodeMode = "mean"
    """What figures and `vaexp sample` draw by default. mean: mu(z). sample: a draw of
    p(x|z). sweep: mu(z) + k sigma, k = -2..2."""

    @property
    @abstractmethod
    def implementation(self) -> str:
        """The class of the model, a ``LinearGaussian``, as ``module:class``."""

    @property
    def unit(self) -> Literal["epoch", "iteration"]:
        """The unit of EM is an iteration."""
        return "iteration"

    @property
    def likelihood_facts(self) -> dict[str, str | float]:
        """A density of x, and the floor of the noise variances where there is one."""
        facts: dict[str, str | float] = {"measure": "density", "of": "x"}
        return facts | ({"covariance_floor": self.floor} if self.floor else {})

    @property
    def kl_factor(self) -> float:
        """EM maximises the ELBO itself."""
        return 1.0

    @property
    def shared_factors(self) -> bool:
        """Pixels are independent given z."""
        return False

    @property
    def discrete(self) -> bool:
        """z is a vector."""
        return False


class LinearGaussianExperiment(EMExperiment):
    """The experiment of a linear-Gaussian model."""

    model: LinearGaussianConfig
