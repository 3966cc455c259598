"""The process that works on a run: what run.json says of it, and whether it is still there."""

import socket
from datetime import datetime
from typing import Any

import psutil


def now() -> str:
    """The time, with the offset of the local time zone from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def info_of_this_process(**facts: Any) -> dict[str, Any]:
    """The content of run.json while this process trains the run."""
    process = psutil.Process()
    return {
        "status": "running",
        "pid": process.pid,
        "pid_started": _started(process),
        "host": socket.gethostname(),
        **facts,
        "end": None,
        "exit_code": None,
        "error": None,
    }


def alive(pid: int, started: float) -> bool:
    """Whether the process that wrote run.json still exists.

    Its start time distinguishes it from a later process with the same number.
    """
    try:
        process = psutil.Process(pid)
        return abs(_started(process) - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False


def _started(process: psutil.Process) -> float:
    """When a process started, in seconds.

    On Linux they count from the boot, as there the start in calendar time moves when the clock is
    set.
    """
    created = process.create_time()
    return created - psutil.boot_time() if psutil.LINUX else created
