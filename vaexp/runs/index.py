"""What ``vaexp runs`` has read of finished runs, kept in the user's cache to be quick next time.

Reading a run takes about 15 ms, most of it for YAML, so a thousand runs would take 15 s. An entry
counts as long as no file of its run has changed. Without a cache folder there is no index.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaexp import __version__
from vaexp.files import write_text
from vaexp.paths import user_cache
from vaexp.runs.guarded import CONFIG, ENVIRONMENT, FOLDERS, INFO, LOG, METRICS, RECORDS

VERSION = f"{__version__} 3"
"""The second number changes whenever what is kept of a run is read in another way."""
WORTH_WRITING = 10  # runs that were read anew
_PARTS = ("", *FOLDERS, CONFIG, INFO, ENVIRONMENT, METRICS, RECORDS, LOG)


def signature(run: Path) -> str:
    """What changes when a file of a run does: times and sizes of its files and folders."""
    found = []
    for part in _PARTS:
        try:
            status = os.lstat(os.path.join(run, part))
        except OSError:
            found.append("-")
        else:
            found.append(f"{status.st_mtime_ns}/{status.st_ctime_ns}/{status.st_size}")
    return " ".join(found)


def read_index(folder: Path) -> dict[str, list[Any]]:
    """By the path of a run, its signature and what was read of it; nothing if there is no index."""
    path = _place(folder)
    if path is None:
        return {}
    try:
        content = json.loads(path.read_bytes())
        found = content["runs"].items() if content["version"] == VERSION else ()
        return {run: [before, dict(entry)] for run, (before, entry) in found}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: read all anew
        return {}


def write_index(folder: Path, runs: dict[str, list[Any]]) -> None:
    """Write the index of a folder, if there is a cache that takes it."""
    path = _place(folder)
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"version": VERSION, "runs": runs}))


def _place(folder: Path) -> Path | None:
    """The file of the index. The folder is named by its path, as paths may have any length."""
    cache = user_cache()
    if cache is None:
        return None
    name = hashlib.sha256(os.path.realpath(folder).encode(errors="surrogateescape")).hexdigest()
    return cache / "lists" / f"{name[:32]}.json"
