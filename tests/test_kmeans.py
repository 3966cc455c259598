"""k-means++ seeding and Lloyd's iterations."""

import itertools
import math

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from vaexp.fitting.kmeans import lloyd, nearest_centre, seed_centres

DTYPES = [torch.float32, torch.float64]


def images(n: int = 300, d: int = 5, k: int = 4) -> Tensor:
    torch.manual_seed(0)
    centre = 2 * torch.randn(k, d, dtype=torch.float64)
    return centre[torch.arange(n) % k] + torch.randn(n, d, dtype=torch.float64)


def squares(x: Tensor, centres: Tensor) -> Tensor:
    return (x[:, None] - centres).square().sum(2)


def inertia(x: Tensor, centres: Tensor) -> float:
    return squares(x, centres).amin(1).sum().item()


def distinct(x: Tensor) -> int:
    return len(x.unique(dim=0))


def test_the_nearest_centre(monkeypatch):
    x, centres = images(), images()[::30]
    expected = squares(x, centres).argmin(1)
    assert torch.equal(nearest_centre(x, centres), expected)
    monkeypatch.setattr("vaexp.fitting.kmeans.ROWS", 7)
    assert torch.equal(nearest_centre(x, centres), expected)


# Seeding


@pytest.mark.parametrize("dtype", DTYPES)
def test_seeds_are_distinct_images(dtype):
    x = images().to(dtype)
    for seed in range(30):
        torch.manual_seed(seed)
        centres = seed_centres(x, 10)
        assert centres.dtype == dtype
        assert distinct(centres) == 10
        assert all((x == centre).all(1).any() for centre in centres)
    assert distinct(seed_centres(x[:10], 10)) == 10
    assert seed_centres(x, 1).shape == (1, 5)


def test_no_image_is_drawn_twice_where_float32_rounds_its_distance_to_itself():
    x = images(20).float() + 300
    for seed in range(200):
        torch.manual_seed(seed)
        assert distinct(seed_centres(x, 10)) == 10


@pytest.mark.parametrize("dtype", DTYPES)
def test_seeds_are_distinct_among_many_copies(dtype):
    """Six different images, 1,000 times; float32 distances between copies may round to above 0."""
    x = torch.rand(6, 50, generator=torch.Generator().manual_seed(1)).to(dtype).repeat(1000, 1)
    for seed in range(50):
        torch.manual_seed(seed)
        assert distinct(seed_centres(x, 6)) == 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("different", [1, 2, 3])
def test_fewer_different_images_than_seeds(different, dtype):
    x = torch.rand(3, 7, generator=torch.Generator().manual_seed(2)).to(dtype)[:different]
    x = x.repeat(10, 1)
    for seed in range(30):
        torch.manual_seed(seed)
        centres = seed_centres(x, 5)
        assert centres.shape == (5, 7)
        assert centres.isfinite().all()
        assert distinct(centres) == different
        assert lloyd(x, centres).isfinite().all()


def test_a_seed_is_drawn_in_proportion_to_its_squared_distance():
    """Points 0, 1 and 3: after 0 comes 3 nine times of ten, within 4 standard errors."""
    x = torch.tensor([[0.0], [1.0], [3.0]])
    torch.manual_seed(3)
    pairs = torch.stack([seed_centres(x, 2)[:, 0] for _ in range(3000)])
    firsts = [(pairs[:, 0] == value).sum().item() for value in (0, 1, 3)]
    assert all(abs(count - 1000) < 4 * math.sqrt(3000 * 2 / 9) for count in firsts)
    for first, second, share in ((0, 3, 9 / 10), (1, 3, 4 / 5), (3, 0, 9 / 13)):
        chosen = pairs[pairs[:, 0] == first, 1]
        standard = math.sqrt(share * (1 - share) / len(chosen))
        assert abs((chosen == second).double().mean() - share) < 4 * standard


def test_seeds_follow_torchs_generator():
    x = images()
    torch.manual_seed(4)
    first, second = seed_centres(x, 5), seed_centres(x, 5)
    torch.manual_seed(4)
    assert torch.equal(seed_centres(x, 5), first)
    assert not torch.equal(first, second)


# Lloyd


@pytest.mark.parametrize("dtype", DTYPES)
def test_lloyd_arrives_at_a_fixed_point(dtype):
    x = images().to(dtype)
    for seed in range(10):
        torch.manual_seed(seed)
        centres = lloyd(x, seed_centres(x, 4))
        assigned = nearest_centre(x, centres)
        means = torch.stack([x[assigned == k].mean(0) for k in range(4)])
        torch.testing.assert_close(
            centres, means, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6
        )
        assert torch.equal(nearest_centre(x, means), assigned)


def test_inertia_never_rises():
    x = images()
    for seed in range(10):
        torch.manual_seed(seed)
        centres = seed_centres(x, 6)
        values = [inertia(x, lloyd(x, centres, iterations)) for iterations in range(15)]
        assert values[0] == inertia(x, centres)
        assert all(b <= a * (1 + 1e-14) for a, b in itertools.pairwise(values))
        assert values[-1] < values[0]


@pytest.mark.parametrize("seed", range(5))
def test_lloyd_is_scikit_learns(seed):
    x = images()
    torch.manual_seed(seed)
    centres = seed_centres(x, 4)
    theirs = KMeans(4, init=centres.numpy(), n_init=1, algorithm="lloyd", tol=0).fit(x.numpy())
    found = lloyd(x, centres)
    torch.testing.assert_close(found, torch.from_numpy(theirs.cluster_centers_), rtol=1e-10, atol=0)
    assert inertia(x, found) == pytest.approx(theirs.inertia_, rel=1e-10)
    assert nearest_centre(x, found).tolist() == theirs.labels_.tolist()


def test_a_centre_without_images_stays():
    x = images()
    far = torch.full((1, 5), 1e3, dtype=torch.float64)
    centres = torch.cat([x[:2], far, x[5:6]])
    found = lloyd(x, centres)
    assert torch.equal(found[2:3], far)
    torch.testing.assert_close(found[[0, 1, 3]], lloyd(x, centres[[0, 1, 3]]), rtol=1e-12, atol=0)


def test_separated_clusters_are_found():
    torch.manual_seed(5)
    corners = 50 * torch.eye(4, 5, dtype=torch.float64)
    x = corners.repeat(50, 1) + torch.randn(200, 5, dtype=torch.float64)
    for seed in range(20):
        torch.manual_seed(seed)
        found = lloyd(x, seed_centres(x, 4))
        assert squares(corners, found).amin(1).max() < 1
