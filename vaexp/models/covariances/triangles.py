"""Symmetric products of matrices, computed from one triangle with little over half the work."""

from itertools import pairwise

from torch import Tensor

LEAST = 32  # columns of a block


def blocks_of_columns(count: int) -> list[tuple[int, int]]:
    """The first and the last column, exclusive, of eight blocks of columns, or of fewer large ones.

    A block has LEAST columns or more, as calls on a few columns cost more than they save.
    """
    blocks = min(8, max(1, count // LEAST))
    return list(pairwise(round(count * i / blocks) for i in range(blocks + 1)))


def add_symmetric_product(total: Tensor, x: Tensor) -> None:
    """Add x^T x, of x (n, D), to the blocks of total (D, D) on and above its diagonal."""
    for low, high in blocks_of_columns(x.shape[1]):
        total[:high, low:high] += x[:, :high].T @ x[:, low:high]


def mirror_upper(matrix: Tensor) -> None:
    """Make a matrix (D, D) symmetric by copying its upper triangle to the lower one."""
    matrix.copy_(matrix.triu() + matrix.triu(1).T)
