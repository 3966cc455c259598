"""Count, mean and scatter of images, against numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vaexp.models.moments import Moments


def images(n: int = 200, d: int = 11, shift: float = 0.0) -> Tensor:
    torch.manual_seed(0)
    mixing = torch.randn(d, d, dtype=torch.float64)
    return torch.randn(n, d, dtype=torch.float64) @ mixing + shift


def check(found: Moments, x: Tensor, rtol: float = 1e-12) -> None:
    numbers = x.double().numpy()
    assert found.count == len(x)
    np.testing.assert_allclose(found.mean, numbers.mean(0), rtol=1e-12, atol=1e-12)
    scatter = np.cov(numbers.T, ddof=0).reshape(found.scatter.shape) * len(x)
    # the rounding of an entry is that of its pixels' variances
    np.testing.assert_allclose(found.scatter, scatter, rtol=0, atol=rtol * scatter.max())
    np.testing.assert_allclose(
        found.covariance, scatter / len(x), rtol=0, atol=rtol * scatter.max() / len(x)
    )
    assert torch.equal(found.scatter, found.scatter.T)


@pytest.mark.parametrize("shift", [0.0, 1e3, 1e6])
def test_moments_are_numpys(shift):
    check(Moments.of(images(shift=shift)), images(shift=shift), 1e-9 if shift > 1e3 else 1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 64])
def test_any_number_of_pixels(d):
    check(Moments.of(images(d=d)), images(d=d))


def test_more_images_than_a_block():
    check(Moments.of(images(9001)), images(9001))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_precision_is_summed_in_float64(dtype):
    """0.1 is not exact in float32: a sum of 100,000 of them in float32 is off by 1e-4 or more."""
    x = images(5000, 3).to(dtype)
    x[:, 1] = 0.1
    found = Moments.of(x)
    assert found.mean.dtype == found.scatter.dtype == torch.float64
    assert found.mean[1].item() == pytest.approx(x[0, 1].item(), rel=1e-14)
    assert found.scatter[1, 1] < 1e-20 * 5000
    check(found, x)


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("n", [1, 50, 199])
def test_moments_add_up(n, shift):
    x = images(shift=shift)
    x[n:] += 5  # the means of the two parts differ
    check(Moments.of(x[:n]) + Moments.of(x[n:]), x)
    first, *others = map(Moments.of, x.split(n))
    check(sum(others, start=first), x)


def test_the_scatter_about_another_centre():
    x, centre = images(shift=3), torch.linspace(-2, 7, 11)
    found = Moments.of(x).scatter_about(centre)
    expected = (x - centre).T @ (x - centre)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-9)
    about_mean = Moments.of(x).scatter_about(Moments.of(x).mean)
    assert torch.equal(about_mean, Moments.of(x).scatter)
