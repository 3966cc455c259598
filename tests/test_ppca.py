"""Probabilistic PCA: density, posterior, EM and closed form, against torch and scikit-learn."""

import math
from dataclasses import fields

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaexp.config.models.ppca import PPCATrainConfig
from vaexp.errors import RunError
from vaexp.fitting.em import EMOptions, fit
from vaexp.fitting.ppca import (
    Expectations,
    PPCASteps,
    closed_form,
    e_step,
    elbo_after_m,
    m_step,
    principal,
    start,
)
from vaexp.models.moments import Moments
from vaexp.models.ppca import PPCA

D, L = 8, 3


def images(n: int = 300, d: int = D, shift: float = 2.0, seed: int = 0) -> Tensor:
    """With eigenvalues from 9 to 0.2, and not Gaussian."""
    torch.manual_seed(seed)
    scale = torch.logspace(math.log10(3), math.log10(0.45), d, dtype=torch.float64)
    vectors = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q
    noise = torch.rand(n, d, dtype=torch.float64) * math.sqrt(12)
    return noise * scale @ vectors.T + shift


def some_model(seed: int = 1, q: int = L) -> PPCA:
    """Far from any maximum, with the mean of the images."""
    torch.manual_seed(seed)
    factors = torch.randn(D, q, dtype=torch.float64)
    return PPCA(images().mean(0), factors, torch.tensor(0.7, dtype=torch.float64))


def marginal(model: PPCA) -> MultivariateNormal:
    noise = model.variance * torch.eye(len(model.mean), dtype=torch.float64)
    covariance = model.factors @ model.factors.T + noise
    return MultivariateNormal(model.mean, covariance)


def em(model: PPCA, moments: Moments, iterations: int) -> PPCA:
    for _ in range(iterations):
        model = m_step(e_step(model, moments), model)
    return model


def close(found: Tensor, expected: Tensor, rtol: float = 1e-10, atol: float = 0) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


# The model


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_log_prob_is_the_marginals(shift):
    model = some_model()
    model.mean += shift
    x = images() + shift
    atol = 1e-9 if shift else 0
    close(model.log_prob(x), marginal(model).log_prob(x), atol=atol)
    close(model.log_prob(x.float()), marginal(model).log_prob(x.float().double()), atol=atol)


def test_log_prob_with_little_noise():
    """sigma^2 = 1e-8 of a factor's: |x|^2 - |R^-1 W^T x|^2 cancels all but half the digits."""
    model = some_model()
    model = PPCA(model.mean, model.factors, torch.tensor(1e-8, dtype=torch.float64))
    x = model.decode(torch.randn(50, L, dtype=torch.float64)).sample()
    close(model.log_prob(x), marginal(model).log_prob(x), atol=1e-4)


def test_bayes_rule_for_every_z():
    """Ln p(x, z) - ln p(z|x) = ln p(x), by prior, encode and decode, also for absurd z."""
    model, x = some_model(), images()
    assert model.latent_dim == L
    q, log_prob = model.encode(x), model.log_prob(x)
    assert (q.batch_shape, q.event_shape) == ((300,), (L,))
    for scale in (0.1, 1, 30):
        z = scale * torch.randn(300, L, dtype=torch.float64)
        joint = model.prior().log_prob(z) + model.decode(z).log_prob(x)
        close(joint - q.log_prob(z), log_prob, rtol=1e-10, atol=1e-12 * joint.abs().max().item())


def test_the_posterior_conditions_the_joint_gaussian():
    """p(x, z) is N((mu, 0), [[W W^T + sigma^2 I, W], [W^T, I]])."""
    model, x = some_model(), images()
    covariance = marginal(model).covariance_matrix
    gain = model.factors.T @ torch.linalg.inv(covariance)
    q = model.encode(x)
    close(q.mean, (x - model.mean) @ gain.T, atol=1e-12)
    expected = torch.eye(L, dtype=torch.float64) - gain @ model.factors
    close(q.covariance_matrix[0], expected, atol=1e-13)


def test_draws_are_of_the_marginal():
    """Mean and covariance of 60,000 ancestral draws within 4.5 standard errors."""
    model = some_model()
    torch.manual_seed(2)
    x = model.decode(model.prior().sample(torch.Size([60_000]))).sample()
    expected = marginal(model)
    variance = expected.variance
    error = x.mean(0) - model.mean
    assert (error.abs() < 4.5 * (variance / len(x)).sqrt()).all()
    error = x.T.cov() - expected.covariance_matrix
    squares = torch.outer(variance, variance) + expected.covariance_matrix.square()
    assert (error.abs() < 4.5 * (squares / len(x)).sqrt()).all()


# E-step and M-step


def test_expectations_are_means_over_the_images():
    model, x = some_model(), images()
    found = e_step(model, Moments.of(x))
    q = model.encode(x)
    centred = x - model.mean
    close(found.cross, centred.T @ q.mean / len(x), atol=1e-12)
    close(found.latent, q.mean.T @ q.mean / len(x) + q.covariance_matrix[0], atol=1e-12)
    close(found.trace, centred.square().sum() / len(x))
    close(found.entropy, q.entropy().mean())
    assert found.mean_log_prob == pytest.approx(model.log_prob(x).mean().item(), rel=1e-12)
    assert found.mean_log_prob == pytest.approx(
        marginal(model).log_prob(x).mean().item(), rel=1e-12
    )
    assert found.mean_elbo == pytest.approx(found.mean_log_prob, rel=1e-12)


def test_the_mean_log_prob_of_other_images():
    """Whose mean is not the model's: of held-out images, say."""
    model, other = some_model(), images(70, shift=2.5, seed=5)
    expected = model.log_prob(other).mean().item()
    assert e_step(model, Moments.of(other)).mean_log_prob == pytest.approx(expected, rel=1e-12)


def test_the_m_step_is_the_regression_on_z():
    """W and sigma^2 of the least squares over images and draws of z, by their expectations."""
    model, x = some_model(), images()
    new = m_step(e_step(model, Moments.of(x)), model)
    q, centred = model.encode(x), x - model.mean
    cross = sum(torch.outer(a, b) for a, b in zip(centred, q.mean, strict=True))
    latent = sum(torch.outer(m, m) + q.covariance_matrix[0] for m in q.mean)
    factors = cross @ torch.linalg.inv(latent)
    close(new.factors, factors, atol=1e-12)
    error = sum(
        c.dot(c)
        - 2 * m @ factors.T @ c
        + torch.trace((torch.outer(m, m) + v) @ factors.T @ factors)
        for c, m, v in zip(centred, q.mean, q.covariance_matrix, strict=True)
    )
    close(new.variance, error / (300 * D))
    assert torch.equal(new.mean, model.mean)


def test_the_elbo_after_the_m_step_is_the_naive_one():
    """E_q ln p(x, z) + entropy, by 2 L points per image that have q's mean and covariance: exact,
    as ln p(x, z) is quadratic in z."""
    model, x = some_model(), images()
    expectations = e_step(model, Moments.of(x))
    new = m_step(expectations, model)
    q = model.encode(x)
    roots = math.sqrt(L) * q.scale_tril.mT
    points = torch.cat([q.mean[:, None] + roots, q.mean[:, None] - roots], 1)  # (N, 2 L, L)
    log_joint = new.prior().log_prob(points) + new.decode(points).log_prob(x[:, None])
    expected = (log_joint.mean(1) + q.entropy()).mean().item()
    assert elbo_after_m(expectations, new) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("started", [False, True])
def test_em_climbs_and_the_elbo_lies_between(started):
    moments = Moments.of(images(d=40) if started else images())
    torch.manual_seed(3)
    model = start(moments, L) if started else some_model()
    found = e_step(model, moments)
    for i in range(60):
        new = m_step(found, model)
        between, after = elbo_after_m(found, new), e_step(new, moments)
        assert found.mean_log_prob - 1e-12 < between < after.mean_log_prob + 1e-12
        if i < 3:
            assert found.mean_log_prob + 1e-7 < between < after.mean_log_prob - 1e-7
        model, found = new, after


# EM and the closed form


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("q", [1, 3, 5, D - 1])
def test_em_arrives_at_the_closed_form(q, seed):
    x = images()
    moments = Moments.of(x)
    found, expected = em(some_model(seed, q), moments, 1000), closed_form(moments, q)
    log_prob = e_step(expected, moments).mean_log_prob
    assert e_step(found, moments).mean_log_prob == pytest.approx(log_prob, rel=1e-8)
    close(found.variance, expected.variance, rtol=1e-6)
    product = expected.factors @ expected.factors.T
    close(found.factors @ found.factors.T, product, rtol=0, atol=1e-6 * product.max().item())
    bases = [torch.linalg.qr(model.factors).Q for model in (found, expected)]
    beyond = bases[0] - bases[1] @ (bases[1].T @ bases[0])
    assert torch.linalg.matrix_norm(beyond, 2) < 1e-4  # sine of the largest principal angle
    if q == D - 1:  # any covariance at all
        total = product + expected.variance * torch.eye(D, dtype=torch.float64)
        close(total, x.T.cov(correction=0), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("q", [1, 4, 9])
def test_em_arrives_at_the_closed_form_of_nearly_spherical_images(q):
    """Where a random subspace may vary less than the rest."""
    torch.manual_seed(4)
    moments = Moments.of(torch.randn(500, 12, dtype=torch.float64))
    expected = e_step(closed_form(moments, q), moments).mean_log_prob
    for seed in range(3):
        torch.manual_seed(seed)
        found = em(start(moments, q), moments, 1000)
        assert e_step(found, moments).mean_log_prob == pytest.approx(expected, rel=1e-5)


def test_the_closed_form_is_a_fixed_point():
    moments = Moments.of(images())
    model = closed_form(moments, L)
    new = em(model, moments, 1)
    close(new.factors, model.factors, atol=1e-12)
    close(new.variance, model.variance)


@pytest.mark.parametrize("q", [1, 3, D - 1])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_the_closed_form_is_scikit_learns(q, shift):
    """Its eigenvalues are those of the unbiased covariance, n/(n-1) S, and so is its density."""
    x = images(shift=shift)
    n = len(x)
    rtol = 1e-9 if shift else 1e-10  # x itself steps by 1e-13 there
    pca = PCA(q, svd_solver="full").fit(x.numpy())
    model = closed_form(Moments.of(x), q)
    close(model.mean, torch.from_numpy(pca.mean_))
    assert model.variance.item() == pytest.approx(pca.noise_variance_ * (n - 1) / n, rel=rtol)
    eigenvalues = model.factors.square().sum(0) + model.variance
    close(eigenvalues, torch.from_numpy(pca.explained_variance_) * (n - 1) / n, rtol=rtol)
    axes = model.factors / model.factors.norm(dim=0)
    cosine = (axes.T * torch.from_numpy(pca.components_)).sum(1).abs()
    close(cosine, torch.ones_like(cosine))
    # the density of scikit-learn's is that of W and sigma^2 times n/(n-1)
    wider = PPCA(model.mean, model.factors * (n / (n - 1)) ** 0.5, model.variance * n / (n - 1))
    assert wider.log_prob(x).mean().item() == pytest.approx(pca.score(x.numpy()), rel=rtol)
    assert model.log_prob(x).mean() > wider.log_prob(x).mean()  # ours is the maximum


def test_the_closed_form_beats_its_neighbours():
    x = images()
    best = closed_form(Moments.of(x), L)
    torch.manual_seed(5)
    for _ in range(50):
        factors = best.factors + 1e-3 * torch.randn(D, L, dtype=torch.float64)
        variance = best.variance * (1 + 1e-3 * torch.randn(()).double())
        other = PPCA(best.mean, factors, variance)
        assert other.log_prob(x).mean() < best.log_prob(x).mean()


def test_a_start_is_random_and_the_best_of_its_subspace():
    moments = Moments.of(images(d=40))
    torch.manual_seed(6)
    first, second = start(moments, L), start(moments, L)
    torch.manual_seed(6)
    assert torch.equal(start(moments, L).factors, first.factors)
    best = e_step(closed_form(moments, L), moments).mean_log_prob
    values = []
    for model in (first, second):
        assert model.factors.shape == (40, L)
        assert torch.equal(model.mean, moments.mean)
        assert model.variance > 0
        value = e_step(model, moments).mean_log_prob
        values.append(value)
        assert value < best - 1e-3
        basis = torch.linalg.qr(model.factors).Q
        torch.manual_seed(7)
        for _ in range(30):  # no other W in that subspace, and no other sigma, is better
            mixed = model.factors + 1e-2 * basis @ torch.randn(L, L, dtype=torch.float64)
            noise = model.variance * (1 + 0.01 * torch.randn(()).double())
            assert e_step(PPCA(model.mean, mixed, noise), moments).mean_log_prob < value
    assert abs(values[0] - values[1]) > 1e-4


def test_principal_axes_leave_the_density_alone():
    model, x = some_model(), images()
    rotated = principal(model)
    close(rotated.log_prob(x), model.log_prob(x))
    close(rotated.factors @ rotated.factors.T, model.factors @ model.factors.T, atol=1e-12)
    inner = rotated.factors.T @ rotated.factors
    lengths = inner.diagonal()
    assert (inner - lengths.diag()).abs().max() < 1e-12 * lengths.max()
    assert (lengths.diff() < 0).all()
    largest = rotated.factors.gather(0, rotated.factors.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()  # the sign is arbitrary, and settled
    again = principal(PPCA(model.mean, -model.factors, model.variance))
    close(again.factors, rotated.factors, atol=1e-12)
    best = closed_form(Moments.of(x), L)
    close(principal(best).factors, best.factors, atol=1e-10)


@pytest.mark.parametrize("method", [start, closed_form])
@pytest.mark.parametrize("q", [4, 6])
def test_latents_that_explain_everything_are_refused(method, q):
    """Five images span four directions."""
    moments = Moments.of(images(5))
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(RunError, match=f"{q} latents explain the training images entirely"):
            method(moments, q)
        assert method(moments, 3).variance > 1e-6


def test_em_that_runs_out_of_noise_is_refused():
    """From a start with more noise than the images have."""
    moments = Moments.of(images(3))
    torch.manual_seed(8)
    model = PPCA(moments.mean, torch.randn(D, L, dtype=torch.float64), torch.ones(()).double())
    with pytest.raises(RunError, match=r"fewer model\.latent_dim or more images are needed"):
        em(model, moments, 100_000)


def test_all_is_float64():
    moments = Moments.of(images().float())
    found = e_step(em(start(moments, L), moments, 1), moments)
    for field in fields(Expectations):
        value = getattr(found, field.name)
        assert isinstance(value, float) or value.dtype == torch.float64


def test_by_default_em_comes_within_1e_8_of_the_maximum() -> None:
    """Of ln p(x), as the closed form says; at 1e-3 per iteration it stopped 4e-3 nats below."""
    options = EMOptions(**PPCATrainConfig().model_dump())
    moments = Moments.of(images(1_000, d=20))
    steps = PPCASteps(moments, None, 3, closed=False, seed=1)
    *_, last = fit(steps, options, restore=lambda _: pytest.fail("nothing is resumed"))
    best = e_step(closed_form(moments, 3), moments).mean_log_prob
    assert last.record["stopped"] == "tolerance"
    assert last.record["train"]["log_prob"] == pytest.approx(best, rel=1e-8)
