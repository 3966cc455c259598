"""Spherical covariances: one variance for all pixels of a component."""

import math
from typing import Self

import torch
from torch import Tensor

from vaexp.models.absent import Absent
from vaexp.models.covariances import features
from vaexp.models.covariances.base import Gaussians, Size
from vaexp.models.covariances.singular import check_variances
from vaexp.models.covariances.statistics import Statistics, Sums
from vaexp.models.moments import Images


class Spherical(Gaussians):
    """Sigma_k = sigma_k^2 I: mean (K, D) and variances sigma^2 (K,)."""

    name = "spherical"
    independent_pixels = True

    def __init__(self, mean: Tensor, variances: Tensor):
        super().__init__(mean)
        self.register_buffer("variances", variances)
        self.variances: Tensor

    @classmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Means (K, D) and variances (K,) without values."""
        k, d, _ = size
        return cls(torch.empty(k, d, dtype=dtype), torch.empty(k, dtype=dtype))

    @classmethod
    def from_assigned(
        cls, images: Images, assigned: Tensor, mean: Tensor, size: Size, floor: float
    ) -> Self:
        """The mean variance of the pixels in each component, with the floor added."""
        about_mean = cls(mean.to(images.x.dtype), images.x.new_empty(0))
        return about_mean.m_step(
            features.statistics_of_assigned(about_mean, images.x, assigned, size.components), floor
        )

    @property
    def centre(self) -> Tensor:
        """The mean of the means, (D,)."""
        return self.mean.mean(0)

    # The distribution

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, variances_k I), (N, K)."""
        return features.log_joint(self, x, log_weight)

    def features(self, x: Tensor) -> Tensor:
        """x - c and |x - c|^2, with c the centre: (n, D) -> (n, D + 1)."""
        n, d = x.shape
        both = x.new_empty(n, d + 1)
        centred = torch.sub(x, self.centre, out=both[:, :d])
        torch.linalg.vecdot(centred, centred, out=both[:, d])
        return both

    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The constant (K,) and the slope (D + 1, K) of ``log_joint`` in the features."""
        check_variances(self.variances[:, None])
        offset, precision = self.mean - self.centre, 1 / self.variances[:, None]
        normaliser = self.mean.shape[1] * (2 * math.pi * self.variances.double()).log()
        lengths = (offset.double().square() * precision).sum(1)
        slope = torch.cat([offset * precision, -0.5 * precision], dim=1).T
        return log_weight.double() - 0.5 * (normaliser + lengths), slope

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """mu_k + sigma_k noise (n, D)."""
        return self.mean[k] + self.variances[k].sqrt() * noise

    def variance(self) -> Tensor:
        """The one variance of each component, once for each pixel, (K, D)."""
        return self.variances[:, None].expand_as(self.mean)

    def eigenvalues(self) -> Tensor:
        """The one variance of each component D times, (K, D) float64."""
        return self.variance().double()

    def smallest_eigenvalues(self) -> Tensor:
        """(K,)."""
        return self.variances

    # EM

    def e_step(self, images: Images, log_weight: Tensor) -> Statistics:
        """The statistics with ``square`` the sums of r |x - c|^2, (K,)."""
        return features.e_step(self, images.x, log_weight)

    def sums_of(self, total: Tensor) -> Sums:
        """The first sums and the sums of squares, from the sums (K, D + 1) of r times features."""
        d = self.mean.shape[1]
        return Sums(total[:, :d], total.new_zeros(0), total[:, d])

    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """The mean over pixels of the variances about the new mean, plus the floor."""
        dtype, shift = self.mean.dtype, statistics.shift
        mean = (self.centre + shift).to(dtype)
        second, squares = statistics.square / statistics.divisor, shift.square().sum(1)
        total = features.variances_above_rounding(second, squares, dtype)
        return type(self)(mean, (total / mean.shape[1] + floor).to(dtype))

    def expected_log_density(
        self,
        statistics: Statistics,  # noqa: ARG002
        before: Self,  # noqa: ARG002
        floor: float,
    ) -> Tensor:
        """-D/2 (ln 2 pi v + (v - floor) / v), (K,), with v the variances."""
        d = self.mean.shape[1]
        variances = self.variances.double()
        constant = d * math.log(2 * math.pi)
        return -0.5 * (constant + d * (variances.log() + 1 - floor / variances))

    # The floor of the covariances

    def with_floor(self, floor: float, other: float) -> Self:
        """The variances less ``floor`` plus ``other``."""
        return type(self)(self.mean, self.variances + (other - floor))

    @classmethod
    def images_that_vary(cls, size: Size) -> int | Absent:  # noqa: ARG003
        """2."""
        return 2
