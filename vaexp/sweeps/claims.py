"""Claims on trials: of all processes on hosts that share a disk, one at a time works on a trial.

A lock of the disk would do on one host, but many a disk on the network locks for one host alone, or
not at all. All of them create a file only if it is not there (O_EXCL of open(2)). So a claim is a
file, which says again and again that its process lives, and ends with the process.
"""

import os
import random
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
ATTEMPTS = 5
PAUSE = 0.2  # seconds at most, times the number of attempts before


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

    Claims are numbered, and that of a process which is gone stays until the next one ends. What
    became of the trial before is to be read inside the block, as another process may have finished
    it in between.
    """
    mine = _created(folder)
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
        for path in _claims(folder):
            if path == mine or not _is_held(path):
                with suppress(OSError):
                    path.unlink()


def _created(folder: Path) -> Path:
    """A new claim, beside which no other one is held. Raises Held if there is one that is.

    Each process creates its claim before it looks for others, so that of two that come at the same
    moment one at least sees the other and gives way. If both do, they try again after a while.
    """
    for attempt in range(ATTEMPTS):
        claims = _claims(folder)
        for path in claims:
            if _is_held(path):
                raise Held(_held(path))
        mine = _path(folder, 1 + max(map(_number, claims), default=0))
        try:
            os.close(os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            raise Held(_held(mine)) from None
        others = [path for path in _claims(folder) if path != mine and _is_held(path)]
        if not others:
            return mine
        mine.unlink()
        time.sleep(random.uniform(0, PAUSE) * attempt)
    raise Held(_held(others[0]))


def _path(folder: Path, number: int) -> Path:
    return folder / f".claim-{number}.json"


def _claims(folder: Path) -> list[Path]:
    """The claims in a folder."""
    return [folder / name for name in os.listdir(folder) if _NAME.fullmatch(name)]


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


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
