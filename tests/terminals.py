"""The command on a terminal, as a person sees it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

from conftest import VAEXP

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(width: int, *arguments: str | Path, cwd: Path | None = None, code: int = 0) -> str:
    """What a command shows on a terminal with this many columns. It ends with this exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {key: one for key, one in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [VAEXP, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1", "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == code, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def without_escapes(text: str) -> str:
    """What a terminal was sent, without colours and movements of the cursor."""
    return _ESCAPE.sub("", text)
