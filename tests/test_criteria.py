"""AIC and BIC: against scikit-learn, and the number of free parameters against a Jacobian."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from exact_runs import EXACT, MIXTURES, Exact
from sklearn.mixture import GaussianMixture
from small_models import KINDS, initial_gmm, written_out
from torch import Tensor

from vaexp.models.fa import FA
from vaexp.models.ppca import PPCA

OF_SKLEARN = ["full", "tied", "diag", "spherical"]


def train_entries(trained: Any) -> dict[str, Any]:
    return trained.run.metrics()["train"]


@pytest.mark.parametrize("name", OF_SKLEARN)
def test_they_are_those_of_scikit_learn(exact: Exact, name: str) -> None:
    trained = exact(name)
    weights = {
        key.removeprefix("gaussians."): one.double().numpy() for key, one in trained.weights.items()
    }
    covariances = weights["covariance" if name in ("full", "tied") else "variances"]
    x = trained.images("train")[0].numpy()
    mixture = GaussianMixture(len(weights["weight"]), covariance_type=name, max_iter=1)
    mixture.weights_, mixture.means_ = weights["weight"], weights["mean"]
    mixture.covariances_ = covariances
    if name in ("diag", "spherical"):
        mixture.precisions_cholesky_ = covariances**-0.5
    else:
        roots = torch.linalg.cholesky(torch.from_numpy(covariances))
        eye = torch.eye(784, dtype=torch.float64)
        mixture.precisions_cholesky_ = torch.linalg.solve_triangular(
            roots, eye.expand_as(roots), upper=False
        ).mT.numpy()
    entries = train_entries(trained)
    assert entries["aic"]["parameters"] == mixture._n_parameters()
    for entry, expected in [(entries["aic"], mixture.aic(x)), (entries["bic"], mixture.bic(x))]:
        assert entry["value"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_they_follow_from_ln_p_and_say_what_they_are(exact: Exact, name: str) -> None:
    trained = exact(name)
    entries = train_entries(trained)
    n, p = entries["log_prob"]["n"], entries["aic"]["parameters"]
    assert n == 300
    fit = -2 * n * entries["log_prob"]["value"]
    assert entries["aic"]["value"] == pytest.approx(fit + 2 * p, rel=1e-12)
    assert entries["bic"]["value"] == pytest.approx(fit + p * math.log(n), rel=1e-12)
    for criterion in ("aic", "bic"):
        entry = entries[criterion]
        assert (entry["kind"], entry["unit"], entry["aggregate"]) == ("exact", "nats", "whole")
        assert (entry["measure"], entry["of"], entry["n"]) == ("density", "x", n)
        assert ("covariance_floor" in entry) == (name in (*MIXTURES, "fa"))
    metrics = trained.run.metrics()
    assert {"aic", "bic"}.isdisjoint(metrics["test"])
    assert {"aic", "bic"}.isdisjoint(metrics["validation"])
    [line] = [line for line in trained.stderr.splitlines() if line.startswith("train  aic")]
    assert f"({p:,} free parameters)" in line
    assert f"bic {entries['bic']['value']:,.0f}" in line or abs(entries["bic"]["value"]) < 1e5


# The number of free parameters is the rank of the map from parameters to the distribution


def rank_of(distribution: Any, parameters: list[Tensor]) -> int:
    """The rank of the Jacobian of what determines p(x) by all parameters together."""
    sizes = [parameter.numel() for parameter in parameters]

    def flat(numbers: Tensor) -> Tensor:
        parts = numbers.split(sizes)
        given = [part.view_as(one) for part, one in zip(parts, parameters, strict=True)]
        return torch.cat([each.flatten() for each in distribution(*given)])

    point = torch.cat([parameter.flatten() for parameter in parameters])
    jacobian = torch.autograd.functional.jacobian(flat, point)
    assert isinstance(jacobian, Tensor)
    return int(torch.linalg.matrix_rank(jacobian, rtol=1e-9))


@pytest.mark.parametrize("kind", KINDS)
def test_the_count_of_a_mixture_is_the_rank_of_its_parameters(kind: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(90, 5, dtype=torch.float64)
    model = initial_gmm(x, torch.arange(90) % 3, 3, kind, factors=2, floor=0.01)
    names = [name for name, _ in model.gaussians.named_buffers()]

    def moments(logits: Tensor, *values: Tensor) -> list[Tensor]:
        gaussians = type(model.gaussians)(*values)
        if kind in ("full", "tied"):  # only symmetric matrices are covariances
            lower = gaussians.covariance.tril()
            gaussians.covariance = lower + lower.mT.triu(1)
        return [logits.softmax(0), gaussians.mean, written_out(gaussians)]

    values = [model.gaussians.get_buffer(name).double() for name in names]
    noise = [value + 0.01 * torch.rand_like(value) for value in values]
    assert rank_of(moments, [torch.zeros(3).double(), *noise]) == model.free_parameters


@pytest.mark.parametrize(("kind", "noise"), [(PPCA, ()), (FA, (7,))])
@pytest.mark.parametrize("latents", [1, 2, 3])
def test_the_count_of_a_linear_model_is_the_rank_of_its_parameters(
    kind: Any, noise: tuple[int, ...], latents: int
) -> None:
    torch.manual_seed(1)
    parameters = [torch.randn(7), torch.randn(7, latents), torch.rand(noise) + 0.5]

    def moments(mean: Tensor, factors: Tensor, variance: Tensor) -> list[Tensor]:
        return [mean, factors @ factors.T + torch.eye(7) * variance]

    parameters = [parameter.double() for parameter in parameters]
    assert rank_of(moments, parameters) == kind(*parameters).free_parameters


def test_without_all_training_images_there_are_none(invoke: Any, tmp_path: Any) -> None:
    settings = ["model.method=closed_form", "data.limit=1200", "--runs-dir", tmp_path]
    config = tmp_path / "ppca.yaml"
    config.write_text("model: {kind: ppca}")
    for arguments, there in ((["--quick"], False), (["--quick", "data.limit=900"], True)):
        done = invoke("train", config, *settings, *arguments)
        assert done.exit_code == 0, done.stderr
        run = done.stdout.strip()
        entries = json.loads((Path(run) / "metrics.json").read_text())["train"]
        assert ("aic" in entries) == ("bic" in entries) == there
        assert ("free parameters" in done.stderr) == there


def test_runs_are_sorted_by_them(invoke: Any, exact: Exact) -> None:
    trained = exact("closed")
    folder, value = trained.path.parent, train_entries(trained)["bic"]["value"]
    columns = ["--columns", "train.bic,train.aic", "--sort", "train.bic", "--json"]
    [row] = json.loads(invoke("runs", folder, *columns).stdout)
    assert row["train.bic"] == value
    shown = invoke("runs", folder, *columns[:-1]).stdout
    assert f"{value:,.0f}" in shown or f"{value:.5g}" in shown
