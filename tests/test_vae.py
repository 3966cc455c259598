"""The VAE's shapes and wiring, and its ELBO on a linear-Gaussian model where ln p(x) is known."""

import math

import pytest
import torch
from small_models import linear_gaussian, marginal
from torch import Tensor, nn

from vaexp.config import VAEConfig
from vaexp.models import VAE, build
from vaexp.models.elbo import elbo_terms
from vaexp.models.likelihoods.bernoulli import IndependentBernoulli
from vaexp.models.likelihoods.continuous_bernoulli import IndependentContinuousBernoulli
from vaexp.models.likelihoods.diagonal import DiagonalGaussian
from vaexp.seeding import derive, seeded

D, L, N, C = 6, 2, 5, 3
COLUMNS = (1.5, 0.6)  # lengths of W's columns


def tiny(**keys: object) -> VAE:
    torch.manual_seed(1)
    config = VAEConfig(**{"kind": "vae", "latent_dim": L, "hidden": [4, 3], **keys})
    return build(config, data_dim=D, classes=C).double()


def images(n: int = N, seed: int = 2) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, D, dtype=torch.float64)


# Shapes and wiring


@pytest.mark.parametrize("conditional", [True, False])
def test_shapes(conditional):
    model = tiny(conditional=conditional)
    x, label = images(), torch.tensor([0, 1, 2, 0, 1])
    q = model.encode(x, label)
    assert (q.batch_shape, q.event_shape) == ((N,), (L,))
    p = model.decode(q.sample(torch.Size([7])), label)
    assert (p.batch_shape, p.event_shape) == ((7, N), (D,))
    assert p.log_prob(x).shape == (7, N)
    assert (model.prior().batch_shape, model.prior().event_shape) == ((), (L,))
    assert model.conditional == conditional
    assert model.latent_dim == L
    assert model.has_sigma
    terms = elbo_terms(model, x, label)
    assert terms.distortion.shape == terms.rate.shape == (N,)


def test_the_prior_is_standard_normal():
    z = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    expected = -z.square().sum(1) / 2 - math.log(2 * math.pi)
    assert torch.allclose(tiny().prior().log_prob(z), expected)


def test_the_label_decides_and_goes_with_its_image_in_every_draw():
    model = tiny(conditional=True)
    z = torch.randn(7, N, L, dtype=torch.float64)
    label = torch.tensor([2, 0, 1, 1, 0])
    together = model.decode(z, label).mean
    for s in range(7):
        for n in range(N):
            one = model.decode(z[s, n], label[n]).mean
            assert torch.allclose(together[s, n], one, rtol=1e-12)
    assert not torch.allclose(together, model.decode(z, (label + 1) % C).mean)
    every = model.decode(z[0, :1].expand(C, L), torch.arange(C)).mean
    assert len(every.unique(dim=0)) == C
    column = model.decode(z, torch.arange(7)[:, None] % C).mean
    assert torch.allclose(column[4, 3], model.decode(z[4, 3], torch.tensor(1)).mean, rtol=1e-12)

    x = images()
    together = model.encode(x, label).mean
    for n in range(N):
        assert torch.allclose(together[n], model.encode(x[n], label[n]).mean, rtol=1e-12)
    assert not torch.allclose(together, model.encode(x, (label + 1) % C).mean)


def test_a_conditional_model_needs_the_label():
    model = tiny(conditional=True)
    with pytest.raises(ValueError, match="label"):
        model.encode(images())
    with pytest.raises(ValueError, match="label"):
        model.decode(torch.zeros(N, L, dtype=torch.float64))


def test_an_unconditional_model_ignores_the_label():
    model = tiny(conditional=False)
    x = images()
    assert torch.equal(model.encode(x).mean, model.encode(x, torch.arange(N)).mean)


def linears(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def test_the_decoder_mirrors_the_encoder():
    model = tiny(conditional=True, hidden=[9, 8, 7], activation="silu")
    assert linears(model.encoder) == [(D + C, 9), (9, 8), (8, 7)]
    assert linears(model.posterior) == [(7, 2 * L)]
    assert linears(model.decoder) == [(L + C, 7), (7, 8), (8, 9)]
    assert linears(model.likelihood) == [(9, D)]
    assert sum(isinstance(m, nn.SiLU) for m in model.modules()) == 6


@pytest.mark.parametrize(
    ("name", "activation"),
    [("relu", nn.ReLU), ("gelu", nn.GELU), ("silu", nn.SiLU), ("tanh", nn.Tanh), ("elu", nn.ELU)],
)
def test_activations(name, activation):
    kinds = {type(m) for m in tiny(activation=name).decoder}
    assert kinds == {nn.Linear, activation}


def test_no_hidden_layers_is_linear():
    model = tiny(hidden=[], conditional=True)
    z = torch.randn(2, N, L, dtype=torch.float64)
    label = torch.tensor([0, 1, 2, 0, 1])
    f = lambda z: model.decode(z, label).mean  # noqa: E731
    assert torch.allclose(f(0.3 * z[0] + 0.7 * z[1]), 0.3 * f(z[0]) + 0.7 * f(z[1]))
    g = lambda x: model.encode(x, label).mean  # noqa: E731
    a, b = images(seed=3), images(seed=4)
    assert torch.allclose(g(0.3 * a + 0.7 * b), 0.3 * g(a) + 0.7 * g(b))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "continuous_bernoulli"])
def test_build_gives_the_named_likelihood(likelihood):
    model = tiny(likelihood=likelihood)
    z = torch.zeros(N, L, dtype=torch.float64)
    family = type(model.decode(z, torch.zeros(N, dtype=torch.int64)))
    expected = {
        "gaussian": DiagonalGaussian,
        "bernoulli": IndependentBernoulli,
        "continuous_bernoulli": IndependentContinuousBernoulli,
    }
    assert family is expected[likelihood]
    assert model.has_sigma == (likelihood == "gaussian")


def test_build_passes_sigma_on():
    model = tiny(sigma_mode="pixel", sigma=0.25, sigma_floor=0.125)
    z = torch.randn(N, L, dtype=torch.float64)
    sigma = model.decode(z, torch.zeros(N, dtype=torch.int64)).stddev
    assert sigma.detach().allclose(torch.tensor(0.25, dtype=torch.float64), rtol=1e-6)
    nn.init.constant_(model.likelihood.raw_sigma.bias, -1e4)
    sigma = model.decode(z, torch.zeros(N, dtype=torch.int64)).stddev
    assert (sigma == 0.125).all()


# The ELBO


def test_elbo_terms_are_the_two_integrals():
    """Rate by quadrature over z in one dimension; distortion at the very z that was drawn."""
    model = tiny(latent_dim=1, conditional=False)
    x = images()
    with torch.no_grad():
        torch.manual_seed(5)
        terms = elbo_terms(model, x, None)
        torch.manual_seed(5)
        q = model.encode(x)
        z = q.rsample()
        assert torch.equal(terms.distortion, -model.decode(z).log_prob(x))
        grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64)[:, None, None]
        log_q = q.log_prob(grid)
        log_p = -grid.squeeze(-1).square() / 2 - math.log(2 * math.pi) / 2
        rate = torch.trapezoid(log_q.exp() * (log_q - log_p), dx=1e-3, dim=0)
        assert torch.allclose(terms.rate, rate, rtol=1e-6)


@pytest.mark.parametrize("sigma_mode", ["fixed", "global"])
def test_with_the_exact_posterior_every_draw_gives_ln_p(sigma_mode):
    """ln p(x, z) - ln q(z|x) = ln p(x), whatever z."""
    model = linear_gaussian(D, COLUMNS, sigma_mode=sigma_mode)
    x = images()
    q = model.encode(x)
    z = q.sample(torch.Size([50]))
    log_w = model.decode(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)
    assert torch.allclose(log_w, marginal(model).log_prob(x).expand(50, N), rtol=0, atol=1e-10)


def test_with_the_exact_posterior_the_elbos_gradient_is_that_of_ln_p():
    """Averaged over draws, and for the decoder's weights."""
    model = linear_gaussian(D, COLUMNS, sigma_mode="global")
    x = images()
    parameters = list(model.likelihood.parameters())
    exact = torch.autograd.grad(marginal(model).log_prob(x).mean(), parameters)
    torch.manual_seed(6)
    draws = []
    for _ in range(400):
        terms = elbo_terms(model, x, None)
        loss = -(terms.distortion + terms.rate).mean()
        gradient = torch.autograd.grad(loss, parameters)
        draws.append(torch.cat([g.flatten() for g in gradient]))
    found, noise = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 20
    expected = torch.cat([g.flatten() for g in exact])
    assert ((found - expected).abs() < 4 * noise).all()


LIKELIHOODS = [
    *({"likelihood": "gaussian", "sigma_mode": m} for m in ("fixed", "global", "shared", "pixel")),
    {"likelihood": "bernoulli"},
    {"likelihood": "continuous_bernoulli"},
]


@pytest.mark.parametrize("keys", LIKELIHOODS, ids=lambda keys: "-".join(keys.values()))
def test_gradcheck_of_the_elbo(keys):
    model = tiny(hidden=[3], activation="tanh", **keys)
    x = images(2).sigmoid()
    if keys["likelihood"] == "bernoulli":
        x = x.round()
    label = torch.tensor([0, 2])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))

    def objective(*_: Tensor) -> Tensor:
        torch.manual_seed(7)
        terms = elbo_terms(model, x, label)
        return terms.distortion + 2.5 * terms.rate

    # gradcheck perturbs its inputs in place, so the model sees its parameters change
    assert torch.autograd.gradcheck(objective, tuple(model.parameters()))


@pytest.mark.parametrize("beta", [0.5, 4.0, 10.0])
def test_beta_is_a_choice_of_variance_when_sigma_is_fixed(beta):
    """The gradients of objective_beta(sigma^2) / beta and of ELBO(beta sigma^2) are equal."""
    model, other = (tiny(sigma_mode="fixed", sigma=0.5) for _ in range(2))
    other.load_state_dict(model.state_dict())
    other.likelihood.sigma.mul_(math.sqrt(beta))
    x, label = images(), torch.tensor([0, 1, 2, 0, 1])

    def gradient(model, beta):
        torch.manual_seed(8)
        terms = elbo_terms(model, x, label)
        objective = -(terms.distortion + beta * terms.rate).mean() / beta
        return objective, torch.autograd.grad(objective, list(model.parameters()))

    tempered, gradients = gradient(model, beta)
    elbo, expected = gradient(other, 1)
    for a, b in zip(gradients, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)
    variance = 0.25
    constant = (
        -D / 2 * (math.log(2 * math.pi * variance) / beta - math.log(2 * math.pi * beta * variance))
    )
    assert (tempered - elbo).item() == pytest.approx(constant, abs=1e-12)


# Seeding


def test_derive_never_changes():
    """Every published number depends on these."""
    assert derive(1) == DERIVED[0]
    assert derive(1, "weights") == DERIVED[1]
    assert derive(1, "epoch", 0) == DERIVED[2]
    assert derive(1, "epoch", 1) == DERIVED[3]
    assert derive(2**63 - 1, "training images", 29) == DERIVED[4]


DERIVED = (
    1469723619026552644,
    4604609368897332189,
    1529408803260091970,
    4534962803726398683,
    2124237538055749575,
)


def test_derived_seeds_differ_and_fit_torch():
    purposes = [(), (0,), ("0",), ("epoch", 0), ("epoch", 1), ("epoch0",), ("epoch", "0")]
    seeds = [derive(seed, *purpose) for seed in range(50) for purpose in purposes]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeded_does_not_depend_on_order_and_leaves_the_generator_alone():
    def draw(*purpose: str | int) -> Tensor:
        with seeded(3, *purpose):
            return torch.rand(4)

    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = [draw("a"), draw("b", 1), draw("b", 2)]
    again = [draw("b", 2), draw("b", 1), draw("a")][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], first[2])
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError), seeded(3):
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)
