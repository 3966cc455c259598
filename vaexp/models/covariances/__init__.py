"""The families of covariances, one file each, and the class that a config's name stands for."""

from typing import assert_never

from vaexp.config.covariances import CovarianceName
from vaexp.models.covariances.base import Collapsed, Gaussians, Size
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.covariances.lowrank import LowRank
from vaexp.models.covariances.singular import SingularCovariance
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.covariances.tied import Tied


def family(name: CovarianceName) -> type[Gaussians]:
    """The family that ``model.covariance`` names."""
    match name:
        case "full":
            return Full
        case "tied":
            return Tied
        case "diag":
            return Diag
        case "spherical":
            return Spherical
        case "lowrank":
            return LowRank
    assert_never(name)


__all__ = [
    "Collapsed",
    "Diag",
    "Full",
    "Gaussians",
    "LowRank",
    "SingularCovariance",
    "Size",
    "Spherical",
    "Tied",
    "family",
]
