"""A VAE by stochastic gradients: its model's section, and the whole experiment."""

import math
from collections.abc import Set
from typing import Annotated, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from vaexp.config.base import WIDEST, BaseConfig, DecodeMode, ModelSection
from vaexp.config.likelihoods import LIKELIHOODS, Family
from vaexp.config.rules import Rule
from vaexp.config.section import Condition, one_of, only_when, problem
from vaexp.config.sigma import SIGMA_MODES, SigmaMode
from vaexp.config.training import EvaluateConfig, SGDConfig

Width = Annotated[int, Field(ge=1, le=WIDEST)]

SIGMA_KEYS = ("sigma_mode", "sigma", "sigma_floor", "factors")
WITH_SIGMA = [name for name, family in LIKELIHOODS.items() if family.sigma]
WITH_SIGMA_OF_Z = "model.sigma_mode: " + " or ".join(
    name for name, mode in SIGMA_MODES.items() if mode.of_z and not mode.factors
)
WITH_FACTORS = [name for name, mode in SIGMA_MODES.items() if mode.factors]


@final
class VAEConfig(ModelSection):
    """A variational autoencoder: p(z) = N(0, I), with networks for q(z|x) and p(x|z)."""

    conditions: ClassVar[tuple[Condition, ...]] = (
        only_when(SIGMA_KEYS, "likelihood", *WITH_SIGMA),
        only_when(("factors",), "sigma_mode", *WITH_FACTORS),
        Condition(
            ("activation",),
            "hidden",
            lambda hidden: hidden != [],
            "to a linear model, whose hidden is []",
            examples=([],),
        ),
    )

    at_most_pixels: ClassVar[tuple[str, ...]] = ("latent_dim",)
    below_pixels: ClassVar[tuple[str, ...]] = ("factors",)

    kind: Literal["vae"]
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, le=WIDEST)
    """L, the number of latent dimensions, at most the number of pixels."""
    hidden: list[Width] = Field([512, 256], max_length=32)
    """The widths of the hidden layers of the encoder, which the decoder mirrors. [] is linear."""
    activation: Literal["relu", "gelu", "silu", "tanh", "elu"] = "relu"
    """The non-linear function between layers."""
    conditional: bool = True
    """Whether encoder and decoder are given the label (the supervised VAE of the report)."""
    likelihood: Annotated[str, *one_of(LIKELIHOODS)] = "gaussian"
    """The family of p(x|z)."""
    sigma_mode: Annotated[str, *one_of(SIGMA_MODES)] = "fixed"
    """fixed: the number `sigma`. global: one learned number. shared: sigma(z), one per image.
    pixel: sigma(z), one per pixel. lowrank: one per pixel and factors V(z) that pixels share, so
    that the covariance is diag sigma^2(z) + V(z) V(z)^T."""
    factors: int = Field(8, ge=1, le=WIDEST)
    """q, the number of columns of V(z), which is below the number of pixels."""
    sigma: float = Field(1.0, gt=0)
    """The standard deviation of p(x|z), or its first value where it is learned."""
    sigma_floor: float = Field(1e-3, gt=0)
    """The least value of a learned sigma."""
    beta: float = Field(1.0, ge=0)
    """The factor of the KL term in the training objective. The ELBO that is reported has none."""
    beta_warmup: float = Field(0.0, ge=0)
    """The number of epochs over which the factor rises linearly from 0 to `beta`."""
    decode_mode: DecodeMode = "mean"
    """What figures and `vaexp sample` draw by default. mean: mu(z). sample: a draw of
    p(x|z). sweep: mu(z) + k sigma(z), k = -2..2."""

    @classmethod
    def rules(cls) -> list[Rule]:
        """Which likelihoods have a sweep, and which have the factors of a sigma mode."""
        swept = [name for name, family in LIKELIHOODS.items() if family.no_sweep is None]
        alone = [name for name, family in LIKELIHOODS.items() if not family.factors]
        modes = [name for name, mode in SIGMA_MODES.items() if not mode.factors]
        return [
            Rule("decode_mode", {"enum": ["sweep"]}, "likelihood", {"enum": swept}),
            Rule("likelihood", {"enum": alone}, "sigma_mode", {"enum": modes}),
        ]

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.decode_mode == "sweep" and self.family.no_sweep is not None:
            raise problem(
                f"sweep draws mu + k sigma, which is no image of a {self.likelihood} likelihood: "
                f"{self.family.no_sweep}; use mean or sample",
                "decode_mode",
            )
        if not self.family.sigma:
            return self
        if self.noise.factors and not self.family.factors:
            raise problem(
                f"a {self.likelihood} likelihood has no factors beside its sigma", "sigma_mode"
            )
        if self.noise.learned and self.sigma <= self.sigma_floor:
            raise problem(
                f"a learned sigma starts at {self.sigma:g}, which must be above "
                f"sigma_floor = {self.sigma_floor:g}",
                "sigma",
            )
        return self

    @property
    def family(self) -> Family:
        """The facts on the likelihood."""
        return LIKELIHOODS[self.likelihood]

    @property
    def noise(self) -> SigmaMode:
        """The mode of sigma, where the likelihood has a sigma."""
        return SIGMA_MODES[self.sigma_mode]

    def caption(self) -> list[str]:
        """The network, the likelihood and beta."""
        network = "VAE" if self.hidden else "linear VAE"
        likelihood = self.family.caption
        if self.family.sigma:
            numbers = {"sigma": self.sigma, "floor": self.sigma_floor, "factors": self.factors}
            likelihood += f", {self.noise.caption.format(**numbers)}"
        parts = [f"{network}, L = {self.latent_dim}", likelihood, f"β = {self.beta:g}"]
        return parts + (["given the label"] if self.conditional else [])

    @property
    def captioned(self) -> frozenset[str]:
        """The keys whose values ``caption`` says."""
        keys = {"kind", "latent_dim", "likelihood", "beta", "conditional"}
        if self.family.sigma:
            keys |= {"sigma_mode", "sigma_floor" if self.noise.learned else "sigma"}
            keys |= {"factors"} if self.noise.factors else set()
        return frozenset(keys)

    @property
    def unit(self) -> Literal["epoch", "iteration"]:
        """The unit of gradients is an epoch."""
        return "epoch"

    @property
    def floor(self) -> float:
        """The floor of sigma."""
        return self.sigma_floor

    @property
    def likelihood_facts(self) -> dict[str, str | float]:
        """Its measure, and its sigma where that is fixed or the floor where it is learned.

        Where nothing bounds a density, the reason stands in place of the floor.
        """
        facts: dict[str, str | float] = {
            "measure": self.family.measure,
            "of": "x given label" if self.conditional else "x",
        }
        if self.family.measure == "mass":
            facts["on"] = self.family.on
        if self.family.unbounded is not None:
            facts["unbounded"] = self.family.unbounded
        if self.family.sigma:
            key = "sigma_floor" if self.noise.learned else "sigma"
            facts[key] = getattr(self, key)
        return facts

    @property
    def kl_factor(self) -> float:
        """The KL term has the factor beta."""
        return self.beta

    @property
    def shared_factors(self) -> bool:
        """Those of the mode of sigma."""
        return self.family.sigma and self.noise.factors

    @property
    def weighs_pixels(self) -> bool:
        """Whether each pixel, by itself, has a weight that follows from sigma(z)."""
        return self.family.sigma and self.noise.of_z and not self.noise.factors

    @property
    def discrete(self) -> bool:
        """z is a vector."""
        return False


@final
class VAEExperiment(BaseConfig):
    """A VAE by stochastic gradients. The smallest is ``model: {kind: vae}``."""

    model: VAEConfig
    train: SGDConfig = SGDConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @classmethod
    def rules(cls) -> list[Rule]:
        """Which transforms a likelihood takes, and what two settings of the training need."""
        of_z = [name for name, mode in SIGMA_MODES.items() if mode.of_z and not mode.factors]
        return [
            *super().rules(),
            *(
                Rule("model.likelihood", {"enum": [name]}, "data.transform", {"enum": [*allowed]})
                for name, allowed in ((name, one.transforms) for name, one in LIKELIHOODS.items())
            ),
            Rule(
                "train.sigma_weighting", {"exclusiveMinimum": 0}, "model.sigma_mode", {"enum": of_z}
            ),
            Rule("train.patience", {"type": "integer"}, "data.validation_size", {"minimum": 1}),
        ]

    @property
    def importance_samples(self) -> int:
        """The number that ``evaluate`` names."""
        return self.evaluate.importance_samples

    def complaint_on_images(self, images: int, digits: Set[int]) -> str | None:  # noqa: ARG002
        """Training by steps must last until beta has risen; an epoch's steps follow from images."""
        steps, warmup = self.train.steps, self.model.beta_warmup
        if steps is None:
            return None
        epochs = steps / math.ceil(images / self.train.batch_size)
        if warmup <= epochs:
            return None
        return (
            f"model.beta_warmup: beta would still be rising when training ends, as {steps:,} steps "
            f"are {epochs:.3g} epochs of {images:,} images, less than {warmup:g}"
        )

    def complaint_without_labels(self) -> str | None:
        """A conditional model is given the label."""
        if not self.model.conditional:
            return None
        return (
            "model.conditional: the model is given the label, and these images have none; use false"
        )

    def model_caption(self) -> list[str]:
        """The caption of the model, and by what the terms of pixels were weighted, if they were."""
        weighting = self.train.sigma_weighting
        exponent = f"pixels weighted by σ^{2 * weighting:g}"
        return super().model_caption() + ([exponent] if weighting else [])

    def described(self) -> frozenset[str]:
        """Those of every experiment, and the weighting where it is said."""
        weighted = {"train.sigma_weighting"} if self.train.sigma_weighting else set()
        return super().described() | weighted

    @model_validator(mode="after")
    def _likelihood_suits_the_data(self) -> Self:
        family, transform = self.model.family, self.data.transform
        if transform not in family.transforms:
            others = [name for name, other in LIKELIHOODS.items() if transform in other.transforms]
            raise problem(
                f"{self.model.likelihood} is a {family.measure} on {family.on}, which "
                f"data.transform: {transform} does not give; set data.transform to "
                f"{' or '.join(family.transforms)}, or use {' or '.join(others)}",
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
        if self.train.sigma_weighting and not self.model.weighs_pixels:
            raise problem(
                "it takes from sigma(z) its weight in the gradient, so it applies only where sigma "
                f"is a function of z and pixels share no factors; use {WITH_SIGMA_OF_Z}",
                "train",
                "sigma_weighting",
            )
        if self.train.patience is not None and self.data.validation_size == 0:
            raise problem(
                "early stopping watches the validation ELBO, but data.validation_size is 0",
                "train",
                "patience",
            )
        return self
