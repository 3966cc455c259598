"""Running trials on the workers of a Dask cluster, which share a disk with this machine.

Each trial is a process of its own there, as on this machine, so that its signals, threads and
memory are its own. The trials of a worker that is lost are given to others, where they go on from
their last checkpoints. Imports ``distributed``, which only the extra ``cluster`` installs.
"""

import logging
import math
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client, Event, Future, LocalCluster
from distributed.client import ClosedClientError

from vaexp.errors import RunError, UserError
from vaexp.sweeps.folder import Sweep, Task
from vaexp.sweeps.jobs import gpu_of, start

LOCAL = "local"
THREADS = "threads"
PAUSE = 1.0  # seconds between two looks at a process and at the signals for it
AGAIN = 5.0  # seconds until a trial is tried again that a process of a lost worker still has
PATIENCE = 10  # seconds for a scheduler to answer
BEGUN = "begun"
STOPPED = 128 + signal.SIGTERM  # the exit code of a process that ended properly at SIGTERM


@dataclass(frozen=True)
class Share:
    """What each trial takes of a worker."""

    threads: int = 1
    """The threads that its process computes with."""
    resources: dict[str, float] = field(default_factory=dict)
    """What it takes of the resources that the workers were started with."""

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``threads=2,GPU=1``. Raises UserError if it is written otherwise."""
        resources: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            name, _, amount = (word.strip() for word in part.partition("="))
            try:
                number = float(amount)
            except ValueError:
                number = math.nan
            if not name or not 0 < number < math.inf:
                raise UserError(f"--resources {part}: write NAME=NUMBER above 0, as GPU=1")
            resources[name] = number
        threads = resources.pop(THREADS, 1.0)
        if threads != int(threads):
            raise UserError(f"--resources {THREADS}={threads:g}: give a whole number of threads")
        return cls(int(threads), resources)


@dataclass
class Remote:
    """The process of a trial on a worker."""

    client: Client
    key: str
    future: "Future[int]"
    task: Task
    code: int | None = None
    """Its exit code, once it is known."""

    def poll(self) -> int | None:
        """The exit code of the process, or None while it runs or waits for a worker.

        Raises RunError if the scheduler has gone.
        """
        if self.code is None and self.future.done():
            self.code = self._code()
        return self.code

    def _code(self) -> int:
        """The exit code of a process that has ended."""
        with _reached():
            if self.future.status != "error":
                return self.future.result()
        with self.task.log.open("a", encoding="utf-8") as file:
            file.write(f"the cluster could not run it: {self.future.exception()}\n")
        return 1

    def send_signal(self, number: int, /) -> None:
        """Leave word for its worker to stop it, by SIGTERM, or to kill it.

        A trial that no worker has begun is taken back. Raises RunError if the scheduler has gone.
        """
        wanted = signal.SIGKILL if number == signal.SIGKILL else signal.SIGTERM
        with _reached():
            _word(self.key, wanted.name, self.client).set()
            # A worker that begins it now finds the word, and starts no process.
            if self.poll() is None and not self._is_at_work():
                self.future.cancel()
                self.code = STOPPED

    def _is_at_work(self) -> bool:
        """Whether a worker that is still there has begun the trial."""
        with_workers = self.client.processing().values()
        has_begun = _word(self.key, BEGUN, self.client).is_set()
        return has_begun and any(self.key in keys for keys in with_workers)


@dataclass(frozen=True)
class OnCluster:
    """Starts the processes of trials on the workers of a cluster."""

    client: Client
    share: Share
    here: bool = False
    """Whether all workers are on this machine, so that each trial can have a GPU of its own."""

    def __call__(self, task: Task, slot: int) -> Remote:
        """Hand a trial to the cluster. Raises RunError if the scheduler has gone."""
        key = f"vaexp-{uuid.uuid4().hex}"
        chosen = {"OMP_NUM_THREADS": str(self.share.threads)} | (gpu_of(slot) if self.here else {})
        of_task = (str(task.sweep.path.resolve()), task.trial.number, task.figures)
        with _reached():
            future = self.client.submit(
                work, *of_task, key, chosen, key=key, resources=self.share.resources or None
            )
        return Remote(self.client, key, future, task)


@contextmanager
def _reached() -> Iterator[None]:
    """Raise RunError where the scheduler is not reached inside the block.

    A client that has lost it says so by one of these errors, or has none to ask (AttributeError).
    """
    try:
        yield
    except (OSError, CancelledError, ClosedClientError, AttributeError):
        raise RunError(
            "the scheduler of the cluster has gone; start it again, and the same command goes on "
            "with the trials from their last checkpoints"
        ) from None


@contextmanager
def connected(address: str, jobs: int, share: Share) -> Iterator[OnCluster]:
    """A launcher for the cluster with this scheduler, or for ``local`` workers, one for each job.

    Raises UserError if no scheduler answers at the address.
    """
    if address == LOCAL:
        with _unheard(signal.SIGINT):  # Ctrl-C goes to this process, which passes it on
            cluster = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                dashboard_address=None,
                resources=share.resources,
            )
        with cluster, Client(cluster) as client:
            yield OnCluster(client, share, here=True)
        return
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise UserError(f"--cluster {address}: no scheduler answers there: {error}") from None
    with _silent(), client:
        yield OnCluster(client, share)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep distributed from logging tracebacks inside the block, whose errors are one line."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _unheard(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal inside the block, as do the processes that are started there."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def work(folder: str, number: int, figures: bool, key: str, chosen: Mapping[str, str]) -> int:
    """Work on a trial in a process of this worker. Returns its exit code, -N after signal N.

    ``chosen`` are additions to its environment. A process that a lost worker has left may still be
    at work on the trial; then this waits for it.
    """
    sweep = Sweep.open(Path(folder))
    task = Task(sweep, sweep.trial(number), figures)
    _word(key, BEGUN).set()
    while not _word(key, signal.SIGTERM.name).is_set():
        code = _once(task, key, chosen)
        if code != 0 or task.state().is_done:
            return code
        time.sleep(AGAIN)
    return STOPPED


def _once(task: Task, key: str, chosen: Mapping[str, str]) -> int:
    """Run the command of a trial, and pass on what its worker is asked to.

    The process is asked to stop if this ends by an error, as it does without the scheduler.
    """
    process = start(task, chosen)
    left = [signal.SIGTERM, signal.SIGKILL]
    try:
        while True:
            try:
                return process.wait(PAUSE)
            except subprocess.TimeoutExpired:
                for number in [one for one in left if _word(key, one.name).is_set()]:
                    left.remove(number)
                    process.send_signal(number)
    except BaseException:
        process.terminate()
        raise


def _word(key: str, what: str, client: Client | None = None) -> Event:
    """What is set when a worker has begun a trial, or when its process is to get a signal."""
    return Event(f"{key}-{what}", client=client)
