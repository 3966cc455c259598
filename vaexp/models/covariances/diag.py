"""Diagonal covariances: a variance for each pixel of each component."""

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


class Diag(Gaussians):
    """Sigma_k is diagonal: mean (K, D) and variances (K, D)."""

    name = "diag"
    independent_pixels = True

    def __init__(self, mean: Tensor, variances: Tensor):
        super().__init__(mean)
        self.register_buffer("variances", variances)
        self.variances: Tensor

    @classmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Means and variances (K, D) without values."""
        mean = torch.empty(size.components, size.pixels, dtype=dtype)
        return cls(mean, torch.empty_like(mean))

    @classmethod
    def from_assigned(
        cls, images: Images, assigned: Tensor, mean: Tensor, size: Size, floor: float
    ) -> Self:
        """The variances of the images of each component, with the floor added."""
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
        """Ln pi_k + ln N(x; mu_k, diag variances_k), (N, K)."""
        return features.log_joint(self, x, log_weight)

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

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """mu_k + sigma_k noise (n, D)."""
        return self.mean[k] + self.variances[k].sqrt() * noise

    def variance(self) -> Tensor:
        """(K, D)."""
        return self.variances

    def eigenvalues(self) -> Tensor:
        """The variances in ascending order, (K, D) float64."""
        return self.variances.double().sort(1).values

    def smallest_eigenvalues(self) -> Tensor:
        """(K,)."""
        return self.variances.amin(1)

    # EM

    def e_step(self, images: Images, log_weight: Tensor) -> Statistics:
        """The statistics with ``second`` the sums of r (x - c)^2, (K, D)."""
        return features.e_step(self, images.x, log_weight)

    def sums_of(self, total: Tensor) -> Sums:
        """The first and second sums, from the sums (K, 2D) of r times features."""
        d = self.mean.shape[1]
        return Sums(total[:, :d], total[:, d:], total.new_zeros(0))

    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """The variances of each component's images about the new mean, plus the floor."""
        dtype, shift = self.mean.dtype, statistics.shift
        mean = (self.centre + shift).to(dtype)
        second = statistics.second / statistics.divisor[:, None]
        variances = features.variances_above_rounding(second, shift.square(), dtype) + floor
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

    # The floor of the covariances

    def with_floor(self, floor: float, other: float) -> Self:
        """The variances less ``floor`` plus ``other``."""
        return type(self)(self.mean, self.variances + (other - floor))

    @classmethod
    def images_that_vary(cls, size: Size) -> int | Absent:  # noqa: ARG003
        """2."""
        return 2
