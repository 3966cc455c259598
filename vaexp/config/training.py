"""The sections ``train`` and ``evaluate``: how a model is fitted, and what is measured then."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vaexp.config.section import Condition, Section, only_when, problem


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

    conditions: ClassVar[tuple[Condition, ...]] = (
        only_when(("weight_decay",), "optimizer", "adamw"),
        only_when(("momentum",), "optimizer", "sgd"),
    )
    alternatives: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"epochs", "steps"}),)

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
