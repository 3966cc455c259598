"""Sample quality against closed forms, naive loops, scipy and planted failures."""

import math
import random

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, jensenshannon
from torch import Tensor

from vaexp.data import bundled
from vaexp.evaluation import quality as module
from vaexp.evaluation.quality import (
    Bins,
    cubic_kernel,
    entropy,
    frechet_distance,
    group_size,
    js_divergence,
    kernel_distance,
    kernel_distance_in_blocks,
    make_bins,
    moments,
    neighbour_radii,
    neighbours,
    proportions_differ,
    quality,
    resample,
    resampled_moments,
    share_in_any,
    squared_distances,
)

F = 5


def covariance(seed: int, size: int = F) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


def draw(n: int, seed: int, shift: float = 0.0, size: int = F) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, size, dtype=torch.float64) + shift


# Frechet distance


@pytest.mark.parametrize("size", [1, 5, 64])
def test_frechet_distance_is_scipys(size):
    a, b = covariance(1, size), covariance(2, size)
    mean_a, mean_b = torch.randn(2, size, dtype=torch.float64)
    root = sqrtm((a @ b).numpy()).real
    expected = (mean_a - mean_b).square().sum() + np.trace((a + b).numpy() - 2 * root)
    found = frechet_distance(mean_a, a, mean_b, b)
    assert found == pytest.approx(expected.item(), rel=1e-9)
    assert frechet_distance(mean_b, b, mean_a, a) == pytest.approx(found, rel=1e-9)


def test_frechet_distance_of_equal_gaussians_is_zero():
    mean = torch.randn(F, dtype=torch.float64)
    assert frechet_distance(mean, covariance(1), mean, covariance(1)) == pytest.approx(0, abs=1e-10)


def test_frechet_distance_where_covariances_commute():
    """|m|^2 + sum (s_a - s_b)^2 of the standard deviations, also where some are 0."""
    s_a = torch.tensor([0.0, 0.0, 1.0, 2.0]).double()
    s_b = torch.tensor([0.0, 3.0, 1.5, 0.0]).double()
    mean = torch.tensor([1.0, -2.0, 0.0, 0.0]).double()
    found = frechet_distance(mean, s_a.square().diag(), torch.zeros(4), s_b.square().diag())
    assert found == pytest.approx(5 + (s_a - s_b).square().sum().item(), abs=1e-12)


def test_moments_are_numpys():
    x = draw(300, 1, shift=1e4)
    mean, cov = moments(x)
    np.testing.assert_allclose(mean, x.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(cov, np.cov(x.numpy().T), rtol=1e-9)
    assert moments(x.float())[1].dtype == torch.float64


@pytest.mark.parametrize("rows", [7, 250])
def test_resampled_moments_are_numpys_of_repeated_images(monkeypatch, rows):
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", rows)
    x = draw(60, 1, shift=1e4)
    torch.manual_seed(2)
    found = resampled_moments(x, 5)
    torch.manual_seed(2)
    for mean, cov in found:
        repeated = x.numpy().repeat(resample(60).int().numpy(), axis=0)
        np.testing.assert_allclose(mean, repeated.mean(0), rtol=1e-14)
        np.testing.assert_allclose(cov, np.cov(repeated.T), rtol=1e-9, atol=1e-12)
    assert len(found) == 5
    assert not torch.equal(found[0][1], found[1][1])


def test_fid_interval_and_bias_are_those_of_repetitions():
    """Two Gaussians of known moments, 200 pairs of samples: se is the spread, value - bias is near
    the distance of the Gaussians, and the interval holds the mean at this n."""
    n, shift = 150, 0.3
    values, ses, biases, holds = [], [], [], []
    for seed in range(200):
        entry = module._fid(draw(n, seed), draw(n, seed + 1000, shift), bootstrap=40)
        values.append(entry.value)
        ses.append(entry.se)
        biases.append(entry.facts["bias"])
        holds.append(entry.interval)
    mean, exact = np.mean(values), F * shift**2
    assert np.std(values) == pytest.approx(np.mean(ses), rel=0.2)
    assert mean - exact > 0.05
    assert np.mean(biases) == pytest.approx(mean - exact, rel=0.25)
    assert np.mean([low < mean < high for low, high in holds]) > 0.88


# Kernel distance


def naive_kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_kernel_distance_is_the_double_loop():
    a, b = draw(9, 1), draw(13, 2, shift=0.5)
    assert kernel_distance(a, b) == pytest.approx(
        naive_kernel_distance(a.numpy(), b.numpy()), rel=1e-10
    )
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a), rel=1e-10)


def test_kernel_distance_of_equal_distributions_is_zero_in_mean():
    values = [kernel_distance(draw(30, s), draw(20, s + 5000)) for s in range(1000)]
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0
    assert error < 0.02


def test_kernel_distance_of_points():
    """k(a, a) + k(b, b) - 2 k(a, b), of two sets that each hold one point many times."""
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, -1.0]])
    expected = (5 / 2 + 1) ** 3 + (1 / 2 + 1) ** 3 - 2 * (-2 / 2 + 1) ** 3
    assert kernel_distance(a.repeat(4, 1), b.repeat(3, 1)) == pytest.approx(expected)
    assert cubic_kernel(a, b).item() == 0


def test_blocks_estimate_the_same_and_their_error_is_the_spread():
    """200 repetitions; 100,000 images of each set stand for the distributions."""
    exact = kernel_distance_in_blocks(draw(100_000, 1), draw(100_000, 2, shift=0.3), 200)
    values, ses = [], []
    for seed in range(200):
        value, se = kernel_distance_in_blocks(draw(400, seed), draw(300, seed + 1000, 0.3), 20)
        values.append(value)
        ses.append(se)
    error = np.std(values) / math.sqrt(200)
    assert abs(np.mean(values) - exact[0]) < 4 * math.hypot(error, exact[1])
    assert np.std(values) == pytest.approx(math.sqrt(np.mean(np.square(ses))), rel=0.2)


def test_every_image_is_in_one_block(monkeypatch):
    seen: list[tuple[int, int]] = []

    def spy(a: Tensor, b: Tensor) -> float:
        seen.append((len(a), len(b)))
        return 1.0

    monkeypatch.setattr(module, "kernel_distance", spy)
    assert kernel_distance_in_blocks(draw(103, 1), draw(60, 2), 20) == (1, 0)
    assert [sum(sizes) for sizes in zip(*seen, strict=True)] == [103, 60]


# Neighbours


def naive_neighbours(generated: np.ndarray, real: np.ndarray, k: int, wide_k: int) -> dict:
    """Loops over the definitions."""

    def radii(x: np.ndarray, k: int) -> list[float]:
        d = cdist(x, x)
        return [sorted(d[i, j] for j in range(len(x)) if j != i)[k - 1] for i in range(len(x))]

    d = cdist(real, generated)
    n, m = len(real), len(generated)
    r, r_wide, r_generated = radii(real, k), radii(real, wide_k), radii(generated, k)
    return {
        "precision": [any(d[i, j] <= r[i] for i in range(n)) for j in range(m)],
        "recall": [any(d[i, j] <= r_generated[j] for j in range(m)) for i in range(n)],
        "density": [sum(d[i, j] <= r_wide[i] for i in range(n)) / wide_k for j in range(m)],
        "coverage": [any(d[i, j] <= r_wide[i] for j in range(m)) for i in range(n)],
    }


def find_neighbours(generated: Tensor, real: Tensor, k: int = 3, wide_k: int = 5):
    (own,) = neighbour_radii(generated, (k,))
    radius, wide = neighbour_radii(real, (k, wide_k))
    return neighbours(generated, real, own, radius, wide, wide_k)


def per_image(found) -> dict[str, Tensor]:
    """As the definitions have it, whatever the group."""
    return {
        "precision": found.precision.any(1).double(),
        "recall": found.recall.any(1).double(),
        "density": found.density,
        "coverage": found.coverage.any(1).double(),
    }


def means(found) -> dict[str, float]:
    return {name: values.mean().item() for name, values in per_image(found).items()}


@pytest.mark.parametrize("rows", [7, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_neighbours_are_the_naive_loops(monkeypatch, rows, dtype):
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", rows)
    monkeypatch.setattr(module, "GROUPS", 1)
    generated, real = draw(40, 1, shift=0.7).to(dtype), draw(60, 2).to(dtype)
    found = find_neighbours(generated, real, k=2, wide_k=4)
    naive = naive_neighbours(generated.numpy(), real.numpy(), 2, 4)
    for name, values in per_image(found).items():
        assert values.tolist() == pytest.approx([float(v) for v in naive[name]]), name
        assert 0 < values.mean() < 1
    assert found.precision.shape == (40, -(-60 // rows))
    assert found.recall.shape == found.coverage.shape == (60, -(-40 // rows))
    assert found.density_of_real.shape == (60,)
    assert found.density_of_real.mean() == pytest.approx(found.density.mean().item())


def test_radii_leave_the_image_itself_out():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert neighbour_radii(x, (1, 2)).tolist() == [[1, 1, 4, 16], [9, 4, 9, 36]]
    twice = x.repeat(2, 1)
    assert neighbour_radii(twice, (1,)).tolist() == [[0.0] * 8]


def test_squared_distances_are_scipys():
    a, b = draw(20, 1), draw(30, 2)
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), atol=1e-12)
    assert (squared_distances(a.float(), a.float()).diagonal() >= 0).all()


def test_identical_sets():
    """A draw lies in the k neighbourhoods of others, on average, and at its own centre."""
    x = draw(500, 1)
    found = means(find_neighbours(x, x.clone()))
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == pytest.approx(6 / 5)


def test_disjoint_sets():
    found = means(find_neighbours(draw(100, 1, shift=100), draw(100, 2)))
    assert found == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_equal_distributions():
    """Density is 1 in mean; coverage is 1 - C(2N - k - 1, N) / C(2N - 1, N) (Naeem et al. 2020,
    lemma 2), about 1 - 2^-k."""
    n, k = 400, 5
    found = [means(find_neighbours(draw(n, s), draw(n, s + 100))) for s in range(20)]
    exact = 1 - math.comb(2 * n - k - 1, n) / math.comb(2 * n - 1, n)
    for name, expected in (("density", 1), ("coverage", exact)):
        values = [f[name] for f in found]
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / math.sqrt(20), name
    assert exact == pytest.approx(1 - 2**-k, abs=0.002)


def test_a_dropped_mode_lowers_recall_and_coverage_only():
    """Half of the real images are of a mode that the model does not draw."""
    real = torch.cat([draw(300, 1), draw(300, 2, shift=50)])
    found = means(find_neighbours(draw(600, 3), real))
    assert found["precision"] > 0.85
    assert found["density"] > 0.85
    assert found["recall"] <= 0.5
    assert found["coverage"] <= 0.5
    assert found["coverage"] > 0.4


def test_invented_draws_lower_precision_and_density_only():
    generated = torch.cat([draw(300, 1), draw(300, 2, shift=50)])
    found = means(find_neighbours(generated, draw(600, 3)))
    assert found["precision"] <= 0.5
    assert found["density"] == pytest.approx(0.5, abs=0.05)
    assert found["recall"] > 0.85
    assert found["coverage"] > 0.8


def test_one_odd_image_is_the_fullest_neighbourhood():
    """A real image far off, and 30 of 120 draws around it: precision does not see it, density
    says that it holds a quarter of the draws."""
    real = torch.cat([draw(600, 1), torch.full((1, F), 30.0, dtype=torch.float64)])
    generated = torch.cat([draw(90, 2), draw(30, 3, shift=20)])
    entries = module._neighbour_entries(generated, real, neighbour_radii(real, (3, 5)))
    assert entries["precision"].value > 0.9
    assert 0.25 <= entries["density"].facts["fullest"] < 0.3


def test_groups_are_of_the_images_in_turn(monkeypatch):
    """Two real images to a group: a draw is in the neighbourhoods of those near it."""
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 2)
    monkeypatch.setattr(module, "GROUPS", 1)
    real = torch.tensor([[0.0], [1.0], [20.0], [21.0], [22.0]])
    found = find_neighbours(torch.tensor([[0.5], [21.5], [50.0]]), real, k=1, wide_k=1)
    assert found.precision.tolist() == [[True, False, False], [False, True, True], [False] * 3]
    assert found.coverage.tolist() == [[True, False]] * 2 + [[False, False]] + [[True, False]] * 2


def test_there_are_about_twenty_groups_or_more():
    sizes = {n: group_size(n) for n in (100, 101, 2000, 5000, 5001, 10_000)}
    assert sizes == {100: 5, 101: 6, 2000: 100, 5000: 250, 5001: 250, 10_000: 250}
    entries = find_neighbours(draw(101, 1), draw(100, 2))
    assert entries.precision.shape == (101, 20)
    assert entries.recall.shape == (100, 17)


def test_share_in_any_is_the_jackknife():
    """Against loops: the share with each group left out, less the noise of the m images."""
    torch.manual_seed(1)
    m, groups = 300, 8
    within = torch.rand(m, groups) < torch.linspace(0.02, 0.5, groups)
    value, se = share_in_any(within)
    assert value == within.any(1).double().mean().item()
    without = [within[:, torch.arange(groups) != g].any(1).double().mean() for g in range(groups)]
    jackknife = (groups - 1) * np.var(without)
    alone = value - np.array(without)
    # alone_g = mean over images of an indicator: the sample variances of its mean, and of theirs
    exactly = (within & (within.sum(1) == 1)[:, None]).double().numpy()
    np.testing.assert_allclose(exactly.mean(0), alone, atol=1e-12)
    noise = exactly.var(0).sum() / m - groups * exactly.mean(1).var() / m
    lost = jackknife - noise * (groups - 1) / groups
    assert se**2 == pytest.approx(value * (1 - value) / (m - 1) + lost, rel=1e-9)


def test_share_in_any_of_alike_groups_is_binomial():
    """Where every image is within all groups or none, no group is missed."""
    within = torch.zeros(400, 6, dtype=torch.bool)
    within[:100] = True
    value, se = share_in_any(within)
    assert value == 0.25
    assert se == pytest.approx(math.sqrt(0.25 * 0.75 / 399))
    assert share_in_any(torch.ones(400, 1, dtype=torch.bool)) == (1, 0)


@pytest.mark.parametrize(("n", "repetitions"), [(100, 200), (200, 100), (400, 60)])
def test_neighbour_errors_are_the_spread_of_repetitions(n, repetitions):
    """Pairs of samples with heavy tails, where precision hangs on a few wide neighbourhoods.

    Within a factor of two, up to which the fixed radii make errors too large. With a single group
    that of coverage would be 0.56 of the spread."""
    values: dict[str, list[float]] = {}
    ses: dict[str, list[float]] = {}
    for seed in range(repetitions):
        real, generated = draw(n, seed), 1.4 * draw(n, seed + 1000)
        real = real * (1 + 2 * (torch.arange(n) % 20 == 0))[:, None]
        entries = module._neighbour_entries(generated, real, neighbour_radii(real, (3, 5)))
        for name, entry in entries.items():
            values.setdefault(name, []).append(entry.value)
            ses.setdefault(name, []).append(entry.se)
    for name in values:
        ratio = math.sqrt(np.mean(np.square(ses[name]))) / np.std(values[name], ddof=1)
        assert 0.8 < ratio < 2, (name, ratio)


# Bins


def test_proportions_differ_is_the_z_test():
    """30 of 100 against 20 of 100: z = 1.63; against 17 of 100: z = 2.17."""
    counts = torch.tensor([30, 30, 40])
    assert proportions_differ(counts, torch.tensor([20, 17, 63])).tolist() == [False, True, True]
    z = (0.30 - 0.17) / math.sqrt(0.235 * 0.765 * 2 / 100)
    assert z == pytest.approx(2.168, abs=1e-3)
    assert not proportions_differ(torch.tensor([0, 5]), torch.tensor([0, 9])).any()


def test_equal_proportions_differ_in_5_percent_of_the_bins():
    torch.manual_seed(1)
    share = torch.rand(100).double() + 0.5
    share = share / share.sum()
    found = [
        proportions_differ(*(module._multinomial(share, n) * n for n in (3000, 9000))).double()
        for _ in range(200)
    ]
    assert torch.stack(found).mean().item() == pytest.approx(0.05, abs=0.006)


def test_ndb_finds_planted_bins():
    """Of 50 bins ten are drawn three times too often or not at all."""
    share = torch.full((50,), 1 / 50).double()
    drawn = share.clone()
    drawn[:5], drawn[5:10] = 2 / 50, 0
    bins = Bins(torch.zeros(50, 3), share, 50_000)
    entries = module._bin_entries((drawn * 10_000).round().int(), bins, bootstrap=20)
    assert entries["ndb"].value == 0.2
    assert entries["ndb"].se == pytest.approx(math.sqrt(0.2 * 0.8 / 50))
    assert entries["js_divergence"].value == pytest.approx(js_divergence(drawn, share))
    low, high = entries["js_divergence"].interval
    assert low < entries["js_divergence"].value < high


def test_js_divergence_is_scipys():
    torch.manual_seed(1)
    p, q = torch.rand(2, 30).double()
    p[3] = q[5] = q[3] = 0
    p, q = p / p.sum(), q / q.sum()
    assert js_divergence(p, q) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-10)
    assert js_divergence(p, p) == pytest.approx(0, abs=1e-15)
    apart = js_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert apart == pytest.approx(math.log(2))


def test_bins_are_the_clusters_and_their_shares():
    """Three clusters of known size; 60 training images have three bins."""
    torch.manual_seed(2)
    sizes = (30, 20, 10)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    train = torch.cat([c + 0.1 * torch.randn(n, 2) for c, n in zip(centres, sizes, strict=True)])
    bins = make_bins(train)
    assert bins.n == 60
    assert sorted((bins.share * 60).round().int().tolist()) == sorted(sizes)
    order = bins.share.argsort(descending=True)
    assert torch.allclose(bins.centres[order], centres, atol=0.15)


def test_there_are_at_most_100_bins():
    torch.manual_seed(1)
    assert len(make_bins(torch.rand(3000, 4)).share) == 100
    assert len(make_bins(torch.rand(1999, 4)).share) == 99


# Labels


def test_entropy_in_closed_form():
    p = torch.tensor([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]]).double()
    assert entropy(p).tolist() == pytest.approx([math.log(4), 0, math.log(2)])


def test_label_entropies_of_planted_predictions():
    """Half the draws are surely a 0, half are a 1 or a 2: mean entropy ln(2) / 2; the marginal is
    1/2, 1/4, 1/4."""
    prob = torch.zeros(1000, 10).double()
    prob[:500, 0] = 1
    prob[500:, 1:3] = 0.5
    entries = module._label_entries(prob.log(), bootstrap=200)
    conditional, marginal = entries["label_entropy"], entries["label_marginal_entropy"]
    assert conditional.value == pytest.approx(math.log(2) / 2)
    assert conditional.se == pytest.approx(math.log(2) / 2 / math.sqrt(999))
    assert marginal.value == pytest.approx(1.5 * math.log(2))
    # d H / d share = -ln 2 / 2 ... : H = h(s) + (1 - s) ln 2, h'(1/2) = 0, so its se is ln 2 times
    # that of the share
    assert marginal.se == pytest.approx(math.log(2) * 0.5 / math.sqrt(1000), rel=0.2)
    low, high = marginal.interval
    assert low < marginal.value < high


# Errors


def test_resamples_have_all_sizes():
    torch.manual_seed(1)
    counts = torch.stack([resample(50) for _ in range(2000)])
    assert (counts.sum(1) == 50).all()
    assert counts.mean().item() == 1
    assert counts.var().item() == pytest.approx(1 - 1 / 50, rel=0.03)


def test_multinomial_has_the_shares_it_was_given():
    torch.manual_seed(1)
    share = torch.tensor([0.1, 0.0, 0.6, 0.3]).double()
    found = torch.stack([module._multinomial(share, 1000) for _ in range(300)])
    assert found[:, 1].sum() == 0
    assert torch.allclose(found.mean(0), share, atol=0.003)
    variance = share * (1 - share) / 1000
    assert torch.allclose(found.var(0), variance, rtol=0.3)


# All of it


ROW_ENTRIES = {
    "digit_fid",
    "digit_kid",
    "precision",
    "recall",
    "density",
    "coverage_real",
    "ndb",
    "js_divergence",
    "label_entropy",
    "label_marginal_entropy",
}


@pytest.fixture(scope="module")
def mnist():
    source = bundled.read()
    real = source.test.pixels[:1500] / 255, source.test.label[:1500]
    return source.train.pixels / 255, *real, source.train.label


ROWS = ("mean", "sample", "control")
LABEL_ENTRIES = {"label_accuracy_mean", "label_accuracy_sample", "label_accuracy_real"}
ALL_ENTRIES = {f"{name}_{row}" for name in ROW_ENTRIES for row in ROWS} | LABEL_ENTRIES


def no_label(real: Tensor) -> Tensor:
    return torch.zeros(len(real), dtype=torch.int64)


@pytest.fixture(scope="module")
def planted(mnist):
    """Draws that are real images under noise, and those that are all of one digit."""
    train, real, real_label, label = mnist
    torch.manual_seed(5)
    noisy = train[50_000:51_500] + 0.4 * torch.randn(1500, 784)
    ones = train[label == 1][:1500]
    return quality(
        {"mean": ones, "sample": noisy},
        real,
        train[55_000:57_000],
        train=train[:5000],
        digits=True,
        real_label=real_label,
        wanted_label=torch.ones(1500, dtype=torch.int64),
        bootstrap=20,
    )


def test_names_units_and_facts(planted):
    assert set(planted.entries) == ALL_ENTRIES
    assert planted.absent == {}
    units = {name: {planted.entries[f"{name}_{row}"].unit for row in ROWS} for name in ROW_ENTRIES}
    assert units == {
        "digit_fid": {""},
        "digit_kid": {""},
        "precision": {"share"},
        "recall": {"share"},
        "density": {""},
        "coverage_real": {"share"},
        "ndb": {"share"},
        "js_divergence": {"nats"},
        "label_entropy": {"nats"},
        "label_marginal_entropy": {"nats"},
    }
    for name, entry in planted.entries.items():
        summary = entry.summary()
        assert summary["kind"] == "estimate", name
        assert math.isfinite(summary["value"]), name
        assert math.isfinite(summary["se"]), name
        expected_n = 1500
        assert summary["n"] == expected_n, name
        if name.startswith(("digit_", "precision", "recall", "density", "coverage")):
            assert "not Inception" in summary["features"]
            assert summary["against"] == 1500
    assert {name for name, e in planted.entries.items() if e.interval is not None} == {
        f"{name}_{row}"
        for name in ("digit_fid", "js_divergence", "label_marginal_entropy")
        for row in ROWS
    }


def test_real_images_are_the_best_row(planted):
    value = {name: entry.value for name, entry in planted.entries.items()}
    for name in ("digit_fid", "digit_kid", "ndb", "js_divergence"):
        assert value[f"{name}_mean"] > 2 * value[f"{name}_control"], name
    for name in ("digit_fid", "digit_kid"):  # noise moves few images to another bin
        assert value[f"{name}_sample"] > 2 * value[f"{name}_control"], name
    for row in ("mean", "sample"):
        assert value[f"coverage_real_{row}"] < value["coverage_real_control"] - 0.1
    assert value["precision_control"] > 0.8
    assert value["recall_control"] > 0.8
    assert 0.8 < value["density_control"] < 1.3
    assert value["coverage_real_control"] > 0.9
    assert value["label_entropy_control"] < 0.1
    assert value["label_marginal_entropy_control"] == pytest.approx(math.log(10), abs=0.02)


def test_one_digit_is_precise_and_covers_little(planted):
    value = {name: entry.value for name, entry in planted.entries.items()}
    assert value["precision_mean"] > 0.8
    assert value["recall_mean"] < 0.25
    assert value["coverage_real_mean"] < 0.2
    assert value["label_marginal_entropy_mean"] < 0.2
    assert value["label_accuracy_mean"] > 0.97
    assert value["label_accuracy_sample"] < 0.2
    assert 0.98 < value["label_accuracy_real"] < 1


def test_arrays(planted):
    shapes = {name: array.shape for name, array in planted.arrays.items()}
    assert shapes == {
        "ndb_centres": (100, 784),
        "ndb_share_train": (100,),
        **{f"ndb_share_{row}": (100,) for row in ROWS},
        **{f"label_share_{row}": (10,) for row in ROWS},
    }
    for name, array in planted.arrays.items():
        if "share" in name:
            assert array.sum() == pytest.approx(1), name
    assert planted.arrays["label_share_mean"][1] > 0.97


def test_images_are_clipped_and_cut_to_the_same_number(mnist):
    """Draws on 0..1 measure as those that lie beyond it by any amount."""
    train, real, real_label, _ = mnist
    x = train[50_000:50_400]
    beyond = torch.where(x == 0, -3.0, torch.where(x == 1, 7.0, x.double()))
    found = {}
    for name, images in (("on", x[:300]), ("beyond", beyond)):
        torch.manual_seed(1)
        found[name] = quality(
            {"mean": images},
            real[:200],
            train[:300],
            train=train[:2000],
            digits=True,
            real_label=real_label[:200],
            bootstrap=3,
        )
    assert found["on"].absent == {"label_accuracy_mean": "no digit was asked for"}
    assert "label_accuracy_mean" not in found["on"].entries
    for name, entry in found["on"].entries.items():
        assert entry.summary() == found["beyond"].entries[name].summary(), name
        assert entry.n == (200 if name == "label_accuracy_real" else 300)


def test_without_other_real_images_there_is_no_control(mnist):
    train, real, real_label, _ = mnist
    rows = {"mean": train[1000:1300], "sample": train[2000:2300]}
    found = {}
    for name, other in (("with", train[:300]), ("without", None)):
        torch.manual_seed(1)
        found[name] = quality(
            rows,
            real[:300],
            other,
            train=train[:1000],
            digits=True,
            real_label=real_label[:300],
            wanted_label=no_label(rows["mean"]),
            bootstrap=3,
        )
    assert set(found["with"].entries) == ALL_ENTRIES
    control = {name for name in ALL_ENTRIES if name.endswith("_control")}
    without = found["without"]
    assert set(without.entries) == ALL_ENTRIES - control
    assert without.absent == dict.fromkeys(control, module.NO_CONTROL)
    assert not any("control" in name for name in without.arrays)
    for name in ("precision_mean", "recall_sample", "label_accuracy_real"):
        assert without.entries[name].summary() == found["with"].entries[name].summary(), name


@pytest.mark.parametrize("control", [True, False])
def test_images_that_are_not_digits_have_bins_only(control):
    """Of any size; the classifier is not asked."""
    torch.manual_seed(1)
    x = torch.rand(5, 300, 9)
    found = quality(
        {"mean": x[0], "sample": x[1] ** 3},
        x[2],
        x[3] if control else None,
        train=x[4],
        digits=False,
        real_label=no_label(x[2]),
        wanted_label=no_label(x[0]),
        bootstrap=20,
    )
    rows = ROWS if control else ROWS[:2]
    assert set(found.entries) == {f"{m}_{row}" for m in ("ndb", "js_divergence") for row in rows}
    assert set(found.entries) | set(found.absent) == ALL_ENTRIES
    assert not set(found.entries) & set(found.absent)
    assert (
        found.absent["digit_fid_mean"] == found.absent["label_accuracy_real"] == module.NOT_DIGITS
    )
    assert found.entries["ndb_sample"].value > found.entries["ndb_mean"].value + 0.3
    assert set(found.arrays) == {
        *("ndb_centres", "ndb_share_train"),
        *(f"ndb_share_{row}" for row in rows),
    }


@pytest.mark.parametrize("short", ["generated", "real", "other", "train"])
def test_few_images_are_absent_not_wrong(short):
    sets = {
        name: torch.rand(99 if name == short else 100, 784)
        for name in ("generated", "real", "other", "train")
    }
    found = quality(
        {"mean": sets["generated"], "sample": sets["generated"]},
        sets["real"],
        sets["other"],
        train=sets["train"],
        digits=True,
        real_label=no_label(sets["real"]),
        bootstrap=2,
    )
    assert found.entries == {}
    assert found.absent == dict.fromkeys(ALL_ENTRIES, "it needs 100 images of every set")


def test_no_generator_but_torchs_and_no_gradients(mnist):
    train, real, real_label, _ = mnist
    values = []
    for seed in (1, 2):
        torch.manual_seed(3)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        x = train[1000:1200].clone().requires_grad_()
        found = quality(
            {"mean": x},
            real[:200],
            train[:200],
            train=train[:400],
            digits=True,
            real_label=real_label[:200],
            bootstrap=3,
        )
        values.append({name: entry.summary() for name, entry in found.entries.items()})
    assert values[0] == values[1]
    assert not any(math.isnan(entry["value"]) for entry in values[0].values())
