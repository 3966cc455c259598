"""The weight 1 / sigma^2 in the gradient of mu(z): measured, and taken away by beta-NLL."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import in_blocks, no_label, rough_vae
from torch import Tensor

from vaexp.config import digest, load_config
from vaexp.errors import UserError
from vaexp.evaluation.gradient_weight import NAMES, top_share
from vaexp.evaluation.sigma_collapse import sigma_collapse
from vaexp.fitting.sgd import SGDOptions, fit
from vaexp.models.elbo import weighted_log_prob
from vaexp.models.likelihoods.diagonal import DiagonalGaussian

DOUBLE = torch.float64


def leaves() -> tuple[Tensor, Tensor, Tensor]:
    """mu and sigma (4, 6), which gradients flow to, and x."""
    torch.manual_seed(1)
    mean, sigma = torch.randn(4, 6, dtype=DOUBLE), torch.rand(4, 6, dtype=DOUBLE) + 0.01
    return mean.requires_grad_(), sigma.requires_grad_(), torch.rand(4, 6, dtype=DOUBLE)


def gradients(exponent: float) -> tuple[Tensor, Tensor]:
    mean, sigma, x = leaves()
    weighted_log_prob(DiagonalGaussian(mean, sigma), x, exponent).sum().backward()
    assert mean.grad is not None
    assert sigma.grad is not None
    return mean.grad, sigma.grad


def test_at_1_the_mean_has_the_gradient_of_the_squared_error() -> None:
    mean, _, x = leaves()
    (-0.5 * (x - mean).square()).sum().backward()
    assert torch.allclose(gradients(1.0)[0], mean.grad, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_both_gradients_are_the_likelihoods_times_the_weight(exponent: float) -> None:
    mean, sigma, x = leaves()
    DiagonalGaussian(mean, sigma).log_prob(x).sum().backward()
    weight = sigma.detach() ** (2 * exponent)
    for found, own in zip(gradients(exponent), (mean.grad, sigma.grad), strict=True):
        assert torch.allclose(found, weight * own, rtol=1e-12)


# In training


def trained(b: float | None, **keys: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and the last record after two epochs of pixels with sigma(z)."""
    torch.manual_seed(3)
    x = torch.rand(40, 6)
    weighting = {} if b is None else {"sigma_weighting": b}
    options = SGDOptions(
        epochs=2,
        steps=None,
        batch_size=8,
        optimizer="sgd",
        learning_rate=1e-3,
        schedule="constant",
        gradient_clip=None,
        patience=None,
        beta=1.0,
        beta_warmup=0.0,
        **weighting,
    )
    model = rough_vae(6, 0.1, sigma=0.2, **{"sigma_mode": "pixel", **keys})
    *_, last = fit(model, lambda rows: x[rows], no_label(x), (x, no_label(x)), options, seed=1)
    return model.state_dict(), last.record


def test_at_0_training_is_bit_for_bit_what_it_was() -> None:
    (a, _), (b, _) = trained(None), trained(0.0)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_objective_alone_is_weighted() -> None:
    weights, record = trained(1.0)
    plain, _ = trained(0.0)
    assert any(not torch.equal(weights[name], plain[name]) for name in weights)
    of_train = record["train"]
    assert of_train["elbo"] == pytest.approx(-of_train["distortion"] - of_train["rate"])
    # sigma = 0.2: each term is 1/25 of the likelihood's
    objective = of_train["objective"] + of_train["rate"]
    assert objective == pytest.approx(-0.04 * of_train["distortion"], rel=0.1)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.sigma_mode=fixed"],
        ["model.sigma_mode=global"],
        ["model.sigma_mode=lowrank"],
        ["model.likelihood=continuous_bernoulli"],
    ],
)
def test_where_there_is_no_sigma_of_z_it_does_not_apply(overrides: list[str]) -> None:
    load_config("vae-unconditional", overrides)
    with pytest.raises(UserError, match="only where sigma is a function of z") as error:
        load_config("vae-unconditional", [*overrides, "train.sigma_weighting=0.5"])
    assert "sigma_weighting" in str(error.value)
    assert "shared or pixel" in str(error.value)


def test_a_config_says_it() -> None:
    config = load_config("vae-pixel", ["train.sigma_weighting=0.5"])
    assert "pixels weighted by σ^1" in config.describe()
    assert "train.sigma_weighting" in config.described()
    plain = load_config("vae-pixel")
    assert "weighted" not in plain.describe()
    assert digest(load_config("vae-pixel", ["train.sigma_weighting=0"])) == digest(plain)
    assert digest(config) != digest(plain)


def test_runs_from_before_the_key_are_still_theirs() -> None:
    """The digest of a config whose file does not know the key, as those versions wrote it."""
    settings = load_config("vae-pixel").model_dump()
    assert settings["train"].pop("sigma_weighting") == 0
    del settings["train"]["checkpoint_minutes"]  # which is no part of what a run is
    settings["data"]["root"] = None
    del settings["output"]  # those versions had none, and it is no part of what a run is
    text = json.dumps(settings, sort_keys=True)
    assert digest(load_config("vae-pixel")) == hashlib.sha256(text.encode()).hexdigest()


# The measure


def test_the_top_share() -> None:
    equal = torch.full((784,), 3.0)
    assert top_share(equal, torch.ones(784)) == pytest.approx(0.01)
    one = torch.cat([torch.tensor([99.0]), torch.ones(99)])
    assert top_share(one, torch.ones(100)) == pytest.approx(0.5)
    counts = torch.tensor([50.0, 150.0])
    assert top_share(torch.tensor([1.0, 4.0]), counts) == pytest.approx(8 / 650)


def test_the_shares_are_those_of_all_sigmas() -> None:
    """One latent draw would not do: the oracle decodes the mean of a posterior that is narrow."""
    model = rough_vae(300, 0.4, sigma_mode="pixel", sigma=0.1, seed=2)
    with torch.no_grad():
        model.posterior.weight[2:] = 0
        model.posterior.bias[2:] = -30.0  # q(z|x) is a point
    torch.manual_seed(5)
    x = torch.rand(90, 300)
    found = sigma_collapse(model, x, no_label(x), in_blocks(x), floor=1e-3).entries
    with torch.no_grad():
        weight = model.decode(model.encode(x).mean).sigma.double() ** -2
    largest = weight.flatten().sort(descending=True).values[: 90 * 3]
    expected = (largest.sum() / weight.sum()).item()
    assert found[NAMES[0]].value == pytest.approx(expected, rel=2e-3)
    positions = weight.mean(0).sort(descending=True).values
    expected = (positions[:3].sum() / positions.sum()).item()
    assert found[NAMES[1]].value == pytest.approx(expected, rel=1e-4)


def test_one_sigma_gives_every_pixel_its_share() -> None:
    model = rough_vae(20, 0.3, sigma_mode="global", sigma=0.3)
    x = torch.rand(30, 20)
    found = sigma_collapse(model, x, no_label(x), in_blocks(x), floor=1e-3).entries
    assert [found[name].value for name in NAMES] == pytest.approx([0.01, 0.01])


def test_with_factors_there_is_no_weight_of_a_pixel() -> None:
    model = rough_vae(20, 0.1, sigma_mode="lowrank", factors=2, sigma=0.3)
    x = torch.rand(30, 20)
    found = sigma_collapse(model, x, no_label(x), in_blocks(x), floor=1e-3)
    assert set(NAMES) <= set(found.absent)


def test_a_run_says_it(invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.yaml").write_text(
        "model: {kind: vae, hidden: [8], sigma: 0.3, sigma_mode: pixel}\n"
        "data: {limit: 128, validation_size: 500, labels: [4, 9]}\n"
        "train: {epochs: 1, sigma_weighting: 1.0}\nevaluate: {importance_samples: 0}\n"
    )
    done = invoke("train", "w.yaml")
    assert done.exit_code == 0, done.stderr
    assert "weighted by σ^2" in invoke("runs", "runs").stdout.replace("\n", "")
