"""Two bounds that make most squared Mahalanobis distances of full covariances unnecessary.

In hundreds of dimensions nearly all components have a negligible density at an image. Two lower
bounds on Mahalanobis distances show this for a fraction of the work:

- With V (D, r), V^T Sigma V = I, the distance is at least |V^T (x - mu)|. The columns of V are,
  nearly, the leading generalised eigenvectors of the mixture's total covariance against Sigma, in
  which a random image lies furthest from the component.
- The squared distance is a sum over whitened pixels. The sum ends early where it is too large.

Only pairs of image and component that neither bound puts NEGLIGIBLE nats below the image's best
component are computed to the end.
"""

import math

import torch
from torch import Tensor, nn

from vaexp.models.covariances.responsibilities import NEGLIGIBLE, ROWS
from vaexp.models.covariances.triangles import blocks_of_columns
from vaexp.models.covariances.whitening import starting_basis

DIRECTIONS = 32  # of each component, in which its Mahalanobis distances are bounded


def squared_distances(
    x: Tensor, mean: Tensor, upper: Tensor, directions: Tensor, constant: Tensor
) -> Tensor:
    """|U_k^T (x - mu_k)|^2, (N, K) float64, or inf for pairs that are certainly negligible.

    x (N, D), mean (K, D), ``upper`` U (K, D, D), ``directions`` as for ``mahalanobis_bound``. A
    pair is negligible where ``constant`` (K,) less half of its squared distance, which is
    ln p(x, z), is NEGLIGIBLE nats below that of another component.
    """
    bound = constant - 0.5 * mahalanobis_bound(x, mean, directions)
    squares = torch.full_like(bound, math.inf)

    def compute(pairs: Tensor, least: Tensor) -> None:
        """Fill in the ``pairs`` (N, K) whose ln p(x, z) is above ``least`` (N,)."""
        for k, rows in enumerate(rows_by_component(pairs)):
            for some in rows.split(ROWS):
                most = 2 * (constant[k] - least[some])
                kept, values = _squares_below(x, some, mean[k], upper[k], most)
                squares[kept, k] = values

    best = bound.argmax(1)
    likely = nn.functional.one_hot(best, len(constant)).bool()
    compute(likely, torch.full_like(bound[:, 0], -math.inf))
    reached = constant[best] - 0.5 * squares.gather(1, best[:, None])[:, 0]
    least = reached - NEGLIGIBLE
    compute((bound > least[:, None]) & ~likely, least)
    return squares


def all_squared_distances(x: Tensor, mean: Tensor, upper: Tensor) -> Tensor:
    """|U_k^T (x - mu_k)|^2 of x (N, D), mean (K, D) and ``upper`` U (K, D, D), (N, K) float64.

    In DIRECTIONS dimensions or fewer this takes no longer than the bounds.
    """
    parts = [((some - mean[:, None]) @ upper).double().square().sum(2).T for some in x.split(ROWS)]
    return torch.cat(parts)


def separating_directions(upper: Tensor, mean: Tensor, within: Tensor) -> Tensor:
    """V (K, D, r), V_k^T Sigma_k V_k = I, by subspace iteration on Sigma_k^-1 times the total.

    The total covariance of the mixture is ``within`` (D, D), the mean of the Sigma_k, and the
    covariance of the means (K, D). ``upper`` (K, D, D) are the U of the Sigma_k.
    """
    spread = mean - mean.mean(0)
    total = within + spread.T @ spread / len(spread)
    basis = starting_basis(upper, min(DIRECTIONS, mean.shape[1]))
    for _ in range(3):
        basis = torch.linalg.qr(upper.mT @ (total @ (upper @ basis))).Q
    return upper @ basis


def mahalanobis_bound(x: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """A lower bound on squared Mahalanobis distances |U^T (x - mu)|^2, (N, K) float64.

    x (N, D), mean (K, D), directions V (K, D, r) with V^T Sigma V = I. The bound is
    |V^T (x - mu)|^2, less what rounding may have added: an inner product of D terms is off by at
    most D eps |a||b| (Higham 2002, section 3.1), and r of them are summed.
    """
    centre = mean.mean(0)
    k, d, r = directions.shape
    columns = directions.permute(1, 0, 2).reshape(d, k * r)
    shift = ((mean - centre).unsqueeze(1) @ directions).reshape(k * r)
    lengths = directions.norm(dim=1).amax(1) * (math.sqrt(r) * d * torch.finfo(x.dtype).eps)
    reach = (mean - centre).norm(dim=1)
    bound = x.new_empty(len(x), k, dtype=torch.float64)
    for block, out in zip(x.split(ROWS), bound.split(ROWS), strict=True):
        centred = block - centre
        distance = (centred @ columns - shift).view(-1, k, r).norm(dim=2)
        rounding = lengths * (centred.norm(dim=1, keepdim=True) + reach)
        # 0.999: V itself is rounded, so that V^T Sigma V is not quite the identity
        out.copy_((distance - rounding).clamp(min=0).square() * 0.999)
    return bound


def _squares_below(
    x: Tensor, rows: Tensor, mean: Tensor, upper: Tensor, most: Tensor
) -> tuple[Tensor, Tensor]:
    """|U^T (x - mu)|^2 of those ``rows`` (n,) of x (N, D) for which it is below ``most`` (n,).

    U (D, D) is upper triangular. Returns these rows and their values, float64.
    """
    squares = torch.zeros_like(most)
    for low, high in blocks_of_columns(len(upper)):
        whitened = (x[:, :high][rows] - mean[:high]) @ upper[:high, low:high]
        squares = squares + whitened.square().sum(1)
        kept = squares < most
        rows, squares, most = rows[kept], squares[kept], most[kept]
    return rows, squares


def rows_by_component(pairs: Tensor) -> list[Tensor]:
    """For each component k the rows n, in order, with pairs[n, k]; pairs is (N, K)."""
    component, row = pairs.T.nonzero().unbind(1)
    counts = component.bincount(minlength=pairs.shape[1])
    return list(row.split(counts.tolist()))
