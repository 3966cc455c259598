"""The one way to read and write files: whole files or none, and in a folder nothing but its own.

A run folder may come from a stranger. Of a ``Folder`` only regular files are opened, up to a size
that the caller names, and no link inside it is followed, neither that of a file nor of a folder.
"""

import errno
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

DEEPEST = 32  # levels of lists and objects in a JSON file; those of a run have five

# Opened like this, a pipe does not block and a link is refused. Windows has neither flag.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

UMASK = os.umask(0o022)
"""The umask of the process. It can only be read by setting it, which is done once, here, as other
threads may write files later."""
os.umask(UMASK)


class Refused(OSError):
    """A part of a folder is no plain file or folder, or it is too large: ``strerror`` says."""

    def __init__(self, path: Path, reason: str):
        super().__init__(errno.EPERM, reason, str(path))


@dataclass(frozen=True)
class Folder:
    """A folder whose content others may have made. Names of its parts have "/" between levels."""

    path: Path

    def has(self, name: str) -> bool:
        """Whether there is something with this name. Raises Refused if it lies behind a link."""
        return self._status(name) is not None

    def check(self, name: str, *, folder: bool = False) -> None:
        """Raise Refused if a part is there and is not a regular file, or not a ``folder``."""
        status = self._status(name)
        if status is not None and not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
            raise Refused(self.path / name, _is_a(status, "folder" if folder else "file"))

    def check_single(self, name: str) -> None:
        """Raise Refused as ``check``, and if a file has a second name, which may lie elsewhere."""
        self.check(name)
        status = self._status(name)
        if status is not None and status.st_nlink > 1:
            raise Refused(
                self.path / name, "has a second name (a hard link); copy the run folder first"
            )

    @contextmanager
    def open(self, name: str, most: int) -> Iterator[BinaryIO]:
        """Open a file to read its bytes, which are at most ``most``.

        Raises Refused for anything else than a regular file, and FileNotFoundError if there is
        nothing.
        """
        self.check(name)
        path = self.path / name
        descriptor = os.open(path, os.O_RDONLY | _SAFELY)
        with os.fdopen(descriptor, "rb") as file:
            size = _regular(descriptor, path).st_size
            if size > most:
                raise Refused(path, f"has {size:,} bytes, where at most {most:,} belong")
            yield file

    def text(self, name: str, most: int) -> str:
        """Read a text file of at most ``most`` bytes. Raises ValueError if it is not UTF-8."""
        with self.open(name, most) as file:
            return file.read(most + 1).decode("utf-8")

    def names(self, folder: str, suffix: str) -> list[str]:
        """The names of the regular files in a folder below that end with ``suffix``, in order.

        Files whose names begin with "." are left out, as they are half written.
        """
        self.check(folder, folder=True)
        try:
            entries = sorted(os.listdir(self.path / folder))
        except FileNotFoundError:
            return []
        names = [f"{folder}/{entry}" for entry in entries if not entry.startswith(".")]
        return [name for name in names if name.endswith(suffix) and self._is_regular(name)]

    @contextmanager
    def append(self, name: str) -> Iterator[TextIO]:
        """Open a text file to write at its end. Raises Refused as ``check_single``."""
        self.check_single(name)
        path = self.path / name
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFELY
        descriptor = os.open(path, flags, 0o666)
        file = os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")
        try:
            _regular(descriptor, path)
            yield file
        finally:
            with suppress(OSError):  # what a full disk did not take is still in its buffer
                file.close()

    def place(self, name: str) -> Path:
        """The path of a file that is to be replaced, in a folder that is made if it is missing.

        Raises Refused if that folder, or the file in it, is a link or no folder and no file.
        """
        parent, _, _ = name.rpartition("/")
        if parent:
            with suppress(FileExistsError):  # another process may make it at the same time
                os.mkdir(self.path / parent)
        self.check(parent or ".", folder=True)
        self.check(name)
        return self.path / name

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Give a temporary file that replaces a part, as ``replacing`` does."""
        with replacing(self.place(name)) as temporary:
            yield temporary

    def remove(self, name: str) -> None:
        """Remove a file, or a link itself, if it is there."""
        if self.has(name):
            (self.path / name).unlink()

    def _is_regular(self, name: str) -> bool:
        status = self._status(name)
        return status is not None and stat.S_ISREG(status.st_mode)

    def _status(self, name: str) -> os.stat_result | None:
        """What stands under a name, or None. Raises Refused if a level above it is no folder."""
        levels = name.split("/")
        path = self.path
        for i, level in enumerate(levels):
            path = path / level
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                return None
            if i < len(levels) - 1 and not stat.S_ISDIR(status.st_mode):
                raise Refused(path, _is_a(status, "folder"))
        return status


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write. It replaces ``path`` if the block ends without an error."""
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}-", suffix=f".tmp{path.suffix}"
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~UMASK)
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, or nothing if that fails."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """A value as the text of a JSON file.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, or nothing if that fails. Raises ValueError as ``json_text`` does."""
    write_text(path, json_text(value))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text that a stranger may have written.

    Raises ValueError if it is no JSON, holds NaN, infinity or an integer of more than 64 bits, or
    nests deeper than DEEPEST levels.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_short)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [below for one in level for below in _children(one)]
        if not level:
            return value
    raise ValueError("it nests too deeply")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value


def _short(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise ValueError(f"{digits[:20]}... is too large")
    return int(digits)


def _regular(descriptor: int, path: Path) -> os.stat_result:
    """The status of an open file. Raises Refused unless it is a regular one."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Refused(path, _is_a(status, "file"))
    return status


def _is_a(status: os.stat_result, wanted: str) -> str:
    """What something is, and what belongs in its place."""
    kinds = [
        (stat.S_ISLNK, "a link, which is not followed"),
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ]
    kind = next((name for is_so, name in kinds if is_so(status.st_mode)), "a device")
    return f"is {kind}; a {wanted} belongs there"
