"""The families of a mixture's covariances: the facts on each that need no torch.

The entry of a family names its class under ``vaexp.models.covariances``, which answers everything
else. It is imported only when a model is built.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class CovarianceFamily:
    """The facts on a family that the checks and the captions of a config need."""

    caption: str
    """The name of the family in a title, where {factors} stands for the value of model.factors."""
    gaussians: str
    """The class of its Gaussians, as ``module:class``."""
    factors: bool = False
    """Whether ``model.factors`` applies."""
    matrices: bool = False
    """Whether its parameters are covariance matrices, of as many rows and columns as pixels."""


COVARIANCES: dict[str, CovarianceFamily] = {
    "full": CovarianceFamily("full", "vaexp.models.covariances.full:Full", matrices=True),
    "tied": CovarianceFamily("tied", "vaexp.models.covariances.tied:Tied", matrices=True),
    "diag": CovarianceFamily("diag", "vaexp.models.covariances.diag:Diag"),
    "spherical": CovarianceFamily("spherical", "vaexp.models.covariances.spherical:Spherical"),
    "lowrank": CovarianceFamily(
        "rank {factors} + σ²I", "vaexp.models.covariances.lowrank:LowRank", factors=True
    ),
}
"""The families by their names in a config. A new family is its own file and one entry here."""
