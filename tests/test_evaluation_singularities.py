"""Sigma and covariances at their floors, on models whose sigma, floor and images are planted."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from small_models import KINDS, e_step, in_blocks, initial_gmm, no_label, rough_vae, written_out
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from vaexp.evaluation import blocks, collapse
from vaexp.evaluation import covariance_collapse as of_mixtures
from vaexp.evaluation import sigma_collapse as of_sigma
from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.collapse import (
    FACTORS,
    nearest_square,
    train_test_gap,
    weighted_quantiles,
)
from vaexp.evaluation.covariance_collapse import (
    covariance_collapse,
    most_singular,
    pixel_log_prob,
)
from vaexp.evaluation.gradient_weight import NAMES as WEIGHTS
from vaexp.evaluation.measure import Evidence
from vaexp.evaluation.noise_collapse import noise_collapse
from vaexp.evaluation.sigma_collapse import (
    BOUNDED,
    HELD,
    bin_counts,
    sigma_collapse,
)
from vaexp.fitting.gmm import m_step
from vaexp.models import GMM, VAE
from vaexp.models.absent import answered
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.likelihoods.diagonal import DiagonalGaussian
from vaexp.models.likelihoods.location_scale import raw_for
from vaexp.models.ppca import PPCA

D, FLOOR = 6, 0.01
SIGMA = [0.0101, 0.012, 0.0199, 0.0201, 0.3, 2.0]  # three of six below twice the floor


def vae(**keys: object) -> VAE:
    floor = {} if "likelihood" in keys else {"sigma_floor": FLOOR}
    return rough_vae(D, 0.4, **floor, **keys).double()


def known() -> tuple[VAE, Tensor, Tensor]:
    """With mu and sigma (D,) that no z changes, in float64."""
    model = vae(sigma_mode="pixel")
    mean = torch.linspace(-0.5, 0.5, D, dtype=torch.float64)
    sigma = torch.tensor(SIGMA, dtype=torch.float64)
    head = model.likelihood
    with torch.no_grad():
        head.mean.weight.zero_()
        head.mean.bias.copy_(mean)
        head.raw_sigma.weight.zero_()
        raw = [raw_for(s, FLOOR) for s in SIGMA]
        head.raw_sigma.bias.copy_(torch.tensor(raw, dtype=torch.float64))
    return model, mean, sigma


def images(n: int, seed: int = 2) -> Tensor:
    torch.manual_seed(seed)
    return 0.5 * torch.randn(n, D, dtype=torch.float64)


once = partial(in_blocks, size=7)


def values(evidence: Evidence) -> dict[str, float]:
    return {name: entry.summary()["value"] for name, entry in evidence.entries.items()}


def facts(evidence: Evidence, name: str) -> dict[str, object]:
    return evidence.entries[name].summary()


# sigma(z)


@pytest.mark.parametrize("block", [500, 4])
def test_a_known_sigma_of_each_pixel(monkeypatch, block):
    """No z changes p(x|z), so every mean over q is the value itself."""
    monkeypatch.setattr(blocks, "IMAGES_PER_BLOCK", block)
    model, mean, sigma = known()
    x, train = images(10), images(23, seed=3)
    found = sigma_collapse(model, x, no_label(x), once(train), floor=FLOOR)
    each = Normal(mean, sigma).log_prob(x)
    near = found.entries["log_prob_at_floor"]
    assert values(found)["pixels_at_floor"] == 0.5
    assert facts(found, "pixels_at_floor")["near_floor"] == 2
    torch.testing.assert_close(near.values, each[:, :3].sum(1))
    assert near.summary()["mc_se"] == pytest.approx(0, abs=1e-8)
    total = each.sum(1).mean().item()
    assert near.facts["total"] == pytest.approx(total)
    assert "share_of_total" not in near.facts  # total < 0, of which no part is a share
    arrays = found.arrays
    np.testing.assert_allclose(arrays["sigma_map"], SIGMA, rtol=1e-9)
    np.testing.assert_array_equal(arrays["floor_map"], [1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(arrays["log_prob_map"], each.mean(0))

    curves = {"test": x, "train": train}
    for split, data in curves.items():
        expected = [
            Normal(mean, sigma + (factor - 1) * FLOOR).log_prob(data).sum(1).mean().item()
            for factor in FACTORS
        ]
        np.testing.assert_allclose(arrays[f"floor_curve_{split}"], expected)
    np.testing.assert_allclose(arrays["floor_curve_floors"], [0.04, 0.02, 0.01, 0.005, 0.0025])
    halved = Normal(mean, sigma - FLOOR / 2).log_prob(x) - each
    slope = found.entries["floor_slope"]
    torch.testing.assert_close(slope.values, halved.sum(1))
    rise = arrays["floor_curve_train"][3] - arrays["floor_curve_train"][2]
    assert slope.facts["train"] == pytest.approx(rise)


def test_quantiles_of_sigma():
    model, _, sigma = known()
    x = images(10)
    found = sigma_collapse(model, x, no_label(x), once(x), floor=FLOOR)
    median = facts(found, "sigma_median")
    assert median["value"] == pytest.approx(SIGMA[2], rel=median["resolution"])
    assert median["q99"] == pytest.approx(2, rel=median["resolution"])
    assert (median["min"], median["max"]) == pytest.approx((SIGMA[0], SIGMA[-1]), rel=1e-12)
    expected = np.quantile(sigma, found.arrays["sigma_levels"], method="inverted_cdf")
    # where a level is at a step, rounding says which side
    inner = np.abs(found.arrays["sigma_levels"] * D % 1 - 0.5) < 0.4
    np.testing.assert_allclose(
        found.arrays["sigma_quantiles"][inner], expected[inner], rtol=median["resolution"]
    )


def test_counts_find_the_quantiles_of_many_sigma():
    torch.manual_seed(3)
    sigma = 1e-3 + torch.randn(200, 500).exp() / 20
    steps = torch.arange(of_sigma.BINS, dtype=torch.float64) + 0.5
    centres = (math.log(1e-3) + of_sigma.WIDTH * steps).exp()
    levels = torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64)
    found = weighted_quantiles(centres, bin_counts(sigma, 1e-3), levels)
    expected = sigma.double().flatten().quantile(levels)
    torch.testing.assert_close(found, expected, rtol=1.1e-3, atol=0)


def test_weighted_quantiles_are_those_of_repeated_values():
    generator = np.random.default_rng(1)
    points, weight = generator.standard_normal(40), generator.integers(0, 4, 40)
    levels = np.linspace(0, 1, 14)
    found = weighted_quantiles(*map(torch.from_numpy, (points, weight, levels)))
    expected = np.quantile(np.repeat(points, weight), levels, method="inverted_cdf")
    np.testing.assert_array_equal(found.numpy(), expected)


def test_log_prob_share_where_the_total_is_positive():
    model, mean, sigma = known()
    torch.manual_seed(4)
    x = mean + sigma * torch.randn(20, D)
    found = sigma_collapse(model, x, no_label(x), once(x), floor=FLOOR)
    each = Normal(mean, sigma).log_prob(x).mean(0)
    share = found.entries["log_prob_at_floor"].facts["share_of_total"]
    assert share == pytest.approx((each[:3].sum() / each.sum()).item())


@pytest.mark.parametrize("mode", ["global", "shared", "pixel"])
def test_another_floor_is_that_of_the_head(mode):
    """The same as to change the head's floor and decode again."""
    model, x = vae(sigma_mode=mode), images(9)
    z = torch.randn(9, model.latent_dim, dtype=torch.float64)
    with torch.no_grad():
        p = model.decode(z)
        found = answered(p.log_prob_at_floors(x, FLOOR, FACTORS))
        torch.testing.assert_close(answered(p.pixel_log_prob(x)).sum(1), p.log_prob(x))
        for factor, column in zip(FACTORS, found.unbind(1), strict=True):
            other = copy.deepcopy(model)
            other.likelihood.floor = factor * FLOOR
            torch.testing.assert_close(column, other.decode(z).log_prob(x))


def test_halving_the_floor_adds_at_most_ln_2_a_pixel():
    """All of it where sigma is the floor and mu the image."""
    x = torch.rand(4, 784)
    sigma = torch.full_like(x, FLOOR)
    found = DiagonalGaussian(x, sigma).log_prob_at_floors(x, FLOOR, FACTORS)
    torch.testing.assert_close(
        found[:, 3] - found[:, 2], x.new_full((4,), 784 * math.log(2)).double()
    )
    model = vae(sigma_mode="pixel")
    y = images(50)
    slope = sigma_collapse(model, y, no_label(y), once(y), floor=FLOOR).entries["floor_slope"]
    assert slope.facts["at_most"] == pytest.approx(D * math.log(2))
    assert slope.values.max() < slope.facts["at_most"]


def test_the_floor_does_not_hold_a_large_sigma():
    model, x = vae(sigma_mode="global", sigma=0.5), images(30)
    found = sigma_collapse(model, x, no_label(x), once(x), floor=FLOOR)
    sigma = model.decode(torch.zeros(2, dtype=torch.float64)).stddev[0].item()
    assert values(found)["pixels_at_floor"] == 0
    assert values(found)["log_prob_at_floor"] == 0
    assert values(found)["sigma_median"] == pytest.approx(sigma)
    np.testing.assert_allclose(found.arrays["sigma_quantiles"], sigma)


def test_the_gap_is_the_difference_of_the_elbos():
    """The same planted difference: images of the training set lie where mu is, others do not."""
    model, mean, _ = known()
    x, train = images(40), mean + 0.001 * images(30, seed=5)
    found = sigma_collapse(model, x, no_label(x), once(train), floor=FLOOR)
    elbos = [elbo_measures(model, data, no_label(data))["elbo"] for data in (train, x)]
    gap = facts(found, "train_test_gap")
    assert gap["value"] == pytest.approx((elbos[0].values.mean() - elbos[1].values.mean()).item())
    errors = [elbo.summary()["se"] for elbo in elbos]
    assert gap["se"] == pytest.approx(math.hypot(*errors))
    assert gap["train"] - gap["test"] == pytest.approx(gap["value"])
    assert (gap["n"], gap["train_images"], gap["difference_of"]) == (40, 30, "elbo")


def test_gap_of_one_image_has_no_error():
    gap = train_test_gap(torch.tensor([3.0]), torch.tensor([1.0, 2.0]), {})
    assert (gap.value, gap.se) == (1.5, None)


@pytest.mark.parametrize("mode", ["shared", "pixel"])
def test_training_images_that_are_mu_of_the_smallest_sigma(monkeypatch, mode):
    monkeypatch.setattr(of_sigma, "LOWEST", 5)
    model, x = vae(sigma_mode=mode), images(60)
    with torch.no_grad():  # a narrow q: its mean and its draws have the same order of sigma
        model.posterior.bias[2:] = -30.0
        model.posterior.weight[2:] = 0
        p = model.decode(model.encode(x).mean)
    lowest = p.stddev.mean(1).argsort()[:5]
    far = images(30, seed=8) + 5
    without = sigma_collapse(model, x, no_label(x), once(far), floor=FLOOR)
    # sigma of a training image is never asked for: only the distance to it counts
    train = torch.cat([far, p.mean[lowest]])
    torch.manual_seed(9)
    planted = sigma_collapse(model, x, no_label(x), once(train), floor=FLOOR)
    found = facts(planted, "nearest_train_distance")
    assert found["value"] == pytest.approx(0, abs=1e-7)
    assert found["control"] > 0.05
    assert found["sigma_lowest"] < found["sigma_control"]
    assert found["n"] == 5
    expected = torch.cdist(p.mean[lowest], far).amin(1) / math.sqrt(D)
    assert values(without)["nearest_train_distance"] == pytest.approx(expected.mean().item())
    own = torch.cdist(x[lowest], far).amin(1) / math.sqrt(D)
    assert facts(without, "nearest_train_distance")["image_distance"] == pytest.approx(
        own.mean().item()
    )
    torch.manual_seed(9)
    again = sigma_collapse(model, x, no_label(x), once(train), floor=FLOOR)
    assert facts(again, "nearest_train_distance") == found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_squares_are_cdists(monkeypatch, dtype):
    monkeypatch.setattr(collapse, "ROWS", 8)
    points, others = images(11).to(dtype), images(50, seed=6).to(dtype)
    others[-1] = points[3]
    expected = torch.cdist(points.double(), others.double()).square().amin(1)
    found = nearest_square(points, others)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    assert found[3] < 1e-14
    assert nearest_square(points[:0], others).shape == (0,)


def test_the_label_goes_along():
    """Each digit has a mu of its own, which the labels say and the images are."""
    model = vae(conditional=True, sigma_mode="pixel", hidden=[])
    head = model.likelihood
    mu = torch.randn(10, D, dtype=torch.float64)
    with torch.no_grad():
        head.mean.weight.zero_()
        head.mean.bias.zero_()
        head.mean.weight[:, model.latent_dim :] = mu.T
    label = torch.arange(40) % 10
    x = mu[label]
    right = sigma_collapse(model, x, label, once(x, label), floor=FLOOR)
    for labels, train_labels in ((label + 1, label), (label, label + 1)):
        torch.manual_seed(1)
        wrong = sigma_collapse(model, x, labels % 10, once(x, train_labels % 10), floor=FLOOR)
        gap = values(wrong)["train_test_gap"]
        assert abs(gap) > 10 * abs(values(right)["train_test_gap"])
        assert (gap > 0) == (train_labels is label)
    assert values(right)["nearest_train_distance"] == pytest.approx(0, abs=1e-7)


def test_errors_over_draws_are_the_spread_over_seeds():
    model, x = vae(sigma_mode="pixel", sigma=0.02), images(20)
    names = ("pixels_at_floor", "log_prob_at_floor", "floor_slope")
    found: dict[str, list[float]] = {name: [] for name in names}
    stated: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(150):
        torch.manual_seed(seed)
        evidence = sigma_collapse(model, x, no_label(x), once(x[:7]), floor=FLOOR)
        for name in names:
            summary = facts(evidence, name)
            found[name].append(summary["value"])
            stated[name].append(summary["mc_se"])
    for name in names:
        spread = np.std(found[name], ddof=1)
        assert spread > 0
        assert spread == pytest.approx(math.sqrt(np.mean(np.square(stated[name]))), rel=0.25), name


def test_a_fixed_sigma_has_no_floor():
    model, x = vae(sigma_mode="fixed", sigma=0.7), images(20)
    found = sigma_collapse(model, x, no_label(x), once(x), floor=FLOOR)
    assert set(found.entries) == {"sigma_median", "train_test_gap", *WEIGHTS}
    assert values(found)["sigma_median"] == pytest.approx(0.7)
    assert set(found.absent) == {
        "pixels_at_floor", "log_prob_at_floor", "floor_slope", "nearest_train_distance",
        "narrow_pixels", "log_prob_of_narrow_pixels",
    }  # fmt: skip
    assert "fixed at 0.7" in found.absent["floor_slope"]
    assert not any("floor" in name for name in found.arrays)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_a_likelihood_without_sigma_has_the_gap_alone(likelihood):
    model = vae(likelihood=likelihood)
    x = images(300).sigmoid()
    x = x.round() if likelihood == "bernoulli" else x
    given = (model, x[:100], no_label(x[:100]), once(x[100:], size=50))
    found = sigma_collapse(*given, floor=FLOOR, unbounded=likelihood != "bernoulli")
    narrow = {"narrow_pixels", "log_prob_of_narrow_pixels"}
    if likelihood == "bernoulli":
        assert set(found.entries) == {"train_test_gap"}
        assert {found.absent.pop(name) for name in narrow} == {BOUNDED}
    else:
        assert set(found.entries) == {"train_test_gap"} | narrow
        assert values(found)["narrow_pixels"] == 0
    gap = facts(found, "train_test_gap")
    assert abs(gap["value"]) < 4 * gap["se"]
    assert set(found.absent.values()) == {"p(x|z) has no sigma"}
    assert {"sigma_median", "floor_slope", "pixels_at_floor"} <= set(found.absent)
    assert found.arrays == {}


def test_constant_pixels_drive_a_continuous_bernoulli_to_infinity_and_it_shows():
    """Two of the pixels are always 0 and have logits of -1e4: each has a density of 1e4 there."""
    model, x = vae(likelihood="continuous_bernoulli"), images(120).sigmoid()
    x[:, :2] = 0
    with torch.no_grad():
        model.likelihood.logits.weight[:2] = 0
        model.likelihood.logits.bias[:2] = -1e4
    given = (model, x[:60], no_label(x[:60]))
    bounded = sigma_collapse(*given, once(x[60:]), floor=FLOOR)
    assert bounded.absent["narrow_pixels"] == BOUNDED
    found = sigma_collapse(*given, once(x[60:]), floor=FLOOR, unbounded=True)
    assert values(found)["narrow_pixels"] == pytest.approx(2 / x.shape[1])
    part = facts(found, "log_prob_of_narrow_pixels")
    assert part["value"] == pytest.approx(2 * math.log(1e4), rel=1e-6)
    assert part["total"] == pytest.approx(part["value"], abs=3)


def test_constant_pixels_drive_a_truncated_gaussian_to_infinity_whatever_its_floor():
    """Two of the pixels are always 0, with m = -100 and sigma = 0.1: p(0) is |m| / sigma^2."""
    model, x = vae(likelihood="truncated_gaussian", sigma_mode="pixel", sigma=0.1), images(120)
    x = x.sigmoid()
    x[:, :2] = 0
    with torch.no_grad():
        model.likelihood.mean.weight.zero_()
        model.likelihood.raw_sigma.weight.zero_()
        model.likelihood.raw_sigma.bias.fill_(raw_for(0.1, 1e-3))
        model.likelihood.mean.bias.fill_(0.5)
        model.likelihood.mean.bias[:2] = -100
    given = (model, x[:60], no_label(x[:60]))
    held = sigma_collapse(*given, once(x[60:]), floor=1e-3)
    assert held.absent["narrow_pixels"] == HELD
    found = sigma_collapse(*given, once(x[60:]), floor=1e-3, unbounded=True)
    assert values(found)["narrow_pixels"] == pytest.approx(2 / x.shape[1])
    part = facts(found, "log_prob_of_narrow_pixels")
    assert part["value"] == pytest.approx(2 * math.log(100 / 0.1**2), abs=0.01)
    assert "sigma_median" in found.entries


def test_the_model_stays_as_it_is():
    model, x = vae(sigma_mode="pixel").float(), images(20).float()
    before = copy.deepcopy(model.state_dict())
    found = sigma_collapse(model, x, no_label(x), once(x), floor=FLOOR)
    assert model.likelihood.floor == FLOOR
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert found.entries["floor_slope"].values.dtype == torch.float64
    assert all(array.dtype == np.float64 for array in found.arrays.values())
    with pytest.raises(ValueError, match=r"floor 0\.01, not 0\.1"):
        sigma_collapse(model, x, no_label(x), once(x), floor=0.1)


# Mixtures


def clusters(n: int = 120) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    assigned = torch.arange(n) % 3
    return images(n, seed=7) + 2 * torch.randn(3, D, dtype=torch.float64)[assigned], assigned


def fitted(kind: str, floor: float) -> tuple[GMM, GMM]:
    """A mixture before and after an M-step."""
    x, assigned = clusters()
    model = initial_gmm(x, assigned, 3, kind, factors=2, floor=floor)
    return model, m_step(e_step(model, x), model, floor)


def test_slope_of_a_diagonal_mixture_is_the_derivative_by_hand():
    """d ln p / d floor = sum_k r_k sum_j ((x - mu)^2 / v - 1) / (2 v)."""
    _, model = fitted("diag", 0.1)
    x = images(15, seed=12)
    step = 1e-6
    ends = [model.with_floor(0.1, 0.1 + sign * step).log_prob(x) for sign in (1, -1)]
    joint = model.log_joint(x)
    r = joint.softmax(1)
    v, mean = model.gaussians.variances, model.gaussians.mean
    each = (((x[:, None] - mean).square() / v - 1) / (2 * v)).sum(2)
    torch.testing.assert_close(
        (ends[0] - ends[1]) / (2 * step), (r * each).sum(1), rtol=1e-6, atol=1e-6
    )
    # and the measure is the step from the floor to half of it
    found = covariance_collapse(model, x, once(x), floor=0.1)
    halved = model.with_floor(0.1, 0.05).log_prob(x) - model.log_prob(x)
    slope = found.entries["floor_slope"]
    torch.testing.assert_close(slope.values, halved)
    assert slope.facts["train"] == pytest.approx(halved.mean().item())
    expected = [model.with_floor(0.1, 0.1 * f).log_prob(x).mean().item() for f in FACTORS]
    np.testing.assert_allclose(found.arrays["floor_curve_test"], expected)
    np.testing.assert_allclose(found.arrays["floor_curve_train"], expected)
    np.testing.assert_allclose(found.arrays["floor_curve_floors"], 0.1 * np.array(FACTORS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_of_each_kind(kind):
    floor = 0.1
    _, model = fitted(kind, floor)
    train, x = clusters()[0], images(25, seed=13)
    found = covariance_collapse(model, x, once(train), floor=floor)
    assert set(found.entries) | set(found.absent) == {
        "smallest_sigma", "sigma_median", "pixels_at_floor", "log_prob_at_floor",
        "eigenvalues_at_floor", "singleton_components", "train_test_gap", "floor_slope",
        "nearest_train_distance",
    }  # fmt: skip
    own = {"log_prob_at_floor", "eigenvalues_at_floor"}
    if kind == "tied":
        own |= {"singleton_components"}
    assert set(found.absent) == own - set(found.entries)
    assert ("log_prob_at_floor" in found.entries) == (kind in ("diag", "spherical"))

    eigenvalues = torch.linalg.eigvalsh(written_out(model.gaussians))
    np.testing.assert_allclose(found.arrays["smallest_sigma"], eigenvalues[:, 0].sqrt())
    assert values(found)["smallest_sigma"] == pytest.approx(eigenvalues.min().sqrt().item())
    r = model.log_joint(x).softmax(1)
    variance = written_out(model.gaussians).diagonal(dim1=1, dim2=2)
    near = (variance < 4 * floor).double()
    assert 0 < near.mean() < 1 or kind in ("spherical", "lowrank", "tied")
    torch.testing.assert_close(found.entries["pixels_at_floor"].values, r @ near.mean(1))
    if kind not in ("diag", "spherical"):
        share = (eigenvalues < 4 * floor).double().mean(1)
        torch.testing.assert_close(found.entries["eigenvalues_at_floor"].values, r @ share)
    np.testing.assert_allclose(found.arrays["floor_map"], r.mean(0) @ near)
    np.testing.assert_allclose(found.arrays["sigma_map"], r.mean(0) @ variance.sqrt())
    np.testing.assert_allclose(found.arrays["effective_count"], model.weight * len(train))
    assert found.arrays["effective_count"].sum() == pytest.approx(len(train))

    exact = [
        MultivariateNormal(mean, covariance)
        for mean, covariance in zip(model.gaussians.mean, written_out(model.gaussians), strict=True)
    ]

    def log_prob(data: Tensor) -> Tensor:
        terms = [p.log_prob(data) + w.log() for p, w in zip(exact, model.weight, strict=True)]
        return torch.stack(terms).logsumexp(0)

    gap = facts(found, "train_test_gap")
    assert gap["value"] == pytest.approx((log_prob(train).mean() - log_prob(x).mean()).item())
    assert gap["train_images"] == len(train)
    slope = found.entries["floor_slope"]
    assert slope.facts["at_most"] == pytest.approx(D * math.log(2) / 2)
    assert slope.values.max() <= slope.facts["at_most"]
    distance = torch.cdist(model.gaussians.mean, train).amin(1) / math.sqrt(D)
    np.testing.assert_allclose(found.arrays["nearest_train_distance"], distance)
    assert facts(found, "nearest_train_distance")["control"] == pytest.approx(
        distance.median().item()
    )


@pytest.mark.parametrize(
    ("kind", "few"), [("full", D), ("lowrank", 3), ("diag", 1), ("spherical", 1)]
)
@pytest.mark.parametrize("more", [0, 1])
def test_a_component_of_complaint_on_images_is_singular_but_for_the_floor(kind, few, more):
    """One image more, and the images themselves hold sigma above the floor."""
    floor = 1e-6
    x, assigned = clusters()
    assigned = assigned.clone()
    assigned[: few + more] = 3
    model = initial_gmm(x, assigned, 4, kind, factors=2, floor=floor)
    found = covariance_collapse(model, x, once(x), floor=floor)
    assert values(found)["singleton_components"] == 1 - more
    assert (values(found)["smallest_sigma"] < 1.01e-3) == (more == 0)


@pytest.mark.parametrize("n", [2, 3])
def test_counts_near_the_limit_are_not_lost_to_float32(n):
    """2 / 50,000 in float32, times 50,000, is below 2."""
    weight = torch.tensor([n / 50_000, 1 - n / 50_000])
    gaussians = Diag(torch.zeros(2, 1), torch.ones(2, 1))
    x = torch.zeros(50_000, 1)
    found = covariance_collapse(GMM(weight, gaussians), x[:5], once(x), floor=0.1)
    assert values(found)["singleton_components"] == 0


@pytest.mark.parametrize("kind", ["diag", "spherical", "full"])
def test_a_component_on_one_image(kind):
    """Its mean is the image, and its variances are the floor, so that it gains all there is."""
    floor = 1e-4
    x, assigned = clusters()
    assigned = assigned.clone()
    assigned[17] = 3
    model = initial_gmm(x, assigned, 4, kind, factors=2, floor=floor)
    found = covariance_collapse(model, x[17:18], once(x), floor=floor)
    singletons = facts(found, "singleton_components")
    assert singletons["value"] == 1
    assert singletons["fewer_than"] == (D + 1 if kind == "full" else 2)
    assert singletons["smallest_count"] == pytest.approx(1)
    assert found.arrays["effective_count"][3] == pytest.approx(1)
    assert found.arrays["smallest_sigma"].argmin() == 3
    assert values(found)["smallest_sigma"] == pytest.approx(0.01)
    assert values(found)["nearest_train_distance"] == pytest.approx(0, abs=1e-7)
    assert facts(found, "nearest_train_distance")["control"] > 0.1
    assert values(found)["pixels_at_floor"] == pytest.approx(1)
    assert values(found)["sigma_median"] == pytest.approx(0.01)
    assert values(found)["floor_slope"] == pytest.approx(D * math.log(2) / 2)
    if kind != "full":
        density = -0.5 * D * math.log(2 * math.pi * floor)
        assert values(found)["log_prob_at_floor"] == pytest.approx(density)
        assert found.entries["log_prob_at_floor"].facts["share_of_total"] == pytest.approx(1)
    # all held by the training images: the one gains D/2 ln 2 for each halving, and no other as much
    curve = found.arrays["floor_curve_test"]
    np.testing.assert_allclose(np.diff(curve), D * math.log(2) / 2)


def test_pixel_log_prob_is_the_naive_sum(monkeypatch):
    monkeypatch.setattr(of_mixtures, "ROWS", 4)
    _, model = fitted("diag", 0.1)
    x = images(10).float()
    mean, variance = model.gaussians.mean, model.gaussians.variances
    r = torch.rand(10, 3, dtype=torch.float64)
    r = r / r.sum(1, keepdim=True)
    near = variance < 0.3
    assert near.any()
    assert not near.all()
    per_image, per_pixel = pixel_log_prob(mean, variance, r, x, near)
    each = Normal(mean, variance.sqrt()).log_prob(x.double()[:, None])
    torch.testing.assert_close(per_image, (r[..., None] * each * near).sum((1, 2)))
    torch.testing.assert_close(per_pixel, (r[..., None] * each).sum(1).mean(0))


def test_the_most_singular_are_at_the_floor_with_the_fewest_images():
    smallest = torch.tensor([1.0, 0.1005, 0.1, 0.2] + [0.5] * 16)
    held = torch.tensor([1.0, 3.0, 9.0, 2.0] + [5.0] * 16)
    assert most_singular(smallest, held, 0.1).tolist() == [1, 2]
    assert most_singular(smallest, held, 0.0).tolist() == [2, 1]
    assert most_singular(smallest[:3], held[:3], 0.1).tolist() == [1]


def test_a_floor_that_cannot_be_halved():
    """An eigenvalue below half the floor, as no M-step leaves it: the curve has larger floors."""
    x = images(30)
    covariance = torch.diag_embed(torch.tensor([[0.04] + [1.0] * (D - 1)], dtype=torch.float64))
    model = GMM(torch.ones(1).double(), Full(x[:1], covariance))
    found = covariance_collapse(model, x, once(x), floor=0.1)
    assert "floor_slope" not in found.entries
    assert "component 0 is not positive definite in float64" in found.absent["floor_slope"]
    np.testing.assert_allclose(found.arrays["floor_curve_floors"], [0.4, 0.2, 0.1])
    for split in ("train", "test"):
        assert np.isfinite(found.arrays[f"floor_curve_{split}"]).all()


def test_a_mixture_without_a_floor():
    _, model = fitted("diag", 0.0)
    x = images(20)
    found = covariance_collapse(model, x, once(x), floor=0)
    names = {"pixels_at_floor", "log_prob_at_floor", "floor_slope"}
    assert {found.absent[name] for name in names} == {"the floor of the covariances is 0"}
    assert set(found.absent) == names | {"eigenvalues_at_floor"}
    assert "log_prob_map" in found.arrays
    assert "floor_map" not in found.arrays


def test_the_curve_has_the_first_training_images(monkeypatch):
    monkeypatch.setattr(of_mixtures, "FEW", 10)
    _, model = fitted("spherical", 0.1)
    train, x = clusters()[0], images(5)
    found = covariance_collapse(model, x, once(train), floor=0.1)
    first = train[:10]
    expected = model.log_prob(first).mean().item()
    assert found.arrays["floor_curve_train"][2] == pytest.approx(expected)
    slope = (model.with_floor(0.1, 0.05).log_prob(first).mean().item()) - expected
    assert found.entries["floor_slope"].facts["train"] == pytest.approx(slope)
    assert found.entries["floor_slope"].facts["train_images"] == 10


def test_a_mixture_in_float32():
    _, model = fitted("full", 0.1)
    x = images(20).float()
    gaussians = Full(model.gaussians.mean.float(), model.gaussians.covariance.float())
    single = GMM(model.weight.float(), gaussians)
    found = covariance_collapse(single, x, once(x), floor=0.1)
    expected = covariance_collapse(model, x, once(x), floor=0.1)
    for name, value in values(expected).items():
        assert values(found)[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
    assert all(array.dtype == np.float64 for array in found.arrays.values())


# Probabilistic PCA


def test_probabilistic_pca_has_one_sigma():
    factors = images(2, seed=14).T
    model = PPCA(images(1)[0], factors, torch.tensor(0.09, dtype=torch.float64))
    x, train = images(20), images(30, seed=15)
    found = noise_collapse(model, x.float(), once(train.float()), floor=0.0)
    assert set(found.entries) == {"smallest_sigma", "train_test_gap"}
    assert values(found)["smallest_sigma"] == pytest.approx(0.3)
    covariance = factors @ factors.T + 0.09 * torch.eye(D)
    exact = MultivariateNormal(model.mean, covariance)
    gap = (exact.log_prob(train).mean() - exact.log_prob(x).mean()).item()
    assert values(found)["train_test_gap"] == pytest.approx(gap, rel=1e-4)
    assert found.absent["floor_slope"] == "sigma of probabilistic PCA has no floor"
    assert {"sigma_median", "singleton_components", "nearest_train_distance"} <= set(found.absent)


def test_spherical_variances_count_for_every_pixel():
    mean = images(2)
    gaussians = Spherical(mean, torch.tensor([0.15, 5.0], dtype=torch.float64))
    model = GMM(torch.tensor([0.5, 0.5], dtype=torch.float64), gaussians)
    x = mean + 0.01
    found = covariance_collapse(model, x, once(x), floor=0.1)
    r = model.log_joint(x).softmax(1)
    torch.testing.assert_close(found.entries["pixels_at_floor"].values, r[:, 0])
    each = Normal(mean[0], math.sqrt(0.15)).log_prob(x).sum(1)
    torch.testing.assert_close(found.entries["log_prob_at_floor"].values, r[:, 0] * each)


def test_diagonal_variances_at_the_floor_are_counted_by_planting():
    variances = torch.full((1, D), 2.0, dtype=torch.float64)
    variances[0, :2] = torch.tensor([0.1, 0.39])  # below 4 x 0.1
    variances[0, 2] = 0.41
    model = GMM(torch.ones(1).double(), Diag(images(1), variances))
    x = images(8)
    found = covariance_collapse(model, x, once(x), floor=0.1)
    assert values(found)["pixels_at_floor"] == pytest.approx(2 / D)
    np.testing.assert_array_equal(found.arrays["floor_map"], [1, 1, 0, 0, 0, 0])
