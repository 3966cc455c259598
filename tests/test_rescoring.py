"""Other sigmas for the same q(z|x) and mu(z), against numerical optima and closed forms."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from small_models import in_blocks, linear_vae, no_label, rough_vae
from torch import Tensor
from torch.distributions import Normal

from vaexp.config import VAEConfig
from vaexp.evaluation import rescoring
from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.measure import Evidence
from vaexp.evaluation.rescoring import mean_squared_error, rescored
from vaexp.models import VAE, build
from vaexp.models.likelihoods.diagonal import DiagonalGaussian
from vaexp.models.likelihoods.gaussian import GaussianHead
from vaexp.models.likelihoods.location_scale import raw_for
from vaexp.models.vae import POSTERIOR_FLOOR

D, L = 6, 2
FLOOR = 1e-3


def linear_gaussian(sigma: float = 0.5) -> VAE:
    """mu(z) = W z + b; q(z|x) linear in x, and nothing in particular."""
    torch.manual_seed(1)
    model = linear_vae(D, L, sigma, floor=FLOOR).double()
    with torch.no_grad():
        model.posterior.bias[L:] = raw_for(0.4, POSTERIOR_FLOOR)
        model.posterior.weight[L:] = 0
    return model


@torch.no_grad()
def exact_elbo(model: VAE, x: Tensor, sigma: Tensor) -> Tensor:
    """With sigma () or (D,): E_q (x_j - W_j z - b_j)^2 = (x_j - W_j m - b_j)^2 + sum_l s_l^2 W_jl^2."""  # noqa: E501
    q = model.encode(x)
    weight = model.likelihood.mean.weight
    squares = (x - model.decode(q.mean).mean).square() + q.variance @ weight.square().T
    sigma = sigma.expand(D)
    log_p = -0.5 * ((2 * math.pi * sigma**2).log() + squares / sigma**2).sum(1)
    return log_p - (q.mean**2 + q.variance - q.variance.log() - 1).sum(1) / 2


def images(n: int, seed: int = 2) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, D, dtype=torch.float64) * torch.arange(1.0, D + 1)


small_vae = partial(rough_vae, D, 0.3)


def run(model: VAE, x: Tensor, train: Tensor, **keys: object) -> Evidence:
    torch.manual_seed(3)
    options = {"beta": 1.0, "floor": FLOOR, **keys}
    return rescored(model, x, no_label(x), in_blocks(train), **options)


def test_every_elbo_is_the_closed_form():
    """Within 4 of the Monte Carlo errors they state, over more than one block of images."""
    model, x, train = linear_gaussian(), images(700), images(900, seed=5)
    found = run(model, x, train, beta=3.0)
    entries = {name: entry.summary() for name, entry in found.entries.items()}
    pixel = torch.from_numpy(found.arrays["best_sigma_pixel"])
    sigmas = {
        "elbo_as_trained": torch.tensor(0.5),
        "elbo_sigma_implied": torch.tensor(0.5 * math.sqrt(3)),
        "elbo_sigma_global": torch.tensor(entries["elbo_sigma_global"]["sigma"]),
        "elbo_sigma_pixel": pixel,
    }
    assert list(entries) == list(sigmas)
    own = exact_elbo(model, x, sigmas["elbo_as_trained"])
    for name, sigma in sigmas.items():
        exact = exact_elbo(model, x, sigma.double())
        entry = entries[name]
        assert abs(entry["value"] - exact.mean()) < 4 * entry["mc_se"], name
        assert entry["sigma"] == pytest.approx(sigma.mean().item())
        assert entry["sigma_min"] == pytest.approx(sigma.min().item())
        assert entry["sigma_max"] == pytest.approx(sigma.max().item())
        assert (entry["kind"], entry["draws"], entry["n"]) == ("lower_bound", 8, 700)
        assert entry["unit"] == "nats"
        if name != "elbo_as_trained":
            assert entry["gain"] == pytest.approx((exact - own).mean().item(), rel=0.02)
            assert entry["gain_se"] == pytest.approx((exact - own).std().item() / 700**0.5, rel=0.1)
    assert found.absent == {}
    assert entries["elbo_sigma_pixel"]["pixels_at_floor"] == 0
    assert entries["elbo_sigma_global"]["sigma_floor"] == FLOOR


def test_the_squared_error_is_the_closed_form():
    model, x = linear_gaussian(), images(20_000)
    torch.manual_seed(4)
    found = mean_squared_error(model, in_blocks(x, size=3_000))
    with torch.no_grad():
        q = model.encode(x)
        weight = model.likelihood.mean.weight
        exact = (x - model.decode(q.mean).mean).square() + q.variance @ weight.square().T
    assert torch.allclose(found, exact.mean(0), rtol=0.02)
    assert found.dtype == torch.float64


@pytest.mark.parametrize("floor", [1e-3, 2.0])
def test_the_best_sigma_is_where_the_optimiser_ends(floor):
    errors = images(400)
    squares = errors.square()

    def best(chosen: np.ndarray) -> float:
        """Of ln N(error; 0, sigma^2) over sigma >= floor."""

        def loss(sigma: float) -> float:
            scale = torch.tensor(sigma, dtype=torch.float64)
            return -Normal(0, scale).log_prob(torch.from_numpy(chosen)).mean().item()

        return minimize_scalar(loss, bounds=(floor, 50), method="bounded").x

    head = GaussianHead(1, D, sigma_mode="fixed", sigma=1.0, floor=floor)
    pixel = head.best_sigma(squares.mean(0), floor)
    assert pixel.tolist() == pytest.approx([best(e) for e in errors.numpy().T], rel=1e-4)
    one = head.best_sigma(squares.mean(), floor)
    assert one.item() == pytest.approx(best(errors.numpy()), rel=1e-4)


def test_a_gaussian_at_other_sigmas_is_torchs():
    x, mean = images(7), images(7, seed=9)
    sigma = torch.rand(3, D, dtype=torch.float64) + 0.1
    expected = [Normal(mean, s).log_prob(x).sum(1) for s in sigma]
    own = torch.ones_like(mean)
    found = DiagonalGaussian(mean, own).log_prob_at_sigmas(x, sigma)
    assert torch.allclose(found, torch.stack(expected, 1), rtol=1e-12)


def test_constant_pixels_stand_at_the_floor():
    model, x = linear_gaussian(), images(50)
    with torch.no_grad():
        model.likelihood.mean.weight[:2] = 0
        x[:, :2] = model.likelihood.mean.bias[:2]
    found = run(model, x, x, floor=0.01)
    facts = found.entries["elbo_sigma_pixel"].facts
    assert facts["pixels_at_floor"] == 2
    assert facts["sigma_min"] == facts["sigma_floor"] == 0.01
    assert np.array_equal(found.arrays["best_sigma_pixel"] == 0.01, [True] * 2 + [False] * 4)
    assert np.isfinite(found.entries["elbo_sigma_pixel"].summary()["value"])


def test_at_beta_1_the_implied_sigma_is_the_trained_one():
    found = run(linear_gaussian(), images(60), images(60)).entries
    implied, own = found["elbo_sigma_implied"], found["elbo_as_trained"]
    assert torch.allclose(implied.values, own.values, rtol=1e-12)
    assert implied.facts["gain"] == pytest.approx(0, abs=1e-9)
    assert torch.allclose(implied.monte_carlo_variance, own.monte_carlo_variance, rtol=1e-8)


def test_a_float32_model_is_scored_in_float64():
    """ln p(x|z) is near -10^7 nats, of which a float32 holds one: both rows have the same sigma."""
    config = VAEConfig(kind="vae", hidden=[8], sigma=1e-3, conditional=False)
    model = build(config, data_dim=784, classes=10)
    x = torch.rand(20, 784).mul(0.5)
    found = run(model, x, x).entries
    own, implied = found["elbo_as_trained"], found["elbo_sigma_implied"]
    assert own.values.mean() < -1e6
    assert (own.values - implied.values).abs().max() < 1e-6


def test_on_the_training_images_more_freedom_is_better():
    """One sigma per pixel beats one for all, which beats the trained one."""
    x = images(3_000)
    found = run(linear_gaussian(), x, x, beta=2.0).entries
    value = {name: entry.summary()["value"] for name, entry in found.items()}
    assert value["elbo_sigma_pixel"] > value["elbo_sigma_global"] > value["elbo_sigma_implied"]
    assert value["elbo_sigma_implied"] > value["elbo_as_trained"]  # sigma = 0.5 is far too small


@pytest.mark.parametrize("mode", ["global", "shared", "pixel"])
def test_a_learned_sigma(mode):
    model, x = small_vae(sigma_mode=mode, sigma=0.7), images(500).float()
    found = run(model, x, x)
    assert set(found.absent) == {"elbo_sigma_implied"}
    assert "learned" in found.absent["elbo_sigma_implied"]
    own = found.entries["elbo_as_trained"].summary()
    torch.manual_seed(11)
    other = elbo_measures(model, x, no_label(x), draws=8)
    expected = other["elbo"].summary()
    assert abs(own["value"] - expected["value"]) < 4 * 2**0.5 * expected["mc_se"]
    sigma = other["sigma"].summary()
    assert own["sigma"] == pytest.approx(sigma["value"], rel=0.02)
    if mode == "global":
        assert own["sigma_min"] == own["sigma_max"] == pytest.approx(own["sigma"])
    else:
        assert own["sigma_min"] < own["sigma"] < own["sigma_max"]
    assert own["sigma_floor"] == FLOOR


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_without_sigma_all_are_absent(likelihood):
    x = images(10).float().sigmoid().round()
    found = run(small_vae(likelihood=likelihood), x, x)
    assert not found.entries
    assert set(found.absent) == set(rescoring.NAMES)


def test_beta_0_implies_no_sigma():
    found = run(linear_gaussian(), images(10), images(10), beta=0.0)
    assert "beta is 0" in found.absent["elbo_sigma_implied"]
    assert set(found.entries) | set(found.absent) == set(rescoring.NAMES)


def test_the_label_reaches_both_networks():
    model, x = small_vae(conditional=True), images(40).float()
    label = torch.arange(40) % 10
    values = []
    for test, train in ((label, label), (label.flip(0), label), (label, label.flip(0))):
        torch.manual_seed(7)
        found = rescored(model, x, test, in_blocks(x, train), beta=1.0, floor=FLOOR)
        values.append({name: entry.summary()["value"] for name, entry in found.entries.items()})
    right, other_test, other_train = values
    assert right["elbo_as_trained"] != pytest.approx(other_test["elbo_as_trained"], rel=1e-4)
    assert right["elbo_sigma_pixel"] != pytest.approx(other_train["elbo_sigma_pixel"], rel=1e-4)


def test_mc_se_is_the_spread_over_seeds():
    """The spread of 200 repetitions has a relative error of 5 %; it must agree within 20 %."""
    model, x = linear_gaussian(), images(20)
    values, stated = [], []
    for seed in range(200):
        torch.manual_seed(seed)
        table = torch.ones(1, D, dtype=torch.float64)
        elbos, variances, _ = rescoring._elbos(model, x, no_label(x), table)
        values.append(elbos.mean(1).tolist())
        stated.append((variances.sum(1).sqrt() / len(x)).tolist())
    spread = np.std(values, axis=0, ddof=1)
    assert spread == pytest.approx(np.sqrt(np.mean(np.square(stated), axis=0)), rel=0.2)
