"""Tied covariances: all components share one covariance, which may be any."""

import math
from dataclasses import replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from vaexp.models.absent import Absent
from vaexp.models.covariances import features
from vaexp.models.covariances.base import Collapsed, Gaussians, Size
from vaexp.models.covariances.responsibilities import ROWS
from vaexp.models.covariances.statistics import Statistics, Sums
from vaexp.models.covariances.whitening import Whitening, whiten
from vaexp.models.moments import Images


class Tied(Gaussians):
    """All components share one Sigma: ``mean`` is (K, D), and ``covariance`` (D, D)."""

    name = "tied"
    independent_pixels = False

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__(mean)
        self.register_buffer("covariance", covariance)
        self.covariance: Tensor

    @property
    def covariance_parameters(self) -> int:
        """D (D + 1) / 2: there is one covariance, and it is symmetric."""
        d = self.mean.shape[1]
        return d * (d + 1) // 2

    @classmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Means (K, D) and a covariance (D, D) without values."""
        k, d, _ = size
        return cls(torch.empty(k, d, dtype=dtype), torch.empty(d, d, dtype=dtype))

    @classmethod
    def from_assigned(
        cls, images: Images, assigned: Tensor, mean: Tensor, size: Size, floor: float
    ) -> Self:
        """The covariance of all images about the means of their components, with the floor."""
        about_mean = cls(mean.to(images.x.dtype), images.x.new_empty(0))
        statistics = features.statistics_of_assigned(
            about_mean, images.x, assigned, size.components
        )
        scatter = images.moments.scatter_about(about_mean.centre)
        return about_mean.m_step(replace(statistics, second=scatter), floor)

    @property
    def centre(self) -> Tensor:
        """The mean of the means, (D,)."""
        return self.mean.mean(0)

    # The distribution

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma), (N, K)."""
        upper = self.whitening.upper
        squares = [((block - self.centre) @ upper).square().sum(1) for block in x.split(ROWS)]
        return features.log_joint(self, x, log_weight) - 0.5 * torch.cat(squares)[:, None]

    def features(self, x: Tensor) -> Tensor:
        """x - c, with c the centre: (n, D) -> (n, D)."""
        return x - self.centre

    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The constant (K,) and the slope (D, K) of ``log_joint`` without one of its terms.

        The term is -1/2 (x - c)^T Sigma^-1 (x - c), which all components share. Responsibilities
        do not need it, and its sum over images follows from their scatter.
        """
        upper, log_det, _ = self.whitening
        whitened = (self.mean - self.centre) @ upper
        normaliser = self.mean.shape[1] * math.log(2 * math.pi) + log_det
        lengths = whitened.double().square().sum(1)
        return log_weight.double() - 0.5 * (normaliser + lengths), (whitened @ upper.T).T

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """mu_k + L noise (n, D), with L L^T = Sigma."""
        return self.mean[k] + noise @ torch.linalg.cholesky(self.covariance).T

    def variance(self) -> Tensor:
        """The diagonal of the covariance, once for each component, (K, D)."""
        return self.covariance.diagonal().expand_as(self.mean)

    def eigenvalues(self) -> Tensor:
        """The eigenvalues of the one covariance, (1, D) float64."""
        return torch.linalg.eigvalsh(self.covariance.double())[None]

    def smallest_eigenvalues(self) -> Tensor:
        """The smallest eigenvalue of the one covariance, once for each component, (K,) float64."""
        return self.whitening.smallest.expand(len(self.mean))

    @cached_property
    def whitening(self) -> Whitening:
        """U, ln det Sigma and the smallest eigenvalue of the one covariance."""
        every = torch.arange(len(self.covariance), device=self.covariance.device)
        return Whitening(*[part[0] for part in whiten(self.covariance[None], every)])

    # EM

    def e_step(self, images: Images, log_weight: Tensor) -> Statistics:
        """The statistics with ``second`` the sum of (x - c)(x - c)^T over all images, (D, D)."""
        statistics = features.e_step(self, images.x, log_weight)
        upper = self.whitening.upper
        scatter = images.moments.scatter_about(self.centre)
        quadratic = -0.5 * ((upper @ upper.T).double() * scatter).sum()
        return replace(
            statistics,
            second=scatter,
            log_prob=statistics.log_prob + quadratic,
            elbo=statistics.elbo + quadratic,
        )

    def sums_of(self, total: Tensor) -> Sums:
        """The sums of r (x - c), (K, D), which are those of r times features."""
        nothing = total.new_zeros(0)
        return Sums(total, nothing, nothing)

    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """Sigma = the covariance of the images about the new means of their components + floor I.

        It is the covariance about c less what lies between the components.
        """
        shift = statistics.shift
        mean = (self.centre + shift).to(self.mean.dtype)
        between = (shift * statistics.divisor[:, None]).T @ shift
        pooled = (statistics.second - between) / statistics.count
        pooled.diagonal().add_(floor)
        return type(self)(mean, pooled.to(self.mean.dtype))

    def expected_log_density(
        self,
        statistics: Statistics,  # noqa: ARG002
        before: Self,  # noqa: ARG002
        floor: float,
    ) -> Tensor:
        """-1/2 (D ln 2 pi + ln det Sigma + tr(Sigma^-1 S)) on average over components, (K,).

        S = Sigma - floor I is the covariance that the M-step found.
        """
        k, d = self.mean.shape
        upper, log_det, _ = self.whitening
        inverse_trace = upper.double().square().sum()
        mean = -0.5 * (d * math.log(2 * math.pi) + log_det + d - floor * inverse_trace)
        return mean.expand(k)

    # The floor of the covariances

    def with_floor(self, floor: float, other: float) -> Self:
        """Sigma - floor I + other I."""
        covariance = self.covariance.clone()
        covariance.diagonal().add_(other - floor)
        return type(self)(self.mean, covariance)

    @classmethod
    def images_that_vary(cls, size: Size) -> int | Absent:  # noqa: ARG003
        """Absent: no component has a covariance of its own."""
        return Absent("the covariance is of the images of all components")

    def collapsed(self, component: int, held: float, images: int) -> Collapsed:
        """What a user should know of the one covariance, which is estimated from all images."""
        reason = super().collapsed(component, held, images).reason
        return Collapsed("the covariance of all components", f"{images:,}", reason)
