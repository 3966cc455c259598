"""The rate's two parts and the use of latents, against brute force and closed forms."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from small_models import linear_vae as fresh_linear_vae
from small_models import orthogonal_ppca, rough_vae, set_posterior
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from vaexp.evaluation import blocks
from vaexp.evaluation import latent_use as module
from vaexp.evaluation.exact import exact_measures
from vaexp.evaluation.latent_use import (
    index_information,
    kl_to_standard_normal,
    latent_use,
    log_posterior_ratios,
    mean_variance,
    mixture_split,
    share_below,
    total_correlation,
)
from vaexp.evaluation.log_sums import log_sum_exp_
from vaexp.evaluation.measure import Evidence
from vaexp.models import GMM, VAE
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.ppca import PPCA
from vaexp.models.vae import POSTERIOR_FLOOR

D, L = 5, 3
SCALES = (0.3, 0.6, 0.9)


def linear_vae(weight: Tensor, bias: Tensor, scale: Tensor | tuple[float, ...]) -> VAE:
    """q(z|x) = N(weight x + bias, diag scale^2) for every x."""
    return set_posterior(fresh_linear_vae(D, len(weight)).double(), weight, bias, scale)


def some_vae() -> VAE:
    torch.manual_seed(1)
    weight = 0.4 * torch.randn(L, D, dtype=torch.float64)
    return linear_vae(weight, torch.tensor([0.0, 0.5, -0.3]), SCALES)


nonlinear_vae = partial(rough_vae, D, 0.5, latent_dim=L)


def ppca(dtype: torch.dtype = torch.float64) -> PPCA:
    """Its posterior's covariance is far from diagonal."""
    torch.manual_seed(2)
    factors = torch.randn(D, L, dtype=dtype)
    factors[:, 1] += 1.5 * factors[:, 0]
    return PPCA(torch.randn(D, dtype=dtype), factors, torch.tensor(0.5, dtype=dtype))


def mixture(k: int = 4, dtype: torch.dtype = torch.float64) -> GMM:
    torch.manual_seed(3)
    weight = torch.rand(k, dtype=dtype) + 0.1
    mean = torch.randn(k, D, dtype=dtype)
    return GMM(weight / weight.sum(), Diag(mean, torch.rand(k, D, dtype=dtype) + 0.5))


def images(n: int, seed: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, D, dtype=dtype)


def use(model: VAE | PPCA | GMM, x: Tensor, draws: int = 1, seed: int = 5) -> Evidence:
    torch.manual_seed(seed)
    return latent_use(model, x, torch.arange(len(x)) % 10, draws=draws)


def value(evidence: Evidence, name: str) -> float:
    return evidence.entries[name].summary()["value"]


def aggregated(posteriors: Distribution) -> MixtureSameFamily:
    """q(z), the oracle."""
    n = posteriors.batch_shape[0]
    return MixtureSameFamily(Categorical(torch.ones(n, dtype=torch.float64)), posteriors)


# The split of the rate


@pytest.mark.parametrize("n", [2, 7, 150])  # 150 is more than two blocks
def test_log_ratios_are_those_of_torch(n):
    torch.manual_seed(6)
    mean = 2 * torch.randn(n, L, dtype=torch.float64)
    scale = torch.rand(n, L, dtype=torch.float64) + 0.05
    z = mean + scale * torch.randn_like(mean)
    q = Independent(Normal(mean, scale), 1)
    found, without, _ = log_posterior_ratios(z, mean, scale)
    expected = q.log_prob(z) - aggregated(q).log_prob(z)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    for i in (0, 1, n - 1):
        others = torch.arange(n) != i
        rest = aggregated(Independent(Normal(mean[others], scale[others]), 1))
        expected = q.log_prob(z)[i] - rest.log_prob(z[i])
        assert without[i].item() == pytest.approx(expected.item(), abs=1e-10)


def test_what_an_image_changes_in_the_terms_of_all_others():
    """Against leaving the image out, one at a time."""
    torch.manual_seed(6)
    n = 40
    mean = torch.randn(n, 2, dtype=torch.float64)
    scale = torch.full_like(mean, 0.1)
    z = mean + scale * torch.randn_like(mean)
    whole = log_posterior_ratios(z, mean, scale)
    for m in (0, 7, n - 1):
        rest = torch.arange(n) != m
        less = log_posterior_ratios(z[rest], mean[rest], scale[rest]).own - math.log(1 - 1 / n)
        gained = (less - whole.own[rest]).sum().item()
        assert whole.shared[m].item() == pytest.approx(gained, abs=1e-9)


@pytest.mark.parametrize("model", [some_vae(), ppca()], ids=["vae", "ppca"])
def test_split_is_the_brute_force_on_the_same_draws(model):
    x, draws = images(90), 3
    evidence = use(model, x, draws)
    with torch.no_grad():
        q = model.encode(x)
    root = model.posterior_root if isinstance(model, PPCA) else q.stddev[0].diag()
    q = MultivariateNormal(q.mean, scale_tril=root.expand(90, L, L))
    torch.manual_seed(5)
    ratios = []
    for _ in range(draws):
        z = q.mean + torch.randn(90, L, dtype=torch.float64) @ root.T
        ratios.append(q.log_prob(z) - aggregated(q).log_prob(z))
    ratio = torch.stack(ratios)
    information = evidence.entries["mutual_information"]
    assert torch.allclose(information.values, ratio.mean(0), rtol=0, atol=1e-10)
    assert torch.allclose(information.monte_carlo_variance, ratio.var(0) / draws, atol=1e-10)
    marginal = evidence.entries["marginal_kl"]
    assert torch.equal(marginal.monte_carlo_variance, information.monte_carlo_variance)
    rate = kl_divergence(q, MultivariateNormal(torch.zeros(L).double(), torch.eye(L).double()))
    assert torch.allclose(marginal.values, rate - ratio.mean(0), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "model",
    [some_vae(), nonlinear_vae(), ppca(), ppca(torch.float32)],
    ids=["linear", "nonlinear", "ppca", "ppca32"],
)
def test_the_parts_add_up_to_the_rate_of_every_image(model):
    single = next(model.state_dict().values().__iter__()).dtype == torch.float32
    x = images(40, dtype=torch.float32 if single else torch.float64)
    evidence = use(model, x)
    parts = [evidence.entries[name].values for name in ("mutual_information", "marginal_kl")]
    with torch.no_grad():
        rate = kl_divergence(model.encode(x), model.prior()).double()
    atol = 1e-4 if single else 1e-12
    assert torch.allclose(sum(parts), rate, rtol=0, atol=atol)
    assert parts[0].dtype == parts[1].dtype == torch.float64
    bits = evidence.entries["rate_bits"]
    assert torch.allclose(bits.values, rate / math.log(2), rtol=0, atol=2 * atol)
    assert bits.unit == "bits"


def test_split_of_gaussian_images_is_the_closed_form():
    """x ~ N(m, C), z = A x + b + S^(1/2) noise: q(z) nears N(A m + b, T), T = A C A^T + S, so I is
    ln(det T / det S) / 2 and the rest of the rate a KL of Gaussians. Within 4 of the errors stated,
    which are below 0.04 nats; the mean over N images is too low by some 0.01 more."""
    model, n = some_vae(), 4000
    torch.manual_seed(7)
    root = torch.randn(D, D, dtype=torch.float64).tril() * 0.5 + torch.eye(D)
    centre = 0.5 * torch.randn(D, dtype=torch.float64)
    x = centre + torch.randn(n, D, dtype=torch.float64) @ root.T
    with torch.no_grad():
        weight, bias = model.posterior.weight[:L], model.posterior.bias[:L]
    noise = torch.tensor(SCALES, dtype=torch.float64).square().diag()
    total = weight @ root @ root.T @ weight.T + noise
    information = 0.5 * (total.logdet() - noise.logdet()).item()
    standard = MultivariateNormal(torch.zeros(L).double(), torch.eye(L).double())
    marginal = kl_divergence(MultivariateNormal(weight @ centre + bias, total), standard).item()

    evidence = use(model, x, draws=2)
    found = {name: evidence.entries[name].summary() for name in evidence.entries}
    ours, theirs = found["mutual_information"], found["marginal_kl"]
    assert ours["se"] < 0.04
    assert theirs["se"] < 0.04
    assert abs(ours["value"] - information) < 4 * ours["se"] + 0.01
    assert abs(theirs["value"] - marginal) < 4 * theirs["se"] + 0.01
    # the two estimates bracket the information of all images there are
    assert ours["value"] - 4 * ours["se"] < information
    assert information < ours["population_at_most"] + 4 * ours["se"]
    assert information > 1
    assert marginal > 0.1


def test_the_bracket_holds_the_population_and_narrows():
    """z = x + noise in one dimension of x: I = ln(1 + 1/s^2) / 2 = 2.65 for s = 0.0711."""
    weight = torch.zeros(1, D, dtype=torch.float64)
    weight[0, 0] = 1
    scale = 0.0711
    model = linear_vae(weight, torch.zeros(1), (scale,))
    exact = 0.5 * math.log1p(scale**-2)
    widths = []
    for n in (50, 200, 800):
        brackets = []
        for seed in range(40):
            evidence = use(model, images(n, seed), seed=seed)
            entry = evidence.entries["mutual_information"].summary()
            brackets.append((entry["value"], entry["population_at_most"]))
        low, high = np.mean(brackets, 0)
        error = np.std(brackets, 0) / math.sqrt(40)
        assert low < exact + 3 * error[0]
        assert high > exact - 3 * error[1]
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2] > 0
    assert widths[2] < 0.05


def test_of_a_well_fitted_ppca_the_aggregated_posterior_is_the_prior():
    """On draws of the model itself: I is the rate, ln det(I + W^T W / sigma^2) / 2."""
    model = ppca()
    torch.manual_seed(8)
    x = model.decode(torch.randn(3000, L, dtype=torch.float64)).sample()
    evidence = use(model, x)
    inner = torch.eye(L) + model.factors.T @ model.factors / model.variance
    information = 0.5 * inner.logdet().item()
    ours = evidence.entries["mutual_information"].summary()
    theirs = evidence.entries["marginal_kl"].summary()
    assert ours["value"] - 4 * ours["se"] < information
    assert information < ours["population_at_most"] + 4 * ours["se"]
    assert -4 * theirs["se"] < theirs["value"] < 0.15
    assert value(evidence, "rate_bits") == pytest.approx(information / math.log(2), rel=0.03)


def test_mc_se_is_the_spread_over_seeds():
    """The spread of 300 repetitions has a relative error of 4 %; it must agree within 17 %."""
    model, x = some_vae(), images(60)
    runs = [use(model, x, draws=2, seed=seed).entries for seed in range(300)]
    for name in ("mutual_information", "marginal_kl"):
        summaries = [run[name].summary() for run in runs]
        spread = np.std([entry["value"] for entry in summaries], ddof=1)
        stated = math.sqrt(np.mean([entry["mc_se"] ** 2 for entry in summaries]))
        assert spread == pytest.approx(stated, rel=0.17)
        assert stated < np.mean([entry["se"] for entry in summaries])


def test_se_is_the_spread_over_data_sets_though_all_images_share_q():
    model = some_vae()
    runs = [use(model, images(150, seed), seed=seed).entries for seed in range(400, 700)]
    for name in ("mutual_information", "marginal_kl"):
        summaries = [run[name].summary() for run in runs]
        spread = np.std([entry["value"] for entry in summaries], ddof=1)
        stated = math.sqrt(np.mean([entry["se"] ** 2 for entry in summaries]))
        assert spread == pytest.approx(stated, rel=0.17)
        assert "mc_se" not in summaries[0]


@pytest.mark.parametrize("scale", [0.1, 0.03, 0.01, 0.003])
def test_se_is_the_spread_over_data_sets_near_the_ceiling_too(scale):
    """Half the images lie close together. The spread of 100 repetitions has an error of 7 %."""
    weight = torch.eye(2, D, dtype=torch.float64)
    model = linear_vae(weight, torch.zeros(2), (scale, scale))
    summaries = []
    for seed in range(100):
        x = images(300, seed)
        x[torch.rand(300) < 0.5] *= 0.2
        summaries.append(use(model, x, draws=2, seed=seed).entries["mutual_information"].summary())
    spread = np.std([entry["value"] for entry in summaries], ddof=1)
    stated = math.sqrt(np.mean([entry["se"] ** 2 for entry in summaries]))
    assert 1 / 1.25 < stated / spread < 1.25


def test_the_order_of_images_and_the_size_of_blocks_change_nothing(monkeypatch):
    torch.manual_seed(9)
    mean, scale = torch.randn(70, L).double(), torch.rand(70, L).double() + 0.1
    z, order = mean + scale * torch.randn_like(mean), torch.randperm(70)
    whole = log_posterior_ratios(z, mean, scale)
    permuted = log_posterior_ratios(z[order], mean[order], scale[order])
    x = images(70)
    before = {model: use(model, x) for model in (some_vae(), ppca())}
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 9)
    monkeypatch.setattr(blocks, "IMAGES_PER_BLOCK", 11)
    for a, b, c in zip(whole, permuted, log_posterior_ratios(z, mean, scale), strict=True):
        assert torch.allclose(a[order], b, rtol=0, atol=1e-11)
        assert torch.allclose(a, c, rtol=0, atol=1e-11)
    for model, evidence in before.items():
        again, elsewhere = use(model, x), use(model, x[order])
        for name, entry in evidence.entries.items():
            assert value(again, name) == pytest.approx(entry.summary()["value"], abs=1e-10)
        for name, array in evidence.arrays.items():
            assert np.allclose(elsewhere.arrays[name], array, rtol=0, atol=1e-12)
    gmm = mixture()
    values = [use(gmm, each).entries["mutual_information"].values for each in (x, x[order])]
    assert torch.allclose(values[0][order], values[1], rtol=0, atol=1e-12)


def test_information_does_not_depend_on_the_units_of_z():
    torch.manual_seed(10)
    mean = torch.randn(50, L, dtype=torch.float64)
    scale, factor = torch.rand(50, L).double() + 0.1, torch.tensor([1e-4, 3.0, 500.0]).double()
    z = mean + scale * torch.randn_like(mean)
    before = log_posterior_ratios(z, mean, scale)
    after = log_posterior_ratios(z * factor, mean * factor, scale * factor)
    assert torch.allclose(torch.stack(before), torch.stack(after), rtol=0, atol=1e-9)


# Within the images of each label


def test_given_the_label_codes_of_each_digit_are_measured_against_the_prior():
    """q(z|x, y) = N(m_y, s^2) for two labels with m_y = -1 and 1. Given the label a code says
    nothing of the image, and the whole rate is KL(N(1, s^2) to N(0, 1)). All together, the codes
    tell the label."""
    weight = torch.zeros(1, D + 2, dtype=torch.float64)
    weight[0, D:] = torch.tensor([-1.0, 1.0])
    model = set_posterior(
        fresh_linear_vae(D, 1, classes=2).double(), weight, torch.zeros(1), (0.5,)
    )
    label = torch.arange(600) % 3 // 2  # two thirds and one third
    torch.manual_seed(5)
    found = latent_use(model, images(600), label, draws=2).entries
    exact = (1 + 0.25 - 1) / 2 - math.log(0.5)
    for name, expected in (("mutual_information", 0), ("marginal_kl", exact)):
        values = found[f"{name}_given_label"].values.numpy()
        assert values == pytest.approx(expected, abs=1e-6)
    z = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    parts = torch.stack([Normal(m, 0.5).log_prob(z).exp() for m in (-1.0, 1.0)])
    share = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    information = (share @ (parts * (parts / (share @ parts)).log())).sum() * (z[1] - z[0])
    pooled = found["mutual_information"].summary()
    assert abs(pooled["value"] - information) < 4 * pooled["se"]
    assert found["marginal_kl"].summary()["value"] < exact - 0.4


def test_given_the_label_is_the_brute_force_of_each_label():
    """q(z|y) is the mixture of the posteriors of the images with the label y."""
    model, n = nonlinear_vae(conditional=True), 60
    x, label = images(n, dtype=torch.float32), torch.arange(n) % 3
    torch.manual_seed(5)
    found = latent_use(model, x, label, draws=200).entries
    with torch.no_grad():
        q = model.encode(x, label)
    mean, scale = q.mean.double(), q.stddev.double()
    prior = Independent(Normal(torch.zeros(L).double(), 1), 1)
    expected = []
    torch.manual_seed(15)
    for y in range(3):
        rows = label == y
        of_label = aggregated(Independent(Normal(mean[rows], scale[rows]), 1))
        z = of_label.sample((100_000,))
        expected.append((of_label.log_prob(z) - prior.log_prob(z)).mean().item())
    entry = found["marginal_kl_given_label"].summary()
    assert entry["value"] == pytest.approx(np.mean(expected), abs=4 * entry["mc_se"] + 0.02)
    assert entry["value"] > found["marginal_kl"].summary()["value"] + 0.1
    parts = [found[f"{name}_given_label"].values for name in ("mutual_information", "marginal_kl")]
    rate = kl_divergence(Independent(Normal(mean, scale), 1), prior)
    assert torch.allclose(sum(parts), rate, rtol=0, atol=1e-5)
    facts = found["mutual_information_given_label"].facts
    assert facts["ceiling"] == pytest.approx(math.log(n / 3))
    assert facts["population_at_most"] <= rate.mean().item() + 1e-5


# Its ceiling


@pytest.mark.parametrize("scale", [1e-2, POSTERIOR_FLOOR])
@pytest.mark.parametrize("spread", [10, 1000])
def test_narrow_codes_reach_the_ceiling_and_never_pass_it(scale, spread):
    """Also at the widest ratio of means to scales, where the matrix product cancels."""
    torch.manual_seed(11)
    mean = spread * torch.randn(200, 4, dtype=torch.float64)
    scales = torch.full_like(mean, scale)
    found, without, _ = log_posterior_ratios(mean + scales * torch.randn_like(mean), mean, scales)
    assert torch.allclose(found, torch.tensor(200.0).double().log(), rtol=1e-12)
    assert found.max() <= math.log(200) + 1e-9
    assert (without > found).all()


def test_mixed_scales_stay_below_the_ceiling():
    torch.manual_seed(12)
    mean = torch.randn(300, L, dtype=torch.float64)
    scale = 10 ** (6 * torch.rand(300, 1, dtype=torch.float64) - 6).expand(300, L)
    q = Independent(Normal(mean, scale), 1)
    z = q.sample()
    found, _, _ = log_posterior_ratios(z, mean, scale)
    assert found.max() <= math.log(300) + 1e-9
    assert torch.allclose(found, q.log_prob(z) - aggregated(q).log_prob(z), rtol=0, atol=1e-6)


def test_near_the_ceiling_a_warning_stands_beside_both_parts():
    wide = use(some_vae(), images(100))
    weight = torch.eye(L, D, dtype=torch.float64)
    narrow = use(linear_vae(weight, torch.zeros(L), (0.01,) * L), images(100))
    for evidence, warned in ((wide, False), (narrow, True)):
        ours = evidence.entries["mutual_information"].summary()
        assert ours["ceiling"] == pytest.approx(math.log(100))
        assert (ours["value"] >= 0.9 * math.log(100)) is warned
        assert ("warning" in ours) is warned
        assert ("warning" in evidence.entries["marginal_kl"].summary()) is warned
        assert ours["value"] <= ours["population_at_most"]
    # where q(z) without n says nothing, the rate itself bounds what z can say
    assert narrow.entries["mutual_information"].facts["population_at_most"] == pytest.approx(
        value(narrow, "rate_bits") * math.log(2)
    )


def test_codes_that_do_not_depend_on_the_image_carry_nothing():
    model = linear_vae(torch.zeros(L, D), torch.full((L,), 0.7), SCALES)
    evidence = use(model, images(80))
    assert value(evidence, "mutual_information") == pytest.approx(0, abs=1e-12)
    rate = sum((0.7**2 + s**2 - 1) / 2 - math.log(s) for s in SCALES)
    assert value(evidence, "marginal_kl") == pytest.approx(rate, abs=1e-6)
    assert value(evidence, "active_units") == 0
    assert value(evidence, "collapsed_latents") == 0  # constant, but not the prior


def test_of_one_image():
    evidence = use(some_vae(), images(1))
    entry = evidence.entries["mutual_information"].summary()
    assert entry["value"] == pytest.approx(0, abs=1e-12)
    assert entry["se"] is None
    assert math.isfinite(entry["population_at_most"])


# Latent by latent


def test_kl_per_latent_is_torchs():
    torch.manual_seed(13)
    mean, scale = torch.randn(20, L).double(), torch.rand(20, L).double() + 0.01
    expected = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0))
    assert torch.allclose(kl_to_standard_normal(mean, scale), expected, rtol=1e-12)

    evidence = use(some_vae(), images(30))
    with torch.no_grad():
        q = some_vae().encode(images(30))
    expected = kl_divergence(Normal(q.mean, q.stddev), Normal(0.0, 1.0)).mean(0)
    assert np.allclose(evidence.arrays["kl_per_latent"], expected.numpy(), rtol=1e-12)


def test_ppca_takes_the_marginals_of_its_posterior():
    model, x = ppca(), images(30)
    q = model.encode(x)
    marginal = Normal(q.mean, q.covariance_matrix[0].diagonal().sqrt())
    expected = kl_divergence(marginal, Normal(0.0, 1.0))
    evidence = use(model, x)
    assert np.allclose(evidence.arrays["kl_per_latent"], expected.mean(0).numpy(), rtol=1e-9)
    missing = total_correlation(model.posterior_root).item()
    assert missing > 0.1  # or the test would show nothing
    assert value(evidence, "rate_bits") * math.log(2) == pytest.approx(
        expected.sum(1).mean().item() + missing
    )
    for name in ("active_units", "collapsed_latents"):
        assert "marginals" in evidence.entries[name].facts["posterior"]


def test_the_kl_of_independent_latents_add_up_to_the_rate():
    """As EM ends for pPCA and FA: then nothing is said of marginals."""
    evidence = use(orthogonal_ppca(5, [2.0, 1.0, 0.5], 0.7), images(30))
    rate = value(evidence, "rate_bits") * math.log(2)
    assert evidence.arrays["kl_per_latent"].sum() == pytest.approx(rate, rel=1e-9)
    assert "posterior" not in evidence.entries["active_units"].facts
    assert not ppca().independent_latents


def test_total_correlation_of_two_correlated_latents():
    rho = 0.8
    root = torch.linalg.cholesky(torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64))
    assert total_correlation(root).item() == pytest.approx(-0.5 * math.log(1 - rho**2))


def test_a_planted_collapsed_latent_is_found():
    """Latent 1 is the prior for every image; latent 2 has its mean but not its variance."""
    weight = torch.zeros(L, D, dtype=torch.float64)
    weight[0] = 0.4
    evidence = use(linear_vae(weight, torch.zeros(L), (0.5, 1.0, 0.5)), images(200))
    assert value(evidence, "active_units") == 1
    assert value(evidence, "collapsed_latents") == 1
    assert evidence.arrays["kl_per_latent"][1] == pytest.approx(0, abs=1e-9)
    assert evidence.arrays["kl_per_latent"][2] == pytest.approx(math.log(2) - 3 / 8, rel=1e-6)
    assert (evidence.arrays["mean_variance_per_latent"][1:] == 0).all()
    assert evidence.arrays["mean_variance_per_latent"][0] == pytest.approx(
        (0.4 * images(200).sum(1)).numpy().var()
    )
    assert (evidence.arrays["collapse_curve"][:, 1] == 1).all()
    summary = evidence.entries["collapsed_latents"].summary()
    assert summary["of_latents"] == L
    assert (summary["epsilon"], summary["delta"]) == (0.01, 0.01)
    assert summary["unit"] == "latents"
    assert evidence.entries["active_units"].facts["threshold"] == 0.01


def test_active_units_are_above_the_threshold_alone():
    """Means +-a have variance a^2, and 0.01 is not above 0.01."""
    a = torch.tensor([0.05, 0.0999, 0.1001, 1.0], dtype=torch.float64)
    mean = torch.stack([a, -a]) + 7
    assert torch.allclose(mean_variance(mean), a.square())
    weight = torch.zeros(4, D, dtype=torch.float64)
    weight[:, 0] = a
    x = torch.zeros(2, D, dtype=torch.float64)
    x[:, 0] = torch.tensor([1.0, -1.0])
    evidence = use(linear_vae(weight, torch.full((4,), 7.0), (1.0,) * 4), x)
    assert value(evidence, "active_units") == 2


@pytest.mark.parametrize(("above", "collapsed"), [(0, 1), (1, 1), (2, 0)])
def test_a_collapsed_latent_may_have_a_share_delta_of_exceptions(above, collapsed):
    """KL = m^2 / 2 at scale 1; of 100 images so many have KL 0.02, the others 0.005."""
    x = torch.zeros(100, D, dtype=torch.float64)
    x[:, 0] = 0.1
    x[:above, 0] = 0.2
    weight = torch.eye(1, D, dtype=torch.float64)
    evidence = use(linear_vae(weight, torch.zeros(1), (1.0,)), x)
    assert value(evidence, "collapsed_latents") == collapsed


def test_share_below_counts_strictly_and_the_curve_rises():
    kl = torch.tensor([[0.0, 1.0], [0.5, 1.0], [0.5, 2.0], [3.0, 9.0]])
    shares = share_below(kl, torch.tensor([0.0, 0.5, 0.6, 1.0, 10.0]))
    expected = [[0, 0], [0.25, 0], [0.75, 0], [0.75, 0], [1, 1]]
    assert shares.tolist() == expected
    evidence = use(nonlinear_vae(), images(60, dtype=torch.float32))
    epsilon, curve = (evidence.arrays[f"collapse_{name}"] for name in ("epsilon", "curve"))
    assert curve.shape == (len(epsilon), L)
    assert (np.diff(epsilon) > 0).all()
    assert (np.diff(curve, axis=0) >= 0).all()
    assert (curve[0] == 0).all()
    assert (curve[-1] == 1).all()
    with torch.no_grad():
        q = nonlinear_vae().encode(images(60, dtype=torch.float32))
    kl = kl_to_standard_normal(q.mean.double(), q.stddev.double()).numpy()
    assert np.array_equal(curve, (kl < epsilon[:, None, None]).mean(1))


# Mixtures


def entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_mixture_all_is_a_sum(dtype):
    model, x = mixture(dtype=dtype), 2 * images(120, dtype=dtype)
    evidence = use(model, x)
    r = model.log_joint(x).softmax(1)
    mean = r.mean(0)
    information = (entropy(mean) - entropy(r).mean()).item()
    marginal = kl_divergence(Categorical(mean), Categorical(model.weight.double())).item()
    assert value(evidence, "mutual_information") == pytest.approx(information, abs=1e-6)
    assert value(evidence, "marginal_kl") == pytest.approx(marginal, abs=1e-6)
    rate = exact_measures(model, x)["rate"].values
    parts = [evidence.entries[name].values for name in ("mutual_information", "marginal_kl")]
    assert torch.allclose(sum(parts), rate, rtol=0, atol=1e-12)
    assert torch.allclose(evidence.entries["rate_bits"].values, rate / math.log(2))
    summary = evidence.entries["mutual_information"].summary()
    assert summary["kind"] == "exact"
    assert summary["ceiling"] == pytest.approx(math.log(4))
    assert {"draws", "mc_se", "population_at_most"}.isdisjoint(summary)
    assert not evidence.arrays
    within = {"mutual_information_given_label", "marginal_kl_given_label"}
    assert set(evidence.absent) == {"active_units", "collapsed_latents"} | within
    assert "component index" in evidence.absent["active_units"]


def test_a_mixture_that_parts_its_images_says_which_component():
    """Far apart and equal: I = ln 4 and r-bar = pi. On images of one alone: I = 0, KL = ln 4."""
    mean = 100 * torch.eye(4, D, dtype=torch.float64)
    ones = torch.ones(4, dtype=torch.float64)
    model = GMM(ones / 4, Spherical(mean, ones))
    every = use(model, mean.repeat(25, 1))
    assert value(every, "mutual_information") == pytest.approx(math.log(4))
    assert value(every, "marginal_kl") == pytest.approx(0, abs=1e-12)
    assert "warning" not in every.entries["mutual_information"].facts  # it is all a code can say
    alone = use(model, mean[:1].repeat(25, 1))
    assert value(alone, "mutual_information") == pytest.approx(0, abs=1e-12)
    assert value(alone, "marginal_kl") == pytest.approx(math.log(4))
    assert value(alone, "rate_bits") == pytest.approx(2)


def test_as_many_components_as_images_are_near_the_ceiling_of_n():
    mean = 100 * torch.eye(D, dtype=torch.float64)
    ones = torch.ones(D, dtype=torch.float64)
    evidence = use(GMM(ones / D, Spherical(mean, ones)), mean)
    assert "warning" in evidence.entries["mutual_information"].facts


def test_responsibilities_of_0_or_next_to_it_do_no_harm():
    log_r = torch.tensor([[0, -math.inf, -744.5], [0, -math.inf, -800.0]], dtype=torch.float64)
    log_prior = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    log_prior[2] = -900
    information, rate = mixture_split(log_r, log_prior)
    assert torch.allclose(information, torch.zeros(2).double(), atol=1e-12)
    assert torch.allclose(rate, torch.full((2,), math.log(2)).double())


# What the caller sees


def test_the_label_reaches_the_encoder():
    model, x = nonlinear_vae(conditional=True), images(20, dtype=torch.float32)
    labels = torch.arange(20) % 10
    rates = [
        latent_use(model, x, label).entries["rate_bits"].values
        for label in (labels, labels, labels.flip(0))
    ]
    assert torch.equal(rates[0], rates[1])
    assert not torch.allclose(rates[0], rates[2])
    with torch.no_grad():
        expected = kl_divergence(model.encode(x, labels), model.prior()).double() / math.log(2)
    assert torch.allclose(rates[0], expected, rtol=1e-5)


@pytest.mark.parametrize("model", [some_vae(), ppca(), mixture()], ids=["vae", "ppca", "gmm"])
def test_evidence_is_plain_and_complete(model):
    evidence = use(model, images(30), draws=2)
    names = {"mutual_information", "marginal_kl", "rate_bits", "active_units", "collapsed_latents"}
    names |= {"mutual_information_given_label", "marginal_kl_given_label"}
    assert set(evidence.entries) | set(evidence.absent) == names
    for entry in evidence.entries.values():
        json.dumps(entry.summary(), allow_nan=False)
    for array in evidence.arrays.values():
        assert array.dtype == np.float64
        assert np.isfinite(array).all()


def test_draws_are_torchs_and_stated():
    model, x = some_vae(), images(30)
    same = [use(model, x).entries["mutual_information"].values for _ in range(2)]
    assert torch.equal(*same)
    torch.manual_seed(14)
    one = index_information(torch.zeros(5, 2), torch.ones(5, 2), 1)
    assert one.variance is None
    facts = use(model, x, draws=4).entries["mutual_information"].summary()
    assert facts["draws"] == 4
    assert facts["kind"] == "estimate"
    assert facts["mc_se"] > 0
    assert not use(nonlinear_vae(), x.float()).entries["rate_bits"].values.requires_grad


def test_the_sum_of_exponentials_is_that_of_torch_and_the_shares_add_up_to_one() -> None:
    torch.manual_seed(0)
    terms = torch.randn(7, 50, dtype=torch.float64) * torch.logspace(-1, 4, 7)[:, None]
    terms[2, 3:] = -math.inf
    expected = terms.logsumexp(1)
    shares = terms.softmax(1)
    torch.testing.assert_close(log_sum_exp_(terms), expected, rtol=1e-15, atol=1e-13)
    torch.testing.assert_close(terms, shares, rtol=1e-12, atol=1e-300)
    nothing = torch.full((1, 4), -math.inf, dtype=torch.float64)
    assert log_sum_exp_(nothing).item() == -math.inf
    assert nothing.tolist() == [[0.25] * 4]


def test_a_single_image_shares_its_code_with_no_other() -> None:
    z, scale = torch.zeros(1, 2).double(), torch.ones(1, 2).double()
    ratios = log_posterior_ratios(z + 0.3, z, scale)
    assert [part.item() for part in ratios] == [0.0, math.inf, 0.0]


@pytest.mark.parametrize(("largest", "end"), [(0.3, 100.0), (99.0, 100.0), (450.0, 1000.0)])
def test_the_curve_of_collapse_ends_beyond_every_kl(largest: float, end: float) -> None:
    epsilon = module._epsilons(largest)
    assert epsilon[0].item() == pytest.approx(1e-5)
    assert epsilon[-1].item() == pytest.approx(end)
    torch.testing.assert_close(epsilon[1:] / epsilon[:-1], torch.full_like(epsilon[1:], 10**0.1))
    assert module._epsilons(math.nan)[-1].item() == pytest.approx(100.0)
