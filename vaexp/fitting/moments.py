"""Count, mean and scatter of images: read once, all that a linear-Gaussian model needs of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

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
        mean = x.mean(0, dtype=torch.float64)
        scatter = mean.new_zeros(len(mean), len(mean))
        for block in x.split(ROWS):
            add_symmetric_product(scatter, block.double() - mean)
        mirror_upper(scatter)
        return cls(len(x), mean, scatter)

    @classmethod
    def of_blocks(cls, blocks: Iterable[Tensor]) -> "Moments":
        """Of images that come in blocks (n, D)."""
        first, *rest = (cls.of(block) for block in blocks)
        return sum(rest, start=first)

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

    Four blocks of columns: 10 of the 16 products that all of x^T x takes.
    """
    d = x.shape[1]
    edges = [round(d * i / 4) for i in range(5)]
    for low, high in pairwise(edges):
        total[:high, low:high] += x[:, :high].T @ x[:, low:high]


def mirror_upper(matrix: Tensor) -> None:
    """Make a matrix (D, D) symmetric by copying its upper triangle to the lower one."""
    matrix.copy_(matrix.triu() + matrix.triu(1).T)
