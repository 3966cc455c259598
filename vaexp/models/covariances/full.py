"""Full covariances: each component has any covariance of its own."""

import math
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from vaexp.models.absent import Absent
from vaexp.models.covariances.base import Gaussians, Size
from vaexp.models.covariances.pruning import (
    DIRECTIONS,
    all_squared_distances,
    separating_directions,
    squared_distances,
)
from vaexp.models.covariances.responsibilities import (
    Responsibilities,
    Totals,
    hard_responsibilities,
    posterior,
)
from vaexp.models.covariances.statistics import Statistics, Sums
from vaexp.models.covariances.triangles import add_symmetric_product, mirror_upper
from vaexp.models.covariances.whitening import Whitening, whiten
from vaexp.models.moments import Images


class Full(Gaussians):
    """Sigma_k is any covariance: ``mean`` is (K, D), and ``covariance`` (K, D, D)."""

    name = "full"
    independent_pixels = False

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__(mean)
        self.register_buffer("covariance", covariance)
        self.covariance: Tensor

    @property
    def covariance_parameters(self) -> int:
        """K D (D + 1) / 2: the covariances are symmetric."""
        k, d = self.mean.shape
        return k * d * (d + 1) // 2

    @classmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Means (K, D) and covariances (K, D, D) without values."""
        k, d, _ = size
        return cls(torch.empty(k, d, dtype=dtype), torch.empty(k, d, d, dtype=dtype))

    @classmethod
    def from_assigned(
        cls, images: Images, assigned: Tensor, mean: Tensor, size: Size, floor: float
    ) -> Self:
        """The covariances of the images of each component, with the floor added."""
        about_mean = cls(mean.to(images.x.dtype), images.x.new_empty(0))
        r = hard_responsibilities(assigned, size.components)
        sums = about_mean._sums(images.x, r)
        return about_mean.m_step(Statistics.of(r, sums, Totals.zero(mean)), floor)

    @property
    def centre(self) -> Tensor:
        """The means, (K, D)."""
        return self.mean

    # The distribution

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma_k), (N, K), with -inf where that is negligible.

        ln N = -1/2 (D ln 2 pi + ln det Sigma_k + |U_k^T (x - mu_k)|^2), U_k U_k^T = Sigma_k^-1. The
        bounds of ``pruning`` decide which squared distances are computed.
        """
        upper, log_det, _ = self.whitening
        constant = log_weight.double() - 0.5 * (x.shape[1] * math.log(2 * math.pi) + log_det)
        x, mean = x[:, self._order], self.mean[:, self._order]
        if x.shape[1] <= DIRECTIONS:
            return constant - 0.5 * all_squared_distances(x, mean, upper)
        return constant - 0.5 * squared_distances(x, mean, upper, self._directions, constant)

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """mu_k + L noise (n, D), with L L^T = Sigma_k."""
        return self.mean[k] + noise @ torch.linalg.cholesky(self.covariance[k]).T

    def variance(self) -> Tensor:
        """The diagonals of the covariances, (K, D)."""
        return self.covariance.diagonal(dim1=1, dim2=2)

    def eigenvalues(self) -> Tensor:
        """The eigenvalues of each covariance in ascending order, (K, D) float64."""
        each = [torch.linalg.eigvalsh(covariance.double()) for covariance in self.covariance]
        return torch.stack(each)

    def smallest_eigenvalues(self) -> Tensor:
        """The smallest eigenvalues, (K,) float64, to a percent or better and from above."""
        return self.whitening.smallest

    @cached_property
    def whitening(self) -> Whitening:
        """U_k, ln det Sigma_k and the smallest eigenvalue, with the pixels in ``_order``."""
        return whiten(self.covariance, self._order)

    @cached_property
    def _order(self) -> Tensor:
        """The pixels by their total variance, the largest first, (D,)."""
        return (self.variance().mean(0) + self.mean.var(0, correction=0)).argsort(descending=True)

    @cached_property
    def _directions(self) -> Tensor:
        """Directions in which random images lie far from each component, (K, D, r)."""
        within = self.covariance.mean(0)[self._order[:, None], self._order]
        return separating_directions(self.whitening.upper, self.mean[:, self._order], within)

    # EM

    def e_step(self, images: Images, log_weight: Tensor) -> Statistics:
        """The statistics with ``second`` the sums of r (x - mu)(x - mu)^T, (K, D, D)."""
        r, totals = posterior(self.log_joint(images.x, log_weight))
        return Statistics.of(r, self._sums(images.x, r), totals)

    def _sums(self, x: Tensor, r: Responsibilities) -> Sums:
        """The sums of r (x - mu), (K, D), and of r (x - mu)(x - mu)^T, (K, D, D)."""
        k, d = self.mean.shape
        first, second = r.value.new_zeros(k, d), r.value.new_zeros(k, d, d)
        for j, centred, weight in r.blocks_about(self.mean, x):
            first[j] += centred.T @ weight
            add_symmetric_product(second[j], centred * weight.sqrt()[:, None])
        for each in second:
            mirror_upper(each)
        return Sums(first, second, r.value.new_zeros(0))

    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """Sigma_k = sum r (x - mu_k)(x - mu_k)^T / sum r + floor I, about the new mean."""
        k, d = self.mean.shape
        divisor, shift = statistics.divisor, statistics.shift
        mean = (self.centre + shift).to(self.mean.dtype)
        covariance = self.mean.new_empty(k, d, d)
        for j in range(k):
            about_new_mean = statistics.second[j] / divisor[j] - torch.outer(shift[j], shift[j])
            about_new_mean.diagonal().add_(floor)
            covariance[j] = about_new_mean
        return type(self)(mean, covariance)

    def expected_log_density(
        self,
        statistics: Statistics,  # noqa: ARG002
        before: Self,  # noqa: ARG002
        floor: float,
    ) -> Tensor:
        """-1/2 (D ln 2 pi + ln det Sigma + tr(Sigma^-1 S)), (K,).

        S = Sigma - floor I is the covariance that the M-step found.
        """
        d = self.mean.shape[1]
        upper, log_det, _ = self.whitening
        inverse_trace = torch.linalg.vector_norm(upper, dim=(1, 2), dtype=torch.float64) ** 2
        return -0.5 * (d * math.log(2 * math.pi) + log_det + d - floor * inverse_trace)

    # The floor of the covariances

    def with_floor(self, floor: float, other: float) -> Self:
        """Sigma - floor I + other I."""
        covariance = self.covariance.clone()
        covariance.diagonal(dim1=1, dim2=2).add_(other - floor)
        return type(self)(self.mean, covariance)

    @classmethod
    def images_that_vary(cls, size: Size) -> int | Absent:
        """D + 1, as a covariance has D directions."""
        return size.pixels + 1
