"""What a group of measures is given: a fitted model, images, and what it needs of the config."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_never

from torch import Tensor

from vaexp.data import Transform
from vaexp.evaluation.groups import Group
from vaexp.evaluation.measure import Evidence
from vaexp.models import GMM, VAE, LinearGaussian, Model

M_co = TypeVar("M_co", bound=Model, covariant=True)

EXACT = "ln p(x) and the posterior of this model are exact"


@dataclass(frozen=True)
class Subject(Generic[M_co]):
    """A fitted model and the test images that it is measured on.

    ``Subject[VAE]`` is what a group gets that only a model with a bounded ln p(x) can answer.
    """

    model: M_co
    x: Tensor
    """The test images (N, D), transformed."""
    label: Tensor
    """Their digits (N,)."""
    train: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    """The transformed training images (n, D) and their labels (n,), block by block."""
    validation: Callable[[], Tensor | None]
    """The transformed validation images (M, D), None where there are none."""
    transform: Transform
    """What made x of the grey values."""
    digits: bool
    """Whether the images are digits, which the shipped classifier can read."""
    beta: float
    """The factor of the KL term in training; EM maximises the ELBO, where it is 1."""
    floor: float
    """The floor of sigma, or of covariances in units of x squared; 0 where there is none."""
    importance_samples: int
    """K of the importance-weighted bound."""
    on_images: Callable[[int], None]
    """Hears how many more images have been measured."""


def measure_group(group: Group, subject: Subject[Model]) -> Evidence:
    """What a group finds. All its measures are absent, with the reason, where it needs a bound."""
    if group.only_bounded is not None and has_exact_log_prob(subject.model):
        return Evidence(absent=dict.fromkeys(group.bounded_names(), EXACT))
    measure: Callable[[Subject[Any]], Evidence] = group.measures()
    return measure(subject)


def has_exact_log_prob(model: Model) -> bool:
    """Whether ln p(x) and the posterior are in closed form, so that nothing has to bound them."""
    match model:
        case VAE():
            return False
        case GMM() | LinearGaussian():
            return True
        case _:
            assert_never(model)
