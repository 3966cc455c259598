"""The IDX files of MNIST and similar data: a big-endian header, then one byte per value."""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaexp.config.data import CLASSES, IMAGE_SHAPE, PIXELS


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, in the order of the source.

    `pixels`, (N, D) uint8, are grey values 0 to 255, the rows of an image one after another.
    `label`, (N,) int64, are the digits 0 to 9. `at`, (N,) int64, is where each image stands in its
    part of the source, training or test, counted from 0.
    """

    pixels: Tensor
    label: Tensor
    at: Tensor

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, eq=False)
class Source:
    """A whole data set: its two parts, and the SHA-256 of its files."""

    train: Split
    test: Split
    sha256: str
    doubt: str | None = None
    """Why it may not be the data set that was published; None if its hashes say that it is."""
    shape: tuple[int, int] = IMAGE_SHAPE
    """The height and the width of an image, whose product is D."""
    labelled: bool = True
    """Whether the images have labels. All labels of images without any are 0."""
    mapped: bool = False
    """Whether the pixels lie in files that are read by memory map, and may not fit into memory."""


def sha256(files: Sequence[bytearray]) -> str:
    """The SHA-256 of files one after another, in hex, as `cat FILES | sha256sum` prints it."""
    digest = hashlib.sha256()
    for data in files:
        digest.update(data)
    return digest.hexdigest()


HEADER = 16  # bytes of the longest header, that of images


def header(data: bytes | bytearray) -> tuple[tuple[int, ...], int]:
    """The shape that the first HEADER bytes of an IDX file name, and where its values begin.

    Raises ValueError if it is no IDX file of bytes with one to three dimensions.
    """
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or len(data) < 4 + 4 * data[3] or data[3] > 3:
        raise ValueError("it is not an IDX file of unsigned bytes")
    return struct.unpack_from(f">{data[3]}I", data, 4), 4 + 4 * data[3]


def check_length(held: int, said: int) -> None:
    """Raise ValueError if a file does not hold as many bytes as its header says."""
    if held != said:
        raise ValueError(f"it holds {held:,} bytes where its header says {said:,}")


def parse(data: bytearray) -> Tensor:
    """The uint8 tensor that an IDX file holds, which shares the memory of `data`.

    Raises ValueError if the file is no IDX file or is cut short.
    """
    shape, start = header(data)
    check_length(len(data) - start, math.prod(shape))
    return torch.frombuffer(data, dtype=torch.uint8, offset=start).view(shape)


def split(images: bytearray, labels: bytearray, *, transposed: bool = False) -> Split:
    """The split that two IDX files hold: images (N, 28, 28) and labels (N,).

    With `transposed` the file stores columns where others store rows, as EMNIST does. Raises
    ValueError if they are not such files or do not belong together.
    """
    pixels, label = parse(images), parse(labels)
    if pixels.shape[1:] != IMAGE_SHAPE or label.shape != pixels.shape[:1]:
        raise ValueError(
            f"images of shape {tuple(pixels.shape)} with labels of shape {tuple(label.shape)}, "
            f"where (N, 28, 28) and (N,) belong"
        )
    if (label >= CLASSES).any():
        raise ValueError(f"a label is {int(label.max())}, where 0 to {CLASSES - 1} belong")
    if transposed:
        pixels = pixels.transpose(1, 2)
    return Split(pixels.reshape(-1, PIXELS), label.long(), torch.arange(len(label)))
