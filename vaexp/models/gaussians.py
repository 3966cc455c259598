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

import torch
from torch import Tensor, nn

# Components whose joint density lies this many nats below the best one's may be left out, with -inf
# in their place: K of them are K e^-50 = K 2e-22 of p(x), far less than float64 resolves.
NEGLIGIBLE = 50.0
ROWS = 4096  # images worked on at once
DIRECTIONS = 16  # of each component, in which its Mahalanobis distances are bounded


class SingularCovariance(Exception):
    """The covariance of a component is not positive definite in the precision at hand."""

    def __init__(self, component: int, covariance: Tensor):
        super().__init__(component)
        self.component = component
        """Counted from 0; of a tied covariance the first."""
        self.smallest_eigenvalue = torch.linalg.eigvalsh(covariance.double())[0].item()
        """Of the covariance, which may be given as (D, D) or as a diagonal block of it."""


class Full(nn.Module):
    """One covariance (K, D, D) for each component.

    In hundreds of dimensions nearly all components are out of the question for an image, and a
    bound shows it for a fraction of the work: with V (D, r), V^T Sigma V = I, the Mahalanobis
    distance is at least |V^T (x - mu)|. The columns of V are, nearly, the leading generalised
    eigenvectors of the mixture's total covariance against Sigma, in which a random image lies
    furthest from the component. Only those pairs of image and component that the bound does not put
    NEGLIGIBLE nats below the image's best component are computed in full.
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
    def whitening(self) -> tuple[Tensor, Tensor]:
        """U (K, D, D) upper triangular, U U^T = Sigma^-1, and ln det Sigma (K,) float64."""
        whitening = torch.empty_like(self.covariance)
        log_det = self.mean.new_empty(len(self.mean), dtype=torch.float64)
        for k, covariance in enumerate(self.covariance):
            whitening[k], log_det[k] = _whiten(covariance, k)
        return whitening, log_det

    @cached_property
    def _directions(self) -> Tensor:
        """V (K, D, r), V_k^T Sigma_k V_k = I, by subspace iteration on Sigma_k^-1 times total."""
        whitening, _ = self.whitening
        spread = self.mean - self.mean.mean(0)
        total = self.covariance.mean(0) + spread.T @ spread / len(spread)
        count = min(DIRECTIONS, self.mean.shape[1])
        basis = _start(whitening, count)
        for _ in range(3):
            basis = torch.linalg.qr(whitening.mT @ (total @ (whitening @ basis))).Q
        return whitening @ basis

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma_k), (N, K), with -inf where that is negligible."""
        _, log_det = self.whitening
        constant = log_weight.double() - 0.5 * (x.shape[1] * math.log(2 * math.pi) + log_det)
        bound = constant - 0.5 * self.mahalanobis_bound(x)
        joint = torch.full_like(bound, -math.inf)
        best = bound.argmax(1)
        likely = nn.functional.one_hot(best, len(constant)).bool()
        self._fill(joint, x, likely, constant)
        least = joint.gather(1, best[:, None]) - NEGLIGIBLE
        self._fill(joint, x, (bound > least) & ~likely, constant)
        return joint

    def _fill(self, joint: Tensor, x: Tensor, pairs: Tensor, constant: Tensor) -> None:
        """Compute the entries of joint (N, K) that pairs (N, K) marks."""
        whitening, _ = self.whitening
        for k, rows in enumerate(rows_by_component(pairs)):
            for some in rows.split(ROWS):
                squares = _whitened_square(x[some] - self.mean[k], whitening[k])
                joint[some, k] = constant[k] - 0.5 * squares

    def mahalanobis_bound(self, x: Tensor) -> Tensor:
        """A lower bound on the squared Mahalanobis distances of x (N, D), (N, K) float64.

        |V^T (x - mu)|^2, less what rounding may have added: an inner product of D terms is off by
        at most D eps |a||b| (Higham 2002, section 3.1), each of the r that are summed here.
        """
        centre = self.mean.mean(0)
        directions = self._directions
        k, d, r = directions.shape
        columns = directions.permute(1, 0, 2).reshape(d, k * r)
        means = ((self.mean - centre).unsqueeze(1) @ directions).reshape(k * r)
        eps = d * torch.finfo(x.dtype).eps
        lengths = directions.norm(dim=1).amax(1) * math.sqrt(r) * eps  # (K,)
        reach = (self.mean - centre).norm(dim=1)
        bound = x.new_empty(len(x), k, dtype=torch.float64)
        for block, out in zip(x.split(ROWS), bound.split(ROWS), strict=True):
            centred = block - centre
            distance = (centred @ columns - means).view(-1, k, r).norm(dim=2)
            rounding = lengths * (centred.norm(dim=1, keepdim=True) + reach)
            # 0.999: V itself is rounded, so that V^T Sigma V is not quite the identity
            out.copy_((distance - rounding).clamp(min=0).square() * 0.999)
        return bound

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """noise (n, D) to draws of component k, (n, D)."""
        return self.mean[k] + noise @ torch.linalg.cholesky(self.covariance[k]).T

    def variance(self) -> Tensor:
        """The diagonals of the covariances, (K, D)."""
        return self.covariance.diagonal(dim1=1, dim2=2)

    def smallest_eigenvalues(self) -> Tensor:
        """(K,) float64, to a percent or better, from above: inverse iteration on four vectors."""
        whitening, _ = self.whitening
        basis = _start(whitening, min(4, self.mean.shape[1]))
        for _ in range(10):
            basis = torch.linalg.qr(whitening @ (whitening.mT @ basis)).Q
        return 1 / torch.linalg.matrix_norm((whitening.mT @ basis).double(), 2).square()


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
    def whitening(self) -> tuple[Tensor, Tensor]:
        """U (D, D) upper triangular, U U^T = Sigma^-1, and ln det Sigma, float64."""
        return _whiten(self.covariance, 0)

    @cached_property
    def precision(self) -> Tensor:
        """Sigma^-1, (D, D)."""
        return self.whitening[0] @ self.whitening[0].T

    def log_joint(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """Ln pi_k + ln N(x; mu_k, Sigma), (N, K)."""
        upper, _ = self.whitening
        squares = [_whitened_square(block - self.centre, upper) for block in x.split(ROWS)]
        return self.log_joint_but_quadratic(x, log_weight) - 0.5 * torch.cat(squares)[:, None]

    def log_joint_but_quadratic(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """``log_joint`` without the term all components share, (N, K).

        That is -1/2 (x - c)^T Sigma^-1 (x - c), with c the mean of the means. Responsibilities do
        not need it, and its sum over images follows from their covariance.
        """
        upper, log_det = self.whitening
        whitened = (self.mean - self.centre) @ upper
        slope = whitened @ upper.T  # Sigma^-1 (mu - c)
        constant = (
            log_weight.double()
            - 0.5 * (x.shape[1] * math.log(2 * math.pi) + log_det)
            - 0.5 * whitened.double().square().sum(1)
        )
        products = [(block - self.centre) @ slope.T for block in x.split(ROWS)]
        return constant + torch.cat(products)

    def draw(self, k: int, noise: Tensor) -> Tensor:
        """noise (n, D) to draws of component k, (n, D)."""
        return self.mean[k] + noise @ torch.linalg.cholesky(self.covariance).T

    def variance(self) -> Tensor:
        """The diagonal of the covariance, once for each component, (K, D)."""
        return self.covariance.diagonal().expand_as(self.mean)

    def smallest_eigenvalues(self) -> Tensor:
        """(K,) float64, all the same."""
        return torch.linalg.eigvalsh(self.covariance.double())[0].expand(len(self.mean))


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
        _check_variances(self.variances)
        offset = self.mean - self.centre
        precision = 1 / self.variances
        constant = log_weight.double() - 0.5 * (
            x.shape[1] * math.log(2 * math.pi)
            + self.variances.double().log().sum(1)
            + (offset.double().square() * precision).sum(1)
        )
        linear, square = (offset * precision).T, (-0.5 * precision).T
        joint = []
        for block in x.split(ROWS):
            centred = block - self.centre
            joint.append(torch.addmm(centred @ linear, centred.square(), square))
        return constant + torch.cat(joint)

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
        _check_variances(self.variances[:, None])
        variances = self.variances.double()
        constant = log_weight.double() - 0.5 * x.shape[1] * (2 * math.pi * variances).log()
        squares = torch.cat([_square_distances(block, self.mean) for block in x.split(ROWS)])
        return constant - 0.5 * squares / variances

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
        for block, out in zip(x.split(ROWS), joint.split(ROWS), strict=True):
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


def rows_by_component(pairs: Tensor) -> list[Tensor]:
    """The rows n, in order, with pairs[n, k], for each k of pairs (N, K)."""
    component, row = pairs.T.nonzero().unbind(1)
    counts = component.bincount(minlength=pairs.shape[1])
    return list(row.split(counts.tolist()))


def triangular_product(x: Tensor, upper: Tensor) -> list[tuple[slice, Tensor]]:
    """x (n, D) times an upper triangular (D, D), in blocks of columns: 10 of 16 flops of it all."""
    d = len(upper)
    edges = [round(d * i / 4) for i in range(5)]
    return [
        (slice(low, high), x[:, :high] @ upper[:high, low:high])
        for low, high in zip(edges, edges[1:], strict=False)
    ]


def _whitened_square(centred: Tensor, upper: Tensor) -> Tensor:
    """|U^T (x - mu)|^2 of rows x - mu (n, D), (n,) float64."""
    parts = [part.square().sum(1) for _, part in triangular_product(centred, upper)]
    return torch.stack(parts).sum(0, dtype=torch.float64)


def _whiten(covariance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """U = L^-T, where L L^T is the covariance (D, D), in its precision, and its ln det in float64.

    Raises SingularCovariance where a pivot of L is no larger than rounding in the covariance's own
    precision may have made it.
    """
    root, failed = torch.linalg.cholesky_ex(covariance.double())
    pivots = root.diagonal()
    resolution = len(covariance) * torch.finfo(covariance.dtype).eps
    if failed or pivots.square().min() <= resolution * covariance.diagonal().max():
        raise SingularCovariance(k, covariance)
    identity = torch.eye(len(root), dtype=torch.float64, device=root.device)
    inverse = torch.linalg.solve_triangular(root, identity, upper=False)
    return inverse.T.to(covariance.dtype), 2 * pivots.log().sum()


def _check_variances(variances: Tensor) -> None:
    """Raise SingularCovariance where one of variances (K, any) is not positive."""
    smallest = variances.amin(1)
    if not (smallest > 0).all():
        k = int(smallest.argmin())
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
