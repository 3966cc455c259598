"""Opening the files of a data set, which may be links but no pipes or devices."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def regular_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file to read its bytes, and say how many it has.

    Raises ValueError if it is no file.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is no file")
        yield file, status.st_size


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe does not make this wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
