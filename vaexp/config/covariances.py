"""The families of a mixture's covariances: their names in a config and their captions, no torch."""

from dataclasses import dataclass
from typing import Literal

CovarianceName = Literal["full", "tied", "diag", "spherical", "lowrank"]


@dataclass(frozen=True)
class CovarianceFamily:
    """The facts on a family that the checks and the captions of a config need."""

    caption: str
    """The name of the family in a title, where {factors} stands for the value of model.factors."""
    factors: bool = False
    """Whether ``model.factors`` applies."""


COVARIANCES: dict[CovarianceName, CovarianceFamily] = {
    "full": CovarianceFamily("full"),
    "tied": CovarianceFamily("tied"),
    "diag": CovarianceFamily("diag"),
    "spherical": CovarianceFamily("spherical"),
    "lowrank": CovarianceFamily("rank {factors} + σ²I", factors=True),
}
