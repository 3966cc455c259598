"""Reading the list of the runs in a folder. This module imports no torch."""

import os
import stat
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vaexp.config import flatten
from vaexp.errors import RunError, UserError, in_a_line
from vaexp.runs.find import runs_below, seconds
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import FOLDERS
from vaexp.runs.index import (
    EXTENTS,
    WORTH_WRITING,
    Extent,
    read_index,
    signature,
    write_index,
)
from vaexp.visible import visible

HEADLINE = ("log_prob", "elbo", "iw_bound", "rmse_mean")
ENDED = ("finished", "failed", "interrupted")
_FACTS = (
    *("value", "se", "mc_se", "median", "n", "first_images", "unit", "kind", "measure", "of", "k"),
    *("sigma", "sigma_floor", "covariance_floor", "unbounded", "effective_samples"),
    *("share_below_10_effective_samples", "group"),
)
"""What the list keeps of an entry of metrics.json."""


@dataclass(frozen=True)
class Listed:
    """A run in the list. If it cannot be read, its status is damaged and ``error`` says why."""

    run: str
    """The path of its folder."""
    status: str
    started: str | None = None
    steps: int = 0
    """The number of finished epochs, or of EM iterations of all restarts."""
    size: int = 0
    """The bytes of its files."""
    model: str = ""
    settings: dict[str, Any] | None = None
    splits: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """By split, the entries of metrics.json, in short."""
    error: str | None = None
    described: list[str] = field(default_factory=list)
    """The settings, by their dotted keys, that ``model`` and the name of the run say."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return Path(self.run).name

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The entries of the test split."""
        return self.splits.get("test", {})

    def as_json(self) -> dict[str, Any]:
        """What ``vaexp runs --json`` prints of it."""
        content = asdict(self)
        del content["described"], content["splits"]
        return {"run": self.run, "name": self.name} | content | {"metrics": self.metrics}


_KEPT = {one.name for one in fields(Listed)} - {"run"}


def list_runs(folder: Path, extent: Extent = "everything") -> list[Listed]:
    """All runs in ``folder`` and in folders below it, the oldest first.

    ``extent`` says whether the runs have all metrics or those of ``HEADLINE`` on test images alone,
    which is quicker. What was read of runs that have ended is kept in the user's cache.
    """
    known, listed, new = read_index(folder, extent), [], {}
    kept: set[str] = set()
    for run in runs_below(folder):
        path = str(run.path)
        name, now = path.removeprefix(f"{folder}/"), signature(path)
        before, entry = known.get(name, ("", {}))
        if before == now and entry.keys() == _KEPT:
            listed.append(Listed(run=path, **entry))
            kept.add(name)
            continue
        one = read_run(run)
        if one.status in ENDED:
            new[name] = (now, one)
        listed.append(one if extent == "everything" else _with_headlines(one))
    if len(new) >= WORTH_WRITING:
        _keep(folder, kept, new)
    return sorted(listed, key=lambda one: (seconds(one.started), one.run))


def _keep(folder: Path, kept: set[str], new: dict[str, tuple[str, Listed]]) -> None:
    """Write both files of the index: what they have of runs that are ``kept``, and new runs."""
    for extent in EXTENTS:
        runs = {name: one for name, one in read_index(folder, extent).items() if name in kept}
        for name, (now, one) in new.items():
            entry = asdict(one if extent == "everything" else _with_headlines(one))
            del entry["run"]
            runs[name] = [now, entry]
        write_index(folder, extent, runs)


def _with_headlines(run: Listed) -> Listed:
    """The run with no other metrics than those of ``HEADLINE``, on test images."""
    metrics = {name: run.metrics[name] for name in HEADLINE if name in run.metrics}
    return replace(run, splits={"test": metrics})


def read_run(run: RunFolder) -> Listed:
    """Read what the list shows of a run."""
    try:
        run.files.check()
        config, info = run.config(), run.info()
        edited = run.edited(config)
        return Listed(
            run=str(run.path),
            status=run.status(),
            started=info["start"],
            steps=_steps(run.records()),
            size=size_on_disk(run.path),
            model=config.describe(),
            settings=flatten(config.model_dump()),
            splits={
                split: {name: _short(entry) for name, entry in entries.items()}
                for split, entries in run.metrics().items()
            },
            error=info["error"] or edited,
            described=sorted(config.described()),
        )
    except (RunError, UserError) as error:
        why = str(error)
    except Exception as error:  # one run never breaks the list of the others
        why = in_a_line(error)
    wrong = visible("; ".join(why.splitlines()))
    return Listed(str(run.path), "damaged", size=size_on_disk(run.path), error=wrong)


def size_on_disk(run: Path) -> int:
    """The bytes of the regular files of a run. No link is followed."""
    total = 0
    for part in (run, *(run / name for name in FOLDERS)):
        try:
            if part != run and not stat.S_ISDIR(os.lstat(part).st_mode):
                continue
            with os.scandir(part) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        except OSError:  # there is no such folder
            continue
    return total


def _short(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in _FACTS if key in entry}


def _steps(records: list[dict[str, Any]]) -> int:
    """The number of epochs, or of EM iterations. The first record of a restart is its start."""
    return sum(1 for record in records if record.get("iteration") != 0)
