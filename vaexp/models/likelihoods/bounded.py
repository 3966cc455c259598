"""What the families with bounded pixels share: a location and a scale, but no Gaussian p(x|z).

Their mean and variance are functions of both m(z) and sigma(z), because the bounds of x take a part
of the distribution. So little has a closed form.
"""

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor
from torch.distributions import constraints

from vaexp.models.absent import Absent
from vaexp.models.likelihoods.interface import Decoded
from vaexp.models.likelihoods.location_scale import LocationScale


class BoundedHead(LocationScale):
    """The head of a family whose pixels are in [0, 1]."""

    @property
    def constant_log_z(self) -> bool:
        """Z(z) depends on z through m(z), too."""
        return False

    def best_sigma(self, squares: Tensor, floor: float) -> Absent:  # noqa: ARG002
        """Squared errors do not determine it: the bounds matter, and so does m(z)."""
        return Absent(f"the best sigma of a {self.family.caption} likelihood has no closed form")

    def affine(self) -> Absent:
        """It is not."""
        return Absent("p(x|z) is not a Gaussian")


class BoundedPixels(Decoded):
    """Independent pixels in [0, 1], (..., D), with a sigma that broadcasts to the location.

    ``location`` and ``scale`` are m(z) and sigma(z), those of the distribution before it is cut or
    rounded.
    """

    support = constraints.independent(constraints.unit_interval, 1)

    def __init__(self, location: Tensor, sigma: Tensor):
        self.location, self.scale = torch.broadcast_tensors(location, sigma)
        super().__init__(self.location.shape)

    @property
    def sigma(self) -> Tensor:
        """The standard deviation before bounds or levels change it, (..., D)."""
        return self.scale

    def double(self) -> Self:
        """The same distribution in float64."""
        return type(self)(self.location.double(), self.scale.double())

    @abstractmethod
    def pixel_log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x_j|z) of every pixel by itself, (..., D)."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Ln p(value|z), (...); value in [0, 1]."""
        return self.pixel_log_prob(value).sum(-1)

    def log_prob_at_sigmas(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Ln p(x) with the same location and each of sigma (S, D), (N, S) float64."""
        columns = x.new_empty(len(x), len(sigma), dtype=torch.float64)
        for column, one in zip(columns.unbind(1), sigma.double(), strict=True):
            column.copy_(type(self)(self.location.double(), one).log_prob(x.double()))
        return columns
