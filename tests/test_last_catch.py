"""An error that no code foresaw: one line that names the run, whose log has the traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaexp.runs.folder import RunFolder

COMMANDS = {
    "vaexp.comparison.one.render_run": ["runs", "show"],
    "vaexp.runs.tidy.trim": ["runs", "trim"],
    "vaexp.comparison.render.render": ["compare", "OTHER"],
    "vaexp.comparison.page.page_of": ["report"],
    "vaexp.explore.page.explored": ["explore"],
    "vaexp.runs.export.columns_of": ["export", "csv"],
    "vaexp.experiment.sample.sample": ["sample"],
    "vaexp.experiment.encode.encode": ["encode"],
    "vaexp.experiment.evaluate.Experiment.prepare": ["evaluate"],
}
"""By the function that fails, a command that calls it."""


def fails(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def log_of(run: Path) -> str:
    log = run / "train.log"
    return log.read_text() if log.exists() else ""


@pytest.mark.parametrize("function", COMMANDS)
def test_every_command_names_its_run(
    forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch, elsewhere: Path, function: str
) -> None:
    run, other = forge("first"), forge("second", "model.beta=2")
    monkeypatch.setattr(function, fails(KeyError("x\x1b[31m\ny")))
    command, *rest = COMMANDS[function]
    places = [run if one == "OTHER" else one for one in rest]
    last = other if "OTHER" in rest else run
    done = invoke(command, *places, last)
    assert (done.exit_code, done.stdout) == (1, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"{run}: KeyError: 'x")
    assert "this is a fault of vaexp, please report it" in line
    assert line.endswith("(train.log has the traceback)")
    assert "Traceback" not in done.stderr
    assert "Traceback (most recent call last)" in log_of(run)
    assert "\x1b" not in log_of(run) + done.stderr
    assert log_of(other) == ""
    assert [*elsewhere.iterdir()] in ([], [elsewhere / "export"])


def test_what_is_no_fault_of_the_program_is_not_called_one(
    forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = forge("first")
    for error, said in (
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError("x"), "the memory does not suffice"),
    ):
        monkeypatch.setattr("vaexp.experiment.sample.sample", fails(error))
        done = invoke("sample", run)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"{run}: {said}")
        assert "the run is as it was (train.log has" in done.stderr
        assert "fault of vaexp" not in done.stderr


def test_a_log_that_cannot_be_written_is_said(
    forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, target = forge("first"), tmp_path / "target"
    target.write_text("theirs")
    (run / "train.log").symlink_to(target)
    monkeypatch.setattr("vaexp.comparison.one.render_run", fails(IndexError("x")))
    monkeypatch.setattr("vaexp.runs.guarded.RunFiles.check", lambda _self: None)
    done = invoke("runs", "show", run)
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("(PYTHONDEVMODE=1 shows the traceback)")
    assert target.read_text() == "theirs"


def test_a_run_that_breaks_the_reader_leaves_the_others(
    forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [forge(name, f"model.beta={i}") for i, name in enumerate(("one", "two", "bad"))]
    config = RunFolder.config

    def broken(self: RunFolder, *arguments: Any) -> Any:
        if "bad" in self.name:
            raise ZeroDivisionError("x")
        return config(self, *arguments)

    monkeypatch.setattr(RunFolder, "config", broken)
    done = invoke("compare", *runs)
    assert done.exit_code == 0, done.stderr
    assert f"left out: {runs[2]}: ZeroDivisionError: x; the other runs are not" in done.stderr
    assert "Traceback" in log_of(runs[2])
    listed = invoke("runs", runs[0].parent, "--json")
    assert listed.exit_code == 0
    assert '"status": "damaged"' in listed.stdout
    assert "ZeroDivisionError: x" in listed.stdout


def test_evaluate_says_that_what_was_measured_is_kept(
    forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = forge("first")
    monkeypatch.setattr("vaexp.experiment.evaluate.Experiment.prepare", fails(RuntimeError("z")))
    done = invoke("evaluate", run)
    assert f"{run}: RuntimeError: z; the groups that were measured before are kept" in done.stderr
