"""Bounds and their errors, on a linear-Gaussian model where ln p(x) and E ELBO are known."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from small_models import iw_bound, marginal, no_label, rough_vae
from small_models import linear_gaussian as linear_gaussian_of
from torch import Tensor
from torch.distributions import Independent, Normal

from vaexp.config import VAEConfig
from vaexp.evaluation import blocks, bounds
from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.measure import Estimate, Measure, RunningMean
from vaexp.evaluation.scope import Tightness
from vaexp.models import VAE, build

D, L = 6, 2
SCALES = (1.5, 0.6)  # of W's orthogonal columns


linear_gaussian = partial(linear_gaussian_of, D, SCALES)
small_vae = partial(rough_vae, D, 0.1)


@torch.no_grad()
def exact_log_prob(model: VAE, x: Tensor) -> Tensor:
    return marginal(model).log_prob(x)


@torch.no_grad()
def exact_terms(model: VAE, x: Tensor) -> dict[str, Tensor]:
    """E_q of distortion, rate and squared error, in closed form.

    E_q |x - W z - b|^2 = |x - W m - b|^2 + sum_j s_j^2 |w_j|^2.
    """
    q = model.encode(x)
    weight, sigma = model.likelihood.mean.weight, model.likelihood.sigma
    error = (x - model.decode(q.mean).mean).square().sum(1)
    error = error + (q.variance * weight.square().sum(0)).sum(1)
    distortion = D / 2 * (2 * math.pi * sigma**2).log() + error / (2 * sigma**2)
    rate = (q.mean**2 + q.variance - q.variance.log() - 1).sum(1) / 2
    return {
        "distortion": distortion,
        "rate": rate,
        "elbo": -distortion - rate,
        "rmse_mean": error / D,
        "rmse_sample": error / D + sigma**2,
    }


def images(n: int, seed: int = 2) -> Tensor:
    """From the model itself, a little too wide."""
    torch.manual_seed(seed)
    model = linear_gaussian()
    with torch.no_grad():
        return 1.2 * model.decode(torch.randn(n, L, dtype=torch.float64)).sample()


# elbo_measures


def test_measures_are_the_closed_forms():
    """All but the rate within 4 of the Monte Carlo errors they state; seed fixed."""
    model, x = linear_gaussian(shift=0.3, stretch=1.7), images(2500)  # more than one block
    exact = exact_terms(model, x)
    torch.manual_seed(3)
    measures = elbo_measures(model, x, no_label(x), draws=8)
    assert set(measures) == {*exact, "sigma"}
    for name, expected in exact.items():
        found = measures[name].summary()
        value = expected.mean().item()
        if name.startswith("rmse"):
            value = math.sqrt(value)
        assert found["n"] == 2500
        if name == "rate":
            assert torch.allclose(measures[name].values, expected, rtol=1e-12)
            assert "mc_se" not in found
        else:
            assert abs(found["value"] - value) < 4 * found["mc_se"], name
            assert 0 < found["mc_se"] < found["se"]
            assert found["draws"] == 8
    assert torch.equal(
        measures["elbo"].values, -measures["distortion"].values - measures["rate"].values
    )


def test_with_the_exact_posterior_the_elbo_is_ln_p_within_4_mc_se():
    model, x = linear_gaussian(), images(500)
    torch.manual_seed(4)
    elbo = elbo_measures(model, x, no_label(x))["elbo"].summary()
    exact = exact_log_prob(model, x)
    assert torch.allclose(exact_terms(model, x)["elbo"], exact, rtol=0, atol=1e-10)
    assert abs(elbo["value"] - exact.mean().item()) < 4 * elbo["mc_se"]
    assert elbo["mc_se"] < 0.03


@pytest.mark.parametrize("sigma", [1.0, 0.5, 0.1])
def test_distortion_is_the_squared_error_at_a_fixed_sigma(sigma):
    """At sigma = 1, D/2 ln(2 pi) + D rmse_mean^2 / 2: with 784 pixels, in float32, to 1e-3 nats (at
    sigma = 0.1 it is 13,000 nats, where float32 steps by 1e-3)."""
    torch.manual_seed(1)
    d = 784
    config = VAEConfig(kind="vae", hidden=[16], sigma=sigma)
    model = build(config, data_dim=d, classes=10)
    x, label = torch.rand(300, d), torch.arange(300) % 10
    measures = elbo_measures(model, x, label)
    rmse = measures["rmse_mean"].summary()["value"]
    expected = d / 2 * math.log(2 * math.pi * sigma**2) + d * rmse**2 / (2 * sigma**2)
    assert measures["distortion"].summary()["value"] == pytest.approx(expected, abs=1e-3, rel=3e-7)
    if sigma == 1:
        assert measures["elbo"].summary()["value"] < -720.45
        assert measures["distortion"].summary()["value"] > 720.45


def test_rmse_sample_adds_the_variance():
    model, x = linear_gaussian(sigma=0.8), images(2000)
    torch.manual_seed(5)
    measures = elbo_measures(model, x, no_label(x), draws=16)
    difference = measures["rmse_sample"].values - measures["rmse_mean"].values
    error = difference.std() / math.sqrt(len(difference))
    assert abs(difference.mean() - 0.8**2) < 4 * error


@pytest.mark.parametrize("mode", ["fixed", "global", "shared", "pixel"])
def test_sigma_is_the_mean_of_sigma_z(mode):
    model, x = small_vae(sigma_mode=mode, sigma=0.7), images(40).float()
    torch.manual_seed(6)
    sigma = elbo_measures(model, x, no_label(x), draws=400)["sigma"]
    with torch.no_grad():
        z = model.encode(x).sample(torch.Size([4000]))
        expected = model.decode(z).stddev.mean((0, 2)).double()
    assert torch.allclose(sigma.values, expected, rtol=0.02)
    if mode == "fixed":
        assert sigma.summary()["value"] == pytest.approx(0.7)
        assert sigma.summary()["mc_se"] == pytest.approx(0, abs=1e-7)
    assert sigma.unit == "units of x"


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_measures_of_a_likelihood_without_sigma(likelihood):
    model = small_vae(likelihood=likelihood)
    x = images(30).float().sigmoid()
    x = x.round() if likelihood == "bernoulli" else x
    measures = elbo_measures(model, x, no_label(x))
    assert set(measures) == {"elbo", "rate", "distortion", "rmse_mean", "rmse_sample"}
    for measure in measures.values():
        assert measure.values.dtype == torch.float64
        assert measure.values.shape == (30,)
        assert measure.values.isfinite().all()


def test_the_label_reaches_both_networks():
    model = small_vae(conditional=True)
    x = images(20).float()
    labels = torch.arange(20) % 10
    for measure in (
        lambda label: elbo_measures(model, x, label)["distortion"].values,
        lambda label: elbo_measures(model, x, label)["rate"].values,
        lambda label: iw_bound(model, x, label, k=5).values,
    ):
        values = []
        for label in (labels, labels, labels.flip(0)):
            torch.manual_seed(7)
            values.append(measure(label))
        assert torch.equal(values[0], values[1])
        assert not torch.allclose(values[0], values[2])


def test_measuring_keeps_the_models_gradients_away():
    model, x = small_vae(), images(10).float()
    assert not elbo_measures(model, x, no_label(x))["elbo"].values.requires_grad
    assert not iw_bound(model, x, no_label(x), k=3).values.requires_grad


# iw_bound


@pytest.mark.parametrize("k", [1, 2, 7, 5000])
def test_with_the_exact_posterior_the_iw_bound_is_ln_p(k):
    model, x = linear_gaussian(), images(7)
    bound = iw_bound(model, x, no_label(x), k=k)
    assert torch.allclose(bound.values, exact_log_prob(model, x), rtol=0, atol=1e-10)
    assert bound.facts["effective_samples"] == pytest.approx(k, rel=1e-9)
    assert bound.facts["k"] == k
    if k == 1:  # one weight says nothing about its own spread
        assert "mc_se" not in bound.summary()
    else:
        assert bound.summary()["mc_se"] == pytest.approx(0, abs=1e-6)


def test_bounds_are_in_order():
    """ELBO <= IW(10) <= IW(100) <= IW(1000) <= ln p, each step within 4 standard errors of the
    paired difference, and each larger than that error: the posterior is far from exact."""
    model, x = linear_gaussian(shift=0.5, stretch=1.6), images(400)
    torch.manual_seed(8)
    label = no_label(x)
    ladder = [
        elbo_measures(model, x, label)["elbo"],
        *(iw_bound(model, x, label, k=k) for k in (10, 100, 1000)),
    ]
    exact = Measure(exact_log_prob(model, x), "nats", torch.zeros(len(x)))
    for lower, upper in zip(ladder, [*ladder[1:], exact], strict=True):
        gap = (upper.values - lower.values).mean()
        variance = lower.monte_carlo_variance.sum() + upper.monte_carlo_variance.sum()
        error = variance.sqrt() / len(x)
        assert gap > -4 * error
    assert ladder[1].values.mean() - ladder[0].values.mean() > 0.1
    assert exact.values.mean() - ladder[-1].values.mean() < 0.01
    assert ladder[0].values.mean() < exact.values.mean()


def test_iw_bound_at_k_1_is_the_elbo():
    model, x = linear_gaussian(shift=0.5, stretch=1.6), images(3000)
    torch.manual_seed(9)
    difference = iw_bound(model, x, no_label(x), k=1).values - exact_terms(model, x)["elbo"]
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(3000)


class Spy:
    """A model that remembers the z it was asked to decode."""

    def __init__(self, model: VAE):
        self.model = model
        self.z: list[Tensor] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def decode(self, z: Tensor, label: Tensor | None = None) -> object:
        self.z.append(z)
        return self.model.decode(z, label)


@pytest.mark.parametrize(
    ("rows", "k", "sizes"),
    [
        (100, 5, [5]),  # all at once
        (9, 5, [3, 2]),  # 9 rows of 3 images are 3 draws
        (11, 5, [3, 2]),
        (3, 5, [1] * 5),
        (2, 3, [1] * 3),  # fewer rows than images: one draw at a time all the same
        (9, 3, [3]),
        (9, 1, [1]),
    ],
)
def test_chunks_change_nothing(monkeypatch, rows, k, sizes):
    """k draws in all, whatever the block; the value is ln of the mean of exactly those weights."""
    monkeypatch.setattr(bounds, "ROWS_PER_BLOCK", rows)
    model, x = linear_gaussian(shift=0.5, stretch=1.6), images(3)
    spy = Spy(model)
    bound = iw_bound(spy, x, no_label(x), k=k)
    assert [len(z) for z in spy.z] == sizes
    with torch.no_grad():
        z = torch.cat(spy.z)
        q = model.encode(x)
        log_w = model.decode(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)
        w = log_w.exp()
    assert torch.allclose(bound.values, w.mean(0).log(), rtol=1e-10)
    ess = w.sum(0).square() / w.square().sum(0)
    assert bound.facts["effective_samples"] == pytest.approx(ess.median().item(), rel=1e-9)
    if k == 1:
        assert bound.monte_carlo_variance is None
        return
    assert bound.facts["share_below_10_effective_samples"] == 1
    # all images together have the variance that quarters and halves of the draws show
    if k < 4:
        parts = torch.stack([w[0::2].mean(0), w[1::2].mean(0)]).log()
        total = 0.6 * (parts[0] - parts[1]).square().sum() / 2
    else:
        of_quarter = torch.stack([w[j::4].mean(0) for j in range(4)]).log().var(0).sum()
        differences = [
            torch.cat([w[0::4], w[j::4]]).mean(0).log()
            - torch.cat([w[i::4] for i in range(1, 4) if i != j]).mean(0).log()
            for j in range(1, 4)
        ]
        of_half = torch.stack(differences).square().mean(0).sum() / 2
        total = of_half * (of_half / of_quarter).clamp(0.25, 1)
    # between images it differs as by the delta method: var(w) / (k mean(w)^2)
    delta = w.var(0, correction=0) / k / w.mean(0).square()
    total = torch.maximum(total, delta.sum())
    assert bound.monte_carlo_variance.sum().item() == pytest.approx(total.item(), rel=1e-9)
    share = bound.monte_carlo_variance / bound.monte_carlo_variance.sum()
    assert torch.allclose(share, delta / delta.sum(), rtol=1e-6)


@pytest.mark.parametrize("k", [5, 20, 100])
@pytest.mark.parametrize(
    ("columns", "sigma", "stretch"),
    [(SCALES, 0.5, 1.6), (SCALES, 0.5, 0.5), ((1.5, 1.5), 0.05, 0.4), ((3.0, 2.0), 0.02, 0.3)],
    ids=["wide", "narrow", "narrower", "narrowest"],
)
def test_the_monte_carlo_error_is_the_spread_of_repetitions(k, columns, sigma, stretch):
    """Where q misses most of the posterior, the delta method states as little as a sixth of it."""
    model = linear_gaussian_of(D, columns, sigma, shift=0.0, stretch=stretch)
    torch.manual_seed(2)
    with torch.no_grad():
        x = 1.2 * model.decode(torch.randn(200, L, dtype=torch.float64)).sample()
    summaries = []
    for seed in range(40):
        torch.manual_seed(seed)
        summaries.append(iw_bound(model, x, no_label(x), k=k).summary())
    spread = np.std([one["value"] for one in summaries], ddof=1)
    stated = math.sqrt(np.mean([one["mc_se"] ** 2 for one in summaries]))
    assert 1 / 1.3 < stated / spread < 1.3


def test_the_share_of_images_that_cannot_be_trusted():
    """The median alone hides the quarter of the images whose posterior q misses."""
    model = linear_gaussian(stretch=0.7)
    x = images(400)
    x[:100] *= 3
    torch.manual_seed(8)
    facts = iw_bound(model, x, no_label(x), k=100).facts
    assert facts["effective_samples"] > 10
    assert 0.01 < facts["share_below_10_effective_samples"] < 0.5


@pytest.mark.parametrize("n", [1, 100, 2000, 4500])
def test_memory_is_bounded(n):
    spy = Spy(small_vae())
    x = torch.rand(n, D)
    seen: list[int] = []
    iw_bound(spy, x, no_label(x), k=50, on_images=seen.append)
    assert max(z[..., 0].numel() for z in spy.z) <= bounds.ROWS_PER_BLOCK
    assert sum(z[..., 0].numel() for z in spy.z) == 50 * n
    assert seen == [len(block) for block in x.split(blocks.IMAGES_PER_BLOCK)]


def test_blocks_keep_the_order_of_the_data(monkeypatch):
    monkeypatch.setattr(blocks, "IMAGES_PER_BLOCK", 4)
    model, x = linear_gaussian(), images(10)
    bound = iw_bound(model, x, no_label(x), k=3)
    assert torch.allclose(bound.values, exact_log_prob(model, x), rtol=0, atol=1e-10)
    measures = elbo_measures(model, x, no_label(x), draws=4)
    assert torch.allclose(measures["rate"].values, exact_terms(model, x)["rate"])
    for measure in measures.values():
        assert measure.values.shape == (10,)


def test_iw_bound_does_not_underflow():
    """Weights of e^-20000 have no float64, but their logarithms do."""
    model, x = linear_gaussian(sigma=0.01, shift=0.1), images(5) + 2
    bound = iw_bound(model, x, no_label(x), k=100)
    assert bound.values.max() < -1e4
    assert bound.values.isfinite().all()
    assert bound.monte_carlo_variance.isfinite().all()


# Errors


REPEATS = 300


@pytest.mark.parametrize("what", ["measures", "iw_bound"])
def test_mc_se_is_the_spread_over_seeds(what):
    """The spread of 300 repetitions has a relative error of 4 %; it must agree within 17 %."""
    model, x = small_vae(sigma_mode="pixel", sigma=0.7).double(), images(25)
    wrong = linear_gaussian(shift=0.2, stretch=1.2)
    values: dict[str, list[float]] = {}
    stated: dict[str, list[float]] = {}
    for seed in range(REPEATS):
        torch.manual_seed(seed)
        if what == "measures":
            measures = elbo_measures(model, x, no_label(x), draws=8)
            measures.pop("rate")
        else:
            measures = {"iw_bound": iw_bound(wrong, x, no_label(x), k=200)}
        for name, measure in measures.items():
            summary = measure.summary()
            values.setdefault(name, []).append(summary["value"])
            stated.setdefault(name, []).append(summary["mc_se"])
    for name in values:
        spread = np.std(values[name], ddof=1)
        error = math.sqrt(np.mean(np.square(stated[name])))
        assert spread == pytest.approx(error, rel=0.17), name


def test_se_is_the_spread_over_data_sets():
    model = linear_gaussian(shift=0.3, stretch=1.3)
    pool = images(REPEATS * 40)
    values, stated = [], []
    for x in pool.split(40):
        summary = elbo_measures(model, x, no_label(x), draws=2)["rmse_mean"].summary()
        values.append(summary["value"])
        stated.append(summary["se"])
    assert np.std(values, ddof=1) == pytest.approx(math.sqrt(np.mean(np.square(stated))), rel=0.17)


def test_a_summary_says_what_kind_of_number_it_is() -> None:
    values = torch.ones(3, dtype=torch.float64)
    bound = Measure(
        values, "nats", kind="lower_bound", likelihood="log_prob", tightness=Tightness.ELBO
    )
    assert bound.summary().items() >= {"kind": "lower_bound", "tightness": 1}.items()
    assert {"kind", "tightness"}.isdisjoint(Measure(values, "nats").summary())
    whole = Estimate(1.0, "", 3, kind="estimate", scope="own_draws").summary()
    assert (whole["kind"], whole["scope"]) == ("estimate", "own_draws")


def test_summary_of_a_mean():
    values = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    noise = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    summary = Measure(values, "nats", noise, facts={"k": 3}).summary()
    assert summary == {
        "value": 4.0,
        "se": pytest.approx(np.std([1, 2, 4, 9], ddof=1) / 2),
        "mc_se": pytest.approx(math.sqrt(1.0 / 16)),
        "n": 4,
        "unit": "nats",
        "aggregate": "mean",
        "scope": "same_x",
        "k": 3,
    }


def test_summary_without_monte_carlo_or_with_one_image():
    assert "mc_se" not in Measure(torch.ones(3).double(), "nats").summary()
    single = Measure(torch.tensor([2.0]).double(), "nats").summary()
    assert single["se"] is None
    assert single["value"] == 2
    root = Measure(torch.zeros(3).double(), "pixel", torch.zeros(3), "root_mean").summary()
    assert (root["value"], root["se"], root["mc_se"]) == (0, 0, 0)


def test_summary_of_a_root_mean_is_the_delta_method():
    """Against the spread of the root of a mean of 200 values with noise, drawn 20,000 times."""
    generator = np.random.default_rng(1)
    n, sigma = 200, 0.3
    values = torch.from_numpy(generator.gamma(2.0, 1.0, n))
    measure = Measure(values, "pixel", torch.full((n,), sigma**2).double(), "root_mean")
    summary = measure.summary()
    assert summary["value"] == pytest.approx(math.sqrt(values.mean()))
    assert summary["aggregate"] == "root_mean"
    noisy = values.numpy() + sigma * generator.standard_normal((20_000, n))
    assert summary["mc_se"] == pytest.approx(np.sqrt(noisy.mean(1)).std(), rel=0.03)
    bootstrap = values.numpy()[generator.integers(0, n, (20_000, n))]
    assert summary["se"] == pytest.approx(np.sqrt(bootstrap.mean(1)).std(), rel=0.03)


def test_moments_are_numpys_and_do_not_cancel():
    generator = np.random.default_rng(1)
    draws = generator.standard_normal((9, 50)) + 1e8
    moments = RunningMean()
    for draw in draws:
        moments.add(torch.from_numpy(draw))
    assert moments.draws == 9
    np.testing.assert_allclose(moments.mean.numpy(), draws.mean(0), rtol=1e-15)
    np.testing.assert_allclose(
        moments.variance_of_mean().numpy(), draws.var(0, ddof=1) / 9, rtol=1e-6
    )
    # float32 draws are summed in float64
    single = RunningMean()
    for draw in draws.astype(np.float32):
        single.add(torch.from_numpy(draw))
    assert single.mean.dtype == torch.float64


def test_measures_state_their_aggregate_and_unit():
    measures = elbo_measures(linear_gaussian(), images(5), torch.zeros(5, dtype=torch.int64))
    kinds = {name: (m.unit, m.aggregate) for name, m in measures.items()}
    assert kinds == {
        "elbo": ("nats", "mean"),
        "rate": ("nats", "mean"),
        "distortion": ("nats", "mean"),
        "rmse_mean": ("units of x", "root_mean"),
        "rmse_sample": ("units of x", "root_mean"),
        "sigma": ("units of x", "mean"),
    }


def test_a_wrong_sigma_would_be_seen():
    """The oracle itself: quadrature over z agrees with the closed-form marginal."""
    model = linear_gaussian()
    x = images(3)
    with torch.no_grad():
        axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis)
        prior = Independent(Normal(torch.zeros(L), torch.ones(L)), 1)
        log_joint = model.decode(grid[:, None]).log_prob(x) + prior.log_prob(grid)[:, None]
        total = log_joint.logsumexp(0) + 2 * math.log(16 / 400)
    assert torch.allclose(total, exact_log_prob(model, x), rtol=0, atol=1e-6)
