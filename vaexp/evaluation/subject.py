"""The input of a group of measures: a fitted model, images, and what the group needs to know."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar, assert_never

from torch import Tensor

from vaexp.data import Transform
from vaexp.evaluation.code_mixture import Codes
from vaexp.evaluation.groups import Group
from vaexp.evaluation.measure import Evidence
from vaexp.models import GMM, VAE, LinearGaussian, Model

M_co = TypeVar("M_co", bound=Model, covariant=True)

EXACT = "ln p(x) and the posterior of this model are exact"


@dataclass(frozen=True)
class Subject(Generic[M_co]):
    """A fitted model and the test images that it is measured on.

    A group that only has an answer for models with a bounded ln p(x) gets a ``Subject[VAE]``.
    """

    model: M_co
    x: Tensor
    """The test images (N, D), transformed."""
    label: Tensor
    """Their digits (N,)."""
    train: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    """The transformed training images (n, D) and their labels (n,), block by block."""
    validation: Callable[[], Tensor | None]
    """The transformed validation images (M, D) that the shipped classifier was not trained on.

    None if there is no validation split."""
    transform: Transform
    """The transform that turned grey values into x."""
    shape: tuple[int, int]
    """The height and the width of an image."""
    digits: bool
    """Whether the images are digits, which the classifier that ships with vaexp can read."""
    beta: float
    """The factor of the KL term in training. It is 1 for EM, which maximises the ELBO itself."""
    floor: float
    """The floor of sigma, or of covariances in units of x squared. It is 0 if there is none."""
    unbounded: bool
    """Whether nothing bounds the density of x, whatever the floor."""
    importance_samples: int
    """K, the number of samples of the importance-weighted bound."""
    on_images: Callable[[int], None]
    """Is called with the number of images that have been measured since the last call."""
    codes: Codes = field(default_factory=Codes)
    """The codes of the training images. All parts of a subject share them."""

    def first(self, images: int | None) -> Self:
        """The part of it that has the first so many test images; None stands for all."""
        return replace(self, x=self.x[:images], label=self.label[:images])


def measure_group(group: Group, subject: Subject[Model]) -> Evidence:
    """Measure a group.

    A group that is only for bounded models finds nothing where ln p(x) is exact: then all its
    measures are absent with that reason.
    """
    if group.only_bounded is not None and has_exact_log_prob(subject.model):
        return Evidence(absent=dict.fromkeys(group.bounded_names(), EXACT))
    measure: Callable[[Subject[Any]], Evidence] = group.measures()
    return measure(subject)


def has_exact_log_prob(model: Model) -> bool:
    """Whether ln p(x) and the posterior have a closed form, so that no bound is needed."""
    match model:
        case VAE():
            return False
        case GMM() | LinearGaussian():
            return True
        case _:
            assert_never(model)
