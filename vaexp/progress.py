"""Progress and messages of a command: a progress bar on a terminal, plain lines elsewhere.

Everything goes to stderr. While a run folder is open, messages are also written to its train.log,
with the local time before each of them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vaexp import signals
from vaexp.visible import visible, visible_lines


class Reporter:
    """Shows messages and progress on stderr, and writes messages to a log file if one is open."""

    def __init__(self) -> None:
        # FORCE_COLOR would make rich take a pipe for a terminal, and animate its bar there
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.console = Console(
            stderr=True, highlight=False, soft_wrap=True, force_terminal=terminal
        )
        self._log: TextIO | None = None
        self._bar: tuple[Progress, TaskID] | None = None

    @contextmanager
    def logging_to(self, log: TextIO) -> Iterator[None]:
        """Also write all messages to the open file ``log`` inside the block."""
        self._log = log
        try:
            yield
        finally:
            self._log = None

    def say(self, message: str) -> None:
        """Show and log a message of one line. What does not print in it is shown as its code."""
        message = visible(message)
        signals.check()
        self.console.print(message, markup=False)
        self._write(message)

    def log(self, text: str) -> None:
        """Write a text only to the log file."""
        self._write(text)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show a spinner on a terminal, and nothing elsewhere, inside the block."""
        with self.console.status(what):
            yield

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0) -> Iterator[None]:
        """Show a progress bar inside the block, but only on a terminal.

        It runs from ``done`` to ``total`` of a unit, such as images.
        """
        if not self.console.is_interactive:  # as in a pipe, or on a dumb terminal
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
        """Move the bar by ``count`` units, if there is a bar."""
        signals.check()
        if self._bar:
            progress, task = self._bar
            progress.advance(task, count)
            now = progress.tasks[task]
            if now.speed:
                progress.update(task, speed=f"{now.speed:,.0f} {now.fields['unit']}/s")

    def step(self, title: str, numbers: str, speed: str) -> None:
        """Show the numbers of an epoch or iteration beside the bar, or else as a line."""
        signals.check()
        line = f"{title}  {numbers}  {speed}"
        if self._bar:
            progress, task = self._bar
            progress.update(task, description=title, numbers=numbers)
            self._write(line)
        else:
            self.say(line)

    def _write(self, text: str) -> None:
        if self._log:
            # on a full disk the files of the run decide whether the work can go on, not its log
            with suppress(OSError):
                write_log(self._log, text)


def write_log(log: TextIO, text: str) -> None:
    """Write a text, with the local time before it, at the end of a log that is open."""
    when = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    log.write(f"{when}  {visible_lines(text.rstrip())}\n")
    log.flush()
