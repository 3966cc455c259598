"""Mixtures and probabilistic PCA from the command line: the numbers, resuming, collapse, drawing.

Each run is made once per session, by its name in RUNS: change only copies of them.
"""

import csv
import io
import json
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)
from typer.testing import CliRunner

from vaexp import models
from vaexp.cli import app
from vaexp.data import Transform, load
from vaexp.evaluation.exact import exact_measures
from vaexp.experiment import train as experiment
from vaexp.fitting import FitStep
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder

CONFIG = """\
model: {kind: gmm, components: 3, covariance_floor: 0.01}
data: {limit: 300, validation_size: 500, labels: [4, 9]}
"""
PPCA = ["model.kind=ppca", "model.latent_dim=3"]
VAE = ["model.kind=vae", "model.conditional=false", "model.sigma_mode=global", "model.sigma=0.3"]
VAE += ["train.batch_size=32", "evaluate.importance_samples=5"]
RUNS = {
    "full": ["model.covariance=full", "model.precision=float64"],
    "tied": ["model.covariance=tied", "model.init=kmeans++"],
    "diag": ["model.covariance=diag", "model.init=random", "train.restarts=4"],
    "spherical": ["model.covariance=spherical", "train.max_iter=1"],
    "lowrank": ["model.covariance=lowrank", "model.factors=4", "data.transform=dequantize"],
    "labels": ["model.init=labels", "model.components=2", "train.max_iter=0"],
    "ppca": [*PPCA, "train.tolerance=1e-12", "train.restarts=2"],
    "closed": [*PPCA, "model.method=closed_form"],
    "linear": [*VAE, "model.hidden=[]", "train.epochs=10", "train.learning_rate=0.02"],
    "vae": [*VAE, "model.hidden=[32]", "train.epochs=2"],
}
MIXTURES = ["full", "tied", "diag", "spherical", "lowrank", "labels"]
EXACT = [*MIXTURES, "ppca", "closed"]
FLOAT64 = ["full", "ppca", "closed"]

FILES = {
    "config.yaml",
    "run.json",
    "environment.json",
    "metrics.jsonl",
    "metrics.json",
    "per_example.npz",
    "evaluation.json",
    "train.log",
    "checkpoints/model.safetensors",
    "checkpoints/state.pt",
    "checkpoints/.lock",
    "figures/samples.png",
    "figures/decode_modes.png",
    "figures/reconstructions.png",
}
GMM_FIGURES = {"components", "component_samples", "confusion", "em", "singularities"}
PPCA_FIGURES = {"latent_plane", "posterior", "principal_axes", "spectrum"}


def files(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


def assert_same_results(one: Path, other: Path) -> None:
    """Bit for bit: numbers, weights and pictures."""
    assert files(one) == files(other)
    for name in sorted(files(one)):
        if name.startswith("figures/") or name in (
            "metrics.json",
            "per_example.npz",
            "checkpoints/model.safetensors",
        ):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert timeless(one) == timeless(other)


def timeless(run: Path) -> list[dict[str, Any]]:
    """The records without their seconds."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: line[key] for key in line if key != "seconds"} for line in lines]


@dataclass
class Trained:
    path: Path
    stdout: str
    stderr: str

    @property
    def run(self) -> RunFolder:
        return RunFolder.open(self.path)

    @property
    def weights(self) -> dict[str, Tensor]:
        return load_file(self.path / "checkpoints" / "model.safetensors")

    def images(self, split: str = "test") -> tuple[Tensor, Tensor]:
        """Transformed as the run did, float64; their noise is the run's, so only without any."""
        config = self.run.config()
        assert config.data.transform == "scale"
        part = getattr(load(config.data), split)
        return Transform("scale")(part.pixels).double(), part.label

    @property
    def components(self) -> list[Distribution]:
        w = {
            name.removeprefix("gaussians."): value.double() for name, value in self.weights.items()
        }
        mean = w["mean"]
        made: list[Distribution] = []
        for k in range(len(mean)):
            match self.run.config().model.covariance:
                case "full":
                    made.append(MultivariateNormal(mean[k], w["covariance"][k]))
                case "tied":
                    made.append(MultivariateNormal(mean[k], w["covariance"]))
                case "diag":
                    made.append(Independent(Normal(mean[k], w["variances"][k].sqrt()), 1))
                case "spherical":
                    scale = w["variances"][k].sqrt().expand(784)
                    made.append(Independent(Normal(mean[k], scale), 1))
                case "lowrank":
                    noise = w["variances"][k].expand(784)
                    made.append(LowRankMultivariateNormal(mean[k], w["factors"][k], noise))
        return made

    @property
    def density(self) -> Distribution:
        """Of x, from the weights file alone, by torch.distributions in float64."""
        w = {name: value.double() for name, value in self.weights.items()}
        if self.run.config().model.kind == "ppca":
            noise = w["variance"].expand(784)
            return LowRankMultivariateNormal(w["mean"], w["factors"], noise)
        raise AssertionError("a mixture has components")

    def log_prob(self, x: Tensor) -> Tensor:
        if self.run.config().model.kind == "ppca":
            return self.density.log_prob(x)
        return self.log_joint(x).logsumexp(1)

    def log_joint(self, x: Tensor) -> Tensor:
        log_weight = self.weights["weight"].double().log()
        return torch.stack([p.log_prob(x) for p in self.components], 1) + log_weight


def train(folder: Path, *overrides: str, name: str = "x") -> tuple[int, Trained]:
    """In this process, in a folder of its own; the exit code and what it made."""
    config = folder / "exact.yaml"
    config.write_text(CONFIG)
    arguments = ["train", str(config), f"name={name}", *overrides, "--runs-dir", str(folder / name)]
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    [path] = (folder / name).iterdir()
    return done.exit_code, Trained(path, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A finished run of RUNS, by name."""
    folder = tmp_path_factory.mktemp("exact")
    made: dict[str, Trained] = {}

    def get(name: str) -> Trained:
        if name not in made:
            code, made[name] = train(folder, *RUNS[name], name=name)
            assert code == 0, made[name].stderr
        return made[name]

    return get


Exact = Callable[[str], Trained]


# A run that finishes


@pytest.mark.parametrize("name", EXACT)
def test_what_a_run_leaves(exact: Exact, name: str) -> None:
    trained = exact(name)
    assert trained.stdout == f"{trained.path}\n"
    assert (trained.path / "train.log").read_text() == trained.stderr
    figures = PPCA_FIGURES if name in ("ppca", "closed") else GMM_FIGURES
    figures = figures | ({"em"} if name == "ppca" else set())
    found = {file for file in files(trained.path) if not file.startswith("samples/")}
    arrays = {"evidence/rate.npz"} if name in ("ppca", "closed") else set()
    assert found == FILES | {f"figures/{figure}.png" for figure in figures} | arrays
    info = trained.run.info()
    assert (info["status"], info["exit_code"], info["error"]) == ("finished", 0, None)


def test_the_same_config_gives_the_same_bytes(exact: Exact, tmp_path: Path) -> None:
    whole = exact("diag").path
    code, again = train(tmp_path, *RUNS["diag"], name="diag")
    assert code == 0
    assert_same_results(whole, again.path)


def kept_record(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the parameters a run keeps: the last of the best restart."""
    ends = [record for record in records if record["stopped"]]
    return max(ends, key=lambda record: record["train"]["log_prob"])


@pytest.mark.parametrize("name", EXACT)
def test_records(exact: Exact, name: str) -> None:
    trained = exact(name)
    config, records = trained.run.config(), trained.run.records()
    restarts = 1 if name == "closed" else config.train.restarts
    precision = 1e-9 if name in FLOAT64 else 1e-6
    assert sorted({record["restart"] for record in records}) == list(range(restarts))
    for restart in range(restarts):
        lines = [record for record in records if record["restart"] == restart]
        assert [line["iteration"] for line in lines] == list(range(len(lines)))
        assert [line["stopped"] for line in lines[:-1]] == [None] * (len(lines) - 1)
        assert lines[-1]["stopped"] in ("tolerance", "max_iter")
        assert "elbo_after_m" not in lines[0]["train"]
        for line in lines:
            train = line["train"]
            assert train["elbo_after_e"] == pytest.approx(train["log_prob"], rel=precision)
            if config.model.kind == "gmm":
                assert sum(line["effective_count"]) == pytest.approx(300)
                assert min(line["smallest_eigenvalue"]) >= 0.01 * (1 - 1e-4)
            else:
                assert line["sigma"] > 0
        for before, after in pairwise(lines):
            slack = precision * abs(after["train"]["log_prob"])
            assert after["train"]["log_prob"] >= after["train"]["elbo_after_m"] - slack
            if name in ("ppca", "lowrank"):  # a floor that is added may lower it
                assert after["train"]["elbo_after_m"] >= before["train"]["log_prob"] - slack
        if lines[-1]["stopped"] == "tolerance" and len(lines) > 1:
            gains = [b["train"]["log_prob"] - a["train"]["log_prob"] for a, b in pairwise(lines)]
            assert gains[-1] < config.train.tolerance
            assert min(gains[:-1], default=math.inf) >= config.train.tolerance


@pytest.mark.parametrize("name", EXACT)
def test_the_logged_likelihood_is_that_of_the_parameters_kept(exact: Exact, name: str) -> None:
    trained = exact(name)
    kept, metrics = kept_record(trained.run.records()), trained.run.metrics()
    precision = 1e-9 if name in FLOAT64 else 1e-6
    for split in ("train", "validation"):
        logged = kept[split]["log_prob"]
        assert metrics[split]["log_prob"]["value"] == pytest.approx(logged, rel=precision), split
    assert trained.run.weights()[1] == kept["iteration"]
    if name == "diag":  # restarts that end in different maxima
        ends = [r["train"]["log_prob"] for r in trained.run.records() if r["stopped"]]
        assert max(ends) - min(ends) > 1
        assert metrics["train"]["log_prob"]["value"] == pytest.approx(max(ends), rel=1e-6)
        assert ends.index(max(ends)) not in (0, 3), "a seed for which the best is in between"


@pytest.mark.parametrize("name", EXACT)
def test_every_number_carries_what_it_is(exact: Exact, name: str) -> None:
    metrics = exact(name).run.metrics()
    mixture = name in MIXTURES
    assert list(metrics) == ["train", "validation", "test"]
    likelihoods = {"log_prob", "elbo", "distortion"}
    bits = {"log_prob_bits_per_dim", "elbo_bits_per_dim"} if name == "lowrank" else set()
    others = {"rate", "rmse_mean", "rmse_sample", "sigma"}
    kinds = {"log_prob": "exact", "elbo": "lower_bound", "distortion": "exact"}
    kinds |= {"log_prob_bits_per_dim": "exact", "elbo_bits_per_dim": "upper_bound"}
    for split, count in (("train", 300), ("validation", 100), ("test", 982 + 1009)):
        entries = {key: entry for key, entry in metrics[split].items() if "group" not in entry}
        assert metrics[split].keys() - entries.keys() == (
            ({"mutual_information", "marginal_kl", "rate_bits"} if split == "test" else set())
            | ({"active_units", "collapsed_latents"} if split == "test" and not mixture else set())
        )
        assert entries.keys() == likelihoods | bits | others
        for metric, entry in entries.items():
            assert entry["n"] == count
            assert entry["se"] >= 0
            assert "mc_se" not in entry
            assert "draws" not in entry
            assert entry["aggregate"] == ("root_mean" if "rmse" in metric else "mean")
            likelihood = metric in likelihoods | bits
            assert entry.get("measure") == ("density" if likelihood else None)
            assert entry.get("of") == ("x" if likelihood else None)
            assert entry.get("kind") == kinds.get(metric)
            assert entry.get("covariance_floor") == (0.01 if likelihood and mixture else None)
            units = {"rate": "nats", **dict.fromkeys(bits, "bits/dim")}
            units |= dict.fromkeys(likelihoods, "nats")
            assert entry["unit"] == units.get(metric, "units of x")
        value = {metric: entry["value"] for metric, entry in entries.items()}
        assert value["elbo"] == pytest.approx(-value["rate"] - value["distortion"])
        assert value["elbo"] == pytest.approx(value["log_prob"], rel=1e-6)
        assert value["rmse_sample"] > value["rmse_mean"]
        if bits:
            nats = 784 * math.log(256) - value["log_prob"]
            expected = nats / (784 * math.log(2))
            assert value["log_prob_bits_per_dim"] == pytest.approx(expected)


@pytest.mark.parametrize("name", EXACT)
def test_per_example_values_are_behind_the_metrics(exact: Exact, name: str) -> None:
    run = exact(name).run
    metrics, arrays = run.metrics()["test"], run.per_example()
    test = {key: entry for key, entry in metrics.items() if entry["aggregate"] != "whole"}
    assert set(arrays) == {*test, "label"}
    assert set(arrays["label"]) == {4, 9}
    for metric, entry in test.items():
        values = arrays[metric]
        assert values.shape == (1991,)
        assert values.dtype == np.float64
        mean, se = values.mean(), values.std(ddof=1) / np.sqrt(1991)
        if entry["aggregate"] == "root_mean":
            mean = np.sqrt(mean)
            se /= 2 * mean
        assert entry["value"] == pytest.approx(mean, rel=1e-12)
        assert entry["se"] == pytest.approx(se, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in EXACT if name != "lowrank"])
def test_log_prob_is_that_of_torch_distributions(exact: Exact, name: str) -> None:
    trained = exact(name)
    x, label = trained.images()
    arrays = trained.run.per_example()
    np.testing.assert_array_equal(arrays["label"], label)
    tolerance = 1e-8 if name in FLOAT64 else 1e-3
    np.testing.assert_allclose(arrays["log_prob"], trained.log_prob(x), rtol=0, atol=tolerance)


def test_log_prob_of_dequantized_images(exact: Exact) -> None:
    from vaexp.experiment.prepare import Experiment

    trained = exact("lowrank")
    prepared = Experiment.prepare(trained.run.config())
    x = prepared.held_out_images(prepared.data.test, "test").double()
    found = trained.run.per_example()["log_prob"]
    np.testing.assert_allclose(found, trained.log_prob(x), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["full", "spherical", "labels"])
def test_the_terms_of_a_mixture(exact: Exact, name: str) -> None:
    trained = exact(name)
    x, _ = trained.images()
    joint = trained.log_joint(x)
    r = joint.softmax(1)
    log_weight = trained.weights["weight"].double().log()
    variance = torch.stack([p.variance for p in trained.components])
    squares = torch.stack([(x - p.mean).square().mean(1) for p in trained.components], 1)
    found = trained.run.per_example()
    expected = {
        "rate": torch.special.xlogy(r, r).sum(1) - r @ log_weight,
        "distortion": -(r * (joint - log_weight)).sum(1),
        "rmse_mean": (r * squares).sum(1),
        "rmse_sample": (r * squares).sum(1) + r @ variance.mean(1),
        "sigma": r @ variance.sqrt().mean(1),
    }
    for metric, values in expected.items():
        # where float32 decides between two components by a hair, r itself is off by 1e-4
        np.testing.assert_allclose(found[metric], values, rtol=1e-5, atol=1e-3, err_msg=metric)


@pytest.mark.parametrize("name", ["ppca", "closed"])
def test_the_terms_of_probabilistic_pca(exact: Exact, name: str) -> None:
    """By the covariance of (x, z) as a whole, conditioned on x."""
    trained = exact(name)
    x, _ = trained.images()
    w, noise = trained.weights["factors"], trained.weights["variance"]
    covariance = w @ w.T + noise * torch.eye(784, dtype=torch.float64)
    gain = torch.linalg.solve(covariance, w)
    mean = (x - trained.weights["mean"]) @ gain
    spread = torch.eye(3, dtype=torch.float64) - w.T @ gain
    error = (x - trained.weights["mean"] - mean @ w.T).square().sum(1) + (w @ spread @ w.T).trace()
    rate = 0.5 * (spread.trace() + mean.square().sum(1) - 3 - torch.logdet(spread))
    expected = {
        "rate": rate,
        "distortion": 0.5 * (784 * (2 * math.pi * noise).log() + error / noise),
        "rmse_mean": error / 784,
        "rmse_sample": error / 784 + noise,
        "sigma": noise.sqrt().expand(len(x)),
    }
    for metric, values in expected.items():
        found = trained.run.per_example()[metric]
        np.testing.assert_allclose(found, values, rtol=1e-9, err_msg=metric)


def test_em_of_ppca_ends_at_the_closed_form(exact: Exact) -> None:
    em, closed = exact("ppca"), exact("closed")
    ends = [run.run.metrics()["train"]["log_prob"]["value"] for run in (em, closed)]
    assert ends[0] < ends[1] + 1e-9
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)
    for key in ("mean", "factors", "variance"):
        torch.testing.assert_close(em.weights[key], closed.weights[key], rtol=1e-3, atol=1e-3)
    [only] = closed.run.records()
    assert (only["iteration"], only["restart"]) == (0, 0)
    x, _ = closed.images("train")
    covariance = torch.cov(x.T, correction=0)
    eigenvalues = torch.linalg.eigvalsh(covariance).flip(0)
    noise = eigenvalues[3:].mean()
    assert closed.weights["variance"].item() == pytest.approx(noise.item())
    logs = eigenvalues[:3].log().sum() + 781 * noise.log()
    assert ends[1] == pytest.approx(-0.5 * (784 * math.log(2 * math.pi) + logs + 784).item())


# Where EM starts and when it stops


def test_labels_and_no_iteration_give_the_class_conditional_gaussians(exact: Exact) -> None:
    trained = exact("labels")
    x, label = trained.images("train")
    w = trained.weights
    for k, digit in enumerate((4, 9)):
        own = x[label == digit]
        assert w["weight"][k].item() == pytest.approx(len(own) / 300)
        torch.testing.assert_close(w["gaussians.mean"][k].double(), own.mean(0), rtol=0, atol=1e-6)
        covariance = torch.cov(own.T, correction=0) + 0.01 * torch.eye(784)
        found = w["gaussians.covariance"][k].double()
        torch.testing.assert_close(found, covariance, rtol=0, atol=1e-6)
    [only] = trained.run.records()
    assert (only["iteration"], only["stopped"]) == (0, "max_iter")
    assert trained.run.weights()[1] == 0


def test_max_iter_0_keeps_where_em_would_start(exact: Exact, tmp_path: Path) -> None:
    started = exact("spherical")
    code, unmoved = train(tmp_path, *RUNS["spherical"], "train.max_iter=0")
    assert code == 0
    assert timeless(unmoved.path) == [
        timeless(started.path)[0] | {"stopped": "max_iter"},
    ]
    x, _ = unmoved.images("train")
    mean = unmoved.weights["gaussians.mean"].double()
    nearest = torch.cdist(x, mean).argmin(1)  # of k-means, whose means are those of its cells
    for k in range(3):
        torch.testing.assert_close(mean[k], x[nearest == k].mean(0), rtol=0, atol=1e-6)
    assert "train.max_iter" not in unmoved.stderr


def test_a_run_that_stops_at_max_iter_says_so(exact: Exact) -> None:
    message = "stopped at train.max_iter = 1, before an iteration added less than"
    assert message in exact("spherical").stderr
    for name in EXACT:
        if name != "spherical":
            assert "max_iter" not in exact(name).stderr, name


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
    [("diag", "second restart"), ("ppca", "end of a restart"), ("tied", "start"), ("full", "end")],
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
        patch.setattr(experiment, "EM_WRITES_EVERY", 0.0)
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
        experiment._write_steps(run, steps(), lambda _: None, 1.0)
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
    assert "model.safetensors does not fit config.yaml" in done.stderr


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
    model = models.PPCA(torch.zeros(784).double(), factors, torch.tensor(0.5).double())
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


# Drawing


@pytest.fixture
def draw(invoke: Any) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Run ``vaexp sample --json``: the image's name and the arrays."""

    def draw(trained: Trained, *arguments: str) -> tuple[str, dict[str, Any]]:
        done = invoke("sample", trained.path, *arguments, "--json")
        assert done.exit_code == 0, done.stderr or repr(done.exception)
        answer = json.loads(done.stdout)
        image = Path(answer["image"])
        assert image.read_bytes().startswith(b"\x89PNG")
        with np.load(answer["arrays"]) as arrays:
            return image.name, dict(arrays)

    return draw


def test_means_of_components(exact: Exact, draw: Any) -> None:
    trained = exact("diag")
    name, arrays = draw(trained, "--decode", "mean", "-n", "3000")
    assert name == "mean-n3000-seed1.png"
    assert arrays.keys() == {"z", "x", "image"}
    assert arrays["z"].shape == (3000,)
    mean = trained.weights["gaussians.mean"].numpy()
    np.testing.assert_array_equal(arrays["x"], mean[arrays["z"]])
    np.testing.assert_array_equal(arrays["image"], arrays["x"].reshape(3000, 28, 28))
    weight = trained.weights["weight"].numpy()
    share = np.bincount(arrays["z"], minlength=3) / 3000
    assert (np.abs(share - weight) < 4 * np.sqrt(weight * (1 - weight) / 3000)).all()


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical", "lowrank"])
def test_draws_of_a_component_have_its_mean_and_variance(
    exact: Exact, draw: Any, name: str
) -> None:
    trained = exact(name)
    image, arrays = draw(trained, "--decode", "sample", "-n", "2000", "--component", "2")
    assert image == "sample-component2-n2000-seed1.png"
    assert set(arrays["z"]) == {2}
    component = trained.components[2]
    mean, deviation = component.mean.numpy(), component.stddev.numpy()
    z = (arrays["x"].mean(0) - mean) / deviation * math.sqrt(2000)
    assert np.abs(z).max() < 5  # 784 standard normals
    ratio = arrays["x"].var(0) / deviation**2
    assert np.abs(ratio - 1).max() < 5 * math.sqrt(2 / 2000) + 0.02
    # and not only pixel by pixel: a Mahalanobis distance is chi-squared with 784 degrees
    distance = -2 * (component.log_prob(torch.tensor(arrays["x"]).double()))
    distance -= -2 * component.log_prob(component.mean)
    error = math.sqrt(2 * 784 / 2000)
    assert distance.mean().item() == pytest.approx(784, abs=5 * error)


def test_a_run_draws_in_its_own_mode(exact: Exact, draw: Any) -> None:
    for name in ("diag", "ppca"):
        mode = exact(name).run.config().model.decode_mode
        assert draw(exact(name), "-n", "2")[0] == f"{mode}-n2-seed1.png"


def test_a_sweep_of_a_mixture(exact: Exact, draw: Any) -> None:
    trained = exact("full")
    name, arrays = draw(trained, "--decode", "sweep", "-n", "4")
    assert name == "sweep-n4-seed1.png"
    assert arrays["x"].shape == (5, 4, 784)
    mean = torch.stack([p.mean for p in trained.components]).numpy()[arrays["z"]]
    sigma = torch.stack([p.stddev for p in trained.components]).numpy()[arrays["z"]]
    for row, k in enumerate((-2, -1, 0, 1, 2)):
        np.testing.assert_allclose(arrays["x"][row], mean + k * sigma, atol=1e-6)


def test_labels_of_class_conditional_gaussians(exact: Exact, draw: Any) -> None:
    trained = exact("labels")
    x, label = trained.images("train")
    for k, digit in enumerate((4, 9)):
        name, arrays = draw(trained, "--decode", "mean", "--label", str(digit), "-n", "2")
        assert name == f"mean-label{digit}-n2-seed1.png"
        assert arrays["z"].tolist() == [k, k]
        own = x[label == digit].mean(0)
        np.testing.assert_allclose(arrays["x"][0], own, atol=1e-6)


def test_a_grid_of_ppca(exact: Exact, draw: Any) -> None:
    trained = exact("closed")
    name, arrays = draw(trained, "--grid", "--axes", "3", "1")
    assert name == "mean-grid-z3-z1-seed1.png"
    z = arrays["z"]
    size = len(z)
    assert z.shape == (size, size, 3)
    levels = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    ticks = torch.special.ndtri(levels).numpy()
    np.testing.assert_allclose(z[0, :, 2], ticks, atol=1e-6)
    np.testing.assert_allclose(z[:, 0, 0], ticks, atol=1e-6)
    assert (z[..., 1] == 0).all()
    factors, mean = trained.weights["factors"].numpy(), trained.weights["mean"].numpy()
    np.testing.assert_allclose(arrays["x"][0], z @ factors.T + mean, atol=1e-6)
    assert arrays["image"].shape == (1, size, size, 28, 28)


def test_draws_of_ppca(exact: Exact, draw: Any) -> None:
    trained = exact("ppca")
    _, arrays = draw(trained, "--decode", "sample", "-n", "2000")
    assert arrays["z"].shape == (2000, 3)
    assert np.abs(arrays["z"].mean(0)).max() < 5 / math.sqrt(2000)
    factors, mean = trained.weights["factors"].numpy(), trained.weights["mean"].numpy()
    noise = arrays["x"] - arrays["z"] @ factors.T - mean
    sigma = math.sqrt(trained.weights["variance"].item())
    assert noise.std() == pytest.approx(sigma, rel=5 / math.sqrt(2 * noise.size))
    _, arrays = draw(trained, "--decode", "sweep", "-n", "2")
    np.testing.assert_allclose(np.diff(arrays["x"], axis=0), sigma, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("diag", ["--component", "3"], "--component 3: there are 3, counted from 0"),
        ("diag", ["--component", "-1"], "--component"),
        ("ppca", ["--component", "0"], "--component: only a Gaussian mixture has components"),
        ("vae", ["--component", "0"], "--component: only a Gaussian mixture has components"),
        ("diag", ["--label", "4"], "--label: the components of this mixture are not digits"),
        ("labels", ["--label", "5"], "--label 5: this model was trained on the digits 4, 9"),
        ("labels", ["--label", "4", "--component", "0"], "--label and --component: give one"),
        ("ppca", ["--label", "4"], "--label: this model was trained without labels"),
        ("diag", ["--grid"], "--grid: a mixture has no latent plane"),
        ("ppca", ["--grid", "--decode", "sweep"], "--decode mean or sample"),
        ("ppca", ["--grid", "--axes", "1", "4"], "between 1 and 3"),
        ("ppca", ["--axes", "1", "2"], "add --grid"),
    ],
)
def test_what_cannot_be_drawn(
    exact: Exact, invoke: Any, name: str, arguments: list[str], message: str
) -> None:
    path = exact(name).path
    before = files(path)
    done = invoke("sample", path, *arguments)
    assert (done.exit_code, done.stdout) == (2, ""), repr(done.exception)
    assert message in done.stderr
    assert files(path) == before


# Compared and listed


@pytest.fixture
def comparison(invoke: Any, exact: Exact) -> Callable[..., Any]:
    def comparison(*names: str) -> Any:
        done = invoke("compare", *[exact(name).path for name in names], "--format", "json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return comparison


def short(runs: list[str]) -> list[str]:
    return [run[: -len("-0000")] for run in runs]


def test_kinds_side_by_side(exact: Exact, comparison: Any) -> None:
    answer = comparison("diag", "ppca", "vae")
    a, b, c = (exact(name).run.per_example() for name in ("diag", "ppca", "vae"))
    for metric, there in (("elbo", c), ("rate", c), ("rmse_mean", c), ("log_prob", None)):
        for other, difference in zip((b, there), answer["differences"][metric], strict=True):
            if other is None:
                assert difference["refused"] == "not measured on both"
                continue
            assert difference["refused"] is None
            if metric != "rmse_mean":
                paired = other[metric] - a[metric]
                assert difference["value"] == pytest.approx(paired.mean(), rel=1e-9)
                se = paired.std(ddof=1) / math.sqrt(1991)
                assert difference["se"] == pytest.approx(se, rel=1e-9)
    kinds = {
        metric: [entry and entry.get("kind") for entry in entries]
        for metric, entries in answer["metrics"].items()
    }
    assert kinds["log_prob"] == ["exact", "exact", None]
    assert kinds["elbo"] == ["lower_bound"] * 3
    assert kinds["iw_bound"] == [None, None, "lower_bound"]
    # a distortion by draws is unbiased: it may be read beside an exact one
    assert kinds["distortion"] == ["exact", "exact", "estimate"]
    assert [one["refused"] for one in answer["differences"]["distortion"]] == [None, None]
    settings = answer["settings"]
    assert settings.pop("model.decode_mode", None) in (None, ["sample", "mean", "mean"])
    assert settings.pop("model.latent_dim") == [None, 3, 2]
    assert settings.pop("train.tolerance") == [1e-3, 1e-12, None]
    assert settings.pop("train.restarts") == [4, 2, None]
    assert settings == {"model.kind": ["gmm", "ppca", "vae"]}


def test_ranking_by_the_nearest_to_log_prob_that_all_have(exact: Exact, comparison: Any) -> None:
    def value(name: str, metric: str) -> float:
        return float(exact(name).run.metrics()["test"][metric]["value"])

    for names, metric in [
        (("ppca", "diag", "full", "linear"), "log_prob"),
        (("linear", "vae"), "iw_bound"),
        (("ppca", "vae", "diag"), "elbo"),
    ]:
        ranking = comparison(*names)["ranking"]
        assert ranking["metric"] == metric
        assert ranking["refused"] is None
        order = sorted(names, key=lambda name: -value(name, metric))
        assert short(ranking["order"]) == order


def test_a_linear_vae_is_the_ppca_of_its_decoder(exact: Exact, comparison: Any) -> None:
    trained = exact("linear")
    x, _ = trained.images()
    w = {name: tensor.double() for name, tensor in trained.weights.items()}
    sigma = 1e-3 + torch.nn.functional.softplus(w["likelihood.raw_sigma"])
    factors = w["likelihood.mean.weight"]
    p = LowRankMultivariateNormal(w["likelihood.mean.bias"], factors, sigma.square().expand(784))
    test = trained.run.metrics()["test"]
    found = trained.run.per_example()["log_prob"]
    np.testing.assert_allclose(found, p.log_prob(x), rtol=0, atol=1e-3)
    assert (test["log_prob"]["kind"], test["log_prob"]["sigma_floor"]) == ("exact", 0.001)
    assert test["elbo"]["value"] < test["iw_bound"]["value"] < test["log_prob"]["value"]
    train = trained.run.metrics()["train"]["log_prob"]["value"]
    assert train < exact("closed").run.metrics()["train"]["log_prob"]["value"]
    [difference] = comparison("closed", "linear")["differences"]["log_prob"]
    expected = (
        test["log_prob"]["value"] - exact("closed").run.metrics()["test"]["log_prob"]["value"]
    )
    assert difference["value"] == pytest.approx(expected)
    assert "log_prob" not in exact("vae").run.metrics()["test"]


def test_unlike_numbers_of_different_kinds(comparison: Any) -> None:
    answer = comparison("diag", "lowrank")
    for metric in ("log_prob", "elbo", "distortion", "rmse_mean"):
        assert "transforms differ" in answer["differences"][metric][0]["refused"]
    assert answer["differences"]["rate"][0]["refused"] is None
    assert answer["ranking"]["order"] == []


def test_a_conditional_vae_is_not_ranked_with_a_mixture(forge: Any, invoke: Any) -> None:
    exact_facts = {"measure": "density", "of": "x", "kind": "exact", "sigma": None}
    elbo = np.arange(8.0) - 700
    mixture = forge(
        "mixture",
        "model.kind=gmm",
        values={"log_prob": elbo, "elbo": elbo},
        facts={"log_prob": exact_facts, "elbo": {"of": "x", "sigma": None}},
    )
    done = invoke("compare", mixture, forge("conditional"), "--json")
    answer = json.loads(done.stdout)
    reason = "one is of x, the other of x given label"
    assert answer["differences"]["elbo"][0]["refused"] == reason
    assert answer["ranking"]["order"] == []
    assert reason in answer["ranking"]["refused"]


def test_what_a_comparison_prints(exact: Exact, invoke: Any, copy_of: Any) -> None:
    first = copy_of(exact("diag").path)
    runs = [first, exact("ppca").path, exact("vae").path]
    done = invoke("compare", *runs, "--format", "md", "--figure")
    assert done.exit_code == 0, done.stderr
    drawn = sorted((first / "figures").glob("compare*.png"))
    assert done.stderr.splitlines() == [
        f"figure {figure}" for figure in reversed(drawn)
    ]  # side by side, and the rate-distortion plane
    lines = done.stdout.splitlines()

    def row(metric: str) -> list[str]:
        [line] = [line for line in lines if line.startswith(f"| {metric} (")]
        return [cell.strip() for cell in line.strip("|").split(" | ")]

    assert "log_prob (nats, exact)" in row("log_prob")[0]
    assert "elbo (nats, lower bound)" in row("elbo")[0]
    # one row for what is exact of some models and estimated of others
    assert "exact" in row("distortion")[0]
    assert "estimate" in row("distortion")[0]
    for metric in ("log_prob", "elbo", "distortion"):
        assert "[floor 0.01]" in row(metric)[1]
    assert "[σ ≥ 0.001]" in row("elbo")[3]
    assert row("log_prob")[3] == "–"
    assert any(line.startswith("Ranked by elbo, a lower bound on ln p(x)") for line in lines)
    tables = [block.splitlines() for block in done.stdout.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1

    text = invoke("compare", *runs, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    [log_prob, _] = [row for row in rows if row["metric"] == "log_prob"]
    assert (log_prob["kind"], log_prob["covariance_floor"]) == ("exact", "0.01")
    assert float(log_prob["value"]) == pytest.approx(
        exact("diag").run.metrics()["test"]["log_prob"]["value"]
    )


def test_a_ranking_by_exact_likelihoods_says_so(exact: Exact, invoke: Any) -> None:
    text = invoke("compare", exact("diag").path, exact("ppca").path).stdout
    assert "Ranked by log_prob, ln p(x), best first: diag-" in text
    assert "floors differ" not in text  # probabilistic PCA has none
    text = invoke("compare", exact("diag").path, exact("linear").path).stdout
    assert "Their floors differ, and a density hangs on its floor." in text


@pytest.fixture(scope="module")
def mixed(exact: Exact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    for name in RUNS:
        path = exact(name).path
        os.symlink(path, folder / path.name)
    return folder


def test_runs_of_all_kinds_are_listed(exact: Exact, mixed: Path, invoke: Any) -> None:
    listed = json.loads(invoke("runs", mixed, "--json").stdout)
    by_name = {re.sub(r".*\d{6}-(.*)-....", r"\1", entry["run"]): entry for entry in listed}
    assert by_name.keys() == RUNS.keys()
    for name, entry in by_name.items():
        assert entry["status"] == "finished"
        records = exact(name).run.records()
        iterations = [record for record in records if record.get("iteration") != 0]
        assert entry["steps"] == len(iterations)
        metrics = exact(name).run.metrics()["test"]
        assert ("log_prob" in entry["metrics"]) == ("log_prob" in metrics)
    assert "Gaussian mixture, K = 3, rank 4 + σ²I" in by_name["lowrank"]["model"]
    assert "as initialised" in by_name["labels"]["model"]
    assert "probabilistic PCA, L = 3, closed form" in by_name["closed"]["model"]
    for format_ in ("table", "md", "csv"):
        text = invoke("runs", mixed, "--format", format_).stdout
        for name in RUNS:
            assert exact(name).path.name in text


def test_a_list_shows_only_settings_that_differ(forge: Any, invoke: Any) -> None:
    """Runs that lack a section, as closed_form lacks train, make no difference in it."""
    forge("a", "model.kind=gmm", "model.decode_mode=mean")
    forge("b", "model.kind=gmm", "model.decode_mode=mean", "model.covariance=tied")
    forge("c", "model.kind=ppca")
    forge("d", "model.kind=ppca", "model.method=closed_form")
    forge("e", "model.beta=2")
    text = invoke("runs", forge.folder, "--format", "csv").stdout
    [header, *_] = text.splitlines()
    settings = {column for column in header.split(",") if "." in column}
    assert settings == {"model.kind", "model.covariance", "model.method"}
    text = invoke("runs", forge.folder).stdout
    assert "train." not in text
    assert "model." not in text  # the model's description says it


def test_figures_across_kinds(exact: Exact, copy_of: Any, invoke: Any) -> None:
    first = copy_of(exact("ppca").path)
    runs = [first, exact("labels").path, exact("lowrank").path, exact("linear").path]
    done = invoke("compare", *runs, "--figure", "--json")
    assert done.exit_code == 0, done.stderr
    [path] = (first / "figures").glob("compare*.png")
    assert path.read_bytes().startswith(b"\x89PNG")
