"""Covariances that are not positive definite in the precision at hand."""

import torch
from torch import Tensor


class SingularCovariance(Exception):
    """The covariance of a component is not positive definite in the precision at hand."""

    def __init__(self, component: int, covariance: Tensor):
        super().__init__(component)
        self.component = component
        """The index of the component, counted from 0. A tied covariance has component 0."""
        self.smallest_eigenvalue = torch.linalg.eigvalsh(covariance.double())[0].item()
        """The smallest eigenvalue of ``covariance``: (D, D), or a diagonal block of it."""


def check_variances(variances: Tensor, resolution: Tensor | float = 0.0) -> None:
    """Check that variances (K, any) are larger than ``resolution``, which broadcasts with them.

    Raises SingularCovariance for the first component of which one is not.
    """
    wrong = (~(variances > resolution)).nonzero()
    if len(wrong):
        k = int(wrong[0, 0])
        raise SingularCovariance(k, variances[k].min().view(1, 1))
