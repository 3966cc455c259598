"""Count, mean and scatter of images: read once, all that a linear-Gaussian model needs of them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vaexp.models.gaussians import blocks_of_columns

ROWS = 4096  # images worked on at once


@dataclass(frozen=True)
class Moments:
    """Of images (N, D), in float64. They add up over blocks of images."""

    count: int
    mean: Tensor
    """(D,)."""
    scatter: Tensor
    """Sum of (x - mean)(x - mean)^T, (D, D)."""

    @classmethod
    def of(cls, x: Tensor) -> "Moments":
        """Of images (N, D), in any precision."""
        centre = x[:ROWS].double().mean(0)  # near the mean, so that little cancels below
        total, scatter = torch.zeros_like(centre), centre.new_zeros(len(centre), len(centre))
        for block in x.split(ROWS):
            centred = block.double() - centre
            total += centred.sum(0)
            add_symmetric_product(scatter, centred)
        mirror_upper(scatter)
        gap = total / len(x)
        return cls(len(x), centre + gap, scatter - len(x) * torch.outer(gap, gap))

    def __add__(self, other: "Moments") -> "Moments":
        """Of both together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        gap = other.mean - self.mean
        weight = self.count * other.count / count
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.scatter + other.scatter + weight * torch.outer(gap, gap),
        )

    @cached_property
    def covariance(self) -> Tensor:
        """The maximum-likelihood covariance, scatter / N, (D, D)."""
        return self.scatter / self.count

    def covariance_about(self, centre: Tensor) -> Tensor:
        """Mean of (x - c)(x - c)^T for another centre c (D,), (D, D)."""
        if torch.equal(centre, self.mean):
            return self.covariance
        return self.scatter_about(centre) / self.count

    def scatter_about(self, centre: Tensor) -> Tensor:
        """Sum of (x - c)(x - c)^T for another centre c (D,), (D, D)."""
        gap = self.mean - centre.double()
        return self.scatter + self.count * torch.outer(gap, gap)


def add_symmetric_product(total: Tensor, x: Tensor) -> None:
    """Add x^T x, of x (n, D), to the blocks of total (D, D) on and above its diagonal.

    Only a little more than half of what all of x^T x takes.
    """
    for low, high in blocks_of_columns(x.shape[1]):
        total[:high, low:high] += x[:, :high].T @ x[:, low:high]


def mirror_upper(matrix: Tensor) -> None:
    """Make a matrix (D, D) symmetric by copying its upper triangle to the lower one."""
    matrix.copy_(matrix.triu() + matrix.triu(1).T)
