"""A VAE by stochastic gradients: its model's section, and the whole experiment."""

from typing import Annotated, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from vaexp.config.base import BaseConfig, DecodeMode, ModelSection
from vaexp.config.data import PIXELS
from vaexp.config.section import Condition, only_when, problem
from vaexp.config.training import EvaluateConfig, SGDConfig

SigmaMode = Literal["fixed", "global", "shared", "pixel"]

Width = Annotated[int, Field(ge=1, le=16_384)]

FAMILIES = {
    "gaussian": "Gaussian",
    "bernoulli": "Bernoulli",
    "continuous_bernoulli": "continuous Bernoulli",
}


@final
class VAEConfig(ModelSection):
    """A variational autoencoder: p(z) = N(0, I), networks for q(z|x) and p(x|z)."""

    conditions: ClassVar[tuple[Condition, ...]] = (
        only_when(("sigma_mode", "sigma", "sigma_floor"), "likelihood", "gaussian"),
        Condition(
            ("activation",),
            "hidden",
            lambda hidden: hidden != [],
            "to a linear model, whose hidden is []",
        ),
    )

    kind: Literal["vae"]
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, le=PIXELS)
    """L, the number of latent dimensions."""
    hidden: list[Width] = Field([512, 256], max_length=32)
    """Widths of the encoder's hidden layers; the decoder mirrors them. [] is linear."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """The non-linearity between layers."""
    conditional: bool = True
    """Give the label to encoder and decoder (the report's supervised VAE)."""
    likelihood: Literal["gaussian", "bernoulli", "continuous_bernoulli"] = "gaussian"
    """The family of p(x|z)."""
    sigma_mode: SigmaMode = "fixed"
    """fixed: the number `sigma`. global: one learned number. shared: sigma(z), one per image.
    pixel: sigma(z), one per pixel."""
    sigma: float = Field(1.0, gt=0)
    """The standard deviation of p(x|z) when fixed, its start when learned."""
    sigma_floor: float = Field(1e-3, gt=0)
    """A learned sigma never goes below this."""
    beta: float = Field(1.0, ge=0)
    """The factor of the KL term in the training objective. The reported ELBO has none."""
    beta_warmup: float = Field(0.0, ge=0)
    """Epochs over which the factor rises linearly from 0 to `beta`."""
    decode_mode: DecodeMode = "mean"
    """What figures and `vaexp sample` draw unless told otherwise. mean: mu(z). sample: a draw of
    p(x|z). sweep: mu(z) + k sigma(z), k = -2..2."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.likelihood != "gaussian" and self.decode_mode == "sweep":
            raise problem(
                f"sweep draws mu + k sigma, and a {self.likelihood} likelihood has no sigma; "
                "use mean or sample",
                "decode_mode",
            )
        learned = self.likelihood == "gaussian" and self.sigma_mode != "fixed"
        if learned and self.sigma <= self.sigma_floor:
            raise problem(
                f"a learned sigma starts at {self.sigma:g}, which must be above "
                f"sigma_floor = {self.sigma_floor:g}",
                "sigma",
            )
        return self

    def caption(self) -> list[str]:
        """The network, the likelihood and beta."""
        network = "VAE" if self.hidden else "linear VAE"
        likelihood = FAMILIES[self.likelihood]
        if self.likelihood == "gaussian":
            learned = f"≥ {self.sigma_floor:g}"
            likelihood += {
                "fixed": f", σ fixed at {self.sigma:g}",
                "global": f", one learned σ ({learned})",
                "shared": f", σ(z) per image ({learned})",
                "pixel": f", σ(z) per pixel ({learned})",
            }[self.sigma_mode]
        parts = [f"{network}, L = {self.latent_dim}", likelihood, f"β = {self.beta:g}"]
        return parts + (["given the label"] if self.conditional else [])

    @property
    def unit(self) -> Literal["epoch", "iteration"]:
        """Gradients count epochs."""
        return "epoch"

    @property
    def floor(self) -> float:
        """The floor of sigma."""
        return self.sigma_floor

    @property
    def likelihood_facts(self) -> dict[str, str | float]:
        """A Gaussian stands beside its sigma when that is fixed, else beside sigma's floor."""
        facts: dict[str, str | float] = {
            "measure": "mass" if self.likelihood == "bernoulli" else "density",
            "of": "x given label" if self.conditional else "x",
        }
        if self.likelihood == "gaussian":
            key = "sigma" if self.sigma_mode == "fixed" else "sigma_floor"
            facts[key] = getattr(self, key)
        return facts


class VAEExperiment(BaseConfig):
    """A VAE by stochastic gradients. The smallest is ``model: {kind: vae}``."""

    model: VAEConfig
    train: SGDConfig = SGDConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _likelihood_suits_the_data(self) -> Self:
        likelihood, transform = self.model.likelihood, self.data.transform
        binary = transform.startswith("binarize")
        if likelihood == "bernoulli" and not binary:
            raise problem(
                f"bernoulli is a mass on 0 and 1, but data.transform: {transform} gives grey "
                "values; set data.transform to binarize or binarize_stochastic, or use "
                "continuous_bernoulli",
                "model",
                "likelihood",
            )
        if likelihood == "continuous_bernoulli" and (binary or transform == "logit"):
            raise problem(
                f"continuous_bernoulli is a density on [0, 1], which data.transform: {transform} "
                "does not suit; use scale or dequantize",
                "model",
                "likelihood",
            )
        epochs, warmup = self.train.epochs, self.model.beta_warmup
        if epochs is not None and warmup > epochs:
            raise problem(
                f"beta would still be rising when training ends, after {epochs} epochs",
                "model",
                "beta_warmup",
            )
        if self.train.patience is not None and self.data.validation_size == 0:
            raise problem(
                "early stopping watches the validation ELBO, but data.validation_size is 0",
                "train",
                "patience",
            )
        return self
