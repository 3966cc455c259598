"""The low-rank Gaussian against a dense covariance in float64, and its head."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import integrate
from small_models import iw_bound
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vaexp.config import load_config
from vaexp.evaluation import induced as induction
from vaexp.evaluation import rescoring
from vaexp.evaluation import sigma_collapse as collapse_of_sigma
from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.induced import induced
from vaexp.evaluation.quadrature import integrate as integrate_over_z
from vaexp.evaluation.rescoring import rescored
from vaexp.evaluation.sigma_collapse import sigma_collapse
from vaexp.experiment.sample import caption
from vaexp.figures.evidence import About
from vaexp.models import VAE
from vaexp.models.absent import Absent
from vaexp.models.likelihoods import head_of
from vaexp.models.likelihoods.diagonal import DiagonalGaussian
from vaexp.models.likelihoods.gaussian import GaussianHead
from vaexp.models.likelihoods.location_scale import raw_for
from vaexp.models.likelihoods.lowrank import LowRankGaussian
from vaexp.models.vae import POSTERIOR_FLOOR
from vaexp.runs.trained import TrainedModel

N, D, H, FLOOR = 5, 7, 3, 1e-3

ranks = pytest.mark.parametrize("q", [1, 3])


def drawn(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def lowrank(*batch: int, d: int = D, q: int = 3) -> LowRankGaussian:
    sigma = 0.05 + drawn(*batch, d, seed=2).abs()
    return LowRankGaussian(drawn(*batch, d), sigma, 0.7 * drawn(*batch, d, q, seed=3))


def covariance(p: LowRankGaussian) -> Tensor:
    """Sigma (..., D, D), dense."""
    return torch.diag_embed(p.sigma.square()) + p.factors @ p.factors.mT


def dense(p: LowRankGaussian) -> MultivariateNormal:
    return MultivariateNormal(p.mean, covariance(p))


def lowrank_head(q: int = 2) -> GaussianHead:
    """Float64, every weight random: also those that start at zero."""
    torch.manual_seed(1)
    head = GaussianHead(H, D, sigma_mode="lowrank", sigma=0.7, floor=FLOOR, factors=q).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


# The density


@ranks
def test_log_prob_is_that_of_the_dense_covariance(q):
    p, x = lowrank(N, q=q), drawn(N, D, seed=4)
    torch.testing.assert_close(p.log_prob(x), dense(p).log_prob(x), rtol=1e-11, atol=0)


def test_log_prob_keeps_leading_axes_and_broadcasts_images():
    p, x = lowrank(6, N), drawn(N, D, seed=4)
    assert (p.batch_shape, p.event_shape) == ((6, N), (D,))
    torch.testing.assert_close(p.log_prob(x), dense(p).log_prob(x), rtol=1e-11, atol=0)
    torch.testing.assert_close(p.log_prob(x[0]), dense(p).log_prob(x[0]), rtol=1e-11, atol=0)
    one = lowrank()
    torch.testing.assert_close(one.log_prob(x), dense(one).log_prob(x), rtol=1e-11, atol=0)
    assert one.log_prob(x[0]).shape == ()


def test_without_factors_it_is_the_diagonal_gaussian():
    p, x = lowrank(N), drawn(N, D, seed=4)
    p = LowRankGaussian(p.mean, p.sigma, torch.zeros_like(p.factors))
    diagonal, factors = DiagonalGaussian(p.mean, p.sigma), (0.5, 1.0, 4.0)
    torch.testing.assert_close(p.log_prob(x), diagonal.log_prob(x))
    torch.testing.assert_close(p.variance, diagonal.variance)
    torch.testing.assert_close(p.tempered(3.0).log_z, diagonal.tempered(3.0).log_z)
    torch.testing.assert_close(
        p.log_prob_at_floors(x, FLOOR, factors), diagonal.log_prob_at_floors(x, FLOOR, factors)
    )
    torch.manual_seed(5)
    draws = p.sample()
    torch.manual_seed(5)
    assert torch.equal(draws, diagonal.sample())


@pytest.mark.parametrize("length", [1e-3, 1.0, 30.0])
def test_float32_is_right_to_a_hundredth_of_a_nat_at_the_floor(length):
    """784 pixels at sigma 1e-3 to 0.3, and errors that the factors explain.

    |w|^2 is up to 1e9 here and the quadratic form about 784.
    """
    d, q = 784, 8
    sigma = (FLOOR * 300 ** torch.rand(N, d, generator=torch.Generator().manual_seed(6))).float()
    factors = (length / math.sqrt(d) * drawn(N, d, q)).float()
    mean = drawn(N, d, seed=7).float()
    p = LowRankGaussian(mean, sigma, factors)
    torch.manual_seed(8)
    x = p.double().sample().float()
    exact = p.double()
    # x has the rounding of float32 in both, so that only the arithmetic differs
    torch.testing.assert_close(
        p.log_prob(x).double(), exact.log_prob(x.double()), rtol=2e-7, atol=0.01
    )
    torch.testing.assert_close(
        exact.log_prob(x.double()), dense(exact).log_prob(x.double()), rtol=0, atol=1e-3
    )


def test_gradcheck_with_respect_to_features_and_weights():
    head = lowrank_head()
    features, x = drawn(N, H).requires_grad_(), drawn(N, D, seed=4)
    # gradcheck perturbs its inputs in place, so the head sees the parameters change
    inputs = (features, *head.parameters())
    assert torch.autograd.gradcheck(lambda features, *_: head(features).log_prob(x), inputs)


def test_the_dense_matrix_is_never_formed():
    """20,000 pixels: a dense covariance alone would take 3.2 GB; this fits into a few MB."""
    code = """
import resource, torch
from vaexp.models.likelihoods.lowrank import LowRankGaussian
torch.set_num_threads(1)
d, q = 20_000, 4
def everything():
    p = LowRankGaussian(torch.zeros(2, d), torch.rand(2, d) + 0.1, torch.randn(2, d, q))
    x = p.sample()
    found = [p.log_prob(x), p.tempered(2.0).log_z, p.log_prob_at_floors(x, 1e-3, (1.0, 2.0))]
    assert all(part.isfinite().all() for part in found)
    assert p.stddev.shape == x.shape
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
before = peak()
everything()
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024


def test_weights_that_are_not_finite_give_nan_and_no_exception():
    """Training then ends with the message that names the epoch and the step."""
    p = lowrank(N)
    broken = LowRankGaussian(p.mean, p.sigma, p.factors * math.inf)
    assert broken.log_prob(p.mean).isnan().all()


# Moments and draws


def test_mean_variance_and_sigma():
    p = lowrank(N)
    exact = covariance(p).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(p.variance, exact)
    torch.testing.assert_close(p.stddev, exact.sqrt())
    assert (p.sigma < p.stddev).all()


@ranks
def test_draws_have_its_moments(q):
    p, n = lowrank(2, q=q), 200_000
    torch.manual_seed(9)
    draws = p.sample(torch.Size([n]))
    assert draws.shape == (n, 2, D)
    assert not draws.requires_grad
    error = (draws - p.mean).transpose(0, 1)  # (2, n, D)
    exact = covariance(p)
    variance = exact.diagonal(dim1=-2, dim2=-1)
    assert (error.mean(1) / (variance / n).sqrt()).abs().max() < 4.5
    # of a Gaussian, var(e_i e_j) = Sigma_ii Sigma_jj + Sigma_ij^2
    found = error.mT @ error / n
    se = ((variance[:, :, None] * variance[:, None] + exact.square()) / n).sqrt()
    assert ((found - exact) / se).abs().max() < 4.5


def test_draws_of_one_z_differ_and_keep_the_batch():
    p = lowrank(4, N)
    assert p.sample().shape == (4, N, D)
    assert p.sample([3]).shape == (3, 4, N, D)


# Tempering


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
@ranks
def test_tempered_is_the_power_and_its_normaliser(beta, q):
    p, x = lowrank(N, q=q), drawn(N, D, seed=4)
    p_beta, log_z = p.tempered(beta)
    torch.testing.assert_close(p.log_prob(x) / beta, p_beta.log_prob(x) + log_z)
    exact = covariance(p)
    wider = MultivariateNormal(p.mean, beta * exact)
    torch.testing.assert_close(p_beta.log_prob(x), wider.log_prob(x))
    log_det = torch.logdet(2 * math.pi * exact)
    expected = 0.5 * (1 - 1 / beta) * log_det + D / 2 * math.log(beta)
    torch.testing.assert_close(log_z, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beta", [0.3, 4.0])
def test_the_normaliser_is_the_integral_over_a_plane(beta):
    p = lowrank(d=2, q=1)
    reach = 12 * math.sqrt(beta) * p.stddev.numpy()
    (low_0, low_1), (high_0, high_1) = p.mean.numpy() - reach, p.mean.numpy() + reach

    at = np.linspace(0, 1, 241)
    grid = torch.cartesian_prod(
        torch.from_numpy(low_0 + at * (high_0 - low_0)),
        torch.from_numpy(low_1 + at * (high_1 - low_1)),
    )
    values = (dense(p).log_prob(grid) / beta).exp().reshape(241, 241).numpy()
    inner = integrate.trapezoid(values, dx=(high_1 - low_1) / 240, axis=1)
    integral = integrate.trapezoid(inner, dx=(high_0 - low_0) / 240)
    assert p.tempered(beta).log_z.item() == pytest.approx(math.log(integral), abs=1e-6)


# Another sigma


def test_other_floors_move_sigma_and_leave_the_factors():
    p, x, factors = lowrank(N), drawn(N, D, seed=4), (0.5, 1.0, 3.0)
    found = p.log_prob_at_floors(x, 0.04, factors)
    assert (found.shape, found.dtype) == ((N, 3), torch.float64)
    for column, factor in zip(found.unbind(1), factors, strict=True):
        other = LowRankGaussian(p.mean, p.sigma + (factor - 1) * 0.04, p.factors)
        torch.testing.assert_close(column, dense(other).log_prob(x))
    assert torch.equal(found[:, 1], p.log_prob(x))


def test_half_the_floor_adds_at_most_ln_2_for_each_pixel():
    """Also at the floor itself, and where the image is the mean: there it nearly adds that."""
    p = lowrank(N)
    p = LowRankGaussian(p.mean, torch.full_like(p.sigma, FLOOR), FLOOR / 100 * p.factors)
    for x, least in ((p.mean, 0.98), (p.sample(), -math.inf)):
        whole, half = p.log_prob_at_floors(x, FLOOR, (1.0, 0.5)).unbind(1)
        assert (half - whole <= D * math.log(2)).all()
        assert (half - whole >= least * D * math.log(2)).all()


def test_other_sigmas_leave_the_factors_out():
    p, x, sigma = lowrank(N), drawn(N, D, seed=4), torch.rand(2, D, dtype=torch.float64) + 0.1
    found = p.log_prob_at_sigmas(x, sigma)
    for column, one in zip(found.unbind(1), sigma, strict=True):
        torch.testing.assert_close(column, DiagonalGaussian(p.mean, one).log_prob(x))


def test_double_keeps_all_parameters():
    p = LowRankGaussian(
        *(part.float() for part in (drawn(N, D), 1 + drawn(N, D).abs())), drawn(N, D, 2).float()
    )
    assert p.log_prob(p.mean).dtype == torch.float32
    exact = p.double()
    assert exact.log_prob(exact.mean).dtype == torch.float64
    for name in ("mean", "sigma", "factors"):
        assert torch.equal(getattr(exact, name), getattr(p, name).double())


# The head


def test_what_it_cannot_answer_is_absent_with_a_reason():
    head = lowrank_head()
    p = head(drawn(N, H))
    for answer in (p.pixel_log_prob(p.mean), p.quadratic(), head.affine()):
        assert isinstance(answer, Absent)
        assert answer.reason
    assert not head.constant_log_z
    assert head.scale.mode.factors


def test_the_gap_between_the_mean_and_a_draw_is_half_the_pixels():
    head = lowrank_head()
    p, n = head(drawn(1, H)), 100_000
    torch.manual_seed(10)
    gap = p.log_prob(p.mean) - p.log_prob(p.sample(torch.Size([n])))
    assert head.gap_to_mean(D) == D / 2
    assert (gap.mean() - D / 2).abs() < 4.5 * math.sqrt(D / 2 / n)


def test_the_head_starts_the_same_for_every_z_with_factors_as_long_as_sigma():
    d, q, sigma = 784, 6, 0.3
    torch.manual_seed(1)
    head = GaussianHead(H, d, sigma_mode="lowrank", sigma=sigma, floor=FLOOR, factors=q)
    p = head(100 * torch.randn(N, H))
    assert p.factors.shape == (N, d, q)
    # to the last digit of softplus, which depends on where in memory an entry lies
    torch.testing.assert_close(p.factors, p.factors[:1].expand(N, -1, -1), rtol=1e-6, atol=0)
    torch.testing.assert_close(p.sigma, torch.full((N, d), sigma))
    lengths = p.factors[0].norm(dim=0)
    assert (lengths / sigma - 1).abs().max() < 4.5 / math.sqrt(2 * d)
    assert (p.factors[0].T @ p.factors[0] / sigma**2 - torch.eye(q)).abs().max() < 0.25


def test_factors_are_in_units_of_sigma():
    """A pixel whose sigma falls to the floor takes its factors along."""
    head, features = lowrank_head(), drawn(N, H)
    before = head(features)
    nn.init.constant_(head.raw_sigma.bias, -50.0)
    nn.init.zeros_(head.raw_sigma.weight)
    after = head(features)
    torch.testing.assert_close(after.sigma, torch.full_like(after.sigma, FLOOR))
    torch.testing.assert_close(
        after.factors / after.sigma[..., None], before.factors / before.sigma[..., None]
    )


def test_factors_learn_from_the_first_step_and_would_not_from_zero():
    head = lowrank_head()
    features, x = drawn(N, H), drawn(N, D, seed=4)
    assert head.factors is not None

    def gradient() -> float:
        head.zero_grad()
        head(features).log_prob(x).sum().backward()
        return max(p.grad.abs().max().item() for p in head.factors.parameters())

    assert gradient() > 0.1
    for parameter in head.factors.parameters():
        nn.init.zeros_(parameter)
    assert gradient() == 0


def test_a_config_builds_the_head_with_its_factors():
    model = load_config("vae-pixel", ["model.sigma_mode=lowrank", "model.factors=5"]).model
    head = head_of(model, 784)(4)
    assert head(torch.randn(2, 4)).factors.shape == (2, 784, 5)


# Evaluation asks it, and does not rebuild a density from mean and stddev


def vae(latents: int, hidden: list[int]) -> tuple[VAE, Tensor, Tensor]:
    """A model of D pixels with factors that matter, images that it draws, and their labels."""
    torch.manual_seed(11)
    model = VAE(
        D,
        latents,
        hidden,
        "tanh",
        lambda h: GaussianHead(h, D, sigma_mode="lowrank", sigma=0.3, floor=FLOOR, factors=2),
    )
    assert isinstance(model.likelihood, GaussianHead)
    assert model.likelihood.factors is not None
    nn.init.normal_(model.likelihood.factors.bias)
    if hidden:
        nn.init.normal_(model.likelihood.factors.weight)
    with torch.no_grad():
        x = model.decode(model.prior().sample(torch.Size([40]))).sample()
    return model, x, torch.arange(40) % 10


def test_all_groups_have_the_elbo_of_the_real_density(monkeypatch):
    """The diagonal Gaussian of the same mean and stddev is nats below it."""
    for module in (rescoring, induction, collapse_of_sigma):
        monkeypatch.setattr(module, "DRAWS", 300)
    model, x, label = vae(2, [8])
    torch.manual_seed(12)
    elbo = elbo_measures(model, x, label, draws=300)["elbo"].values.double()
    own = rescored(model, x, label, [(x, label)], beta=1, floor=FLOOR)
    again = own.entries["elbo_as_trained"].values
    of_beta = induced(model, x, label, beta=2.0)
    curve = sigma_collapse(model, x, label, [(x, label)], floor=FLOOR)

    with torch.no_grad():
        q = model.encode(x)
        of_q = torch.distributions.kl_divergence(q, model.prior()).double()
        p = model.decode(q.sample(torch.Size([300])))
        exact = dense(p.double()).log_prob(x.double())
        diagonal = DiagonalGaussian(p.mean, p.stddev).log_prob(x)
        expected = exact.mean(0) - of_q
    se = exact.var(0).mul(2 / 300).sqrt()
    assert ((elbo - expected) / se).abs().max() < 4.5
    assert ((again - expected) / se).abs().max() < 4.5
    at_beta = of_beta.entries["objective_over_beta"].values
    assert ((at_beta - (exact.mean(0) / 2 - of_q)) / se).abs().max() < 4.5
    assert of_beta.entries["induced_identity_error"].value < 1e-10
    mean_se = se.square().sum().sqrt() / len(x)
    as_trained = curve.arrays["floor_curve_test"][2] - of_q.mean().item()
    assert abs(as_trained - expected.mean()) < 4.5 * mean_se
    assert abs((diagonal.mean(0) - of_q - expected).mean()) > 20 * mean_se
    assert "log_prob_at_floor" in curve.absent
    assert "log_prob_map" not in curve.arrays
    slope = curve.entries["floor_slope"]
    assert (slope.values <= D * math.log(2)).all()


def test_a_linear_decoder_has_the_marginal_of_three_covariances():
    """V and sigma are the same for every z, so x ~ N(b, W W^T + diag sigma^2 + V V^T)."""
    model, x, label = vae(2, [])
    model.double()
    x = x.double()
    with torch.no_grad():
        p = model.decode(torch.zeros(1, 2, dtype=torch.float64))
        w = model.likelihood.mean.weight
        marginal = MultivariateNormal(p.mean[0], w @ w.T + covariance(p)[0])
        expected = marginal.log_prob(x)
    found = integrate_over_z(model, x, label)
    assert found.resolved.all()
    torch.testing.assert_close(found.log_prob, expected, rtol=0, atol=1e-5)

    nn.init.zeros_(model.posterior.weight)  # so that q(z|x) is p(z), which covers every posterior
    nn.init.constant_(model.posterior.bias[:2], 0.0)
    nn.init.constant_(model.posterior.bias[2:], raw_for(1, POSTERIOR_FLOOR))
    torch.manual_seed(13)
    bound = iw_bound(model, x, label, k=10_000)
    assert bound.monte_carlo_variance is not None
    se = bound.monte_carlo_variance.sqrt()
    assert ((bound.values - expected) / se).abs().max() < 4.5
    assert se.max() < 0.2


@pytest.mark.parametrize(("config", "said"), [("vae-lowrank", True), ("vae-pixel", False)])
def test_a_figure_says_whether_its_sigma_has_the_factors(config, said):
    """The map of a reconstruction is of sigma alone, and a sweep goes along the whole deviation."""
    section = load_config(config)
    trained = TrainedModel(section, None, 3, (28, 28), [*range(10)])
    ends = {which: caption(trained, which).endswith(f"σ(z) {which} the factors") for which in BOTH}
    assert ends == dict.fromkeys(BOTH, said)
    assert caption(trained).endswith("epoch\N{NO-BREAK SPACE}3")
    about = About("settings", 1e-3, False, (28, 28), section.model.shared_factors)
    assert about.images({"n": 20}) == "settings, 20 test images"
    assert about.images({"n": 20}, "with").endswith("σ(z) with the factors") == said


BOTH = ("with", "without")
