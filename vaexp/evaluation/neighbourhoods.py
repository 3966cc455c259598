"""Precision, recall, density and coverage of drawn images, from neighbourhoods in feature space.

The neighbourhood of an image is the ball around its features that reaches to the k-th nearest other
image of the same set. Letters in shapes: n drawn images, N real ones, F features, G groups of real
images, H groups of drawn ones.

scikit-learn cannot test as fast whether points lie in balls of different radii. With 10,000 x 64
features on each side its k-d tree needs 2.2 s for one of three such tests, and ``neighbours`` does
all three in 1.0 s. The radii take 0.5 s in scikit-learn and in ``neighbour_radii``. The latter are
used because they are rounded in the same way as the distances that they are compared with.
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

ROWS_PER_BLOCK = 250  # rows of the N x N distances; as many as the processor caches can hold
GROUPS = 20  # about so many groups of images, unless groups of ROWS_PER_BLOCK make more
MANIFOLD_K = 3  # k of the neighbourhoods for precision and recall
DENSITY_K = 5  # k of the neighbourhoods for density and coverage


class Neighbours(NamedTuple):
    """Which drawn images and which real ones lie within each other's neighbourhoods.

    Membership is stored for each group of images of the other set. The uncertainty of a number is
    estimated from how much it depends on single groups.
    """

    precision: Tensor
    """Whether the draw is in the neighbourhood of a real image of the group, (n, G) bool."""
    recall: Tensor
    """Whether the real image is in the neighbourhood of a draw of the group, (N, H) bool."""
    density: Tensor
    """The number of neighbourhoods of real images that the draw is in, over k, (n,) float64."""
    density_of_real: Tensor
    """The number of draws in the real image's neighbourhood, over k n / N, (N,) float64."""
    coverage: Tensor
    """Whether a draw of the group is in the real image's neighbourhood, (N, H) bool."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """The squared distances of features (n, F) and (m, F), (n, m): |a|^2 - 2 a.b + |b|^2.

    In float32, distances below about 1e-3 of the features' length are rounding errors.
    """
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(lengths, a, b.T, alpha=-2).clamp(min=0)


def neighbour_radii(features: Tensor, ks: tuple[int, ...]) -> Tensor:
    """The squared distance of each image to its k-th nearest other one, (len(ks), n).

    features (n, F).
    """
    columns = torch.tensor(ks) - 1
    size = group_size(len(features))  # as in ``neighbours``, so that distances are rounded alike
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
    density_k: int,
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
    """The number of images in a group, at most ROWS_PER_BLOCK. About GROUPS groups result."""
    return min(ROWS_PER_BLOCK, math.ceil(images / GROUPS))


def _by_group(within: Tensor, size: int) -> Tensor:
    """Whether any of the ``size`` columns of each group is true, for (N, n) bool, (N, H) bool."""
    missing = -within.shape[1] % size
    return pad(within, (0, missing)).unflatten(1, (-1, size)).any(2)


def share_in_any(within: Tensor) -> tuple[float, float]:
    """The share of m images that are within any of G groups, and its standard error.

    within (m, G) bool. The variance has two parts. The first is that of a mean of m images for
    fixed groups. The second is the jackknife's variance over groups, (G - 1) / G sum_g (d_g - d)^2.
    Here d_g is the share of images that are within group g alone, which would be lost without that
    group, and d is the mean of the d_g. The m images add to this sum even if all groups are alike;
    that part is subtracted. Both parts hold the radii fixed. A neighbourhood that is wide in this
    set would not be wide in most others, so the error is up to twice too large.
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
    radius, wide = radii
    near = neighbours(features, real, own, radius, wide, DENSITY_K)
    density = near.density.mean().item()
    se = joint_standard_error(near.density, near.density_of_real)
    # the share of draws in the neighbourhood of the real image that has the most
    fullest = near.density_of_real.max().item() * DENSITY_K / len(real)

    def entry(value: float, se: float, k: int, unit: str = "share", **more: float) -> Estimate:
        facts = {
            "k": k,
            **WHOSE,
            "against": len(real),
            "se_of": "both sets, the radii held fixed",
            **more,
        }
        return Estimate(value, unit, len(features), se, facts=facts, kind="estimate")

    return {
        "precision": entry(*share_in_any(near.precision), MANIFOLD_K),
        "recall": entry(*share_in_any(near.recall), MANIFOLD_K),
        "density": entry(density, se, DENSITY_K, "", fullest=fullest),
        "coverage_real": entry(*share_in_any(near.coverage), DENSITY_K),
    }
