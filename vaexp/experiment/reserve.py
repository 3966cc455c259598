"""Room on the disk that is kept free, so that a run whose disk is full can still say so."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RESERVE = 128 * 1024  # bytes: run.json, the traceback in train.log, and blocks of the file system


class Reserve:
    """A file that takes room until something more important needs it.

    On a disk that is full already it is missing or too small.
    """

    def __init__(self, path: Path):
        self.path = path
        self.spend()
        with suppress(OSError), path.open("xb") as file:  # x never writes through a link
            file.write(b"\xaa" * RESERVE)  # no zeros, which some file systems do not store

    def spend(self) -> None:
        """Make the room free."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextmanager
def reserved(run: Path) -> Iterator[Reserve]:
    """Keep room free on the disk of a run folder inside the block."""
    reserve = Reserve(run / "checkpoints" / ".reserve.tmp")
    try:
        yield reserve
    finally:
        reserve.spend()
