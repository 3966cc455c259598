"""The gaps of approximation and amortisation, on linear VAEs whose posteriors are known."""

import json
import math
from typing import Any

import pytest
import torch
from small_models import linear_gaussian as exact_vae
from small_models import linear_vae, marginal, no_label, rough_vae, set_posterior
from torch import Tensor

from vaexp.evaluation import gaps as module
from vaexp.evaluation.gaps import NAMES, gaps
from vaexp.evaluation.measure import Measure
from vaexp.models import VAE

D = 6


def images(n: int) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(n, D, dtype=torch.float64)


def measured(model: VAE, x: Tensor) -> dict[str, dict[str, Any]]:
    torch.manual_seed(3)
    return {name: one.summary() for name, one in gaps(model, x, no_label(x)).entries.items()}


@pytest.mark.parametrize("columns", [(1.5, 0.7), (1.5, 0.9, 0.4)])
@torch.no_grad()
def test_of_an_exact_encoder_both_are_0(columns: tuple[float, ...]) -> None:
    model, x = exact_vae(D, columns), images(30)
    found = measured(model, x)
    assert found["amortisation_gap"]["value"] == pytest.approx(0, abs=5e-3)
    entry = found["approximation_gap"]
    assert entry["value"] == pytest.approx(0, abs=4 * entry["mc_se"] + 5e-3)
    assert entry["log_prob_by"] == ("quadrature" if len(columns) == 2 else "importance weights")
    expected = marginal(model).log_prob(x).mean().item()
    assert found["elbo_free"]["value"] == pytest.approx(expected, abs=4 * entry["mc_se"] + 5e-3)


@torch.no_grad()
def test_a_wrong_encoder_is_an_amortisation_gap() -> None:
    """Its KL to the posterior: L/2 (r^2 - 1 - ln r^2) + |shift|^2 / 2 s^2 of a stretch r."""
    columns, shift, stretch = (1.5, 0.7), 0.4, 1.7
    right = exact_vae(D, columns)
    scale = right.encode(images(1)).stddev[0]
    model, x = exact_vae(D, columns, shift=shift, stretch=stretch), images(30)
    found = measured(model, x)
    expected = (shift**2 / scale.square()).sum().item() / 2
    expected += len(columns) / 2 * (stretch**2 - 1 - math.log(stretch**2))
    entry = found["amortisation_gap"]
    assert entry["value"] == pytest.approx(expected, abs=4 * entry["mc_se"] + 5e-3)
    assert found["approximation_gap"]["value"] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("latents", [2, 3])
@torch.no_grad()
def test_a_posterior_with_correlations_is_an_approximation_gap(latents: int) -> None:
    """The best diagonal q of N(m, P^-1) has variances 1 / P_ll, and the KL
    (sum_l ln P_ll - ln det P) / 2."""
    torch.manual_seed(5)
    model = linear_vae(D, latents, 0.5).double()
    weight = torch.randn(D, latents, dtype=torch.float64)
    weight[:, 1] += weight[:, 0]
    model.likelihood.mean.weight.copy_(weight)
    precision = torch.eye(latents, dtype=torch.float64) + weight.T @ weight / 0.25
    towards = torch.linalg.solve(precision, weight.T) / 0.25
    bias = -towards @ model.likelihood.mean.bias
    set_posterior(model, towards, bias, precision.diagonal().rsqrt().tolist())
    x = images(30)
    found = measured(model, x)
    expected = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()
    assert expected > 0.1
    entry = found["approximation_gap"]
    assert entry["value"] == pytest.approx(expected, abs=4 * entry["mc_se"] + 0.02)
    assert found["amortisation_gap"]["value"] == pytest.approx(0, abs=1e-2)


@torch.no_grad()
def test_the_label_reaches_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """mu(z) of the label is added to mu, and the analytic encoder takes it away again."""
    monkeypatch.setattr(module, "DRAWS", 8192)  # so that the error is well below the tolerance
    x = images(20)
    by_label = torch.randn(10, D, dtype=torch.float64)
    model = exact_vae(D, (1.5, 0.7), by_label=by_label)
    label = torch.arange(20) % 10
    torch.manual_seed(3)
    found = gaps(model, x, label).entries
    for name in ("amortisation_gap", "approximation_gap"):
        entry = found[name].summary()
        assert entry["mc_se"] < 0.004
        assert entry["value"] == pytest.approx(0, abs=0.02), name


def test_networks_have_positive_gaps_that_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWS", 64)
    model, x = rough_vae(D, 0.4, sigma=0.5), images(40).float()
    found = measured(model, x)
    assert found["amortisation_gap"]["value"] > 0.1
    assert found["approximation_gap"]["value"] > -0.05
    assert found["amortisation_gap"]["kind"] == "estimate"
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_errors_are_the_spread_over_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 repetitions, whose spread has a relative error of 11 %; q* itself varies a little."""
    monkeypatch.setattr(module, "DRAWS", 16)
    model, x = exact_vae(D, (1.5, 0.7), stretch=1.5), images(20)
    found = []
    for seed in range(40):
        torch.manual_seed(seed)
        entry = gaps(model, x, no_label(x)).entries["amortisation_gap"]
        assert isinstance(entry, Measure)
        found.append(entry.summary())
    spread = torch.tensor([one["value"] for one in found]).double().std().item()
    stated = math.sqrt(sum(one["mc_se"] ** 2 for one in found) / len(found))
    assert spread == pytest.approx(stated, rel=0.35)


def test_a_run_has_them(fixed: Any, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    done = invoke("evaluate", run, "--only", "gaps", "--images", 3)
    assert done.exit_code == 0, done.stderr
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert {test[name]["group"] for name in NAMES} == {"gaps"}
