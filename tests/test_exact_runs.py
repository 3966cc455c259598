"""Exact models from the command line: the files and the numbers of a run that finishes."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_runs import (
    EXACT,
    FIGURES_OF,
    FLOAT64,
    LINEAR,
    MIXTURES,
    RUNS,
    Exact,
    train,
)
from run_folders import FILES, assert_left_behind, assert_same_results, logged, timeless

from vaexp.runs.folder import RunFolder

# A run that finishes


@pytest.mark.parametrize("name", EXACT)
def test_what_a_run_leaves(exact: Exact, name: str) -> None:
    trained = exact(name)
    assert trained.stdout == f"{trained.path}\n"
    # notes on the config are said before there is a folder
    said = [line for line in trained.stderr.splitlines(True) if not line.startswith("note: ")]
    assert logged(trained.path) == "".join(said)
    arrays = {"evidence/rate.npz"} if name in LINEAR else set()
    figures = {f"figures/{figure}.png" for figure in FIGURES_OF[name]}
    assert_left_behind(trained.path, FILES | figures | arrays)
    assert (trained.path / "figures/em.png").exists() == (name not in ("closed", "labels", "full"))
    left_out = "no figure em: EM made no iteration, so there is no step to draw"
    assert (left_out in trained.stderr) == (name in ("closed", "labels"))
    assert (trained.path / "figures/factors.png").exists() == (name == "fa")
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
            elif config.model.kind == "fa":
                assert (line["smallest_sigma"] == 0.1) == (line["pixels_at_floor"] > 0)
            else:
                assert line["sigma"] > 0
        for before, after in pairwise(lines):
            slack = precision * abs(after["train"]["log_prob"])
            assert after["train"]["log_prob"] >= after["train"]["elbo_after_m"] - slack
            if name in ("ppca", "fa", "lowrank"):  # a floor that is added may lower it
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
    mixture, floored = name in MIXTURES, name in [*MIXTURES, "fa"]
    assert list(metrics) == ["train", "validation", "test"]
    likelihoods = {"log_prob", "elbo", "distortion"}
    bits = {"log_prob_bits_per_dim", "elbo_bits_per_dim"} if name == "lowrank" else set()
    others = {"rate", "rmse_mean", "rmse_sample", "sigma"}
    kinds = {"log_prob": "exact", "elbo": "lower_bound", "distortion": "exact"}
    kinds |= {"log_prob_bits_per_dim": "upper_bound", "elbo_bits_per_dim": "upper_bound"}
    for split, count in (("train", 300), ("validation", 100), ("test", 982 + 1009)):
        entries = {key: entry for key, entry in metrics[split].items() if "group" not in entry}
        criteria = [entries.pop(key) for key in ("aic", "bic") if split == "train"]
        assert [(one["kind"], one["aggregate"], one["n"]) for one in criteria] == (
            [("exact", "whole", count)] * len(criteria)
        )
        assert metrics[split].keys() - entries.keys() - {"aic", "bic"} == (
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
            assert entry.get("covariance_floor") == (0.01 if likelihood and floored else None)
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
    # where an image changes the mean by more than its own value
    parts = ("mutual_information", "marginal_kl")
    influences = {f"{part}_influence" for part in parts if "mc_se" in test[part]}
    assert set(arrays) == {*test, "label"} | influences
    assert set(arrays["label"]) == {4, 9}
    for metric, entry in test.items():
        values = arrays[metric]
        assert values.shape == (1991,)
        assert values.dtype == np.float64
        mean = values.mean()
        se = arrays.get(f"{metric}_influence", values).std(ddof=1) / np.sqrt(1991)
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


@pytest.mark.parametrize("name", LINEAR)
def test_the_terms_of_linear_gaussian_models(exact: Exact, name: str) -> None:
    """By the covariance of (x, z) as a whole, conditioned on x."""
    trained = exact(name)
    x, _ = trained.images()
    w = trained.weights["factors"]
    noise = trained.weights["variances" if name == "fa" else "variance"].expand(784)
    covariance = w @ w.T + noise.diag()
    gain = torch.linalg.solve(covariance, w)
    mean = (x - trained.weights["mean"]) @ gain
    spread = torch.eye(3, dtype=torch.float64) - w.T @ gain
    error = (x - trained.weights["mean"] - mean @ w.T).square() + (w @ spread @ w.T).diagonal()
    rate = 0.5 * (spread.trace() + mean.square().sum(1) - 3 - torch.logdet(spread))
    expected = {
        "rate": rate,
        "distortion": 0.5 * ((2 * math.pi * noise).log() + error / noise).sum(1),
        "rmse_mean": error.mean(1),
        "rmse_sample": error.mean(1) + noise.mean(),
        "sigma": noise.sqrt().mean().expand(len(x)),
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


def test_factor_analysis_is_at_least_probabilistic_pca(exact: Exact) -> None:
    """Its sigma^2 is above the floor, so that factor analysis starts at its maximum."""
    closed, fa = exact("closed"), exact("fa")
    assert closed.weights["variance"] > 0.01
    ends = [run.run.metrics()["train"]["log_prob"]["value"] for run in (closed, fa)]
    assert fa.run.records()[0]["train"]["log_prob"] == pytest.approx(ends[0], rel=1e-9)
    assert ends[1] > ends[0] + 100  # most pixels need less noise than the average


def test_factor_analysis_in_every_group(exact: Exact, copy_of: Any, invoke: Any) -> None:
    """Whatever a measure needs, it has or says why not; nothing takes it for a VAE."""
    path = copy_of(exact("fa").path)
    done = invoke("evaluate", path, "--images", "200", "--json")
    assert done.exit_code == 0, done.stderr
    only = ["--images", "5", "--only", "iw,quadrature,ais"]
    assert invoke("evaluate", path, *only).exit_code == 0
    run = RunFolder.open(path)
    test, absent = run.metrics()["test"], run.evaluation()
    assert test["smallest_sigma"]["value"] == pytest.approx(0.1)
    assert test["smallest_sigma"]["covariance_floor"] == 0.01
    assert 0 < test["pixels_at_floor"]["value"] < 1
    assert {"train_test_gap", "floor_slope", "log_prob_at_floor", "sigma_median"} <= test.keys()
    assert test["linear_probe_accuracy"]["codes"] == "of p(z|x)"
    assert test["log_prob_of_data"]["covariance_floor"] == 0.01
    exact_one = "ln p(x) and the posterior of this model are exact"
    for group in ("rescoring", "induced", "iw", "quadrature", "ais"):
        assert set(absent[group]["absent"].values()) == {exact_one}
        assert not [name for name, entry in test.items() if entry.get("group") == group]
    for group in ("rate", "singularities", "decoding", "codes"):
        assert (path / "figures" / f"evidence-{group}.png").exists()


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
    message = "stopped at train.max_iter = 1 before EM converged"
    assert message in exact("spherical").stderr
    for name in EXACT:
        if name != "spherical":
            assert "max_iter" not in exact(name).stderr, name
