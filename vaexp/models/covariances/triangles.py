"""Symmetric products of matrices, computed from one triangle with little over half the work."""

from itertools import pairwise

from torch import Tensor


def blocks_of_columns(count: int) -> list[tuple[int, int]]:
    """The first and the last column, exclusive, of eight blocks of columns."""
    edges = [round(count * i / 8) for i in range(9)]
    return list(pairwise(edges))


def add_symmetric_product(total: Tensor, x: Tensor) -> None:
    """Add x^T x, of x (n, D), to the blocks of total (D, D) on and above its diagonal."""
    for low, high in blocks_of_columns(x.shape[1]):
        total[:high, low:high] += x[:, :high].T @ x[:, low:high]


def mirror_upper(matrix: Tensor) -> None:
    """Make a matrix (D, D) symmetric by copying its upper triangle to the lower one."""
    matrix.copy_(matrix.triu() + matrix.triu(1).T)
