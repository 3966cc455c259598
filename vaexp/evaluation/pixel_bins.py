"""How many regions of pixel space hold too many or too few images of a set.

Letters in shapes: K bins, D pixels, n images of the set, N training images.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import ndtr

from vaexp.evaluation.measure import Estimate, bootstrapped
from vaexp.evaluation.statistics import RESAMPLES, entropy
from vaexp.fitting.kmeans import lloyd, nearest_centre, seed_centres
from vaexp.seeding import HELD_OUT_SEED, seeded

BINS = 100
IMAGES_PER_BIN = 20  # training images for each bin, at least: with few of them there are fewer bins
CLUSTERED = 10_000  # the training images that k-means gets
LLOYD_ITERATIONS = 30
Z_95 = 1.959964  # the 97.5 % quantile of the normal distribution


class Bins(NamedTuple):
    """Regions of pixel space: each bin is the set of points nearest to one of K centres."""

    centres: Tensor
    """(K, D)"""
    share: Tensor
    """The share of the training images that lie in each bin, (K,) float64."""
    n: int
    """The number of training images."""

    def counts(self, x: Tensor) -> Tensor:
        """How many of the images x (n, D) lie in each bin, (K,) int64."""
        return nearest_centre(x, self.centres).bincount(minlength=len(self.centres))


def make_bins(train: Tensor) -> Bins:
    """BINS bins of training images (N, D), by k-means on CLUSTERED of them.

    The shares are those of all N images. k-means stops after at most LLOYD_ITERATIONS iterations,
    as the bins only need to lie where images are. If there are fewer than IMAGES_PER_BIN training
    images for each bin, there is one bin for every IMAGES_PER_BIN of them.

    The bins depend on the training images alone, whatever was drawn before. With other bins the
    same set of images has another score, by as much as models differ.
    """
    count = min(BINS, len(train) // IMAGES_PER_BIN)
    with seeded(HELD_OUT_SEED, "bins of pixel space"):
        some = train[torch.randperm(len(train))[:CLUSTERED]].float()
        centres = lloyd(some, seed_centres(some, count), LLOYD_ITERATIONS)
    share = nearest_centre(train.float(), centres).bincount(minlength=count).double() / len(train)
    return Bins(centres, share, len(train))


def proportions_differ(counts_a: Tensor, counts_b: Tensor) -> Tensor:
    """Whether the shares of each bin in two sets differ at the 5 % level, (K,) bool.

    counts_a and counts_b (K,) are the numbers of images in each bin. This is the two-sample z-test:
    |p - q| > 1.96 sqrt(r (1 - r) (1 / n_a + 1 / n_b)), where p and q are the shares of the bin in
    the two sets, and r is its share in both together (Richardson and Weiss 2018, section 2). Two
    samples of one distribution differ in 5 % of the bins.
    """
    return _statistic(counts_a, counts_b).abs() > Z_95


def chance_to_differ(counts_a: Tensor, counts_b: Tensor) -> Tensor:
    """The chance that each bin differs for another set of as many images as the first, (K,).

    The arguments are those of ``proportions_differ``. The second set stays the same. The statistic
    of the test is then normal with about the mean that it has here, and with the variance
    n_b / (n_a + n_b), as the share of the first set alone varies.
    """
    found = _statistic(counts_a, counts_b)
    n_a, n_b = counts_a.double().sum(), counts_b.double().sum()
    spread = (n_b / (n_a + n_b)).sqrt()
    return ndtr((found - Z_95) / spread) + ndtr((-found - Z_95) / spread)


def _statistic(counts_a: Tensor, counts_b: Tensor) -> Tensor:
    """(p - q) / sqrt(r (1 - r) (1 / n_a + 1 / n_b)) of ``proportions_differ``, (K,)."""
    counts_a, counts_b = counts_a.double(), counts_b.double()
    n_a, n_b = counts_a.sum(), counts_b.sum()
    pooled = (counts_a + counts_b) / (n_a + n_b)
    error = (pooled * (1 - pooled) * (1 / n_a + 1 / n_b)).sqrt()
    difference = counts_a / n_a - counts_b / n_b
    return torch.where(error > 0, difference / error, 0)  # no image of either set: no difference


def js_divergence(p: Tensor, q: Tensor) -> float:
    """The Jensen-Shannon divergence of two vectors of shares (K,), in nats, from 0 to ln 2.

    It is H((p + q) / 2) - (H(p) + H(q)) / 2 (Lin 1991, with equal weights).
    """
    return (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).item()


def resampled_shares(share: Tensor, n: int) -> Tensor:
    """The shares (K,) of n images that are drawn with the probabilities ``share`` (K,).

    This is a bootstrap sample of counts. The draws come from torch's global generator.
    """
    drawn = torch.searchsorted(share.cumsum(0), torch.rand(n, dtype=share.dtype), right=True)
    return drawn.clamp(max=len(share) - 1).bincount(minlength=len(share)).double() / n


def bin_entries(counts: Tensor, bins: Bins) -> dict[str, Estimate]:
    """``ndb`` and ``js_divergence`` of a set of images; counts (K,) are its numbers in the bins.

    The errors are over other sets of as many images. The bins and the training images in them are
    the same for all sets. The bootstrap resamples the set.
    """
    n, k = int(counts.sum()), len(bins.share)
    share, expected = counts.double() / n, bins.share * bins.n
    replicates = [js_divergence(resampled_shares(share, n), bins.share) for _ in range(RESAMPLES)]
    facts = {"bins": k, "against": bins.n, "se_of": "images, the bins held fixed"}
    divergence = js_divergence(share, bins.share)
    differ = proportions_differ(counts, expected).double().mean().item()
    again = chance_to_differ(counts, expected)
    se = (again * (1 - again)).sum().sqrt().item() / k
    return {
        "ndb": Estimate(differ, "share", n, se, facts={**facts, "level": 0.05}, kind="estimate"),
        "js_divergence": bootstrapped(divergence, replicates, "nats", n, facts, kind="estimate"),
    }
