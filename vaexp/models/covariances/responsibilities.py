"""Responsibilities p(z = k|x) of a mixture: only those of the N x K that are not negligible.

These are few, as an image of hundreds of pixels belongs to one component or two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# A component whose ln p(x, z) lies this many nats below that of the best one may be left out, with
# -inf in its place. K of them change p(x) by a factor of K e^-50 = K 2e-22, far less than float64
# resolves.
NEGLIGIBLE = 50.0
ROWS = 4096  # images worked on at once


class Totals(NamedTuple):
    """The sums over images that say how large the likelihood is; each is () float64, in nats."""

    log_prob: Tensor
    """Sum of ln p(x)."""
    elbo: Tensor
    """Sum of E_r [ln p(x, z) - ln r], which is the same number by another way."""
    entropy: Tensor
    """Sum of -E_r ln r."""

    @classmethod
    def zero(cls, like: Tensor) -> "Totals":
        """Zeros, where ln p(x) is not known, on the device of another float64 tensor."""
        return cls(*[like.new_zeros(()) for _ in cls._fields])


@dataclass(frozen=True)
class Responsibilities:
    """The r of P pairs of an image n and a component k, ordered by k, then n. Others are 0."""

    row: Tensor
    """n, (P,) int64."""
    component: Tensor
    """k, (P,) int64."""
    value: Tensor
    """r, (P,) float64."""
    counts: Tensor
    """The number of pairs of each component, (K,) int64."""
    images: int
    """N, the number of images."""

    @property
    def weight(self) -> Tensor:
        """Sums of r over images, (K,) float64."""
        return self.component.bincount(self.value, minlength=len(self.counts))

    def by_component(self) -> list[tuple[Tensor, Tensor]]:
        """For each component the images n and the r of its pairs."""
        counts = self.counts.tolist()
        return list(zip(self.row.split(counts), self.value.split(counts), strict=True))

    def blocks_about(self, mean: Tensor, x: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The images that each component holds, in blocks: k, x - mu_k (n, D) and r (n,).

        mean (K, D) and x (N, D) have the same precision, and so have the results.
        """
        for k, (rows, value) in enumerate(self.by_component()):
            for some, weight in zip(rows.split(ROWS), value.split(ROWS), strict=True):
                yield k, x[some].sub_(mean[k]), weight.to(x.dtype)

    def sums(self, features: Tensor) -> Tensor:
        """Sums of r times the images' features (N, F), (K, F) float64."""
        value = self.value.to(features.dtype)
        if 4 * len(self.row) > self.images * len(self.counts):
            dense = features.new_zeros(self.images, len(self.counts))
            dense[self.row, self.component] = value
            return (dense.T @ features).double()
        # a product with a sparse matrix, several times faster than torch.sparse's
        return torch.nn.functional.embedding_bag(
            self.row,
            features,
            self.counts.cumsum(0) - self.counts,
            mode="sum",
            per_sample_weights=value,
        ).double()


def posterior(joint: Tensor) -> tuple[Responsibilities, Totals]:
    """Responsibilities from ln p(x, z) (N, K) float64, whose entries may be -inf, and totals.

    Components NEGLIGIBLE nats below the image's best one are left out.
    """
    best = joint.amax(1)
    component, row = (joint > best[:, None] - NEGLIGIBLE).T.nonzero().unbind(1)
    log_joint = joint[row, component]
    share = (log_joint - best[row]).exp()
    total = torch.zeros_like(best).index_add_(0, row, share)
    log_prob = best + total.log()
    value = share / total[row]
    entropy = -torch.dot(value, log_joint - log_prob[row])
    counts = component.bincount(minlength=joint.shape[1])
    r = Responsibilities(row, component, value, counts, len(joint))
    return r, Totals(log_prob.sum(), torch.dot(value, log_joint) + entropy, entropy)


def hard_responsibilities(component: Tensor, components: int) -> Responsibilities:
    """The responsibilities of images that each belong to one ``component`` (N,) alone."""
    row = component.argsort(stable=True)
    value = torch.ones(len(row), dtype=torch.float64, device=row.device)
    counts = component.bincount(minlength=components)
    return Responsibilities(row, component[row], value, counts, len(row))
