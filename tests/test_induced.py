"""What beta optimises, against integrals over x and over z."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad, simpson
from torch import Tensor
from torch.distributions import Independent, Normal

from vaexp.config import VAEConfig
from vaexp.evaluation import induced as module
from vaexp.evaluation import integral
from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.induced import induced, log_normaliser, tilted_prior
from vaexp.evaluation.integral import integrate
from vaexp.models import VAE, build
from vaexp.models.likelihoods.bernoulli import IndependentBernoulli
from vaexp.models.likelihoods.continuous_bernoulli import IndependentContinuousBernoulli
from vaexp.models.likelihoods.diagonal import DiagonalGaussian
from vaexp.models.likelihoods.gaussian import GaussianHead

D = 5
MODES = [{"sigma_mode": mode} for mode in ("fixed", "global", "shared", "pixel")]
FAMILIES = [*MODES, {"likelihood": "bernoulli"}, {"likelihood": "continuous_bernoulli"}]
VARYING = FAMILIES[2:]  # where Z depends on z


def small_vae(latents: int = 2, seed: int = 1, **keys: object) -> VAE:
    """In float64, with weights large enough that sigma and the logits vary with z."""
    torch.manual_seed(seed)
    keys = {"kind": "vae", "hidden": [8], "activation": "tanh", "conditional": False} | keys
    if "likelihood" not in keys:
        keys = {"sigma": 0.5, **keys}
    model = build(VAEConfig(**keys, latent_dim=latents), data_dim=D, classes=10).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("encoder", "posterior")):
                parameter.add_(0.6 * torch.randn_like(parameter))
    return model


def images(n: int, model: VAE) -> Tensor:
    torch.manual_seed(2)
    x = torch.rand(n, D, dtype=torch.float64)
    return x if model.has_sigma else x.round()


def digits(n: int) -> Tensor:
    return torch.arange(n) % 3 + 4


@torch.no_grad()
def z_of(model: VAE, z: Tensor, beta: float, label: int = 0) -> np.ndarray:
    """Z(z) of latents (..., L), from its definition by sums and integrals over each pixel."""
    p = model.decode(z, torch.tensor(label))
    if isinstance(p, DiagonalGaussian):
        # of the standard normal by quadrature; the scale by substitution
        whole = quad(lambda u: math.exp(-0.5 * u * u / beta), -60, 60, limit=200)[0]
        one = whole / (2 * math.pi) ** (0.5 / beta) * p.sigma.numpy() ** (1 - 1 / beta)
    elif isinstance(p, IndependentContinuousBernoulli):
        nodes, weights = np.polynomial.legendre.leggauss(60)
        points = [p.pixel_log_prob(torch.full_like(p.logits, (1 + u) / 2)) for u in nodes]
        densities = (torch.stack(points, -1) / beta).exp().numpy()
        one = densities @ weights / 2
    else:
        mean = p.logits.sigmoid().numpy()
        one = mean ** (1 / beta) + (1 - mean) ** (1 / beta)
    return one.prod(-1)


def prior(z: Tensor) -> np.ndarray:
    """p(z) of latents (..., L)."""
    return (-0.5 * z.square().sum(-1)).exp().numpy() / (2 * math.pi) ** (z.shape[-1] / 2)


# Z(z), by its definition


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0, 4.0])
def test_log_z_of_a_gaussian_is_the_integral_over_x(beta):
    """In two pixels, over the plane."""
    p = DiagonalGaussian(torch.tensor([0.2, -1.0]), torch.tensor([0.3, 1.7]))
    p_beta, log_z = p.tempered(beta)

    def density(a: float, b: float) -> float:
        return math.exp(p.log_prob(torch.tensor([a, b], dtype=torch.float64)).item() / beta)

    one = quad(lambda a: math.exp(Normal(0.2, 0.3).log_prob(torch.tensor(a)).item() / beta), -9, 9)
    two = quad(lambda b: math.exp(Normal(-1, 1.7).log_prob(torch.tensor(b)).item() / beta), -50, 50)
    assert log_z.item() == pytest.approx(math.log(one[0] * two[0]), abs=1e-5)
    point = torch.tensor([0.5, 0.1])
    tempered_density = density(*point.tolist()) / (one[0] * two[0])
    assert p_beta.log_prob(point).item() == pytest.approx(math.log(tempered_density), abs=1e-5)


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0, 4.0])
def test_log_z_of_a_bernoulli_is_the_sum_over_x(beta):
    p = IndependentBernoulli(torch.tensor([-3.0, 0.2, 40.0], dtype=torch.float64))
    p_beta, log_z = p.tempered(beta)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    powers = (p.log_prob(every) / beta).exp()
    assert log_z.item() == pytest.approx(powers.sum().log().item(), abs=1e-12)
    expected = powers / powers.sum()
    assert torch.allclose(p_beta.log_prob(every).exp(), expected, rtol=1e-10)


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0, 4.0])
def test_log_z_of_a_continuous_bernoulli_is_the_integral_over_x(beta):
    logits = torch.tensor([-8.0, 0.01, 3.0], dtype=torch.float64)
    p = IndependentContinuousBernoulli(logits)
    p_beta, log_z = p.tempered(beta)

    def density(u: float, pixel: int) -> float:
        return math.exp(p.pixel_log_prob(torch.full_like(logits, u))[pixel].item() / beta)

    integrals = [quad(density, 0, 1, args=(j,))[0] for j in range(3)]
    assert log_z.item() == pytest.approx(np.log(integrals).sum(), abs=1e-9)
    x = torch.tensor([0.1, 0.7, 0.4], dtype=torch.float64)
    expected = p.log_prob(x) / beta - np.log(integrals).sum()
    assert p_beta.log_prob(x).item() == pytest.approx(expected.item(), abs=1e-9)


# ln C


AXIS = torch.linspace(-9, 9, 401, dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.5, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_c_is_the_integral_over_one_latent(family, beta):
    model = small_vae(1, **family)
    found = log_normaliser(model, torch.tensor(0), beta, D)
    z = AXIS[:, None]
    expected = simpson(prior(z) * z_of(model, z, beta), x=AXIS.numpy())
    assert found.log_value == pytest.approx(math.log(expected), abs=1e-6)
    assert found.method == ("quadrature" if family in VARYING else "constant")
    assert found.error < 1e-4


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("family", VARYING)
def test_log_c_is_the_integral_over_two_latents(family, conditional):
    model, beta, label = small_vae(2, conditional=conditional, **family), 3.0, 7
    found = log_normaliser(model, torch.tensor(label), beta, D)
    axis = AXIS[::4]
    z = torch.cartesian_prod(axis, axis).reshape(len(axis), len(axis), 2)
    inner = simpson(prior(z) * z_of(model, z, beta, label), x=axis.numpy())
    assert found.log_value == pytest.approx(math.log(simpson(inner, x=axis.numpy())), abs=1e-5)


def test_log_c_of_many_latents_is_by_draws():
    """sigma(z) that hears only z_1 has the ln C of one latent."""
    one = small_vae(1, sigma_mode="shared")
    many = small_vae(3, sigma_mode="shared")
    with torch.no_grad():
        for name, parameter in many.decoder.named_parameters():
            parameter.copy_(one.decoder.get_parameter(name) if parameter.ndim == 1 else 0)
        many.decoder[0].weight[:, :1] = one.decoder[0].weight
        many.likelihood.load_state_dict(one.likelihood.state_dict())
    expected = log_normaliser(one, torch.tensor(0), 4.0, D).log_value
    torch.manual_seed(3)
    found = log_normaliser(many, torch.tensor(0), 4.0, D)
    assert found.method == "monte_carlo"
    assert abs(found.log_value - expected) < 4 * math.sqrt(found.variance)
    assert 0 < math.sqrt(found.variance) < 0.05
    assert 10 < found.effective_samples < module.PRIOR_SAMPLES


@pytest.mark.parametrize("centre", [[0.0, 0.0], [30.0, -55.0], [-3.3, 90.0]])
@pytest.mark.parametrize("latents", [1, 2])
def test_integrate_finds_a_peak_wherever_it_is(centre, latents):
    """As wide as the prior's, or a fifth of that near the origin, and times e^800."""
    mean = torch.tensor(centre[-latents:], dtype=torch.float64)
    scale = 0.2 if mean.abs().max() == 0 else 1.0
    peak = Independent(Normal(mean, torch.full_like(mean, scale)), 1)
    found = integrate(lambda z: peak.log_prob(z) + 800, latents, 113.0)
    assert found.log_value == pytest.approx(800, abs=1e-4)
    assert abs(found.log_value - 800) < found.error + 1e-6
    low, high = found.extent
    assert ((low < mean - 3 * scale) & (high > mean + 3 * scale)).all()
    assert ((high - low) < 24).all()


def test_integrate_adds_peaks_and_admits_an_error(monkeypatch):
    def two(z: Tensor) -> Tensor:
        heights = [-((z - at).square().sum(1)) / 2 - math.log(2 * math.pi) for at in (-9.0, 14.0)]
        return torch.logaddexp(*heights)

    assert integrate(two, 2, 60.0).log_value == pytest.approx(math.log(2), abs=1e-4)
    kink = integrate(lambda z: -20 * z.abs().sum(1), 2, 60.0)
    assert kink.log_value == pytest.approx(math.log(0.01), abs=1e-4)
    step = integrate(lambda z: -z.square().sum(1) + 9 * (z[:, 0] > 0.3), 2, 20.0)
    exact = math.pi * ((1 + math.erf(0.3)) + math.exp(9) * (1 - math.erf(0.3))) / 2
    assert abs(step.log_value - math.log(exact)) < step.error
    monkeypatch.setattr(integral, "MAX_NODES", 3_000)
    poor = integrate(two, 2, 60.0)
    assert poor.error > 1e-3


@pytest.mark.parametrize("latents", [1, 2])
@pytest.mark.parametrize("conditional", [False, True])
def test_the_tilted_prior_integrates_to_one(latents, conditional):
    model = small_vae(latents, sigma_mode="pixel", conditional=conditional)
    x, label = images(30, model), digits(30)
    arrays = induced(model, x, label, beta=4.0).arrays
    grid, density = arrays["grid"], np.exp(arrays["tilted_prior"])
    assert grid.shape == (latents, module.AXIS[latents])
    assert grid[:, 0].max() <= -4
    assert grid[:, -1].min() >= 4
    for axis in grid[::-1]:
        density = np.trapezoid(density, axis, axis=-1)
    assert density == pytest.approx(np.ones(3) if conditional else 1, abs=1e-4)
    if conditional:
        assert arrays["labels"].tolist() == [4, 5, 6]
        assert len(set(arrays["log_c_per_label"].tolist())) == 3
    else:
        assert arrays["log_c_per_label"].shape == (1,)
        assert "labels" not in arrays


def test_the_tilted_priors_axes_are_in_order():
    model, beta = small_vae(2, sigma_mode="pixel"), 4.0
    grid = torch.tensor([[-1.0, 0.5, 2.0], [0.0, 0.3, 3.0]], dtype=torch.float64)
    found = tilted_prior(model, torch.tensor(0), beta, grid)
    for i, j in itertools.product(range(3), repeat=2):
        z = torch.stack([grid[0, i], grid[1, j]])
        expected = math.log(prior(z) * z_of(model, z, beta))
        assert found[i, j].item() == pytest.approx(expected, abs=1e-7)


# The identity, and the ELBO of the induced joint


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("beta", [0.5, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_objective_over_beta_is_induced_elbo_plus_log_c(family, beta, conditional):
    model = small_vae(2, conditional=conditional, **family)
    x, label = images(24, model), digits(24)
    torch.manual_seed(5)
    found = induced(model, x, label, beta=beta)
    assert set(found.entries) | set(found.absent) == set(module.NAMES)
    assert not set(found.entries) & set(found.absent)
    assert found.entries["induced_identity_error"].value < 1e-8
    objective, elbo = found.entries["objective_over_beta"], found.entries["induced_elbo"]
    log_c = torch.from_numpy(found.arrays["log_c_per_label"])[label - 4 if conditional else 0]
    assert torch.allclose(objective.values, elbo.values + log_c, rtol=0, atol=1e-8)
    assert found.entries["log_c"].value == pytest.approx(log_c.mean().item(), rel=1e-12)
    # the training objective itself, at other draws
    torch.manual_seed(6)
    terms = elbo_measures(model, x, label, draws=64)
    expected = -terms["distortion"].values / beta - terms["rate"].values
    error = objective.monte_carlo_variance + terms["distortion"].monte_carlo_variance / beta**2
    assert abs((objective.values - expected).mean()) < 4 * error.sum().sqrt() / 24 + 1e-6
    if model.has_sigma:
        sigma = found.entries["induced_sigma"].summary()
        trained = terms["sigma"].summary()
        error = sigma["mc_se"] + 2 * trained["mc_se"] + 1e-7
        assert abs(sigma["value"] - math.sqrt(beta) * trained["value"]) < 4 * error


@pytest.mark.parametrize("family", [*VARYING, {"sigma_mode": "fixed"}])
def test_the_induced_elbo_bounds_ln_p_of_the_induced_joint(monkeypatch, family):
    """ln of the integral over z of p(z) Z(z) p_beta(x|z) / C, by quadrature; one latent."""
    model, beta = small_vae(1, **family), 2.0
    x = images(6, model)
    torch.manual_seed(7)
    monkeypatch.setattr(module, "DRAWS", 200)
    found = induced(model, x, torch.zeros(6, dtype=torch.int64), beta=beta)
    elbo = found.entries["induced_elbo"]
    z = AXIS[:, None]
    with torch.no_grad():
        power = (model.decode(z[:, None]).log_prob(x) / beta).exp().numpy()  # (z, x)
    inside = prior(z)[:, None] * power / math.exp(found.arrays["log_c_per_label"][0])
    exact = np.log(simpson(inside, x=AXIS.numpy(), axis=0))
    slack = exact + 4 * elbo.monte_carlo_variance.sqrt().numpy() - elbo.values.numpy()
    assert (slack > 0).all()
    assert elbo.kind == "lower_bound"


def test_the_induced_joint_is_normalised():
    """p(z) p(x|z)^(1/beta) / C, over one latent and one pixel."""
    torch.manual_seed(1)
    config = VAEConfig(kind="vae", hidden=[4], latent_dim=1, sigma_mode="pixel", conditional=False)
    model = build(config, data_dim=1, classes=10).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    beta = 3.0
    log_c = log_normaliser(model, torch.tensor(0), beta, 1).log_value
    z, x = AXIS[:, None], torch.linspace(-150, 150, 12001, dtype=torch.float64)
    with torch.no_grad():
        power = (model.decode(z[:, None]).log_prob(x[:, None]) / beta).exp().numpy()
    joint = prior(z)[:, None] * power / math.exp(log_c)
    assert simpson(simpson(joint, x=x.numpy()), x=AXIS.numpy()) == pytest.approx(1, abs=1e-5)


def test_a_fixed_sigma_is_the_elbo_at_sqrt_beta_sigma():
    """At the same draws, of the same weights with the other sigma; ln C is the known constant."""
    sigma, beta, x_dim = 0.4, 2.5, D
    model = small_vae(2, sigma_mode="fixed", sigma=sigma, conditional=True)
    other = small_vae(2, sigma_mode="fixed", sigma=math.sqrt(beta) * sigma, conditional=True)
    other.load_state_dict(model.state_dict())
    other.likelihood.sigma.fill_(math.sqrt(beta) * 0.4)
    x, label = images(700, model), digits(700)
    found = []
    for one, factor in ((model, beta), (other, 1.0)):
        torch.manual_seed(8)
        found.append(induced(one, x, label, beta=factor))
    tempering, plain = found
    assert torch.allclose(
        tempering.entries["induced_elbo"].values,
        plain.entries["objective_over_beta"].values,
        rtol=1e-6,
    )
    variance = 2 * math.pi * sigma**2
    constant = x_dim / 2 * ((1 - 1 / beta) * math.log(variance) + math.log(beta))
    log_c = tempering.entries["log_c"].summary()
    assert log_c["value"] == pytest.approx(constant, rel=1e-6)
    assert (log_c["kind"], log_c["method"], log_c["se"]) == ("exact", "constant", None)
    implied = tempering.entries["implied_sigma"].summary()
    assert implied["value"] == pytest.approx(math.sqrt(beta) * sigma)
    assert tempering.entries["induced_elbo"].facts["sigma"] == implied["value"]
    assert tempering.entries["induced_sigma"].summary()["value"] == pytest.approx(implied["value"])


@pytest.mark.parametrize("family", FAMILIES)
def test_at_beta_1_it_is_the_elbo(family):
    model = small_vae(2, **family)
    x, label = images(50, model), digits(50)
    torch.manual_seed(9)
    found = induced(model, x, label, beta=1.0)
    torch.manual_seed(9)
    q = model.encode(x)
    with torch.no_grad():
        log_p = torch.stack([model.decode(q.sample()).log_prob(x) for _ in range(8)]).mean(0)
        rate = (q.mean**2 + q.variance - 1 - q.variance.log()).sum(1) / 2
    for name in ("objective_over_beta", "induced_elbo"):
        assert torch.allclose(found.entries[name].values, log_p - rate, rtol=0, atol=1e-9)
    assert found.entries["log_c"].value == pytest.approx(0, abs=1e-12)
    points = torch.cartesian_prod(*torch.from_numpy(found.arrays["grid"]))
    standard = Normal(torch.zeros(()), 1.0).log_prob(points).sum(1).numpy()
    assert found.arrays["tilted_prior"].ravel() == pytest.approx(standard, abs=1e-9)


def test_beta_0_has_no_such_distribution():
    model = small_vae()
    found = induced(model, images(5, model), digits(5), beta=0.0)
    assert not found.entries
    assert not found.arrays
    assert set(found.absent) == set(module.NAMES)


def test_many_latents():
    """Draws of the prior say how few of them count; there is no grid."""
    model = small_vae(4, sigma_mode="pixel", conditional=True)
    x, label = images(20, model), digits(20)
    found = induced(model, x, label, beta=4.0)
    log_c = found.entries["log_c"].summary()
    assert log_c["samples"] == module.PRIOR_SAMPLES
    assert 1 <= log_c["effective_samples"] <= module.PRIOR_SAMPLES
    assert log_c["se"] > 0
    assert found.entries["induced_elbo"].kind == "estimate"
    facts = found.entries["induced_elbo"].facts
    assert facts["log_c_se"] == log_c["se"]
    assert facts["effective_samples"] == log_c["effective_samples"]
    assert set(found.arrays) == {"log_c_per_label", "labels"}


def test_a_float32_model_is_measured_in_float64_and_left_alone():
    """1e-9 nats, where float32 would leave 1e-3; MNIST's number of pixels."""
    torch.manual_seed(1)
    head = partial(GaussianHead, data_dim=784, sigma_mode="pixel", sigma=0.01, floor=1e-3)
    model = VAE(784, 2, [16], "gelu", head)
    x = torch.rand(20, 784)
    found = induced(model, x, torch.zeros(20, dtype=torch.int64), beta=0.5)
    assert found.entries["objective_over_beta"].values.abs().min() > 1e6
    assert found.entries["induced_identity_error"].value < 1e-7
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in model.parameters())
