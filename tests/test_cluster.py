"""A sweep on a Dask cluster: what is refused, and that a lost worker costs no trial."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest
from conftest import Cli
from run_folders import assert_same_results
from typer.testing import CliRunner

from vaexp.cli import app
from vaexp.errors import UserError
from vaexp.runs.folder import RunFolder
from vaexp.sweeps.cluster import Share, connected

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
    for wrong in ("GPU", "GPU=one", "threads=0", "threads=1.5"):
        with pytest.raises(UserError, match="--resources"):
            Share.parse(wrong)


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
