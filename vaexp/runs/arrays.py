"""Reading npz files that a stranger may have made: what they declare is checked first.

An npz file is a zip of npy files. A few kilobytes may unpack to terabytes, an npy header may ask
for an array of any size, and an array of objects holds code.
"""

import lzma
import math
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

MOST_BYTES = 2**28  # of all arrays of a file, unpacked. Those of a run have some 10 MB.
MOST_ARRAYS = 2_000
KINDS = "biufU"  # booleans, integers, floats and text

# What zipfile and numpy raise on files that are damaged
DAMAGE = (
    *(ValueError, EOFError, KeyError, OSError, RuntimeError, NotImplementedError, TypeError),
    *(OverflowError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def read_arrays(file: BinaryIO) -> "dict[str, np.ndarray[Any, Any]]":
    """The arrays of an npz file by name. Raises ValueError if it is damaged or too large."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if len(members) > MOST_ARRAYS or total > MOST_BYTES:
                raise ValueError(f"it unpacks to {total:,} bytes, at most {MOST_BYTES:,} belong")
            return {
                member.filename.removesuffix(".npy"): _read(archive, member) for member in members
            }
    except DAMAGE as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> "np.ndarray[Any, Any]":
    """The array in a member of the archive, after its header has been compared with its size."""
    import numpy as np
    from numpy.lib import format as npy

    with archive.open(member) as file:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in header:
            raise ValueError(f"{member.filename} is of an unknown version")
        shape, fortran, dtype = header[version](file)
        if dtype.kind not in KINDS or dtype.itemsize == 0:
            raise ValueError(f"{member.filename} holds values of type {dtype}")
        size = math.prod(shape) * dtype.itemsize
        if size > member.file_size:
            raise ValueError(
                f"{member.filename} declares {size:,} bytes and has {member.file_size:,}"
            )
        data = file.read(size)
        if len(data) != size or file.read(1):
            raise ValueError(f"{member.filename} does not have the {size:,} bytes that it declares")
    array: np.ndarray[Any, Any] = np.frombuffer(bytearray(data), dtype)
    return array.reshape(shape, order="F" if fortran else "C")
