"""The MNIST in the package: its four original files as .xz (see mnist/DATA_CARD.md)."""

import lzma
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vaexp.data import idx
from vaexp.errors import RunError

FOLDER = Path(__file__).with_name("mnist")

# Each file is NAME.xz, or NAME.part1.xz, NAME.part2.xz and so on, to be decoded and joined.
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# This is the SHA-256 of the four decoded files, one after another.
SHA256 = "b2d8f5bf39174ee5ffeefa97e42d673c35432b411bb5d1f74fbbeddae7f1690a"


def read(folder: Path = FOLDER) -> idx.Source:
    """All 60,000 training and 10,000 test images of MNIST, checked against their SHA-256.

    Raises RunError if a file is missing or its content is not exactly MNIST.
    """
    parts = [sorted(folder.glob(f"{name}*.xz")) for name in NAMES]
    try:
        # lzma releases the GIL, so that threads share the decoding. Each thread needs some 40 MB.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            decoded = [pool.map(_decode, paths) for paths in parts]
            files = [bytearray().join(pieces) for pieces in decoded]
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise RunError(_broken(folder, str(error))) from error
    found = idx.sha256(files)
    if found != SHA256:
        raise RunError(_broken(folder, f"SHA-256 of the decoded files is {found}, not {SHA256}"))
    return idx.Source(idx.split(files[0], files[1]), idx.split(files[2], files[3]), found)


def _decode(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes())


def _broken(folder: Path, reason: str) -> str:
    return (
        f"{folder}: the MNIST files that ship with vaexp are damaged or missing ({reason}). "
        f"Install vaexp again: pip install --force-reinstall --no-deps vaexp"
    )
