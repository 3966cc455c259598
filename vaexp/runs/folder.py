"""Creating, writing and reading run folders. They hold plain files; only weights need torch."""

import json
import os
import re
import secrets
import socket
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
from filelock import FileLock, Timeout

from vaexp.config import Config, dump, load_config
from vaexp.errors import RunError, UserError
from vaexp.files import replacing, write_json, write_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

INFO_KEYS = {"status", "pid", "pid_started", "host", "start", "resumed", "error"}
Status = Literal["running", "finished", "failed", "interrupted", "dead", "unknown"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def create(cls, runs_dir: Path, config: Config) -> "RunFolder":
        """Create ``runs_dir/<date>-<time>-<name>-<4 hex digits>`` with the resolved config.

        mkdir is atomic, so processes that start in the same second get different folders. Raises
        UserError if the folder cannot be created.
        """
        try:
            runs_dir.mkdir(parents=True, exist_ok=True)
            while True:
                stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
                path = runs_dir / f"{stamp}-{config.name}-{secrets.token_hex(2)}"
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    continue
            for part in ("checkpoints", "figures", "samples"):
                (path / part).mkdir()
            write_text(path / "config.yaml", dump(config))
        except OSError as error:
            raise UserError(f"{runs_dir}: cannot create a run folder: {error.strerror}") from None
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open an existing run folder. Raises UserError if there is none at this path."""
        folder = Path(path)
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such run folder")
        for name in ("run.json", "config.yaml"):
            if not (folder / name).is_file():
                raise UserError(
                    f"{folder}: not a run folder, or an incomplete copy of one: {name} is missing"
                )
        return cls(folder)

    @property
    def name(self) -> str:
        """The name of the folder itself, even if the path is ``.``."""
        return self.path.resolve().name

    # What kind of run it is

    def config(self) -> Config:
        """Read config.yaml, the resolved config."""
        return load_config(str(self.path / "config.yaml"))

    def info(self) -> dict[str, Any]:
        """Read run.json. Raises RunError if it is damaged."""
        info = self._read_json("run.json")
        if not info.keys() >= INFO_KEYS or not isinstance(info["pid"], int):
            raise RunError(f"{self.path / 'run.json'}: damaged; copy the run folder again")
        return info

    def status(self) -> Status:
        """The status in run.json, except that a running run whose process is gone is dead.

        The process cannot be seen from another host. There the status of a running run is unknown.
        """
        info = self.info()
        status: Status = info["status"]
        if status != "running":
            return status
        if info["host"] != socket.gethostname():
            return "unknown"
        return "running" if _alive(info["pid"], info["pid_started"]) else "dead"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for this process inside the block, or until the process ends.

        Raises UserError if another process holds the lock.
        """
        lock = FileLock(self.path / "checkpoints" / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"{self.path}: another process is working on this run; wait until it ends"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def start(self) -> None:
        """Mark the run as running in this process. A resumed run keeps its first start."""
        for left in self.path.rglob(".*.tmp.*"):  # left by a kill in the middle of a write
            left.unlink(missing_ok=True)
        process = psutil.Process()
        first = (self.path / "run.json").exists() and self.info()
        self._write_info(
            status="running",
            pid=process.pid,
            pid_started=_started(process),
            host=socket.gethostname(),
            start=first["start"] if first else _now(),
            resumed=[*first["resumed"], _now()] if first else [],
            end=None,
            exit_code=None,
            error=None,
        )

    def end(self, status: Status, exit_code: int, error: str | None = None) -> None:
        """Mark the run as ended, with this status and exit code."""
        changes = {"status": status, "end": _now(), "exit_code": exit_code, "error": error}
        self._write_info(**self.info() | changes)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.json."""
        write_json(self.path / "environment.json", environment)

    def environment(self) -> dict[str, Any]:
        """Read environment.json."""
        return self._read_json("environment.json")

    # Numbers

    def append_records(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records to metrics.jsonl as lines, in a single write."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl, without a last line that a kill has cut off."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError:
            raise RunError(f"{path}: damaged, not JSON; copy the run folder again") from None

    def truncate_records(self, count: int) -> None:
        """Keep only the first ``count`` records, which are those that the checkpoint includes."""
        lines = [json.dumps(record) + "\n" for record in self.records()[:count]]
        write_text(self.path / "metrics.jsonl", "".join(lines))

    def write_metrics(
        self,
        metrics: Mapping[str, Mapping[str, Any]],
        per_example: Mapping[str, "np.ndarray[Any, Any]"],
    ) -> None:
        """Write metrics.json, and per_example.npz with the value of every test image."""
        import numpy as np

        with replacing(self.path / "per_example.npz") as temporary:
            np.savez_compressed(temporary, **dict(per_example))  # type: ignore[arg-type]
        write_json(self.path / "metrics.json", metrics)

    def add_evidence(
        self,
        group: str,
        entries: Mapping[str, Any],
        per_example: Mapping[str, "np.ndarray[Any, Any]"],
        arrays: Mapping[str, "np.ndarray[Any, Any]"],
        notes: Mapping[str, Any],
    ) -> None:
        """Add the evidence of a group of measures on the test split to a finished run.

        ``entries`` replace the earlier ones of the group in metrics.json. ``per_example`` are added
        to per_example.npz, ``arrays`` are written to evidence/<group>.npz, and ``notes`` are added
        to evaluation.json.
        """
        import numpy as np

        metrics, values = self.metrics(), self.per_example()
        test = metrics["test"]
        old = {name for name, entry in test.items() if entry.get("group") == group}
        old = (old | set(entries)) & set(test)
        kept = {name: entry for name, entry in test.items() if name not in old}
        if old:  # removed first, so that a kill leaves no number together with arrays of another
            write_json(self.path / "metrics.json", metrics | {"test": kept})
        path = self.path / "evidence" / f"{group}.npz"
        path.unlink(missing_ok=True)
        if arrays:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as temporary:
                np.savez_compressed(temporary, **dict(arrays))  # type: ignore[arg-type]
        values = {name: array for name, array in values.items() if name not in old}
        self.write_metrics(metrics | {"test": {**kept, **entries}}, {**values, **per_example})
        write_json(self.path / "evaluation.json", self.evaluation() | {group: dict(notes)})

    def evaluation(self) -> dict[str, Any]:
        """Read evaluation.json: {group: {"absent": {measure: reason}}}."""
        return self._read_json("evaluation.json") if self.has("evaluation.json") else {}

    def evidence(self, group: str) -> dict[str, "np.ndarray[Any, Any]"]:
        """Read the arrays of evidence/<group>.npz; none if the group was not measured."""
        return self._arrays(f"evidence/{group}.npz") if self.has(f"evidence/{group}.npz") else {}

    def has(self, name: str) -> bool:
        """Whether the run has this file."""
        return (self.path / name).exists()

    def metrics(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Read metrics.json: {split: {name: entry}}. It is empty until the run has finished."""
        if not (self.path / "metrics.json").exists():
            return {}
        metrics = self._read_json("metrics.json")
        for entries in metrics.values():
            if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
                raise RunError(f"{self.path / 'metrics.json'}: damaged; copy the run folder again")
        return metrics

    def per_example(self) -> dict[str, "np.ndarray[Any, Any]"]:
        """Read per_example.npz: for every metric, one value per test image, in data order.

        A metric that is a root mean, such as rmse_mean, has squared errors here. Its value is the
        root of their mean.
        """
        return self._arrays("per_example.npz")

    def _arrays(self, name: str) -> dict[str, "np.ndarray[Any, Any]"]:
        import numpy as np

        path = self.path / name
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"{path}: missing or damaged ({error})") from None

    # Weights

    def save_weights(self, weights: Mapping[str, "Tensor"], at: int) -> None:
        """Write the weights that the run keeps, together with their epoch or iteration."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        with replacing(self.path / "checkpoints" / "model.safetensors") as temporary:
            temporary.write_bytes(save(tensors, metadata={"at": str(at)}))

    def weights(self) -> tuple[dict[str, "Tensor"], int]:
        """Read the kept weights and their epoch or iteration.

        Raises RunError if they are missing or damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = self.path / "checkpoints" / "model.safetensors"
        if not path.exists():
            what_helps = (
                "copy the run folder again"
                if self.records()
                else "training has not finished an epoch or iteration yet"
            )
            raise RunError(f"{path}: missing; {what_helps}")
        try:
            with safe_open(path, framework="pt") as file:
                at = int((file.metadata() or {}).get("at", 0))
                return {name: file.get_tensor(name) for name in file.keys()}, at  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise RunError(f"{path}: damaged ({error}); copy the run folder again") from None

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write checkpoints/state.pt, which holds everything that --resume needs."""
        import torch

        path = self.path / "checkpoints" / "state.pt"
        with replacing(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(dict(state), file)
            except RuntimeError as error:  # torch hides that a disk is full
                hidden = error.__context__
                raise hidden if isinstance(hidden, OSError) else error from None

    def state(self) -> dict[str, Any] | None:
        """Read the state of the last checkpoint, or None before the first.

        Loading it runs no code from the file. Raises RunError if it is damaged.
        """
        import torch

        path = self.path / "checkpoints" / "state.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise RunError(
                f"{path}: damaged ({type(error).__name__}), so the run cannot be resumed; copy the "
                "run folder again"
            ) from None
        return state

    def _write_info(self, **info: Any) -> None:
        write_json(self.path / "run.json", info)

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise RunError(f"{path}: damaged, not JSON; copy the run folder again") from None
        if not isinstance(value, dict):
            raise RunError(f"{path}: damaged; copy the run folder again")
        return value


def find_runs(folder: Path) -> list[RunFolder]:
    """The run folders directly below ``folder``, the oldest first."""
    paths: Iterable[Path] = folder.iterdir()
    return [RunFolder(path) for path in sorted(paths) if (path / "run.json").is_file()]


def short_names(runs: Iterable[RunFolder]) -> list[str]:
    """The names of runs without date and time. Their four hex digits still tell them apart."""
    return [re.sub(r"^\d{8}-\d{6}-", "", run.name) for run in runs]


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not {"value", "unit", "aggregate"} <= entry.keys():
        return False
    return all(isinstance(entry.get(key, 0.0) or 0.0, int | float) for key in ("value", "se"))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _alive(pid: int, started: float) -> bool:
    """Whether the process that wrote run.json still exists.

    Its start time distinguishes it from a later process with the same number.
    """
    try:
        process = psutil.Process(pid)
        return abs(_started(process) - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _started(process: psutil.Process) -> float:
    """When a process started, in seconds.

    On Linux they count from the boot, as there the start in calendar time moves when the clock is
    set.
    """
    created = process.create_time()
    return created - psutil.boot_time() if psutil.LINUX else created
