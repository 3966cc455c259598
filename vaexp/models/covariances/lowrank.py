"""Low-rank covariances plus noise. A mixture with them is a mixture of probabilistic PCAs.

Tipping and Bishop 1999, Mixtures of probabilistic principal component analyzers.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from vaexp.models.absent import Absent
from vaexp.models.covariances.base import Gaussians, Size
from vaexp.models.covariances.responsibilities import hard_responsibilities, posterior
from vaexp.models.covariances.singular import check_variances
from vaexp.models.covariances.statistics import Statistics, Sums
from vaexp.models.moments import Images, Moments

ROWS_IN_CACHE = 1024  # images worked on at once: so many stay in the processor's cache


class LowRank(Gaussians):
    """Sigma_k = W_k W_k^T + sigma_k^2 I.

    ``mean`` is (K, D), ``factors`` the W, (K, D, q), and ``variances`` the sigma^2, (K,).
    """

    name = "lowrank"
    independent_pixels = False

    def __init__(self, mean: Tensor, factors: Tensor, variances: Tensor):
        super().__init__(mean)
        self.register_buffer("factors", factors)
        self.register_buffer("variances", variances)
        self.factors: Tensor
        self.variances: Tensor

    @classmethod
    def empty(cls, size: Size, dtype: torch.dtype) -> Self:
        """Means (K, D), factors (K, D, q) and variances (K,) without values."""
        k, d, q = size
        mean, factors = torch.empty(k, d, dtype=dtype), torch.empty(k, d, q, dtype=dtype)
        return cls(mean, factors, torch.empty(k, dtype=dtype))

    @classmethod
    def from_assigned(
        cls, images: Images, assigned: Tensor, mean: Tensor, size: Size, floor: float
    ) -> Self:
        """W and sigma^2 by a PCA of the images of each component; sigma^2 is at least the floor."""
        x, (k, d, q) = images.x, size
        factors, variances = mean.new_zeros(k, d, q), mean.new_full((k,), floor)
        for j, (rows, _) in enumerate(hard_responsibilities(assigned, k).by_component()):
            if len(rows):
                eigenvalues, vectors = torch.linalg.eigh(Moments.of(x[rows]).covariance)
                noise = eigenvalues[:-q].clamp(min=0).mean()
                variances[j] = noise.clamp(min=floor)
                # q images or fewer leave some columns of W at 0, from which EM never moves them.
                least = 0.1 * variances[j].item() if len(rows) <= q else 0.0
                scale = (eigenvalues[-q:] - noise).clamp(min=least).sqrt()
                factors[j] = vectors[:, -q:] * scale
        return cls(mean.to(x.dtype), factors.to(x.dtype), variances.to(x.dtype))

    @property
    def size(self) -> Size:
        """K, D and q."""
        return Size(*self.factors.shape)

    @property
    def covariance_parameters(self) -> int:
        """K [D q + 1 - q (q - 1) / 2]: W W^T stays the same when the columns of W are rotated."""
        k, d, q = self.factors.shape
        return k * (d * q + 1 - q * (q - 1) // 2)

    @property
    def noise_dim(self) -> int:
        """D + q: a draw has noise in the pixels and in the latents of the PCA."""
        return self.mean.shape[1] + self.factors.shape[2]

    @property
    def centre(self) -> Tensor:
        """The means, (K, D)."""
        return self.mean

    # The distribution

    @cached_property
    def inner(self) -> Tensor:
        """M = W^T W + sigma^2 I, (K, q, q) float64."""
        factors = self.factors.double()
        identity = torch.eye(factors.shape[2], dtype=torch.float64, device=factors.device)
        return factors.mT @ factors + self.variances.double()[:, None, None] * identity

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma_k), (N, K), by the Woodbury identity.

        (x-mu)^T Sigma^-1 (x-mu) = (|x-mu|^2 - |R^-1 W^T (x-mu)|^2) / sigma^2, with R R^T = M, and
        ln det Sigma = (D - q) ln sigma^2 + ln det M.
        """
        check_variances(self.variances[:, None])
        k, d, q = self.factors.shape
        variances = self.variances.double()
        root = torch.linalg.cholesky(self.inner)
        log_det = (d - q) * variances.log() + 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = log_weight.double() - 0.5 * (d * math.log(2 * math.pi) + log_det)
        projection = torch.linalg.solve_triangular(root, self.factors.mT.double(), upper=False)
        columns = projection.to(x.dtype).reshape(k * q, d)
        centre = self.mean.mean(0)
        shift = (projection @ (self.mean - centre).double()[..., None]).reshape(k * q).to(x.dtype)
        joint = x.new_empty(len(x), k, dtype=torch.float64)
        for block, out in zip(x.split(ROWS_IN_CACHE), joint.split(ROWS_IN_CACHE), strict=True):
            explained = ((block - centre) @ columns.T - shift).view(-1, k, q).square().sum(2)
            squares = _square_distances(block, self.mean) - explained
            out.copy_(constant - 0.5 * squares / variances)
        return joint

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """mu_k + W_k t + sigma_k e (n, D), where noise (n, D + q) holds e (n, D) and t (n, q)."""
        pixels, latents = noise.split([self.mean.shape[1], self.factors.shape[2]], dim=1)
        return self.mean[k] + latents @ self.factors[k].T + self.variances[k].sqrt() * pixels

    def variance(self) -> Tensor:
        """The diagonals of W W^T + sigma^2 I, (K, D)."""
        return self.factors.square().sum(2) + self.variances[:, None]

    def eigenvalues(self) -> Tensor:
        """D - q times sigma^2, then the eigenvalues of M, which are the others, (K, D) float64."""
        d, q = self.factors.shape[1:]
        rest = self.variances.double()[:, None].expand(-1, d - q)
        return torch.cat([rest, torch.linalg.eigvalsh(self.inner)], 1)

    def smallest_eigenvalues(self) -> Tensor:
        """The sigma^2, (K,)."""
        return self.variances

    # EM

    def e_step(self, images: Images, log_weight: Tensor) -> Statistics:
        """The statistics with sums about the means.

        ``second`` are the sums of r (x - mu)(x - mu)^T times W, (K, D, q), and ``square`` those of
        r |x - mu|^2, (K,).
        """
        r, totals = posterior(self.log_joint(images.x, log_weight))
        first = torch.zeros_like(self.mean, dtype=torch.float64)
        second = torch.zeros_like(self.factors, dtype=torch.float64)
        square = first.new_zeros(len(first))
        transposed = self.factors.mT.contiguous()  # BLAS is four times faster at this order
        for j, centred, weight in r.blocks_about(self.mean, images.x):
            first[j] += centred.T @ weight
            second[j] += ((transposed[j] @ centred.T * weight) @ centred).T
            square[j] += torch.dot(torch.linalg.vecdot(centred, centred), weight)
        return Statistics.of(r, Sums(first, second, square), totals)

    def m_step(self, statistics: Statistics, floor: float) -> Self:
        """New means, and one step of W and sigma^2 towards their maximum (appendix C).

        z has a second part, the latents of the component's PCA. Their posterior is taken at the new
        mean and the old W and sigma^2. With S the covariance of the component's images:
        W' = S W (sigma^2 I + M^-1 W^T S W)^-1 and sigma^2' = tr(S - S W M^-1 W'^T) / D.
        """
        dtype, d = self.mean.dtype, self.mean.shape[1]
        mean = (self.centre + statistics.shift).to(dtype)
        old = _OldLoadings.of(statistics, self)
        divisor = old.noise * old.identity + torch.linalg.solve(old.inner, old.inner_second)
        factors = torch.linalg.solve(divisor, old.second, left=False)
        explained = (torch.linalg.solve(old.inner, old.second, left=False) * factors).sum((1, 2))
        variances = ((old.trace - explained) / d).clamp(min=floor)
        return type(self)(mean, factors.to(dtype), variances.to(dtype))

    def expected_log_density(
        self,
        statistics: Statistics,
        before: Self,
        floor: float,  # noqa: ARG002
    ) -> Tensor:
        """A lower bound on the mean of ln N(x; mu_k, Sigma_k), (K,).

        It is the ELBO whose posterior of the latents t is that of ``m_step``. With
        E[x t^T] = S W M^-1 and E[t t^T] = sigma^2 M^-1 + M^-1 W^T E[x t^T] it is
        -1/2 (D ln 2 pi + D ln sigma^2' + E|x - mu' - W' t|^2 / sigma^2' + tr E[t t^T]
        - q - ln det(sigma^2 M^-1)).
        """
        d, q = self.factors.shape[1:]
        old = _OldLoadings.of(statistics, before)
        factors, variances = self.factors.double(), self.variances.double()
        cross = torch.linalg.solve(old.inner, old.second, left=False)
        latent = torch.linalg.solve(old.inner, old.noise * old.identity + old.factors.mT @ cross)
        error = (
            old.trace
            - 2 * (factors * cross).sum((1, 2))
            + (factors.mT @ factors * latent).sum((1, 2))
        )
        trace = latent.diagonal(dim1=1, dim2=2).sum(1)
        entropy = q + q * old.noise[:, 0, 0].log() - torch.linalg.slogdet(old.inner).logabsdet
        constant = d * math.log(2 * math.pi)
        return -0.5 * (constant + d * variances.log() + error / variances + trace - entropy)

    # The floor of the covariances

    def with_floor(self, floor: float, other: float) -> Self:
        """The same factors, with those sigma^2 moved to ``other`` that the floor holds.

        They move all the way: an M-step would stop where the images' own sigma^2 is above
        ``other``, which the model no longer knows.
        """
        held = self.variances <= floor * (1 + 1e-6)  # rounding
        variances = torch.where(held, other, self.variances).clamp(min=other)
        return type(self)(self.mean, self.factors, variances.to(self.variances))

    @classmethod
    def images_that_vary(cls, size: Size) -> int | Absent:
        """q + 2: W takes q directions, and sigma^2 has the rest."""
        return size.factors + 2


@dataclass(frozen=True)
class _OldLoadings:
    """The W and sigma^2 before an M-step, and what it needs of the images; all float64.

    S = sum of r (x - mu')(x - mu')^T / sum of r is about the new means.
    """

    factors: Tensor
    """W, (K, D, q)."""
    noise: Tensor
    """sigma^2, (K, 1, 1)."""
    inner: Tensor
    """M = W^T W + sigma^2 I, (K, q, q)."""
    second: Tensor
    """S W, (K, D, q)."""
    inner_second: Tensor
    """W^T S W, (K, q, q)."""
    trace: Tensor
    """tr S, (K,)."""
    identity: Tensor
    """I, (q, q)."""

    @classmethod
    def of(cls, statistics: Statistics, before: LowRank) -> "_OldLoadings":
        """The loadings of ``before`` with the statistics of its E-step."""
        divisor = statistics.divisor
        shift = statistics.shift[..., None]
        factors = before.factors.double()
        second = statistics.second / divisor[:, None, None] - shift @ (shift.mT @ factors)
        return cls(
            factors,
            before.variances.double()[:, None, None],
            before.inner,
            second,
            factors.mT @ second,
            statistics.square / divisor - shift.square().sum((1, 2)),
            torch.eye(factors.shape[2], dtype=torch.float64, device=factors.device),
        )


def _square_distances(x: Tensor, mean: Tensor) -> Tensor:
    """|x - mu|^2 of x (n, D) and means (K, D), (n, K) float64, centred so that little cancels."""
    centre = mean.mean(0)
    x, mean = x - centre, mean - centre
    lengths = x.square().sum(1, keepdim=True, dtype=torch.float64)
    squares = lengths + mean.double().square().sum(1) - 2 * (x @ mean.T)
    return squares.clamp_(min=0)
