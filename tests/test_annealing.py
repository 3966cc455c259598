"""Annealed importance sampling, on linear-Gaussian models where ln p(x) and p(z|x) are known."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from small_models import linear_gaussian, no_label, orthogonal_ppca, rough_vae
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaexp.evaluation import annealing
from vaexp.evaluation.annealing import (
    Path,
    anneal,
    annealed,
    in_double,
    leapfrog,
    pilot_transitions,
    posterior_path,
    sigmoid_schedule,
    simulate,
    step_sizes,
    transition,
)
from vaexp.evaluation.measure import log_mean
from vaexp.models import VAE

D, L = 8, 3
SCALES = (1.5, 1.0, 0.6)  # of W's columns
FORWARD = torch.tensor([0.0, 1.0], dtype=torch.float64)
NO_SIZES = torch.empty(0, 1)


ppca = partial(orthogonal_ppca, D, SCALES, 0.5)
linear_vae = partial(linear_gaussian, D, SCALES)
small_vae = partial(rough_vae, D, 0.3, activation="gelu")


def images(n: int, seed: int = 2) -> Tensor:
    torch.manual_seed(seed)
    model = ppca()
    return 1.2 * model.decode(model.prior().sample(torch.Size([n]))).sample()


def exact_gaussian(mean: Tensor, scale: Tensor) -> Distribution:
    return Independent(Normal(mean, scale, validate_args=False), 1)


def gaussian_path(n: int = 1) -> Path:
    """From N(0, I) to e^7 N((0.5, -1, 2), diag(0.3, 1, 2)^2), for n images alike."""
    mean = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64).expand(n, L)
    scale = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64).expand(n, L)
    zeros = torch.zeros(n, L, dtype=torch.float64)
    end = exact_gaussian(mean, scale)
    return Path(exact_gaussian(zeros, zeros + 1), lambda z: end.log_prob(z) + 7)


def moments_between(t: float) -> tuple[Tensor, Tensor]:
    """Of f_t of ``gaussian_path``: precisions and precisions times means interpolate."""
    precision = (1 - t) + t / torch.tensor([0.3, 1.0, 2.0]).double() ** 2
    mean = t * torch.tensor([0.5, -1.0, 2.0]).double() / torch.tensor([0.3, 1.0, 2.0]) ** 2
    return mean / precision, 1 / precision


# Schedule


@pytest.mark.parametrize("k", [1, 2, 7, 200])
def test_the_schedule_runs_from_0_to_1_dense_at_both_ends(k):
    t = sigmoid_schedule(k)
    assert t.shape == (k + 1,)
    assert t[0] == 0
    assert t[-1] == 1
    assert (t.diff() > 0).all()
    assert torch.allclose(t + t.flip(0), torch.ones(k + 1).double())
    if k > 2:
        assert t.diff()[0] < t.diff()[k // 2] / 2
    else:
        assert torch.allclose(t, torch.linspace(0, 1, k + 1).double())


# Hamiltonian dynamics


def moving(path: Path, chains: int = 5) -> tuple[annealing.Point, Tensor]:
    torch.manual_seed(4)
    n = path.start.batch_shape[0]
    return path.at(torch.randn(chains, n, L).double()), torch.randn(chains, n, L).double()


def decoder_path(**keys: object) -> Path:
    model = in_double(small_vae(latent_dim=L, **keys))
    return posterior_path(model, images(2), torch.tensor([3, 5]))


PATHS = [
    gaussian_path,
    decoder_path,
    partial(decoder_path, sigma_mode="pixel"),
    partial(decoder_path, conditional=True),
]


@pytest.mark.parametrize("made", PATHS)
def test_gradients_are_those_of_the_densities(made):
    path = made()
    point, direction = moving(path)
    for t in (0.0, 0.3, 1.0):
        ahead, behind = (path.at(point.z + h * direction) for h in (1e-5, -1e-5))
        slope = (ahead.log_density(t) - behind.log_density(t)) / 2e-5
        assert torch.allclose(slope, (point.gradient(t) * direction).sum(-1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("made", PATHS)
def test_leapfrog_is_reversible(made):
    path = made()
    point, momentum = moving(path)
    step = torch.full(momentum.shape[:2], 0.1).double()
    there, end = leapfrog(path, 0.7, point, momentum, step, 6)
    back, start = leapfrog(path, 0.7, there, -end, step, 6)
    assert (there.z - point.z).abs().min() > 1e-4
    assert torch.allclose(back.z, point.z, rtol=0, atol=1e-9)
    assert torch.allclose(-start, momentum, rtol=0, atol=1e-9)


@pytest.mark.parametrize("made", PATHS)
def test_leapfrog_errs_in_the_energy_by_the_square_of_the_step(made):
    """Over the same time: a third of the step, a ninth of the error."""
    path = made()
    point, momentum = moving(path)

    def error(steps: int) -> Tensor:
        step = torch.full(momentum.shape[:2], 0.3 / steps).double()
        there, end = leapfrog(path, 0.7, point, momentum, step, steps)
        kinetic = (end.square() - momentum.square()).sum(-1) / 2
        return kinetic - there.log_density(0.7) + point.log_density(0.7)

    coarse, fine = error(30), error(90)
    assert coarse.abs().max() > 1e-6
    assert fine.abs().sum() / coarse.abs().sum() == pytest.approx(1 / 9, rel=0.05)


def test_leapfrog_keeps_volume():
    path = gaussian_path()

    def flow(state: Tensor) -> Tensor:
        z, momentum = state.view(2, 1, 1, L)
        step = torch.full((1, 1), 0.3).double()
        there, end = leapfrog(path, 0.6, path.at(z), momentum, step, 3)
        return torch.cat([there.z.view(-1), end.view(-1)])

    torch.manual_seed(5)
    state, h = torch.randn(2 * L).double(), 1e-5
    columns = [
        (flow(state + h * unit) - flow(state - h * unit)) / (2 * h)
        for unit in torch.eye(2 * L).double()
    ]
    assert torch.stack(columns).det().item() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_a_transition_leaves_the_density_invariant(t):
    """Moments of 40,000 exact draws after 5 coarse transitions, within 4 of their errors."""
    path, chains = gaussian_path(), 40_000
    mean, variance = moments_between(t)
    torch.manual_seed(6)
    point = path.at(mean + variance.sqrt() * torch.randn(chains, 1, L).double())
    first = point.z
    for _ in range(5):
        point, probability = transition(path, t, point, torch.tensor([0.45]).double(), 3)
    assert 0.3 < probability.mean() < 0.999
    z = point.z[:, 0]
    assert abs(torch.corrcoef(torch.stack([z[:, 1], first[:, 0, 1]]))[0, 1]) < 0.3
    assert ((z.mean(0) - mean).abs() < 4 * (variance / chains).sqrt()).all()
    assert ((z.var(0) - variance).abs() < 4 * variance * math.sqrt(2 / chains)).all()


def test_a_transition_reaches_the_density():
    path = gaussian_path()
    mean, variance = moments_between(0.4)
    torch.manual_seed(7)
    point = path.at(torch.zeros(4000, 1, L).double())
    for _ in range(60):
        point, _ = transition(path, 0.4, point, torch.tensor([0.45]).double(), 3)
    z = point.z[:, 0]
    assert ((z.mean(0) - mean).abs() < 4 * (variance / 4000).sqrt()).all()
    assert ((z.var(0) - variance).abs() < 4 * variance * math.sqrt(2 / 4000)).all()


def test_a_wild_step_is_rejected_without_nan():
    point, _ = moving(gaussian_path(2))
    for size in (1e3, 1e200, math.inf):
        step = torch.tensor([0.3, size]).double()
        after, probability = transition(gaussian_path(2), 0.5, point, step, 10)
        assert all(part.isfinite().all() for part in after)
        assert torch.equal(after.z[:, 1], point.z[:, 1])
        assert not torch.equal(after.z[:, 0], point.z[:, 0])
        assert (probability[:, 1] == 0).all()


def test_the_pilot_run_finds_the_acceptance_aimed_at():
    """For each image by itself: the targets' widths differ by a factor of ten."""
    width = torch.tensor([[0.1], [1.0], [10.0]]).double().expand(3, L)
    end = exact_gaussian(torch.zeros(3, L).double(), width)
    path = Path(exact_gaussian(torch.zeros(3, L).double(), 3 * width), end.log_prob)
    schedule = sigmoid_schedule(160)
    torch.manual_seed(8)
    calls: list[None] = []
    sizes = step_sizes(path, schedule, 64, 3, lambda: calls.append(None))
    assert sizes.shape == (159, 3)
    assert len(calls) == pilot_transitions(160) == 10 + 40
    first = path.start.sample(torch.Size([64]))
    _, acceptance = anneal(path, first, schedule, sizes, 3)
    assert torch.allclose(acceptance, torch.tensor(0.65).double(), atol=0.08)


# Weights


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("k", [1, 2, 12])
def test_the_mean_weight_is_the_ratio_of_the_normalisers(k, backwards):
    """E w = e^7 from N(0, I), and e^-7 from the other end: within 4 standard errors of the mean of
    20,000 weights. From a wide start, where the variance of the weights is finite."""
    end = exact_gaussian(torch.full((1, L), 0.4).double(), torch.full((1, L), 0.8).double())
    start = exact_gaussian(torch.zeros(1, L).double(), torch.full((1, L), 1.0).double())
    path = Path(start, lambda z: end.log_prob(z) + 7)
    schedule, sizes = sigmoid_schedule(k), torch.full((k - 1, 1), 0.4).double()
    if backwards:
        schedule = schedule.flip(0)
    torch.manual_seed(9)
    z = (end if backwards else start).sample(torch.Size([20_000]))
    log_w, acceptance = anneal(path, z, schedule, sizes, 2)
    w = (log_w + (7 if backwards else -7)).exp()
    assert abs(w.mean() - 1) < 4 * w.std() / math.sqrt(len(w))
    assert w.std() > 0.01
    assert acceptance.isnan().all() if k == 1 else (acceptance > 0.5).all()


def test_one_temperature_is_importance_sampling_from_q():
    model, x = linear_vae(shift=0.2, stretch=1.5), images(6)
    path = posterior_path(model, x, no_label(x))
    torch.manual_seed(10)
    z = path.start.sample(torch.Size([50]))
    with torch.no_grad():
        expected = model.decode(z).log_prob(x) + model.prior().log_prob(z)
        expected = expected - model.encode(x).log_prob(z)
    log_w, _ = anneal(path, z, FORWARD, NO_SIZES, 1)
    assert torch.allclose(log_w, expected, rtol=1e-12)


def test_log_mean_and_its_variance():
    log_w = torch.tensor([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0]]).double()
    value, variance, size = log_mean(log_w - 5000)
    w = log_w.exp()
    assert torch.allclose(value, w.mean(0).log() - 5000, rtol=1e-12)
    relative = w.var(0, correction=0) / w.mean(0).square()
    assert torch.allclose(variance, relative / 3, atol=1e-12)
    assert torch.allclose(size, 3 / (1 + relative), rtol=1e-9)
    alone = log_mean(torch.tensor([0.0, -900.0, -900.0]).double())
    assert [one.item() for one in alone] == pytest.approx([-math.log(3), 2 / 3, 1.0])


def test_log_mean_of_a_lognormal():
    """ln E e^(a z) = a^2 / 2; the spread over 400 repetitions is as stated within 15 %."""
    torch.manual_seed(4)
    values, variances, sizes = log_mean(0.8 * torch.randn(4_000, 400, dtype=torch.float64) + 500)
    stated = variances.mean().sqrt().item()
    assert abs(values.mean() - 500.32) < 4 * stated / 20
    assert values.std().item() == pytest.approx(stated, rel=0.15)
    assert sizes.mean().item() == pytest.approx(4_000 * math.exp(-0.64), rel=0.05)


# annealed


def test_ln_p_within_its_stated_error():
    model, x = linear_vae(shift=0.2, stretch=1.5), images(60)
    torch.manual_seed(11)
    found = annealed(model, x, no_label(x), chains=32, temperatures=40).entries["log_prob_ais"]
    exact = ppca().log_prob(x)
    summary = found.summary()
    assert abs(summary["value"] - exact.mean().item()) < 4 * summary["mc_se"]
    assert 0 < summary["mc_se"] < 0.05
    z = (found.values - exact) / found.monte_carlo_variance.sqrt()
    assert 0.6 < z.square().mean().sqrt() < 1.6
    assert summary["kind"] == "lower_bound"
    assert (summary["chains"], summary["temperatures"], summary["leapfrog_steps"]) == (32, 40, 3)
    assert summary["acceptance"] == pytest.approx(0.65, abs=0.1)
    assert 10 < summary["effective_samples"] < 32


def test_the_monte_carlo_error_is_the_spread_of_repetitions():
    """Where q misses most of the posterior and the temperatures are few."""
    model, x = linear_vae(stretch=0.4), images(60)
    summaries = []
    for seed in range(40):
        torch.manual_seed(seed)
        found = annealed(model, x, no_label(x), chains=16, temperatures=2)
        summaries.append(found.entries["log_prob_ais"].summary())
    spread = np.std([one["value"] for one in summaries], ddof=1)
    stated = math.sqrt(np.mean([one["mc_se"] ** 2 for one in summaries]))
    assert 1 / 1.3 < stated / spread < 1.3
    assert 0 < summaries[0]["share_below_10_effective_samples"] < 1


def test_with_the_exact_posterior_every_weight_is_p():
    """The path is then p(x)^t p(z|x): the bounds meet at ln p(x), whatever the chains do."""
    model, x = linear_vae(), images(5)
    torch.manual_seed(12)
    found = annealed(model, x, no_label(x), chains=4, temperatures=5)
    exact = ppca().log_prob(x)
    assert torch.allclose(found.entries["log_prob_ais"].values, exact, rtol=0, atol=1e-9)
    assert found.entries["ais_gap"].value == pytest.approx(0, abs=1e-9)


def test_a_float32_model_is_measured_in_float64_and_left_alone():
    model, x = small_vae(), images(3)
    summaries = []
    for one in (model, in_double(model)):
        torch.manual_seed(12)
        found = annealed(one, x.float(), no_label(x), chains=2, temperatures=3)
        summaries.append({name: entry.summary() for name, entry in found.entries.items()})
    assert summaries[0] == summaries[1]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_bounds_bracket_ln_p_of_simulated_images(monkeypatch):
    """In expectation, and closely enough to be of use: within 4 standard errors over images."""
    drawn: list[Tensor] = []
    means: list[Tensor] = []

    def kept(model: VAE, label: Tensor) -> tuple[Tensor, Tensor]:
        z, x = simulate(model, label)
        drawn.append(x)
        return z, x

    def seen(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = log_mean(log_w)
        means.append(found[0])
        return found

    monkeypatch.setattr(annealing, "simulate", kept)
    monkeypatch.setattr(annealing, "log_mean", seen)
    model, x = linear_vae(shift=0.3, stretch=1.4), images(100)
    torch.manual_seed(13)
    found = annealed(model, x, no_label(x), chains=8, temperatures=6).entries
    exact = ppca().log_prob(drawn[0])
    _, lower, inverse = means
    below, above = exact - lower, -inverse - exact
    assert below.mean() > -4 * below.std() / 10
    assert above.mean() > -4 * above.std() / 10
    for name, values, kind in (
        ("ais_lower_simulated", lower, "lower_bound"),
        ("ais_upper_simulated", -inverse, "upper_bound"),
        ("ais_gap", below + above, "estimate"),
    ):
        summary = found[name].summary()
        assert summary["value"] == pytest.approx(values.mean().item(), abs=1e-9), name
        assert summary["se"] == pytest.approx(values.std().item() / 10), name
        assert (summary["n"], summary["aggregate"]) == (100, "whole"), name
        assert (summary["kind"], summary["chains"]) == (kind, 8), name
    assert 0 < found["ais_gap"].value < 0.5


def test_more_temperatures_close_the_gap():
    model, x = linear_vae(shift=0.8, stretch=1.8), images(60)
    gaps, values = [], []
    for temperatures in (1, 6, 60):
        torch.manual_seed(14)
        found = annealed(model, x, no_label(x), chains=8, temperatures=temperatures)
        gaps.append(found.entries["ais_gap"].value)
        values.append(found.entries["log_prob_ais"].values.mean().item())
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]
    assert gaps[2] < 0.2
    assert values[0] < values[1] < values[2] + 0.05
    assert values[2] == pytest.approx(ppca().log_prob(x).mean().item(), abs=0.2)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "continuous_bernoulli"])
@pytest.mark.parametrize("conditional", [False, True])
def test_every_likelihood_given_the_label_or_not(likelihood, conditional):
    """Against ln of the mean of 100,000 p(x|z), z ~ p(z)."""
    model = small_vae(likelihood=likelihood, conditional=conditional)
    x, label = images(4).float().sigmoid(), torch.tensor([1, 4, 4, 9])
    x = x.round() if likelihood == "bernoulli" else x
    torch.manual_seed(15)
    found = annealed(model, x, label, temperatures=30)
    with torch.no_grad():
        z = model.prior().sample(torch.Size([100_000, 1])).expand(-1, 4, -1)
        expected, variance, _ = log_mean(model.decode(z, label).log_prob(x).double())
    measure = found.entries["log_prob_ais"]
    error = (measure.monte_carlo_variance + variance).sqrt()
    assert ((measure.values - expected).abs() < 4 * error + 0.01).all()
    assert measure.values.dtype == torch.float64
    assert abs(found.entries["ais_gap"].value) < 0.3
    assert tuple(found.entries) == annealing.NAMES
    assert not found.absent


def test_simulated_images_have_the_given_labels_and_their_own_z():
    model = in_double(small_vae(conditional=True, sigma=1e-3))
    label = torch.tensor([2, 7, 2])
    torch.manual_seed(16)
    z, x = simulate(model, label)
    with torch.no_grad():
        assert torch.allclose(x, model.decode(z, label).mean, atol=0.01)
        assert not torch.allclose(x, model.decode(z, label + 1).mean, atol=0.01)
    assert z.dtype == x.dtype == torch.float64


@pytest.mark.parametrize(("n", "rows"), [(7, 2048), (7, 12), (1, 2048), (5, 1), (130, 2048)])
@pytest.mark.parametrize("temperatures", [1, 2, 6])
def test_blocks_are_bounded_keep_the_order_and_tell_of_every_image(
    monkeypatch, n, rows, temperatures
):
    monkeypatch.setattr(annealing, "ROWS_PER_BLOCK", rows)
    seen: list[int] = []
    at = Path.at

    def spy(path: Path, z: Tensor) -> annealing.Point:
        seen.append(z[..., 0].numel())
        return at(path, z)

    monkeypatch.setattr(Path, "at", spy)
    model, x = linear_vae(), images(n)
    told: list[int] = []
    found = annealed(
        model, x, no_label(x), chains=4, temperatures=temperatures, on_images=told.append
    )
    assert max(seen) <= max(rows, 4)
    assert sum(told) == n
    assert min(told) > 0
    assert torch.allclose(found.entries["log_prob_ais"].values, ppca().log_prob(x), atol=1e-9)
    assert found.entries["ais_gap"].n == min(n, 100)
    if n == 1:
        assert found.entries["ais_gap"].se is None
    assert ("acceptance" in found.entries["log_prob_ais"].facts) == (temperatures > 1)


@pytest.mark.parametrize("conditional", [False, True])
def test_in_many_blocks_every_image_keeps_its_place_and_label(monkeypatch, conditional):
    """Four images to a block, from q(z|x) that is not the posterior: within the stated errors of
    ln p(x), or ln p(x|label), of that image, which are many errors apart."""
    monkeypatch.setattr(annealing, "ROWS_PER_BLOCK", 4 * 32)
    torch.manual_seed(17)
    by_label = torch.randn(10, D).double()
    given = by_label if conditional else None
    model = linear_vae(shift=0.2, stretch=1.5, by_label=given)
    x, label = images(19), torch.arange(19) % 10
    found = annealed(model, x, label, chains=32, temperatures=40).entries

    def exact(x: Tensor, label: Tensor) -> Tensor:
        return ppca().log_prob(x - by_label[label] * conditional)

    values = found["log_prob_ais"].values
    error = found["log_prob_ais"].monte_carlo_variance.sqrt()
    assert ((values - exact(x, label)).abs() < 5 * error).all()
    assert ((values - exact(x.roll(4, 0), label)).abs() > 5 * error).double().mean() > 0.8
    if conditional:
        assert ((values - exact(x, label.roll(4))).abs() > 5 * error).double().mean() > 0.8
    # at one temperature the upper bound is ln p(x, z) / q(z|x), low for another image's z or label
    gap = annealed(model, x, label, chains=32, temperatures=1).entries["ais_gap"]
    assert 0 < gap.value < 1.3  # KL(p(z|x) to q(z|x)) is about 0.6


def test_one_chain_says_nothing_about_its_own_spread():
    x = images(3)
    found = annealed(linear_vae(), x, no_label(x), chains=1, temperatures=3)
    assert "mc_se" not in found.entries["log_prob_ais"].summary()


def test_the_same_seed_gives_the_same_numbers():
    model, x = linear_vae(stretch=1.3), images(4)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        evidence = annealed(model, x, no_label(x), chains=4, temperatures=4)
        found.append({name: entry.summary() for name, entry in evidence.entries.items()})
    assert found[0] == found[1] != found[2]


@pytest.mark.slow
def test_mc_se_is_the_spread_over_seeds():
    model, x = linear_vae(shift=0.2, stretch=1.3), images(25)
    values, stated = [], []
    for seed in range(150):
        torch.manual_seed(seed)
        found = annealed(model, x, no_label(x), chains=16, temperatures=10)
        summary = found.entries["log_prob_ais"].summary()
        values.append(summary["value"])
        stated.append(summary["mc_se"] ** 2)
    spread = torch.tensor(values).std().item()
    assert spread == pytest.approx(math.sqrt(sum(stated) / 150), rel=0.25)
