"""The sections ``train``, how a model is fitted, and ``evaluate``, what is measured then."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from vaexp.config.section import Condition, Section, only_when, problem


class EMConfig(Section):
    """Expectation maximisation."""

    max_iter: int = Field(500, ge=0)
    """The largest number of iterations. 0 keeps the initial parameters."""
    tolerance: float = Field(1e-3, ge=0)
    """Stop when an iteration adds fewer nats to the mean ln p(x) of the training images."""
    restarts: int = Field(1, ge=1)
    """Fit so many times from different random starts, and keep the best result."""


class SGDConfig(Section):
    """Stochastic gradient ascent on the objective."""

    conditions: ClassVar[tuple[Condition, ...]] = (
        only_when(("weight_decay",), "optimizer", "adamw"),
        only_when(("momentum",), "optimizer", "sgd"),
    )
    alternatives: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"epochs", "steps"}),)

    epochs: int | None = Field(30, ge=1)
    """The number of passes over the training images."""
    steps: int | None = Field(None, ge=1)
    """The number of optimizer steps, in place of epochs."""
    batch_size: int = Field(256, ge=1)
    """The number of images per step. The last batch of an epoch may be smaller."""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    """The algorithm that turns gradients into steps. rmsprop is the centred one, which divides a
    gradient by its standard deviation over the last steps."""
    learning_rate: float = Field(1e-3, gt=0)
    """The learning rate. If the schedule changes it, this is the first one."""
    weight_decay: float = Field(0.01, ge=0)
    """The decoupled weight decay of adamw."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """The momentum of sgd."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """constant: the learning rate stays. cosine, linear: it falls to 0 over the whole training, as
    half a wave of the cosine or in a straight line."""
    gradient_clip: float | None = Field(None, gt=0)
    """The largest norm of the gradient of the objective per image. null does not clip it."""
    sigma_weighting: float = Field(0.0, ge=0, le=1)
    """b: each pixel's ln p(x|z) is multiplied by sigma(z)^(2b), through which no gradient flows
    (beta-NLL, Seitzer et al. 2022). 0 trains the likelihood itself. At 1 all pixels have the same
    weight in the gradient of a Gaussian's mean, that of sigma = 1; model.beta is not rescaled."""
    checkpoint_minutes: float | None = Field(10.0, gt=0)
    """Also save a checkpoint after so many minutes within an epoch, so that a kill loses no more.
    null saves only after each epoch. It changes no number."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many epochs without a better validation ELBO, and keep the weights of the best
    epoch. null trains to the end and keeps the last weights."""

    @model_validator(mode="before")
    @classmethod
    def _steps_replace_epochs(cls, given: object) -> object:
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
    """What is measured when training is over."""

    importance_samples: int = Field(1000, ge=0)
    """K of the importance-weighted bound on the test images. 0 leaves the bound out."""
