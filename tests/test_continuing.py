"""Finished runs that are trained for longer."""

from pathlib import Path
from typing import Any

import pytest
from exact_runs import CONFIG

from vaexp.config import digest, load_config
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


GMM = "{model: {kind: gmm}, train: {max_iter: 2, tolerance: 0.5, restarts: 1}}"
VAE = "{model: {kind: vae}, train: {epochs: 3, patience: 2}}"


@pytest.mark.parametrize(
    ("config", "values", "stopped", "changes", "why"),
    [
        (GMM, [-9, -5, -4.75], "tolerance", ["max_iter=9"], "its last iteration added 0.25 nats"),
        (GMM, [-9, -5, -4.75], "tolerance", ["tolerance=0.3"], "train.tolerance is 0.3"),
        (GMM, [-9, -5, -4.75], "tolerance", ["tolerance=0.25"], "at train.max_iter = 2"),
        (GMM, [-9, -5.25], "tolerance", ["tolerance=0.25"], None),
        (GMM, [-9, -5, -4.75], "tolerance", ["tolerance=0.25", "max_iter=3"], None),
        (GMM, [-9, -5, -4.75], "tolerance", ["restarts=2"], None),
        (GMM, [-9, -5, -3], "max_iter", ["max_iter=3"], None),
        (GMM, [-9, -5, -3], "max_iter", ["tolerance=0.1"], "a larger number makes it longer"),
        (GMM, [-9], None, ["tolerance=0.1"], None),
        (GMM, [], None, ["tolerance=0.1"], None),
        (VAE, [-9, -5, -6], None, ["epochs=9"], None),
        (VAE, [-5, -5, -5], None, ["epochs=9"], "did not rise for train.patience = 2 epochs"),
    ],
)
def test_a_run_that_would_not_go_on_is_left_as_it_is(
    invoke: Any,
    tmp_path: Path,
    config: str,
    values: list[float],
    stopped: str | None,
    changes: list[str],
    why: str | None,
) -> None:
    (tmp_path / "x.yaml").write_text(config)
    settings = load_config(str(tmp_path / "x.yaml"), ["name=x"])
    run = RunFolder.create(tmp_path, settings)
    run.start()
    run.write_environment({"config_sha256": digest(settings), "data_sha256": "data"})
    for i, value in enumerate(values):
        if config == VAE:
            run.append_records([{"epoch": i + 1, "step": i + 1, "validation": {"elbo": value}}])
        else:
            last = stopped if i == len(values) - 1 else None
            record = {"iteration": i, "restart": 0, "train": {"log_prob": value}, "stopped": last}
            run.append_records([record])
    run.end("finished", 0)
    arguments = [f"train.{change}" for change in changes]
    done = invoke("train", "--resume", run.path, *arguments, "--dry-run")
    if why is None:
        assert done.exit_code == 0, done.stderr
    else:
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"would not go on with {' '.join(arguments)}" in done.stderr
        assert why in done.stderr


def log_probs(run: Path) -> list[float]:
    """The mean ln p(x) of each iteration."""
    return [record["train"]["log_prob"] for record in RunFolder.open(run).records()]
