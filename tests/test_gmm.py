"""EM for Gaussian mixtures, against scikit-learn, naive sums and planted parameters."""

import itertools
import math
import warnings
from dataclasses import fields

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.mixture._gaussian_mixture import (
    _compute_precision_cholesky,
    _estimate_gaussian_parameters,
)
from small_models import KINDS, e_step, initial_gmm, written_out
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaexp.config import DataConfig
from vaexp.data import load
from vaexp.fitting import gmm
from vaexp.fitting.gmm import elbo_after_m, m_step
from vaexp.fitting.kmeans import lloyd, nearest_centre, seed_centres
from vaexp.models.covariances import Gaussians, SingularCovariance
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.covariances.lowrank import LowRank
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.covariances.statistics import Statistics
from vaexp.models.covariances.tied import Tied
from vaexp.models.gmm import GMM
from vaexp.models.moments import Images, Moments

SKLEARN = KINDS[:4]
DTYPES = [torch.float32, torch.float64]
K, D, Q = 3, 6, 2
EYE = torch.eye(D, dtype=torch.float64)


def images(n: int = 240, d: int = D, seed: int = 0) -> Tensor:
    """Three overlapping clusters of different shapes, about 2."""
    torch.manual_seed(seed)
    z = torch.arange(n) % K
    centre = 1.5 * torch.randn(K, d, dtype=torch.float64) + 2
    shape = torch.eye(d) + 0.4 * torch.randn(K, d, d, dtype=torch.float64)
    noise = torch.randn(n, d, dtype=torch.float64)
    return centre[z] + torch.einsum("nij,nj->ni", shape[z], noise)


def start(kind: str, x: Tensor, k: int = K, *, floor: float = 0.0, factors: int = Q) -> GMM:
    """Where the images are shared out with little regard to where they lie."""
    torch.manual_seed(1)
    random = torch.rand(len(x)) < 0.6
    assigned = torch.where(random, torch.randint(k, (len(x),)), nearest_centre(x, x[:k]))
    return initial_gmm(x, assigned, k, kind, factors=factors, floor=floor)


def iterate(model: GMM, x: Tensor, iterations: int, floor: float = 0.0) -> GMM:
    for _ in range(iterations):
        model = m_step(e_step(model, x), model, floor)
    return model


def own(gaussians: Gaussians) -> Tensor:
    """The covariances in scikit-learn's layout."""
    if isinstance(gaussians, LowRank):
        raise TypeError
    return gaussians.covariance if isinstance(gaussians, Full | Tied) else gaussians.variances


def naive_log_joint(model: GMM, x: Tensor) -> Tensor:
    gaussians = model.gaussians
    torchs = MultivariateNormal(gaussians.mean.double(), written_out(gaussians))
    return model.weight.log() + torchs.log_prob(x[:, None])


def scikit(model: GMM, kind: str, floor: float, max_iter: int = 1) -> GaussianMixture:
    """To start at the parameters of ``model``."""
    if kind in ("full", "tied"):
        precisions = torch.linalg.inv(own(model.gaussians))
        precisions = (precisions + precisions.mT) / 2
    else:
        precisions = 1 / own(model.gaussians)
    return GaussianMixture(
        len(model.weight),
        covariance_type=kind,
        tol=0,
        reg_covar=floor,
        max_iter=max_iter,
        weights_init=model.weight.numpy(),
        means_init=model.gaussians.mean.numpy(),
        precisions_init=precisions.numpy(),
    )


def close(
    found: Tensor, expected: Tensor | np.ndarray, rtol: float = 1e-10, atol: float = 0
) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=rtol, atol=atol)


# E-step and M-step


@pytest.mark.parametrize("kind", KINDS)
def test_the_statistics_are_the_sums_they_say(kind):
    x, weight = images(), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    model = GMM(weight, start(kind, x).gaussians)
    found = e_step(model, x)
    joint = naive_log_joint(model, x)
    log_prob = joint.logsumexp(1)
    r = (joint - log_prob[:, None]).exp()
    assert ((r > 0.01) & (r < 0.99)).double().mean() > 0.2  # soft
    centre = model.gaussians.centre.expand(K, D)
    centred = x[:, None] - centre
    assert found.count.item() == len(x)
    close(found.weight, r.sum(0))
    close(found.first, torch.einsum("nk,nkd->kd", r, centred), rtol=1e-9, atol=1e-10)
    second = torch.einsum("nk,nki,nkj->kij", r, centred, centred)
    expected = {
        "full": second,
        "tied": second.sum(0),
        "diag": second.diagonal(dim1=1, dim2=2),
        "spherical": x.new_zeros(0),
        "lowrank": second @ model.gaussians.factors if kind == "lowrank" else None,
    }[kind]
    close(found.second, expected, rtol=1e-9, atol=1e-10)
    if kind in ("spherical", "lowrank"):
        close(found.square, second.diagonal(dim1=1, dim2=2).sum(1))
    close(found.log_prob, log_prob.sum())
    close(found.entropy, -(r * r.log()).sum())
    assert found.mean_log_prob == pytest.approx(log_prob.mean().item(), rel=1e-10)
    for field in fields(Statistics):
        assert getattr(found, field.name).dtype == torch.float64


@pytest.mark.parametrize("kind", SKLEARN)
def test_the_e_step_is_scikit_learns(kind):
    x = images()
    model = start(kind, x)
    theirs = GaussianMixture(K, covariance_type=kind)
    theirs.weights_, theirs.means_ = model.weight.numpy(), model.gaussians.mean.numpy()
    theirs.precisions_cholesky_ = _compute_precision_cholesky(own(model.gaussians).numpy(), kind)
    log_prob, r = theirs.score_samples(x.numpy()), theirs.predict_proba(x.numpy())
    close(model.log_prob(x), log_prob)
    close(model.encode(x).probs, r, atol=1e-14)
    found = e_step(model, x)
    assert found.log_prob.item() == pytest.approx(log_prob.sum(), rel=1e-10)
    close(found.weight, r.sum(0))


@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("kind", SKLEARN)
def test_the_m_step_is_scikit_learns(kind, floor):
    x = images()
    model = start(kind, x)
    r = model.encode(x).probs
    new = m_step(e_step(model, x), model, floor)
    count, mean, covariance = _estimate_gaussian_parameters(x.numpy(), r.numpy(), floor, kind)
    close(new.weight, count / len(x))
    close(new.gaussians.mean, mean)
    close(own(new.gaussians), covariance, atol=1e-12)
    theirs = scikit(model, kind, floor)
    theirs._m_step(x.numpy(), r.log().numpy())
    close(new.weight, theirs.weights_)
    close(own(new.gaussians), theirs.covariances_, atol=1e-12)


@pytest.mark.parametrize("floor", [0.0, 1e-2])
@pytest.mark.parametrize("kind", SKLEARN)
def test_em_is_scikit_learns(kind, floor):
    """Eight iterations from the same parameters; each amplifies rounding a little: to 1e-8."""
    x = images()
    model = start(kind, x, floor=floor)
    theirs = scikit(model, kind, floor, max_iter=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(x.numpy())
    model = iterate(model, x, 8, floor)
    assert theirs.n_iter_ == 8
    close(model.weight, theirs.weights_, rtol=1e-8)
    close(model.gaussians.mean, theirs.means_, rtol=1e-8)
    close(own(model.gaussians), theirs.covariances_, rtol=1e-8, atol=1e-10)
    assert e_step(model, x).mean_log_prob == pytest.approx(theirs.score(x.numpy()), rel=1e-9)


def tipping_and_bishop(model: GMM, x: Tensor, floor: float) -> GMM:
    """Appendix C, with explicit S_k: (C.11) to (C.14), and sigma^2 no smaller than the floor."""
    old, weight, r = model.gaussians, [], naive_log_joint(model, x).softmax(1)
    means, factors, variances = [], [], []
    for k in range(len(model.weight)):
        share = r[:, k].sum()
        mean = sum(r[n, k] * x[n] for n in range(len(x))) / share
        scatter = sum(r[n, k] * torch.outer(x[n] - mean, x[n] - mean) for n in range(len(x)))
        s = scatter / share
        w, noise = old.factors[k], old.variances[k]
        eye = torch.eye(w.shape[1], dtype=torch.float64)
        inverse = torch.linalg.inv(noise * eye + w.T @ w)
        new = s @ w @ torch.linalg.inv(noise * eye + inverse @ w.T @ s @ w)
        variance = torch.trace(s - s @ w @ inverse @ new.T) / x.shape[1]
        weight.append(share / len(x))
        means.append(mean)
        factors.append(new)
        variances.append(variance.clamp(min=floor))
    return GMM(
        torch.stack(weight),
        LowRank(torch.stack(means), torch.stack(factors), torch.stack(variances)),
    )


@pytest.mark.parametrize("floor", [0.0, 1.8])
@pytest.mark.parametrize("q", [1, 3, D - 1])
def test_the_m_step_of_lowrank_is_tipping_and_bishops(q, floor):
    x = images(120)
    model = start("lowrank", x, factors=q)
    for _ in range(3):
        expected = tipping_and_bishop(model, x, floor)
        model = m_step(e_step(model, x), model, floor)
        close(model.weight, expected.weight)
        close(model.gaussians.mean, expected.gaussians.mean)
        close(model.gaussians.factors, expected.gaussians.factors, rtol=1e-9, atol=1e-11)
        close(model.gaussians.variances, expected.gaussians.variances)
    if floor:
        assert (model.gaussians.variances == floor).any()
    else:
        assert (model.gaussians.variances > 0).all()


@pytest.mark.parametrize("n", [1, 97, 239])
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_add_up(kind, n):
    x = images()
    model = start(kind, x)
    whole, parts = e_step(model, x), e_step(model, x[:n]) + e_step(model, x[n:])
    for field in fields(Statistics):
        close(getattr(parts, field.name), getattr(whole, field.name), rtol=1e-11, atol=1e-11)


def test_the_moments_that_a_tied_covariance_needs_are_computed_once(monkeypatch):
    x = Images(images())
    computed = []
    moments_of = Moments.of
    monkeypatch.setattr(Moments, "of", lambda x: computed.append(len(x)) or moments_of(x))
    model = gmm.initial_gmm(x, torch.arange(240) % K, K, "tied", factors=Q, floor=0)
    first, second = gmm.e_step(model, x), gmm.e_step(model, x)
    assert computed == [240]
    for field in fields(Statistics):
        close(getattr(first, field.name), getattr(second, field.name), rtol=0, atol=0)
        expected = getattr(e_step(model, x.x), field.name)
        close(getattr(first, field.name), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_many_images_are_worked_on_in_blocks(kind):
    """More than any block: the statistics of 4,500 repetitions are 4,500 times those of one."""
    x = images(30)
    model = start(kind, images(), factors=1)
    many = e_step(model, x.repeat(4500, 1))
    once = e_step(model, x)
    for field in fields(Statistics):
        expected = 4500 * getattr(once, field.name)
        close(getattr(many, field.name), expected, rtol=1e-10, atol=1e-6)


# The decomposition ln p(x) = ELBO + KL


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_after_the_e_step_the_elbo_is_ln_p(kind, floor):
    x = images()
    model = start(kind, x, floor=floor)
    for _ in range(5):
        found = e_step(model, x)
        assert found.mean_elbo == pytest.approx(found.mean_log_prob, rel=1e-12)
        assert found.mean_log_prob == pytest.approx(model.log_prob(x).mean().item(), rel=1e-12)
        model = m_step(found, model, floor)


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", SKLEARN)
def test_after_the_m_step_the_elbo_is_the_naive_sum(kind, floor):
    x = images()
    model = start(kind, x, floor=floor)
    for _ in range(3):
        found = e_step(model, x)
        new = m_step(found, model, floor)
        r = naive_log_joint(model, x).softmax(1)
        expected = (r * (naive_log_joint(new, x) - r.log())).sum()
        close(elbo_after_m(found, model, new, floor), expected)
        model = new


@pytest.mark.parametrize("floor", [0.0, 0.8])
def test_after_the_m_step_the_elbo_of_lowrank_is_the_naive_sum(floor):
    """With q(z, t|x) = r q(t|x, z), t the latents of the component's PCA: by explicit Gaussians.

    E_q ln p(x, t) of a Gaussian q(t) = N(m, C) is ln p(x, m) - 1/2 tr(C H), H = I + W^T W/sigma^2.
    """
    x = images(60)
    model = start("lowrank", x)
    found = e_step(model, x)
    new = m_step(found, model, floor)
    old, updated = model.gaussians, new.gaussians
    r = naive_log_joint(model, x).softmax(1)
    eye = torch.eye(Q, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for k in range(K):
        w, noise = old.factors[k], old.variances[k]
        posterior = noise * torch.linalg.inv(w.T @ w + noise * eye)
        mean = (x - updated.mean[k]) @ w @ posterior / noise
        new_w, new_noise = updated.factors[k], updated.variances[k]
        pixels = MultivariateNormal(updated.mean[k] + mean @ new_w.T, new_noise * EYE)
        prior = MultivariateNormal(torch.zeros(Q).double(), eye)
        curvature = eye + new_w.T @ new_w / new_noise
        expected = pixels.log_prob(x) + prior.log_prob(mean) - 0.5 * (posterior @ curvature).trace()
        entropy = MultivariateNormal(torch.zeros(Q).double(), posterior).entropy()
        total += (r[:, k] * (new.weight[k].log() + expected + entropy - r[:, k].log())).sum()
    close(elbo_after_m(found, model, new, floor), total)


@pytest.mark.parametrize("kind", KINDS)
def test_em_climbs_and_the_elbo_lies_between(kind):
    """ln p before <= ELBO after the M-step <= ln p after it, 40 times, up to rounding."""
    x = images()
    model = start(kind, x)
    found = e_step(model, x)
    first = found.mean_log_prob
    for i in range(40):
        new = m_step(found, model, 0)
        between = (elbo_after_m(found, model, new, 0) / len(x)).item()
        after = e_step(new, x)
        assert found.mean_log_prob - 1e-12 < between < after.mean_log_prob + 1e-12
        if i < 5:
            assert found.mean_log_prob + 1e-6 < between < after.mean_log_prob - 1e-6
        model, found = new, after
    assert found.mean_log_prob > first + 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_one_component_needs_one_iteration(kind):
    """The maximum likelihood of one Gaussian; lowrank starts at it."""
    x = images()
    model = start(kind, x, 1)
    covariance = torch.cov(x.T, correction=0)
    expected = {
        "full": covariance,
        "tied": covariance,
        "diag": covariance.diagonal().diag(),
        "spherical": covariance.trace() / D * EYE,
    }
    if kind == "lowrank":
        # closed form: Tipping and Bishop 1999
        values, vectors = torch.linalg.eigh(covariance)
        noise = values[:-Q].mean()
        top = vectors[:, -Q:]
        expected["lowrank"] = (top * (values[-Q:] - noise)) @ top.T + noise * EYE
    for _ in range(2):
        close(model.weight, torch.ones(1, dtype=torch.float64))
        close(model.gaussians.mean[0], x.mean(0))
        close(written_out(model.gaussians)[0], expected[kind], rtol=1e-9, atol=1e-11)
        model = iterate(model, x, 1)


@pytest.mark.parametrize("kind", SKLEARN)
@pytest.mark.parametrize("other", [0.4, 0.05])
def test_another_floor_is_that_of_the_m_step(kind, other):
    x = images()
    before = start(kind, x, floor=0.1)
    statistics = e_step(before, x)
    found = m_step(statistics, before, 0.1).with_floor(0.1, other)
    expected = m_step(statistics, before, other)
    torch.testing.assert_close(written_out(found.gaussians), written_out(expected.gaussians))
    torch.testing.assert_close(found.log_prob(x), expected.log_prob(x))


# Planted parameters


def planted(kind: str, n: int) -> tuple[GMM, Tensor]:
    """Well separated components and n images drawn from them."""
    torch.manual_seed(3)
    mean = 6 * torch.eye(4, 5, dtype=torch.float64)
    spread = torch.tensor([0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    factors = 0.8 * torch.randn(4, 5, 1, dtype=torch.float64)
    gaussians: Gaussians
    match kind:
        case "full":
            skew = 0.4 * torch.randn(4, 5, 5, dtype=torch.float64)
            gaussians = Full(mean, skew @ skew.mT + 0.3 * torch.eye(5))
        case "tied":
            skew = 0.4 * torch.randn(5, 5, dtype=torch.float64)
            gaussians = Tied(mean, skew @ skew.T + 0.3 * torch.eye(5))
        case "diag":
            gaussians = Diag(mean, torch.empty(4, 5, dtype=torch.float64).uniform_(0.2, 1))
        case "spherical":
            gaussians = Spherical(mean, spread)
        case _:
            gaussians = LowRank(mean, factors, spread / 2)
    model = GMM(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), gaussians)
    return model, model.decode(model.prior().sample(torch.Size([n]))).sample()


@pytest.mark.parametrize("kind", KINDS)
def test_planted_parameters_are_found(kind):
    """From k-means; within 5 standard errors: sqrt(p(1-p)/n), sqrt(v/n_k), v sqrt(2/n_k)."""
    n = 8000
    truth, x = planted(kind, n)
    assigned = nearest_centre(x, lloyd(x, seed_centres(x, 4)))
    model = initial_gmm(x, assigned, 4, kind, factors=1, floor=0)
    model = iterate(model, x, 30)
    assert e_step(model, x).mean_log_prob > truth.log_prob(x).mean().item()  # it is the maximum

    gaps = torch.cdist(truth.gaussians.mean, model.gaussians.mean)
    order = min(
        itertools.permutations(range(4)), key=lambda p: sum(gaps[i, j] for i, j in enumerate(p))
    )
    order = list(order)
    weight = truth.weight
    error = (model.weight[order] - weight).abs()
    assert (error < 5 * (weight * (1 - weight) / n).sqrt()).all()
    count = (n * weight)[:, None]
    variance = truth.gaussians.variance()
    error = (model.gaussians.mean[order] - truth.gaussians.mean).abs()
    assert (error < 5 * (variance / count).sqrt()).all()
    error = (written_out(model.gaussians)[order] - written_out(truth.gaussians)).abs()
    scale = (variance[:, :, None] * variance[:, None]).sqrt()
    assert (error < 5 * math.sqrt(2) * scale / count[..., None].sqrt()).all()


# Initial parameters


@pytest.mark.parametrize("floor", [0.0, 0.05])
@pytest.mark.parametrize("kind", SKLEARN)
def test_the_start_is_the_sample_moments_of_each_component(kind, floor):
    x = images()
    torch.manual_seed(4)
    assigned = torch.randint(K, (len(x),))
    model = initial_gmm(x, assigned, K, kind, factors=Q, floor=floor)
    assert isinstance(
        model.gaussians, {"full": Full, "tied": Tied, "diag": Diag}.get(kind, Spherical)
    )
    share = torch.stack([(assigned == k).double().mean() for k in range(K)])
    close(model.weight, share)
    own_ = [x[assigned == k].numpy() for k in range(K)]
    close(model.gaussians.mean, np.stack([each.mean(0) for each in own_]))
    covariance = np.stack([np.cov(each.T, ddof=0) for each in own_])
    expected = {
        "full": covariance + floor * np.eye(D),
        "tied": np.einsum("k,kij->ij", share, covariance) + floor * np.eye(D),
        "diag": np.diagonal(covariance, axis1=1, axis2=2) + floor,
        "spherical": np.trace(covariance, axis1=1, axis2=2) / D + floor,
    }[kind]
    close(own(model.gaussians), expected.copy(), atol=1e-12)


@pytest.mark.parametrize("floor", [1e-3, 2.0])
def test_lowrank_starts_at_the_pca_of_each_component(floor):
    """W W^T and sigma^2 of scikit-learn's PCA, whose eigenvalues are those of n/(n-1) S."""
    x = images()
    torch.manual_seed(4)
    assigned = torch.randint(K, (len(x),))
    model = initial_gmm(x, assigned, K, "lowrank", factors=Q, floor=floor)
    for k in range(K):
        part = x[assigned == k].numpy()
        pca = PCA(Q).fit(part)
        unbiased = (len(part) - 1) / len(part)
        noise = pca.noise_variance_ * unbiased
        excess = pca.explained_variance_ * unbiased - noise
        w = model.gaussians.factors[k]
        assert model.weight[k].item() == pytest.approx(len(part) / len(x))
        close(model.gaussians.mean[k], pca.mean_)
        close(w @ w.T, (pca.components_.T * excess) @ pca.components_, rtol=1e-9, atol=1e-11)
        assert model.gaussians.variances[k].item() == pytest.approx(max(noise, floor), rel=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_component_does_not_disturb_the_rest(kind, dtype):
    """Nor do iterations; it stays empty."""
    x = images().to(dtype)
    assigned = nearest_centre(x, x[:2]) * 2  # none in 1 of 0, 1, 2
    model = initial_gmm(x, assigned, 3, kind, factors=Q, floor=1e-3)
    alone = initial_gmm(x, assigned // 2, 2, kind, factors=Q, floor=1e-3)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"atol": 1e-11}
    for _ in range(4):
        assert model.weight[1] == 0
        for value in model.state_dict().values():
            assert value.isfinite().all()
            assert value.dtype == dtype
        close(model.weight[[0, 2]], alone.weight, **tolerance)
        close(model.gaussians.mean[[0, 2]], alone.gaussians.mean, **tolerance)
        close(written_out(model.gaussians)[[0, 2]], written_out(alone.gaussians), **tolerance)
        found, expected = e_step(model, x), e_step(alone, x)
        rel = 1e-6 if dtype == torch.float32 else 1e-11
        assert found.mean_log_prob == pytest.approx(expected.mean_log_prob, rel=rel)
        new, new_alone = m_step(found, model, 1e-3), m_step(expected, alone, 1e-3)
        after = elbo_after_m(found, model, new, 1e-3)
        close(after, elbo_after_m(expected, alone, new_alone, 1e-3), rtol=rel)
        model, alone = new, new_alone


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_start_has_the_precision_of_the_images(kind, dtype):
    model = start(kind, images().to(dtype), floor=0.01)
    for value in (*model.state_dict().values(), *iterate(model, images(), 1).state_dict().values()):
        assert value.dtype == dtype


def test_ways_to_share_out_the_images():
    x = images()
    label = torch.tensor([7, 2, 2, 9] * 60)
    assert gmm.assign(x, label, 3, "labels").tolist() == [1, 0, 0, 2] * 60
    for init in ("random", "kmeans++", "kmeans"):
        torch.manual_seed(5)
        assigned = gmm.assign(x, label, 4, init)
        assert assigned.shape == (240,)
        assert set(assigned.tolist()) == {0, 1, 2, 3}
        torch.manual_seed(5)
        assert torch.equal(gmm.assign(x, label, 4, init), assigned)


def test_kmeans_shares_the_images_out_better_than_its_seeds_and_these_than_chance():
    """By the mean squared distance within a component, over seeds."""
    x, label = images(), torch.zeros(240)

    def inertia(init: str, seed: int) -> float:
        torch.manual_seed(seed)
        assigned = gmm.assign(x, label, 3, init)
        model = initial_gmm(x, assigned, 3, "diag", factors=0, floor=0)
        return (model.weight @ model.gaussians.variance().sum(1)).item()

    means = [
        sum(inertia(init, seed) for seed in range(40)) / 40
        for init in ("kmeans", "kmeans++", "random")
    ]
    assert means[0] < means[1] < means[2]


# Singular covariances


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("held", [6, 15, 20])
def test_a_full_covariance_of_complaint_on_images_is_singular(held, dtype):
    """D images about their mean span D - 1 directions. Component 1 of 2."""
    for seed in range(40):
        x = images(120, d=20, seed=seed).to(dtype)
        assigned = (torch.arange(120) < held).long()
        model = initial_gmm(x, assigned, 2, "full", factors=Q, floor=0)
        with pytest.raises(SingularCovariance) as caught:
            e_step(model, x)
        assert caught.value.component == 1
        largest = torch.linalg.eigvalsh(model.gaussians.covariance[1])[-1].item()
        assert abs(caught.value.smallest_eigenvalue) < 20 * torch.finfo(dtype).eps * largest
        e_step(initial_gmm(x, assigned, 2, "full", factors=Q, floor=0.01), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3, 0.1 * 3])
def test_a_constant_pixel_is_singular(kind, value, dtype):
    x = images().to(dtype)
    x[:, 2] = value
    assigned = torch.arange(240) % K
    model = initial_gmm(x, assigned, K, kind, factors=Q, floor=0)
    with pytest.raises(SingularCovariance) as caught:
        e_step(model, x)
    if kind == "tied":
        assert caught.value.component == 0
    assert abs(caught.value.smallest_eigenvalue) < 1e-5 if dtype == torch.float32 else 1e-13
    found = e_step(initial_gmm(x, assigned, K, kind, factors=Q, floor=0.01), x)
    assert math.isfinite(found.mean_log_prob)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["full", "diag"])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("n", [240, 1000, 3000])
def test_a_pixel_constant_in_one_component_is_singular(n, value, kind, dtype):
    x = images(n).sigmoid().to(dtype)
    assigned = torch.arange(n) % K
    x[assigned == 1, 2] = value
    model = initial_gmm(x, assigned, K, kind, factors=Q, floor=0)
    with pytest.raises(SingularCovariance) as caught:
        e_step(model, x)
    assert caught.value.component == 1
    assert abs(caught.value.smallest_eigenvalue) < (1e-5 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["full", "diag", "spherical", "lowrank"])
@pytest.mark.parametrize("copies", [1, 3, 7])
def test_identical_images_are_singular(kind, copies, dtype):
    """One image, or copies of it, in component 1; values that float does not hold exactly."""
    x = images().to(dtype)
    x[:copies] = 0.1 * torch.arange(1, D + 1)
    assigned = (torch.arange(240) % 2) * 2
    assigned[:copies] = 1
    model = initial_gmm(x, assigned, K, kind, factors=Q, floor=0)
    with pytest.raises(SingularCovariance) as caught:
        e_step(model, x)
    assert caught.value.component == 1
    assert abs(caught.value.smallest_eigenvalue) < (1e-5 if dtype == torch.float32 else 1e-13)
    found = e_step(initial_gmm(x, assigned, K, kind, factors=Q, floor=0.01), x)
    assert math.isfinite(found.mean_log_prob)


# float32, on images


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """2,000 MNIST images in [0, 1], float64."""
    pixels = load(DataConfig(limit=2000)).train.pixels
    return pixels.double() / 255


@pytest.mark.parametrize("kind", KINDS)
def test_float32_agrees_with_float64_on_digits(kind, digits):
    """Mean ln p(x) to 1e-5 relative for 3 iterations at the default floor; parameters to 1e-3."""
    torch.manual_seed(6)
    assigned = nearest_centre(digits, lloyd(digits, seed_centres(digits, 5), 5))
    values, parameters = [], []
    for dtype in DTYPES:
        x = digits.to(dtype)
        model = initial_gmm(x, assigned, 5, kind, factors=10, floor=1e-3)
        own_values = []
        for _ in range(3):
            found = e_step(model, x)
            new = m_step(found, model, 1e-3)
            own_values += [
                found.mean_log_prob,
                found.mean_elbo,
                elbo_after_m(found, model, new, 1e-3).item() / 2000,
            ]
            model = new
        values.append(own_values)
        parameters.append(model)
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    single, double = parameters
    close(single.weight.double(), double.weight, rtol=1e-3)
    close(single.gaussians.mean.double(), double.gaussians.mean, rtol=0, atol=1e-3)
    # ln p(x) of each image under the very parameters, in either precision
    numbers = [value.double() for value in single.gaussians.state_dict().values()]
    same = GMM(single.weight.double(), type(single.gaussians)(*numbers))
    exact = same.log_prob(digits)
    assert (single.log_prob(digits) - exact).abs().max() < 1e-4 * exact.abs().mean()


def test_pruning_on_digits_leaves_out_nothing_that_matters(digits):
    """Full covariances, 784 pixels: nearly all pairs are pruned, and ln p(x) is torch's."""
    x = digits[:1000]
    torch.manual_seed(7)
    assigned = nearest_centre(x, lloyd(x, seed_centres(x, 4), 5))
    model = initial_gmm(x, assigned, 4, "full", factors=Q, floor=1e-2)
    joint, exact = model.log_joint(x), naive_log_joint(model, x)
    pruned = joint == -math.inf
    assert pruned.double().mean() > 0.5
    assert ((exact.amax(1, keepdim=True) - exact)[pruned] > 50 - 1e-6).all()
    close(joint[~pruned], exact[~pruned], rtol=1e-9)
    close(model.log_prob(x), exact.logsumexp(1), rtol=1e-9)
