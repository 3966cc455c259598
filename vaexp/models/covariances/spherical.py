"""Spherical covariances: one variance for all pixels of a component."""

import math
from typing import Self

import torch
from torch import Tensor

from vaexp.models.covariances.base import Size
from vaexp.models.covariances.features import variances_above_rounding
from vaexp.models.covariances.independent import IndependentPixels
from vaexp.models.covariances.singular import check_variances
from vaexp.models.covariances.statistics import Statistics, Sums


class Spherical(IndependentPixels):
    """Sigma_k = sigma_k^2 I: ``mean`` is (K, D), and ``variances`` the sigma^2, (K,)."""

    name = "spherical"

    @classmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Means (K, D) and variances (K,) without values."""
        k, d, _ = size
        return cls(torch.empty(k, d, dtype=dtype), torch.empty(k, dtype=dtype))

    # The distribution

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

    def variance(self) -> Tensor:
        """The one variance of each component, once for each pixel, (K, D)."""
        return self.variances[:, None].expand_as(self.mean)

    def eigenvalues(self) -> Tensor:
        """The one variance of each component, D times, (K, D) float64."""
        return self.variance().double()

    def smallest_eigenvalues(self) -> Tensor:
        """The variances, (K,)."""
        return self.variances

    # EM

    def sums_of(self, total: Tensor) -> Sums:
        """The sums of r (x - c), (K, D), and r |x - c|^2, (K,), from those of r times features."""
        d = self.mean.shape[1]
        return Sums(total[:, :d], total.new_zeros(0), total[:, d])

    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """The mean over pixels of the variances about the new mean, plus the floor."""
        dtype, shift = self.mean.dtype, statistics.shift
        mean = (self.centre + shift).to(dtype)
        second, squares = statistics.square / statistics.divisor, shift.square().sum(1)
        total = variances_above_rounding(second, squares, dtype)
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
