"""Bins of pixel space against closed forms, scipy and planted bins."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch.special import ndtr

from vaexp.evaluation.pixel_bins import (
    Z_95,
    Bins,
    bin_entries,
    js_divergence,
    make_bins,
    proportions_differ,
    resampled_shares,
)


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
        proportions_differ(*(resampled_shares(share, n) * n for n in (3000, 9000))).double()
        for _ in range(200)
    ]
    assert torch.stack(found).mean().item() == pytest.approx(0.05, abs=0.006)


def test_ndb_finds_planted_bins():
    """Of 50 bins ten are drawn three times too often or not at all."""
    share = torch.full((50,), 1 / 50).double()
    drawn = share.clone()
    drawn[:5], drawn[5:10] = 2 / 50, 0
    bins = Bins(torch.zeros(50, 3), share, 50_000)
    entries = bin_entries((drawn * 10_000).round().int(), bins)
    assert entries["ndb"].value == 0.2
    # five bins of each kind differ in every set of 10,000 images; in the others the statistic is 0
    again = 2 * ndtr(torch.tensor(-Z_95 * math.sqrt(60 / 50))).item()
    assert entries["ndb"].se == pytest.approx(math.sqrt(40 * again * (1 - again)) / 50, rel=1e-3)
    assert entries["js_divergence"].value == pytest.approx(js_divergence(drawn, share))
    low, high = entries["js_divergence"].interval
    assert low < entries["js_divergence"].value < high


def test_errors_are_the_spread_over_sets():
    """300 sets in the same bins give the spread to 4 %; some bins hold too many, some too few."""
    torch.manual_seed(5)
    share = torch.full((50,), 1 / 50).double()
    drawn = share * torch.linspace(0.2, 1.8, 50)
    bins = Bins(torch.zeros(50, 3), share, 20_000)
    sets = [(resampled_shares(drawn, 1_000) * 1_000).round().int() for _ in range(300)]
    for name in ("ndb", "js_divergence"):
        found = [bin_entries(one, bins)[name] for one in sets]
        stated = torch.tensor([one.se for one in found]).square().mean().sqrt().item()
        spread = torch.tensor([one.value for one in found]).std().item()
        assert spread == pytest.approx(stated, rel=0.2), name


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


def test_multinomial_has_the_shares_it_was_given():
    torch.manual_seed(1)
    share = torch.tensor([0.1, 0.0, 0.6, 0.3]).double()
    found = torch.stack([resampled_shares(share, 1000) for _ in range(300)])
    assert found[:, 1].sum() == 0
    assert torch.allclose(found.mean(0), share, atol=0.003)
    variance = share * (1 - share) / 1000
    assert torch.allclose(found.var(0), variance, rtol=0.3)


def test_bins_depend_on_the_images_alone():
    """Not on what was drawn before, and what is drawn after does not depend on them."""
    torch.manual_seed(1)
    train = torch.rand(3_000, 6)
    found, after = [], []
    for seed in (2, 3):
        torch.manual_seed(seed)
        found.append(make_bins(train))
        after.append(torch.rand(3))
    assert torch.equal(found[0].centres, found[1].centres)
    assert torch.equal(found[0].share, found[1].share)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(3), after[1])
