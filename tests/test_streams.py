"""The work outlives its display, and an answer that cannot be printed is one line."""

import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TINY

from vaexp.progress import Reporter
from vaexp.streams import Answer, Display

MODULE = f'"{sys.executable}" -m vaexp'


def shell(command: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a shell command, in which $VAEXP is the command."""
    names = os.environ | {"OMP_NUM_THREADS": "1"} | env
    return subprocess.run(
        ["bash", "-c", command.replace("$VAEXP", MODULE)],
        cwd=cwd,
        env=names,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def one_line(text: bytes) -> str:
    [line] = text.decode().splitlines()
    return line


@pytest.mark.parametrize("output", [">&-", "> /dev/full"])
def test_an_answer_that_cannot_be_printed_is_one_line(tmp_path: Path, output: str) -> None:
    for command in ("--help", "--version", "schema", "configs list", "train fa --dry-run"):
        done = shell(f"$VAEXP {command} {output}", tmp_path)
        assert done.returncode == 1, command
        assert "the answer cannot be written to stdout" in one_line(done.stderr)


@pytest.mark.parametrize("messages", ["2>&-", "2> /dev/full", "2> >(true)"])
def test_messages_that_nobody_reads_change_nothing(tmp_path: Path, messages: str) -> None:
    assert shell(f"$VAEXP validate nope {messages}", tmp_path).returncode == 2
    done = shell(f"$VAEXP schema {messages}", tmp_path)
    assert done.returncode == 0
    json.loads(done.stdout)


def test_a_run_takes_no_stream_that_was_closed_for_one_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = shell("$VAEXP train tiny.yaml train.epochs=1 --no-figures <&- 2>&-", tmp_path)
    assert done.returncode == 0
    run = tmp_path / done.stdout.decode().strip()
    assert "epoch 1/1" in (run / "train.log").read_text()
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_training_goes_on_when_the_reader_of_its_messages_goes(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = shell("$VAEXP train tiny.yaml train.epochs=20 --no-figures 2>&1 | head -1", tmp_path)
    assert done.stdout.startswith(b"run folder runs/")
    [run] = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert "epoch 20/20" in (run / "train.log").read_text()


def broken_pipe() -> io.BufferedWriter:
    read, write = os.pipe()
    os.close(read)
    return io.BufferedWriter(io.FileIO(write, "w"))


def test_a_display_falls_silent_and_an_answer_does_not() -> None:
    display = Display(broken_pipe(), encoding="utf-8", line_buffering=True)
    for _ in range(3):
        assert display.write("line\n") == 5
    display.close()
    answer = Answer(broken_pipe(), encoding="utf-8", line_buffering=True)
    with pytest.raises(BrokenPipeError):
        answer.write("line\n")
    answer.write("lost\n")
    answer.close()


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    reporter = Reporter()
    full = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115
    with reporter.logging_to(full):
        reporter.say("epoch 1")
        reporter.say("epoch 2")
    with suppress(OSError):
        full.close()


def test_no_bar_without_a_terminal_that_can_show_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, setting in {"FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, setting)
        reporter = Reporter()
        with reporter.bar("training", 10, "images"):
            reporter.step("epoch 1/1", "elbo 1", "9 images/s")
        assert capsys.readouterr().err == "epoch 1/1  elbo 1  9 images/s\n"


def test_a_path_is_printed_with_its_own_bytes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/not \xff utf-8"
    os.mkdir(folder)
    command = "cd $'not \\xff utf-8'; $VAEXP configs copy fa $'caf\\xe9.yaml'; $VAEXP validate *"
    done = shell(command, tmp_path, PYTHONIOENCODING="cp1252:strict")
    assert done.stdout == b"caf\xe9.yaml\ncaf\xe9.yaml: ok\n", done.stderr
