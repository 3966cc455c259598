"""Densities, draws and pruning of K Gaussians at once, against torch and scikit-learn."""

import math

import pytest
import torch
from sklearn.mixture._gaussian_mixture import (
    _compute_precision_cholesky,
    _estimate_log_gaussian_prob,
)
from small_models import KINDS, written_out
from torch import Tensor
from torch.distributions import (
    Categorical,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
)

from vaexp.config.covariances import COVARIANCES
from vaexp.experiment.draw.gmm import mixture_history
from vaexp.models.absent import Absent
from vaexp.models.covariances import Gaussians, SingularCovariance, Size, family
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.covariances.lowrank import LowRank
from vaexp.models.covariances.pruning import mahalanobis_bound, rows_by_component
from vaexp.models.covariances.responsibilities import NEGLIGIBLE
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.covariances.tied import Tied
from vaexp.models.gmm import GMM

DTYPES = [torch.float32, torch.float64]


def spd(d: int, low: float, high: float) -> Tensor:
    """A covariance (D, D) with eigenvalues from low to high, evenly spaced in the logarithm."""
    vectors = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q
    eigenvalues = torch.logspace(math.log10(low), math.log10(high), d, dtype=torch.float64)
    covariance = (vectors * eigenvalues) @ vectors.T
    return (covariance + covariance.T) / 2


def make(
    kind: str,
    k: int = 3,
    d: int = 7,
    *,
    spread: float = 0.5,
    shift: float = 0.0,
    low: float = 0.3,
    high: float = 3.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Gaussians:
    """K different components with means ``spread`` apart, about ``shift``."""
    torch.manual_seed(seed)
    mean = (spread * torch.randn(k, d, dtype=torch.float64) + shift).to(dtype)
    match kind:
        case "full":
            return Full(mean, torch.stack([spd(d, low, high) for _ in range(k)]).to(dtype))
        case "tied":
            return Tied(mean, spd(d, low, high).to(dtype))
        case "diag":
            return Diag(mean, torch.empty(k, d, dtype=dtype).uniform_(low, high))
        case "spherical":
            return Spherical(mean, torch.empty(k, dtype=dtype).uniform_(low, high))
        case _:
            factors = torch.randn(k, d, 2, dtype=dtype)
            return LowRank(mean, factors, torch.empty(k, dtype=dtype).uniform_(low, high))


def weights(k: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.arange(1, k + 1, dtype=dtype) / sum(range(1, k + 1))


def torchs(gaussians: Gaussians) -> MultivariateNormal:
    return MultivariateNormal(gaussians.mean.double(), written_out(gaussians))


def oracle(gaussians: Gaussians, x: Tensor, weight: Tensor) -> Tensor:
    """Ln pi_k + ln N(x; mu_k, Sigma_k) by torch.distributions, (N, K)."""
    return weight.double().log() + torchs(gaussians).log_prob(x.double()[:, None])


def images(gaussians: Gaussians, n: int = 60) -> Tensor:
    """Draws of the components in turn, from the oracle."""
    z = torch.arange(n) % len(gaussians.mean)
    return torchs(gaussians).sample(torch.Size([n]))[torch.arange(n), z].to(gaussians.mean)


# Densities


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_log_joint_is_torchs(kind, k):
    gaussians, weight = make(kind, k), weights(k)
    x = images(gaussians)
    joint = gaussians.log_joint(x, weight.log())
    assert joint.shape == (60, k)
    assert joint.dtype == torch.float64
    torch.testing.assert_close(joint, oracle(gaussians, x, weight), rtol=1e-10, atol=0)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_is_torchs_mixture(kind, k):
    gaussians, weight = make(kind, k), weights(k)
    x = images(gaussians)
    model = GMM(weight, gaussians)
    mixture = MixtureSameFamily(Categorical(weight), torchs(gaussians))
    torch.testing.assert_close(model.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=0)
    torch.testing.assert_close(
        model.encode(x).probs, oracle(gaussians, x, weight).softmax(1), rtol=1e-10, atol=1e-14
    )


@pytest.mark.parametrize("q", [1, 3, 6])
def test_lowrank_is_torchs(q):
    gaussians = make("lowrank")
    gaussians = LowRank(
        gaussians.mean, torch.randn(3, 7, q, dtype=torch.float64), gaussians.variances
    )
    x = images(gaussians)
    torchs = LowRankMultivariateNormal(
        gaussians.mean, gaussians.factors, gaussians.variances[:, None].expand(3, 7)
    )
    joint = gaussians.log_joint(x, torch.zeros(3))
    torch.testing.assert_close(joint, torchs.log_prob(x[:, None]), rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_densities_are_scikit_learns(kind):
    gaussians = make(kind)
    x = images(gaussians)
    own = gaussians.covariance if kind in ("full", "tied") else gaussians.variances
    roots = _compute_precision_cholesky(own.numpy(), kind)
    expected = _estimate_log_gaussian_prob(x.numpy(), gaussians.mean.numpy(), roots, kind)
    joint = gaussians.log_joint(x, torch.zeros(3))
    torch.testing.assert_close(joint, torch.from_numpy(expected), rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_densities_far_from_the_origin(kind):
    """Images and means about 1,000, where float64 steps by 1e-13: to 1e-9 nats."""
    gaussians = make(kind, shift=1e3)
    x, weight = images(gaussians), weights(3)
    joint = gaussians.log_joint(x, weight.log())
    torch.testing.assert_close(joint, oracle(gaussians, x, weight), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_densities_of_images_far_from_all_components(kind):
    gaussians, weight = make(kind), weights(3)
    x = images(gaussians) + 1e3
    log_prob = GMM(weight, gaussians).log_prob(x)
    expected = oracle(gaussians, x, weight).logsumexp(1)
    assert (expected < -1e5).all()
    torch.testing.assert_close(log_prob, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("kind", KINDS)
def test_densities_in_float32(kind, shift):
    """Against float64 with the same rounded parameters and images: squared distances of up to 30
    sigma^2 are sums of terms up to 100 sigma^2, off by less than 2e-4."""
    gaussians = make(kind, shift=shift, dtype=torch.float32)
    x, weight = images(gaussians), weights(3)
    joint = gaussians.log_joint(x, weight.log())
    assert joint.dtype == torch.float64
    torch.testing.assert_close(joint, oracle(gaussians, x, weight), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_zero_removes_the_component(kind):
    gaussians = make(kind)
    x = images(gaussians)
    weight = torch.tensor([0.25, 0.0, 0.75], dtype=torch.float64)
    model = GMM(weight, gaussians)
    assert (model.log_joint(x)[:, 1] == -math.inf).all()
    assert (model.encode(x).probs[:, 1] == 0).all()
    expected = oracle(gaussians, x, weight)[:, [0, 2]].logsumexp(1)
    torch.testing.assert_close(model.log_prob(x), expected, rtol=1e-10, atol=0)
    assert (model.prior().sample(torch.Size([1000])) != 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_images_change_nothing(monkeypatch, kind):
    gaussians = make(kind)
    x, weight = images(gaussians), weights(3)
    whole = gaussians.log_joint(x, weight.log())
    for place in ("pruning.ROWS", "tied.ROWS", "features.ROWS_IN_CACHE", "lowrank.ROWS_IN_CACHE"):
        monkeypatch.setattr(f"vaexp.models.covariances.{place}", 7)
    blocks = make(kind).log_joint(x, weight.log())
    torch.testing.assert_close(blocks, whole, rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_one_component(kind):
    """decode(z).log_prob is exact for every z, however unlikely."""
    gaussians = make(kind, d=40, spread=10)
    model = GMM(weights(3), gaussians)
    x = images(gaussians)
    for k in range(3):
        found = model.decode(torch.full((60,), k)).log_prob(x)
        expected = torchs(gaussians).log_prob(x[:, None])[:, k]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    z = torch.arange(60) % 3
    expected = torchs(gaussians).log_prob(x[:, None])[torch.arange(60), z]
    torch.testing.assert_close(model.decode(z).log_prob(x), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_bayes_rule_for_every_component(kind):
    """Ln p(x, z) - ln p(z|x) = ln p(x), by prior, encode and decode."""
    model = GMM(weights(4), make(kind, k=4))
    x = images(model.gaussians)
    log_prob, q = model.log_prob(x), model.encode(x)
    for k in range(4):
        z = torch.full((60,), k)
        joint = model.prior().log_prob(z) + model.decode(z).log_prob(x)
        assert joint.isfinite().all()
        torch.testing.assert_close(joint - q.log_prob(z), log_prob, rtol=1e-10, atol=1e-10)


# Pruning


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize(("low", "high"), [(0.3, 3.0), (1e-5, 1e2)])
@pytest.mark.parametrize("r", [1, 16, 60])
def test_the_bound_is_below_every_mahalanobis_distance(dtype, shift, low, high, r):
    """Also for images x = mu + Sigma V a, where it is the distance, but for 0.1 % and rounding."""
    k, d = 4, 60
    gaussians = make("full", k, d, spread=3, shift=shift, low=low, high=high, dtype=dtype)
    exact_root = torch.linalg.cholesky(written_out(make("full", k, d, low=low, high=high)))
    basis = torch.linalg.qr(torch.randn(d, r, dtype=torch.float64)).Q
    directions = torch.linalg.solve_triangular(exact_root.mT, basis.expand(k, d, r), upper=True)
    tight = gaussians.mean.double() + torch.einsum(
        "kdr,nr->nkd", exact_root @ exact_root.mT @ directions, 5 * torch.randn(50, r).double()
    )
    far = gaussians.mean + 30 * torch.randn(50, k, d)
    x = torch.cat([images(gaussians, 200), far.reshape(-1, d), tight.reshape(-1, d)]).to(dtype)

    bound = mahalanobis_bound(x, gaussians.mean, directions.to(dtype))
    assert bound.dtype == torch.float64
    # the covariance before it was rounded to float32, which may have made it indefinite
    whitened = torch.linalg.solve_triangular(
        exact_root, (x.double()[:, None] - gaussians.mean.double())[..., None], upper=False
    )
    exact = whitened.square().sum((2, 3))
    assert (bound <= exact).all()
    assert (bound >= 0).all()
    if dtype == torch.float64:
        own = torch.arange(len(tight) * k) % k
        reached = (bound / exact)[400:].gather(1, own[:, None])
        assert (reached > 0.99).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bound_at_a_mean_is_zero(dtype):
    """Where the distance is, and rounding alone would put the bound above it."""
    gaussians = make("full", 5, 60, spread=300, dtype=dtype)
    roots = torch.linalg.cholesky(written_out(gaussians))
    directions = torch.linalg.inv(roots).mT.to(dtype)
    bound = mahalanobis_bound(gaussians.mean, gaussians.mean, directions)
    assert (bound.diagonal() == 0).all()
    assert (bound > 1e4).sum() == 20  # the others


def overlapping(k: int, d: int, dtype: torch.dtype, shift: float, low: float) -> GMM:
    """Components of which some overlap and most do not."""
    torch.manual_seed(1)
    base = spd(d, low, 3.0)
    offset = torch.randn(k, d, dtype=torch.float64) * torch.logspace(-1.2, 1, k)[:, None]
    root = torch.linalg.cholesky(base)
    mean = offset @ root.T + shift
    skew = root @ torch.randn(k, d, 1, dtype=torch.float64) / math.sqrt(d)
    covariance = torch.stack([base * (1 + 0.02 * j) for j in range(k)]) + skew @ skew.mT
    return GMM(weights(k, dtype), Full(mean.to(dtype), covariance.to(dtype)))


@pytest.mark.parametrize("d", [5, 60, 100])
@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("low", [0.3, 1e-5])
def test_pruned_pairs_are_negligible_and_the_others_exact(d, shift, low):
    """To 1e-10 relative, but where an eigenvalue of 1e-5, or images at 1,000, amplify rounding: to
    1e-7 nats, as a standard deviation of 3e-3 is 3e10 roundings of 1,000."""
    model = overlapping(12, d, torch.float64, shift, low)
    x = images(model.gaussians, 400)
    joint = model.log_joint(x)
    exact = oracle(model.gaussians, x, model.weight)
    pruned = joint == -math.inf
    short = exact.amax(1, keepdim=True) - exact
    assert (short[pruned] > NEGLIGIBLE - 1e-6).all()
    extra = 1e-7 if shift or low < 0.1 else 0.0
    torch.testing.assert_close(joint[~pruned], exact[~pruned], rtol=1e-10, atol=extra)
    assert not pruned.gather(1, exact.argmax(1, keepdim=True)).any()
    assert (~pruned).sum(1).double().mean() > 1.5  # some rows are mixed
    if d > 5:
        assert pruned.double().mean() > 0.6
    omitted = 12 * math.exp(-NEGLIGIBLE)
    torch.testing.assert_close(
        model.log_prob(x), exact.logsumexp(1), rtol=1e-12, atol=omitted + extra
    )


def test_leaving_out_pairs_changes_log_prob_by_no_more_than_promised():
    """Against the sum over all pairs, each computed by itself by the same code: to rounding."""
    model = overlapping(12, 60, torch.float64, 0.0, 0.3)
    x = images(model.gaussians, 400)
    assert (model.log_joint(x) == -math.inf).double().mean() > 0.6
    own = [model.decode(torch.full((400,), k)).log_prob(x) for k in range(12)]
    every = torch.stack(own, 1) + model.weight.log()
    assert every.isfinite().all()
    torch.testing.assert_close(model.log_prob(x), every.logsumexp(1), rtol=1e-14, atol=1e-13)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_pruning_in_float32(shift):
    """Against float64 with the same parameters: 1e-5 relative for values of -1e2 to -1e4 nats."""
    model = overlapping(12, 80, torch.float32, shift, 0.05)
    x = images(model.gaussians, 400)
    joint, exact = model.log_joint(x), oracle(model.gaussians, x, model.weight)
    pruned = joint == -math.inf
    short = exact.amax(1, keepdim=True) - exact
    assert pruned.double().mean() > 0.5
    assert (short[pruned] > NEGLIGIBLE - 0.05).all()
    torch.testing.assert_close(joint[~pruned], exact[~pruned], rtol=1e-5, atol=0)
    torch.testing.assert_close(model.log_prob(x), exact.logsumexp(1), rtol=1e-5, atol=0)


def test_pairs_just_above_the_threshold_are_computed():
    """Two components and images on the line between them: the kept ones are those within 50."""
    d = 64
    mean = torch.zeros(2, d, dtype=torch.float64)
    mean[1, 0] = 20
    model = GMM(weights(2), Full(mean, torch.eye(d, dtype=torch.float64).expand(2, d, d).clone()))
    x = torch.zeros(2001, d, dtype=torch.float64)
    x[:, 0] = torch.linspace(0, 20, 2001, dtype=torch.float64)
    exact = oracle(model.gaussians, x, model.weight)
    short = exact.amax(1, keepdim=True) - exact
    near = (short - NEGLIGIBLE).abs() < 1e-6
    kept = model.log_joint(x) > -math.inf
    # entries less than NEGLIGIBLE short are there
    assert kept[(short < NEGLIGIBLE) & ~near].all()
    assert (short > NEGLIGIBLE).sum() > 1000
    assert not kept[(short > 1.1 * NEGLIGIBLE) & ~near].any()  # and the bound is of use


# What else they know


@pytest.mark.parametrize("kind", KINDS)
def test_variance_is_the_diagonal(kind):
    gaussians = make(kind)
    expected = written_out(gaussians).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(gaussians.variance(), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_smallest_eigenvalues_are_eigvalshs(kind):
    """Exact, but for full: to a percent, from above."""
    gaussians = make(kind, d=60, low=1e-4, high=10)
    found = gaussians.smallest_eigenvalues()
    exact = torch.linalg.eigvalsh(written_out(gaussians))[:, 0]
    assert found.shape == (3,)
    torch.testing.assert_close(found.double(), exact, rtol=0.01 if kind == "full" else 1e-9, atol=0)
    if kind == "full":
        assert (found >= exact * (1 - 1e-9)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", ["dense", "wishart", "floor", "few"])
def test_smallest_eigenvalues_where_they_lie_close_together(spectrum, dtype):
    """To a percent, as promised."""
    torch.manual_seed(2)
    d = 3 if spectrum == "few" else 100
    if spectrum == "dense":
        vectors = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q
        covariance = (vectors * torch.linspace(1, 2, d, dtype=torch.float64)) @ vectors.T
    else:
        noise = torch.randn(40 if spectrum == "floor" else 3 * d, d, dtype=torch.float64)
        covariance = noise.T @ noise / len(noise)
        covariance.diagonal().add_(1e-3 * (spectrum == "floor"))
    gaussians = Full(torch.zeros(1, d, dtype=dtype), covariance[None].to(dtype))
    exact = torch.linalg.eigvalsh(covariance)[0].item()
    assert gaussians.smallest_eigenvalues().item() == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalues_are_those_of_the_covariances(kind):
    gaussians = make(kind)
    expected = torch.linalg.eigvalsh(written_out(gaussians))
    found = gaussians.eigenvalues()
    assert found.shape == ((1, 7) if kind == "tied" else (3, 7))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.expand(3, -1), expected)


def test_another_floor_of_lowrank_covariances_moves_those_it_holds():
    mean, factors = torch.randn(3, 6).double(), torch.randn(3, 6, 2).double()
    variances = torch.tensor([0.1, 0.15, 0.9], dtype=torch.float64)
    gaussians = LowRank(mean, factors, variances)
    assert gaussians.with_floor(0.1, 0.05).variances.tolist() == [0.05, 0.15, 0.9]
    assert gaussians.with_floor(0.1, 0.4).variances.tolist() == [0.4, 0.4, 0.9]
    assert gaussians.variances.tolist() == [0.1, 0.15, 0.9]


@pytest.mark.parametrize("kind", KINDS)
def test_another_floor_leaves_the_parameters_as_they_are(kind):
    gaussians = make(kind, low=0.5)
    before = written_out(gaussians).clone()
    gaussians.with_floor(0.1, 0.2)
    assert torch.equal(written_out(gaussians), before)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_independent_where_all_covariances_are_diagonal(kind):
    gaussians = make(kind)
    written = written_out(gaussians)
    diagonal = torch.equal(written, written.diagonal(dim1=1, dim2=2).diag_embed())
    assert gaussians.independent_pixels == diagonal


# The families by their names


def test_every_name_of_a_config_is_a_family():
    """And has a caption. What takes factors says so."""
    assert list(COVARIANCES) == KINDS
    for name, known in COVARIANCES.items():
        assert family(name).name == name
        assert type(make(name)) is family(name)
        takes_factors = "factors" in family(name).empty(Size(2, 5, 3), torch.float32).state_dict()
        assert known.factors == takes_factors == ("{factors}" in known.caption)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_empty_parameters_have_the_shapes_of_others(kind, dtype):
    gaussians = make(kind, k=4, dtype=dtype)
    assert gaussians.size == (4, 7, 2 if kind == "lowrank" else 0)
    empty = family(kind).empty(Size(4, 7, 2), dtype)
    empty.load_state_dict(gaussians.state_dict())
    for name, value in gaussians.state_dict().items():
        assert torch.equal(empty.state_dict()[name], value)
        assert empty.state_dict()[name].dtype == dtype


def check_moments(draws: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Within 4.5 standard errors; those of a Gaussian's covariance are (v_i v_j + c_ij^2) / n."""
    n, variance = len(draws), covariance.diagonal()
    error = draws.mean(0) - mean
    assert (error.abs() < 4.5 * (variance / n).sqrt()).all()
    centred = draws - mean
    error = centred.T @ centred / n - covariance
    standard = ((torch.outer(variance, variance) + covariance.square()) / n).sqrt()
    assert (error.abs() < 4.5 * standard).all()


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_mean_and_covariance(kind):
    gaussians = make(kind, d=4, spread=3)
    torch.manual_seed(5)
    for k in range(3):
        noise = torch.randn(40_000, gaussians.noise_dim, dtype=torch.float64)
        draws = gaussians.draw(k, noise)
        assert draws.shape == (40_000, 4)
        check_moments(draws, gaussians.mean[k], written_out(gaussians)[k])


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_components_have_their_mean_variance_and_draws(kind):
    gaussians = make(kind, d=4, spread=3, dtype=torch.float32)
    z = torch.tensor([[2, 0], [1, 2]])
    decoded = GMM(weights(3, torch.float32), gaussians).decode(z)
    assert (decoded.batch_shape, decoded.event_shape) == ((2, 2), (4,))
    assert torch.equal(decoded.mean, gaussians.mean[z])
    assert torch.equal(decoded.variance, gaussians.variance()[z])
    torch.testing.assert_close(decoded.stddev, gaussians.variance()[z].sqrt())
    assert decoded.sample().shape == (2, 2, 4)
    torch.manual_seed(6)
    draws = decoded.sample(torch.Size([40_000]))
    assert draws.shape == (40_000, 2, 2, 4)
    assert draws.dtype == torch.float32
    for i, k in enumerate(z.flatten()):
        own = draws.reshape(-1, 4, 4)[:, i].double()
        check_moments(own, gaussians.mean[k].double(), written_out(gaussians)[k])


def test_ancestral_draws_have_the_mixtures_moments():
    model = GMM(weights(3), make("full", d=4, spread=2))
    torch.manual_seed(7)
    z = model.prior().sample(torch.Size([60_000]))
    x = model.decode(z).sample()
    share = z.bincount(minlength=3) / 60_000
    standard = (model.weight * (1 - model.weight) / 60_000).sqrt()
    assert ((share - model.weight).abs() < 4 * standard).all()
    mean = model.weight @ model.gaussians.mean
    assert ((x.mean(0) - mean).abs() < 4.5 * x.std(0) / math.sqrt(60_000)).all()


def test_rows_by_component():
    pairs = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 0, 0]]).bool()
    rows = [row.tolist() for row in rows_by_component(pairs)]
    assert rows == [[0, 2], [], [0, 1]]


@pytest.mark.parametrize(
    ("kind", "needed"),
    [("full", 785), ("tied", None), ("diag", 2), ("spherical", 2), ("lowrank", 6)],
)
def test_the_figure_of_the_history_has_the_images_that_a_component_needs(monkeypatch, kind, needed):
    drawn = []
    where = "vaexp.experiment.draw"
    monkeypatch.setattr(f"{where}.shared.em_steps", lambda *_: "none")
    monkeypatch.setattr(f"{where}.gmm.singularities", lambda *given: drawn.append(given[-1]))
    images = family(kind).images_that_vary(Size(10, 784, 4))
    names = [name for name, _ in mixture_history([], 0.001, images, "")]
    assert names == ["em", "singularities"]
    assert drawn == [needed]


# Singular covariances


@pytest.mark.parametrize(("kind", "needed"), [("full", 8), ("diag", 2), ("lowrank", 4)])
def test_a_collapse_of_complaint_on_images_says_how_many_are_needed(kind, needed):
    gaussians = make(kind)
    few = gaussians.collapsed(2, needed - 1.0, 600)
    assert (few.what, few.images) == ("component 2", f"{needed - 1}.0 of 600")
    assert few.reason == f"fewer than {needed} leave a {kind} covariance of 7 pixels singular"
    enough = gaussians.collapsed(2, float(needed), 600)
    assert "in some direction they do not vary" in enough.reason


def test_a_tied_covariance_collapses_for_all_components_and_images():
    tied = make("tied")
    collapsed = tied.collapsed(0, 1.0, 6000)
    assert (collapsed.what, collapsed.images) == ("the covariance of all components", "6,000")
    assert "in some direction they do not vary" in collapsed.reason
    absent = tied.images_that_vary(tied.size)
    assert absent == Absent("the covariance is of the images of all components")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_singular_covariance_is_named(kind, dtype):
    """Component 2 of 4, the others being fine; of a tied one the first."""
    gaussians = make(kind, k=4, dtype=dtype)
    match gaussians:
        case Full():
            gaussians.covariance[2, 3] = gaussians.covariance[2, :, 3] = 0
        case Tied():
            gaussians.covariance[3] = gaussians.covariance[:, 3] = 0
        case Diag():
            gaussians.variances[2, 3] = 0
        case _:
            gaussians.variances[2] = 0
    model = GMM(weights(4, dtype), gaussians)
    x = torch.randn(5, 7)
    for log_prob in (model.log_prob, lambda x: model.decode(torch.zeros(5).long()).log_prob(x)):
        with pytest.raises(SingularCovariance) as caught:
            log_prob(x)
        assert caught.value.component == (0 if kind == "tied" else 2)
        assert caught.value.smallest_eigenvalue == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("kind", ["full", "tied"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_but_for_rounding_is_singular(kind, dtype):
    """A covariance of rank 25 of 30, of which rounding may leave pivots a little above zero."""
    for seed in range(20):
        gaussians = make(kind, k=2, d=30, seed=seed, dtype=dtype)
        factors = torch.randn(30, 25, dtype=torch.float64)
        singular = (factors @ factors.T).to(dtype)
        if kind == "full":
            gaussians.covariance[1] = singular
        else:
            gaussians.covariance.copy_(singular)
        with pytest.raises(SingularCovariance) as caught:
            gaussians.log_joint(torch.randn(5, 30, dtype=dtype), torch.zeros(2))
        assert caught.value.component == (1 if kind == "full" else 0)
        assert abs(caught.value.smallest_eigenvalue) < 100 * torch.finfo(dtype).eps
