"""Running trials on the workers of a Dask cluster, which share a disk with this machine.

Each trial is a process of its own there, as on this machine, so that its signals, threads and
memory are its own. The trials of a worker that is lost are given to others, where they go on from
their last checkpoints. Imports ``distributed``, which only the extra ``cluster`` installs.
"""

import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client, Event, Future, LocalCluster

from vaexp.errors import UserError
from vaexp.sweeps.folder import Sweep, Task
from vaexp.sweeps.jobs import start

LOCAL = "local"
THREADS = "threads"
PAUSE = 1.0  # seconds between two looks at a process and at the signals for it
AGAIN = 5.0  # seconds until a trial is tried again that a process of a lost worker still has
PATIENCE = 10  # seconds for a scheduler to answer


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
            name, _, amount = part.partition("=")
            try:
                resources[name.strip()] = float(amount)
            except ValueError:
                raise UserError(f"--resources {part}: write NAME=NUMBER, as GPU=1") from None
        threads = resources.pop(THREADS, 1.0)
        if threads < 1 or threads != int(threads):
            raise UserError(f"--resources {THREADS}={threads:g}: give a whole number of threads")
        return cls(int(threads), resources)


@dataclass(frozen=True)
class Remote:
    """The process of a trial on a worker."""

    client: Client
    key: str
    future: "Future[int]"
    task: Task

    def poll(self) -> int | None:
        """The exit code of the process, or None while it runs or waits for a worker."""
        if not self.future.done():
            return None
        if self.future.status == "finished":
            return self.future.result()
        with self.task.log.open("a", encoding="utf-8") as file:
            file.write(f"the cluster could not run it: {self.future.exception()}\n")
        return 1

    def send_signal(self, number: int, /) -> None:
        """Leave word for its worker to stop it, by SIGTERM, or to kill it."""
        wanted = signal.SIGKILL if number == signal.SIGKILL else signal.SIGTERM
        _word(self.key, wanted, self.client).set()


@dataclass(frozen=True)
class OnCluster:
    """Starts the processes of trials on the workers of a cluster."""

    client: Client
    share: Share

    def __call__(self, task: Task, _slot: int) -> Remote:
        """Hand a trial to the cluster."""
        key = f"vaexp-{uuid.uuid4().hex}"
        arguments = (str(task.sweep.path.resolve()), task.trial.number, key, self.share.threads)
        resources = self.share.resources or None
        future = self.client.submit(work, *arguments, key=key, resources=resources)
        return Remote(self.client, key, future, task)


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
            yield OnCluster(client, share)
        return
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise UserError(f"--cluster {address}: no scheduler answers there: {error}") from None
    with client:
        yield OnCluster(client, share)


@contextmanager
def _unheard(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal inside the block, as do the processes that are started there."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def work(folder: str, number: int, key: str, threads: int) -> int:
    """Work on a trial in a process of this worker. Returns its exit code, -N after signal N.

    A process that a lost worker has left may still be at work on the trial; then this waits for it.
    """
    sweep = Sweep.open(Path(folder))
    task = Task(sweep, sweep.trial(number))
    while True:
        code = _once(task, key, threads)
        if code != 0 or task.state().status == "finished" or _word(key, signal.SIGTERM).is_set():
            return code
        time.sleep(AGAIN)


def _once(task: Task, key: str, threads: int) -> int:
    """Run the command of a trial, and pass on what its worker is asked to."""
    process = start(task, {"OMP_NUM_THREADS": str(threads)})
    left = [signal.SIGTERM, signal.SIGKILL]
    while True:
        try:
            return process.wait(PAUSE)
        except subprocess.TimeoutExpired:
            for number in [one for one in left if _word(key, one).is_set()]:
                left.remove(number)
                process.send_signal(number)


def _word(key: str, number: signal.Signals, client: Client | None = None) -> Event:
    """What is set when the process of a trial is to get a signal."""
    return Event(f"{key}-{number.name}", client=client)
