"""The base of all experiments, and the base of the sections that describe a model."""

import re
from abc import abstractmethod
from collections.abc import Set
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from vaexp.config.data import PIXELS, TRAINING_IMAGES, DataConfig
from vaexp.config.output import OutputConfig
from vaexp.config.rules import Rule
from vaexp.config.section import Section, problem

DecodeMode = Literal["mean", "sample", "sweep"]

WIDEST = 16_384
"""The most units of a layer, latents or factors. Images of few pixels allow fewer of the last."""


class ModelSection(Section):
    """The section ``model``, and the questions that it answers whatever the kind of model is.

    Its subclasses are ``@final``, so that the type checker names what one of them leaves out.
    """

    at_most_pixels: ClassVar[tuple[str, ...]] = ()
    """The keys that may be as large as the number of pixels of an image, and no larger."""
    below_pixels: ClassVar[tuple[str, ...]] = ()
    """The keys that must be smaller than the number of pixels of an image."""

    def complaint_on_pixels(self, pixels: int) -> tuple[str, str] | None:
        """A key that is too large for images of so many pixels, and a message; None if none is."""
        inapplicable = self._inapplicable()
        for keys, most, which in (
            (self.at_most_pixels, pixels, "less than or equal to"),
            (self.below_pixels, pixels - 1, "less than"),
        ):
            for key in keys:
                value = getattr(self, key)
                if value > most and key not in inapplicable:
                    why = f"should be {which} {pixels}, got {value}"
                    return key, f"{why}; an image has {pixels} pixels"
        return None

    @abstractmethod
    def caption(self) -> list[str]:
        """The settings that belong in the title of a picture or a number."""

    @property
    @abstractmethod
    def captioned(self) -> frozenset[str]:
        """The keys whose values ``caption`` says."""

    @property
    @abstractmethod
    def unit(self) -> Literal["epoch", "iteration"]:
        """The unit that training is counted in: epochs of gradients, or iterations of EM."""

    @property
    @abstractmethod
    def floor(self) -> float:
        """The least sigma, in units of x, or variance, in units of x squared; 0 without a floor."""

    @property
    @abstractmethod
    def likelihood_facts(self) -> dict[str, str | float]:
        """The facts that are written beside every likelihood, so that it is not misread.

        ``measure`` is density or mass, ``of`` is x or x given label, and ``on`` names the values
        that have a mass. A fixed sigma, or a floor of sigma or of the covariances, has its own key.
        """

    @property
    @abstractmethod
    def kl_factor(self) -> float:
        """The factor of the KL term in the training objective; 1 if that is the ELBO itself."""

    @property
    @abstractmethod
    def shared_factors(self) -> bool:
        """Whether p(x|z) has factors that pixels share beside the sigma of each pixel."""

    @property
    @abstractmethod
    def discrete(self) -> bool:
        """Whether z is the index of a component, and not a vector."""


def _name_is_optional(schema: dict[str, Any]) -> None:
    """Make ``name`` optional in a file, as the loader fills it in from the name of the file."""
    schema["required"].remove("name")


class BaseConfig(Section):
    """The keys that every experiment has, whatever its model."""

    model_config = ConfigDict(json_schema_extra=_name_is_optional)

    name: str
    """A part of the name of the run folder. The default is the name of the config file."""
    seed: int = Field(1, ge=0, lt=2**63)
    """All random numbers follow from the seed."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is cuda where there is such a device, otherwise cpu."""
    data: DataConfig = DataConfig()
    model: ModelSection
    output: OutputConfig = OutputConfig()

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise problem(
                f"{name[:80]!r} cannot be part of a folder's name; use letters, digits, '.', '_' "
                "and '-', at most 64, the first a letter or digit"
            )
        return name

    @classmethod
    def rules(cls) -> list[Rule]:
        """The bounds of what depends on the number of pixels, where the name of the data says it.

        Those of own images are held against their files, before training.
        """
        section = cls.below("model")
        assert section is not None
        assert issubclass(section, ModelSection)
        known = {"enum": [*TRAINING_IMAGES]}
        largest = dict.fromkeys(section.at_most_pixels, PIXELS)
        largest |= dict.fromkeys(section.below_pixels, PIXELS - 1)
        return [
            Rule("data.name", known, f"model.{key}", {"maximum": most})
            for key, most in largest.items()
        ]

    @model_validator(mode="after")
    def _fits_the_pixels(self) -> Self:
        pixels = self.data.pixels
        complaint = None if pixels is None else self.model.complaint_on_pixels(pixels)
        if complaint is not None:
            key, message = complaint
            raise problem(message, "model", key)
        return self

    @classmethod
    def kind(cls) -> str:
        """The kind of model, as ``model.kind`` names it."""
        section = cls.below("model")
        assert section is not None
        (kind,) = get_args(section.model_fields["kind"].annotation)
        return str(kind)

    def describe(self) -> str:
        """The settings that belong in the title of a picture or a number, on one line."""
        return ", ".join(self.model_caption() + self.data.caption())

    def described(self) -> frozenset[str]:
        """The dotted keys that ``describe`` says, and the name, which is a part of the folder's."""
        model = {f"model.{key}" for key in self.model.captioned}
        data = {f"data.{key}" for key in self.data.captioned}
        return frozenset({"name"} | model | data)

    def model_caption(self) -> list[str]:
        """The model's caption, and what the settings of its training add to it."""
        return self.model.caption()

    @property
    def likelihood_facts(self) -> dict[str, str | float]:
        """Those of the model, on these images.

        Noise as wide as a grey level bounds every density: on a pixel with always the same grey
        value the mean of ln p(x) is at most minus the entropy of that noise, which is ln 256 with
        dequantize.
        """
        facts = self.model.likelihood_facts
        if self.data.is_dequantized:
            facts.pop("unbounded", None)
        return facts

    @property
    def importance_samples(self) -> int:
        """K of the importance-weighted bound; 0 if the config asks for none."""
        return 0

    def complaint_on_images(self, images: int, digits: Set[int]) -> str | None:  # noqa: ARG002
        """Why so many training images of these digits do not suit the config; None if they do."""
        return None

    def complaint_without_labels(self) -> str | None:
        """Why images that have no labels do not suit the config; None if they do."""
        return None
