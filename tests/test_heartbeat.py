"""Whether a run on another host still runs: its heartbeat says so, and commands obey it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import HEARTBEAT, RunFiles
from vaexp.runs.heartbeat import FRESH, beating

OWNER = {"host": "another", "pid": 17, "pid_started": 3.5}


@pytest.fixture
def elsewhere_running(forge: Any, change_json: Any) -> Any:
    """A run that says of itself that it runs on another host, with a heartbeat of some age."""

    def make(age: float | None = 0.0, **changes: Any) -> Path:
        run: Path = forge("elsewhere")
        (run / "metrics.json").unlink()
        change_json(run / "run.json", status="running", end=None, exit_code=None, **OWNER)
        if age is not None:
            content = {"at": time.time() - age, **OWNER} | changes
            (run / HEARTBEAT).write_text(json.dumps(content))
        return run

    return make


@pytest.mark.parametrize(
    ("age", "changes", "status"),
    [
        (0, {}, "running"),
        (FRESH - 20, {}, "running"),
        (20 - FRESH, {}, "running"),  # the clock of the other host is ahead
        (FRESH + 1, {}, "dead"),
        (-FRESH - 20, {}, "dead"),
        (0, {"pid": 18}, "dead"),  # of a process before
        (0, {"pid_started": 3.0}, "dead"),
        (0, {"host": "a third"}, "dead"),
        (None, {}, "unknown"),  # of a version without heartbeats
        (0, {"at": "now"}, "damaged"),
    ],
)
def test_runs_says_whether_a_run_elsewhere_still_runs(
    elsewhere_running: Any, invoke: Any, age: float, changes: dict[str, Any], status: str
) -> None:
    run = elsewhere_running(age, **changes)
    [listed] = json.loads(invoke("runs", run.parent, "--json").stdout)
    assert listed["status"] == status


def test_a_run_elsewhere_that_ends_while_it_is_looked_at(
    elsewhere_running: Any, change_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = elsewhere_running()
    read = RunFiles.json

    def ended(files: RunFiles, name: str, kind: Any) -> Any:
        if name == HEARTBEAT:
            change_json(run / "run.json", status="finished")
            (run / HEARTBEAT).unlink()
        return read(files, name, kind)

    monkeypatch.setattr(RunFiles, "json", ended)
    assert RunFolder.open(run).status() == "finished"


def test_a_run_that_runs_elsewhere_is_neither_resumed_nor_removed(
    elsewhere_running: Any, invoke: Any
) -> None:
    run = elsewhere_running()
    done = invoke("train", "--resume", run)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"{run} is still running, as process 17 on another\n"
    done = invoke("runs", "rm", run, "--yes", "--runs-dir", run.parent)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "still running" in done.stderr


def test_a_run_that_died_elsewhere_is_resumed(
    exact: Any, copy_of: Any, change_json: Any, invoke: Any
) -> None:
    run = copy_of(exact("closed").path)
    change_json(run / "run.json", status="running", **OWNER)
    (run / HEARTBEAT).write_text(json.dumps({"at": time.time() - 2 * FRESH, **OWNER}))
    assert RunFolder(run).status() == "dead"
    done = invoke("train", "--resume", run, "--quick")
    assert done.exit_code == 0, done.stderr
    assert "note: it last ran" not in done.stderr
    assert RunFolder(run).status() == "finished"
    assert not (run / HEARTBEAT).exists()


def test_the_heartbeat_goes_on_while_nothing_else_is_written(forge: Any) -> None:
    run = RunFolder(forge("a"))
    run.start()
    info, seen = run.info(), set()
    with beating(run.files, info, every=0.01):
        deadline = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < deadline:
            heartbeat = json.loads((run.path / HEARTBEAT).read_text())
            assert {key: heartbeat[key] for key in OWNER} == {key: info[key] for key in OWNER}
            seen.add(heartbeat["at"])
            time.sleep(0.005)
    assert len(seen) == 3
    assert not (run.path / HEARTBEAT).exists()
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == []


def test_a_heartbeat_follows_no_link_and_stops_no_work(forge: Any, tmp_path: Path) -> None:
    run = RunFolder(forge("a"))
    run.start()
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (run.path / HEARTBEAT).symlink_to(outside)
    with beating(run.files, run.info(), every=0.01):
        time.sleep(0.05)
    assert outside.read_text() == "kept"
