"""What a person sees of a sweep: a live table on a terminal, and a line per event everywhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vaexp.runs.listing import HEADLINE
from vaexp.shown import median_beside, show_entry
from vaexp.sweeps.folder import State, Task
from vaexp.sweeps.jobs import Child, last_line

EVERY = 0.5  # seconds between two looks at the logs of what is running


@dataclass
class Display:
    """Says on stderr how the work on the trials of a sweep goes. It is a ``Watcher``."""

    console: Console
    total: int
    """The number of trials that are worked on, including those that had finished before."""
    jobs: int
    several: bool = False
    """Whether the trials are of several sweeps, so that each is named with its sweep."""
    done: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)
    """How long each finished trial took."""
    _live: Live | None = None
    _shown: float = 0.0

    @contextmanager
    def shown(self) -> Iterator["Display"]:
        """Show the live table inside the block, if stderr is a terminal."""
        if not self.console.is_terminal:
            yield self
            return
        with Live(console=self.console, transient=True, refresh_per_second=2) as self._live:
            yield self
        self._live = None

    def say(self, message: str) -> None:
        """Show a line."""
        self.console.print(message, markup=False)

    def started(self, child: Child) -> None:
        """Say so, where no table shows it."""
        if self._live is None:
            self.say(f"{self._name(child.task)} started")

    def ended(self, child: Child, state: State) -> None:
        """Say how it ended; of a failure, the last line of its error and where to look."""
        name, took = self._name(child.task), duration(child.seconds)
        self._shown = 0.0  # so that the table is brought up to date at once
        match state.status:
            case "finished":
                self.done += 1
                self.seconds.append(child.seconds)
                self.say(f"{name} finished in {took}  {headline(state)}".rstrip())
            case "failed" | "killed" | "damaged":
                self.failed += 1
                self.say(f"{name} {state.status} after {took}: {state.error}")
                self.say(f"  see {child.task.folder}")
            case "interrupted":
                self.say(f"{name} stopped after {took}; its checkpoint is saved")
            case "elsewhere":
                self.say(f"{name} is with another process")
            case _:
                self.say(f"{name} stopped before its first checkpoint")

    def stopping(self, why: str) -> None:
        """Say that the processes are asked to stop."""
        self.say(f"{why}: stopping the trials that are running; their checkpoints are saved")

    def tick(self, running: Sequence[Child], waiting: int) -> None:
        """Bring the table up to date, now and then."""
        now = time.monotonic()
        if self._live is not None and now - self._shown >= EVERY:
            self._shown = now
            self._live.update(self._table(running, waiting))

    def _name(self, task: Task) -> str:
        sweep = f"{task.sweep.path.name}, " if self.several else ""
        return f"{sweep}trial {task.trial.number} ({task.trial.title})"

    def _table(self, running: Sequence[Child], waiting: int) -> RenderableType:
        counts = [
            f"{self.done} of {self.total} done",
            f"{len(running)} running",
            f"{self.failed} failed",
            f"{waiting} waiting",
        ]
        left = self.time_left([child.seconds for child in running], waiting)
        if left is not None:
            counts.append(f"about {duration(left)} left")
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for child in running:
            table.add_row(
                Text(f"  {self._name(child.task)}"),
                Text(duration(child.seconds)),
                Text(last_line(child.task.log), no_wrap=True, overflow="ellipsis"),
            )
        return Group(Text("  ".join(counts), style="bold"), table)

    def time_left(self, running: Sequence[float], waiting: int) -> float | None:
        """The seconds until all trials have ended, if they take as long as those before.

        ``running`` says for how many seconds each of the running ones has been at it.
        """
        if not self.seconds:
            return None
        usual = sum(self.seconds) / len(self.seconds)
        work = waiting * usual + sum(max(0.0, usual - seconds) for seconds in running)
        return work / self.jobs


def headline(state: State) -> str:
    """The test metrics that are shown beside a finished trial."""
    shown = {name: state.metrics[name] for name in HEADLINE if name in state.metrics}
    return "  ".join(f"{name} {show_entry(one, median_beside(one))}" for name, one in shown.items())


def duration(seconds: float) -> str:
    """Seconds as a text that is read at a glance."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
