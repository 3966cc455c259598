"""ln p(x) by quadrature against closed forms, scipy's integrals and dense grids."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from small_models import iw_bound, linear_vae, rough_vae
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.special import log_ndtr

from vaexp.evaluation import quadrature as module
from vaexp.evaluation.measure import Measure
from vaexp.evaluation.quadrature import TOLERANCE, integrate, quadrature
from vaexp.models import VAE
from vaexp.models.absent import answered
from vaexp.models.likelihoods.gaussian import GaussianHead
from vaexp.models.ppca import of_linear_vae

D = 6
FAMILIES = [
    *({"sigma_mode": mode, "sigma": 0.5} for mode in ("fixed", "global", "shared", "pixel")),
    {"sigma_mode": "pixel", "sigma": 0.4, "conditional": True},
    {"likelihood": "bernoulli"},
    {"likelihood": "continuous_bernoulli", "conditional": True},
]
families = pytest.mark.parametrize(
    "keys", FAMILIES, ids=lambda keys: "-".join(str(value) for value in keys.values())
)


# an untrained VAE with rough functions of z
small_vae = partial(rough_vae, D, 1.0, hidden=[12], activation="tanh")


@torch.no_grad()
def images_of(model: VAE, n: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    label = torch.arange(n) % 10
    return model.decode(torch.randn(n, model.latent_dim), label).sample(), label


def linear(latent_dim: int, sigma: float) -> VAE:
    torch.manual_seed(1)
    return linear_vae(D, latent_dim, sigma)


def zeros(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.int64)


def log_joint(model: VAE, x: Tensor, label: Tensor, z: Tensor) -> Tensor:
    return model.decode(z, label.expand(len(z))).log_prob(x) + model.prior().log_prob(z)


@torch.no_grad()
def dense(model: VAE, x: Tensor, label: Tensor) -> Tensor:
    """The sum of p(x|z) p(z) over a grid of steps of 1/64 on [-6, 6]^2, in float64."""
    model = model.double()
    axis = torch.arange(-384, 385, dtype=torch.float64) / 64
    grid = torch.cartesian_prod(axis, axis)
    values = [
        torch.cat([log_joint(model, one, digit, z) for z in grid.split(2**16)]).logsumexp(0)
        for one, digit in zip(x.double(), label, strict=True)
    ]
    return torch.stack(values) - 2 * math.log(64)


@torch.no_grad()
def by_scipy(model: VAE, x: Tensor, label: Tensor) -> float:
    """ln of scipy's adaptive integral over z, cut at local maxima and scaled by the largest."""
    model, x = model.double(), x.double()
    grid = torch.linspace(-8, 8, 100_001, dtype=torch.float64)[:, None]
    values = log_joint(model, x, label, grid)
    highest = values.max().item()
    inner = values[1:-1]
    peaks = (inner > values[:-2]) & (inner > values[2:]) & (inner > highest - 20)

    def integrand(z: float) -> float:
        point = torch.tensor([[z]], dtype=torch.float64)
        return math.exp(log_joint(model, x, label, point).item() - highest)

    cuts = grid[1:-1, 0][peaks].tolist()
    edges = sorted({-8.0, 8.0, *(cut + move for cut in cuts for move in (-0.1, 0.0, 0.1))})
    value = sum(quad(integrand, *part, limit=200, epsabs=1e-7)[0] for part in pairwise(edges))
    return highest + math.log(value)


# against known answers


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("sigma", [3.0, 0.3, 1e-3])
def test_of_a_linear_vae_it_is_the_exact_log_prob(latent_dim, sigma):
    """With an encoder that knows nothing, posteriors as wide as the prior or 1e-3, ln p(x) to -1e6
    for the images that the model never makes."""
    model = linear(latent_dim, sigma)
    x = torch.randn(9, D)
    with torch.no_grad():
        x[:5] = model.decode(torch.randn(5, latent_dim)).sample()
    expected = of_linear_vae(model).log_prob(x)
    found = integrate(model, x, zeros(9))
    assert torch.allclose(found.log_prob, expected, rtol=1e-11, atol=1e-5)
    assert found.error.max() <= TOLERANCE
    assert sigma > 1e-3 or expected.min() < -1e5


def test_codes_far_outside_the_prior_are_reached():
    model = linear(2, 0.05)
    with torch.no_grad():
        x = model.decode(torch.tensor([[9.0, -8.0], [12.0, 0.0]])).mean
    expected = of_linear_vae(model).log_prob(x)
    assert torch.allclose(integrate(model, x, zeros(2)).log_prob, expected, rtol=0, atol=1e-5)


def folded(slopes: list[float], sigma: float) -> VAE:
    """mu(z) = sum_j u_j |z_j| slope_j on orthonormal u_j; slope_j is another where z_j < 0.

    ``slopes``: two for each latent, for positive and for negative z.
    """
    latent_dim = len(slopes) // 2
    head = partial(GaussianHead, data_dim=D, sigma_mode="fixed", sigma=sigma, floor=1e-3)
    torch.manual_seed(1)
    model = VAE(D, latent_dim, [2 * latent_dim], "relu", head)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
        for j in range(latent_dim):
            model.decoder[0].weight[2 * j, j] = 1
            model.decoder[0].weight[2 * j + 1, j] = -1
        axes = torch.linalg.qr(torch.randn(D, latent_dim)).Q
        model.likelihood.mean.weight.copy_(axes.repeat_interleave(2, 1) * torch.tensor(slopes))
        model.likelihood.mean.bias.zero_()
    return model


def folded_log_prob(model: VAE, x: Tensor) -> Tensor:
    """In closed form: each quadrant is a linear Gaussian model, and its posterior's mass there."""
    sigma = model.likelihood.sigma.double()
    weight = model.likelihood.mean.weight.detach().double()
    x, parts = x.double(), []
    for half in np.ndindex(*[2] * model.latent_dim):
        factors = torch.stack([weight[:, 2 * j + side] for j, side in enumerate(half)], 1)
        lengths = factors.square().sum(0)
        mean, scale = x @ factors / (lengths + sigma**2), sigma / (lengths + sigma**2).sqrt()
        covariance = factors @ factors.T + sigma**2 * torch.eye(D)
        joint = MultivariateNormal(torch.zeros(D).double(), covariance).log_prob(x)
        parts.append(joint + log_ndtr(mean / scale).sum(1))
    return torch.stack(parts).logsumexp(0)


@pytest.mark.parametrize(
    ("slopes", "sigma"),
    [
        ([1.0, 1.0], 0.5),  # a kink in the middle of the posterior
        ([1.0, 1.0], 2e-3),  # two modes of width 2e-3
        ([1.0, 30.0], 0.05),  # two modes of widths 0.05 and 0.0017
        ([1.0, 1.0, 2.0, 2.0], 0.5),
        ([1.0, 1.0, 2.0, 2.0], 5e-3),  # four modes of width 5e-3
        ([1.0, 1.0, 1.0, 10.0], 0.05),  # modes of widths 0.05 and 0.005: not all are seen at once
        ([1.0, 1.0, 60.0, 60.0], 0.5),  # 60 times as long as wide
    ],
)
def test_all_modes_of_a_folded_decoder_count(slopes, sigma):
    """An even mu has equal modes on all sides, and the encoder, untrained, points at none. Of the
    images one is at the kink: there the rule's error falls like h^2 only."""
    model = folded(slopes, sigma)
    torch.manual_seed(3)
    x = 0.7 * torch.randn(6, model.latent_dim).abs()
    x[0] = 0
    with torch.no_grad():
        x = model.decode(x).sample()
    found = integrate(model, x, zeros(6))
    assert (found.log_prob - folded_log_prob(model, x)).abs().max() < 0.01
    assert found.error.max() <= TOLERANCE


@families
def test_two_latents_against_a_dense_grid(keys):
    model = small_vae(**keys)
    x, label = images_of(model, 2)
    found = integrate(model, x, label)
    assert found.error.max() <= TOLERANCE
    if keys.get("sigma_mode") == "shared":  # the narrowest posterior needs a finer grid, around it
        assert found.log_prob[0].item() == pytest.approx(spike(model, x[0]), abs=1e-3)
        x, label, found = x[1:], label[1:], integrate(model, x[1:], label[1:])
    assert torch.allclose(found.log_prob, dense(model, x, label), rtol=0, atol=1e-3)


@torch.no_grad()
def spike(model: VAE, x: Tensor) -> float:
    """By steps of 1/512. It is 20 nats above what the broader peaks of this posterior hold, and a
    rule that is content once these are resolved misses it."""
    axis = torch.arange(-128, 129, dtype=torch.float64) / 512
    grid = torch.cartesian_prod(axis + 0.39, axis - 0.22)
    values = log_joint(model.double(), x.double(), torch.tensor(0), grid)
    assert values.argmax() not in (0, len(grid) - 1)
    return (values.logsumexp(0) - 2 * math.log(512)).item()


@pytest.mark.parametrize(
    "keys", [{"activation": "relu"}, {"activation": "relu", "sigma_mode": "pixel"}, *FAMILIES[3:]]
)
def test_one_latent_against_scipy(keys):
    model = small_vae(latent_dim=1, **({"sigma": 0.3} if "likelihood" not in keys else {}) | keys)
    x, label = images_of(model, 3)
    found = integrate(model, x, label)
    expected = [by_scipy(model, one, digit) for one, digit in zip(x, label, strict=True)]
    assert found.log_prob.tolist() == pytest.approx(expected, abs=5e-3)


def test_the_iw_bound_is_below():
    """And close, where the encoder, untrained, is as wide as the prior and k is large."""
    model = linear(2, 1.0)
    torch.manual_seed(4)
    x, label = torch.randn(40, D), zeros(40)
    log_prob = quadrature(model, x, label).entries["log_prob_quadrature"].values.mean().item()
    few, many = (iw_bound(model, x, label, k=k).summary() for k in (2, 2000))
    assert few["value"] < many["value"] < log_prob + 4 * many["mc_se"]
    assert many["value"] > log_prob - 0.01 - 4 * many["mc_se"]


@families
def test_the_polynomial_is_log_prob(keys):
    model = small_vae(**keys).double()
    x, label = images_of(model.float(), 7)
    with torch.no_grad():
        decoded = model.double().decode(torch.randn(7, 2).double(), label)
        constant, a, b = answered(decoded.quadratic())
        values = constant[:, None] + a @ x.double().T + b @ x.double().square().T
        expected = torch.stack([decoded.log_prob(one) for one in x.double()], 1)
    assert torch.allclose(values, expected, rtol=1e-9, atol=1e-9)


# the entry


def test_the_entry_and_its_facts():
    model = small_vae(sigma=0.5)
    x, label = images_of(model, 5)
    found, evidence = integrate(model, x, label), quadrature(model, x, label)
    assert not evidence.absent
    (measure,) = evidence.entries.values()
    assert isinstance(measure, Measure)
    assert torch.equal(measure.values, found.log_prob)
    assert measure.values.dtype == torch.float64
    summary = measure.summary()
    assert summary["unit"] == "nats"
    assert summary["kind"] == "estimate"
    assert summary["error"] == found.error.max().item() <= TOLERANCE
    assert summary["nodes"] == pytest.approx(found.points.double().mean().item(), abs=0.5)
    assert summary["unresolved"] == 0


def test_three_latents_are_absent():
    model = small_vae(latent_dim=3)
    evidence = quadrature(model, *images_of(model, 2))
    assert not evidence.entries
    assert evidence.absent == {
        "log_prob_quadrature": "integration over z takes one or two latents, and the model has 3"
    }


@pytest.mark.parametrize("conditional", [True, False])
def test_blocks_change_nothing(monkeypatch, conditional):
    model = small_vae(sigma=0.5, conditional=conditional)
    x, label = images_of(model, 12)
    whole = integrate(model, x, label)
    monkeypatch.setattr(module, "IMAGES_PER_BLOCK", 5)
    monkeypatch.setattr(module, "NODES_PER_BLOCK", 70)
    monkeypatch.setattr(module, "PAIRS_PER_BLOCK", 30)
    seen: list[int] = []
    parts = integrate(model, x, label, on_images=seen.append)
    assert torch.allclose(parts.log_prob, whole.log_prob, rtol=0, atol=1e-10)
    assert torch.equal(parts.points, whole.points)
    assert seen == ([2, 2] + [1] * 8 if conditional else [5, 5, 2])
    # and each image has its own value, in the order of the data
    alone = torch.cat([integrate(model, x[n : n + 1], label[n : n + 1]).log_prob for n in (0, 11)])
    assert torch.allclose(alone, whole.log_prob[[0, 11]], rtol=0, atol=1e-10)


def test_the_model_stays_as_it_is():
    model = small_vae()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, label = images_of(model, 2)
    state = torch.get_rng_state()
    quadrature(model, x, label)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


def test_what_is_not_resolved_says_so(monkeypatch):
    """At most 2 points per image: h is not halved, and the stated error shows it."""
    model = linear(2, 1e-2)
    with torch.no_grad():
        x = model.decode(torch.randn(4, 2)).sample()
    monkeypatch.setattr(module, "MOST_POINTS", 2)
    facts = quadrature(model, x, zeros(4)).entries["log_prob_quadrature"].facts
    assert facts["unresolved"] == 4
    assert facts["error"] > 0.1


def test_a_peak_that_the_lattice_has_not_reached_says_so(monkeypatch):
    """q(z|x) knows of a point far above all of the lattice's, which agree among each other."""
    model = small_vae(sigma=0.5, conditional=False)
    x, label = images_of(model, 3)
    monkeypatch.setattr(module, "FINEST", 2.0**-5)
    assert integrate(model, x, label).resolved.all()
    best = module._best_of_posterior

    def higher(joint):
        z, value = best(joint)
        return z, value + torch.tensor([0.0, 1e6, 0], dtype=torch.float64)

    monkeypatch.setattr(module, "_best_of_posterior", higher)
    found = integrate(model, x, label)
    assert found.error.max() <= TOLERANCE
    assert found.resolved.tolist() == [True, False, True]
    assert quadrature(model, x, label).entries["log_prob_quadrature"].facts["unresolved"] == 1
