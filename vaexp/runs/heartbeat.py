"""A file that says, again and again, that a process still works on a run.

Another host cannot see the process. It sees the heartbeat on a disk that both share, where their
clocks have to agree to half a minute. The time stands in the file, as that of the file itself
changes when a run folder is copied.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vaexp.errors import RunError
from vaexp.runs import parts
from vaexp.runs.guarded import HEARTBEAT, INFO, RunFiles

EVERY = 10.0  # seconds
FRESH = 60.0  # seconds that a heartbeat counts; a disk on the network may show it late
_OWNER = ("host", "pid", "pid_started")


@contextmanager
def beating(files: RunFiles, info: dict[str, Any], every: float = EVERY) -> Iterator[None]:
    """Write a heartbeat at once and every so many seconds inside the block; then remove it.

    ``info`` is run.json of this process. Whatever stops a heartbeat from being written does not
    stop the work.
    """
    owner = {key: info[key] for key in _OWNER}

    def beat() -> None:
        with suppress(OSError, RunError):
            files.write_json(HEARTBEAT, {"at": time.time(), **owner})

    beat()
    try:
        with repeated(beat, every):
            yield
    finally:
        with suppress(OSError, RunError):
            files.remove(HEARTBEAT)


@contextmanager
def repeated(beat: Callable[[], None], every: float) -> Iterator[None]:
    """Call ``beat`` every so many seconds inside the block, in a thread of its own."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every):
            beat()

    thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(every)


def status_elsewhere(files: RunFiles, info: dict[str, Any]) -> parts.Status:
    """Whether a run that says of itself that it is running, on another host, still does so.

    It is unknown of a run of a version that wrote no heartbeat. A run that has ended since has its
    last status. Raises RunError if the file is damaged.
    """
    try:
        heartbeat = files.json(HEARTBEAT, parts.HEARTBEAT)
    except RunError:
        if files.has(HEARTBEAT):
            raise
        status: parts.Status = files.json(INFO, parts.INFO)["status"]
        return "unknown" if status == "running" else status
    is_own = all(heartbeat[key] == info[key] for key in _OWNER)
    return "running" if is_own and abs(time.time() - heartbeat["at"]) < FRESH else "dead"
