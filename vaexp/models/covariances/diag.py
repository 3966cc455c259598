"""Diagonal covariances: a variance for each pixel of each component."""

import math
from typing import Self

import torch
from torch import Tensor

from vaexp.models.covariances.base import Size
from vaexp.models.covariances.features import variances_above_rounding
from vaexp.models.covariances.independent import IndependentPixels
from vaexp.models.covariances.singular import check_variances
from vaexp.models.covariances.statistics import Statistics, Sums


class Diag(IndependentPixels):
    """Sigma_k is diagonal: ``mean`` is (K, D), and ``variances`` the diagonals, (K, D)."""

    name = "diag"

    @classmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Means and variances, (K, D) each, without values."""
        mean = torch.empty(size.components, size.pixels, dtype=dtype)
        return cls(mean, torch.empty_like(mean))

    # The distribution

    def features(self, x: Tensor) -> Tensor:
        """x - c and its squares, with c the centre: (n, D) -> (n, 2D)."""
        n, d = x.shape
        both = x.new_empty(n, 2 * d)
        torch.sub(x, self.centre, out=both[:, :d])
        torch.square(both[:, :d], out=both[:, d:])
        return both

    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The constant (K,) and the slope (2D, K) of ``log_joint`` in the features."""
        offset, precision = self.mean - self.centre, 1 / self.variances
        # The sums of (x - c)^2 / variance, which may be this large, lose what is beyond eps.
        resolution = 100 * torch.finfo(offset.dtype).eps * offset.square().amax(0)
        check_variances(self.variances, resolution)
        normaliser = (2 * math.pi * self.variances.double()).log().sum(1)
        lengths = (offset.double().square() * precision).sum(1)
        slope = torch.cat([offset * precision, -0.5 * precision], dim=1).T
        return log_weight.double() - 0.5 * (normaliser + lengths), slope

    def variance(self) -> Tensor:
        """The variances, (K, D)."""
        return self.variances

    def eigenvalues(self) -> Tensor:
        """The variances in ascending order, (K, D) float64."""
        return self.variances.double().sort(1).values

    def smallest_eigenvalues(self) -> Tensor:
        """The smallest variance of each component, (K,)."""
        return self.variances.amin(1)

    # EM

    def sums_of(self, total: Tensor) -> Sums:
        """The sums of r (x - c) and of r (x - c)^2, (K, D) each, from those of r times features."""
        d = self.mean.shape[1]
        return Sums(total[:, :d], total[:, d:], total.new_zeros(0))

    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """The variances of each component's images about the new mean, plus the floor."""
        dtype, shift = self.mean.dtype, statistics.shift
        mean = (self.centre + shift).to(dtype)
        second = statistics.second / statistics.divisor[:, None]
        variances = variances_above_rounding(second, shift.square(), dtype) + floor
        return type(self)(mean, variances.to(dtype))

    def expected_log_density(
        self,
        statistics: Statistics,  # noqa: ARG002
        before: Self,  # noqa: ARG002
        floor: float,
    ) -> Tensor:
        """-1/2 sum_j (ln 2 pi v_j + (v_j - floor) / v_j), (K,), with v the variances."""
        constant = self.mean.shape[1] * math.log(2 * math.pi)
        variances = self.variances.double()
        return -0.5 * (constant + (variances.log() + 1 - floor / variances).sum(1))
