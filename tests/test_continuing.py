"""Finished runs that are trained for longer."""

from pathlib import Path
from typing import Any

import pytest
from exact_runs import CONFIG

from vaexp.runs.folder import RunFolder


def test_a_finished_run_trained_on_equals_a_longer_one(
    invoke: Any, session_cli: Any, tmp_path: Path
) -> None:
    short = ["train", session_cli.cwd / "tiny.yaml", "name=x", "--runs-dir", tmp_path / "runs"]
    run = Path(invoke(*short, "train.epochs=2").stdout.strip())
    longer = Path(invoke(*short, "train.epochs=3").stdout.strip())
    done = invoke("train", "--resume", run, "train.epochs=3")
    assert (done.exit_code, done.stdout) == (0, f"{run}\n"), done.stderr
    for name in ("config.yaml", "metrics.json", "checkpoints/model.safetensors"):
        assert (run / name).read_bytes() == (longer / name).read_bytes(), name
    assert len(RunFolder.open(run).records()) == 3
    (part,) = RunFolder.open(run).environment()["history"]
    assert part["changed"] == {"train.epochs": [2, 3]}
    assert part["steps"] == 2
    assert invoke("evaluate", run, "--only", "rate").exit_code == 0
    for change in ("train.epochs=2", "model.beta=4", "train.batch_size=7"):
        done = invoke("train", "--resume", run, change)
        assert (done.exit_code, done.stdout) == (2, ""), change


def train(invoke: Any, settings: dict[str, Any], *arguments: Any) -> Path:
    """Train with settings of the section ``train``."""
    given = [f"train.{key}={value}" for key, value in settings.items()]
    done = invoke("train", *arguments, *given, "--quick")
    assert done.exit_code == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.parametrize(
    ("settings", "first", "then"),
    [
        (["model.covariance=diag", "model.init=random"], {"max_iter": 2}, {"max_iter": 5}),
        (["model.covariance=diag", "model.init=random"], {"restarts": 1}, {"restarts": 3}),
        (["model.covariance=diag", "model.init=random"], {"tolerance": 9.0}, {"tolerance": 1.0}),
    ],
)
def test_an_exact_model_trained_on_equals_a_longer_one(
    invoke: Any, tmp_path: Path, settings: list[str], first: dict[str, Any], then: dict[str, Any]
) -> None:
    (tmp_path / "exact.yaml").write_text(CONFIG)
    common = [tmp_path / "exact.yaml", *settings, "name=x", "--runs-dir", tmp_path / "runs"]
    run, longer = train(invoke, first, *common), train(invoke, then, *common)
    steps = len(RunFolder.open(run).records())
    assert train(invoke, then, "--resume", run) == run
    for name in ("config.yaml", "metrics.json", "checkpoints/model.safetensors"):
        assert (run / name).read_bytes() == (longer / name).read_bytes(), name
    assert len(RunFolder.open(run).records()) == len(RunFolder.open(longer).records()) > steps
    (key,) = first
    (part,) = RunFolder.open(run).environment()["history"]
    assert part["changed"] == {f"train.{key}": [first[key], then[key]]}
    done = invoke("train", "--resume", run, f"train.{key}={first[key]}")
    assert done.exit_code == 2
    assert "give a " in done.stderr


def test_restarts_that_are_not_kept_cannot_go_on(invoke: Any, exact: Any) -> None:
    for change in ("train.max_iter=900", "train.tolerance=1e-9"):
        done = invoke("train", "--resume", exact("diag").path, change)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "only the best of its 4 restarts is kept" in done.stderr


@pytest.mark.parametrize("kind", ["ppca", "fa"])
def test_a_turned_model_trained_on_has_the_likelihood_of_a_longer_one(
    invoke: Any, tmp_path: Path, kind: str
) -> None:
    """A linear model is turned to its axes where it stops, which moves the last bits."""
    (tmp_path / "exact.yaml").write_text(CONFIG)
    settings = [f"model.kind={kind}", "model.latent_dim=3", "name=x"]
    settings += ["model.noise_floor=0.01"] if kind == "fa" else []
    common = [tmp_path / "exact.yaml", *settings, "--runs-dir", tmp_path / "runs"]
    first, then = {"max_iter": 3, "tolerance": 0}, {"max_iter": 6, "tolerance": 0}
    run, longer = train(invoke, first, *common), train(invoke, then, *common)
    before = log_probs(run)
    assert train(invoke, {"max_iter": 6}, "--resume", run) == run
    assert log_probs(run)[:4] == before
    assert len(before) == 4
    assert log_probs(run) == pytest.approx(log_probs(longer), rel=1e-9)


def log_probs(run: Path) -> list[float]:
    """The mean ln p(x) of each iteration."""
    return [record["train"]["log_prob"] for record in RunFolder.open(run).records()]
