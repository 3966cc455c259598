"""Responsibilities p(z = k|x) of a mixture: only the few of N x K that are not negligible.

In hundreds of pixels an image belongs to one component or two.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaexp.models.gaussians import NEGLIGIBLE


@dataclass(frozen=True)
class Responsibilities:
    """r of P pairs of an image n and a component k, ordered by k, then n; all others are 0."""

    row: Tensor
    """n, (P,) int64."""
    component: Tensor
    """k, (P,) int64."""
    value: Tensor
    """r, (P,) float64."""
    counts: Tensor
    """Pairs of each component, (K,) int64."""
    images: int
    """N."""

    @property
    def weight(self) -> Tensor:
        """Sums of r over images, (K,) float64."""
        return self.component.bincount(self.value, minlength=len(self.counts))

    def by_component(self) -> list[tuple[Tensor, Tensor]]:
        """n and r of each component's pairs."""
        counts = self.counts.tolist()
        return list(zip(self.row.split(counts), self.value.split(counts), strict=True))

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


def posterior(joint: Tensor) -> tuple[Responsibilities, dict[str, Tensor]]:
    """Responsibilities from ln p(x, z) (N, K) float64, which may be -inf, and sums over images.

    The sums, () nats: ``log_prob`` of ln p(x), ``entropy`` of -E_r ln r, ``elbo`` of
    E_r [ln p(x, z) - ln r]. Components NEGLIGIBLE nats below the image's best one are left out.
    """
    best = joint.amax(1)
    component, row = (joint > best[:, None] - NEGLIGIBLE).T.nonzero().unbind(1)
    held = joint[row, component]
    share = (held - best[row]).exp()
    total = torch.zeros_like(best).index_add_(0, row, share)
    log_prob = best + total.log()
    value = share / total[row]
    entropy = -torch.dot(value, held - log_prob[row])
    counts = component.bincount(minlength=joint.shape[1])
    return Responsibilities(row, component, value, counts, len(joint)), {
        "log_prob": log_prob.sum(),
        "elbo": torch.dot(value, held) + entropy,
        "entropy": entropy,
    }


def of_assigned(component: Tensor, components: int) -> Responsibilities:
    """Of images that each belong to one component (N,) alone."""
    row = component.argsort(stable=True)
    value = torch.ones(len(row), dtype=torch.float64, device=row.device)
    counts = component.bincount(minlength=components)
    return Responsibilities(row, component[row], value, counts, len(row))
