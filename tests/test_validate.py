"""``vaexp validate`` and ``train --dry-run`` refuse what training would refuse on this machine."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

COMMANDS = [["validate"], ["train", "--dry-run"]]
HUGE = "{kind: vae, hidden: [" + "16384, " * 31 + "16384]}"
MEMORY = "training this model takes at least 201.1 GB of memory, and only "


@pytest.fixture
def refused(tmp_path: Path, invoke: Any, elsewhere: Path) -> Any:
    """What a command says that refuses a config."""

    def refused(command: list[str], text: str) -> str:
        config = tmp_path / "mine.yaml"
        config.write_text(text)
        done = invoke(*command, config)
        assert done.exit_code in (1, 2), done.stdout
        assert done.stdout == ""
        assert list(elsewhere.iterdir()) == []
        return str(done.stderr)

    return refused


@pytest.mark.parametrize("command", COMMANDS)
def test_more_memory_than_there_is(refused: Any, command: list[str]) -> None:
    [line] = refused(command, f"model: {HUGE}").splitlines()
    assert MEMORY in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_gpu_that_is_not_there(
    refused: Any, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    [line] = refused(command, "model: {kind: vae}\ndevice: cuda").splitlines()
    assert line.endswith("device: cuda is asked for, but torch sees no GPU; use auto or cpu")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_package_that_is_not_installed(
    refused: Any, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    [line] = refused(command, "model: {kind: vae}\noutput: {tensorboard: true}").splitlines()
    assert "output.tensorboard needs the package tensorboard, which cannot be imported" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_data_without_a_place_for_them(
    refused: Any, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", staticmethod(no_home))
    [line] = refused(command, "model: {kind: ppca}\ndata: {name: kmnist}").splitlines()
    assert "data.root: the user has no home folder for the cache of data" in line


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_trial_of_a_sweep_that_is_too_large_is_named(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "mine.yaml").write_text("model: {kind: vae}")
    sweep = tmp_path / "sweep.yaml"
    large = HUGE.removeprefix("{kind: vae, hidden: ").removesuffix("}")
    sweep.write_text(f"config: {tmp_path}/mine.yaml\ngrid: {{model.hidden: [[8], {large}]}}\n")
    done = invoke("validate", sweep)
    assert done.exit_code == 2, done.output
    assert "sweep.yaml, trial 2 (" in done.stderr
    assert "of memory, and only" in done.stderr


def test_a_resumption_is_refused_as_well(
    forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = forge("x", "output.tensorboard=true")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = invoke("train", "--resume", run, "--dry-run")
    assert done.exit_code == 2, done.output
    assert "output.tensorboard needs the package" in done.stderr
