"""What ``vaexp runs`` has read of finished runs, kept in the user's cache to be quick next time.

Reading a run takes about 15 ms, most of it for YAML, so a thousand runs would take 15 s. An entry
counts as long as no file of its run has changed. Without a cache folder there is no index.

There are two files. The list alone needs little of each run, and ten thousand runs have 60 MB of
metrics, so what only other columns, conditions and formats need has a file of its own.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

from vaexp import __version__
from vaexp.files import write_text
from vaexp.paths import user_cache
from vaexp.runs.guarded import CONFIG, ENVIRONMENT, FOLDERS, INFO, LOG, METRICS, RECORDS

VERSION = f"{__version__} 5"
"""The second number changes whenever what is kept of a run is read in another way."""
WORTH_WRITING = 10  # runs that were read anew
Extent = Literal["headlines", "everything"]
"""What is kept of each run: of its metrics only the headlines, or all."""
EXTENTS: tuple[Extent, ...] = get_args(Extent)
_PARTS = ("", *FOLDERS, CONFIG, INFO, ENVIRONMENT, METRICS, RECORDS, LOG)


def signature(run: str) -> str:
    """What changes when a file of a run does: a hash of times and sizes of its files and folders.

    ``run`` is the path of its folder.
    """
    found = []
    for part in _PARTS:
        try:
            status = os.lstat(f"{run}/{part}")
        except OSError:
            found.append("-")
        else:
            found.append(f"{status.st_mtime_ns}/{status.st_ctime_ns}/{status.st_size}")
    return hashlib.blake2b(" ".join(found).encode(), digest_size=16).hexdigest()


def read_index(folder: Path, extent: Extent) -> dict[str, list[Any]]:
    """By the path of a run, its signature and what was read of it; nothing if there is no index."""
    path = _place(folder, extent)
    if path is None:
        return {}
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != VERSION:
            return {}
        keys, found = content["keys"], content["runs"]
        for _, entry in found.values():
            of_settings, *values = entry["settings"]
            entry["settings"] = dict(zip(keys[of_settings], values, strict=True))
            entry["described"] = keys[entry["described"]]
    # what is damaged is read anew
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return dict(found)


def write_index(folder: Path, extent: Extent, runs: Mapping[str, list[Any]]) -> None:
    """Write the index of a folder, if there is a cache that takes it.

    Many runs have settings of the same names, which are written once.
    """
    path = _place(folder, extent)
    if path is None:
        return
    numbers: dict[tuple[str, ...], int] = {}
    packed = {}
    for run, (before, entry) in runs.items():
        keys = numbers.setdefault(tuple(entry["settings"]), len(numbers))
        described = numbers.setdefault(tuple(entry["described"]), len(numbers))
        settings = [keys, *entry["settings"].values()]
        packed[run] = [before, entry | {"settings": settings, "described": described}]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"version": VERSION, "keys": list(numbers), "runs": packed}))


def _place(folder: Path, extent: Extent) -> Path | None:
    """A file of the index. The folder is named by its path, as paths may have any length."""
    cache = user_cache()
    if cache is None:
        return None
    name = hashlib.sha256(os.path.realpath(folder).encode(errors="surrogateescape")).hexdigest()
    return cache / "lists" / f"{name[:32]}-{extent}.json"
