"""Writing whole files: a reader sees the old file or the new one, never a part of it."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


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
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, or nothing if that fails."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, or nothing if that fails.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _umask() -> int:
    """The umask of the process. It can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
