"""The folder of a sweep: its record, the table of its trials, and a folder for each trial.

Several processes may work in it at once, each on a trial of its own, also on several hosts with a
shared disk. What has become of a trial is read from its folder; ``trials.csv`` repeats it.
"""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaexp.config import Config
from vaexp.errors import RunError, UserError, in_a_line
from vaexp.files import write_text
from vaexp.locks import Held, locked
from vaexp.runs.find import find_runs
from vaexp.runs.folder import RunFolder
from vaexp.runs.listing import HEADLINE
from vaexp.sweeps.claims import claim as claim_of
from vaexp.sweeps.record import NAME, Record
from vaexp.sweeps.request import Request
from vaexp.sweeps.trials import Trial, config_of
from vaexp.tables import comma_separated

TABLE = "trials.csv"
TRIALS = "trials"
LOG = "log.txt"
ERROR = "error.txt"
WAIT = 60  # seconds for a lock that is held for milliseconds


@dataclass(frozen=True)
class State:
    """What has become of a trial."""

    status: str
    """That of its run, ``waiting`` before there is one, and ``failed`` where none could start.

    A call also knows what it has just seen: ``killed``, or ``elsewhere`` for a trial that another
    process works on.
    """
    run: RunFolder | None = None
    error: str = ""
    """The last line of the error of a trial that failed."""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)
    """The entries of the test split, which only a finished run has."""

    @property
    def is_done(self) -> bool:
        """Whether its run has finished, with all its numbers."""
        return self.status == "finished"

    @property
    def has_failed(self) -> bool:
        """Whether it ended in another way than by a stop."""
        return self.status in ("failed", "killed", "damaged")

    @property
    def is_elsewhere(self) -> bool:
        """Whether another process works on it."""
        return self.status == "elsewhere"


@dataclass(frozen=True)
class Sweep:
    """A sweep and its folder."""

    path: Path
    record: Record

    @classmethod
    def open(cls, path: Path) -> "Sweep":
        """Open the folder of a sweep. Raises UserError if it is none."""
        return cls(path, Record.read(path))

    @classmethod
    def planned(cls, path: Path, request: Request) -> "Sweep":
        """The sweep as it is after a request, checked but not written.

        Raises UserError if a trial is wrong, or the folder holds a sweep with another base.
        """
        if os.path.lexists(path / NAME):
            record = Record.read(path).extended(request, path)
        elif os.path.isdir(path) and any(name != ".lock" for name in os.listdir(path)):
            raise UserError(f"{path}: not the folder of a sweep, and not empty; choose another one")
        else:
            record = Record(request.config, request.base, (request.asked,))
        record.check()
        return cls(path, record)

    @classmethod
    def begin(cls, path: Path, request: Request) -> "Sweep":
        """Make the folder of a sweep, or add to it what a request asks for in addition."""
        sweep = cls.planned(path, request)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot be created: {error.strerror}") from None
        with sweep._locked():
            content = sweep.record.content()
            if not (path / NAME).exists():
                write_text(path / NAME, content)
            elif (path / NAME).read_text(encoding="utf-8") != content:
                # Another process may have been here since: what it wrote is the record now.
                sweep = cls.planned(path, request)
                write_text(path / NAME, sweep.record.content())
        return sweep

    @property
    def trials(self) -> list[Trial]:
        """All trials, by their numbers."""
        return self.record.trials

    def asked(self, request: Request | None) -> list[Trial]:
        """The trials that a request asks for; None stands for all."""
        return self.trials if request is None else self.record.trials_of(request.asked)

    def trial(self, number: int) -> Trial:
        """The trial with a number. Raises UserError if there is none."""
        if not 1 <= number <= len(self.trials):
            raise UserError(f"--trial {number}: {self.path} has the trials 1 to {len(self.trials)}")
        return self.trials[number - 1]

    def config(self, trial: Trial) -> Config:
        """The config of a trial."""
        return config_of(self.record.base, trial)

    def folder(self, trial: Trial) -> Path:
        """The folder of a trial, which holds its run folder."""
        return self.path / TRIALS / trial.folder

    def log(self, trial: Trial) -> Path:
        """The file with what the process of a trial wrote to stderr."""
        return self.folder(trial) / LOG

    def state(self, trial: Trial) -> State:
        """What has become of a trial, as its folder says."""
        folder = self.folder(trial)
        if not folder.is_dir():
            return State("waiting")
        error = folder / ERROR
        if error.exists():
            return State("failed", error=_last_line(error))
        run = None
        try:
            for run in find_runs(folder):
                if run.status() == "finished":
                    return State("finished", run, metrics=run.metrics().get("test", {}))
            if run is None:
                return State("waiting")
            return State(run.status(), run, run.info()["error"] or "")
        except RunError as damage:
            return State("damaged", run, str(damage))
        except OSError as damage:  # a disk that fails, or a file that may not be read
            return State("damaged", run, in_a_line(damage))

    @contextmanager
    def claimed(self, trial: Trial, say: Callable[[str], None]) -> Iterator[bool]:
        """Take a trial for this process inside the block; says so and yields False if another has.

        The claim ends with the process at the latest. An error inside the block is noted in the
        trial's folder, and the table of trials is brought up to date after the block.
        """
        folder = self.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as claim:
            try:
                claim.enter_context(locked(folder / ".lock", lambda _: None))
                claim.enter_context(claim_of(folder))
            except Held as held:
                say(f"trial {trial.number} is with another process: {held}")
                yield False
                return
            try:
                (folder / ERROR).unlink(missing_ok=True)
                yield True
            except Exception as error:
                if self.state(trial).status in ("waiting", "damaged"):  # no run says what was wrong
                    write_text(folder / ERROR, f"{error}\n")
                raise
            finally:
                self.update(trial)

    # The table of trials

    def write_table(self) -> list[State]:
        """Write the table of all trials anew; returns their states."""
        states = [self.state(trial) for trial in self.trials]
        with self._locked():  # only for what may have changed: others wait for the lock
            for i, trial in enumerate(self.trials):
                if not states[i].is_done:
                    states[i] = self.state(trial)
            rows = [self._row(*pair) for pair in zip(self.trials, states, strict=True)]
            self._write_rows([self._headers(), *rows])
        return states

    def update(self, trial: Trial) -> None:
        """Write the row of one trial anew, so that a long table costs little."""
        with self._locked():
            rows = self._rows()
            if rows is not None:
                rows[trial.number] = self._row(trial, self.state(trial))
                self._write_rows(rows)
                return
        self.write_table()

    def is_done(self) -> bool:
        """Whether the table says that all trials have finished."""
        rows = self._rows()
        return rows is not None and all(
            dict(zip(rows[0], row, strict=False)).get("status") == "finished" for row in rows[1:]
        )

    def _rows(self) -> list[list[str]] | None:
        """The table as it is on disk, or None if it is not that of these trials."""
        try:
            with (self.path / TABLE).open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
        except (FileNotFoundError, ValueError, csv.Error):
            return None
        fits = rows[:1] == [self._headers()] and len(rows) == len(self.trials) + 1
        return rows if fits else None

    def _headers(self) -> list[str]:
        measures = [column for name in HEADLINE for column in (name, f"{name}_se")]
        return ["trial", *self.record.keys, "status", "run", *measures, "error"]

    def _row(self, trial: Trial, state: State) -> list[str]:
        entries = [state.metrics.get(name, {}) for name in HEADLINE]
        numbers = [entry.get(key) for entry in entries for key in ("value", "se")]
        measured = ["" if number is None else repr(number) for number in numbers]
        run = "" if state.run is None else os.path.relpath(state.run.path, self.path)
        return [
            str(trial.number),
            *self.record.values(trial),
            state.status,
            run,
            *measured,
            state.error,
        ]

    def _write_rows(self, rows: Sequence[Sequence[str]]) -> None:
        headers, *others = rows
        text = comma_separated(headers, others)
        path = self.path / TABLE
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from the record and the table inside the block.

        A disk without locks is not said here: the run of a trial says it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock", lambda _: None, patience=WAIT))
            except Held as held:
                raise RunError(f"waited {WAIT} seconds in vain: {held}") from None
            yield


@dataclass(frozen=True, eq=False)
class Task:
    """A trial to work on, and the sweep that it belongs to."""

    sweep: Sweep
    trial: Trial
    figures: bool = True
    """Whether figures are drawn of its run."""

    @property
    def folder(self) -> Path:
        """The folder of the trial."""
        return self.sweep.folder(self.trial)

    @property
    def log(self) -> Path:
        """The file with what the process of the trial wrote to stderr."""
        return self.sweep.log(self.trial)

    def state(self) -> State:
        """What has become of the trial, as its folder says."""
        return self.sweep.state(self.trial)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")
