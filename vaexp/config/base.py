"""What every experiment has, whatever its model, and what every model's section answers."""

import re
from abc import abstractmethod
from collections.abc import Set
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, field_validator

from vaexp.config.data import DataConfig
from vaexp.config.section import Section, problem

DecodeMode = Literal["mean", "sample", "sweep"]


class ModelSection(Section):
    """What the rest of the program asks of a model's section instead of looking at its kind.

    Its subclasses are ``@final``, so that the type checker names what one of them leaves out.
    """

    @abstractmethod
    def caption(self) -> list[str]:
        """The settings that matter when looking at a picture or a number, for its title."""

    @property
    @abstractmethod
    def unit(self) -> Literal["epoch", "iteration"]:
        """What training counts: epochs of gradients, or iterations of EM."""

    @property
    @abstractmethod
    def floor(self) -> float:
        """The floor of what a likelihood may shrink, sigma or the covariances; 0 without one."""

    @property
    @abstractmethod
    def likelihood_facts(self) -> dict[str, str | float]:
        """What stands beside every likelihood, so that it is not read as something else.

        ``measure`` is density or mass, ``of`` is x or x given label, and ``on`` the values that a
        mass is on. The sigma, or the floor of sigma or of the covariances, stands under its own
        key where there is one.
        """

    @property
    @abstractmethod
    def kl_factor(self) -> float:
        """The factor of the KL term in the training objective; 1 if that is the ELBO itself."""

    @property
    @abstractmethod
    def discrete(self) -> bool:
        """Whether z is the index of a component, and not a vector."""


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
    model: ModelSection

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise problem(
                f"{name!r} cannot be part of a folder's name; use letters, digits, '.', '_' and "
                "'-', at most 64, the first a letter or digit"
            )
        return name

    @classmethod
    def kind(cls) -> str:
        """The kind of model, as ``model.kind`` names it."""
        section = cls.below("model")
        assert section is not None
        (kind,) = get_args(section.model_fields["kind"].annotation)
        return str(kind)

    def describe(self) -> str:
        """The settings that matter when looking at a picture or a number, on one line."""
        return ", ".join(self.model_caption() + self.data.caption())

    def model_caption(self) -> list[str]:
        """The model's caption, and what the settings of its training add to it."""
        return self.model.caption()

    @property
    def importance_samples(self) -> int:
        """K of the importance-weighted bound; 0 if the config asks for none."""
        return 0

    def too_few_images(self, images: int, digits: Set[int]) -> str | None:  # noqa: ARG002
        """Why so many training images of these digits are too few for the model; None if not."""
        return None
