"""Exact models from the command line: stopped, resumed, and collapsed."""

import errno
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_runs import CONFIG, PPCA, RUNS, Exact, Trained, train
from run_folders import assert_same_results, timeless
from typer.testing import CliRunner

from vaexp.cli import app
from vaexp.evaluation.exact import exact_measures
from vaexp.experiment import fit
from vaexp.fitting import FitStep
from vaexp.models import ppca
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder

# Stopped and resumed


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Press Ctrl-C after so many iterations."""
    with monkeypatch.context() as patch:

        def stop_after(count: int) -> None:
            left = [count]

            def advance(_self: Reporter, _count: int) -> None:
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt

            patch.setattr(Reporter, "advance", advance)

        stop_after.undo = patch.undo  # type: ignore[attr-defined]
        yield stop_after


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("diag", "second restart"),
        ("ppca", "end of a restart"),
        ("fa", "second restart"),
        ("tied", "start"),
        ("full", "end"),
    ],
)
def test_resumed_after_ctrl_c_is_as_if_never_stopped(
    exact: Exact, tmp_path: Path, stop_after: Any, invoke: Any, name: str, stops: str
) -> None:
    whole = exact(name)
    records = timeless(whole.path)
    ends = [i for i, record in enumerate(records, 1) if record["stopped"]]
    count = {
        "second restart": ends[0] + 2,
        "end of a restart": ends[0],
        "start": 1,
        "end": len(records),
    }[stops]
    stop_after(count)
    code, stopped = train(tmp_path, *RUNS[name], name=name)
    stop_after.undo()
    assert code == 130
    assert stopped.stdout == ""
    iteration = records[count - 1]["iteration"]
    assert f"stopped by Ctrl-C after {iteration} finished iterations" in stopped.stderr
    assert f"vaexp train --resume {stopped.path}" in stopped.stderr
    assert stopped.run.status() == "interrupted"
    assert timeless(stopped.path) == records[:count]  # nothing is lost

    done = invoke("train", "--resume", stopped.path)
    assert done.exit_code == 0, done.stderr
    assert f"resuming after iteration {iteration}" in done.stderr
    assert_same_results(whole.path, stopped.path)


def test_ctrl_c_while_a_step_is_written_leaves_each_record_once(
    exact: Exact, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exact("ppca")
    save, calls = RunFolder.save_state, []

    def interrupted(self: RunFolder, state: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", interrupted)
        patch.setattr(fit, "EM_WRITES_EVERY", 0.0)
        code, stopped = train(tmp_path, *RUNS["ppca"], name="ppca")
    assert code == 130
    found = timeless(stopped.path)
    assert found == timeless(whole.path)[: len(found)]
    done = invoke("train", "--resume", stopped.path)
    assert done.exit_code == 0, done.stderr
    assert_same_results(whole.path, stopped.path)


def test_killed_and_terminated_is_as_if_never_stopped(cli: Any, wait_for_epochs: Any) -> None:
    """Some thousand iterations of a few milliseconds each."""
    (cli.cwd / "exact.yaml").write_text(CONFIG)
    settings = ["model.kind=ppca", "model.latent_dim=40", "train.tolerance=0", "train.restarts=12"]
    whole = cli.cwd / cli.ok("train", "exact.yaml", *settings, "--runs-dir", "whole").strip()
    process = cli.start("train", "exact.yaml", *settings, "--runs-dir", "parts")
    run = wait_for_epochs(cli.cwd / "parts", 1)
    process.kill()
    process.communicate(timeout=60)
    assert RunFolder.open(run).status() == "dead"
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"iteration": 99, "tra')  # what a kill in the middle of a write leaves
    before = len(RunFolder.open(run).records())

    process = cli.start("train", "--resume", run)
    wait_for_epochs(cli.cwd / "parts", before + 2)  # one for the half line
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in err
    assert f"vaexp train --resume {run}" in err
    state = RunFolder.open(run).state()
    assert state is not None
    assert state["records"] == len(RunFolder.open(run).records()) > before
    assert f"after {state['at']} finished iterations" in err

    cli.ok("train", "--resume", run)
    assert_same_results(whole, run)


def test_at_most_a_second_is_lost_and_nothing_by_an_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: Exact
) -> None:
    run = RunFolder.create(tmp_path, exact("ppca").run.config())
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    seen = []

    def steps() -> Iterator[FitStep]:
        for i in range(60):
            state = {"model": {"w": torch.tensor(float(i))}}
            yield FitStep(i, {"iteration": i}, state, keep=i % 7 == 0)
            records, now = run.records(), run.state()
            assert now is not None
            assert now["records"] == len(records) == now["at"] + 1
            assert (i - now["at"]) * 0.125 < 1.0
            weights, at = run.weights()
            assert at == weights["w"] == now["at"] // 7 * 7
            seen.append(now["at"])
            clock[0] += 0.125
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fit.write_steps(run, steps(), lambda _: None, 1.0)
    assert sorted(set(seen)) == list(range(0, 60, 8))
    assert [record["iteration"] for record in run.records()] == list(range(60))
    state = run.state()
    assert state is not None
    assert (state["at"], state["records"]) == (59, 60)
    assert run.weights()[1] == 56


def test_damage_to_a_checkpoint_is_one_line(
    exact: Exact, copy_of: Any, invoke: Any, change_json: Any
) -> None:
    for name in ("diag", "ppca"):
        run = copy_of(exact(name).path)
        change_json(run / "run.json", status="interrupted")
        state = torch.load(run / "checkpoints" / "state.pt", weights_only=True)
        going_on = state | {"stopped": None, "restart": 0}
        without = {key: going_on[key] for key in going_on if key != "best"}
        fewer = going_on | {"model": dict(list(state["model"].items())[1:])}
        smaller = {key: value[..., :1] for key, value in state["model"].items() if value.ndim}
        smaller = going_on | {"model": state["model"] | smaller}
        for damaged in (without, fewer, smaller, {}):
            torch.save(damaged, run / "checkpoints" / "state.pt")
            done = invoke("train", "--resume", run)
            assert isinstance(done.exception, SystemExit), repr(done.exception)
            assert (done.exit_code, done.stdout) == (1, "")
            assert "checkpoints/state.pt does not fit config.yaml" in done.stderr
        (run / "checkpoints" / "state.pt").write_text("nonsense")
        done = invoke("train", "--resume", run)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "state.pt: damaged" in done.stderr
        (run / "checkpoints" / "model.safetensors").unlink()
        done = invoke("sample", run)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "model.safetensors: missing" in done.stderr


def test_a_run_whose_config_was_edited_is_not_resumed(
    exact: Exact, copy_of: Any, invoke: Any, change_json: Any
) -> None:
    run = copy_of(exact("diag").path)
    change_json(run / "run.json", status="interrupted")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("components: 3", "components: 4"))
    done = invoke("train", "--resume", run)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "config.yaml changed since the run started" in done.stderr
    done = invoke("sample", run)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "config.yaml changed since the run started" in done.stderr


# Collapse

# Of digit 1, some eight images to a component: some components end with a single one.
SINGULAR = ["model.covariance=spherical", "model.covariance_floor=0", "model.init=random"]
SINGULAR += ["model.components=8", "data.labels=[1]", "data.limit=60", "data.validation_size=0"]


def assert_collapsed(code: int, trained: Trained, *words: str) -> str:
    assert code == 1, trained.stderr
    assert trained.stdout == ""
    assert "Traceback" not in trained.stderr
    info = trained.run.info()
    assert (info["status"], info["exit_code"]) == ("failed", 1)
    assert info["error"] in trained.stderr
    assert f"{trained.path}: " in trained.stderr
    for word in ("collapsed", "smallest eigenvalue", "model.covariance_floor", *words):
        assert word in info["error"], word
    assert not (trained.path / "metrics.json").exists()
    return str(info["error"])


def test_a_collapse_leaves_the_last_good_parameters(tmp_path: Path, invoke: Any) -> None:
    """A component of three images loses two of them, one after another."""
    code, trained = train(tmp_path, *SINGULAR, "seed=21")
    records = trained.run.records()
    assert len(records) > 1
    error = assert_collapsed(code, trained, f"after iteration {len(records)}", "60 training images")
    assert f"iteration {len(records) - 1} is kept" in error
    match = re.search(r"component (\d+) collapsed", error)
    assert match is not None
    held = re.search(r"It holds (\d+\.\d) of 60", error)
    assert held is not None
    assert float(held[1]) == pytest.approx(1, abs=0.1)
    assert records[-1]["effective_count"][int(match[1])] == pytest.approx(2, abs=0.1)
    assert min(records[-1]["smallest_eigenvalue"]) > 1e-3

    figures = {path.name for path in (trained.path / "figures").iterdir()}
    assert figures == {"em.png", "singularities.png"}
    weights, at = trained.run.weights()
    assert at == len(records) - 1
    variances = weights["gaussians.variances"].tolist()
    assert variances == pytest.approx(records[-1]["smallest_eigenvalue"])
    drawn = invoke("sample", trained.path, "--decode", "sample", "--json")
    assert drawn.exit_code == 0, drawn.stderr
    with np.load(json.loads(drawn.stdout)["arrays"]) as arrays:
        assert np.isfinite(arrays["x"]).all()
    listed = json.loads(invoke("runs", trained.path.parent, "--json").stdout)
    assert (listed[0]["status"], listed[0]["error"]) == ("failed", error)


def test_a_collapse_without_figures_draws_none(tmp_path: Path) -> None:
    _, trained = train(tmp_path, *SINGULAR, "seed=21", "--no-figures")
    assert len(trained.run.records()) > 1
    assert list(trained.path.glob("figures/*")) == []


def test_a_collapse_is_told_even_if_it_cannot_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vaexp.experiment.fit.illustrate_history", fail)
    assert_collapsed(*train(tmp_path, *SINGULAR, "seed=21"))


def test_a_collapse_that_rounding_would_hide(tmp_path: Path) -> None:
    """One image is left, and its distance to itself is 1e-10 in float32: not a variance."""
    code, trained = train(tmp_path, *SINGULAR, "seed=1")
    assert_collapsed(code, trained, "after iteration", "It holds 1.0 of 60")
    assert min(trained.run.records()[-1]["effective_count"]) > 1.5


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("covariance", ["spherical", "diag", "lowrank", "full"])
def test_a_component_of_one_image_collapses(
    tmp_path: Path, covariance: str, precision: str
) -> None:
    """As many components as images."""
    settings = ["model.components=12", "data.limit=12", "data.validation_size=0"]
    settings += [f"model.covariance={covariance}", f"model.precision={precision}"]
    settings += ["model.covariance_floor=0", "data.transform=dequantize", "model.init=random"]
    code, trained = train(tmp_path, *settings)
    assert_collapsed(code, trained, "at its start, before any iteration", "It holds 1.0 of 12")


def test_a_collapse_in_a_later_restart_says_in_which(tmp_path: Path) -> None:
    """The first restart of this seed converges, a later one starts with a lone image."""
    settings = [*SINGULAR, "seed=26", "model.components=4", "data.limit=40", "train.restarts=60"]
    code, trained = train(tmp_path, *settings)
    records = trained.run.records()
    assert records[0]["restart"] == 0
    last = records[-1]["restart"] + (records[-1]["stopped"] is not None)
    assert last > 0
    error = assert_collapsed(code, trained)
    assert f"restart {last + 1}" in error


@pytest.mark.parametrize(
    ("floor", "precision"), [("1e-12", "float32"), ("1e-30", "float32"), ("1e-300", "float64")]
)
def test_a_floor_below_what_numbers_resolve_gives_no_wrong_ones(
    tmp_path: Path, floor: str, precision: str
) -> None:
    """Pixels that are always black have the floor as their variance: explained, or right."""
    settings = [f"model.covariance_floor={floor}", f"model.precision={precision}"]
    code, trained = train(tmp_path, "model.covariance=diag", "train.max_iter=3", *settings)
    if code == 0:
        x, _ = trained.images("train")
        log_prob = trained.log_prob(x).mean().item()
        found = trained.run.metrics()["train"]["log_prob"]["value"]
        assert found == pytest.approx(log_prob, rel=1e-3)
    else:
        assert_collapsed(code, trained)


def test_a_collapsed_run_collapses_again_when_resumed(tmp_path: Path, invoke: Any) -> None:
    code, trained = train(tmp_path, *SINGULAR, "seed=21")
    error, before = assert_collapsed(code, trained), timeless(trained.path)
    done = invoke("train", "--resume", trained.path)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert_collapsed(done.exit_code, Trained(trained.path, done.stdout, done.stderr))
    assert trained.run.info()["error"] == error
    assert timeless(trained.path) == before
    done = invoke("compare", trained.path, trained.path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "failed" in done.stderr


def test_a_digit_without_an_image_has_no_component(tmp_path: Path) -> None:
    """The first image of these two digits is a 5, which must not be drawn for --label 4."""
    settings = ["model.init=labels", "model.components=2", "train.max_iter=0"]
    (tmp_path / "x.yaml").write_text("model: {kind: gmm}\ndata: {labels: [4, 5], limit: 1}\n")
    arguments = ["train", str(tmp_path / "x.yaml"), *settings, "--runs-dir", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "data.limit" in done.stderr
    assert "training images is a 4;" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_more_components_than_images(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: {kind: gmm, components: 5}\ndata: {limit: 4}\n")
    done = CliRunner().invoke(
        app, ["train", str(tmp_path / "x.yaml"), "--runs-dir", str(tmp_path / "runs")]
    )
    assert (done.exit_code, done.stdout) == (2, "")
    assert "model.components" in done.stderr


def test_many_latents_need_no_matrix_for_every_image() -> None:
    """A (10,000, 700, 700) tensor would be 39 GB."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(10_000, 784, generator=generator)
    factors = 0.1 * torch.randn(784, 700, generator=generator, dtype=torch.float64)
    model = ppca.PPCA(torch.zeros(784).double(), factors, torch.tensor(0.5).double())
    measures = exact_measures(model, x)
    log_prob, elbo = measures["log_prob"].values, measures["elbo"].values
    torch.testing.assert_close(log_prob, elbo)
    assert model.encode(x).mean.shape == (10_000, 700)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["model.covariance=diag", "model.components=3"],
            ["in some direction they do not vary", "as where a pixel is the same in all"],
        ),
        (
            ["model.covariance=full", "model.components=2", "data.transform=dequantize"],
            ["fewer than 785 leave a full covariance of 784 pixels singular"],
        ),
        (
            ["model.covariance=tied", "data.transform=dequantize"],
            ["the covariance of all components collapsed", "It holds 300 training images"],
        ),
    ],
    ids=["constant pixels", "few images", "tied"],
)
def test_a_collapse_at_the_start(
    tmp_path: Path, invoke: Any, settings: list[str], words: list[str]
) -> None:
    code, trained = train(tmp_path, *settings, "model.covariance_floor=0")
    error = assert_collapsed(code, trained, *words)
    assert "at its start, before any iteration" in error
    assert "is kept" not in error
    assert trained.run.records() == []
    assert list((trained.path / "figures").iterdir()) == []
    done = invoke("sample", trained.path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "model.safetensors: missing" in done.stderr


def test_more_latents_than_the_images_span(tmp_path: Path) -> None:
    for method in ("em", "closed_form"):
        settings = [*PPCA, "model.latent_dim=300", f"model.method={method}"]
        code, trained = train(tmp_path, *settings, name=method)
        assert code == 1
        assert trained.stdout == ""
        assert "300 latents explain the training images entirely" in trained.stderr
        assert trained.run.status() == "failed"
