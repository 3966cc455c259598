"""Decode modes, on models and images whose moments, coverage and densities are known."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from small_models import rough_vae
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from vaexp.evaluation import blocks
from vaexp.evaluation.calibration import calibration, coverage_by_sigma
from vaexp.evaluation.decode_modes import generate, modes
from vaexp.evaluation.decoding import decoding, outside_share
from vaexp.evaluation.densities import compare_modes, log_densities
from vaexp.evaluation.image_moments import (
    covariance_distance,
    mean_distance,
    moments,
    neighbour_correlation,
    variance_split,
)
from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.tails import Tails
from vaexp.models import GMM, VAE
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.likelihoods.gaussian import GaussianHead
from vaexp.models.ppca import PPCA, of_linear_vae

D, L, SIDE = 16, 3, 4
SHAPE = (SIDE, SIDE)
SIGMA = 0.4
COLUMNS = (1.5, 1.0, 0.5)  # lengths of W's orthogonal columns
NOMINAL = [math.erf(k / math.sqrt(2)) for k in (1, 2, 3)]


def ppca(sigma: float = SIGMA, seed: int = 1) -> PPCA:
    torch.manual_seed(seed)
    factors = torch.linalg.qr(torch.randn(D, L, dtype=torch.float64)).Q * torch.tensor(COLUMNS)
    return PPCA(torch.rand(D, dtype=torch.float64), factors, torch.tensor(sigma**2).double())


def covariance_of(model: PPCA) -> Tensor:
    return model.factors @ model.factors.T + model.variance * torch.eye(D)


def drawn(model: PPCA | GMM, n: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return generate(model, torch.zeros(1, dtype=torch.int64), n).sample, torch.arange(n) % 10


def mixture() -> GMM:
    """Two components with full covariances, whose pixels are correlated given z."""
    torch.manual_seed(3)
    mean = torch.randn(2, D, dtype=torch.float64)
    root = torch.randn(2, D, D, dtype=torch.float64) / 4
    covariance = root @ root.mT + 0.1 * torch.eye(D)
    return GMM(torch.tensor([0.3, 0.7], dtype=torch.float64), Full(mean, covariance))


vae = partial(rough_vae, D, 0.3, seed=4)


def near(estimate: Estimate | Measure, expected: float, errors: float = 4) -> bool:
    found = estimate.summary()
    return abs(found["value"] - expected) < errors * found["se"]


def densities(model, generated, x, label):
    """The entries of log_densities, and which are absent."""
    evidence = log_densities(model, generated, x, label)
    return evidence.entries, evidence.absent


def values(evidence: Evidence) -> dict[str, float]:
    return {name: entry.summary()["value"] for name, entry in evidence.entries.items()}


# the moments of what is generated


def test_variance_splits_as_the_closed_form_says():
    """Var x = tr W W^T + D sigma^2, per pixel and summed; Var mu(z) has no error to spare."""
    model = ppca()
    torch.manual_seed(5)
    generated = generate(model, torch.zeros(1, dtype=torch.int64), 20_000)
    x, _ = drawn(model, 5_000)
    split, pixels = variance_split(moments(generated.mean), generated.variance, moments(x))
    signal, noise = sum(c**2 for c in COLUMNS), D * SIGMA**2
    assert near(split["variance_of_mean"], signal)
    assert split["mean_of_variance"].value == pytest.approx(noise)
    assert split["mean_of_variance"].se == pytest.approx(0, abs=1e-9)
    assert near(split["variance_total"], signal + noise)
    assert near(split["variance_data"], signal + noise)
    per_pixel = model.factors.square().sum(1).numpy()
    np.testing.assert_allclose(pixels["variance_of_mean_pixels"], per_pixel, rtol=0.06)
    np.testing.assert_allclose(pixels["mean_of_variance_pixels"], SIGMA**2)
    np.testing.assert_allclose(pixels["variance_data_pixels"], per_pixel + SIGMA**2, rtol=0.1)
    for name in ("variance_of_mean", "variance_data"):
        assert pixels[f"{name}_pixels"].sum() == pytest.approx(split[name].value)


def test_moments_of_samples_are_the_models():
    """C = W W^T + sigma^2 I of samples, W W^T of mu(z), whose rank is L."""
    model = ppca()
    torch.manual_seed(6)
    generated = generate(model, torch.zeros(1, dtype=torch.int64), 40_000)
    found = {name: moments(x) for name, x in modes(generated, sweep=True)}
    assert torch.allclose(found["sample"].covariance, covariance_of(model), atol=0.05)
    outer = model.factors @ model.factors.T
    for name in ("mean", "plus1", "minus2"):
        assert torch.allclose(found[name].covariance, outer, atol=0.05)
    assert torch.linalg.matrix_rank(found["mean"].covariance) == L
    for name, k in {
        "mean": 0,
        "sample": 0,
        "plus1": 1,
        "minus1": -1,
        "plus2": 2,
        "minus2": -2,
    }.items():
        assert torch.allclose(found[name].mean, model.mean + k * SIGMA, atol=0.04), name


def test_moments_are_numpys():
    x = torch.randn(1201, D, dtype=torch.float64) + 5  # more than one block
    x[:, 3] = 0.1
    found = moments(x.float())
    expected = np.cov(x.float().double().numpy(), rowvar=False)
    np.testing.assert_allclose(found.covariance.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(found.mean.numpy(), x.float().double().mean(0).numpy())
    assert found.covariance[3].eq(0).all()  # 0.1 has rounding errors, and yet
    assert found.centred.dtype == torch.float32


def test_every_mode_comes_from_the_same_latents():
    model = vae(sigma_mode="pixel", conditional=True)
    label = torch.tensor([4, 9, 9, 9])
    torch.manual_seed(7)
    generated = generate(model, label, 4_000)
    with torch.no_grad():
        p = model.decode(generated.z, generated.label)
    images = dict(modes(generated, sweep=True))
    assert list(images) == ["mean", "sample", "plus1", "minus1", "plus2", "minus2"]
    assert torch.equal(images["mean"], p.mean)
    assert torch.allclose(images["minus2"], p.mean - 2 * p.stddev)
    assert torch.allclose((images["plus1"] + images["minus1"]) / 2, p.mean, atol=1e-6)
    residual = (images["sample"] - p.mean) / p.stddev
    assert abs(residual.mean()) < 4 / math.sqrt(residual.numel())
    assert residual.var() == pytest.approx(1, abs=4 * math.sqrt(2 / residual.numel()))
    assert set(generated.label.tolist()) == {4, 9}
    assert (generated.label == 9).double().mean() == pytest.approx(0.75, abs=4 * 0.43 / 63)


def test_a_mixtures_samples_have_its_full_covariances():
    model = mixture()
    torch.manual_seed(8)
    generated = generate(model, torch.zeros(1, dtype=torch.int64), 40_000)
    weight, mean = model.weight, model.gaussians.mean
    centre = weight @ mean
    between = (mean - centre).T @ ((mean - centre) * weight[:, None])
    within = torch.einsum("k,kij->ij", weight, model.gaussians.covariance)
    found = dict(modes(generated, sweep=True))
    assert torch.allclose(moments(found["sample"]).covariance, between + within, atol=0.06)
    assert torch.allclose(moments(found["mean"]).covariance, between, atol=0.06)
    split, _ = variance_split(moments(found["mean"]), generated.variance, moments(found["sample"]))
    assert near(split["mean_of_variance"], within.trace().item())
    assert near(split["variance_of_mean"], between.trace().item())
    assert near(split["variance_data"], split["variance_total"].value)


# distances


def test_distances_of_known_gaussians():
    """m = 0 and shift, C = I and 4 I: sqrt(D) shift, and 3/4."""
    torch.manual_seed(9)
    found = moments(2 + 2 * torch.randn(20_000, D))
    data = moments(torch.randn(20_000, D))
    assert near(mean_distance(found, data), 2 * math.sqrt(D))
    distance = covariance_distance(data, found)
    noise = distance.facts["sampling_noise"]
    assert near(distance, math.hypot(0.75, noise))
    assert near(covariance_distance(found, data), 3)
    assert distance.facts["against"] == 20_000
    assert mean_distance(data, data).value == 0
    assert covariance_distance(data, data).value == 0


def test_distances_have_their_sampling_noise_and_no_more_if_nothing_differs():
    """Root-mean-square over 200 pairs of sets; the spread of a mean square of them is 3 %."""
    squares = {"mean": [0.0, 0.0], "covariance": [0.0, 0.0]}
    model = ppca()
    for seed in range(200):
        a, b = (moments(drawn(model, n, 2 * seed + n)[0]) for n in (301, 200))
        for name, distance in (
            ("mean", mean_distance(a, b)),
            ("covariance", covariance_distance(a, b)),
        ):
            squares[name][0] += distance.value**2
            squares[name][1] += distance.facts["sampling_noise"] ** 2
    for found, expected in squares.values():
        assert found == pytest.approx(expected, rel=0.15)


def test_the_error_of_a_distance_is_its_spread_if_nothing_differs():
    """250 repetitions give the spread to 4.5 %. The delta method alone is 1.4 times too large."""
    found: dict[str, list[float]] = {"mean": [], "covariance": []}
    stated: dict[str, list[float]] = {"mean": [], "covariance": []}
    torch.manual_seed(4)
    spread = torch.linspace(0.5, 1.5, D)
    for _ in range(250):
        a, b = (moments(torch.randn(n, D) * spread) for n in (301, 200))
        for name, one in (("mean", mean_distance(a, b)), ("covariance", covariance_distance(a, b))):
            found[name].append(one.value)
            stated[name].append(one.se or 0)
    for name, values_ in found.items():
        error = math.sqrt(np.mean(np.square(stated[name])))
        assert np.std(values_, ddof=1) == pytest.approx(error, rel=0.17), name


def test_standard_errors_are_the_spread_over_sets():
    """250 repetitions give the spread to 4.5 %."""
    model, other = ppca(), ppca(0.9, seed=11)
    found: dict[str, list[float]] = {}
    stated: dict[str, list[float]] = {}
    for seed in range(250):
        torch.manual_seed(seed)
        generated = generate(model, torch.zeros(1, dtype=torch.int64), 400)
        a, b = moments(generated.sample), moments(drawn(other, 300, 1000 + seed)[0])
        split, _ = variance_split(moments(generated.mean), generated.variance, b)
        correlation = neighbour_correlation(a, SHAPE)
        assert correlation is not None
        estimates = {
            "mean_distance": mean_distance(a, b),
            "covariance_distance": covariance_distance(a, b),
            "neighbour_correlation": correlation,
            "outside_share": outside_share(generated.sample),
            **split,
        }
        for name, estimate in estimates.items():
            found.setdefault(name, []).append(estimate.value)
            stated.setdefault(name, []).append(estimate.se or 0)
    del found["mean_of_variance"]  # the same for every z
    for name in found:
        error = math.sqrt(np.mean(np.square(stated[name])))
        assert np.std(found[name], ddof=1) == pytest.approx(error, rel=0.17), name


# neighbours


def test_neighbour_correlation_of_planted_fields():
    torch.manual_seed(12)
    noise = torch.randn(20_000, D)
    shared = torch.randn(20_000, 1)
    brightness = torch.linspace(-5, 5, D)  # means do not count
    for images, expected in (
        (brightness + noise, 0),
        (brightness + shared, 1),
        (brightness + shared + 2 * noise, 1 / 5),
        (shared * torch.tensor([1.0, -1.0]).repeat(D // 2), 0),  # -1 across, 1 down
    ):
        found = neighbour_correlation(moments(images), SHAPE)
        assert found is not None
        assert abs(found.value - expected) < 4 * (found.se or 0) + 1e-6
    # an autoregression along the rows only: r between horizontal neighbours, 0 between others
    rows = [noise[:, :SIDE]]
    for j in range(1, SIDE):
        step = noise[:, j * SIDE : (j + 1) * SIDE]
        rows.append(0.6 * rows[-1] + 0.8 * step)
    found = neighbour_correlation(moments(torch.stack(rows, dim=2).reshape(-1, D)), SHAPE)
    assert found is not None
    assert abs(found.value - 0.3) < 4 * (found.se or 0)


def test_neighbour_correlation_is_of_all_pairs_by_hand():
    torch.manual_seed(13)
    x = torch.randn(50, 9, dtype=torch.float64) @ torch.randn(9, 9, dtype=torch.float64)
    x[:, 4] = 7  # a pixel that never varies adds nothing
    c = np.cov(x.numpy(), rowvar=False)
    pairs = [(0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8)]
    pairs += [(0, 3), (3, 6), (1, 4), (4, 7), (2, 5), (5, 8)]
    above = sum(c[i, j] for i, j in pairs)
    below = sum(math.sqrt(c[i, i] * c[j, j]) for i, j in pairs)
    found = neighbour_correlation(moments(x), (3, 3))
    assert found is not None
    assert found.value == pytest.approx(above / below)
    assert math.isfinite(found.se or math.nan)


def test_neighbours_of_images_that_are_not_square():
    torch.manual_seed(14)
    x = torch.randn(50, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    c = np.cov(x.numpy(), rowvar=False)
    pairs = [(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)]
    expected = sum(c[i, j] for i, j in pairs)
    expected /= sum(math.sqrt(c[i, i] * c[j, j]) for i, j in pairs)
    found = neighbour_correlation(moments(x), (2, 3))
    assert found is not None
    assert found.value == pytest.approx(expected)
    turned = neighbour_correlation(moments(x.view(-1, 2, 3).mT.reshape(-1, 6)), (3, 2))
    assert turned is not None
    assert (turned.value, turned.se) == pytest.approx((found.value, found.se))


def test_images_that_are_all_the_same_have_no_correlation():
    assert neighbour_correlation(moments(torch.full((50, D), 0.1)), SHAPE) is None


# the ends of the range


def test_outside_share_is_the_normal_tails():
    normal = Normal(0.0, 1.0)
    torch.manual_seed(14)
    images = 0.8 + 0.5 * torch.randn(20_000, D)
    below = normal.cdf(torch.tensor((0 - 0.8) / 0.5))
    above = 1 - normal.cdf(torch.tensor((1 - 0.8) / 0.5))
    assert near(outside_share(images), (below + above).item())
    ends = torch.tensor([[0.0, 1.0, -1e-6, 1 + 1e-6], [0.5, 0.5, 0.5, 0.5]])
    assert outside_share(ends).value == 0.25


# coverage


@pytest.mark.parametrize("wrong", [1.0, 2.0, 0.5])
def test_coverage_with_sigma_misstated(wrong):
    """x = W z + noise of SIGMA; the model states ``wrong`` times it: (x - mu) / sigma is a normal
    over ``wrong``, so mu +- k sigma covers erf(k wrong / sqrt 2)."""
    model = ppca()
    x, label = drawn(model, 3_000)

    class Stated:
        """The true posterior and mean, with another sigma."""

        has_sigma = True
        encode = model.encode

        def decode(self, z: Tensor, label: Tensor) -> object:
            p = model.decode(z, label)
            return Normal(p.mean, wrong * p.stddev)

    measures, strata = calibration(Stated(), x, label)  # type: ignore[arg-type]
    for k in (1, 2, 3):
        measure = measures[f"coverage_{k}"]
        assert measure.values.shape == (3_000,)
        assert measure.facts["nominal"] == pytest.approx(NOMINAL[k - 1])
        expected = math.erf(k * wrong / math.sqrt(2))
        assert near(measure, expected) or 1 - expected < 1e-8, k  # none of 48,000 pixels
    assert near(measures["sigma_squared_bias"], (wrong**2 - 1) * SIGMA**2)
    assert near(measures["standardised_error"], 1 / wrong**2)
    assert strata["sigma_strata"] == pytest.approx([wrong * SIGMA])
    assert strata["share_strata"] == pytest.approx([1])
    shares = [measures[f"coverage_{k}"].values.mean().item() for k in (1, 2, 3)]
    assert strata["coverage_strata"][0] == pytest.approx(shares)
    errors = [measures[f"coverage_{k}"].summary()["se"] for k in (1, 2, 3)]
    assert strata["coverage_strata_se"][0] == pytest.approx(errors)


def test_a_calibrated_mixture_covers_the_nominal_shares():
    """By each pixel's own variance, though pixels are correlated."""
    model = mixture()
    x, label = drawn(model, 4_000)
    measures, strata = calibration(model, x, label)
    for k in (1, 2, 3):
        assert near(measures[f"coverage_{k}"], NOMINAL[k - 1])
    assert near(measures["sigma_squared_bias"], 0)
    assert near(measures["standardised_error"], 1)
    shares, errors = strata["coverage_strata"], strata["coverage_strata_se"]
    assert shares.shape == errors.shape
    assert 5 <= len(shares) <= 10  # 32 different sigmas
    assert (np.abs(shares - NOMINAL) < 4.5 * errors).all()


def test_strata_are_the_deciles_of_sigma():
    """Where sigma is small it is half the true one, where it is large twice."""
    torch.manual_seed(15)
    stated = torch.rand(2_000, D) + 0.5
    factor = torch.where(stated < 1, 2.0, 0.5)
    error = (factor * torch.randn(2_000, D)).abs()  # in units of the stated sigma
    beyond = sum((error > k).to(torch.uint8) for k in (1, 2, 3))
    assert isinstance(beyond, Tensor)
    strata = coverage_by_sigma(stated, beyond)
    assert strata["coverage_strata"].shape == (10, 3)
    assert strata["sigma_strata"] == pytest.approx(0.55 + 0.1 * np.arange(10), abs=0.01)
    assert strata["share_strata"] == pytest.approx([0.1] * 10, abs=1e-3)
    for rows, scale in ((slice(0, 5), 0.5), (slice(5, 10), 2.0)):
        expected = [math.erf(k * scale / math.sqrt(2)) for k in (1, 2, 3)]
        errors = strata["coverage_strata_se"][rows].clip(1e-4)
        assert (np.abs(strata["coverage_strata"][rows][1:-1] - expected) < 4 * errors[1:-1]).all()


def test_equal_sigmas_are_one_stratum():
    """At a floor, say: 35 % of pixels share the smallest sigma."""
    sigma = torch.linspace(1, 2, 4_000).reshape(400, 10)
    sigma[:140] = 0.001
    strata = coverage_by_sigma(sigma, torch.zeros(400, 10, dtype=torch.uint8))
    assert strata["share_strata"] == pytest.approx([0.4] + [0.1] * 6, abs=1e-3)
    assert strata["sigma_strata"][0] < 0.2
    assert (np.diff(strata["sigma_strata"]) > 0).all()
    assert (strata["coverage_strata"] == 1).all()
    assert (strata["coverage_strata_se"] == 0).all()


# densities


def test_log_densities_of_ppca():
    """ln p(mu(z)) and ln p(x) differ by sigma^2 tr(C^-1) / 2 on average, and both averages are
    -1/2 (ln |2 pi C| + tr(C^-1 W W^T)) and -1/2 (ln |2 pi C| + D)."""
    model = ppca()
    x, label = drawn(model, 1_500)
    torch.manual_seed(16)
    generated = generate(model, label, 3_000)
    found, absent = densities(model, generated, x, label)
    c = covariance_of(model)
    log_det = torch.logdet(2 * math.pi * c).item()
    explained = torch.linalg.solve(c, model.factors @ model.factors.T).trace().item()
    assert near(found["log_prob_of_mean"], -0.5 * (log_det + explained))
    assert near(found["log_prob_of_sample"], -0.5 * (log_det + D))
    assert near(found["log_prob_of_data"], -0.5 * (log_det + D))
    assert near(found["log_prob_gap"], 0.5 * SIGMA**2 * torch.linalg.inv(c).trace().item())
    oracle = MultivariateNormal(model.mean, c).log_prob(generated.mean[:1_000]).mean().item()
    assert found["log_prob_of_mean"].value == pytest.approx(oracle)
    assert {entry.n for entry in found.values()} == {1_000}
    assert found["log_prob_of_mean"].kind == "exact"
    assert found["log_prob_of_mean"].facts == {
        "measure": "density",
        "of": "x",
        **Tails.of(model.log_prob(generated.mean[:1_000]).numpy()).facts(),
    }
    assert set(absent) == {
        *(f"log_density_given_z_{of}" for of in ("of_mean", "of_sample", "gap")),
        *(f"elbo_{of}" for of in ("of_mean", "of_sample", "of_data", "gap")),
    }


@pytest.mark.parametrize("mode", ["fixed", "shared", "pixel"])
def test_given_z_the_mean_is_half_a_nat_per_pixel_denser(mode):
    model = vae(sigma_mode=mode, sigma=0.3)
    x, label = torch.rand(200, D), torch.arange(200) % 10
    torch.manual_seed(17)
    generated = generate(model, label, 1_000)
    found, absent = densities(model, generated, x, label)
    gap = found["log_density_given_z_gap"]
    assert gap.facts["expected"] == D / 2
    assert near(gap, D / 2)
    assert gap.se == pytest.approx(math.sqrt(D / 2 / 1_000), rel=0.15)  # of half a chi squared
    with torch.no_grad():
        p = model.decode(generated.z)
    of_mean = -(p.stddev.log() + 0.5 * math.log(2 * math.pi)).sum(1).mean().item()
    assert found["log_density_given_z_of_mean"].value == pytest.approx(of_mean, rel=1e-5)
    assert found["elbo_gap"].kind == "estimate"
    assert found["elbo_of_data"].kind == "lower_bound"
    assert found["elbo_of_data"].facts == {
        "measure": "density",
        "of": "x",
        "draws": 4,
        # of the same sign
        "median": pytest.approx(found["elbo_of_data"].value, rel=0.9),
        "trimmed_mean_1_percent": pytest.approx(found["elbo_of_data"].value, rel=0.9),
        "trimmed_mean_1_percent_se": pytest.approx(found["elbo_of_data"].se, rel=0.5),
        "extreme_1_percent": pytest.approx(0, abs=abs(found["elbo_of_data"].value)),
    }
    assert found["elbo_of_data"].n == 200
    assert all(name.startswith("log_prob") for name in absent)
    assert len(absent) == 4


def test_a_linear_vae_has_exact_densities_too_and_its_elbo_is_below_them():
    head = partial(GaussianHead, data_dim=D, sigma_mode="fixed", sigma=SIGMA, floor=1e-3)
    torch.manual_seed(18)
    model = VAE(D, L, [], "relu", head)
    x, label = torch.rand(300, D), torch.arange(300) % 10
    evidence = decoding(model, x, label, draws=1_000, shape=SHAPE, unit_interval=True)
    found = evidence.entries
    for of in ("mean", "sample", "data"):
        exact, bound = found[f"log_prob_of_{of}"], found[f"elbo_of_{of}"]
        assert isinstance(exact, Estimate)
        assert isinstance(bound, Estimate)
        assert bound.value < exact.value
    assert not evidence.absent
    same = of_linear_vae(model)
    assert same is not None
    c = covariance_of(same)
    assert near(found["log_prob_gap"], 0.5 * SIGMA**2 * torch.linalg.inv(c).trace().item())


def test_test_images_are_a_random_subset():
    """Not the first ones, which are MNIST's easier ones."""
    model = ppca()
    x, label = drawn(model, 2_400)
    x[1_200:] += 3
    found, _ = densities(model, generate(model, label, 10), x, label)
    assert near(found["log_prob_of_data"], model.log_prob(x).mean().item())
    assert found["log_prob_of_mean"].n == 10


def test_the_label_reaches_the_densities():
    model = vae(conditional=True, sigma=0.3)
    x, label = torch.rand(100, D), torch.full((100,), 4)
    torch.manual_seed(19)
    generated = generate(model, label, 100)
    moved = generated._replace(label=torch.full((100,), 7))
    right, _ = densities(model, generated, x, label)
    wrong, _ = densities(model, moved, x, label)
    gap = "log_density_given_z_of_sample"
    assert right[gap].value > wrong[gap].value
    assert right["elbo_of_sample"].value != wrong["elbo_of_sample"].value
    assert right["elbo_of_sample"].facts["of"] == "x given label"


# everything together


MODELS = {
    "ppca": ppca,
    "gmm": mixture,
    "pixel": partial(vae, sigma_mode="pixel"),
    "conditional": partial(vae, sigma_mode="shared", conditional=True),
    "bernoulli": partial(vae, likelihood="bernoulli"),
    "continuous_bernoulli": partial(vae, likelihood="continuous_bernoulli"),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_name_is_an_entry_or_absent_with_a_reason(name):
    x = torch.rand(300, D)
    x = x.round() if name == "bernoulli" else x
    label = torch.arange(300) % 10
    torch.manual_seed(20)
    evidence = decoding(
        MODELS[name](), x, label, draws=400, shape=SHAPE, unit_interval=name != "gmm"
    )
    assert not set(evidence.entries) & set(evidence.absent)
    everything = set(evidence.entries) | set(evidence.absent)
    shown = ("mean", "sample", "plus1", "minus1", "plus2", "minus2")
    assert everything == {
        *("variance_total", "variance_of_mean", "mean_of_variance", "variance_data"),
        *("mean_distance_control", "covariance_distance_control", "neighbour_correlation_data"),
        *(f"mean_distance_{mode}" for mode in shown),
        *(f"covariance_distance_{mode}" for mode in shown),
        *(f"neighbour_correlation_{mode}" for mode in shown),
        *(f"outside_share_{mode}" for mode in shown),
        *("coverage_1", "coverage_2", "coverage_3"),
        *("sigma_squared_bias", "standardised_error"),
        *(f"log_prob_{of}" for of in ("of_mean", "of_sample", "of_data", "gap")),
        *(f"log_density_given_z_{of}" for of in ("of_mean", "of_sample", "gap")),
        *(f"elbo_{of}" for of in ("of_mean", "of_sample", "of_data", "gap")),
    }
    for key, entry in evidence.entries.items():
        summary = entry.summary()
        assert math.isfinite(summary["value"]), key
        assert math.isfinite(summary["se"]), key
        if isinstance(entry, Measure):
            assert entry.values.shape == (300,)
            assert entry.values.dtype == torch.float64
        else:
            assert summary["images"] in ("generated", "test")
            drawn = 300 if name == "conditional" else 400  # it has one draw for each label
            assert summary["n"] == {"generated": drawn, "test": 300}[summary["images"]] or (
                key.endswith("_control") and summary["n"] == 150
            )
    for array in evidence.arrays.values():
        assert np.isfinite(array).all()
    assert all(evidence.absent.values())
    has_sigma = "bernoulli" not in name
    assert ("coverage_1" in evidence.entries) == has_sigma
    assert ("outside_share_plus1" in evidence.entries) == (has_sigma and name != "gmm")
    assert ("outside_share_mean" in evidence.entries) == (name != "gmm")
    assert ("coverage_strata" in evidence.arrays) == has_sigma
    assert ("elbo_of_mean" in evidence.entries) == (name not in ("ppca", "gmm", "bernoulli"))
    assert ("elbo_of_sample" in evidence.entries) == (name not in ("ppca", "gmm"))


def test_a_bernoullis_variance_is_p_1_minus_p():
    model = vae(likelihood="bernoulli")
    x, label = torch.rand(300, D).round(), torch.arange(300) % 10
    torch.manual_seed(21)
    found = values(decoding(model, x, label, draws=20_000, shape=SHAPE, unit_interval=True))
    with torch.no_grad():
        p = model.decode(model.prior().sample(torch.Size([20_000]))).mean
    assert found["mean_of_variance"] == pytest.approx((p * (1 - p)).sum(1).mean().item(), rel=0.02)
    mean = p.mean(0)  # of a binary image, whose variance is then known
    assert found["variance_total"] == pytest.approx((mean * (1 - mean)).sum().item(), rel=0.02)


def test_the_median_is_of_the_paired_differences_and_resists_one_image():
    of_sample = torch.tensor([0.0, 1.0, 2.0, 3.0, -1e9], dtype=torch.float64)
    of_mean = of_sample + torch.tensor([5.0, 6.0, 7.0, 8.0, 9.0])
    found = compare_modes("elbo", of_mean, of_sample, None, {}, kind="exact")
    assert found["elbo_of_sample"].facts["median"] == 1
    assert found["elbo_of_sample"].value < -1e8
    assert found["elbo_gap"].facts["median"] == 7
    assert found["elbo_of_mean"].facts["median"] == 7


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_halves_of_few_images_are_no_control(n):
    x, label = torch.rand(n, D), torch.arange(n)
    torch.manual_seed(24)
    evidence = decoding(vae(), x, label, draws=50, shape=SHAPE, unit_interval=True)
    for name in ("mean_distance_control", "covariance_distance_control"):
        assert (name in evidence.entries) == (n >= 4)
        assert (name in evidence.absent) == (n < 4)
    for name, entry in evidence.entries.items():
        summary = entry.summary()
        assert math.isfinite(summary["value"]), name
        assert math.isfinite(summary["se"]), name


def test_a_perfect_model_is_as_far_as_the_control():
    """In its samples; mu(z) lacks the noise, as its covariance and its neighbours show."""
    model = ppca()
    x, label = drawn(model, 4_000)
    torch.manual_seed(22)
    evidence = decoding(model, x, label, draws=4_000, shape=SHAPE, unit_interval=True)
    for name in ("mean_distance", "covariance_distance"):
        sample, control = evidence.entries[f"{name}_sample"], evidence.entries[f"{name}_control"]
        assert isinstance(sample, Estimate)
        assert isinstance(control, Estimate)
        assert sample.value < 2 * sample.facts["sampling_noise"]
        assert control.value < 2 * control.facts["sampling_noise"]
        # halves have half as many images each
        ratio = control.facts["sampling_noise"] / sample.facts["sampling_noise"]
        assert ratio == pytest.approx(math.sqrt(2), rel=0.05)
    found = values(evidence)
    c = covariance_of(model)
    lost = math.sqrt(D) * SIGMA**2 / c.norm().item()
    assert found["covariance_distance_mean"] == pytest.approx(lost, rel=0.1)
    assert found["mean_distance_plus2"] == pytest.approx(2 * SIGMA * math.sqrt(D), rel=0.03)
    assert found["variance_of_mean"] < found["variance_data"]


def test_one_component_outputs_one_image():
    """Its mean: the second moments of mu(z) are 0, and its neighbours have no correlation."""
    mean = torch.full((1, D), 0.1, dtype=torch.float64)
    model = GMM(torch.ones(1, dtype=torch.float64), Diag(mean, torch.full((1, D), 0.3).double()))
    x, label = drawn(model, 500)
    evidence = decoding(model, x, label, draws=500, shape=SHAPE, unit_interval=True)
    assert values(evidence)["variance_of_mean"] == 0
    assert values(evidence)["covariance_distance_mean"] == pytest.approx(1)
    for mode in ("mean", "plus1", "minus2"):
        assert "the same" in evidence.absent[f"neighbour_correlation_{mode}"]
    assert "neighbour_correlation_sample" in evidence.entries
    for entry in evidence.entries.values():
        assert math.isfinite(entry.summary()["value"])


def test_the_same_seed_gives_the_same_numbers():
    model = vae(sigma_mode="pixel")
    x, label = torch.rand(700, D), torch.arange(700) % 10
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(values(decoding(model, x, label, draws=300, shape=SHAPE, unit_interval=True)))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_blocks_change_nothing(monkeypatch):
    x, other = torch.rand(100, D).double(), torch.rand(70, D).double()
    sigma = torch.rand(100, D)
    beyond = torch.randint(4, (100, D), dtype=torch.uint8)

    def everything() -> list[float]:
        a, b = moments(x), moments(other)
        correlation = neighbour_correlation(a, SHAPE)
        assert correlation is not None
        found = [mean_distance(a, b), covariance_distance(a, b), correlation]
        strata = coverage_by_sigma(sigma, beyond)
        numbers = np.concatenate([array.ravel() for array in strata.values()]).tolist()
        return [number for one in found for number in (one.value, one.se or 0)] + numbers

    whole = everything()
    monkeypatch.setattr(blocks, "IMAGES_PER_BLOCK", 9)
    assert everything() == pytest.approx(whole, rel=1e-9)


def test_no_gradients():
    model = vae()
    evidence = decoding(
        model, torch.rand(50, D), torch.arange(50) % 10, draws=50, shape=SHAPE, unit_interval=True
    )
    for entry in evidence.entries.values():
        if isinstance(entry, Measure):
            assert not entry.values.requires_grad
