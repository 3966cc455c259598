"""Checkpoints within an epoch: a run goes on from there, bit for bit, and they follow the clock."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_folders import assert_same_results
from test_sgd import (
    OPTIONS,
    RESUMABLE,
    N,
    noisy,
    problem,
    run,
    same,
    saved,
    timeless,
    vae,
    weights,
)

from vaexp.config import digest, load_config
from vaexp.errors import RunError
from vaexp.fitting import sgd
from vaexp.fitting.sgd import SGDOptions, fit
from vaexp.models import VAE
from vaexp.runs.folder import RunFolder


@pytest.mark.parametrize("name", RESUMABLE)
def test_resuming_within_an_epoch_is_bit_identical(name):
    label = problem()[1]
    validation = problem(7, 3)

    def steps(options: SGDOptions, model: VAE, state: dict[str, Any] | None = None) -> list[Any]:
        found = fit(model, noisy, label, validation, options, seed=1, state=state)
        return [(s.record and timeless(s.record), s.keep, saved(s.state)) for s in found]

    whole = vae(sigma_mode="pixel")
    uninterrupted = steps(RESUMABLE[name], whole)
    often = replace(RESUMABLE[name], checkpoint_minutes=1e-12)
    parts = steps(often, vae(sigma_mode="pixel"))
    inside = [state for record, _, state in parts if record is None]
    batches = [len(range(0, N, 4))] * len(uninterrupted)
    total = RESUMABLE[name].total_steps(N)
    assert len(parts) == total == min(total, sum(batches))  # one after each step
    assert [record for record, *_ in parts if record] == [record for record, *_ in uninterrupted]
    for state in inside:
        model = vae(seed=77, sigma_mode="pixel")
        resumed = [one for one in steps(RESUMABLE[name], model, state) if one[0]]
        rest = uninterrupted[len(uninterrupted) - len(resumed) :]
        assert len(rest) == len(uninterrupted) - state["epoch"]
        assert [one[:2] for one in resumed] == [one[:2] for one in rest]
        assert same(weights(model), weights(whole))


def test_checkpoints_within_an_epoch_are_made_by_the_clock(monkeypatch):
    """Each step takes 20 s of this clock, so one minute is over after every third."""
    clock = iter(range(0, 100_000, 20))
    monkeypatch.setattr(sgd.time, "monotonic", lambda: float(next(clock)))
    options = replace(OPTIONS, batch_size=1, epochs=1, checkpoint_minutes=1.0)
    steps = run(vae(), options)
    assert [s.state["step"] for s in steps if s.record is None] == [3, 6, 9]
    assert [s.state["step"] for s in steps if s.record] == [10]
    assert len(run(vae(), replace(options, checkpoint_minutes=None))) == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"batches": -1},
        {"batches": 1.0},
        {"count": True},
        {"sums": torch.zeros(5)},
        {"random": []},
        {"random": [torch.zeros(3, dtype=torch.uint8)]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_damaged_position_within_an_epoch_is_refused(damage):
    [state, *_] = [s.state for s in run(vae(), replace(OPTIONS, checkpoint_minutes=1e-12))]
    state = saved(state)
    state["inside"] |= damage
    with pytest.raises(RunError, match="does not fit"):
        run(vae(), state=state)


# Through the command line


def test_a_run_killed_within_an_epoch_goes_on_there(cli: Any, session_cli: Any) -> None:
    """The first epoch never ends before the kill, as a checkpoint is written after each step."""
    settings = ["name=fixed", "train.checkpoint_minutes=1e-9", "train.batch_size=2"]
    short = ["train.epochs=2", "--quick", "data.limit=256"]
    config = session_cli.cwd / "tiny.yaml"
    whole = cli.cwd / cli.ok("train", config, *settings, *short, "--runs-dir", "whole").strip()
    process = cli.start("train", config, *settings, *short, "--runs-dir", "parts")
    state = wait_for(cli.cwd / "parts", "*/checkpoints/state.pt")
    process.kill()
    process.communicate(timeout=60)
    found = RunFolder(state.parents[1])
    stopped = found.state()
    assert stopped is not None
    assert 0 < stopped["step"] < 128
    assert stopped["inside"]["batches"] == stopped["step"]
    assert found.records() == []
    heartbeat = json.loads((found.path / "checkpoints" / "heartbeat.json").read_text())
    assert heartbeat["pid"] == process.pid
    done = cli("train", "--resume", found.path, "--quick")
    assert done.returncode == 0, done.stderr
    assert f"resuming after epoch 0, step {stopped['step']}" in done.stderr
    assert_same_results(whole, found.path)
    assert "inside" not in (found.state() or {})
    assert not (found.path / "checkpoints" / "heartbeat.json").exists()


def wait_for(folder: Path, pattern: str) -> Path:
    import time

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.glob(pattern):
            return path
        time.sleep(0.002)
    raise AssertionError(f"no {pattern} within a minute")


def test_how_often_checkpoints_are_saved_is_no_part_of_what_a_run_is(write: Any) -> None:
    path = write("model: {kind: vae}")
    digests = {
        digest(load_config(str(path), [f"train.checkpoint_minutes={value}"]))
        for value in ("1", "0.5", "null", "10")
    }
    assert digests == {digest(load_config(str(path)))}
