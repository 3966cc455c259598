"""The heads' densities, against torch.distributions, scipy, quadrature and their own definition."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from vaexp.models.absent import Absent
from vaexp.models.likelihoods.bernoulli import BernoulliHead
from vaexp.models.likelihoods.continuous_bernoulli import (
    ContinuousBernoulli,
    ContinuousBernoulliHead,
)
from vaexp.models.likelihoods.gaussian import GaussianHead
from vaexp.models.likelihoods.location_scale import raw_for, scale_above

SIGMA_MODES = ("fixed", "global", "shared", "pixel")
LOGITS = (
    *(-100.0, -50.0, -16.0, -5.0, -1.0, -0.1, -0.0501, -0.0499, -1e-2, -1e-4, -1e-8),
    *(0.0, 1e-8, 1e-4, 1e-2, 0.0499, 0.0501, 0.1, 1.0, 5.0, 16.0, 50.0, 100.0),
)
F, D, N = 3, 4, 5  # features, pixels, images

sigma_modes = pytest.mark.parametrize("mode", SIGMA_MODES)
logits = pytest.mark.parametrize("eta", LOGITS)


def gaussian_head(mode: str, sigma: float = 0.7, floor: float = 1e-3) -> GaussianHead:
    """Float64, every weight random: also those that start at zero."""
    torch.manual_seed(1)
    head = GaussianHead(F, D, sigma_mode=mode, sigma=sigma, floor=floor).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def features_and_images() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(N, F, dtype=torch.float64), torch.rand(N, D, dtype=torch.float64)


def continuous_bernoulli(eta: float, dtype: torch.dtype = torch.float64) -> ContinuousBernoulli:
    return ContinuousBernoulli(torch.tensor(eta, dtype=dtype))


def integral(function, eta: float) -> float:
    """Over [0, 1], with break points where the density of a large |eta| has its mass."""
    value, error = integrate.quad(
        function, 0, 1, points=[0.01, 0.1, 0.5, 0.9, 0.99], epsabs=0, epsrel=1e-12, limit=500
    )
    assert error < 1e-10, eta
    return value


def density(eta: float):
    p = continuous_bernoulli(eta)
    return lambda x: p.log_prob(torch.tensor(x, dtype=torch.float64)).exp().item()


# Gaussian


@sigma_modes
def test_gaussian_log_prob_is_scipys(mode):
    head = gaussian_head(mode)
    features, x = features_and_images()
    with torch.no_grad():
        p = head(features)
        mean = features.numpy() @ head.mean.weight.numpy().T + head.mean.bias.numpy()
        if mode == "fixed":
            sigma = np.array([np.float32(0.7)], dtype=float)
        elif mode == "global":
            sigma = 1e-3 + np.log1p(np.exp(head.raw_sigma.numpy()))
        else:
            raw = features.numpy() @ head.raw_sigma.weight.numpy().T + head.raw_sigma.bias.numpy()
            sigma = 1e-3 + np.log1p(np.exp(raw))
        expected = stats.norm(mean, sigma).logpdf(x.numpy()).sum(1)
        assert p.log_prob(x).shape == (N,)
        np.testing.assert_allclose(p.log_prob(x).numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(p.mean.numpy(), mean, rtol=1e-12)
        np.testing.assert_allclose(p.stddev.numpy(), np.broadcast_to(sigma, (N, D)), rtol=1e-12)


@sigma_modes
def test_gaussian_draws_have_its_mean_and_sigma(mode):
    head = gaussian_head(mode)
    features, _ = features_and_images()
    torch.manual_seed(3)
    with torch.no_grad():
        p = head(features)
        draws = p.sample(torch.Size([40_000]))
    standardised = (draws - p.mean) / p.stddev
    assert standardised.mean(0).abs().max() < 4.5 / 200
    assert (standardised.var(0) - 1).abs().max() < 4.5 * math.sqrt(2) / 200


@sigma_modes
def test_every_sigma_starts_at_the_configs(mode):
    torch.manual_seed(1)
    head = GaussianHead(F, D, sigma_mode=mode, sigma=0.3, floor=1e-3)
    p = head(100 * torch.randn(N, F))
    assert torch.allclose(p.stddev, torch.full((N, D), 0.3), rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("mode", "numbers"), [("fixed", 0), ("global", 1), ("shared", F + 1), ("pixel", (F + 1) * D)]
)
def test_sigma_modes_differ_in_how_much_sigma_is_learned(mode, numbers):
    head = gaussian_head(mode)
    learned = {name: p.numel() for name, p in head.named_parameters() if "mean" not in name}
    assert sum(learned.values()) == numbers
    assert ("sigma" in head.state_dict()) == (mode == "fixed")

    z = torch.randn(2, N, F, dtype=torch.float64)
    sigma = head(z).stddev.detach()
    assert sigma.shape == (2, N, D)
    assert (sigma.max() > sigma.min()) == (mode in ("shared", "pixel"))
    per_image = (sigma - sigma[..., :1]).abs().max() == 0
    assert per_image == (mode != "pixel")
    if mode in ("shared", "pixel"):
        assert len(sigma[..., 0].unique()) == 2 * N


# scale_above


@pytest.mark.parametrize("floor", [1e-6, 1e-3, 0.1, 2.0])
@pytest.mark.parametrize("ratio", [1 + 1e-6, 1.01, 2.0, 1e3, 1e6])
def test_raw_for_inverts_scale_above(floor, ratio):
    scale = floor * ratio
    raw = torch.tensor(raw_for(scale, floor), dtype=torch.float64)
    assert scale_above(floor, raw).item() == pytest.approx(scale, rel=1e-13)


def test_scale_above_is_floor_plus_softplus():
    raw = torch.linspace(-30, 100, 1301, dtype=torch.float64)
    # torch's softplus is the identity above 20, which costs a relative e^-20
    expected = 1e-3 + torch.log1p(raw.exp())
    assert torch.allclose(scale_above(1e-3, raw), expected, rtol=3e-9, atol=0)


def test_scale_above_does_not_explode():
    """Linear growth: a latent a thousand times too far out gives a sigma that is finite."""
    assert scale_above(1e-3, torch.tensor(1e4)).item() == pytest.approx(1e4)


@pytest.mark.parametrize("floor", [1e-6, 1e-3, 0.1, 1.0, 3.0])
def test_the_floor_holds_exactly_in_float32(floor):
    raw = torch.cat([torch.linspace(-1e4, 70, 100_001), -torch.logspace(-8, 4, 1000)])
    scale = scale_above(floor, raw)
    assert scale.dtype == torch.float32
    assert scale.isfinite().all()
    assert (scale >= torch.tensor(floor)).all()
    assert scale[0] == torch.tensor(floor)


@pytest.mark.parametrize("floor", [1e-6, 1e-3, 0.1, 1.0, 3.0])
def test_the_gradient_of_scale_above_is_finite_and_sigmoid(floor):
    raw = torch.cat([torch.linspace(-1e4, 1e4, 10_001), torch.linspace(-20, 20, 10_001)])
    raw.requires_grad_()
    (gradient,) = torch.autograd.grad(scale_above(floor, raw).sum(), raw)
    assert gradient.isfinite().all()
    assert (gradient >= 0).all()
    assert torch.allclose(gradient, raw.detach().sigmoid(), rtol=1e-6, atol=1e-30)


# Bernoulli


def test_bernoulli_log_prob_is_scipys():
    torch.manual_seed(1)
    head = BernoulliHead(F, D).double()
    features, x = features_and_images()
    x = x.round()
    with torch.no_grad():
        p = head(features)
        eta = features.numpy() @ head.logits.weight.numpy().T + head.logits.bias.numpy()
        probability = 1 / (1 + np.exp(-eta))
        expected = stats.bernoulli(probability).logpmf(x.numpy()).sum(1)
        np.testing.assert_allclose(p.log_prob(x).numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(p.mean.numpy(), probability, rtol=1e-12)
        total = sum(
            p.log_prob(torch.tensor(bits, dtype=torch.float64)).exp()
            for bits in np.ndindex(*[2] * D)
        )
    assert torch.allclose(total, torch.ones(N, dtype=torch.float64))


# Continuous Bernoulli


@logits
def test_continuous_bernoulli_integrates_to_one(eta):
    assert integral(density(eta), eta) == pytest.approx(1, abs=1e-10)


@logits
def test_continuous_bernoulli_mean_and_variance_are_the_integrals(eta):
    p, f = continuous_bernoulli(eta), density(eta)
    mean = integral(lambda x: x * f(x), eta)
    variance = integral(lambda x: (x - mean) ** 2 * f(x), eta)
    assert p.mean.item() == pytest.approx(mean, rel=1e-10)
    assert p.variance.item() == pytest.approx(variance, rel=1e-9)


@logits
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_draws(eta, dtype):
    p = continuous_bernoulli(eta, dtype)
    n = 400_000
    torch.manual_seed(4)
    draws = p.sample(torch.Size([n])).double()
    assert draws.shape == (n,)
    assert draws.min() >= 0
    assert draws.max() <= 1
    exact = continuous_bernoulli(eta)
    assert abs(draws.mean() - exact.mean) < 4 * (exact.variance / n).sqrt()
    assert draws.var().item() == pytest.approx(exact.variance.item(), rel=0.02)


@pytest.mark.parametrize("eta", [-100.0, -1.0, -0.04, 0.0, 0.04, 1.0, 100.0])
def test_continuous_bernoulli_draws_follow_the_distribution_function(eta):
    torch.manual_seed(5)
    draws = continuous_bernoulli(eta).sample(torch.Size([200_000])).numpy()
    if eta == 0:
        uniform = draws
    elif eta < 0:
        uniform = np.expm1(eta * draws) / np.expm1(eta)
    else:
        uniform = 1 - np.expm1(-eta * (1 - draws)) / np.expm1(-eta)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_continuous_bernoulli_draws_have_the_shape_of_torchs():
    p = ContinuousBernoulli(torch.zeros(2, 3))
    assert p.sample().shape == (2, 3)
    assert p.sample(torch.Size([4])).shape == (4, 2, 3)
    assert not p.sample().requires_grad


@pytest.mark.parametrize("eta", [e for e in LOGITS if abs(e) <= 10])
def test_continuous_bernoulli_is_torchs_where_that_is_accurate(eta):
    x = torch.linspace(0, 1, 21, dtype=torch.float64)
    ours = continuous_bernoulli(eta)
    torchs = torch.distributions.ContinuousBernoulli(
        logits=torch.tensor(eta, dtype=torch.float64), lims=(0.4999, 0.5001)
    )
    # torch's own series near 1/2 is of second order
    assert torch.allclose(ours.log_prob(x), torchs.log_prob(x), rtol=0, atol=1e-9)
    assert torch.allclose(ours.mean, torchs.mean, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_has_a_finite_gradient_everywhere(dtype):
    eta = torch.tensor([*LOGITS, -1e4, 1e4], dtype=dtype, requires_grad=True)
    for x in (0.0, 0.3, 1.0):
        p = ContinuousBernoulli(eta)
        log_prob = p.log_prob(torch.tensor(x, dtype=dtype))
        (gradient,) = torch.autograd.grad(log_prob.sum(), eta)
        assert log_prob.isfinite().all()
        # the score of an exponential family: x minus the mean
        assert torch.allclose(gradient, x - p.mean.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_the_continuous_bernoullis_mean_is_its_variance(dtype):
    eta = torch.tensor(LOGITS, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(ContinuousBernoulli(eta).mean.sum(), eta)
    exact = ContinuousBernoulli(eta.detach().double()).variance
    assert torch.allclose(gradient.double(), exact, rtol=1e-6, atol=2e-4)


def test_continuous_bernoulli_log_prob_in_float32():
    """Also beside the switch between series and general formula, |eta| = 0.05."""
    eta = torch.cat([torch.linspace(-0.06, 0.06, 2401), torch.linspace(-100, 100, 2001)])
    for x in (0.0, 0.3, 1.0):
        value = torch.tensor(x)
        single = ContinuousBernoulli(eta).log_prob(value).double()
        exact = ContinuousBernoulli(eta.double()).log_prob(value.double())
        # 784 pixels add to less than 1e-3 nats near 0
        assert (single - exact)[:2401].abs().max() < 1e-6
        assert ((single - exact).abs() <= 1e-6 + 3e-7 * eta.double().abs()).all()
    single, exact = ContinuousBernoulli(eta).mean, ContinuousBernoulli(eta.double()).mean
    assert (single - exact).abs().max() < 4e-6


def test_continuous_bernoulli_variance_in_float32():
    eta = torch.cat([torch.linspace(-1, 1, 4001), torch.linspace(-100, 100, 2001)])
    single = ContinuousBernoulli(eta).variance.double()
    exact = ContinuousBernoulli(eta.double()).variance
    assert ((single - exact) / exact).abs().max() < 2e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_continuous_bernoulli_is_continuous_at_the_switch(sign):
    """Series and general formula agree there to the last digits that the formula has."""
    below, above = (continuous_bernoulli(sign * e) for e in (math.nextafter(0.05, 0), 0.05))
    zero = torch.tensor(0, dtype=torch.float64)
    assert below.log_prob(zero).item() == pytest.approx(above.log_prob(zero).item(), abs=1e-12)
    assert below.mean.item() == pytest.approx(above.mean.item(), abs=2e-11)
    assert below.variance.item() == pytest.approx(above.variance.item(), abs=6e-13)


# Gradients of every head


def head_of(name: str) -> nn.Module:
    torch.manual_seed(1)
    if name == "bernoulli":
        return BernoulliHead(F, D).double()
    if name == "continuous_bernoulli":
        return ContinuousBernoulliHead(F, D).double()
    return gaussian_head(name)


@pytest.mark.parametrize("name", [*SIGMA_MODES, "bernoulli", "continuous_bernoulli"])
def test_gradcheck_of_log_prob(name):
    head = head_of(name)
    features, x = features_and_images()
    if name == "bernoulli":
        x = x.round()
    # gradcheck perturbs its inputs in place, so the head sees the parameters change
    inputs = (features.requires_grad_(), *head.parameters())
    assert torch.autograd.gradcheck(lambda features, *_: head(features).log_prob(x), inputs)


@pytest.mark.parametrize("name", [*SIGMA_MODES, "bernoulli", "continuous_bernoulli"])
def test_heads_sum_over_pixels_and_keep_leading_axes(name):
    head = head_of(name)
    p = head(torch.randn(6, N, F, dtype=torch.float64))
    assert p.batch_shape == (6, N)
    assert p.event_shape == (D,)
    x = p.sample()
    assert x.shape == (6, N, D)
    assert p.log_prob(x).shape == (6, N)
    assert p.log_prob(x[0]).shape == (6, N)
    assert p.mean.shape == (6, N, D)
    assert isinstance(head.scale, Absent) == (name not in SIGMA_MODES)


def test_no_clamping_as_in_torch():
    """At logits -100 the density of black is ln 100, which torch's clamped version misses."""
    black = ContinuousBernoulli(torch.tensor(-100.0)).log_prob(torch.tensor(0.0))
    assert black.item() == pytest.approx(math.log(100), rel=1e-6)


def test_the_variance_of_a_continuous_bernoulli_in_float32_is_that_in_float64():
    """Also right above the threshold of the series, where two nearly equal terms are subtracted."""
    eta = torch.cat([torch.linspace(0.03, 0.3, 400), torch.linspace(0.3, 300, 400)]).double()
    exact = ContinuousBernoulli(eta).variance
    found = ContinuousBernoulli(eta.float()).variance.double()
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)
    assert found.dtype == torch.float64
    assert ContinuousBernoulli(eta.float()).variance.dtype == torch.float32
