"""The config as types: what may be written in a YAML file, its defaults and its bounds.

The docstring under each field is its documentation, in ``vaexp schema`` and so in editors.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vaexp.config.covariances import COVARIANCES, CovarianceName

SigmaMode = Literal["fixed", "global", "shared", "pixel"]
DecodeMode = Literal["mean", "sample", "sweep"]
TransformName = Literal["scale", "dequantize", "logit", "binarize", "binarize_stochastic"]

PIXELS = 28 * 28
TRAINING_IMAGES = {
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "kmnist": 60_000,
    "emnist_digits": 240_000,
}

Width = Annotated[int, Field(ge=1, le=16_384)]
Digit = Annotated[int, Field(ge=0, le=9)]


def problem(message: str, *key: str) -> PydanticCustomError:
    """An error that the loader places at ``key`` below the section that raises it."""
    return PydanticCustomError("config", "{message}", {"message": message, "key": key})


class Section(BaseModel):
    """A mapping in the config: no unknown keys, no silent conversions, no NaN or infinity."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    applies: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {}
    """key -> (the key that decides whether it applies, the values for which it does)"""

    def _inapplicable(self) -> dict[str, str]:
        """Key -> why it does not apply, for those that do not."""
        return {
            key: f"when {decider} is {value}, only when it is {' or '.join(values)}"
            for key, (decider, values) in self.applies.items()
            if (value := getattr(self, decider)) not in values
        }

    @model_validator(mode="after")
    def _reject_inapplicable(self) -> Self:
        inapplicable = self._inapplicable()
        for key, why in inapplicable.items():
            if key in self.model_fields_set:
                valid = [name for name in type(self).model_fields if name not in inapplicable]
                section = getattr(self, key)
                inner = sorted(section.model_fields_set) if isinstance(section, Section) else []
                raise problem(
                    f"does not apply {why}; the keys that apply here: {', '.join(valid)}",
                    *[key, *inner[:1]],
                )
        return self

    @model_serializer(mode="wrap")
    def _drop_inapplicable(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        inapplicable = self._inapplicable()
        return {key: value for key, value in serialize(self).items() if key not in inapplicable}


class DataConfig(Section):
    """Which images, and what is done to their pixels."""

    name: Literal["mnist", "fashion_mnist", "kmnist", "emnist_digits"] = "mnist"
    """mnist ships with the package; the others are downloaded through torchvision."""
    root: str | None = None
    """Where downloaded data live; null is a per-user cache."""
    transform: TransformName = "scale"
    """scale: x/255. dequantize: (x+u)/256. logit: dequantize, then logit(a + (1-2a) x), a = 1e-6.
    binarize: threshold at 1/2. binarize_stochastic: a fresh Bernoulli(x/255) draw each epoch."""
    labels: Annotated[list[Digit], Field(min_length=1)] | None = None
    """Keep only these digits, e.g. [4]; null keeps all."""
    limit: int | None = Field(None, ge=1)
    """Keep only the first N training images; null keeps all."""
    validation_size: int = Field(10_000, ge=0)
    """The last N training images are held out for validation."""

    @field_validator("labels")
    @classmethod
    def _unique(cls, labels: list[int] | None) -> list[int] | None:
        if labels is not None and len(set(labels)) < len(labels):
            raise problem("names a digit twice")
        return labels

    @model_validator(mode="after")
    def _fits_the_data(self) -> Self:
        total = TRAINING_IMAGES[self.name]
        if self.validation_size >= total:
            raise problem(
                f"{self.validation_size:,} leaves no training image: {self.name} has {total:,}",
                "validation_size",
            )
        left = total - self.validation_size
        if self.limit is not None and self.limit > left:
            raise problem(
                f"{self.limit:,} is larger than the {left:,} training images of {self.name} "
                f"that a validation_size of {self.validation_size:,} leaves",
                "limit",
            )
        return self


class VAEConfig(Section):
    """A variational autoencoder: p(z) = N(0, I), networks for q(z|x) and p(x|z)."""

    applies: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "sigma_mode": ("likelihood", ("gaussian",)),
        "sigma": ("likelihood", ("gaussian",)),
        "sigma_floor": ("likelihood", ("gaussian",)),
    }

    def _inapplicable(self) -> dict[str, str]:
        linear = {"activation": "to a linear model, whose hidden is []"} if not self.hidden else {}
        return super()._inapplicable() | linear

    kind: Literal["vae"]
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, le=PIXELS)
    """L, the number of latent dimensions."""
    hidden: Annotated[list[Width], Field(max_length=32)] = [512, 256]
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

    @property
    def floor(self) -> float:
        """Of sigma."""
        return self.sigma_floor

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


class GMMConfig(Section):
    """A Gaussian mixture, fitted by EM: p(z) categorical, p(x|z) one Gaussian per component."""

    applies: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "factors": ("covariance", tuple(name for name in COVARIANCES if COVARIANCES[name].factors)),
    }

    kind: Literal["gmm"]
    """The kind of model."""
    components: int = Field(10, ge=1, le=1000)
    """K, the number of components."""
    covariance: CovarianceName = "full"
    """full: any, one per component. tied: any, the same for all. diag: a variance per pixel.
    spherical: one variance. lowrank: W W^T + sigma^2 I, a mixture of probabilistic PCAs."""
    factors: int = Field(6, ge=1, lt=PIXELS)
    """The columns of W, per component."""
    covariance_floor: float = Field(1e-3, ge=0)
    """Added to the diagonal of every covariance, so that no variance is below it; of lowrank ones
    it is the least sigma^2. 0 lets components collapse, which ends the run and is explained."""
    init: Literal["kmeans", "kmeans++", "random", "labels"] = "kmeans"
    """Which images each component starts with: those nearest to centres that are k-means' result,
    its kmeans++ seeds or random images; or, with labels, those of one digit each."""
    precision: Literal["float32", "float64"] = "float32"
    """float32: products with the images in single precision, sums in double. float64: all in
    double."""
    decode_mode: DecodeMode = "sample"
    """What figures and `vaexp sample` draw unless told otherwise. mean: the component's mean.
    sample: a draw of the component. sweep: mean + k standard deviations, k = -2..2."""

    @property
    def floor(self) -> float:
        """Of the covariances."""
        return self.covariance_floor


class PPCAConfig(Section):
    """Probabilistic PCA: p(z) = N(0, I), p(x|z) = N(W z + mu, sigma^2 I), fitted in float64."""

    kind: Literal["ppca"]
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, lt=PIXELS)
    """L, the number of latent dimensions."""
    method: Literal["em", "closed_form"] = "em"
    """closed_form: from the eigenvectors of the covariance (Tipping and Bishop 1999)."""
    decode_mode: DecodeMode = "mean"
    """What figures and `vaexp sample` draw unless told otherwise. mean: mu(z). sample: a draw of
    p(x|z). sweep: mu(z) + k sigma, k = -2..2."""

    floor: ClassVar[float] = 0.0
    """sigma has none."""


class EMConfig(Section):
    """Expectation maximisation."""

    max_iter: int = Field(500, ge=0)
    """At most so many iterations; 0 keeps the initial parameters."""
    tolerance: float = Field(1e-3, ge=0)
    """Stop when an iteration adds less to the mean ln p(x) of the training images, in nats."""
    restarts: int = Field(1, ge=1)
    """Fit so many times from different random starts, and keep the best."""


class SGDConfig(Section):
    """Stochastic gradient ascent on the objective."""

    applies: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "weight_decay": ("optimizer", ("adamw",)),
        "momentum": ("optimizer", ("sgd",)),
    }

    epochs: int | None = Field(30, ge=1)
    """Passes over the training images."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps, instead of epochs."""
    batch_size: int = Field(256, ge=1)
    """Images per step; the last batch of an epoch may be smaller."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimizer."""
    learning_rate: float = Field(1e-3, gt=0)
    """The learning rate, at its start if the schedule changes it."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: the learning rate falls to 0 over the whole training."""
    gradient_clip: float | None = Field(None, gt=0)
    """Largest norm of the gradient of the objective per image; null does not clip."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many epochs without a better validation ELBO and keep the best epoch's
    weights; null trains to the end and keeps the last."""

    @model_validator(mode="before")
    @classmethod
    def _steps_replace_epochs(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("steps") is not None:
            if given.get("epochs") is not None:
                raise problem("give epochs or steps, not both (set the other to null)", "steps")
            return {**given, "epochs": None}
        return given

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.epochs is None and self.steps is None:
            raise problem("give epochs or steps", "epochs")
        return self


class EvaluateConfig(Section):
    """What is measured once training is over."""

    importance_samples: int = Field(1000, ge=0)
    """K of the importance-weighted bound on the test split; 0 leaves it out."""


def _name_is_optional(schema: dict[str, Any]) -> None:
    """In a file: the loader fills it in from the file's own name."""
    schema["required"].remove("name")


class BaseConfig(Section):
    """What every experiment has, whatever its model."""

    model_config = ConfigDict(json_schema_extra=_name_is_optional)

    name: str
    """Part of the run folder's name; by default the config file's own name."""
    seed: int = Field(1, ge=0, lt=2**63)
    """Everything random follows from it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is cuda where there is one."""
    data: DataConfig = DataConfig()

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise problem(
                f"{name!r} cannot be part of a folder's name; use letters, digits, '.', '_' and "
                "'-', at most 64, the first a letter or digit"
            )
        return name


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


class GMMExperiment(BaseConfig):
    """A Gaussian mixture by EM. The smallest is ``model: {kind: gmm}``."""

    model: GMMConfig
    train: EMConfig = EMConfig()

    @model_validator(mode="after")
    def _components_suit_the_data(self) -> Self:
        model, labels = self.model, self.data.labels
        digits = 10 if labels is None else len(labels)
        if model.init == "labels" and model.components != digits:
            raise problem(
                f"init: labels starts one component per digit, so with {digits} digits it needs "
                f"components: {digits}, not {model.components}",
                "model",
                "components",
            )
        if model.init == "labels" and self.train.restarts > 1:
            raise problem(
                "init: labels starts every time from the same parameters; use 1",
                "train",
                "restarts",
            )
        return self


class PPCAExperiment(BaseConfig):
    """Probabilistic PCA. The smallest is ``model: {kind: ppca}``."""

    model: PPCAConfig
    train: EMConfig = EMConfig()

    def _inapplicable(self) -> dict[str, str]:
        closed = self.model.method == "closed_form"
        return {"train": "when model.method is closed_form, only when it is em"} if closed else {}


class FAConfig(Section):
    """Factor analysis: p(z) = N(0, I), p(x|z) = N(W z + mu, Psi), Psi diagonal, fitted in float64.

    The first restart begins at the maximum of probabilistic PCA, further ones at random.
    """

    kind: Literal["fa"]
    """The kind of model."""
    latent_dim: int = Field(2, ge=1, lt=PIXELS)
    """L, the number of latent dimensions."""
    noise_floor: float = Field(1e-3, gt=0)
    """No noise variance goes below this. Without it the likelihood has no bound: a pixel that is
    the same in all images, or that a latent explains alone, needs no noise."""
    decode_mode: DecodeMode = "mean"
    """What figures and `vaexp sample` draw unless told otherwise. mean: mu(z). sample: a draw of
    p(x|z). sweep: mu(z) + k sigma, k = -2..2, with a sigma for every pixel."""

    @property
    def floor(self) -> float:
        """Of the noise variances."""
        return self.noise_floor


class FATrainConfig(EMConfig):
    """Expectation maximisation, whose iterations are many and take milliseconds."""

    max_iter: int = Field(5000, ge=0)
    """At most so many iterations; 0 keeps the initial parameters."""
    tolerance: float = Field(1e-7, ge=0)
    """Stop when an iteration adds less to the mean ln p(x) of the training images, in nats."""


class FAExperiment(BaseConfig):
    """Factor analysis by EM. The smallest is ``model: {kind: fa}``."""

    model: FAConfig
    train: FATrainConfig = FATrainConfig()


Config = VAEExperiment | GMMExperiment | PPCAExperiment | FAExperiment
"""A whole experiment, as a YAML file describes it."""
EXPERIMENTS: dict[str, type[Config]] = {
    "vae": VAEExperiment,
    "gmm": GMMExperiment,
    "ppca": PPCAExperiment,
    "fa": FAExperiment,
}
