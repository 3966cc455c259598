"""Creating, writing and reading run folders. They hold plain files; only weights need torch.

A folder may come from a stranger: ``guarded`` is the one way to its files.
"""

import json
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaexp.config import Config, digest, dump, load_text
from vaexp.config.data import WHERE_DATA_LIE
from vaexp.errors import RunError, UserError
from vaexp.files import UMASK, write_text
from vaexp.locks import Held, locked
from vaexp.runs import parts
from vaexp.runs.checkpoints import Shapes, as_text, misfit, read_state, read_weights
from vaexp.runs.guarded import (
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    FOLDERS,
    INFO,
    METRICS,
    MOST_EVIDENCE,
    PER_EXAMPLE,
    RECORDS,
    STATE,
    WEIGHTS,
    RunFiles,
)
from vaexp.runs.heartbeat import status_elsewhere
from vaexp.runs.parts import Status
from vaexp.runs.process import alive, info_of_this_process, now
from vaexp.visible import visible

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def create(cls, runs_dir: Path, config: Config) -> "RunFolder":
        """Create ``runs_dir/<date>-<time>-<name>-<4 hex digits>`` with the resolved config.

        The folder is filled under a hidden name and then renamed, which is atomic: no folder is
        ever there without its run.json, and processes that start in the same second get different
        folders. Raises UserError if it cannot be created.
        """
        try:
            runs_dir.mkdir(parents=True, exist_ok=True)
            filled = Path(tempfile.mkdtemp(dir=runs_dir, prefix=".new-"))
            try:
                for part in FOLDERS[:3]:
                    (filled / part).mkdir()
                write_text(filled / CONFIG, dump(config))
                cls(filled).files.write_json(INFO, info_of_this_process(start=None, resumed=[]))
                filled.chmod(0o777 & ~UMASK)
                while True:
                    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
                    path = runs_dir / f"{stamp}-{config.name}-{secrets.token_hex(2)}"
                    if not os.path.lexists(path):
                        try:
                            filled.rename(path)
                            return cls(path)
                        except OSError:  # another process was faster
                            if not os.path.lexists(path):
                                raise
            except BaseException:
                shutil.rmtree(filled, ignore_errors=True)
                raise
        except OSError as error:
            raise UserError(f"{runs_dir}: cannot create a run folder: {error.strerror}") from None

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open an existing run folder.

        Raises UserError if there is none at this path, and RunError if a part of it is a link, a
        device or whatever else a run does not have, or if its run.json is damaged.
        """
        folder = Path(path)
        if not os.path.isdir(folder):
            raise UserError(f"{visible(str(folder))}: no such run folder")
        run = cls(folder)
        for name in (INFO, CONFIG):
            if not os.path.lexists(folder / name):
                raise UserError(
                    f"{visible(str(folder))}: not a run folder, or an incomplete copy of one: "
                    f"{name} is missing"
                )
        run.files.check()
        run.info()
        return run

    @property
    def files(self) -> RunFiles:
        """The guarded way to the files of the run."""
        return RunFiles(self.path)

    @property
    def name(self) -> str:
        """The name of the folder itself, even if the path is ``.``."""
        return self.path.resolve().name

    # What kind of run it is

    def config(self, overrides: Iterable[str] = ()) -> Config:
        """Read config.yaml, the resolved config, and apply ``overrides`` to it."""
        return load_text(self.files.text(CONFIG), self.path / CONFIG, list(overrides))

    def info(self) -> dict[str, Any]:
        """Read run.json. Raises RunError if it is damaged."""
        return self.files.json(INFO, parts.INFO)

    def status(self) -> Status:
        """The status in run.json, except that a running run whose process is gone is dead.

        The process cannot be seen from another host, where its heartbeat decides.
        """
        info = self.info()
        status: Status = info["status"]
        if status != "running":
            return status
        if info["host"] != socket.gethostname():
            return status_elsewhere(self.files, info)
        return "running" if alive(info["pid"], info["pid_started"]) else "dead"

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Lock the run for this process inside the block, or until the process ends.

        Raises UserError if another process holds the lock. ``say`` is told if the disk has none.
        """
        try:
            with locked(self.files.lock(), say):
                yield
        except Held as held:
            raise UserError(
                f"{self.path}: another process is working on this run; wait until it ends ({held})"
            ) from None

    def start(self) -> None:
        """Mark the run as running in this process. A resumed run keeps its first start."""
        for folder in (self.path, *(self.path / name for name in FOLDERS)):
            if folder.is_dir() and not folder.is_symlink():
                for left in folder.glob(".*.tmp.*"):  # left by a kill in the middle of a write
                    left.unlink(missing_ok=True)
        before, began = self.info(), now()
        again = [] if before["start"] is None else [began]
        self.files.write_json(
            INFO,
            info_of_this_process(
                start=before["start"] or began, resumed=[*before["resumed"], *again]
            ),
        )

    def end(self, status: Status, exit_code: int, error: str | None = None) -> None:
        """Mark the run as ended, with this status and exit code."""
        changes = {"status": status, "end": now(), "exit_code": exit_code, "error": error}
        self.files.write_json(INFO, self.info() | changes)

    # Identity

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.json."""
        self.files.write_json(ENVIRONMENT, environment)

    def environment(self) -> dict[str, Any]:
        """Read environment.json."""
        return self.files.json(ENVIRONMENT, parts.ENVIRONMENT)

    def edited(self, config: Config | None = None) -> str | None:
        """Why this is not the config that the run was trained with, or None if it is.

        ``config`` is that of config.yaml, if it has been read already. Where the data lie does not
        count. Only a run that has trained nothing yet has no environment.
        """
        if not any(map(self.has, (ENVIRONMENT, RECORDS, WEIGHTS, METRICS))):
            return None
        environment = self.environment()
        known = (environment["config_sha256"], environment.get("next_config_sha256"))
        is_known = digest(config or self.config()) in known
        return None if is_known else "config.yaml changed since the run started"

    def check_config(self, config: Config | None = None) -> None:
        """Raise RunError if config.yaml, which holds ``config``, changed since the run started."""
        why = self.edited(config)
        if why is not None:
            raise RunError(f"{self.path}: {why}; undo the change, or train its config as a new run")

    def check_data(self, sha256: str) -> None:
        """Raise RunError if these are not the data that the run was trained on."""
        if self.has(ENVIRONMENT) and self.environment()["data_sha256"] != sha256:
            raise RunError(
                f"{self.path}: the data changed since the run started: these are other images; "
                + WHERE_DATA_LIE
            )

    # Numbers

    def append_records(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records to metrics.jsonl as lines, in a single write."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        with self.files.append(RECORDS) as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl, without a last line that a kill has cut off."""
        records = self.files.json_lines(RECORDS, parts.STEP) if self.has(RECORDS) else []
        unit = self.config().model.unit if records else ""
        for number, record in enumerate(records, start=1):
            if unit not in record:
                raise RunError(
                    f"{visible(str(self.path))}/{RECORDS}:{number}: it has no {unit}, so it is of "
                    "another kind of run; copy the run folder again"
                )
        return records

    def truncate_records(self, count: int) -> None:
        """Keep only the first ``count`` records, which are those that the checkpoint includes."""
        lines = [json.dumps(record) + "\n" for record in self.records()[:count]]
        self.files.write_text(RECORDS, "".join(lines))

    def write_metrics(
        self,
        metrics: Mapping[str, Mapping[str, Any]],
        per_example: Mapping[str, "np.ndarray[Any, Any]"],
    ) -> None:
        """Write metrics.json, and per_example.npz with the value of every test image."""
        self.files.write_arrays(PER_EXAMPLE, per_example)
        self.files.write_json(METRICS, metrics)

    def add_evidence(
        self,
        group: str,
        entries: Mapping[str, Any],
        per_example: Mapping[str, "np.ndarray[Any, Any]"],
        arrays: Mapping[str, "np.ndarray[Any, Any]"],
        notes: Mapping[str, Any],
    ) -> None:
        """Add the evidence of a group of measures on the test split to a finished run.

        ``entries`` replace the earlier ones of the group in metrics.json, and those of measures
        that are absent now are removed. ``per_example`` are added to per_example.npz, ``arrays``
        are written to evidence/<group>.npz, and ``notes`` are added to evaluation.json.
        """
        metrics, values = self.metrics(), self.per_example()
        test = metrics["test"]
        old = {name for name, entry in test.items() if entry.get("group") == group}
        old = (old | set(entries) | set(notes.get("absent", {}))) & set(test)
        kept = {name: entry for name, entry in test.items() if name not in old}
        if old:  # removed first, so that a kill leaves no number together with arrays of another
            self.files.write_json(METRICS, metrics | {"test": kept})
        name = f"evidence/{group}.npz"
        self.files.remove(name)
        if arrays:
            self.files.write_arrays(name, arrays)
        values = {name: array for name, array in values.items() if name not in old}
        self.write_metrics(metrics | {"test": {**kept, **entries}}, {**values, **per_example})
        self.files.write_json(EVALUATION, self.evaluation() | {group: dict(notes)})

    def evaluation(self) -> dict[str, Any]:
        """Read evaluation.json: {group: {"absent": {measure: reason}, "versions": ...}}."""
        return self.files.json(EVALUATION, parts.EVALUATION) if self.has(EVALUATION) else {}

    def evidence(self, group: str) -> dict[str, "np.ndarray[Any, Any]"]:
        """Read the arrays of evidence/<group>.npz; none if the group was not measured."""
        name = f"evidence/{group}.npz"
        return self.files.arrays(name, MOST_EVIDENCE) if self.has(name) else {}

    def has(self, name: str) -> bool:
        """Whether the run has this file."""
        return self.files.has(name)

    def metrics(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Read metrics.json: {split: {name: entry}}. It is empty until the run has finished."""
        return self.files.json(METRICS, parts.METRICS) if self.has(METRICS) else {}

    def per_example(self) -> dict[str, "np.ndarray[Any, Any]"]:
        """Read per_example.npz: for every metric, one value per test image, in data order.

        A metric that is a root mean, such as rmse_mean, has squared errors here. Its value is the
        root of their mean.
        """
        import numpy as np

        arrays = self.files.arrays(PER_EXAMPLE)
        for name, array in arrays.items():
            if array.ndim != 1 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
                raise RunError(
                    f"{self.path / PER_EXAMPLE}: damaged ({visible(name)} is not one number per "
                    "image); copy the run folder again"
                )
        return arrays

    # Weights

    def save_weights(self, weights: Mapping[str, "Tensor"], at: int) -> None:
        """Write the weights that the run keeps, together with their epoch or iteration."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        with self.files.replacing(WEIGHTS) as temporary:
            temporary.write_bytes(save(tensors, metadata={"at": str(at)}))

    def weights(self, shapes: Shapes | None = None) -> tuple[dict[str, "Tensor"], int]:
        """Read the kept weights and their epoch or iteration.

        Raises RunError if they are missing or damaged, or do not have these ``shapes`` by name.
        """
        from safetensors import SafetensorError

        path = self.path / WEIGHTS
        if not self.has(WEIGHTS):
            what_helps = (
                "copy the run folder again"
                if self.records()
                else "training has not finished an epoch or iteration yet"
            )
            raise RunError(f"{path}: missing; {what_helps}")
        try:
            with self.files.open(WEIGHTS) as file:
                there = as_text(path, file)
                why = None if shapes is None else misfit(there, shapes)
                if why is None:
                    return read_weights(there)
        except (SafetensorError, OSError, ValueError) as error:
            why = visible(str(error))
            raise RunError(f"{path}: damaged ({why}); copy the run folder again") from None
        raise RunError(
            f"{self.path}: checkpoints/model.safetensors does not fit config.yaml "
            f"({visible(why)}): one of the two was changed or comes from another run"
        )

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write checkpoints/state.pt, which holds everything that --resume needs."""
        import torch

        with self.files.replacing(STATE) as temporary, temporary.open("wb") as file:
            try:
                torch.save(dict(state), file)
            except RuntimeError as error:  # torch hides that a disk is full
                hidden = error.__context__
                raise hidden if isinstance(hidden, OSError) else error from None

    def state(self) -> dict[str, Any] | None:
        """Read the state of the last checkpoint, or None before the first.

        Loading it runs no code from the file. Raises RunError if it is damaged.
        """
        if not self.has(STATE):
            return None
        with self.files.open(STATE) as file:
            try:
                return read_state(file, os.fstat(file.fileno()).st_size)
            except Exception as error:
                raise RunError(
                    f"{self.path / STATE}: damaged ({type(error).__name__}), so the run cannot be "
                    "resumed; copy the run folder again"
                ) from None


def short_name(name: str) -> str:
    """The name of a run without date and time. Its four hex digits still tell it apart."""
    return re.sub(r"^\d{8}-\d{6}-", "", name)


def short_names(runs: Iterable[RunFolder]) -> list[str]:
    """The names of runs without date and time."""
    return [short_name(run.name) for run in runs]
