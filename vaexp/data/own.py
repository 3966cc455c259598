"""Images of the user's own: a folder of .npy or IDX files, whose pixels stay on disk.

The pixels are read by memory map, so there may be more of them than fit into memory. The folder has
the images of two parts, training and test, and the labels of both or of neither:

    train-images.npy, test-images.npy   uint8, (N, H, W), grey values 0 to 255; or the IDX files
                                        train-images-idx3-ubyte and t10k-images-idx3-ubyte
    train-labels.npy, test-labels.npy   integers 0 to 9, (N,); or the IDX files
                                        train-labels-idx1-ubyte and t10k-labels-idx1-ubyte

The files are regular files or links to such. They must not become shorter while a command reads
them, which would end the process, as with every memory map.
"""

import hashlib
import math
import mmap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from vaexp.config.data import CLASSES, LONGEST_SIDE
from vaexp.data import idx
from vaexp.data.opening import regular_file
from vaexp.errors import UserError
from vaexp.visible import visible

PARTS = {"training": ("train", "train"), "test": ("test", "t10k")}
"""What the names of .npy and of IDX files begin with."""
BLOCK = 2**20  # bytes that are hashed at once
NPY = ".npy"
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Header:
    """What the header of a file says, which its length agrees with."""

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    start: int
    """The number of bytes before the values."""


def read(root: str) -> idx.Source:
    """The images and labels in the folder ``root``, whose pixels are read when they are used.

    Raises UserError if a file is missing or does not hold what it must.
    """
    folder = Path(root)
    digest = hashlib.sha256()
    labelled = _has_labels(folder)
    parts, shapes = {}, {}
    for part in PARTS:
        pixels, shapes[part] = _images(folder, part, digest)
        count = len(pixels)
        label = torch.zeros(count, dtype=torch.int64)
        if labelled:
            label = _labels(folder, part, count, digest)
        parts[part] = idx.Split(pixels, label, torch.arange(count))
    shape = shapes["training"]
    if shapes["test"] != shape:
        raise UserError(
            f"{visible(root)}: the training images have {_size(shape)} pixels and the test images "
            f"{_size(shapes['test'])}; all images must have the same size"
        )
    return idx.Source(
        parts["training"],
        parts["test"],
        digest.hexdigest(),
        shape=shape,
        labelled=labelled,
        mapped=True,
    )


def size(root: str) -> tuple[int, int]:
    """The number of training images and of the pixels of each, from the header of their file.

    Raises UserError if there is no such file or its header is none.
    """
    path = _required(Path(root), "training", "images")
    with _opened(path) as (_, header):
        count, height, width = _image_shape(header)
    return count, height * width


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _names(part: str, what: str) -> tuple[str, str]:
    """The names of the two files that may hold the images or the labels of a part."""
    npy, idx_ = PARTS[part]
    return f"{npy}-{what}{NPY}", f"{idx_}-{what}-idx{3 if what == 'images' else 1}-ubyte"


def _found(folder: Path, part: str, what: str) -> Path | None:
    """The file that holds the images or the labels of a part, or None without one."""
    paths = [path for name in _names(part, what) if (path := folder / name).exists()]
    if len(paths) > 1:
        both = " and ".join(path.name for path in paths)
        raise UserError(f"{visible(str(folder))}: holds both {both}; remove one of them")
    return paths[0] if paths else None


def _required(folder: Path, part: str, what: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"data.root: {visible(str(folder))} is no folder")
    path = _found(folder, part, what)
    if path is None:
        npy, idx_ = _names(part, what)
        packed = (folder / f"{idx_}.gz").exists()
        raise UserError(
            f"data.root: {visible(str(folder))} has no {part} {what}: neither {npy} nor {idx_}"
            + (f"; unpack {idx_}.gz" if packed else "")
        )
    return path


def _has_labels(folder: Path) -> bool:
    """Whether both parts have labels. Raises UserError if one has and the other has not."""
    with_labels = [part for part in PARTS if _found(folder, part, "labels") is not None]
    if len(with_labels) == 1:
        (other,) = set(PARTS) - set(with_labels)
        _required(folder, other, "labels")
    return bool(with_labels)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Header]]:
    """Open a file and read its header. Raises UserError, also for what the block raises."""
    try:
        with regular_file(path) as (file, length):
            header = _header(file, path.suffix == NPY)
            idx.check_length(length - header.start, math.prod(header.shape) * header.dtype.itemsize)
            yield file, header
    except ValueError as error:
        raise UserError(f"{visible(str(path))}: {visible(str(error))}") from None
    except OSError as error:
        raise UserError(f"{visible(str(path))}: cannot be read: {error.strerror}") from None


def _header(file: BinaryIO, npy: bool) -> Header:
    if not npy:
        shape, start = idx.header(file.read(idx.HEADER))
        return Header(shape, np.dtype(np.uint8), start)
    try:
        reader = _NPY_HEADERS[np.lib.format.read_magic(file)]
        shape, columns_first, dtype = reader(file)
    except Exception as error:  # whatever NumPy's parser makes of a text that a stranger wrote
        raise ValueError(f"it is not a .npy file that can be read ({error})") from None
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, which are not loaded; save numbers")
    if columns_first and len(shape) > 1:
        raise ValueError(
            "it stores columns where others store rows; save numpy.ascontiguousarray of it"
        )
    return Header(shape, dtype, file.tell())


def _image_shape(header: Header) -> tuple[int, int, int]:
    """N, H and W. Raises ValueError if the file does not hold images."""
    if header.dtype != np.uint8:
        raise ValueError(
            f"it holds {header.dtype} numbers, where grey values 0 to 255 as uint8 belong"
        )
    if len(header.shape) != 3:
        raise ValueError(f"it has the shape {header.shape}, where (N, height, width) belongs")
    if min(header.shape) < 1 or max(header.shape[1:]) > LONGEST_SIDE:
        raise ValueError(
            f"it has the shape {header.shape}; there must be an image, with sides of 1 to "
            f"{LONGEST_SIDE:,} pixels"
        )
    count, height, width = header.shape
    return count, height, width


def _images(folder: Path, part: str, digest: Any) -> tuple[Tensor, tuple[int, int]]:
    """The pixels (N, D) of a part, mapped, and the shape of an image. The digest is updated."""
    with _opened(_required(folder, part, "images")) as (file, header):
        count, height, width = _image_shape(header)
        _hash(file, digest)
        # The tensor keeps the map, and the map the file. Nothing writes to pixels.
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            flat = torch.frombuffer(memory, dtype=torch.uint8, offset=header.start)
    return flat.view(count, height * width), (height, width)


def _labels(folder: Path, part: str, count: int, digest: Any) -> Tensor:
    """The labels (N,) int64 of a part. The digest is updated."""
    with _opened(_required(folder, part, "labels")) as (file, header):
        if header.dtype.kind not in "iu":
            raise ValueError(f"it holds {header.dtype} numbers, where the integers 0 to 9 belong")
        if header.shape != (count,):
            raise ValueError(
                f"it has the shape {header.shape}, where ({count},) belongs: a label for each of "
                f"the {count:,} {part} images"
            )
        _hash(file, digest)
        file.seek(header.start)
        values = np.frombuffer(file.read(count * header.dtype.itemsize), header.dtype)
        wrong = values[(values < 0) | (values >= CLASSES)]
        if len(wrong):
            raise ValueError(
                f"a label is {wrong[0]}, where 0 to {CLASSES - 1} belong; without the files of "
                "labels the images are used without any"
            )
        return torch.from_numpy(values.astype(np.int64))


def _hash(file: BinaryIO, digest: Any) -> None:
    """Update a digest with the whole file, in blocks."""
    file.seek(0)
    while block := file.read(BLOCK):
        digest.update(block)
