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
from vaexp.fitting.sgd import SGDOptions, fit, part_of
from vaexp.models import VAE
from vaexp.progress import Reporter
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
        {"batches": 0, "count": 0},
        {"batches": 1.0},
        {"batches": 2},
        {"batches": 3, "count": 12},  # all batches of an epoch
        {"count": True},
        {"count": 3},
        {"sums": torch.zeros(3)},
        {"sums": torch.zeros(5, dtype=torch.float64)},
        {"sums": 0.0},
        {"random": []},
        {"random": 3},
        {"random": [torch.zeros(3, dtype=torch.uint8)]},
        {"random": [1]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_damaged_position_within_an_epoch_is_refused(damage):
    state = state_within_an_epoch()
    state["inside"] |= damage
    with pytest.raises(RunError, match="does not fit"):
        run(vae(), state=state)


@pytest.mark.parametrize(
    "damage", [{"inside": None}, {"inside": [1]}, {"inside": {1: 2}}, {"step": 2}, {"epoch": 1}]
)
def test_a_damaged_state_within_an_epoch_is_refused(damage):
    with pytest.raises(RunError, match="does not fit"):
        run(vae(), state=state_within_an_epoch() | damage)


def state_within_an_epoch() -> dict[str, Any]:
    """After the first batch of the first epoch."""
    [state, *_] = [s.state for s in run(vae(), replace(OPTIONS, checkpoint_minutes=1e-12))]
    return saved(state)


def test_an_epoch_that_was_begun_on_a_gpu_is_ended_on_the_cpu():
    end = run(vae(), state=state_within_an_epoch())[-1]
    state = state_within_an_epoch()
    state["inside"]["random"].append(torch.zeros(16, dtype=torch.uint8))  # that of a GPU
    part = part_of(state, vae(), problem()[1], OPTIONS)
    assert part is not None
    assert not part.is_of(torch.device("cpu"))
    found = run(vae(), state=state)[-1]
    assert timeless(found.record) == timeless(end.record)
    assert found.record["step"] == OPTIONS.total_steps(N)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="it needs a GPU")
def test_an_epoch_goes_on_on_the_other_device():
    x, label = problem()

    def steps(device: str, options: SGDOptions, state: dict[str, Any] | None = None) -> list[Any]:
        images, model = x.to(device), vae().to(device)
        found = fit(
            model, lambda rows: images[rows], label.to(device), None, options, seed=1, state=state
        )
        return [(s.record and timeless(s.record), saved(s.state)) for s in found]

    often = replace(OPTIONS, checkpoint_minutes=1e-12)
    for here, there in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")):
        whole = steps(here, often)
        part = part_of(whole[0][1], vae().to(there), label.to(there), OPTIONS)
        assert part is not None
        assert part.is_of(torch.device(there)) == (here == there)
        records = [record for record, _ in steps(there, OPTIONS, whole[0][1])]
        assert [record["step"] for record in records] == [3, 6, 9]
        if here == there:
            assert records == [record for record, _ in whole if record]


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


def test_the_log_says_that_an_epoch_goes_on_on_another_device(
    invoke: Any, session_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(2))

    def advance(_self: Reporter, _images: int) -> None:
        if next(steps) == 1:  # after the checkpoint behind the first step
            raise KeyboardInterrupt

    settings = ["train.checkpoint_minutes=1e-9", "train.epochs=1", "data.limit=256"]
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "advance", advance)
        done = invoke("train", session_cli.cwd / "tiny.yaml", *settings, "--runs-dir", tmp_path)
    assert done.exit_code == 130, done.stderr
    [path] = tmp_path.glob("*/checkpoints/state.pt")
    state = torch.load(path, weights_only=True)
    state["inside"]["random"].append(torch.zeros(16, dtype=torch.uint8))  # that of a GPU
    torch.save(state, path)
    run = path.parents[1]
    done = invoke("train", "--resume", run, "--quick")
    assert done.exit_code == 0, done.stderr
    note = "note: this epoch was begun on another kind of device"
    assert note in done.stderr
    assert note in (run / "train.log").read_text()


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
