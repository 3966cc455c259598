"""Precision, recall, density and coverage: whose features lie near whose.

The neighbourhood of an image is the ball around its features that reaches to its k-th nearest other
image of the same set. Letters in shapes: n drawn images, N real ones, F features, G groups of real
images, H groups of drawn ones.

scikit-learn has no test whether points lie in balls of different radii that is as fast: its k-d
tree needs 2.2 s for one of the three tests with 10,000 x 64 features on each side, where
``neighbours`` does all three in 1.0 s. It finds the radii in 0.5 s, as ``neighbour_radii`` does.
Ours are used, as they are rounded in the same way as the distances that they are compared with.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.digit_classifier import WHOSE
from vaexp.evaluation.measure import Estimate
from vaexp.evaluation.statistics import joint_standard_error

ROWS_PER_BLOCK = 250  # of the N x N distances: what the processor caches hold is fastest
GROUPS = 20  # or nearly as many, where groups of ROWS_PER_BLOCK would be fewer
MANIFOLD_K = 3
DENSITY_K = 5


class Neighbours(NamedTuple):
    """Which drawn images and which real ones lie within each other's neighbourhoods.

    Membership is stored for each group of images of the other set: how much a number depends on a
    single group shows how uncertain it is.
    """

    precision: Tensor
    """(n, G) bool: the draw is in the neighbourhood of a real image of the group."""
    recall: Tensor
    """(N, H) bool: the real image is in the neighbourhood of a draw of the group."""
    density: Tensor
    """(n,) float64: the number of neighbourhoods of real images that the draw is in, over k."""
    density_of_real: Tensor
    """(N,) float64: the number of draws in the real image's neighbourhood, over k n / N."""
    coverage: Tensor
    """(N, H) bool: a draw of the group is in the real image's neighbourhood."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """The squared distances of features (n, F) and (m, F), (n, m): |a|^2 - 2 a.b + |b|^2.

    In float32, distances below about 1e-3 of the features' length are rounding errors.
    """
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(lengths, a, b.T, alpha=-2).clamp(min=0)


def neighbour_radii(features: Tensor, ks: tuple[int, ...]) -> Tensor:
    """Squared distance from each image (n, F) to its k-th nearest other one, (len(ks), n)."""
    columns = torch.tensor(ks) - 1
    size = group_size(len(features))  # as in ``neighbours``, so that distances round alike
    radii = []
    for start in range(0, len(features), size):
        block = features[start : start + size]
        distances = squared_distances(block, features)
        rows = torch.arange(len(block))
        distances[rows, start + rows] = torch.inf  # an image is no neighbour of itself
        radii.append(distances.topk(max(ks), largest=False).values[:, columns])
    return torch.cat(radii).T


def neighbours(
    generated: Tensor,
    real: Tensor,
    generated_radius: Tensor,
    real_radius: Tensor,
    density_radius: Tensor,
    density_k: int = DENSITY_K,
) -> Neighbours:
    """Which features (n, F) and (N, F) lie in the neighbourhoods of the other set.

    The squared radii come from ``neighbour_radii``: (n,) and (N,) for precision and recall
    (Kynkaanniemi et al. 2019, eqs. 1 and 2), and (N,) with density_k for density and coverage
    (Naeem et al. 2020, section 3). A point on the edge of a neighbourhood is in it. Groups have
    ``group_size`` images.
    """
    precision, recall, per_real, coverage = [], [], [], []
    per_draw = torch.zeros(len(generated), dtype=torch.int64)
    size, size_drawn = group_size(len(real)), group_size(len(generated))
    for x, radius, wide in blocks(real, real_radius, density_radius, rows=size):
        distances = squared_distances(x, generated)
        precision.append((distances <= radius[:, None]).any(0))
        recall.append(_by_group(distances <= generated_radius, size_drawn))
        within = distances <= wide[:, None]
        per_draw += within.sum(0)
        per_real.append(within.sum(1))
        coverage.append(_by_group(within, size_drawn))
    return Neighbours(
        torch.stack(precision, 1),
        torch.cat(recall),
        per_draw.double() / density_k,
        torch.cat(per_real).double() * (len(real) / len(generated) / density_k),
        torch.cat(coverage),
    )


def group_size(images: int) -> int:
    """The number of images in a group: at most ROWS_PER_BLOCK, so that there are about GROUPS."""
    return min(ROWS_PER_BLOCK, math.ceil(images / GROUPS))


def _by_group(within: Tensor, size: int) -> Tensor:
    """Whether any of each group of ``size`` columns of (N, n) bool is true, (N, H)."""
    missing = -within.shape[1] % size
    return pad(within, (0, missing)).unflatten(1, (-1, size)).any(2)


def share_in_any(within: Tensor) -> tuple[float, float]:
    """The share of images that are within any of G groups, (m, G) bool, and its standard error.

    The variance has two parts. The first is that of a mean of m images while the groups stay as
    they are. The second is the jackknife's over groups, (G - 1) / G sum_g (d_g - d)^2: d_g is the
    share of images that are within group g alone, which would be lost without that group, and d is
    the mean of the d_g. The m images themselves add to that sum even if all groups are alike; this
    is subtracted. Both parts hold the radii fixed, although a neighbourhood that is wide in this
    set would not be in most others: the error is up to twice too large.
    """
    m, groups = within.shape
    inside = within.any(1).double()
    alone = (within & (within.sum(1) == 1)[:, None]).double().mean(0)
    total = alone.sum()
    noise = (total - alone.square().sum() - total * (1 - total) / groups) / m
    lost = ((alone - alone.mean()).square().sum() - noise).clamp(min=0) * (groups - 1) / groups
    return inside.mean().item(), (inside.var() / m + lost).sqrt().item()


def neighbour_entries(features: Tensor, real: Tensor, radii: Tensor) -> dict[str, Estimate]:
    """``precision``, ``recall``, ``density`` and ``coverage_real`` of features (n, F).

    radii: ``neighbour_radii`` of real (N, F), for MANIFOLD_K and DENSITY_K.
    """
    (own,) = neighbour_radii(features, (MANIFOLD_K,))
    found = neighbours(features, real, own, *radii)
    density = found.density.mean().item()
    se = joint_standard_error(found.density, found.density_of_real)
    # the largest share of draws that is in the neighbourhood of one and the same real image
    fullest = found.density_of_real.max().item() * DENSITY_K / len(real)

    def entry(value: float, se: float, k: int, unit: str = "share", **more: float) -> Estimate:
        facts = {
            "kind": "estimate",
            "k": k,
            **WHOSE,
            "against": len(real),
            "se_of": "both sets, the radii held fixed",
            **more,
        }
        return Estimate(value, unit, len(features), se, facts=facts)

    return {
        "precision": entry(*share_in_any(found.precision), MANIFOLD_K),
        "recall": entry(*share_in_any(found.recall), MANIFOLD_K),
        "density": entry(density, se, DENSITY_K, "", fullest=fullest),
        "coverage_real": entry(*share_in_any(found.coverage), DENSITY_K),
    }
