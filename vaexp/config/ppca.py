"""Probabilistic PCA: its model's section, and the whole experiment."""

from typing import ClassVar, Literal, final

from pydantic import Field

from vaexp.config.base import BaseConfig, DecodeMode, ModelSection
from vaexp.config.data import PIXELS
from vaexp.config.section import Condition, only_when
from vaexp.config.training import EMConfig


@final
class PPCAConfig(ModelSection):
    """Probabilistic PCA: p(z) = N(0, I), p(x|z) = N(W z + mu, sigma^2 I), fitted in float64."""

    kind: Literal["ppca"]
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, lt=PIXELS)
    """L, the number of latent dimensions."""
    method: Literal["em", "closed_form"] = "em"
    """em: by EM. closed_form: from the eigenvectors of the covariance (Tipping and Bishop 1999)."""
    decode_mode: DecodeMode = "mean"
    """What figures and `vaexp sample` draw by default. mean: mu(z). sample: a draw of
    p(x|z). sweep: mu(z) + k sigma, k = -2..2."""

    def caption(self) -> list[str]:
        """The number of latents, and how the parameters are found."""
        method = {"em": "EM", "closed_form": "closed form"}[self.method]
        return [f"probabilistic PCA, L = {self.latent_dim}", method]

    @property
    def unit(self) -> Literal["epoch", "iteration"]:
        """The unit of EM is an iteration."""
        return "iteration"

    @property
    def floor(self) -> float:
        """0: sigma has no floor."""
        return 0.0

    @property
    def likelihood_facts(self) -> dict[str, str | float]:
        """A density of x, with no floor to stand beside it."""
        return {"measure": "density", "of": "x"}

    @property
    def kl_factor(self) -> float:
        """EM maximises the ELBO itself."""
        return 1.0

    @property
    def discrete(self) -> bool:
        """z is a vector."""
        return False


class PPCAExperiment(BaseConfig):
    """Probabilistic PCA. The smallest is ``model: {kind: ppca}``."""

    conditions: ClassVar[tuple[Condition, ...]] = (only_when(("train",), "model.method", "em"),)

    model: PPCAConfig
    train: EMConfig = EMConfig()
