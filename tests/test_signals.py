"""Ctrl-C, SIGTERM and a terminal that goes away: what they end, and what they do not."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vaexp import signals
from vaexp.errors import RunError, Terminated


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.25, 0.3, 0.4, 1.0])
@pytest.mark.parametrize("presses", [1, 20])
def test_ctrl_c_early_and_often_is_one_line(tmp_path: Path, delay: float, presses: int) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "vaexp", "train", "fa", "data.limit=500"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(delay)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> signals._Stops:
    stops = signals._Stops()
    monkeypatch.setattr(signals, "_stops", stops)
    return stops


def test_a_stop_raises_once_and_not_while_the_work_ends(stops: signals._Stops) -> None:
    with pytest.raises(KeyboardInterrupt):
        stops.ask(KeyboardInterrupt)
    stops.ask(KeyboardInterrupt)  # the key is held down
    stops.raised -= signals.AGAIN
    with pytest.raises(Terminated):
        stops.ask(Terminated)  # something has swallowed the first
    signals.ending()
    stops.raised -= signals.AGAIN
    stops.ask(KeyboardInterrupt)


def test_a_stop_that_a_library_swallows_is_not_lost(stops: signals._Stops) -> None:
    signals.check()
    error = ImportError("initialization failed")
    assert signals.cause(error) is error
    with pytest.raises(KeyboardInterrupt):
        stops.ask(KeyboardInterrupt)
    assert isinstance(signals.cause(error), KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        signals.check()
    signals.ending()
    signals.check()


def test_the_work_goes_on_without_its_terminal() -> None:
    said: list[str] = []
    with signals.stoppable(lambda: said.append("gone")):
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["gone"]


def test_training_outlives_its_terminal(cli: Any, fixed: Path, wait_for_epochs: Any) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vaexp", "train", fixed, "--no-figures"],
        cwd=cli.cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    run = cli.cwd / wait_for_epochs(cli.cwd / "runs", 2)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert f"training goes on as process {process.pid}" in (run / "train.log").read_text()


def test_whatever_leaks_from_training_is_one_line(
    invoke: Any, fixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: BaseException) -> Any:
        def raising(*_arguments: Any, **_options: Any) -> None:
            raise error

        return raising

    import vaexp.experiment.train as training

    for error, shown in [
        (RuntimeError("shape\nand more"), "RuntimeError: shape; vaexp train --resume"),
        (MemoryError(), "the memory does not suffice; a smaller model"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you"), "suffi"),
        (OSError(28, "No space left on device", "x.pt"), "x.pt: No space left on device; vaexp"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError: 'utf-8' codec"),
        (RunError("diverged"), "diverged"),
    ]:
        monkeypatch.setattr(training, "fit", fail(error))
        done = invoke("train", fixed, "--runs-dir", tmp_path / "runs")
        assert done.exit_code == 1
        last = done.stderr.splitlines()[-1]
        [run] = (tmp_path / "runs").iterdir()
        assert last.startswith(f"{run}: ")
        assert shown in last
        assert "Traceback" not in done.stderr
        foreseen = isinstance(error, RunError)
        assert ("Traceback" in (run / "train.log").read_text()) != foreseen
        info = json.loads((run / "run.json").read_text())
        assert (info["status"], info["exit_code"]) == ("failed", 1)
        assert not (run / "checkpoints" / ".reserve.tmp").exists()
        run.rename(tmp_path / f"{run.name}-done")


def test_a_stop_on_a_full_disk_is_a_stop(
    invoke: Any, fixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then neither run.json nor the checkpoint can be had; the exit code stays that of Ctrl-C."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device", "run.json")

    monkeypatch.setattr("vaexp.experiment.train.fit", stop)
    monkeypatch.setattr("vaexp.runs.folder.RunFolder.end", fail)
    monkeypatch.setattr("vaexp.runs.folder.RunFolder.state", fail)
    done = invoke("train", fixed, "--runs-dir", tmp_path)
    assert done.exit_code == 130
    assert "stopped by Ctrl-C; to continue the run:" in done.stderr
