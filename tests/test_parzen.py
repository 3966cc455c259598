"""The Parzen window against scikit-learn and scipy, and the trap that it is on real images."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity
from torch import Tensor

from vaexp.data import bundled
from vaexp.evaluation.parzen import (
    ROWS,
    best_bandwidth,
    centroids,
    parzen,
    parzen_log_prob,
    squared_distances,
)
from vaexp.runs.folder import RunFolder


def noise(n: int, dim: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, dim)


@pytest.mark.parametrize("bandwidth", [0.05, 0.3, 2.0])
def test_the_density_is_that_of_scikit_learn(bandwidth: float) -> None:
    x, kernels = noise(2 * ROWS + 7, 12, 1), noise(301, 12, 2)
    # a single leaf: the bounds of a tree lose small densities to rounding, up to 2,400 nats here
    known = KernelDensity(bandwidth=bandwidth, leaf_size=len(kernels)).fit(kernels.numpy())
    found = parzen_log_prob(x, kernels, bandwidth)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, known.score_samples(x.numpy()), rtol=1e-9, atol=1e-8)


def test_the_density_is_that_of_a_mixture_even_where_float32_would_lose_it() -> None:
    """A thousand bandwidths from the origin, images that lie a bandwidth apart."""
    kernels = 30 + 0.03 * noise(5, 784, 1)
    x = kernels[:2] + 0.03 * noise(2, 784, 2)
    each = [multivariate_normal(one, 0.03**2).logpdf(x.double()) for one in kernels.double()]
    expected = logsumexp(each, axis=0) - math.log(5)
    np.testing.assert_allclose(parzen_log_prob(x, kernels, 0.03), expected, rtol=1e-9)


def test_distances_of_equal_images_are_zero() -> None:
    x = noise(4, 784, 3)
    assert squared_distances(x, x).diagonal().abs().max() < 1e-9


def test_the_bandwidth_is_the_maximum() -> None:
    """One kernel at 0: the best bandwidth is the root of the mean square of all coordinates."""
    x = 0.37 * noise(400, 20, 4)
    best = x.double().square().mean().sqrt().item()
    assert best_bandwidth(x, torch.zeros(1, 20)) == pytest.approx(best, rel=0.01)
    kernels = noise(50, 20, 5)
    x = kernels.repeat(4, 1) + 0.21 * noise(200, 20, 6)
    found = best_bandwidth(x, kernels)
    scores = [
        parzen_log_prob(x, kernels, found * factor).mean().item() for factor in (0.97, 1, 1.03)
    ]
    assert scores[1] == max(scores)


def test_averages_of_real_images_outscore_ten_times_as_many_real_images() -> None:
    """The trap itself (Theis et al. 2016, section 3.2), and what noise costs."""
    source = bundled.read()
    images = source.train.pixels[:13_000].float() / 255
    train, validation, real = images[:10_000], images[10_000:11_000], images[11_000:]
    torch.manual_seed(1)
    sets = {
        "train": train[:2_000],
        "centroids": centroids(train, 200),
        "noisy": train[:2_000] + 0.2 * torch.randn(2_000, 784),
    }
    entries = parzen(real, validation, sets).entries
    value = {name: entry.summary()["value"] for name, entry in entries.items()}
    assert value["parzen_centroids"] > value["parzen_train"] + 30
    assert value["parzen_train"] > value["parzen_noisy"] + 30
    assert entries["parzen_centroids"].facts["kernels"] == 200
    assert 0.1 < entries["parzen_train"].facts["bandwidth"] < 0.3


def test_centroids_do_not_depend_on_what_was_drawn_before() -> None:
    train = noise(300, 5, 1)
    torch.manual_seed(1)
    one = centroids(train, 7)
    torch.manual_seed(2)
    assert torch.equal(one, centroids(train, 7))


def test_a_run_has_a_score_for_each_set_and_a_figure(
    learned: Path, copy_of: Any, invoke: Any
) -> None:
    run = copy_of(learned)
    done = invoke("evaluate", run, "--only", "parzen", "--images", "60", "--json")
    assert done.exit_code == 0, done.stderr
    entries = json.loads(done.stdout)
    assert list(entries) == [f"parzen_{name}" for name in ("train", "centroids", "mean", "sample")]
    kernels = [entry["kernels"] for entry in entries.values()]
    assert kernels == [60, 6, 60, 60]
    assert {entry["look"] for entry in entries.values()} == {"grey"}
    assert len(RunFolder(run).per_example()["parzen_mean"]) == 60
    assert (run / "figures" / "evidence-parzen.png").is_file()
    assert "measure" not in entries["parzen_mean"]  # no likelihood of the model, so never ranked


def test_without_a_validation_split_all_are_absent(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "ppca.yaml").write_text(
        "model: {kind: ppca, latent_dim: 2}\ntrain: {max_iter: 2}\n"
        "data: {limit: 200, validation_size: 0, labels: [4]}\n"
    )
    done = invoke("train", tmp_path / "ppca.yaml", "--runs-dir", tmp_path, "--quick")
    assert done.exit_code == 0, done.stderr
    done = invoke("evaluate", done.stdout.strip(), "--only", "parzen", "--images", "20", "--json")
    assert done.exit_code == 0, done.stderr
    reasons = {entry["absent"] for entry in json.loads(done.stdout).values()}
    assert reasons == {"there is no validation split to choose the bandwidth by"}
