"""The section ``data``: the images, and the transform of their pixels."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vaexp.config.section import Section, problem
from vaexp.errors import UserError
from vaexp.paths import absolute

TransformName = Literal[
    "scale", "dequantize", "logit", "binarize", "binarize_stochastic", "binarize_static"
]

PIXELS = 28 * 28
BUNDLED = "mnist"
"""The data set that comes with the package."""
TRAINING_IMAGES = {
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "kmnist": 60_000,
    "emnist_digits": 240_000,
}

WHERE_DATA_LIE = (
    "set data.root in the run's config.yaml to where its data lie now; evaluate, encode and train "
    "--resume also take data.root=DIR"
)
"""What a user is told who moved the data."""

Digit = Annotated[int, Field(ge=0, le=9)]


class DataConfig(Section):
    """The images, and the transform of their pixels."""

    name: Literal["mnist", "fashion_mnist", "kmnist", "emnist_digits"] = "mnist"
    """mnist comes with the package. The others are downloaded through torchvision."""
    root: str | None = None
    """The folder for downloaded data. null is a cache of the user. ~ and $VARIABLES are replaced,
    and a relative path becomes an absolute one."""
    transform: TransformName = "scale"
    """scale: x/255. dequantize: (x+u)/256. logit: dequantize, then logit(a + (1-2a) x), a = 1e-6.
    binarize: threshold at 1/2. binarize_stochastic: a fresh Bernoulli(x/255) draw each epoch.
    binarize_static: one such draw for each image, the same in all epochs and all runs."""
    labels: Annotated[list[Digit], Field(min_length=1)] | None = None
    """Keep only these digits, such as [4]. null keeps all."""
    limit: int | None = Field(None, ge=1)
    """Keep only the first so many training images. null keeps all."""
    validation_size: int = Field(10_000, ge=0)
    """Hold out the last so many training images for validation."""

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str | None) -> str | None:
        if root is None:
            return None
        if "\0" in root:
            raise problem("is not the name of a folder")
        try:
            return str(absolute(root))
        except UserError as error:
            raise problem(str(error)) from None

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

    @property
    def is_dequantized(self) -> bool:
        """Whether noise as wide as a grey level is added to the grey values."""
        return self.transform in ("dequantize", "logit")

    def caption(self) -> list[str]:
        """The settings that differ from the usual ones: all digits of MNIST, scaled to [0, 1]."""
        digits = [] if self.labels is None else ["digits " + " ".join(map(str, self.labels))]
        name = [] if self.name == "mnist" else [self.name]
        transform = [] if self.transform == "scale" else [self.transform]
        return digits + name + transform

    @property
    def captioned(self) -> frozenset[str]:
        """The keys whose values ``caption`` says."""
        return frozenset({"name", "transform", "labels"})
