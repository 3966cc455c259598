"""``output.tensorboard: true``: the numbers of training in an event file of the run folder."""

from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaexp.runs.folder import RunFolder


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: for each title the steps and values."""
    found = EventAccumulator(str(run)).Reload()
    return {
        title: [(event.step, event.value) for event in found.Scalars(title)]
        for title in found.Tags()["scalars"]
    }


def test_tensorboard_shows_each_epoch_once_also_of_a_run_that_was_trained_on(
    invoke: Any, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    asked = ("train.epochs=2", "output.tensorboard=true", "--no-figures")
    done = invoke("train", tmp_path / "tiny.yaml", *asked, "--runs-dir", tmp_path)
    assert done.exit_code == 0, done.output
    path = Path(done.stdout.strip())
    done = invoke("train", "--resume", path, "train.epochs=3", "--no-figures")
    assert done.exit_code == 0, done.output
    run, shown = RunFolder(path), scalars(path)
    for title, split, name in [
        ("elbo/train", "train", "elbo"),
        ("rate/validation", "validation", "rate"),
    ]:
        expected = [(i, record[split][name]) for i, record in enumerate(run.records(), start=1)]
        assert shown[title] == [(i, pytest.approx(value)) for i, value in expected]
    test = run.metrics()["test"]["elbo"]["value"]
    assert shown["elbo/test"][-1] == (3, pytest.approx(test))
    assert [step for step, _ in shown["learning_rate"]] == [1, 2, 3]


def test_a_disk_that_takes_no_events_does_not_end_the_training(
    invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.flush", full)
    (tmp_path / "tiny.yaml").write_text(TINY)
    asked = ("train.epochs=2", "output.tensorboard=true", "--quick")
    done = invoke("train", tmp_path / "tiny.yaml", *asked, "--runs-dir", tmp_path)
    assert done.exit_code == 0, done.output
    assert len(RunFolder(Path(done.stdout.strip())).records()) == 2


def test_a_run_that_does_not_ask_for_it_has_no_event_file(fixed: Path) -> None:
    assert not list(fixed.glob("events.*"))


def test_without_its_package_it_is_one_line(without: Any, tmp_path: Path) -> None:
    done = without("tensorboard", "train", "quickstart", "output.tensorboard=true")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "output.tensorboard needs the package tensorboard, which cannot be imported (not here); "
        "pip install 'vaexp[tensorboard]' installs it\n"
    )
    assert not (tmp_path / "runs").exists()
