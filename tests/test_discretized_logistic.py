"""The discretised logistic: sums over its 256 levels, scipy's logistic, and 50 digits."""

import math
from functools import cache

import mpmath
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from vaexp.config import VAEConfig
from vaexp.config.sigma import SIGMA_MODES
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods.discretized_logistic import (
    DiscretizedLogistic,
    DiscretizedLogisticHead,
)

DOUBLE = torch.float64
LEVELS = torch.arange(256, dtype=DOUBLE)
SIGMAS = (1e-4, 1e-3, 1 / 255, 0.03, 0.3, 1.0, 10.0, 100.0)
LOCATIONS = (
    *(-100.0, -5.0, -1.0, -0.1, -1e-3, 0.0, 1e-3, 0.5 / 255, 0.1),
    *(0.5, 127.5 / 255, 0.7003, 254 / 255, 1.0, 1.002, 1.3, 6.0),
)
F, D, N = 3, 4, 5  # features, pixels, images

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
sigmas = pytest.mark.parametrize("sigma", SIGMAS)


def of(sigma: float, dtype: torch.dtype = DOUBLE) -> DiscretizedLogistic:
    """A pixel for each location."""
    return DiscretizedLogistic(
        torch.tensor(LOCATIONS, dtype=dtype), torch.tensor(sigma, dtype=dtype)
    )


def log_masses(p: DiscretizedLogistic) -> Tensor:
    """Ln P(level), (256, pixels)."""
    x = (LEVELS.to(p.location.dtype) / 255)[:, None].expand(256, len(p.location))
    return p.pixel_log_prob(x)


@cache
def exact(location: float, sigma: float, level: int) -> mpmath.mpf:
    """Ln P(level) as the difference of two sigmoids, with the digits that cancel."""
    with mpmath.workdps(60):
        scale = mpmath.mpf(sigma) * mpmath.sqrt(3) / mpmath.pi
        upper = (mpmath.mpf(2 * level + 1) / 510 - mpmath.mpf(location)) / scale
        lower = (mpmath.mpf(2 * level - 1) / 510 - mpmath.mpf(location)) / scale
        upper = mpmath.inf if level == 255 else upper
        lower = -mpmath.inf if level == 0 else lower
        # both in the tail where they are small
        sign = -1 if lower > 0 else 1
        upper, lower = (sign * upper, sign * lower)[::sign]
        mass = 1 / (1 + mpmath.exp(-upper)) - 1 / (1 + mpmath.exp(-lower))
        return mpmath.log(mass)


# It is a mass


@dtypes
@sigmas
def test_the_masses_of_the_levels_sum_to_one(sigma, dtype):
    log_mass = log_masses(of(sigma, dtype))
    assert log_mass.isfinite().all()
    assert log_mass.max() <= 0
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    total = log_mass.double().exp().sum(0)
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=tolerance)


@dtypes
@sigmas
def test_mean_and_variance_are_the_sums_over_the_levels(sigma, dtype):
    p = of(sigma, dtype)
    mass, x = log_masses(p.double()).exp(), LEVELS[:, None] / 255
    mean = (mass * x).sum(0)
    variance = (mass * (x - mean).square()).sum(0)
    single = dtype == torch.float32
    assert p.mean.dtype == p.variance.dtype == dtype
    assert torch.allclose(p.mean.double(), mean, rtol=1e-5 if single else 1e-11, atol=1e-6 * single)
    # so near to a level that float32 does not know M to better than 1e-4 of the scale
    rtol = 1e-3 if single else 1e-9
    assert torch.allclose(p.variance.double(), variance, rtol=rtol, atol=1e-12)


def test_mean_and_variance_of_more_pixels_than_a_block():
    torch.manual_seed(1)
    p = DiscretizedLogistic(torch.randn(3, 500), torch.rand(3, 1) + 0.01)
    each = [DiscretizedLogistic(m, s) for m, s in zip(p.location, p.scale, strict=True)]
    assert torch.equal(p.mean, torch.stack([one.mean for one in each]))
    assert torch.equal(p.variance, torch.stack([one.variance for one in each]))


# Against the definition


@dtypes
@pytest.mark.parametrize("sigma", [1e-3, 1 / 255, 0.03, 0.3, 100.0])
def test_log_prob_is_the_difference_of_sigmoids(sigma, dtype):
    p = of(sigma, dtype)
    found = log_masses(p)
    precision = 1e-6 if dtype == torch.float32 else 1e-12
    for level in (0, 1, 2, 127, 128, 253, 254, 255):
        for m, s, value in zip(
            p.location.tolist(), p.scale.tolist(), found[level].tolist(), strict=True
        ):
            # what rounding M to its own precision alone does to ln P is |M| / S times that
            rounding = precision * (abs(m) + 1) / s / 10
            expected = float(exact(m, s, level))
            assert value == pytest.approx(expected, rel=precision, abs=precision + rounding)


@pytest.mark.parametrize("sigma", [0.03, 0.3, 10.0])
def test_sigma_is_the_standard_deviation_before_rounding(sigma):
    logistic = stats.logistic(loc=0.4, scale=sigma * math.sqrt(3) / math.pi)
    assert logistic.std() == pytest.approx(sigma)
    p = DiscretizedLogistic(torch.tensor([0.4], dtype=DOUBLE), torch.tensor(sigma, dtype=DOUBLE))
    for level in (1, 50, 100):
        mass = logistic.cdf((level + 0.5) / 255) - logistic.cdf((level - 0.5) / 255)
        found = p.log_prob(torch.tensor([level / 255], dtype=DOUBLE)).item()
        assert found == pytest.approx(math.log(mass), abs=1e-10)


@pytest.mark.parametrize("sigma", [1e-3, 0.01, 0.3, 10.0])
def test_draws_are_levels_in_proportion_to_their_masses(sigma):
    p, n = of(sigma, torch.float32), 20_000
    torch.manual_seed(3)
    draws = p.sample(torch.Size([n]))
    assert draws.dtype == torch.float32
    level = (draws * 255).round()
    assert torch.equal(draws, level / 255)  # the very numbers that data.transform: scale gives
    expected = n * log_masses(p.double()).exp()
    for pixel in range(len(LOCATIONS)):
        counts = level[:, pixel].long().bincount(minlength=256).double()
        often = expected[:, pixel] >= 5
        rest = expected[~often, pixel].sum()
        observed = [*counts[often].tolist(), counts[~often].sum().item()]
        wanted = [*expected[often, pixel].tolist(), rest.item()]
        if rest < 5:  # too rare for the test's approximation: it must be rare in truth, too
            assert observed.pop() <= 20
            wanted.pop()
        if len(wanted) > 1:
            statistic = sum((o - w) ** 2 / w for o, w in zip(observed, wanted, strict=True))
            assert stats.chi2(len(wanted) - 1).sf(statistic) > 1e-4, LOCATIONS[pixel]


def test_what_sigma_gains_ends_at_a_level():
    """At sigma far below a level everything is gained: ln P = 0, and not more."""
    at_level = torch.tensor([100 / 255], dtype=DOUBLE)
    values = [
        DiscretizedLogistic(at_level, torch.tensor(s, dtype=DOUBLE)).log_prob(at_level).item()
        for s in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
    ]
    assert values == sorted(values)
    assert -1e-12 < values[-1] <= 0


# Gradients


@dtypes
@sigmas
def test_gradients_are_finite_everywhere(sigma, dtype):
    location = torch.tensor(LOCATIONS, dtype=dtype, requires_grad=True)
    scale = torch.full_like(location, sigma, requires_grad=True)
    p = DiscretizedLogistic(location, scale)
    by_location, by_scale = torch.autograd.grad(log_masses(p).sum(), [location, scale])
    assert by_location.isfinite().all()
    assert by_scale.isfinite().all()


@sigmas
def test_gradients_in_float32_are_those_in_float64(sigma):
    """Their mean over levels is 0: the error is held against their spread."""
    found = []
    location = torch.tensor(LOCATIONS).requires_grad_()
    scale = torch.full_like(location, sigma).requires_grad_()
    for dtype in (torch.float32, DOUBLE):
        p = DiscretizedLogistic(location.to(dtype), scale.to(dtype))
        rows = [
            torch.autograd.grad(row.sum(), [location, scale], retain_graph=True)
            for row in log_masses(p)
        ]
        found.append([torch.stack(parts).double() for parts in zip(*rows, strict=True)])
    for single, double in zip(*found, strict=True):
        # float32 places an edge to 1e-7 |M - edge| / S
        tolerance = 1e-5 + 1e-7 * (location.detach().double().abs() + 1) / sigma
        spread = double.abs().amax(0)
        assert ((single - double).abs() <= tolerance * spread + 1e-6).all()


def head(mode: str = "pixel") -> DiscretizedLogisticHead:
    """Float64, every weight random: also those that start at zero."""
    torch.manual_seed(1)
    built = DiscretizedLogisticHead(F, D, sigma_mode=mode, sigma=0.3, floor=1e-3).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.5)
    return built


@pytest.mark.parametrize("mode", [name for name, one in SIGMA_MODES.items() if not one.factors])
def test_gradcheck_of_log_prob(mode):
    built = head(mode)
    torch.manual_seed(2)
    features = torch.randn(N, F, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[0, 255, 100, 1]], dtype=DOUBLE) / 255
    inputs = (features, *built.parameters())
    assert torch.autograd.gradcheck(lambda features, *_: built(features).log_prob(x), inputs)


# The head


def test_shapes_and_draws_of_a_head():
    p = head("global")(torch.randn(6, N, F, dtype=DOUBLE))
    assert p.batch_shape == (6, N)
    assert p.event_shape == (D,)
    x = p.sample(torch.Size([3]))
    assert x.shape == (3, 6, N, D)
    assert not x.requires_grad
    assert p.log_prob(x).shape == (3, 6, N)
    assert torch.allclose(p.pixel_log_prob(x).sum(-1), p.log_prob(x))
    assert p.mean.shape == p.variance.shape == answered(p.sigma).shape == (6, N, D)


def test_other_sigmas_are_new_distributions():
    torch.manual_seed(1)
    p = DiscretizedLogistic(torch.randn(N, D), torch.rand(N, D) + 0.05)
    x, sigma = p.sample(), torch.rand(2, D, dtype=DOUBLE) + 0.1
    for column, one in zip(answered(p.log_prob_at_sigmas(x, sigma)).T, sigma, strict=True):
        expected = DiscretizedLogistic(p.location.double(), one).log_prob(x.double())
        assert torch.equal(column, expected)


def test_what_it_cannot_answer_has_a_reason():
    built = head("fixed")
    p = built(torch.randn(N, F, dtype=DOUBLE))
    absent = (
        built.best_sigma(torch.ones(D), 1e-3),
        built.gap_to_mean(D),
        built.affine(),
        built.implied_sigma(2.0),
        p.tempered(2.0),
        p.log_prob_at_floors(p.mean, 1e-3, (0.5, 1.0)),
        p.quadratic(),
    )
    assert all(isinstance(one, Absent) for one in absent)
    itself, log_z = answered(p.tempered(1.0))
    assert itself is p
    assert torch.equal(log_z, torch.zeros(N, dtype=DOUBLE))


def test_a_config_names_it():
    config = VAEConfig(kind="vae", likelihood="discretized_logistic", sigma_mode="global")
    assert (config.family.measure, config.family.on) == ("mass", "grey levels")
    assert config.family.transforms == ("scale",)
    assert config.family.no_sweep is not None
