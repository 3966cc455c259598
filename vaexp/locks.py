"""Locks between processes, which name their file and their holder, and need no disk with locks."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

# What a network disk answers that cannot lock files
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class Held(Exception):
    """Another process holds the lock. The message names the file, the holder and a way on."""


@contextmanager
def locked(
    path: Path, say: Callable[[str], None], *, patience: float = 0.0, wait: bool = False
) -> Iterator[None]:
    """Lock the file ``path`` for this process inside the block, or until the process ends.

    If another process holds it for more than ``patience`` seconds, this raises Held, or says so and
    waits. A disk without locks is said too, and the block runs all the same: better unguarded than
    not at all.
    """
    lock = FileLock(path, timeout=patience)
    holder = _holder(path)  # read first, as some versions of filelock empty the file
    try:
        try:
            lock.acquire()
        except Timeout:
            held = f"{path} is held by {holder}; if that host is gone, delete the file"
            if not wait:
                raise Held(held) from None
            say(f"waiting for {held}")
            lock.acquire(timeout=-1)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        say(
            f"note: {path}: this disk has no locks ({error.strerror}), so nothing stops a second "
            "process from working here; start none"
        )
        yield
        return
    with suppress(OSError):  # the name of the holder helps, and nothing depends on it
        path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {_now()}")
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    """The process that wrote its name into the file of a lock."""
    text = ""
    with suppress(OSError, ValueError), path.open("rb") as file:
        text = file.read(300).decode("utf-8")
    return text if text.isprintable() and text else "another process"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
