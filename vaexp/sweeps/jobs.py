"""Running trials as processes of their own, several at a time."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from vaexp.errors import RunError
from vaexp.sweeps.folder import State, Task

PROGRAM = (sys.executable, "-m", "vaexp")
PAUSE = 0.02  # seconds between two looks at the processes
LAST = 10.0  # seconds for the processes to stop in after an error of this process
HOW = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Process(Protocol):
    """The process of a trial, here or on another machine. A ``subprocess.Popen`` is one."""

    def poll(self) -> int | None:
        """The exit code of a process that has ended, -N after signal N, or None."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""


Launch = Callable[[Task, int], Process]
"""Starts the process of a trial in one of the slots of the work, which are counted from 0."""


@dataclass(frozen=True)
class Child:
    """A process that works on a trial."""

    task: Task
    process: Process
    slot: int
    """Which of the jobs it is, counted from 0."""
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """For how long it has been running."""
        return time.monotonic() - self.began


class Watcher(Protocol):
    """What is told how the work goes."""

    def started(self, child: Child) -> None:
        """A process has been started."""

    def ended(self, child: Child, state: State) -> None:
        """A process has ended, and this is what has become of its trial."""

    def stopping(self, why: str) -> None:
        """No trial is started any more, and the processes are being stopped: by a signal, or as
        one of them has failed."""

    def tick(self, running: Sequence[Child], waiting: int) -> None:
        """Some time has passed."""


@dataclass(frozen=True)
class Here:
    """Starts the processes of trials on this machine, each with its share of it."""

    jobs: int
    """How many there are at a time."""
    program: Sequence[str] = PROGRAM
    """What the command of a trial begins with."""

    def __call__(self, task: Task, slot: int) -> "subprocess.Popen[bytes]":
        """Start the process of a trial."""
        return start(task, environment(slot, self.jobs), self.program)


@dataclass
class Jobs:
    """Works through trials, of one sweep or several, with so many processes at a time."""

    count: int
    fail_fast: bool
    watcher: Watcher
    launch: Launch
    running: list[Child] = field(default_factory=list)
    stopped_by: signal.Signals | None = None
    """The signal that stopped the work: SIGINT or SIGTERM."""
    halted: bool = False
    """Whether no further trial is started."""
    impatient: bool = False
    """Whether a second signal has come, after which the processes are killed."""
    _sent: int | None = None
    """What the processes were sent last on account of a signal."""

    def run(self, tasks: Sequence[Task]) -> dict[Task, State]:
        """Run trials to their end. Returns what became of each that was started.

        The first SIGINT or SIGTERM is passed on to the processes, which save their checkpoints.
        The second one kills them.
        """
        waiting = list(reversed(tasks))
        ended: dict[Task, State] = {}
        with self._signals():
            try:
                while self.running or (waiting and not self.halted):
                    while waiting and len(self.running) < self.count and not self.halted:
                        self._start(waiting.pop())
                    time.sleep(PAUSE)
                    self._pass_on()
                    for child in [one for one in self.running if one.process.poll() is not None]:
                        ended[child.task] = self._end(child)
                    self.watcher.tick(self.running, len(waiting))
            finally:  # only after an error of our own are there still any
                with suppress(RunError):  # the first error counts
                    self._leave()
        return ended

    def _start(self, task: Task) -> None:
        task.folder.mkdir(parents=True, exist_ok=True)
        slot = min(set(range(self.count)) - {child.slot for child in self.running})
        child = Child(task, self.launch(task, slot), slot)
        self.running.append(child)
        self.watcher.started(child)

    def _end(self, child: Child) -> State:
        """What has become of the trial of a process that has ended.

        A process that ends well without a finished run has left the trial to another process.
        """
        self.running.remove(child)
        code = child.process.poll() or 0
        state = child.task.state()
        if code < 0:
            name = signal.Signals(-code).name
            state = State("killed", state.run, f"the process was killed by {name}")
        elif code == 0 and not state.is_done:
            state = State("elsewhere", state.run)
        elif code not in (0, 130, 143) and state.status != "failed":
            state = State("failed", state.run, last_line(child.task.log) or f"exit code {code}")
        if code != 0:  # it may have had no time to do this itself
            child.task.sweep.update(child.task.trial)
        self.watcher.ended(child, state)
        if self.fail_fast and state.has_failed and not self.halted:
            self.halted = True
            self.watcher.stopping("--fail-fast")
            self._send(signal.SIGTERM)
        return state

    def _pass_on(self) -> None:
        """Pass a signal of this process on to those of the trials, and say so."""
        wanted = signal.SIGKILL if self.impatient else self.stopped_by
        if wanted is None or wanted == self._sent:
            return
        if self._sent is None and self.stopped_by is not None:
            self.watcher.stopping(HOW[self.stopped_by])
        self._sent = wanted
        self._send(wanted)

    def _leave(self) -> None:
        """Ask the processes to stop, and give those on workers some seconds to hear of it."""
        self._send(signal.SIGTERM)
        until = time.monotonic() + LAST
        while time.monotonic() < until and any(one.process.poll() is None for one in self.running):
            self._pass_on()
            time.sleep(PAUSE)

    def _send(self, number: int) -> None:
        for child in self.running:
            if child.process.poll() is None:
                child.process.send_signal(number)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Note SIGINT and SIGTERM inside the block, in place of ending this process.

        They are passed on between two looks at the processes, as that may take the network.
        """

        def note(number: int, _frame: FrameType | None) -> None:
            if self.stopped_by is None:
                self.stopped_by, self.halted = signal.Signals(number), True
            else:
                self.impatient = True

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as in the background of a shell script
                signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def start(
    task: Task, chosen: Mapping[str, str], program: Sequence[str] = PROGRAM
) -> "subprocess.Popen[bytes]":
    """Start the process of a trial, with additions to its environment.

    What it writes to stderr goes to the trial's log. Ctrl-C reaches it only where it is passed on.
    """
    with task.log.open("ab") as file:
        return subprocess.Popen(
            [*program, *arguments(task)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env=os.environ | chosen,
            start_new_session=True,
        )


def arguments(task: Task) -> list[str]:
    """What follows ``vaexp`` in the command that works on a trial, wherever it is run."""
    without = [] if task.figures else ["--no-figures"]
    return ["sweep", str(task.sweep.path), "--trial", str(task.trial.number), *without]


def command(task: Task) -> str:
    """That command as a line for a shell."""
    return shlex.join(["vaexp", *arguments(task)])


def environment(slot: int, jobs: int) -> dict[str, str]:
    """What a job's process has in its environment: its share of the cores, and a GPU of its own.

    What the user has chosen stays.
    """
    chosen = {}
    if "OMP_NUM_THREADS" not in os.environ:
        chosen["OMP_NUM_THREADS"] = str(max(1, cores() // jobs))
    return chosen | gpu_of(slot)


def gpu_of(slot: int) -> dict[str, str]:
    """What gives the process in a slot a GPU of its own, if there are any."""
    devices = gpus()
    return {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if devices else {}


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    found = (re.fullmatch(r"nvidia(\d+)", name) for name in os.listdir("/dev"))
    return [str(number) for number in range(sum(match is not None for match in found))]


def last_line(log: Path) -> str:
    """The last line of a log that says something, at most 300 characters of it."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
