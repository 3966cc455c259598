"""Making runs smaller, and removing them. This module imports no torch."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from vaexp.errors import RunError, UserError
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import INFO, STATE
from vaexp.runs.listing import size_on_disk
from vaexp.runs.process import now
from vaexp.visible import visible


def trim(run: RunFolder, say: Callable[[str], None]) -> int:
    """Remove what only a continuation of a finished run needs; returns the bytes that this freed.

    Raises UserError if the run has not finished, as it may yet go on, or if a process works on it.
    """
    status = run.status()
    if status != "finished":
        raise UserError(
            f"{run.path}: its status is {status}; only a finished run is trimmed, as others need "
            "checkpoints/state.pt to go on"
        )
    if not run.has(STATE):
        return 0
    with run.locked(say):
        before = size_on_disk(run.path)
        run.files.write_json(INFO, run.info() | {"trimmed": now()})
        run.files.remove(STATE)
        return before - size_on_disk(run.path)


def check_removable(path: Path, runs_dir: Path) -> None:
    """Raise UserError unless this is a run folder in ``runs_dir`` that nobody works on.

    It may lie in a folder below, but no link may lead to it.
    """
    shown, real = visible(str(path)), Path(os.path.realpath(path))
    if os.path.islink(path):
        raise UserError(f"{shown}: is a link; remove it with rm, its target stays")
    if not os.path.isdir(real) or not os.path.lexists(real / INFO):
        raise UserError(f"{shown}: not a run folder, so it is not removed")
    folder = os.path.realpath(runs_dir)
    between = _folders_between(path, folder)
    if between is None:
        raise UserError(
            f"{shown}: not in the folder {visible(str(runs_dir))}; --runs-dir "
            f"{visible(str(real.parent))} says that it may go"
        )
    for each in between:
        if os.path.islink(each):
            raise UserError(f"{shown}: {visible(str(each))} is a link, which rm does not follow")
    try:
        status = RunFolder(path).status()
    except RunError:  # a damaged run may go
        return
    if status == "running":
        raise UserError(f"{shown}: is still running, so it is not removed")


def _folders_between(path: Path, folder: str) -> list[Path] | None:
    """The folders that lead from a folder to a path in it; None if the path is not in it."""
    real = os.path.realpath(path)
    if os.path.commonpath([real, folder]) != folder or real == folder:
        return None
    found: list[Path] = []
    for each in (Path.cwd() / path).parents:
        if os.path.realpath(each) == folder:
            break
        found.append(each)
    return found


def remove(path: Path, runs_dir: Path, say: Callable[[str], None]) -> int:
    """Remove a run folder; returns the bytes that this freed. Raises as ``check_removable``.

    It is renamed first, so that a kill leaves no half of a run in the list.
    """
    check_removable(path, runs_dir)
    size, gone = size_on_disk(path), path.parent / f".removed-{secrets.token_hex(4)}"
    try:
        with RunFolder(path).locked(say):
            path.rename(gone)
    except RunError:  # it is too damaged to have a lock
        path.rename(gone)
    shutil.rmtree(gone)
    return size
