"""Distances between the features of two sets of images: Frechet and kernel distance.

Letters in shapes: n and m images of the two sets, F features. All sums are in float64.
"""

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.digit_classifier import WHOSE
from vaexp.evaluation.measure import Estimate, bootstrapped
from vaexp.evaluation.statistics import RESAMPLES, resample, standard_error

ROWS_PER_BLOCK = 250  # as many images as the processor caches can hold
KERNEL_BLOCKS = 20  # independent estimates of the kernel distance


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (F,) and covariance (F, F) of features (n, F), with the divisor n - 1."""
    features = features.double()
    return features.mean(0), features.T.cov()


def resampled_moments(features: Tensor, draws: int) -> list[tuple[Tensor, Tensor]]:
    """The ``moments`` of ``draws`` bootstrap samples of features (n, F).

    One matrix product gives sum_i w_i f_i f_i' of all samples at once, where w_i is the number of
    times that image i occurs in a sample.
    """
    n, features = len(features), features.double()
    centre = features.mean(0)
    features = features - centre  # so that no digits are lost to cancellation
    counts = torch.stack([resample(n) for _ in range(draws)])
    squares = features.new_zeros(draws, features.shape[1] ** 2)
    for w, f in blocks(counts.T, features, rows=ROWS_PER_BLOCK):
        squares.addmm_(w.T, (f[:, :, None] * f[:, None, :]).flatten(1))
    samples = []
    for mean, square in zip(counts @ features / n, squares, strict=True):
        cov = (square.view(len(mean), -1) - n * mean.outer(mean)) / (n - 1)
        samples.append((mean + centre, cov))
    return samples


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The squared Frechet (Wasserstein-2) distance between two Gaussians.

    Means (F,), covariances (F, F). The distance is
    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017,
    eq. 6). The trace of the root is the sum of the roots of the eigenvalues of the symmetric
    S_a^(1/2) S_b S_a^(1/2), which has the eigenvalues of S_a S_b.
    """
    mean_a, cov_a, mean_b, cov_b = (t.double() for t in (mean_a, cov_a, mean_b, cov_b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return max(distance.item(), 0.0)


def digit_fid(features: Tensor, real: Tensor) -> Estimate:
    """The ``frechet_distance`` of Gaussians with the moments of features (n, F) and real (m, F).

    The bootstrap resamples both sets.
    """
    value = frechet_distance(*moments(features), *moments(real))
    pairs = zip(*(resampled_moments(f, RESAMPLES) for f in (features, real)), strict=True)
    replicates = [frechet_distance(*a, *b) for a, b in pairs]
    facts = {**WHOSE, "against": len(real)}
    n = len(features)
    return bootstrapped(value, replicates, "", n, facts, kind="estimate", squared_distance=True)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """An unbiased estimate of the squared maximum mean discrepancy of features (n, F) and (m, F).

    The kernel is k(x, y) = (x.y / F + 1)^3. The estimate is the mean of k over pairs within a, plus
    the mean within b, minus twice the mean over pairs of one from a and one from b. No image is
    paired with itself (Gretton et al. 2012, eq. 3; Binkowski et al. 2018, section 3). The estimate
    may be negative. n, m >= 2.
    """
    a, b = a.double(), b.double()

    def within(x: Tensor) -> Tensor:
        k = cubic_kernel(x, x)
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))

    return (within(a) + within(b) - 2 * cubic_kernel(a, b).mean()).item()


def cubic_kernel(a: Tensor, b: Tensor) -> Tensor:
    """The kernel (x.y / F + 1)^3 of features (n, F) and (m, F), (n, m)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def kernel_distance_in_blocks(a: Tensor, b: Tensor, count: int) -> tuple[float, float | None]:
    """The mean and standard error of ``kernel_distance`` over ``count`` pairs of random blocks.

    No two blocks share an image, so their estimates are independent, apart from the random choice
    of which images go where.
    """
    parts_a = a[torch.randperm(len(a))].tensor_split(count)
    parts_b = b[torch.randperm(len(b))].tensor_split(count)
    distances = [kernel_distance(*pair) for pair in zip(parts_a, parts_b, strict=True)]
    values = torch.tensor(distances, dtype=torch.float64)
    return values.mean().item(), standard_error(values)


def digit_kid(features: Tensor, real: Tensor) -> Estimate:
    """The ``kernel_distance_in_blocks`` between features (n, F) and real (m, F)."""
    value, se = kernel_distance_in_blocks(features, real, KERNEL_BLOCKS)
    facts = {**WHOSE, "against": len(real), "blocks": KERNEL_BLOCKS}
    return Estimate(value, "", len(features), se, facts=facts, kind="estimate")
