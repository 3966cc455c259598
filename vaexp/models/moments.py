"""The count, mean and scatter of images, which are all that a linear-Gaussian model needs."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaexp.processes import ALONE, Processes

ROWS = 4096  # images worked on at once


@dataclass(frozen=True)
class Moments:
    """The moments of images (N, D), in float64. Moments of blocks of images add up."""

    count: int
    """The number of images, N."""
    mean: Tensor
    """Their mean, (D,)."""
    scatter: Tensor
    """Sum of (x - mean)(x - mean)^T, (D, D)."""

    @classmethod
    def of(cls, x: Tensor) -> "Moments":
        """The moments of images x (N, D), which may have any precision."""
        # numpy computes half of a^T a and copies the rest (BLAS syrk), which torch does not. torch
        # takes no part, as the threads of the two would wait for work on the same cores.
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
        """The moments of both sets of images together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        gap = other.mean - self.mean
        weight = self.count * other.count / count
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.scatter + other.scatter + weight * torch.outer(gap, gap),
        )

    def total(self, processes: Processes) -> "Moments":
        """The moments of the images of all processes together."""
        if processes.count == 1:
            return self
        count = int(processes.total(torch.tensor(self.count, device=self.mean.device)))
        mean = processes.total(self.mean * (self.count / count))
        return Moments(count, mean, processes.total(self.scatter_about(mean)))

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


def moments_of(
    x: Tensor, others: Tensor | None, processes: Processes = ALONE
) -> tuple[Moments, Moments | None]:
    """The moments of images (N, D), and of other images (M, D) if there are any.

    Several ``processes`` compute those of a share of the images each, and add them up.
    """

    def of(images: Tensor) -> Moments:
        return Moments.of(processes.share(images)).total(processes)

    return of(x), None if others is None else of(others)


@dataclass(frozen=True)
class Images:
    """Images that a model is fitted to, with their moments, which are computed once."""

    x: Tensor
    """The images, (N, D)."""

    @cached_property
    def moments(self) -> Moments:
        """Their moments, computed when they are first asked for."""
        return Moments.of(self.x)

    def to(self, like: Tensor) -> "Images":
        """The same images in the precision and on the device of another tensor."""
        x = self.x.to(like)
        return self if x is self.x else Images(x)

    def share(self, processes: Processes) -> "Images":
        """Those of the images that this process works on."""
        return self if processes.count == 1 else Images(processes.share(self.x))
