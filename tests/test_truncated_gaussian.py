"""The truncated Gaussian against scipy, arithmetic with 50 digits, and its own definition.

scipy.stats.truncnorm is an oracle up to some 50 sigma outside of [0, 1]; beyond, mpmath is.
"""

import math
from functools import cache
from itertools import pairwise

import mpmath
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

from vaexp.config import VAEConfig
from vaexp.config.sigma import SIGMA_MODES
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods.truncated_gaussian import TruncatedGaussian, TruncatedGaussianHead

DOUBLE = torch.float64
SIGMAS = (1e-3, 1e-2, 0.1, 0.3, 1.0, 10.0, 100.0)
POINTS = (0.0, 1 / 255, 0.3, 0.999, 1.0)
F, D, N = 3, 4, 5  # features, pixels, images

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
sigmas = pytest.mark.parametrize("sigma", SIGMAS)


def locations(sigma: float, reach: tuple[float, ...] = (0.3, 1, 3, 10, 50)) -> list[float]:
    """Inside and outside, up to so many sigma from [0, 1]."""
    inside = [0.0, 1e-4, 0.1, 0.3, 0.5, 0.7, 0.999, 1.0]
    return sorted({*inside, *(-k * sigma for k in reach), *(1 + k * sigma for k in reach)})


def everywhere(sigma: float) -> list[float]:
    """Also where float32 cannot hold the square of (x - m) / sigma."""
    return sorted({*locations(sigma, (0.3, 1, 3, 10, 50, 1e3, 1e5)), -5.0, 6.0})


def of(location: object, sigma: object, dtype: torch.dtype = DOUBLE) -> TruncatedGaussian:
    """Pixels of these locations, each with this sigma."""
    return TruncatedGaussian(torch.tensor(location, dtype=dtype), torch.tensor(sigma, dtype=dtype))


@cache
def exact(location: float, sigma: float, x: float) -> tuple[float, float, float]:
    """Ln p(x), mean and variance by the textbook's formulas, with the digits that cancel."""
    outside = max(-location, location - 1, 0) / sigma
    with mpmath.workdps(50 + int(4 * math.log10(outside + 10))):
        m, s = mpmath.mpf(location), mpmath.mpf(sigma)
        a, b = -m / s, (1 - m) / s

        def beyond(t: mpmath.mpf) -> mpmath.mpf:
            return mpmath.erfc(t / mpmath.sqrt(2)) / 2

        mass = beyond(a) - beyond(b) if a > 0 else beyond(-b) - beyond(-a)
        if a <= 0 <= b:
            mass = 1 - beyond(-a) - beyond(b)
        at_a, at_b = mpmath.npdf(a) / mass, mpmath.npdf(b) / mass
        shift = at_a - at_b
        log_prob = -(((mpmath.mpf(x) - m) / s) ** 2) / 2
        log_prob -= mpmath.log(s * mpmath.sqrt(2 * mpmath.pi) * mass)
        variance = s**2 * (1 + a * at_a - b * at_b - shift**2)
        return float(log_prob), float(m + s * shift), float(variance)


def held(p: TruncatedGaussian) -> list[tuple[float, float]]:
    """Location and sigma of every pixel as its precision holds them."""
    return list(zip(p.location.tolist(), p.scale.tolist(), strict=True))


# Against scipy


@sigmas
def test_log_prob_mean_and_variance_are_scipys(sigma):
    at = locations(sigma)
    p = of(at, sigma)
    rows = []
    for m in at:
        oracle = stats.truncnorm(-m / sigma, (1 - m) / sigma, loc=m, scale=sigma)
        rows.append([*oracle.logpdf(POINTS), oracle.mean(), oracle.var()])
    *log_prob, mean, variance = torch.tensor(rows, dtype=DOUBLE).T
    for x, expected in zip(POINTS, log_prob, strict=True):
        # its own error reaches 1e-9 far out
        found = p.pixel_log_prob(torch.tensor(x, dtype=DOUBLE))
        assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8)
    # scipy's moments lose their digits where the interval is narrow beside sigma
    assert torch.allclose(p.mean, mean, rtol=0, atol=1e-9 * max(1, sigma))
    if sigma <= 1:
        inside = torch.tensor([-3 * sigma <= m <= 1 + 3 * sigma for m in at])
        assert torch.allclose(p.variance[inside], variance[inside], rtol=1e-8, atol=1e-15)


@dtypes
@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 100.0])
def test_draws_follow_scipys_distribution_function(sigma, dtype):
    at = locations(sigma, (1, 10, 50))
    torch.manual_seed(3)
    draws = of(at, sigma, dtype).sample(torch.Size([5_000]))
    assert draws.dtype == dtype
    assert draws.min() >= 0
    assert draws.max() <= 1
    for m, column in zip(at, draws.double().T, strict=True):
        if dtype == torch.float32 and sigma == 1e-3 and m > 1.005:
            continue  # the density falls off within some steps of float32 below 1
        oracle = stats.truncnorm(-m / sigma, (1 - m) / sigma, loc=m, scale=sigma)
        assert stats.kstest(column.numpy(), oracle.cdf).pvalue > 1e-4, m


# Against 50 digits


@sigmas
def test_log_prob_mean_and_variance_in_float64(sigma):
    p = of(everywhere(sigma), sigma)
    for x in POINTS:
        found = p.pixel_log_prob(torch.tensor(x, dtype=DOUBLE))
        expected = [exact(*one, x)[0] for one in held(p)]
        assert found.tolist() == pytest.approx(expected, rel=1e-13, abs=1e-13)
    moments = [exact(*one, 0.0)[1:] for one in held(p)]
    assert p.mean.tolist() == pytest.approx([mean for mean, _ in moments], rel=1e-9, abs=1e-15)
    assert p.variance.tolist() == pytest.approx([var for _, var in moments], rel=1e-11, abs=0)


@sigmas
def test_log_prob_mean_and_variance_in_float32(sigma):
    p = of(everywhere(sigma), sigma, torch.float32)
    for x in torch.tensor(POINTS):
        expected = [exact(*one, x.item())[0] for one in held(p)]
        assert p.pixel_log_prob(x).tolist() == pytest.approx(expected, rel=5e-7, abs=1e-6)
    moments = [exact(*one, 0.0)[1:] for one in held(p)]
    assert p.mean.tolist() == pytest.approx([mean for mean, _ in moments], rel=1e-6, abs=3e-7)
    assert p.variance.tolist() == pytest.approx([var for _, var in moments], rel=5e-5, abs=0)


@dtypes
@sigmas
def test_gradients_are_the_score(sigma, dtype):
    """d ln p / dm = (x - E x) / sigma^2 and d ln p / dsigma = ((x-m)^2 - E (x-m)^2) / sigma^3.

    The error is held against the standard deviation of each over x ~ p.
    """
    location = torch.tensor(everywhere(sigma), dtype=dtype, requires_grad=True)
    scale = torch.full_like(location, sigma, requires_grad=True)
    p = TruncatedGaussian(location, scale)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for x in torch.tensor(POINTS, dtype=dtype):
        found = torch.autograd.grad(p.pixel_log_prob(x).sum(), [location, scale], retain_graph=True)
        for (m, s), by_m, by_s in zip(held(p), *(one.tolist() for one in found), strict=True):
            _, mean, variance = exact(m, s, 0.0)
            if m > 1:  # mirrored, so that no digit is lost near 1
                _, mean, variance = exact(1 - m, s, 0.0)
            near, own = (1 - x.item(), 1 - m) if m > 1 else (x.item(), m)
            spread = math.sqrt(variance) / s**2
            expected = (near - mean) / s**2 * (-1 if m > 1 else 1)
            assert by_m == pytest.approx(expected, rel=tolerance, abs=tolerance * spread)
            expected = ((near - mean) * (near + mean - 2 * own) - variance) / s**3
            spread = math.hypot(2 * (mean - own) * math.sqrt(variance), variance) / s**3
            assert by_s == pytest.approx(expected, rel=tolerance, abs=tolerance * spread)


# Against itself


@sigmas
def test_it_integrates_to_one(sigma):
    for m in locations(sigma):
        p = of([m], sigma)
        near = [min(max(m + k * sigma, 0), 1) for k in (-9, -3, -1, 0, 1, 3, 9)]
        depth = [min(k * sigma / (1 + max(-m, m - 1, 0) / sigma), 1) for k in (1, 5, 30)]
        ends = sorted({0.0, 1.0, *near, *(depth if m < 0.5 else [1 - one for one in depth])})
        total = 0.0
        for low, high in pairwise(ends):
            total += integrate.quad(
                lambda x, p=p: p.log_prob(torch.tensor([x], dtype=DOUBLE)).exp().item(),
                low,
                high,
                epsabs=1e-11,
            )[0]
        assert total == pytest.approx(1, abs=1e-8), m


def test_it_has_no_bound_at_the_floor_as_the_location_leaves_the_interval():
    """p(0) is about |m| / sigma^2, so a floor of sigma does not hold it."""
    p = of([-1.0, -10.0, -100.0], 1e-3)
    black = p.pixel_log_prob(torch.zeros(3, dtype=DOUBLE))
    expected = torch.tensor([1.0, 10.0, 100.0], dtype=DOUBLE).log() + 2 * math.log(1e3)
    assert torch.allclose(black, expected, rtol=1e-5)


def test_with_a_wide_sigma_it_is_uniform_and_with_a_narrow_one_inside_it_is_the_gaussian():
    x = torch.linspace(0, 1, 11, dtype=DOUBLE)
    wide, narrow = of([0.4], 1e6), of([0.4], 0.02)
    assert wide.pixel_log_prob(x).abs().max() < 1e-11
    assert wide.mean.item() == pytest.approx(0.5, abs=1e-11)
    assert wide.variance.item() == pytest.approx(1 / 12, rel=1e-10)
    expected = torch.distributions.Normal(narrow.location, 0.02).log_prob(x)
    assert torch.allclose(narrow.pixel_log_prob(x), expected, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0, 2.0, 10.0])
def test_tempered_is_the_power_normalised(beta):
    p = of([[-3.0, -0.1, 0.4, 0.9, 1.2]], [0.01, 0.1, 0.2, 1.0, 0.3])
    p_beta, log_z = answered(p.tempered(beta))
    torch.manual_seed(1)
    x = torch.rand(7, 5, dtype=DOUBLE)
    assert torch.allclose(p.log_prob(x) / beta, p_beta.log_prob(x) + log_z, rtol=1e-12, atol=1e-12)
    for j in range(5):
        one = of([p.location[0, j].item()], p.scale[0, j].item())
        mode = min(max(one.location.item(), 0), 1)
        value, _ = integrate.quad(
            lambda x, one=one: (one.log_prob(torch.tensor([x], dtype=DOUBLE)) / beta).exp().item(),
            0,
            1,
            points=[abs(mode - step) for step in (0, 1e-4, 1e-3, 1e-2, 0.1)],
            limit=500,
        )
        found = answered(one.tempered(beta)).log_z.item()
        assert found == pytest.approx(math.log(value), abs=1e-7)


def test_the_quadratic_is_log_prob():
    torch.manual_seed(1)
    p = TruncatedGaussian(3 * torch.randn(6, D, dtype=DOUBLE), torch.rand(6, D, dtype=DOUBLE) + 0.1)
    x = torch.rand(N, 1, D, dtype=DOUBLE)
    constant, linear, square = answered(p.quadratic())
    found = constant + (x * linear).sum(-1) + (x.square() * square).sum(-1)
    assert torch.allclose(found, p.log_prob(x), rtol=1e-12)


def test_other_sigmas_and_other_floors_are_new_distributions():
    torch.manual_seed(1)
    location, scale = torch.randn(N, D), torch.rand(N, D) + 0.05
    p, x = TruncatedGaussian(location, scale), torch.rand(N, D)
    sigma = torch.rand(2, D, dtype=DOUBLE) + 0.1
    found = answered(p.log_prob_at_sigmas(x, sigma))
    for column, one in zip(found.T, sigma, strict=True):
        expected = TruncatedGaussian(location.double(), one).log_prob(x.double())
        assert torch.equal(column, expected)
    assert answered(p.log_prob_at_sigmas(x, sigma[:0])).shape == (N, 0)
    at_floors = answered(p.log_prob_at_floors(x, 0.02, (0.5, 1, 3)))
    assert at_floors.dtype == DOUBLE
    assert torch.allclose(at_floors[:, 1], p.log_prob(x).double(), rtol=1e-5)
    for column, more in zip(at_floors.T, (-0.01, 0, 0.04), strict=True):
        expected = TruncatedGaussian(location.double(), scale.double() + more)
        assert torch.allclose(column, expected.log_prob(x.double()), rtol=1e-5, atol=1e-5)


# The head


def head(mode: str = "pixel") -> TruncatedGaussianHead:
    """Float64, every weight random: also those that start at zero."""
    torch.manual_seed(1)
    built = TruncatedGaussianHead(F, D, sigma_mode=mode, sigma=0.3, floor=1e-3).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.5)
    return built


def features_and_images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(N, F, dtype=DOUBLE), torch.rand(N, D, dtype=DOUBLE)


@pytest.mark.parametrize("mode", [name for name, one in SIGMA_MODES.items() if not one.factors])
def test_gradcheck_of_log_prob(mode):
    built = head(mode)
    features, x = features_and_images()
    inputs = (features.requires_grad_(), *built.parameters())
    assert torch.autograd.gradcheck(lambda features, *_: built(features).log_prob(x), inputs)


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_gradcheck_of_the_normaliser_of_the_power(beta):
    built = head()
    features, _ = features_and_images()
    inputs = (features.requires_grad_(), *built.parameters())
    assert torch.autograd.gradcheck(
        lambda features, *_: answered(built(features).tempered(beta)).log_z, inputs
    )


def test_shapes_and_draws_of_a_head():
    p = head("global")(torch.randn(6, N, F, dtype=DOUBLE))
    assert p.batch_shape == (6, N)
    assert p.event_shape == (D,)
    x = p.sample(torch.Size([3]))
    assert x.shape == (3, 6, N, D)
    assert not x.requires_grad
    assert p.log_prob(x).shape == (3, 6, N)
    assert p.mean.shape == p.variance.shape == answered(p.sigma).shape == (6, N, D)
    assert p.double().mean.dtype == DOUBLE


def test_what_it_cannot_answer_has_a_reason():
    built = head("fixed")
    assert isinstance(built.best_sigma(torch.ones(D), 1e-3), Absent)
    assert isinstance(built.gap_to_mean(D), Absent)
    assert isinstance(built.affine(), Absent)
    assert not built.constant_log_z
    # ln Z of the power depends on z, so that a fixed sigma does not make beta a choice of sigma
    assert isinstance(built.implied_sigma(2.0), Absent)
    assert built.implied_sigma(1.0) == pytest.approx(0.3)


def test_a_config_names_it():
    config = VAEConfig(kind="vae", likelihood="truncated_gaussian", sigma_mode="pixel", sigma=0.3)
    assert config.family.measure == "density"
    assert config.family.no_sweep is not None
