"""Standard errors and the bootstrap against closed forms; blocks against the whole."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Measure, average, bootstrapped
from vaexp.evaluation.statistics import (
    bootstrap,
    bootstrap_of_distance,
    entropy,
    joint_standard_error,
    median,
    resample,
    root_standard_error,
    standard_error,
    tail_standard_error,
)


def test_the_standard_error_of_a_mean():
    """The deviation of 1, 2, 3, 4 is sqrt(5 / 3)."""
    assert standard_error(torch.tensor([1.0, 2.0, 3.0, 4.0])) == pytest.approx(math.sqrt(5 / 12))
    assert standard_error(torch.tensor([True, False])) == pytest.approx(0.5)
    assert standard_error(torch.tensor([3.0])) is None
    assert standard_error(torch.tensor([])) is None


def test_the_joint_standard_error_is_the_spread_of_differences():
    torch.manual_seed(1)
    a, b = torch.randn(2000, 30).double(), 3 * torch.randn(2000, 50).double()
    spread = (a.mean(1) - b.mean(1)).std().item()
    assert joint_standard_error(a.flatten(), b.flatten()) == pytest.approx(
        math.hypot(standard_error(a.flatten()), standard_error(b.flatten()))
    )
    found = [joint_standard_error(*pair) for pair in zip(a, b, strict=True)]
    assert np.mean(found) == pytest.approx(spread, rel=0.05)


def test_the_error_of_a_root_is_the_delta_methods_where_no_square_is_large():
    squares = torch.from_numpy(np.random.default_rng(1).chisquare(3, 4000))
    delta = standard_error(squares) / (2 * squares.mean().sqrt().item())
    assert root_standard_error(squares) == pytest.approx(delta, rel=1e-3)
    assert root_standard_error(squares[:1]) is None
    assert root_standard_error(torch.zeros(9)) == 0
    # by hand: the roots without 1 and without 7 are sqrt(7) and 1
    expected = (math.sqrt(7) - 1) / 2
    assert root_standard_error(torch.tensor([1.0, 7.0])) == pytest.approx(expected)


def test_the_error_of_a_root_is_its_spread_where_a_few_squares_make_the_mean():
    """About 7 of 1,000 squares are not 0, and these vary; the delta method gives 1 / 1.28 of it."""
    rng = np.random.default_rng(2)
    roots, stated, delta = [], [], []
    for _ in range(2000):
        squares = torch.zeros(1000, dtype=torch.float64)
        many = max(1, rng.binomial(1000, 0.007))
        squares[:many] = torch.from_numpy(rng.exponential(1, many) ** 2)
        roots.append(squares.mean().sqrt().item())
        stated.append(root_standard_error(squares))
        delta.append(standard_error(squares) / (2 * roots[-1]))
    spread = np.std(roots, ddof=1)
    assert np.sqrt(np.mean(np.square(stated))) == pytest.approx(spread, rel=0.08)
    assert np.sqrt(np.mean(np.square(delta))) < 0.85 * spread


def test_the_error_of_a_tail_is_the_spread_over_sets():
    """600 sets of 250 values give the spread to 3 %; the error of a mean alone is a third less."""
    generator = torch.Generator().manual_seed(3)
    found, stated, alone = [], [], []
    for _ in range(600):
        order = torch.rand(250, generator=generator, dtype=torch.float64)
        values = 10 * order + 0.3 * torch.randn(250, generator=generator, dtype=torch.float64)
        tail = values[order.argsort()[:25]]
        error = tail_standard_error(tail, 250)
        assert error is not None
        found.append(tail.mean().item())
        stated.append(error)
        alone.append(standard_error(tail))
    spread, error = np.std(found, ddof=1), math.sqrt(np.mean(np.square(stated)))
    assert spread == pytest.approx(error, rel=0.1)
    assert math.sqrt(np.mean(np.square(alone))) < 0.75 * spread
    assert tail_standard_error(torch.ones(1), 10) is None


def test_an_average_says_what_a_measure_says():
    values = torch.tensor([1.0, 4.0, 7.0], dtype=torch.float64)
    found = average(values, "nats", {"draws": 1}).summary()
    summary = Measure(values, "nats").summary()
    for key in ("value", "se", "n", "unit"):
        assert found[key] == summary[key]
    assert found["draws"] == 1
    assert average(values[:1], "nats").se is None


def test_the_median_of_an_even_number_lies_in_the_middle():
    assert median(torch.tensor([5.0, 1.0, 2.0, 100.0])) == 3.5
    assert median(torch.tensor([5.0, 1.0, 2.0])) == 2


def test_entropy_in_closed_form():
    p = torch.tensor([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]]).double()
    assert entropy(p).tolist() == pytest.approx([math.log(4), 0, math.log(2)])


def test_the_bootstrap_of_normal_replicates():
    """Quantiles of N(value + 2, 0.5^2): the interval is about the value, and the bias is 2."""
    levels = (np.arange(1000) + 0.5) / 1000
    replicates = [NormalDist(12, 0.5).inv_cdf(level) for level in levels]
    found = bootstrap(10.0, replicates)
    assert found.bias == pytest.approx(2)
    assert found.se == pytest.approx(0.5, rel=0.01)
    assert found.interval == pytest.approx((10 - 0.98, 10 + 0.98), abs=0.005)
    entry = bootstrapped(10.0, replicates, "nats", 70, {"against": 9})
    assert entry.summary()["interval"] == list(found.interval)
    assert entry.facts == {"bias": found.bias, "bootstrap": 1000, "against": 9}


@pytest.mark.parametrize("shift", [0, 0.1, 0.5])
def test_the_error_of_a_squared_distance_is_its_spread(shift: float) -> None:
    """Of means of 100 points in 30 dimensions, from 0; the bootstrap alone is 1.7 times too large
    where they are 0."""
    generator = torch.Generator().manual_seed(2)
    found, stated = [], []
    for _ in range(200):
        x = torch.randn(100, 30, generator=generator, dtype=torch.float64) + shift
        chosen = torch.randint(100, (60, 100), generator=generator)
        replicates = x[chosen].mean(1).square().sum(1).tolist()
        found.append(x.mean(0).square().sum().item())
        stated.append(bootstrap_of_distance(found[-1], replicates).se)
    assert np.std(found, ddof=1) == pytest.approx(math.sqrt(np.mean(np.square(stated))), rel=0.25)


def test_resamples_have_all_sizes():
    torch.manual_seed(1)
    counts = torch.stack([resample(50) for _ in range(2000)])
    assert (counts.sum(1) == 50).all()
    assert counts.mean().item() == 1
    assert counts.var().item() == pytest.approx(1 - 1 / 50, rel=0.03)


def test_blocks_are_aligned_and_leave_nothing_out():
    x, label = torch.arange(14).view(7, 2), torch.arange(7)
    parts = list(blocks(x, label, rows=3))
    assert [len(xs) for xs, _ in parts] == [3, 3, 1]
    assert all(torch.equal(xs[:, 0], 2 * labels) for xs, labels in parts)
    assert torch.equal(torch.cat([xs for xs, _ in parts]), x)
    ((empty,),) = blocks(x[:0])
    assert empty.shape == (0, 2)
    with pytest.raises(ValueError, match="shorter"):
        list(blocks(x, label[:3], rows=3))
