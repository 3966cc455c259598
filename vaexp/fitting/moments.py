"""Count, mean and scatter of images: read once, all that a linear-Gaussian model needs of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
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
        # By numpy, which computes half of a^T a and copies the rest (BLAS syrk), as torch does not,
        # and by it alone: the threads of the two would wait for work on the same cores.
        centre = x[:ROWS].cpu().numpy().mean(0, dtype=np.float64)  # so that little cancels below
        total, scatter = np.zeros_like(centre), np.zeros((len(centre), len(centre)))
        for block in x.split(ROWS):
            centred = block.cpu().numpy() - centre
            total += np.ones(len(centred)) @ centred
            scatter += centred.T @ centred
        gap = total / len(x)
        mean, about_mean = centre + gap, scatter - len(x) * np.outer(gap, gap)
        return cls(
            len(x), torch.from_numpy(mean).to(x.device), torch.from_numpy(about_mean).to(x.device)
        )

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
