"""Iterating over images in blocks: memory then holds the intermediate results of one block."""

from collections.abc import Iterator

from torch import Tensor

IMAGES_PER_BLOCK = 500  # the images that are encoded or decoded at once


def blocks(*tensors: Tensor, rows: int | None = None) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors of N rows each into blocks of ``rows`` rows, by default IMAGES_PER_BLOCK.

    Every item is a tuple with the same rows of every tensor. The last block may be shorter. Tensors
    without rows give one tuple of empty tensors. Raises ValueError at the end of the shorter tensor
    if the tensors have different numbers of blocks.
    """
    size = IMAGES_PER_BLOCK if rows is None else rows
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)
