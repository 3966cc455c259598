"""Claims on trials: of all processes on hosts that share a disk, one at a time works on a trial.

A lock of the disk would do on one host, but many a disk on the network locks for one host alone, or
not at all. All of them create a file only if it is not there (O_EXCL of open(2)). So a claim is a
file, which says again and again that its process lives, and ends with the process.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vaexp.files import Folder, write_json
from vaexp.locks import Held
from vaexp.runs.heartbeat import EVERY, FRESH, repeated
from vaexp.runs.process import alive, info_of_this_process

_NAME = re.compile(r"\.claim-(\d{1,9})\.json")
_MOST_BYTES = 10_000


class _Owner(BaseModel):
    """Whose a claim is, and when that process last said so, in seconds since 1970."""

    model_config = ConfigDict(strict=True, extra="forbid")

    at: float
    host: str
    pid: int
    pid_started: float

    def lives(self) -> bool:
        """Whether the process is still there. That of another host counts for FRESH seconds."""
        if self.host == socket.gethostname():
            return alive(self.pid, self.pid_started)
        return abs(time.time() - self.at) < FRESH


@contextmanager
def claim(folder: Path, every: float = EVERY) -> Iterator[None]:
    """Hold the claim on a folder inside the block. Raises Held if another process has it.

    Claims are numbered. That of a process which is gone stays, and whoever creates the next number
    has the claim, which only one process can. What became of the trial before is to be read inside
    the block, as another process may have finished it in between.
    """
    number = max(_claims(folder), default=0)
    if number and _is_held(_path(folder, number)):
        raise Held(_held(_path(folder, number)))
    mine = _path(folder, number + 1)
    try:
        os.close(os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        raise Held(_held(mine)) from None
    this = info_of_this_process()
    owner = {key: this[key] for key in ("host", "pid", "pid_started")}

    def say() -> None:
        with suppress(OSError):  # a claim that is not renewed is one that others may take
            write_json(mine, {"at": time.time(), **owner})

    say()
    try:
        with repeated(say, every):
            yield
    finally:
        for older in sorted(_claims(folder)):
            if older <= number + 1:
                with suppress(OSError):
                    _path(folder, older).unlink()


def _path(folder: Path, number: int) -> Path:
    return folder / f".claim-{number}.json"


def _claims(folder: Path) -> list[int]:
    """The numbers of the claims in a folder."""
    return [int(found[1]) for name in os.listdir(folder) if (found := _NAME.fullmatch(name))]


def _owner(path: Path) -> _Owner | None:
    """Whose a claim is, or None if its file does not say: one that is just created is empty."""
    with suppress(OSError, ValueError, ValidationError):
        return _Owner.model_validate_json(Folder(path.parent).text(path.name, _MOST_BYTES))
    return None


def _is_held(path: Path) -> bool:
    """Whether the process of a claim is still there."""
    owner = _owner(path)
    if owner is not None:
        return owner.lives()
    with suppress(OSError):
        return abs(time.time() - path.stat().st_mtime) < FRESH
    return False


def _held(path: Path) -> str:
    owner = _owner(path)
    who = "another process" if owner is None else f"process {owner.pid} on {owner.host}"
    return (
        f"{path} is held by {who}, which counts as gone when it has not written there for "
        f"{FRESH:.0f} seconds"
    )
