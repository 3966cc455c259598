"""What a person sees while a command works: a bar on a terminal, plain lines anywhere else.

Everything goes to stderr. What is said while a run folder is open also goes to its train.log.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Reporter:
    """Messages and progress on stderr, and in a log file once there is one."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._log: TextIO | None = None
        self._bar: tuple[Progress, TaskID] | None = None

    @contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Inside, everything said is also appended to ``path``."""
        with path.open("a", encoding="utf-8") as self._log:
            try:
                yield
            finally:
                self._log = None

    def say(self, message: str) -> None:
        """One line."""
        self.console.print(message, markup=False)
        self._write(message)

    def log(self, text: str) -> None:
        """Only to the log file, such as the traceback of a failed run."""
        self._write(text)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A spinner on a terminal, nothing elsewhere."""
        with self.console.status(what):
            yield

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0) -> Iterator[None]:
        """A progress bar over so many of a unit, of which ``done`` are over; nothing when piped."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(
                what, total=total, completed=done, numbers="", speed="", unit=unit
            )
            self._bar = progress, task
            try:
                yield
            finally:
                self._bar = None

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._bar:
            progress, task = self._bar
            progress.advance(task, count)
            now = progress.tasks[task]
            if now.speed:
                progress.update(task, speed=f"{now.speed:,.0f} {now.fields['unit']}/s")

    def step(self, title: str, numbers: str, speed: str) -> None:
        """An epoch or iteration: its numbers beside the bar, or as a line."""
        line = f"{title}  {numbers}  {speed}"
        if self._bar:
            progress, task = self._bar
            progress.update(task, description=title, numbers=numbers)
            self._write(line)
        else:
            self.say(line)

    def _write(self, text: str) -> None:
        if self._log:
            self._log.write(text.rstrip("\n") + "\n")
            self._log.flush()
