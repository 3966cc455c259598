"""Exact models from the command line: drawn from, compared and listed."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_runs import (
    RUNS,
    Exact,
    Trained,
)
from run_folders import files
from torch.distributions import (
    LowRankMultivariateNormal,
)

# Drawing


@pytest.fixture
def draw(draw: Any) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Draw from a trained run: the image's name and the arrays."""

    def by_name(trained: Trained, *arguments: str) -> tuple[str, dict[str, Any]]:
        image, arrays = draw(trained.path, *arguments)
        return image.name, arrays

    return by_name


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


def test_draws_of_factor_analysis(exact: Exact, draw: Any) -> None:
    trained = exact("fa")
    _, arrays = draw(trained, "--decode", "sample", "-n", "2000")
    factors, mean = trained.weights["factors"].numpy(), trained.weights["mean"].numpy()
    sigma = trained.weights["variances"].sqrt().numpy()
    noise = (arrays["x"] - arrays["z"] @ factors.T - mean) / sigma
    assert np.abs(noise.std(0) - 1).max() < 5 / math.sqrt(2 * 2000)
    _, arrays = draw(trained, "--decode", "sweep", "-n", "2")
    steps = np.diff(arrays["x"], axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(sigma, steps.shape), rtol=1e-4)
    name, arrays = draw(trained, "--grid")
    assert name == "mean-grid-z1-z2-seed1.png"
    np.testing.assert_allclose(arrays["x"][0], arrays["z"] @ factors.T + mean, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("diag", ["--component", "3"], "--component 3: there are 3, counted from 0"),
        ("diag", ["--component", "-1"], "--component"),
        ("ppca", ["--component", "0"], "--component: only a Gaussian mixture has components"),
        ("fa", ["--component", "0"], "--component: only a Gaussian mixture has components"),
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
def comparison(comparison: Any, exact: Exact) -> Callable[..., Any]:
    """The comparison of runs of RUNS, by name."""
    return lambda *names: comparison(*[exact(name).path for name in names])


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
        answer = comparison(*names)
        [ranking] = answer["rankings"]
        assert ranking["metric"] == metric
        assert answer["unranked"] == {}
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
    assert answer["rankings"] == []
    assert list(answer["unranked"]) == answer["runs"]


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
    assert answer["rankings"] == []
    assert all(reason in why for why in answer["unranked"].values())


def test_what_a_comparison_prints(exact: Exact, invoke: Any, copy_of: Any) -> None:
    first = copy_of(exact("diag").path)
    runs = [first, exact("ppca").path, exact("vae").path]
    done = invoke("compare", *runs, "--format", "md", "--figure")
    assert done.exit_code == 0, done.stderr
    drawn = sorted((first / "figures").glob("compare*.png"))
    assert done.stderr.splitlines() == [
        "no picture of the training curves: some runs were fitted by EM",
        *(f"figure {figure}" for figure in reversed(drawn)),
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
    assert "Their floors differ, and a density depends on its floor." in text


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
    assert by_name["fa"]["model"].startswith("factor analysis, L = 3, noise floor 0.01")
    for format_ in ("table", "md", "csv"):
        text = invoke("runs", mixed, "--format", format_).stdout
        for name in RUNS:
            assert exact(name).path.name in text


def test_a_list_shows_only_settings_that_differ(forge: Any, invoke: Any) -> None:
    """Runs that lack a section, as closed_form lacks train, make no difference in it."""
    forge("a", "model.kind=gmm", "model.decode_mode=mean")
    forge("b", "model.kind=gmm", "model.decode_mode=mean", "model.covariance=tied")
    forge("c", "model.kind=ppca", "train.tolerance=1e-3")
    forge("d", "model.kind=ppca", "model.method=closed_form")
    forge("e", "model.beta=2")
    text = invoke("runs", forge.folder).stdout
    assert "train." not in text
    assert "seed" not in text
    assert "model." not in text  # the model's description says it


def test_figures_across_kinds(exact: Exact, copy_of: Any, invoke: Any) -> None:
    first = copy_of(exact("ppca").path)
    names = ("labels", "lowrank", "fa", "linear")
    runs = [first, *(exact(name).path for name in names)]
    done = invoke("compare", *runs, "--figure", "--json")
    assert done.exit_code == 0, done.stderr
    [path] = (first / "figures").glob("compare*.png")
    assert path.read_bytes().startswith(b"\x89PNG")
