"""A sweep on a Dask cluster: what is refused, and that a lost worker costs no trial."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from logging.handlers import BufferingHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import distributed
import psutil
import pytest
from conftest import Cli
from run_folders import assert_same_results
from test_sweep import Recorder
from typer.testing import CliRunner

from vaexp.cli import app
from vaexp.errors import RunError, UserError
from vaexp.runs.folder import RunFolder
from vaexp.sweeps import cluster
from vaexp.sweeps.cluster import OnCluster, Remote, Share, connected
from vaexp.sweeps.folder import Sweep, Task
from vaexp.sweeps.jobs import Jobs

CONFIG = """\
model: {kind: vae, hidden: [8]}
data: {limit: 256, validation_size: 500, labels: [4, 9]}
train: {epochs: 40, batch_size: 64}
evaluate: {importance_samples: 0}
"""
ASK = ["sweep", "tiny.yaml", "--grid", "model.beta=1,4"]


@pytest.fixture
def tiny(elsewhere: Path) -> Path:
    (elsewhere / "tiny.yaml").write_text(CONFIG)
    return elsewhere


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_what_a_trial_takes_is_read() -> None:
    assert Share.parse("") == Share(1, {})
    assert Share.parse("threads=4, GPU=1,memory=2e9") == Share(4, {"GPU": 1.0, "memory": 2e9})
    wrong = ["GPU", "GPU=one", "GPU=-1", "GPU=0", "GPU=nan", "GPU=inf", "=1", " =1", "GPU="]
    wrong += [f"threads={number}" for number in ("0", "1.5", "-1", "nan", "inf", "1e999")]
    for text in wrong:
        with pytest.raises(UserError, match=r"^--resources [^\n]+$"):
            Share.parse(text)


def test_a_cluster_needs_its_package(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "vaexp.sweeps.cluster")
    done = invoke(*ASK, "--cluster", "local")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pip install 'vaexp[cluster]'" in done.stderr
    assert not (tiny / "sweeps").exists()


def test_resources_belong_to_a_cluster(tiny: Path) -> None:
    done = invoke(*ASK, "--resources", "GPU=1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "add --cluster" in done.stderr
    assert not (tiny / "sweeps").exists()


def test_no_scheduler_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaexp.sweeps.cluster.PATIENCE", 0.5)
    with (
        pytest.raises(UserError, match="no scheduler answers there"),
        connected("tcp://127.0.0.1:9", 1, Share()),
    ):
        pass


# With workers, if any, that are threads of this process, and a short script in the place of vaexp


@pytest.fixture
def tasks(tiny: Path) -> list[Task]:
    """Two trials that have not begun."""
    assert invoke(*ASK, "--folder", "s", "--print-commands").exit_code == 0
    sweep = Sweep.open(tiny / "s")
    return [Task(sweep, trial) for trial in sweep.trials]


@pytest.fixture
def dask(request: pytest.FixtureRequest) -> Iterator[distributed.LocalCluster]:
    """A cluster with so many workers as the test asks for by a parameter."""
    with distributed.LocalCluster(
        n_workers=request.param, threads_per_worker=1, processes=False, dashboard_address=None
    ) as made:
        yield made


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> "list[subprocess.Popen[bytes]]":
    """Of the trials, which take a minute unless they are asked to stop."""
    started: list[subprocess.Popen[bytes]] = []

    def start(_task: Task, _chosen: Any) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[-1]

    monkeypatch.setattr(cluster, "start", start)
    monkeypatch.setattr(cluster, "PAUSE", 0.05)
    return started


def stopped_when(ready: Any) -> threading.Thread:
    """Press Ctrl-C as soon as something is so."""

    def press() -> None:
        while not ready():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("dask", [0, 1], indirect=True)
def test_ctrl_c_stops_a_sweep_whose_trials_wait_for_a_worker(
    dask: Any, tasks: list[Task], processes: Any
) -> None:
    recorder, workers = Recorder(), len(dask.workers)
    with distributed.Client(dask) as client:
        worker = Jobs(2, False, recorder, OnCluster(client, Share()))
        thread = stopped_when(
            lambda: len(processes) == workers and len(recorder.events) == len(tasks)
        )
        began = time.monotonic()
        ended = worker.run(tasks)
        assert time.monotonic() - began < 20
        thread.join()
    assert len(processes) == workers
    assert [process.wait(10) for process in processes] == [-signal.SIGTERM] * workers
    statuses = [state.status for state in ended.values()]
    assert sorted(statuses) == ["killed"] * workers + ["waiting"] * (2 - workers)
    assert not any(task.log.exists() for task in tasks)


@pytest.mark.parametrize("dask", [0], indirect=True)
def test_a_scheduler_that_is_lost_is_said_in_a_line(
    dask: Any, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    logged = BufferingHandler(1000)
    with connected(dask.scheduler_address, 1, Share()) as launch:
        for name in ("distributed", "distributed.client"):
            monkeypatch.setattr(logging.getLogger(name), "handlers", [logged])
        remote = launch(tasks[0], 0)
        waiting = Jobs(1, False, Recorder(), lambda *_: remote)
        assert remote.poll() is None
        dask.close()
        until = time.monotonic() + 10  # as the client hears of it in a thread of its own
        while not remote.future.done() and time.monotonic() < until:
            time.sleep(0.01)
        for fails in (
            remote.poll,
            lambda: remote.send_signal(signal.SIGTERM),
            lambda: waiting.run(tasks),
        ):
            with pytest.raises(RunError, match="the scheduler of the cluster has gone"):
                fails()
        while launch.client.status != "closed":
            time.sleep(0.01)
        with pytest.raises(RunError, match="the scheduler of the cluster has gone"):
            launch(tasks[0], 0)
        assert not tasks[0].log.exists()
    assert [record.getMessage() for record in logged.buffer] == []


def test_a_worker_without_its_scheduler_stops_the_process(
    tasks: list[Task], processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(cluster, "_word", lost)
    with pytest.raises(ConnectionResetError):
        cluster._once(tasks[0], "key", {})
    assert [process.wait(10) for process in processes] == [-signal.SIGTERM]


def test_the_end_of_a_trial_is_asked_for_once(tasks: list[Task]) -> None:
    answers = iter([3])
    future = SimpleNamespace(done=lambda: True, status="finished", result=lambda: next(answers))
    remote = Remote(None, "key", future, tasks[0])  # type: ignore[arg-type]
    assert [remote.poll(), remote.poll()] == [3, 3]
    failed = SimpleNamespace(done=lambda: True, status="error", exception=lambda: "why")
    remote = Remote(None, "key", failed, tasks[0])  # type: ignore[arg-type]
    tasks[0].folder.mkdir(parents=True)
    assert [remote.poll(), remote.poll()] == [1, 1]
    assert tasks[0].log.read_text() == "the cluster could not run it: why\n"


@pytest.mark.parametrize(("here", "gpus"), [(True, ["3", "5", "3"]), (False, [None] * 3)])
def test_trials_on_workers_of_this_machine_have_a_gpu_each(
    tasks: list[Task], monkeypatch: pytest.MonkeyPatch, here: bool, gpus: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    handed: list[dict[str, str]] = []
    client: Any = SimpleNamespace(submit=lambda *arguments, **_: handed.append(arguments[-1]))
    launch = OnCluster(client, Share(threads=2), here)
    for slot in range(3):
        launch(tasks[0], slot)
    assert [chosen.get("CUDA_VISIBLE_DEVICES") for chosen in handed] == gpus
    assert {chosen["OMP_NUM_THREADS"] for chosen in handed} == {"2"}


# With processes as workers


@pytest.mark.slow
def test_a_lost_worker_costs_no_trial_and_no_number(
    tiny: Path, cli: Cli, wait_for_epochs: Any
) -> None:
    """Its worker is killed while a trial is at work; another one ends it, or waits for its end."""
    (cli.cwd / "tiny.yaml").write_text(CONFIG)
    cli.ok(*ASK, "--folder", "alone", "--seeds", "2", "-j", "2")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as dask,
        distributed.Client(dask) as client,
    ):
        pids = client.run(os.getpid)

        def kill() -> None:
            wait_for_epochs(tiny / "s/trials/001-beta-1-seed-1", 3)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        address = dask.scheduler_address
        done = invoke(*ASK, "--seeds", 2, "--folder", "s", "-j", 2, "--cluster", address)
        killer.join()
        assert done.exit_code == 0, done.stderr
        assert set(client.run(os.getpid).values()) != set(pids.values())
    assert "4 trials: 4 finished" in done.stderr
    mine, others = (
        sorted(path.parent for path in folder.glob("trials/*/*/run.json"))
        for folder in (tiny / "s", cli.cwd / "alone")
    )
    assert len(mine) == 4
    for run, alone in zip(mine, others, strict=True):
        assert_same_results(run, alone)


@pytest.mark.slow
def test_ctrl_c_stops_the_trials_on_local_workers(cli: Cli, wait_for_epochs: Any) -> None:
    (cli.cwd / "tiny.yaml").write_text(CONFIG.replace("epochs: 40", "epochs: 3000"))
    process = cli.start(*ASK, "--cluster", "local", "-j", "2", "--folder", "s")
    trials = [cli.cwd / "s/trials" / name for name in ("001-beta-1", "002-beta-4")]
    runs = [wait_for_epochs(trial, 1) for trial in trials]
    group = os.getpgid(process.pid)
    for child in psutil.Process(process.pid).children(recursive=True):
        if os.getpgid(child.pid) == group:  # a terminal sends it to all of them
            child.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.count("its checkpoint is saved") == 2
    assert [RunFolder.open(run).status() for run in runs] == ["interrupted"] * 2
