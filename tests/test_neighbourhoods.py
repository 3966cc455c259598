"""Precision, recall, density and coverage against naive loops, scipy and planted failures."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from small_models import gaussian_noise as draw
from torch import Tensor

from vaexp.evaluation import neighbourhoods as module
from vaexp.evaluation.neighbourhoods import (
    group_size,
    neighbour_entries,
    neighbour_radii,
    neighbours,
    share_in_any,
    squared_distances,
)

F = 5


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
    entries = neighbour_entries(generated, real, neighbour_radii(real, (3, 5)))
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
        entries = neighbour_entries(generated, real, neighbour_radii(real, (3, 5)))
        for name, entry in entries.items():
            values.setdefault(name, []).append(entry.value)
            ses.setdefault(name, []).append(entry.se)
    for name in values:
        ratio = math.sqrt(np.mean(np.square(ses[name]))) / np.std(values[name], ddof=1)
        assert 0.8 < ratio < 2, (name, ratio)
