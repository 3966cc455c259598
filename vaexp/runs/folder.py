"""A run folder: create, write and read it. Plain files; only weights need torch."""

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
    """The folder of one run, by its path."""

    path: Path

    @classmethod
    def create(cls, runs_dir: Path, config: Config) -> "RunFolder":
        """A new folder ``runs_dir/<date>-<time>-<name>-<4 hex digits>`` with the resolved config.

        mkdir is atomic, so processes starting in the same second get different folders.
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
        """An existing run folder. Raises UserError where there is none."""
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
        """The folder's own name, also when the path is ``.``."""
        return self.path.resolve().name

    # What kind of run it is

    def config(self) -> Config:
        """The resolved config."""
        return load_config(str(self.path / "config.yaml"))

    def info(self) -> dict[str, Any]:
        """run.json as it was last written."""
        info = self._read_json("run.json")
        if not info.keys() >= INFO_KEYS or not isinstance(info["pid"], int):
            raise RunError(f"{self.path / 'run.json'}: damaged; copy the run folder again")
        return info

    def status(self) -> Status:
        """run.json's status, except that a run whose process is gone is dead.

        On another host than the run's the process cannot be seen, so a running one is unknown.
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
        """Hold the run for this process; the lock goes with it, however it ends."""
        lock = FileLock(self.path / "checkpoints" / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"{self.path}: another process is at work on this run") from None
        try:
            yield
        finally:
            lock.release()

    def start(self) -> None:
        """Mark the run as running in this process; a resumed run keeps its first start."""
        for left in self.path.rglob(".*.tmp.*"):  # by a kill in the middle of a write
            left.unlink(missing_ok=True)
        process = psutil.Process()
        first = (self.path / "run.json").exists() and self.info()
        self._write_info(
            status="running",
            pid=process.pid,
            pid_started=process.create_time(),
            host=socket.gethostname(),
            start=first["start"] if first else _now(),
            resumed=[*first["resumed"], _now()] if first else [],
            end=None,
            exit_code=None,
            error=None,
        )

    def end(self, status: Status, exit_code: int, error: str | None = None) -> None:
        """Mark the run as over."""
        changes = {"status": status, "end": _now(), "exit_code": exit_code, "error": error}
        self._write_info(**self.info() | changes)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.json."""
        write_json(self.path / "environment.json", environment)

    def environment(self) -> dict[str, Any]:
        """environment.json."""
        return self._read_json("environment.json")

    # Numbers

    def append_records(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add lines to metrics.jsonl, in a single write."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line that was cut off by a kill is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError:
            raise RunError(f"{path}: damaged, not JSON; copy the run folder again") from None

    def truncate_records(self, count: int) -> None:
        """Keep only the first ``count`` records, those that the checkpoint knows of."""
        lines = [json.dumps(record) + "\n" for record in self.records()[:count]]
        write_text(self.path / "metrics.jsonl", "".join(lines))

    def write_metrics(
        self,
        metrics: Mapping[str, Mapping[str, Any]],
        per_example: Mapping[str, "np.ndarray[Any, Any]"],
    ) -> None:
        """Write metrics.json, and per_example.npz with the test split's values behind it."""
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
        """Add what a group of measures found on the test split to a finished run's numbers.

        ``entries`` take the place of the group's earlier ones in metrics.json, ``per_example`` go
        to per_example.npz, ``arrays`` to evidence/<group>.npz and ``notes`` to evaluation.json.
        """
        import numpy as np

        metrics, values = self.metrics(), self.per_example()
        test = metrics["test"]
        old = {name for name, entry in test.items() if entry.get("group") == group}
        old = (old | set(entries)) & set(test)
        kept = {name: entry for name, entry in test.items() if name not in old}
        if old:  # first of all, so that a kill leaves no number beside arrays that it is not of
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
        """evaluation.json: group of measures -> {"absent": measure -> why it has none}."""
        return self._read_json("evaluation.json") if self.has("evaluation.json") else {}

    def evidence(self, group: str) -> dict[str, "np.ndarray[Any, Any]"]:
        """The arrays of evidence/<group>.npz; empty where the group was not measured."""
        return self._arrays(f"evidence/{group}.npz") if self.has(f"evidence/{group}.npz") else {}

    def has(self, name: str) -> bool:
        """Whether the run has this file."""
        return (self.path / name).exists()

    def metrics(self) -> dict[str, dict[str, dict[str, Any]]]:
        """metrics.json: split -> name -> entry. Empty while the run has not finished."""
        if not (self.path / "metrics.json").exists():
            return {}
        metrics = self._read_json("metrics.json")
        for entries in metrics.values():
            if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
                raise RunError(f"{self.path / 'metrics.json'}: damaged; copy the run folder again")
        return metrics

    def per_example(self) -> dict[str, "np.ndarray[Any, Any]"]:
        """per_example.npz: metric -> one value per test image, in data order.

        Those of a root mean, rmse_mean and rmse_sample, are squared errors: its value is the root
        of their mean.
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
        """Write the weights that the run keeps, those of one epoch or iteration."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        with replacing(self.path / "checkpoints" / "model.safetensors") as temporary:
            temporary.write_bytes(save(tensors, metadata={"at": str(at)}))

    def weights(self) -> tuple[dict[str, "Tensor"], int]:
        """The kept weights, and the epoch or iteration they are of.

        Raises RunError where there are none.
        """
        from safetensors import SafetensorError, safe_open

        path = self.path / "checkpoints" / "model.safetensors"
        if not path.exists():
            why = "copy the run folder again" if self.records() else "training had only begun"
            raise RunError(f"{path}: missing; {why}")
        try:
            with safe_open(path, framework="pt") as file:
                at = int((file.metadata() or {}).get("at", 0))
                return {name: file.get_tensor(name) for name in file.keys()}, at  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise RunError(f"{path}: damaged ({error}); copy the run folder again") from None

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write all that --resume needs: checkpoints/state.pt."""
        import torch

        with replacing(self.path / "checkpoints" / "state.pt") as temporary:
            torch.save(dict(state), temporary)

    def state(self) -> dict[str, Any] | None:
        """The last checkpoint's state, or None before the first; loading runs no code from it."""
        import torch

        path = self.path / "checkpoints" / "state.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise RunError(f"{path}: damaged ({type(error).__name__}); cannot resume") from None
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
    """The run folders directly below ``folder``, oldest first."""
    paths: Iterable[Path] = folder.iterdir()
    return [RunFolder(path) for path in sorted(paths) if (path / "run.json").is_file()]


def short_names(runs: Iterable[RunFolder]) -> list[str]:
    """Each run's name without its date and time, which the four hex digits keep apart."""
    return [re.sub(r"^\d{8}-\d{6}-", "", run.name) for run in runs]


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not {"value", "unit", "aggregate"} <= entry.keys():
        return False
    return all(isinstance(entry.get(key, 0.0) or 0.0, int | float) for key in ("value", "se"))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _alive(pid: int, started: float) -> bool:
    """Whether the process that wrote run.json still exists; its start tells it from a later one."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
