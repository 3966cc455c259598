"""A copy of a finished run into which measures are written, for a run that cannot be written to."""

import shutil
import tempfile
from pathlib import Path

from vaexp.config.output import FIGURE_SUFFIXES
from vaexp.errors import RunError, UserError
from vaexp.files import UMASK
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import (
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    INFO,
    LOG,
    METRICS,
    MOST_EVIDENCE,
    PER_EXAMPLE,
    RECORDS,
    WEIGHTS,
)
from vaexp.runs.process import now

_FILES = (CONFIG, ENVIRONMENT, RECORDS, METRICS, PER_EXAMPLE, EVALUATION, LOG, WEIGHTS)
_MOST_PICTURE = 2**28


def check_measured(run: RunFolder) -> None:
    """Raise RunError if a run has no final metrics, because it has not finished."""
    if not run.metrics():
        raise RunError(
            f"{run.path}: has no final metrics (status {run.status()}); "
            f"vaexp train --resume {run.path} finishes it"
        )


def copy_to_measure(run: RunFolder, folder: Path) -> RunFolder:
    """The copy of a finished run in ``folder``, which is made unless it is there already.

    It has everything but samples, codes and checkpoints/state.pt, so all commands that read a run
    read it, and only training cannot go on. It is filled under a hidden name and then renamed.
    Raises UserError if there is something else in its place, and RunError for an unfinished run.
    """
    check_measured(run)
    if folder.exists():
        _check_same(run, folder)
        return RunFolder.open(folder)
    try:
        filled = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made: {error.strerror}") from None
    try:
        copy = RunFolder(filled)
        pictures = [
            name for suffix in FIGURE_SUFFIXES for name in run.files.names("figures", suffix)
        ]
        for name in (*_FILES, *run.files.names("evidence", ".npz"), *pictures):
            if run.has(name):
                most = {"evidence": MOST_EVIDENCE, "figures": _MOST_PICTURE}
                source = run.files.open(name, most.get(name.partition("/")[0], 0))
                with source as old, copy.files.replacing(name) as new, new.open("wb") as file:
                    shutil.copyfileobj(old, file)
        trimmed = {"trimmed": run.info().get("trimmed") or now()}
        copy.files.write_json(INFO, run.info() | trimmed)
        filled.chmod(0o777 & ~UMASK)
        filled.rename(folder)
    except BaseException:
        shutil.rmtree(filled, ignore_errors=True)
        raise
    return RunFolder.open(folder)


def _check_same(run: RunFolder, folder: Path) -> None:
    """Raise UserError unless a folder holds a copy of the run."""
    try:
        copy = RunFolder.open(folder)
        same = copy.path.resolve() != run.path.resolve() and all(
            copy.info()[key] == run.info()[key] for key in ("host", "pid", "pid_started", "start")
        )
    except (UserError, RunError):
        same = False
    if not same:
        raise UserError(
            f"--out {folder}: is there already and is no copy of {run.path}; name a new folder"
        )
