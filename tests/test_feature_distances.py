"""Distances between features against scipy, naive loops and repetitions."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from small_models import gaussian_noise as draw
from torch import Tensor

from vaexp.evaluation import feature_distances as module
from vaexp.evaluation.feature_distances import (
    cubic_kernel,
    digit_fid,
    frechet_distance,
    kernel_distance,
    kernel_distance_in_blocks,
    moments,
    resampled_moments,
)
from vaexp.evaluation.statistics import resample

F = 5


def covariance(seed: int, size: int = F) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


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


def test_fid_interval_and_bias_are_those_of_repetitions(monkeypatch):
    """Two Gaussians of known moments, 200 pairs of samples: se is the spread, value - bias is near
    the distance of the Gaussians, and the interval holds the mean at this n."""
    monkeypatch.setattr(module, "RESAMPLES", 40)
    n, shift = 150, 0.3
    values, ses, biases, holds = [], [], [], []
    for seed in range(200):
        entry = digit_fid(draw(n, seed), draw(n, seed + 1000, shift))
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
