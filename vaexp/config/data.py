"""The section ``data``: which images, and what is done to their pixels."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vaexp.config.section import Section, problem

TransformName = Literal["scale", "dequantize", "logit", "binarize", "binarize_stochastic"]

PIXELS = 28 * 28
TRAINING_IMAGES = {
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "kmnist": 60_000,
    "emnist_digits": 240_000,
}

Digit = Annotated[int, Field(ge=0, le=9)]


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

    def caption(self) -> list[str]:
        """What differs from the usual: all digits of MNIST, scaled to [0, 1]."""
        digits = [] if self.labels is None else ["digits " + " ".join(map(str, self.labels))]
        name = [] if self.name == "mnist" else [self.name]
        transform = [] if self.transform == "scale" else [self.transform]
        return digits + name + transform
