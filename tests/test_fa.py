"""Factor analysis: density, posterior and EM, against torch, scikit-learn and autograd."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from vaexp.config import DataConfig
from vaexp.data import Transform, load
from vaexp.evaluation.exact import exact_measures
from vaexp.evaluation.noise_collapse import noise_collapse, with_floor
from vaexp.fitting import em, ppca
from vaexp.fitting.fa import (
    Expectations,
    FASteps,
    e_step,
    elbo_after_m,
    m_step,
    principal,
)
from vaexp.models import LinearGaussian
from vaexp.models.fa import FA
from vaexp.models.moments import Moments
from vaexp.models.ppca import PPCA

D, L = 8, 3
FLOOR = 1e-3


def images(n: int = 300, d: int = D, q: int = L, seed: int = 0) -> Tensor:
    """Of q factors and a noise of 0.8 to 1.6 per pixel, neither of them Gaussian."""
    torch.manual_seed(seed)
    factors = torch.randn(d, q, dtype=torch.float64)
    sigma = torch.linspace(0.8, 1.6, d, dtype=torch.float64)
    z, noise = torch.rand(n, q, dtype=torch.float64), torch.rand(n, d, dtype=torch.float64)
    return math.sqrt(12) * (z @ factors.T + noise * sigma) + 2


def some_model(seed: int = 1, q: int = L) -> FA:
    """Far from any maximum, with the mean of the images."""
    torch.manual_seed(seed)
    factors = torch.randn(D, q, dtype=torch.float64)
    noise = torch.rand(D, dtype=torch.float64) + 0.05
    return FA(images().mean(0), factors, noise)


def marginal(model: FA) -> MultivariateNormal:
    covariance = model.factors @ model.factors.T + model.noise.diag()
    return MultivariateNormal(model.mean, covariance)


def climbed(moments: Moments, q: int, floor: float, tolerance: float = 1e-13) -> FA:
    """Where EM ends, from the maximum of probabilistic PCA."""
    steps = FASteps(moments, None, q, noise_floor=floor, seed=1)
    options = em.EMOptions(max_iter=20_000, tolerance=tolerance, restarts=1)
    for step in em.fit(steps, options, restore=lambda _: some_model()):
        state = step.state["model"]
    assert step.record["stopped"] == "tolerance"
    return FA(state["mean"], state["factors"], state["variances"])


def close(found: Tensor, expected: Tensor, rtol: float = 1e-10, atol: float = 0) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


# The model


def test_a_linear_gaussian_model_that_leaves_something_out_is_refused():
    class Half(LinearGaussian):
        def log_prob(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(TypeError, match="abstract"):
        Half(torch.zeros(D), torch.zeros(D, L))  # type: ignore[abstract]


@pytest.mark.parametrize("smallest", [1.0, 1e-6])
def test_log_prob_is_the_marginals(smallest):
    model = some_model()
    model.variances[:2] *= smallest
    x = model.decode(torch.randn(50, L, dtype=torch.float64)).sample()
    close(model.log_prob(x), marginal(model).log_prob(x), rtol=1e-9 if smallest == 1 else 1e-7)
    close(model.log_prob(x.float()), model.log_prob(x.float().double()))


def test_log_prob_where_a_pixel_has_next_to_no_noise():
    """In exact arithmetic p(x) = p(x_1) p(x_2|x_1), with x_1 = w z and x_2 = v z + noise."""
    w, v, tiny = 0.7, -1.3, 1e-14
    factors = torch.tensor([[w], [v]], dtype=torch.float64)
    model = FA(torch.zeros(2).double(), factors, torch.tensor([tiny, 0.3], dtype=torch.float64))
    x = torch.tensor([[0.4, 0.1], [-3.0, 5.0]], dtype=torch.float64)
    first = Normal(torch.zeros(2).double(), w).log_prob(x[:, 0])
    second = Normal(x[:, 0] * v / w, math.sqrt(0.3)).log_prob(x[:, 1])
    close(model.log_prob(x), first + second, rtol=1e-9)


def test_the_posterior_conditions_the_joint_gaussian():
    """p(x, z) is N((mu, 0), [[W W^T + Psi, W], [W^T, I]])."""
    model, x = some_model(), images()
    gain = model.factors.T @ torch.linalg.inv(marginal(model).covariance_matrix)
    q = model.encode(x)
    assert (q.batch_shape, q.event_shape) == ((300,), (L,))
    close(q.mean, (x - model.mean) @ gain.T, atol=1e-12)
    expected = torch.eye(L, dtype=torch.float64) - gain @ model.factors
    close(q.covariance_matrix[0], expected, atol=1e-13)
    for scale in (0.1, 30):  # Bayes' rule for every z
        z = scale * torch.randn(300, L, dtype=torch.float64)
        joint = model.prior().log_prob(z) + model.decode(z).log_prob(x)
        atol = 1e-12 * joint.abs().max().item()
        close(joint - q.log_prob(z), model.log_prob(x), atol=atol)


def test_draws_are_of_the_marginal():
    """Mean and covariance of 60,000 ancestral draws within 4.5 standard errors."""
    model = some_model()
    torch.manual_seed(2)
    x = model.decode(model.prior().sample(torch.Size([60_000]))).sample()
    expected = marginal(model)
    variance = expected.variance
    assert ((x.mean(0) - model.mean).abs() < 4.5 * (variance / len(x)).sqrt()).all()
    error = x.T.cov() - expected.covariance_matrix
    squares = torch.outer(variance, variance) + expected.covariance_matrix.square()
    assert (error.abs() < 4.5 * (squares / len(x)).sqrt()).all()


def test_equal_noise_is_probabilistic_pca():
    model, x = some_model(), images()
    variance = torch.tensor(0.3, dtype=torch.float64)
    fa, other = (
        FA(model.mean, model.factors, variance.repeat(D)),
        PPCA(model.mean, model.factors, variance),
    )
    close(fa.log_prob(x), other.log_prob(x))
    close(fa.posterior_mean(x), other.posterior_mean(x), atol=1e-13)
    close(fa.posterior_root, other.posterior_root, atol=1e-13)
    ours, theirs = exact_measures(fa, x), exact_measures(other, x)
    for name, measure in ours.items():
        close(measure.values, theirs[name].values, rtol=1e-10)


def test_the_exact_terms_by_the_joint_covariance():
    model, x = some_model(), images()
    q = model.encode(x)
    points = (q.mean[:, None] + root for root in _roots(q.covariance_matrix[0]))
    log_px = torch.stack([model.decode(z[:, 0]).log_prob(x) for z in points]).mean(0)
    terms = exact_measures(model, x)
    close(terms["distortion"].values, -log_px)
    close(terms["elbo"].values, model.log_prob(x))
    close(terms["sigma"].values, model.noise.sqrt().mean().expand(300))
    noise = terms["rmse_sample"].values - terms["rmse_mean"].values
    close(noise, model.noise.mean().expand(300))


def _roots(covariance: Tensor) -> list[Tensor]:
    """Points (L,) with mean 0 and this covariance: exact for what is quadratic in z."""
    columns = math.sqrt(L) * torch.linalg.cholesky(covariance).T
    return [*columns, *-columns]


# E-step and M-step


def test_expectations_are_means_over_the_images():
    model, x = some_model(), images()
    found = e_step(model, Moments.of(x))
    q = model.encode(x)
    centred = x - model.mean
    close(found.cross, centred.T @ q.mean / len(x), atol=1e-12)
    close(found.latent, q.mean.T @ q.mean / len(x) + q.covariance_matrix[0], atol=1e-12)
    close(found.variance, centred.square().mean(0))
    close(found.entropy, q.entropy().mean())
    expected = marginal(model).log_prob(x).mean().item()
    assert found.mean_log_prob == pytest.approx(expected, rel=1e-12)
    assert found.mean_elbo == pytest.approx(expected, rel=1e-12)
    other = images(70, seed=5)  # whose mean is not the model's
    expected = model.log_prob(other).mean().item()
    assert e_step(model, Moments.of(other)).mean_log_prob == pytest.approx(expected, rel=1e-12)


def test_the_elbo_after_the_m_step_is_the_naive_one():
    model, x = some_model(), images()
    expectations = e_step(model, Moments.of(x))
    new = m_step(expectations, model, FLOOR)
    q = model.encode(x)
    values = []
    for root in _roots(q.covariance_matrix[0]):
        z = q.mean + root
        values.append(new.prior().log_prob(z) + new.decode(z).log_prob(x))
    expected = (torch.stack(values).mean(0) + q.entropy()).mean().item()
    assert elbo_after_m(expectations, new) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("floor", [1e-3, 2.0])
def test_the_m_step_is_the_maximum_above_the_floor(floor):
    """The ELBO's gradient is 0, but for pixels at the floor, whose noise it would lower."""
    model, x = some_model(), images()
    expectations = e_step(model, Moments.of(x))
    new = m_step(expectations, model, floor)
    held = new.noise == floor
    assert held.any() == (floor == 2.0)
    factors, noise = new.factors.clone().requires_grad_(), new.noise.clone().requires_grad_()
    e = expectations
    error = e.variance - 2 * (factors * e.cross).sum(1) + (factors @ e.latent * factors).sum(1)
    (-0.5 * (noise.log() + error / noise).sum()).backward()
    assert factors.grad is not None
    assert noise.grad is not None
    assert factors.grad.abs().max() < 1e-10
    assert noise.grad[~held].abs().max() < 1e-10
    assert (noise.grad[held] <= 0).all()
    best = elbo_after_m(expectations, new)
    torch.manual_seed(3)
    for _ in range(30):
        other = FA(
            new.mean,
            new.factors + 1e-3 * torch.randn(D, L, dtype=torch.float64),
            (new.noise * (1 + 1e-3 * torch.randn(D).double())).clamp(min=floor),
        )
        assert elbo_after_m(expectations, other) < best


@pytest.mark.parametrize("floor", [1e-3, 0.3])
def test_em_climbs_and_the_elbo_lies_between(floor):
    moments, model = Moments.of(images()), some_model()
    found = e_step(model, moments)
    for i in range(200):
        new = m_step(found, model, floor)
        between, after = elbo_after_m(found, new), e_step(new, moments)
        assert new.noise.min() >= floor
        if i:  # the first M-step lifts the start's noise to the floor
            assert found.mean_log_prob - 1e-12 < between < after.mean_log_prob + 1e-12
        model, found = new, after


def test_all_is_float64():
    moments = Moments.of(images().float())
    found = e_step(m_step(e_step(some_model(), moments), some_model(), FLOOR), moments)
    for field in fields(Expectations):
        value = getattr(found, field.name)
        assert isinstance(value, float) or value.dtype == torch.float64


# Where EM ends


def theirs(x: Tensor, q: int) -> float:
    model = FactorAnalysis(q, svd_method="lapack", tol=1e-13, max_iter=20_000).fit(x.numpy())
    return float(model.score(x.numpy()))


@pytest.mark.parametrize("q", [1, 2, 3])
def test_em_ends_where_scikit_learn_does(q):
    x = images(500, d=12)
    model = climbed(Moments.of(x), q, 1e-12)
    assert model.log_prob(x).mean().item() == pytest.approx(theirs(x, q), rel=1e-8)


def test_em_ends_where_scikit_learn_does_on_mnist():
    """On pixels that vary, where no noise falls to scikit-learn's floor of 1e-12."""
    data = load(DataConfig(limit=1000, validation_size=500)).train
    x = Transform("scale")(data.pixels).double()
    x = x[:, x.std(0) > 0.25]
    assert x.shape[1] > 150
    model = climbed(Moments.of(x), 5, 1e-12, tolerance=1e-11)
    assert model.noise.min() > 1e-3
    assert model.log_prob(x).mean().item() == pytest.approx(theirs(x, 5), rel=1e-6)


def test_the_end_is_a_stationary_point_of_the_likelihood():
    """Up to the floor: d ln p / dW = 0 and d ln p / dPsi = 0, by autograd of the dense density."""
    x = images()
    model = climbed(Moments.of(x), 2, 0.8)
    held = model.noise <= 0.8
    assert held.any()
    assert not held.all()
    factors, noise = model.factors.clone().requires_grad_(), model.noise.clone().requires_grad_()
    dense = MultivariateNormal(model.mean, factors @ factors.T + noise.diag())
    dense.log_prob(x).mean().backward()
    assert factors.grad is not None
    assert noise.grad is not None
    assert factors.grad.abs().max() < 1e-5
    assert noise.grad[~held].abs().max() < 1e-5
    assert (noise.grad[held] < 0).all()


def test_a_pixel_that_never_varies_stays_at_the_floor():
    x = images()
    x[:, 3] = 0.5
    model = climbed(Moments.of(x), 2, 0.5)
    assert model.noise[3] == 0.5
    assert model.factors[3].abs().max() < 1e-12
    assert torch.isfinite(model.log_prob(x)).all()


def test_more_latents_than_the_images_span():
    """Probabilistic PCA has no sigma left here; the floor keeps factor analysis bounded."""
    x = images(5)
    model = climbed(Moments.of(x), 6, FLOOR, tolerance=1e-9)
    assert (model.noise >= FLOOR).all()
    assert torch.isfinite(model.log_prob(x)).all()


@pytest.mark.parametrize("q", [1, 3, D - 1])
def test_it_starts_at_the_maximum_of_probabilistic_pca_and_never_falls_below(q):
    x = images()
    moments = Moments.of(x)
    best = ppca.closed_form(moments, q)
    steps = FASteps(moments, None, q, noise_floor=FLOOR, seed=1)
    assert best.variance > FLOOR
    start = steps.start(0)
    close(start.log_prob(x), best.log_prob(x))
    assert (
        climbed(moments, q, FLOOR, tolerance=1e-6).log_prob(x).mean()
        >= best.log_prob(x).mean() - 1e-12
    )
    others = [steps.start(restart) for restart in (1, 2)]
    assert not torch.equal(others[0].factors, others[1].factors)
    assert torch.equal(steps.start(1).factors, others[0].factors)


def test_independent_latents_leave_the_density_alone():
    model, x = some_model(), images()
    rotated = principal(model)
    close(rotated.log_prob(x), model.log_prob(x))
    posterior = rotated.posterior_root @ rotated.posterior_root.T
    variances = posterior.diagonal()
    assert (posterior - variances.diag()).abs().max() < 1e-12
    assert (variances.diff() > 0).all()
    largest = rotated.factors.gather(0, rotated.factors.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()


# How near the noise comes to its floor


def test_what_lies_at_the_floor():
    x = images(400)
    floor = 0.8
    model = climbed(Moments.of(x[:300]), 2, floor)
    label = torch.zeros(400, dtype=torch.int64)
    found = noise_collapse(model, x[300:], [(x[:300], label[:300])], floor=floor)
    entries = found.entries
    assert entries["smallest_sigma"].value == pytest.approx(math.sqrt(floor))
    near = model.noise < 4 * floor
    assert entries["pixels_at_floor"].value == near.double().mean()
    q = model.encode(x[300:])
    roots = _roots_of(q.covariance_matrix[0])
    normal = torch.stack(
        [model.decode(q.mean + root).base_dist.log_prob(x[300:]) for root in roots]
    ).mean(0)
    close(entries["log_prob_at_floor"].values, normal[:, near].sum(1))
    close(torch.from_numpy(found.arrays["log_prob_map"]), normal.mean(0))
    half = FA(
        model.mean,
        model.factors,
        torch.where(model.noise <= floor, 0.5 * floor, model.noise),
    )
    gain = marginal(half).log_prob(x[300:]) - marginal(model).log_prob(x[300:])
    close(entries["floor_slope"].values, gain, rtol=1e-8, atol=1e-9)
    gap = model.log_prob(x[:300]).mean() - model.log_prob(x[300:]).mean()
    assert entries["train_test_gap"].value == pytest.approx(gap.item())
    assert set(found.absent) == {
        "eigenvalues_at_floor",
        "singleton_components",
        "nearest_train_distance",
    }
    np.testing.assert_allclose(found.arrays["sigma_map"], model.noise.sqrt())
    higher = with_floor(model, floor, 2 * floor)
    assert higher.noise.min() == 2 * floor


def _roots_of(covariance: Tensor) -> list[Tensor]:
    q = len(covariance)
    columns = math.sqrt(q) * torch.linalg.cholesky(covariance).T
    return [*columns, *-columns]
