"""What a person sees while a command works: a bar on a terminal, plain lines anywhere else.

Everything goes to stderr. What is said while a run folder is open also goes to its train.log.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

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
    def bar(self, what: str, images: int, done: int = 0) -> Iterator[None]:
        """A progress bar over ``images``, of which ``done`` are over; nothing when piped."""
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
            task = progress.add_task(what, total=images, completed=done, numbers="", speed="")
            self._bar = progress, task
            try:
                yield
            finally:
                self._bar = None

    def advance(self, images: int) -> None:
        """Move the bar."""
        if self._bar:
            progress, task = self._bar
            progress.advance(task, images)
            speed = progress.tasks[task].speed
            if speed:
                progress.update(task, speed=f"{speed:,.0f} images/s")

    def epoch(self, record: Mapping[str, Any], epochs: int) -> None:
        """The numbers of an epoch: beside the bar, or as a line."""
        split = "validation" if "validation" in record else "train"
        numbers = "  ".join(
            f"{name} {record[split][name]:,.2f}" for name in ("elbo", "rate", "distortion")
        )
        line = (
            f"epoch {record['epoch']}/{epochs}  {split} {numbers}  "
            f"{record['images_per_second']:,.0f} images/s"
        )
        if self._bar:
            progress, task = self._bar
            progress.update(
                task, description=f"epoch {record['epoch']}/{epochs}", numbers=f"{split} {numbers}"
            )
            self._write(line)
        else:
            self.say(line)

    def _write(self, text: str) -> None:
        if self._log:
            self._log.write(text.rstrip("\n") + "\n")
            self._log.flush()
