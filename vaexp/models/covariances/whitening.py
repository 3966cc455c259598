"""Factors of inverse covariances, from which the density of a dense covariance is computed."""

from typing import NamedTuple

import torch
from torch import Tensor

from vaexp.models.covariances.singular import SingularCovariance


class Whitening(NamedTuple):
    """What a density needs of a covariance. For K covariances a dimension K stands in front."""

    upper: Tensor
    """U (D, D) upper triangular, U U^T = Sigma^-1."""
    log_det: Tensor
    """ln det Sigma, () float64."""
    smallest: Tensor
    """The smallest eigenvalue of Sigma, () float64, to a percent or better and from above."""


def whiten(covariances: Tensor, order: Tensor) -> Whitening:
    """The whitening of K covariances (K, D, D) whose pixels are put in ``order`` (D,) first.

    U has the precision of the covariances. Raises SingularCovariance where an eigenvalue is not
    positive, or is no larger than rounding, which moves eigenvalues by about eps times the norm.
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
    """The smallest eigenvalues of the covariances with inverses U U^T, from U (K, D, D): (K,).

    They are float64, right to a percent or better, and from above: each is the Rayleigh-Ritz value
    in the Krylov space of Sigma^-1 that ten multiplications of four vectors span (block Lanczos).
    """
    blocks = [starting_basis(upper, min(4, upper.shape[1]))]
    for _ in range(9):
        blocks.append(torch.linalg.qr(upper @ (upper.mT @ blocks[-1])).Q)
    basis = torch.linalg.qr(torch.cat(blocks, dim=2)).Q
    return 1 / torch.linalg.matrix_norm((upper.mT @ basis).double(), 2).square()


def starting_basis(like: Tensor, count: int) -> Tensor:
    """Orthonormal columns (K, D, count) to start an iteration from, the same in every call.

    ``like`` (K, D, any) gives K, D, the precision and the device.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(like.shape[1], count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise).Q.to(like).expand(len(like), -1, -1)
