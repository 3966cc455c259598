"""Probabilistic PCA: its model's section, and the whole experiment."""

from typing import ClassVar, Literal, final

from pydantic import Field

from vaexp.config.linear_gaussian import LinearGaussianConfig, LinearGaussianExperiment
from vaexp.config.section import Condition, only_when
from vaexp.config.training import EMConfig


@final
class PPCAConfig(LinearGaussianConfig):
    """Probabilistic PCA: p(z) = N(0, I), p(x|z) = N(W z + mu, sigma^2 I), fitted in float64."""

    kind: Literal["ppca"]
    """The kind of model."""
    method: Literal["em", "closed_form"] = "em"
    """em: by EM. closed_form: from the eigenvectors of the covariance (Tipping and Bishop 1999)."""

    @property
    def implementation(self) -> str:
        """The class PPCA."""
        return "vaexp.models.ppca:PPCA"

    def caption(self) -> list[str]:
        """The number of latents, and how the parameters are found."""
        method = {"em": "EM", "closed_form": "closed form"}[self.method]
        return [f"probabilistic PCA, L = {self.latent_dim}", method]

    @property
    def captioned(self) -> frozenset[str]:
        """The keys whose values ``caption`` says."""
        return frozenset({"kind", "latent_dim", "method"})

    @property
    def floor(self) -> float:
        """0: sigma has no floor."""
        return 0.0


class PPCATrainConfig(EMConfig):
    """Expectation maximisation, which takes many iterations of milliseconds each."""

    tolerance: float = Field(1e-9, ge=0)
    """Stop when an iteration adds fewer nats to the mean ln p(x) of the training images."""


@final
class PPCAExperiment(LinearGaussianExperiment):
    """Probabilistic PCA. The smallest is ``model: {kind: ppca}``."""

    conditions: ClassVar[tuple[Condition, ...]] = (only_when(("train",), "model.method", "em"),)

    model: PPCAConfig
    train: PPCATrainConfig = PPCATrainConfig()

    @property
    def steps(self) -> str:
        """The class PPCASteps."""
        return "vaexp.fitting.ppca:PPCASteps"

    @property
    def closed_form(self) -> bool:
        """Whether ``method`` says so."""
        return self.model.method == "closed_form"
