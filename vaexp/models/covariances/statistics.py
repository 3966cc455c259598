"""The sums over images that the M-step of a mixture needs."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from vaexp.models.covariances.responsibilities import Responsibilities, Totals
from vaexp.processes import Processes

TINY = 10 * torch.finfo(torch.float64).eps  # added to weights that may be zero


class Sums(NamedTuple):
    """Sums over images of r times powers of x - c, with c the family's ``centre``; float64."""

    first: Tensor
    """Sums of r (x - c), (K, D)."""
    second: Tensor
    """What the family needs of the sums of r (x - c)(x - c)^T, which its class says."""
    square: Tensor
    """Sums of r |x - c|^2, (K,); empty where a family does not need them."""


@dataclass(frozen=True)
class Statistics:
    """All that an M-step needs of the images. Statistics of blocks of images add up.

    r are the responsibilities, and c is the ``centre`` of the components that the E-step was done
    with. Everything is float64.
    """

    count: Tensor
    """The number of images, ()."""
    weight: Tensor
    """Sums of r, (K,)."""
    first: Tensor
    """``Sums.first``."""
    second: Tensor
    """``Sums.second``."""
    square: Tensor
    """``Sums.square``."""
    log_prob: Tensor
    """Sum of ln p(x), (), nats."""
    elbo: Tensor
    """Sum of E_r [ln p(x, z) - ln r], which is the same number by another way, (), nats."""
    entropy: Tensor
    """Sum of -E_r ln r, (), nats."""

    @classmethod
    def of(cls, r: Responsibilities, sums: Sums, totals: Totals) -> "Statistics":
        """The statistics of images with responsibilities r."""
        count = r.value.new_tensor(r.images)
        return cls(count, r.weight, *sums, *totals)

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(
            *[getattr(self, field.name) + getattr(other, field.name) for field in fields(self)]
        )

    def total(self, processes: Processes) -> "Statistics":
        """The statistics of the images of all processes, whose E-step was that of one mixture."""
        if processes.count == 1:
            return self
        return Statistics(*[processes.total(getattr(self, field.name)) for field in fields(self)])

    @property
    def mean_log_prob(self) -> float:
        """Mean of ln p(x), nats."""
        return (self.log_prob / self.count).item()

    @property
    def mean_elbo(self) -> float:
        """Mean of ``elbo``, nats."""
        return (self.elbo / self.count).item()

    @cached_property
    def divisor(self) -> Tensor:
        """``weight`` as a divisor that is not zero, (K,)."""
        return self.weight + TINY

    @cached_property
    def shift(self) -> Tensor:
        """The new means less the centre c, (K, D)."""
        return self.first / self.divisor[:, None]
