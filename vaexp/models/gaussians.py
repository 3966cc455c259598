"""K Gaussians at once, with full, tied, diag, spherical or lowrank covariances.

Letters in shapes: N data, D pixels, K components, q factors. Each class holds the parameters of the
K components, float32 or float64, and answers the same questions:

    log_joint(x, log_weight)   ln pi_k + ln N(x; mu_k, Sigma_k): (N, D), (K,) -> (N, K), nats
    draw(k, noise)             mu_k + L noise, L L^T = Sigma_k: draws of component k from
                               standard normal noise (n, noise_dim) -> (n, D)
    variance()                 the diagonals of the covariances, (K, D)
    smallest_eigenvalues()     of the covariances, (K,)

Products with the images are computed in the precision of the parameters, everything else in
float64, and so are the answers of log_joint. It raises SingularCovariance.
"""

import math
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Components whose joint density lies this many nats below the best one's may be left out, with -inf
# in their place: K of them are K e^-50 = K 2e-22 of p(x), far less than float64 resolves.
NEGLIGIBLE = 50.0
ROWS = 4096  # images worked on at once
ROWS_IN_CACHE = 1024  # where little is computed with each: so many stay in the processor's cache
DIRECTIONS = 32  # of each component, in which its Mahalanobis distances are bounded


class SingularCovariance(Exception):
    """The covariance of a component is not positive definite in the precision at hand."""

    def __init__(self, component: int, covariance: Tensor):
        super().__init__(component)
        self.component = component
        """Counted from 0; of a tied covariance the first."""
        self.smallest_eigenvalue = torch.linalg.eigvalsh(covariance.double())[0].item()
        """Of the covariance, which may be given as (D, D) or as a diagonal block of it."""


class Whitening(NamedTuple):
    """What a density needs of a covariance, or, with one more dimension in front, of K of them."""

    upper: Tensor
    """U (D, D) upper triangular, U U^T = Sigma^-1."""
    log_det: Tensor
    """ln det Sigma, () float64."""
    smallest: Tensor
    """Sigma's smallest eigenvalue, () float64."""


class Full(nn.Module):
    """One covariance (K, D, D) for each component.

    In hundreds of dimensions nearly all components are out of the question for an image, and two
    bounds on Mahalanobis distances show it for a fraction of the work. With V (D, r),
    V^T Sigma V = I, the distance is at least |V^T (x - mu)|; the columns of V are, nearly, the
    leading generalised eigenvectors of the mixture's total covariance against Sigma, in which a
    random image lies furthest from the component. And the squared distance is a sum over whitened
    pixels, broken off where it has become too large. Only pairs of image and component that neither
    puts NEGLIGIBLE nats below the image's best component are computed to the end.
    """

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)
        self.mean: Tensor
        self.covariance: Tensor
        self.noise_dim = mean.shape[1]

    @property
    def centre(self) -> Tensor:
        """The means, (K, D)."""
        return self.mean

    @cached_property
    def _order(self) -> Tensor:
        """The pixels in the order of their total variance, largest first, (D,)."""
        return (self.variance().mean(0) + self.mean.var(0, correction=0)).argsort(descending=True)

    @cached_property
    def whitening(self) -> Whitening:
        """Of the K covariances, their pixels in ``_order``."""
        return _whiten(self.covariance, self._order)

    @cached_property
    def _directions(self) -> Tensor:
        """V (K, D, r), V_k^T Sigma_k V_k = I, by subspace iteration on Sigma_k^-1 times total."""
        upper = self.whitening.upper
        mean = self.mean[:, self._order]
        spread = mean - mean.mean(0)
        total = self.covariance.mean(0)[self._order[:, None], self._order]
        total = total + spread.T @ spread / len(spread)
        basis = _start(upper, min(DIRECTIONS, mean.shape[1]))
        for _ in range(3):
            basis = torch.linalg.qr(upper.mT @ (total @ (upper @ basis))).Q
        return upper @ basis

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma_k), (N, K), with -inf where that is negligible."""
        upper, log_det, _ = self.whitening
        x, mean = x[:, self._order], self.mean[:, self._order]
        constant = log_weight.double() - 0.5 * (x.shape[1] * math.log(2 * math.pi) + log_det)
        bound = constant - 0.5 * mahalanobis_bound(x, mean, self._directions)
        joint = torch.full_like(bound, -math.inf)

        def fill(pairs: Tensor, least: Tensor) -> None:
            for k, rows in enumerate(rows_by_component(pairs)):
                for some in rows.split(ROWS):
                    most = 2 * (constant[k] - least[some])
                    kept, squares = _whitened_squares(x, some, mean[k], upper[k], most)
                    joint[kept, k] = constant[k] - 0.5 * squares

        best = bound.argmax(1)
        likely = nn.functional.one_hot(best, len(constant)).bool()
        fill(likely, torch.full_like(bound[:, 0], -math.inf))
        least = joint.gather(1, best[:, None]) - NEGLIGIBLE
        fill((bound > least) & ~likely, least[:, 0])
        return joint

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """noise (n, D) to draws of component k, (n, D)."""
        return self.mean[k] + noise @ torch.linalg.cholesky(self.covariance[k]).T

    def variance(self) -> Tensor:
        """The diagonals of the covariances, (K, D)."""
        return self.covariance.diagonal(dim1=1, dim2=2)

    def smallest_eigenvalues(self) -> Tensor:
        """(K,) float64, to a percent or better, from above."""
        return self.whitening.smallest


class Tied(nn.Module):
    """One covariance (D, D) for all components."""

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)
        self.mean: Tensor
        self.covariance: Tensor
        self.noise_dim = mean.shape[1]

    @property
    def centre(self) -> Tensor:
        """The mean of the means, (D,)."""
        return self.mean.mean(0)

    @cached_property
    def whitening(self) -> Whitening:
        """Of the one covariance."""
        every = torch.arange(len(self.covariance), device=self.covariance.device)
        return Whitening(*[part[0] for part in _whiten(self.covariance[None], every)])

    @cached_property
    def precision(self) -> Tensor:
        """Sigma^-1, (D, D)."""
        return self.whitening.upper @ self.whitening.upper.T

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma), (N, K)."""
        upper = self.whitening.upper
        squares = [((block - self.centre) @ upper).square().sum(1) for block in x.split(ROWS)]
        return _log_joint_by_features(self, x, log_weight) - 0.5 * torch.cat(squares)[:, None]

    def features(self, x: Tensor) -> Tensor:
        """x - c, with c the centre: (n, D) -> (n, D)."""
        return x - self.centre

    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """``log_joint`` is constant (K,) + features times slope (D, K), and one more term.

        That is -1/2 (x - c)^T Sigma^-1 (x - c), which all components share. Responsibilities do not
        need it, and its sum over images follows from their scatter.
        """
        upper, log_det, _ = self.whitening
        whitened = (self.mean - self.centre) @ upper
        normaliser = self.mean.shape[1] * math.log(2 * math.pi) + log_det
        lengths = whitened.double().square().sum(1)
        return log_weight.double() - 0.5 * (normaliser + lengths), (whitened @ upper.T).T

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """noise (n, D) to draws of component k, (n, D)."""
        return self.mean[k] + noise @ torch.linalg.cholesky(self.covariance).T

    def variance(self) -> Tensor:
        """The diagonal of the covariance, once for each component, (K, D)."""
        return self.covariance.diagonal().expand_as(self.mean)

    def smallest_eigenvalues(self) -> Tensor:
        """(K,) float64, all the same."""
        return self.whitening.smallest.expand(len(self.mean))


class Diag(nn.Module):
    """A variance (K, D) for each pixel of each component."""

    def __init__(self, mean: Tensor, variances: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("variances", variances)
        self.mean: Tensor
        self.variances: Tensor
        self.noise_dim = mean.shape[1]

    @property
    def centre(self) -> Tensor:
        """The mean of the means, (D,)."""
        return self.mean.mean(0)

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, diag variances_k), (N, K)."""
        return _log_joint_by_features(self, x, log_weight)

    def features(self, x: Tensor) -> Tensor:
        """x - c and its squares, with c the centre: (n, D) -> (n, 2D)."""
        n, d = x.shape
        features = x.new_empty(n, 2 * d)
        torch.sub(x, self.centre, out=features[:, :d])
        torch.square(features[:, :d], out=features[:, d:])
        return features

    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """``log_joint`` is constant (K,) + features times slope (2D, K)."""
        offset, precision = self.mean - self.centre, 1 / self.variances
        # Of (x - c)^2 / variance, which may be this large, the sums lose what is beyond eps.
        resolution = 100 * torch.finfo(offset.dtype).eps * offset.square().amax(0)
        _check_variances(self.variances, resolution)
        normaliser = (2 * math.pi * self.variances.double()).log().sum(1)
        lengths = (offset.double().square() * precision).sum(1)
        slope = torch.cat([offset * precision, -0.5 * precision], dim=1).T
        return log_weight.double() - 0.5 * (normaliser + lengths), slope

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """noise (n, D) to draws of component k, (n, D)."""
        return self.mean[k] + self.variances[k].sqrt() * noise

    def variance(self) -> Tensor:
        """(K, D)."""
        return self.variances

    def smallest_eigenvalues(self) -> Tensor:
        """(K,)."""
        return self.variances.amin(1)


class Spherical(nn.Module):
    """One variance for all pixels of each component, (K,)."""

    def __init__(self, mean: Tensor, variances: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("variances", variances)
        self.mean: Tensor
        self.variances: Tensor
        self.noise_dim = mean.shape[1]

    @property
    def centre(self) -> Tensor:
        """The mean of the means, (D,)."""
        return self.mean.mean(0)

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, variances_k I), (N, K)."""
        return _log_joint_by_features(self, x, log_weight)

    def features(self, x: Tensor) -> Tensor:
        """x - c and |x - c|^2, with c the centre: (n, D) -> (n, D + 1)."""
        n, d = x.shape
        features = x.new_empty(n, d + 1)
        centred = torch.sub(x, self.centre, out=features[:, :d])
        torch.linalg.vecdot(centred, centred, out=features[:, d])
        return features

    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """``log_joint`` is constant (K,) + features times slope (D + 1, K)."""
        _check_variances(self.variances[:, None])
        offset, precision = self.mean - self.centre, 1 / self.variances[:, None]
        normaliser = self.mean.shape[1] * (2 * math.pi * self.variances.double()).log()
        lengths = (offset.double().square() * precision).sum(1)
        slope = torch.cat([offset * precision, -0.5 * precision], dim=1).T
        return log_weight.double() - 0.5 * (normaliser + lengths), slope

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """noise (n, D) to draws of component k, (n, D)."""
        return self.mean[k] + self.variances[k].sqrt() * noise

    def variance(self) -> Tensor:
        """(K, D)."""
        return self.variances[:, None].expand_as(self.mean)

    def smallest_eigenvalues(self) -> Tensor:
        """(K,)."""
        return self.variances


class LowRank(nn.Module):
    """Sigma_k = W_k W_k^T + sigma_k^2 I, with factors W (K, D, q) and variances sigma^2 (K,).

    With it a mixture is one of probabilistic PCAs (Tipping and Bishop 1999, Mixtures of
    probabilistic principal component analyzers).
    """

    def __init__(self, mean: Tensor, factors: Tensor, variances: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factors", factors)
        self.register_buffer("variances", variances)
        self.mean: Tensor
        self.factors: Tensor
        self.variances: Tensor
        self.noise_dim = mean.shape[1] + factors.shape[2]

    @property
    def centre(self) -> Tensor:
        """The means, (K, D)."""
        return self.mean

    @cached_property
    def inner(self) -> Tensor:
        """M = W^T W + sigma^2 I, (K, q, q) float64."""
        factors = self.factors.double()
        identity = torch.eye(factors.shape[2], dtype=torch.float64, device=factors.device)
        return factors.mT @ factors + self.variances.double()[:, None, None] * identity

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma_k), (N, K), by the Woodbury identity.

        (x-mu)^T Sigma^-1 (x-mu) = (|x-mu|^2 - |R^-1 W^T (x-mu)|^2) / sigma^2, with R R^T = M.
        """
        _check_variances(self.variances[:, None])
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
        """noise (n, D + q) to draws of component k, (n, D)."""
        pixels, latents = noise.split([self.mean.shape[1], self.factors.shape[2]], dim=1)
        return self.mean[k] + latents @ self.factors[k].T + self.variances[k].sqrt() * pixels

    def variance(self) -> Tensor:
        """(K, D)."""
        return self.factors.square().sum(2) + self.variances[:, None]

    def smallest_eigenvalues(self) -> Tensor:
        """(K,)."""
        return self.variances


Gaussians = Full | Tied | Diag | Spherical | LowRank
ByFeatures = Tied | Diag | Spherical
"""Exponential families whose density is linear in a few features of x, the same for all K."""


def _log_joint_by_features(gaussians: ByFeatures, x: Tensor, log_weight: Tensor) -> Tensor:
    constant, slope = gaussians.natural(log_weight)
    products = [gaussians.features(block) @ slope for block in x.split(ROWS_IN_CACHE)]
    return constant + torch.cat(products)


def rows_by_component(pairs: Tensor) -> list[Tensor]:
    """The rows n, in order, with pairs[n, k], for each k of pairs (N, K)."""
    component, row = pairs.T.nonzero().unbind(1)
    counts = component.bincount(minlength=pairs.shape[1])
    return list(row.split(counts.tolist()))


def mahalanobis_bound(x: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """A lower bound on squared Mahalanobis distances |U^T (x - mu)|^2, (N, K) float64.

    x (N, D), mean (K, D), directions V (K, D, r) with V^T Sigma V = I. It is |V^T (x - mu)|^2, less
    what rounding may have added: an inner product of D terms is off by at most D eps |a||b|
    (Higham 2002, section 3.1), and r of them are summed.
    """
    centre = mean.mean(0)
    k, d, r = directions.shape
    columns = directions.permute(1, 0, 2).reshape(d, k * r)
    shift = ((mean - centre).unsqueeze(1) @ directions).reshape(k * r)
    lengths = directions.norm(dim=1).amax(1) * (math.sqrt(r) * d * torch.finfo(x.dtype).eps)
    reach = (mean - centre).norm(dim=1)
    bound = x.new_empty(len(x), k, dtype=torch.float64)
    for block, out in zip(x.split(ROWS), bound.split(ROWS), strict=True):
        centred = block - centre
        distance = (centred @ columns - shift).view(-1, k, r).norm(dim=2)
        rounding = lengths * (centred.norm(dim=1, keepdim=True) + reach)
        # 0.999: V itself is rounded, so that V^T Sigma V is not quite the identity
        out.copy_((distance - rounding).clamp(min=0).square() * 0.999)
    return bound


def _whitened_squares(
    x: Tensor, rows: Tensor, mean: Tensor, upper: Tensor, most: Tensor
) -> tuple[Tensor, Tensor]:
    """|U^T (x - mu)|^2 of the ``rows`` (n,) of x (N, D), float64, as far as it is below ``most``.

    U (D, D) is upper triangular. Returns the rows for which it is, and their values.
    """
    squares = torch.zeros_like(most)
    for low, high in blocks_of_columns(len(upper)):
        whitened = (x[:, :high][rows] - mean[:high]) @ upper[:high, low:high]
        squares = squares + whitened.square().sum(1)
        kept = squares < most
        rows, squares, most = rows[kept], squares[kept], most[kept]
    return rows, squares


def blocks_of_columns(count: int) -> list[tuple[int, int]]:
    """Eight blocks of columns, for products of which only a triangle is needed."""
    edges = [round(count * i / 8) for i in range(9)]
    return list(pairwise(edges))


def _whiten(covariances: Tensor, order: Tensor) -> Whitening:
    """Of covariances (K, D, D) whose pixels are put in ``order`` (D,); U in their precision.

    Raises SingularCovariance where an eigenvalue is not positive, or no more than rounding, which
    moves eigenvalues by about eps times the norm.
    """
    upper = torch.empty_like(covariances)
    log_det = covariances.new_empty(len(covariances), dtype=torch.float64)
    identity = torch.eye(len(order), dtype=torch.float64, device=order.device)
    for k, covariance in enumerate(covariances):
        root, failed = torch.linalg.cholesky_ex(covariance[order[:, None], order].double())
        if failed:
            raise SingularCovariance(k, covariance)
        upper[k] = torch.linalg.solve_triangular(root, identity, upper=False).T
        log_det[k] = 2 * root.diagonal().log().sum()
    smallest = _smallest_eigenvalues(upper)
    resolution = 20 * torch.finfo(covariances.dtype).eps * torch.linalg.matrix_norm(covariances)
    for k in (smallest <= resolution).nonzero()[:1, 0].tolist():
        raise SingularCovariance(k, covariances[k])
    return Whitening(upper, log_det, smallest)


def _smallest_eigenvalues(upper: Tensor) -> Tensor:
    """Of the covariances whose inverses are U U^T, from U (K, D, D): (K,) float64.

    To a percent or better and from above: the Rayleigh-Ritz value in the Krylov space of Sigma^-1
    that ten multiplications of four vectors span (block Lanczos).
    """
    blocks = [_start(upper, min(4, upper.shape[1]))]
    for _ in range(9):
        blocks.append(torch.linalg.qr(upper @ (upper.mT @ blocks[-1])).Q)
    basis = torch.linalg.qr(torch.cat(blocks, dim=2)).Q
    return 1 / torch.linalg.matrix_norm((upper.mT @ basis).double(), 2).square()


def _check_variances(variances: Tensor, resolution: Tensor | float = 0.0) -> None:
    """Raise SingularCovariance where one of variances (K, any) is no larger than the resolution."""
    wrong = (~(variances > resolution)).nonzero()
    if len(wrong):
        k = int(wrong[0, 0])
        raise SingularCovariance(k, variances[k].min().view(1, 1))


def _square_distances(x: Tensor, mean: Tensor) -> Tensor:
    """|x - mu|^2 of x (n, D) and means (K, D), (n, K) float64, centred so that little cancels."""
    centre = mean.mean(0)
    x, mean = x - centre, mean - centre
    lengths = x.square().sum(1, keepdim=True, dtype=torch.float64)
    squares = lengths + mean.double().square().sum(1) - 2 * (x @ mean.T)
    return squares.clamp_(min=0)


def _start(like: Tensor, count: int) -> Tensor:
    """Orthonormal columns (K, D, count) to start an iteration from, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(like.shape[1], count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise).Q.to(like).expand(len(like), -1, -1)
