"""A small data set of a user's own: blobs of light on images of 12 x 10, with their labels."""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

HEIGHT, WIDTH = 12, 10
TRAINING, TEST = 200, 120
CLASSES = 3


class Part(NamedTuple):
    """The images (N, H, W) uint8 and the labels (N,) of a part."""

    images: Array
    labels: Array


def part(count: int, seed: int) -> Part:
    """Images with a blob whose row says the label, at any column and of any brightness."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    rows = np.arange(HEIGHT)[:, None] - (2 + 4 * labels)[:, None, None]
    columns = np.arange(WIDTH) - generator.uniform(2, WIDTH - 2, count)[:, None, None]
    bright = generator.uniform(120, 255, count)[:, None, None]
    noise = generator.uniform(0, 20, (count, HEIGHT, WIDTH))
    images = bright * np.exp(-(rows**2 + columns**2) / 6) + noise
    return Part(np.clip(images, 0, 255).astype(np.uint8), labels)


def idx_bytes(values: Array) -> bytes:
    """An IDX file of bytes."""
    return (
        struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        + values.astype(np.uint8).tobytes()
    )


NPY = ("train-images.npy", "train-labels.npy", "test-images.npy", "test-labels.npy")
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def write_own(folder: Path, *, labelled: bool = True, idx: bool = False) -> tuple[Part, Part]:
    """Write the data set into a folder that is made. Returns its training and its test part."""
    folder.mkdir(parents=True)
    parts = part(TRAINING, 0), part(TEST, 1)
    arrays = [array for one in parts for array in one]
    for name, array in zip(IDX if idx else NPY, arrays, strict=True):
        if "labels" in name and not labelled:
            continue
        if idx:
            (folder / name).write_bytes(idx_bytes(array))
        else:
            np.save(folder / name, array)
    return parts
