"""Which run an argument means: a path, the latest run, or the beginning of a run's name."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from vaexp.errors import RunError, UserError
from vaexp.paths import expanded
from vaexp.runs.folder import RunFolder, short_name
from vaexp.runs.guarded import INFO
from vaexp.visible import visible

RUNS = Path("runs")
LATEST = "latest"
DEEPEST = 4  # levels of folders that are searched for runs; those of a sweep lie three below


def find_run(run: str | Path, runs_dir: Path = RUNS) -> Path:
    """The path of the run that an argument means.

    That is a folder; or ``latest``, the run that started last in ``runs_dir`` or a folder below;
    or a unique beginning of the name of a run there, with or without its date and time. Where the
    argument has a folder before the last slash, that is the folder of the runs; it may lie in
    ``runs_dir``.

    Raises UserError if there is no such run, or if the beginning is that of several.
    """
    path = expanded(run)
    if os.path.lexists(path):
        return path
    has_folder = len(path.parts) > 1
    if not has_folder or not (".." in path.parts or os.path.isdir(path.parent)):
        path = expanded(runs_dir) / path
        if has_folder and os.path.lexists(path):
            return path
    parent = path.parent
    runs = runs_below(parent) if os.path.isdir(parent) else []
    if path.name == LATEST:
        if not runs:
            raise UserError(f"{visible(str(run))}: {visible(str(parent))} holds no runs")
        return in_order_of_time(runs)[-1].path
    found = [runs[i] for i in matching(path.name, [one.path.name for one in runs])]
    if not found:
        there = f", and no run in {visible(str(parent))} has a name that begins so"
        where = there if os.path.isdir(parent) or not has_folder else ""
        raise UserError(f"{visible(str(run))}: no such run folder{where}")
    if len(found) > 1:
        candidates = "".join(f"\n  {one.path}" for one in found)
        raise UserError(f"{visible(str(run))}: several runs begin so:{candidates}")
    return found[0].path


def find_all(arguments: Sequence[str]) -> list[Path]:
    """The paths of the runs that arguments mean. A folder that holds runs means all of them.

    Of those, the ones that other arguments name are left out. Raises UserError as ``find_run``.
    """
    found = [find_run(argument) for argument in arguments]
    known = {os.path.realpath(path) for path in found}
    paths: list[Path] = []
    for path in found:
        is_run = not os.path.isdir(path) or os.path.lexists(path / INFO)
        below = [] if is_run else [run.path for run in in_order_of_time(runs_below(path))]
        new = [run for run in below if os.path.realpath(run) not in known]
        known |= {os.path.realpath(run) for run in new}
        paths += new if below else [path]
    return paths


def runs_below(folder: Path) -> list[RunFolder]:
    """The runs in a folder and in folders below it, the oldest of each folder first.

    A link to a run is a run. Other links are not followed, and hidden folders, those in a run,
    deeper than DEEPEST levels, or not readable are left out.
    """
    found, level = [], [folder]
    for _ in range(DEEPEST):
        below: list[Path] = []
        for place in level:
            runs, others = _scan(place)
            found += runs
            below += others
        level = below
    return found


def find_runs(folder: Path) -> list[RunFolder]:
    """The runs directly in a folder, the oldest first. A link to a run is a run."""
    return _scan(folder)[0]


def _scan(folder: Path) -> tuple[list[RunFolder], list[Path]]:
    """The runs in a folder, and its other folders that can be read and are no links."""
    with os.scandir(folder) as entries:
        is_folder = {
            entry.name: entry.is_dir(follow_symlinks=False)
            for entry in entries
            if not entry.name.startswith(".")
        }
    runs, others = [], []
    for name in sorted(is_folder):
        path = f"{folder}/{name}"
        if os.path.lexists(f"{path}/{INFO}") and (is_folder[name] or os.path.isdir(path)):
            runs.append(RunFolder(folder / name))
        elif is_folder[name] and os.access(path, os.R_OK | os.X_OK):
            others.append(folder / name)
    return runs, others


def open_run(run: str | Path, runs_dir: Path = RUNS) -> RunFolder:
    """Open the run that an argument means. Raises UserError as ``find_run``, or as ``open``."""
    return RunFolder.open(find_run(run, runs_dir))


def matching(beginning: str, names: Sequence[str]) -> list[int]:
    """The positions of the names of runs that begin so, with or without their date and time."""
    return [
        i
        for i, name in enumerate(names)
        if beginning and (name.startswith(beginning) or short_name(name).startswith(beginning))
    ]


def in_order_of_time(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs in the order in which they started. Those that do not say when come first."""
    return sorted(runs, key=lambda run: (_started(run), run.name))


def _started(run: RunFolder) -> float:
    try:
        return seconds(run.info()["start"])
    except RunError:
        return 0.0


def seconds(start: str | None) -> float:
    """A time of run.json in seconds since 1970, 0 if it is none."""
    try:
        return datetime.fromisoformat(start or "").timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
