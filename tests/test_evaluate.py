"""``vaexp evaluate`` through the command line: what it writes, says and refuses."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaexp.data import Transform
from vaexp.evaluation.groups import GROUPS, fast_groups
from vaexp.evaluation.measure import Measure
from vaexp.evaluation.scope import Tightness
from vaexp.evaluation.tails import Tails
from vaexp.experiment.measure import with_bits_per_dim
from vaexp.runs.folder import RunFolder

# A name that each group gives every VAE with a Gaussian likelihood
OF_A_GAUSSIAN_VAE = {
    "rate": "mutual_information",
    "rescoring": "elbo_sigma_pixel",
    "levels": "elbo_levels",
    "induced": "induced_elbo",
    "singularities": "train_test_gap",
    "decoding": "coverage_1",
    "optimal_mean": "optimal_mean_gap_prior",
    "quality": "digit_fid_mean",
    "prior": "outside_prior",
    "codes": "linear_probe_accuracy",
    "labels": "elbo_labels_summed",
}


@pytest.fixture
def evaluate(invoke: Any) -> Any:
    """Evaluate a run; the entries it prints."""

    def evaluate(run: Path, *arguments: str) -> dict[str, Any]:
        done = invoke("evaluate", run, *arguments, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


@pytest.fixture(scope="session")
def evaluated(fixed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A copy of ``fixed`` with the default set, what was printed, and what was said."""
    import shutil

    from typer.testing import CliRunner

    from vaexp.cli import app

    run = Path(shutil.copytree(fixed, tmp_path_factory.mktemp("evaluated") / fixed.name))
    done = CliRunner().invoke(app, ["evaluate", str(run)])
    assert done.exit_code == 0, done.stderr
    return run, done.stdout, done.stderr


def test_the_default_set_is_all_but_the_slow_ones(evaluated: Any) -> None:
    run, stdout, stderr = evaluated
    test = RunFolder(run).metrics()["test"]
    groups = {entry.get("group") for entry in test.values()}
    assert groups == {None, *OF_A_GAUSSIAN_VAE}
    assert list(OF_A_GAUSSIAN_VAE) == [name for name in fast_groups() if name != "law"]
    assert "law_gap" in RunFolder(run).evaluation()["law"]["absent"]  # it is of linear VAEs
    for group, name in OF_A_GAUSSIAN_VAE.items():
        assert test[name]["group"] == group
        assert name in stdout
        assert f"{group}: " in stderr


def test_every_number_is_finite_and_labelled(evaluated: Any) -> None:
    run, _, _ = evaluated
    for name, entry in RunFolder(run).metrics()["test"].items():
        assert math.isfinite(entry["value"]), name
        assert {"unit", "n", "aggregate"} <= entry.keys(), name
        assert entry["n"] > 1, name
        if entry["unit"] == "nats" and entry.get("kind") == "lower_bound":
            of = "x" if name == "elbo_labels_summed" else "x given label"
            assert entry["of"].startswith(of), name
            assert entry["measure"] == ("mass" if "_levels" in name else "density"), name


def test_per_image_values_are_those_behind_the_numbers(evaluated: Any) -> None:
    run = RunFolder(evaluated[0])
    arrays, seen = run.per_example(), 0
    for name, entry in run.metrics()["test"].items():
        if entry["aggregate"] == "whole":
            assert name not in arrays
            continue
        mean = arrays[name].mean()
        value = math.sqrt(mean) if entry["aggregate"] == "root_mean" else mean
        assert value == pytest.approx(entry["value"], rel=1e-6, abs=1e-12), name
        assert len(arrays[name]) == entry["n"]
        seen += 1
    assert seen > 15


def test_the_split_of_the_rate_adds_up(evaluated: Any) -> None:
    test = RunFolder(evaluated[0]).metrics()["test"]
    parts = test["mutual_information"]["value"] + test["marginal_kl"]["value"]
    assert parts == pytest.approx(test["rate"]["value"], rel=1e-5)
    assert test["rate_bits"]["value"] == pytest.approx(test["rate"]["value"] / math.log(2))


def test_sigma_one_is_a_bad_model_of_the_pixels(evaluated: Any) -> None:
    """The same mean at its best sigma has a higher ELBO, per pixel more so."""
    test = RunFolder(evaluated[0]).metrics()["test"]
    names = ("elbo_as_trained", "elbo_sigma_global", "elbo_sigma_pixel")
    values = [test[name]["value"] for name in names]
    assert values[0] + 500 < values[1] < values[2]
    # beta = 1 implies the sigma that it has
    assert test["elbo_sigma_implied"]["value"] == pytest.approx(values[0], rel=1e-6)


def test_compare_shows_what_was_measured(evaluated: Any, learned: Path, invoke: Any) -> None:
    done = invoke("compare", evaluated[0], learned, "--format", "md")
    assert done.exit_code == 0, done.stderr
    for title in ("What the codes carry", "What is lost by drawing μ(z)"):
        assert f"### {title}" in done.stdout
    assert "| digit_fid_mean" in done.stdout


def test_train_measures_the_cheap_group(learned: Path) -> None:
    test = RunFolder(learned).metrics()["test"]
    assert {entry.get("group") for entry in test.values()} == {None, "rate"}
    assert (learned / "evidence" / "rate.npz").is_file()


def test_a_group_again_replaces_itself_with_the_same(
    evaluated: Any, evaluate: Any, copy_of: Any
) -> None:
    run = copy_of(evaluated[0])
    before = (run / "metrics.json").read_text()
    found = evaluate(run, "--only", "rate")
    assert json.loads(before)["test"].items() >= found.items()
    assert json.loads((run / "metrics.json").read_text()) == json.loads(before)


def test_only_some_images(evaluated: Any, evaluate: Any, copy_of: Any) -> None:
    run = copy_of(evaluated[0])
    found = evaluate(run, "--only", "quadrature", "--images", "20")
    entry = found["log_prob_quadrature"]
    assert (entry["n"], entry["first_images"]) == (20, 20)
    assert "first_images" not in RunFolder(run).metrics()["test"]["elbo"]
    assert entry["kind"] == "estimate"
    bound = RunFolder(run).per_example()["elbo"][:20]
    exact = RunFolder(run).per_example()["log_prob_quadrature"]
    assert len(exact) == 20
    gap = exact - bound  # of each image with the Monte Carlo noise of its bound
    assert gap.mean() > -3 * gap.std(ddof=1) / math.sqrt(20)
    assert np.abs(gap).max() < 3


def test_more_importance_samples(evaluated: Any, evaluate: Any, invoke: Any, copy_of: Any) -> None:
    run = copy_of(evaluated[0])
    before = RunFolder(run).metrics()["test"]["iw_bound"]
    entry = evaluate(run, "--only", "iw", "-k", "50")["iw_bound"]
    assert (before["k"], entry["k"]) == (5, 50)
    tails = [*(field.name for field in fields(Tails)), "share_below_10_effective_samples"]
    changed = ("k", "value", "se", "mc_se", "effective_samples", *tails)
    assert entry | {key: before[key] for key in changed} == before
    assert entry["value"] > before["value"]
    assert RunFolder(run).metrics()["test"]["iw_bound"] == entry
    assert invoke("compare", run, evaluated[0]).exit_code == 0
    assert invoke("evaluate", run, "--only", "iw", "-k", "2").exit_code == 0  # as a table


def test_annealing_agrees_with_quadrature(evaluated: Any, evaluate: Any, copy_of: Any) -> None:
    run = copy_of(evaluated[0])
    found = evaluate(run, "--only", "quadrature,ais", "--images", "4")
    arrays = RunFolder(run).per_example()
    gap = arrays["log_prob_quadrature"] - arrays["log_prob_ais"]
    assert np.abs(gap).max() < 0.2
    assert found["log_prob_ais"]["n"] == 4


# Models that lack something


def test_a_bernoulli_model_has_no_sigma(bernoulli: Path, invoke: Any, copy_of: Any) -> None:
    run = copy_of(bernoulli)
    done = invoke("evaluate", run, "--only", "rescoring,singularities,decoding", "--json")
    assert done.exit_code == 0, done.stderr
    assert "sigma" in done.stderr
    groups = ("rescoring", "singularities", "decoding")
    absent = {group: RunFolder(run).evaluation()[group] for group in groups}
    names = {name for group in absent.values() for name in group["absent"]}
    assert {"elbo_sigma_pixel", "coverage_1"} <= names
    assert not names & RunFolder(run).metrics()["test"].keys()
    printed = json.loads(done.stdout)
    for group in absent.values():
        for name, reason in group["absent"].items():
            assert printed[name] == {"value": None, "absent": reason}


def test_an_unconditional_model_has_no_label_accuracy(
    bernoulli: Path, evaluate: Any, copy_of: Any
) -> None:
    run = copy_of(bernoulli)
    found = evaluate(run, "--only", "quality")
    assert found["label_accuracy_mean"]["value"] is None
    assert any(
        "label_accuracy" in name for name in RunFolder(run).evaluation()["quality"]["absent"]
    )


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("{kind: gmm, components: 3, covariance: diag}", set()),
        ("{kind: ppca, latent_dim: 3}", {"prior"}),
    ],
)
def test_exact_models(
    model: str, more: set[str], tmp_path: Path, invoke: Any, evaluate: Any
) -> None:
    data = "data: {limit: 256, validation_size: 500, labels: [4, 9]}\n"
    (tmp_path / "exact.yaml").write_text(f"model: {model}\n{data}train: {{max_iter: 3}}\n")
    done = invoke("train", tmp_path / "exact.yaml", "--runs-dir", tmp_path)
    assert done.exit_code == 0, done.stderr
    run = Path(done.stdout.strip())
    found = evaluate(run)
    measured = [entry for entry in found.values() if "absent" not in entry]
    assert {entry["group"] for entry in measured} == more | {
        "rate", "levels", "singularities", "decoding", "optimal_mean", "quality", "codes",
    }  # fmt: skip
    assert "exact" in RunFolder(run).evaluation()["induced"]["absent"]["induced_elbo"]


# Refusals


def test_a_group_there_is_not(fixed: Path, invoke: Any) -> None:
    done = invoke("evaluate", fixed, "--only", "rate,fid")
    assert done.exit_code == 2
    assert done.stderr.startswith("--only fid: there is no such group; there are rate, rescoring,")


def test_a_misspelt_group_copies_nothing(fixed: Path, invoke: Any, tmp_path: Path) -> None:
    done = invoke("evaluate", fixed, "--only", "qality", "--out", tmp_path / "copy")
    assert "--only qality: there is no such group" in done.stderr
    assert not (tmp_path / "copy").exists()


def test_a_run_that_has_not_finished(fixed: Path, invoke: Any, copy_of: Any) -> None:
    run = copy_of(fixed)
    (run / "metrics.json").unlink()
    done = invoke("evaluate", run)
    assert done.exit_code == 1
    assert "has no final metrics" in done.stderr


def test_the_help_names_every_group(invoke: Any) -> None:
    text = " ".join(invoke("evaluate", "--help").stdout.replace("│", " ").split())
    for group in GROUPS:
        assert group in text


# Bits per dimension

DENSITY = {"measure": "density", "of": "x"}
MASS = {"measure": "mass", "of": "x", "on": "grey levels"}
NATS = torch.tensor([100.0, 200.0, 300.0], dtype=torch.float64)


def test_bits_per_dimension_turn_bounds_over_and_leave_nats_behind() -> None:
    x = torch.rand(3, 784)
    bound = Measure(
        NATS,
        "nats",
        facts={"chains": 16},
        kind="lower_bound",
        likelihood="log_prob",
        tightness=Tightness.ELBO,
        headline=True,
    )
    value = Measure(
        NATS, "nats", facts={"error": 0.01, "nodes": 9}, kind="estimate", likelihood="log_prob"
    )
    given = {"a": bound, "b": value, "c": Measure(NATS, "nats", likelihood="derived")}
    found = with_bits_per_dim(given, Transform("dequantize"), x, DENSITY)
    assert found.items() >= given.items()
    assert found.keys() - given.keys() == {"a_bits_per_dim", "b_bits_per_dim"}
    a, b = found["a_bits_per_dim"], found["b_bits_per_dim"]
    assert (a.kind, a.facts) == ("upper_bound", {"chains": 16})
    assert (b.kind, b.facts) == ("estimate", {"nodes": 9})
    for bits in (a, b):
        assert (bits.unit, bits.scope, bits.tightness) == ("bits/dim", "any_transform", None)
        assert not bits.headline
    # x = (k + u) / 256, so that p(k + u) = p(x) / 256 in each pixel
    expected = 8 - NATS / (784 * math.log(2))
    torch.testing.assert_close(b.values.double(), expected, rtol=1e-5, atol=0)


def test_bits_per_dimension_of_a_mass_on_grey_levels() -> None:
    """A uniform mass on 256 levels costs 8 bits in each pixel, whatever x is scaled to."""
    nats = torch.full((3,), -784 * math.log(256), dtype=torch.float64)
    variance = torch.full((3,), (784 * math.log(2)) ** 2, dtype=torch.float64)
    given = {"elbo": Measure(nats, "nats", variance, kind="lower_bound", likelihood="log_prob")}
    x = torch.rand(3, 784)
    bits = with_bits_per_dim(given, Transform("scale"), x, MASS)["elbo_bits_per_dim"]
    torch.testing.assert_close(bits.values, torch.full_like(nats, 8), rtol=1e-12, atol=0)
    torch.testing.assert_close(bits.monte_carlo_variance, torch.ones_like(nats))
    assert bits.kind == "upper_bound"


@pytest.mark.parametrize(
    ("transform", "facts"),
    [
        ("scale", DENSITY),
        ("binarize", MASS | {"on": "binary pixels"}),
        ("binarize_stochastic", MASS | {"on": "binary pixels"}),
    ],
)
def test_what_says_nothing_of_the_grey_values_has_no_bits(
    transform: Any, facts: dict[str, Any]
) -> None:
    given = {"elbo": Measure(NATS, "nats", likelihood="log_prob")}
    assert with_bits_per_dim(given, Transform(transform), torch.rand(3, 784), facts) == given
