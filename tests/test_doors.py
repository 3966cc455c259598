"""What is added through a public door works everywhere, without another line being changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_model import PinnedExperiment
from toys import LAPLACE

from vaexp.config.covariances import COVARIANCES, CovarianceFamily
from vaexp.config.experiments import EXPERIMENTS
from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.config.sigma import SIGMA_MODES, SigmaMode
from vaexp.models.covariances.diag import Diag

CONFIG = """\
model: {kind: vae, hidden: [16], latent_dim: 1, conditional: false, likelihood: laplace, beta: 0.5}
data: {limit: 256, validation_size: 500, labels: [4, 9]}
train: {epochs: 2, batch_size: 32}
evaluate: {importance_samples: 5}
"""


@pytest.fixture
def laplace(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in the table."""
    monkeypatch.setitem(LIKELIHOODS, "laplace", LAPLACE)


@pytest.mark.usefixtures("laplace", "elsewhere")
def test_a_likelihood_of_a_users_own(invoke: Callable[..., Any]) -> None:
    """Train, sample, evaluate and compare ask it, and what it has not is absent with a reason."""
    Path("laplace.yaml").write_text(CONFIG)
    Path("gaussian.yaml").write_text(CONFIG.replace("laplace", "gaussian"))
    runs = []
    for config in ("laplace.yaml", "gaussian.yaml"):
        done = invoke("train", config)
        assert done.exit_code == 0, done.stderr
        runs.append(Path(done.stdout.strip()))
    run = runs[0]
    elbo = json.loads((run / "metrics.json").read_text())["test"]["elbo"]
    assert elbo["measure"] == "density"
    assert elbo["value"] < -784 * torch.tensor(2.0).log().item()  # mu = x is the best there can be

    for mode in ("mean", "sample"):
        assert invoke("sample", run, "--decode", mode).exit_code == 0
    refused = invoke("sample", run, "--decode", "sweep")
    assert refused.exit_code == 2
    assert "it has no sigma" in refused.stderr

    done = invoke("evaluate", run, "--images", 150)
    assert done.exit_code == 0, done.stderr
    done = invoke("evaluate", run, "--images", 4, "--only", "iw,quadrature,ais", "-k", 5)
    assert done.exit_code == 0, done.stderr
    test = json.loads((run / "metrics.json").read_text())["test"]
    # beta = 1/2 halves the scale, and no z moves ln Z
    assert test["log_c"]["method"] == "constant"
    assert test["induced_identity_error"]["value"] < 1e-6
    assert test["log_density_given_z_gap"]["expected"] == 784
    absent = json.loads((run / "evaluation.json").read_text())
    assert set(absent["rescoring"]["absent"].values()) == {"p(x|z) has no sigma"}
    assert "pixels_at_floor" in absent["singularities"]["absent"]

    done = invoke("compare", *runs)
    assert done.exit_code == 0, done.stderr
    assert "Laplace" in done.stdout


@pytest.mark.usefixtures("elsewhere")
def test_a_sigma_mode_of_an_existing_shape(
    monkeypatch: pytest.MonkeyPatch, invoke: Callable[..., Any]
) -> None:
    """One learned sigma for each pixel position, whatever z is: one entry in the table."""
    mode = SigmaMode("one σ per position (≥ {floor:g})", learned=True, of_z=False, per_pixel=True)
    monkeypatch.setitem(SIGMA_MODES, "position", mode)
    text = CONFIG.replace("likelihood: laplace", "sigma_mode: position, sigma: 0.5")
    Path("position.yaml").write_text(text)
    done = invoke("train", "position.yaml")
    assert done.exit_code == 0, done.stderr
    run = Path(done.stdout.strip())
    done = invoke("evaluate", run, "--images", 150, "--only", "rescoring,induced,singularities")
    assert done.exit_code == 0, done.stderr
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert test["elbo"]["sigma_floor"] == test["floor_slope"]["sigma_floor"] == 0.001
    assert test["log_c"]["method"] == "constant"  # no z moves sigma
    absent = json.loads((run / "evaluation.json").read_text())["singularities"]["absent"]
    assert "the same for every z" in absent["nearest_train_distance"]
    assert "one σ per position (≥ 0.001)" in invoke("runs", "runs").stdout.replace("\n", "")


class Again(Diag):
    """The variances of ``diag`` under another name."""

    name = "again"


@pytest.mark.usefixtures("elsewhere")
def test_a_covariance(monkeypatch: pytest.MonkeyPatch, invoke: Callable[..., Any]) -> None:
    """One entry in the table, for the same numbers as those of the family that it repeats."""
    again = CovarianceFamily("again a variance per pixel", "test_doors:Again")
    monkeypatch.setitem(COVARIANCES, "again", again)
    runs = []
    for name in ("again", "diag"):
        Path("mixture.yaml").write_text(
            f"model: {{kind: gmm, covariance: {name}, components: 3, init: random}}\n"
            "train: {max_iter: 2}\ndata: {limit: 200, validation_size: 500, labels: [4, 9]}\n"
        )
        done = invoke("train", "mixture.yaml")
        assert done.exit_code == 0, done.stderr
        runs.append(Path(done.stdout.strip()))
        only = "decoding,singularities,codes"
        assert invoke("evaluate", runs[-1], "--images", 150, "--only", only).exit_code == 0
    again_run, diag = (json.loads((run / "metrics.json").read_text()) for run in runs)
    assert again_run == diag
    assert "again a variance per pixel" in invoke("compare", *runs).stdout.replace("\n", " ")


EXACT = """\
model: {kind: pinned, latent_dim: 3}
data: {limit: 400, validation_size: 500, labels: [4, 9]}
train: {tolerance: 1.0e-6, restarts: 2}
"""


@pytest.mark.usefixtures("elsewhere")
def test_an_exact_model(monkeypatch: pytest.MonkeyPatch, invoke: Callable[..., Any]) -> None:
    """Its section, its file, its steps and one line: everything else is there already."""
    monkeypatch.setitem(EXPERIMENTS, "pinned", PinnedExperiment)
    Path("pinned.yaml").write_text(EXACT)
    Path("free.yaml").write_text(EXACT.replace("pinned", "ppca"))
    runs = []
    for config in ("pinned.yaml", "free.yaml"):
        done = invoke("train", config)
        assert done.exit_code == 0, done.stderr
        runs.append(Path(done.stdout.strip()))
    pinned, free = runs
    records = [json.loads(line) for line in (pinned / "metrics.jsonl").read_text().splitlines()]
    assert {"train", "validation", "longest", "stopped"} <= records[-1].keys()
    assert [record["stopped"] for record in records if record["stopped"]] == ["tolerance"] * 2
    for record in records:
        assert record["train"]["elbo_after_e"] == pytest.approx(record["train"]["log_prob"])
    test, learned = (json.loads((run / "metrics.json").read_text())["test"] for run in runs)
    assert test["log_prob"]["kind"] == "exact"
    assert test["elbo"]["value"] == pytest.approx(test["log_prob"]["value"])
    assert test["log_prob"]["value"] < learned["log_prob"]["value"]  # sigma is not the best one
    figures = {path.stem for path in (pinned / "figures").iterdir()}
    assert {"samples", "latent_plane", "posterior", "factors", "spectrum", "em"} <= figures
    assert "principal_axes" not in figures  # its columns of W are not orthogonal
    assert "principal_axes" in {path.stem for path in (free / "figures").iterdir()}

    for mode in ("mean", "sample", "sweep"):
        assert invoke("sample", pinned, "--decode", mode).exit_code == 0
    assert invoke("sample", pinned, "--grid", "--axes", 3, 1).exit_code == 0
    for run in runs:
        done = invoke("evaluate", run, "--images", 150)
        assert done.exit_code == 0, done.stderr
    test = json.loads((pinned / "metrics.json").read_text())["test"]
    assert {"mutual_information", "coverage_1", "linear_probe_accuracy"} <= test.keys()
    absent = json.loads((pinned / "evaluation.json").read_text())["rescoring"]["absent"]
    assert set(absent.values()) == {"ln p(x) and the posterior of this model are exact"}

    done = invoke("compare", pinned, free, "--figure")
    assert done.exit_code == 0, done.stderr
    assert "PCA with σ pinned at 0.25" in done.stdout.replace("\n", " ")
    assert "PCA with σ pinned at 0.25, L = 3" in invoke("runs", "runs").stdout.replace("\n", "")
    assert '"PinnedConfig"' in invoke("schema").stdout
    [refused] = [invoke("train", "pinned.yaml", "model.kind=pined")]
    assert "'fa' or 'pinned'" in refused.stderr
