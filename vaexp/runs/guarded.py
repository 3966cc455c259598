"""The files of a run folder: their names, how large they may be, and reading and writing them.

Everything goes through ``files.Folder``, and whatever is refused or damaged becomes a RunError.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from pydantic import TypeAdapter

from vaexp.errors import RunError
from vaexp.files import Folder, Refused, json_text, parse_json
from vaexp.runs.arrays import read_arrays
from vaexp.runs.checkpoints import MOST_STATE, MOST_WEIGHTS
from vaexp.runs.parts import complaint
from vaexp.visible import visible

if TYPE_CHECKING:
    import numpy as np

CONFIG, INFO, ENVIRONMENT = "config.yaml", "run.json", "environment.json"
RECORDS, METRICS, EVALUATION = "metrics.jsonl", "metrics.json", "evaluation.json"
PER_EXAMPLE, LOG, LOCK = "per_example.npz", "train.log", "checkpoints/.lock"
WEIGHTS, STATE = "checkpoints/model.safetensors", "checkpoints/state.pt"
HEARTBEAT = "checkpoints/heartbeat.json"
FOLDERS = ("checkpoints", "figures", "samples", "evidence", "codes")
MOST = {
    CONFIG: 2**20,
    INFO: 2**20,
    ENVIRONMENT: 2**20,
    RECORDS: 2**26,
    METRICS: 2**22,
    EVALUATION: 2**20,
    PER_EXAMPLE: 2**28,
    LOG: 2**30,
    LOCK: 2**10,
    HEARTBEAT: 2**10,
    WEIGHTS: MOST_WEIGHTS,
    STATE: MOST_STATE,
}
"""The files of a run and the most bytes that each may have: many times what the largest run has."""
MOST_EVIDENCE = 2**28


@dataclass(frozen=True)
class RunFiles:
    """The guarded way to the files of one run. Names have "/" between levels."""

    path: Path

    @property
    def folder(self) -> Folder:
        """The folder, whose errors are not yet RunErrors."""
        return Folder(self.path)

    def check(self) -> None:
        """Raise RunError if a part of the run is not the plain file or folder that it has to be."""
        with self._guarded():
            for name in FOLDERS:
                self.folder.check(name, folder=True)
            for name in MOST:
                self.folder.check(name)

    def has(self, name: str) -> bool:
        """Whether there is something with this name."""
        with self._guarded():
            return self.folder.has(name)

    def names(self, folder: str, suffix: str) -> list[str]:
        """The regular files in a folder of the run whose names end with ``suffix``, in order."""
        with self._guarded():
            return self.folder.names(folder, suffix)

    @contextmanager
    def open(self, name: str, most: int = 0) -> Iterator[BinaryIO]:
        """Open a file to read it. ``most`` is the most bytes of one that MOST does not know."""
        with self._guarded(), self.folder.open(name, most or MOST[name]) as file:
            yield file

    def text(self, name: str) -> str:
        """Read a text file."""
        with self._guarded(), self._decoded(name):
            return self.folder.text(name, MOST[name])

    def json(self, name: str, kind: TypeAdapter[Any]) -> Any:
        """Read a JSON file that is of this kind."""
        with self._guarded(), self._decoded(name):
            value = parse_json(self.folder.text(name, MOST[name]))
        self._check(name, kind, value)
        return value

    def json_lines(self, name: str, kind: TypeAdapter[Any]) -> list[Any]:
        """Read a file of JSON lines of this kind, without a last one that a kill has cut off."""
        with self.open(name) as file, self._decoded(name):
            values = [parse_json(line) for line in file if line.endswith(b"\n")]
        for i, value in enumerate(values, start=1):
            self._check(f"{name}:{i}", kind, value)
        return values

    def arrays(self, name: str, most: int = 0) -> "dict[str, np.ndarray[Any, Any]]":
        """Read the arrays of an npz file."""
        with self.open(name, most) as file:
            try:
                return read_arrays(file)
            except ValueError as error:
                why = visible(str(error))
                raise RunError(
                    f"{self.path / name}: damaged ({why}); copy the run folder again"
                ) from None

    def place(self, name: str) -> Path:
        """The path of a file that is to be written whole, in a folder of the run and no link."""
        with self._guarded():
            return self.folder.place(name)

    def lock(self) -> Path:
        """The path of the lock of the run, which is written in place."""
        with self._guarded():
            self.folder.check_single(LOCK)
            return self.folder.place(LOCK)

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Give a temporary file that replaces a file if the block ends without an error."""
        with self._guarded(), self.folder.replacing(name) as temporary:
            yield temporary

    @contextmanager
    def append(self, name: str) -> Iterator[TextIO]:
        """Open a text file to write at its end."""
        with self._guarded(), self.folder.append(name) as file:
            yield file

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, or nothing if that fails."""
        with self.replacing(name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, or nothing if that fails. Raises ValueError for NaN and infinity."""
        self.write_text(name, json_text(value))

    def write_arrays(self, name: str, arrays: "Mapping[str, np.ndarray[Any, Any]]") -> None:
        """Write an npz file, or nothing if that fails."""
        import numpy as np

        with self.replacing(name) as temporary:
            np.savez_compressed(temporary, **dict(arrays))  # type: ignore[arg-type]

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._guarded():
            self.folder.remove(name)

    def _check(self, name: str, kind: TypeAdapter[Any], value: Any) -> None:
        """Raise RunError if the value of a JSON file is not of this kind."""
        why = complaint(kind, value)
        if why is not None:
            where = self.path / name
            raise RunError(f"{where}: damaged: {visible(why)}; copy the run folder again")

    @contextmanager
    def _decoded(self, name: str) -> Iterator[None]:
        """Turn the errors of a text that is no UTF-8 or no JSON into RunError."""
        try:
            yield
        except ValueError as error:
            why = "not a text in UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
            raise RunError(
                f"{self.path / name}: damaged, {why}; copy the run folder again"
            ) from None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn the errors of a file that is missing or refused into RunError."""
        try:
            yield
        except Refused as error:
            raise RunError(f"{visible(str(error.filename))}: {error.strerror}") from None
        except FileNotFoundError as error:
            raise RunError(
                f"{visible(str(error.filename))}: missing; copy the run folder again"
            ) from None
