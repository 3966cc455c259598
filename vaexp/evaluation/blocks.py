"""Going through images in blocks, so that memory holds the intermediate results of one block."""

from collections.abc import Iterator

from torch import Tensor

IMAGES_PER_BLOCK = 500  # encoded or decoded at once


def blocks(*tensors: Tensor, rows: int = IMAGES_PER_BLOCK) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of N rows each, as tuples of their next ``rows`` rows; the last ones may be shorter.

    Tensors of no rows give one tuple of empty tensors. Raises ValueError, once the shorter tensor
    is used up, where one has more blocks than another.
    """
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
