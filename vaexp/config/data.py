"""The section ``data``: the images, and the transform of their pixels."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vaexp.config.rules import Rule
from vaexp.config.section import Section, problem
from vaexp.errors import UserError
from vaexp.paths import LINK_INSTEAD, absolute
from vaexp.visible import visible

TransformName = Literal[
    "scale", "dequantize", "logit", "binarize", "binarize_stochastic", "binarize_static"
]

IMAGE_SHAPE = (28, 28)
"""The height and the width of the images of the published data sets, MNIST and the like."""
PIXELS = 28 * 28
CLASSES = 10
"""C, the number of labels: the digits 0 to 9."""
LONGEST_SIDE = 4096
"""The most pixels of a row or a column of an image."""
BUNDLED = "mnist"
"""The data set that comes with the package."""
OWN = "own"
"""Images of the user's, whose number and size only their files say."""
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

Digit = Annotated[int, Field(ge=0, le=CLASSES - 1)]


class DataConfig(Section):
    """The images, and the transform of their pixels."""

    name: Literal["mnist", "fashion_mnist", "kmnist", "emnist_digits", "own"] = "mnist"
    """mnist comes with the package. fashion_mnist, kmnist and emnist_digits are downloaded through
    torchvision. own: the images in the folder `root`, of any size, with labels 0 to 9 or without.
    They are train-images.npy and test-images.npy, uint8 of shape (N, height, width), or the IDX
    files train-images-idx3-ubyte and t10k-images-idx3-ubyte. Labels lie beside them, as
    train-labels.npy and test-labels.npy or train-labels-idx1-ubyte and t10k-labels-idx1-ubyte."""
    root: str | None = None
    """The folder for downloaded data, or that of own images. null is a cache of the user. ~ and
    $VARIABLES are replaced, and a relative path becomes an absolute one."""
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

    @classmethod
    def rules(cls) -> list[Rule]:
        """Images of one's own lie in a folder that has to be named."""
        return [Rule("name", {"enum": [OWN]}, "root", {"type": "string"})]

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str | None) -> str | None:
        if root is None:
            return None
        if "\0" in root:
            raise problem("is not the name of a folder")
        try:
            place = str(absolute(root))
            place.encode()
        except UserError as error:
            raise problem(str(error)) from None
        except UnicodeEncodeError:
            raise problem(
                f"{visible(place)} is not UTF-8, as a config is; {LINK_INSTEAD}"
            ) from None
        return place

    @field_validator("labels")
    @classmethod
    def _unique(cls, labels: list[int] | None) -> list[int] | None:
        if labels is not None and len(set(labels)) < len(labels):
            raise problem("names a digit twice")
        return labels

    @model_validator(mode="after")
    def _fits_the_data(self) -> Self:
        if self.name == OWN and self.root is None:
            raise problem("own images need the folder that they lie in", "root")
        total = self.training_images
        if total is None:
            return self
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

    @property
    def training_images(self) -> int | None:
        """How many training images there are before any is left out; None if the files say it."""
        return TRAINING_IMAGES.get(self.name)

    @property
    def own_folder(self) -> str | None:
        """The folder of own images, which says what they are; None for published data.

        Those are the same wherever they lie.
        """
        return self.root if self.name == OWN else None

    @property
    def pixels(self) -> int | None:
        """D, the number of pixels of an image; None if only the files say it."""
        return None if self.name == OWN else PIXELS

    def caption(self) -> list[str]:
        """The settings that differ from the usual ones: all digits of MNIST, scaled to [0, 1]."""
        digits = [] if self.labels is None else ["digits " + " ".join(map(str, self.labels))]
        name = {BUNDLED: [], OWN: ["own images"]}.get(self.name, [self.name])
        transform = [] if self.transform == "scale" else [self.transform]
        return digits + name + transform

    @property
    def captioned(self) -> frozenset[str]:
        """The keys whose values ``caption`` says."""
        return frozenset({"name", "transform", "labels"})
