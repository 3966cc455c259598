"""Numbers as text in a page. ``unpack.js`` reads them back."""

import base64
import zlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

SMALL = 2**16  # numbers. A tensor with fewer stays float32, as it adds little to the page.

Place = dict[str, int]
"""Where the numbers of a tensor are: the byte they start ``at``, their ``length`` and ``bytes``."""


class Put(Protocol):
    """Takes a tensor, and returns what stands for it in the description of a model."""

    def __call__(self, tensor: Tensor, *, exact: bool = False) -> Place:
        """With ``exact`` its numbers stay float32, however many they are."""


@dataclass
class Packing:
    """Tensors one after another. Large ones are rounded to float16, and images are bytes."""

    data: bytearray = field(default_factory=bytearray)

    def put(self, tensor: Tensor, *, exact: bool = False) -> Place:
        """Add a tensor of any shape, whose numbers are stored in row-major order.

        With ``exact`` its numbers stay float32, however many they are.
        """
        if tensor.dtype == torch.uint8:
            numbers = tensor.numpy()
        else:
            numbers = tensor.detach().float().numpy()
            if (
                not exact
                and numbers.size >= SMALL
                and np.abs(numbers).max() < np.finfo(np.float16).max
            ):
                numbers = numbers.astype("<f2")
        place = {"at": len(self.data), "length": numbers.size, "bytes": numbers.itemsize}
        planes = np.frombuffer(numbers.tobytes(), np.uint8).reshape(-1, numbers.itemsize).T
        self.data += planes.tobytes()
        return place

    def text(self) -> str:
        """Everything that was put, deflated, in base64."""
        return base64.b64encode(zlib.compress(bytes(self.data), 9)).decode("ascii")
