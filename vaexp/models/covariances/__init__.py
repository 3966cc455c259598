"""The families of covariances, one file each, and the class that a config's name stands for."""

import pkgutil

from vaexp.config.covariances import COVARIANCES
from vaexp.models.covariances.base import Collapsed, Gaussians, Size
from vaexp.models.covariances.singular import SingularCovariance


def family(name: str) -> type[Gaussians]:
    """The family that ``model.covariance`` names."""
    gaussians: type[Gaussians] = pkgutil.resolve_name(COVARIANCES[name].gaussians)
    return gaussians


__all__ = ["Collapsed", "Gaussians", "SingularCovariance", "Size", "family"]
