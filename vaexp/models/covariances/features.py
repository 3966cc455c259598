"""Log densities that are linear in features of x, which are the same for all components.

Tied, diag and spherical covariances have such log densities. So ln pi_k + ln N(x; mu_k, Sigma_k) of
all components is one product of features and parameters, and the sums of the M-step are sums of
features.
"""

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Protocol

import torch
from torch import Tensor

from vaexp.models.covariances.responsibilities import Totals, hard_responsibilities, posterior
from vaexp.models.covariances.statistics import Statistics, Sums

ROWS_IN_CACHE = 1024  # images worked on at once: so many stay in the processor's cache


class LinearInFeatures(Protocol):
    """What a family whose log density is linear in features offers."""

    def features(self, x: Tensor) -> Tensor:
        """The features of x (n, D), (n, F), of x less the family's ``centre``."""
        ...

    def natural(self, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The constant (K,) and the slope (F, K) of ln pi_k + ln N(x; mu_k, Sigma_k)."""
        ...

    def sums_of(self, total: Tensor) -> Sums:
        """The sums of ``Statistics`` from the sums of r times features, (K, F)."""
        ...


def log_joint(family: LinearInFeatures, x: Tensor, log_weight: Tensor) -> Tensor:
    """Ln pi_k + ln N(x; mu_k, Sigma_k) of x (N, D), (N, K) float64, nats."""
    constant, slope = family.natural(log_weight)
    products = [family.features(block) @ slope for block in x.split(ROWS_IN_CACHE)]
    return constant + torch.cat(products)


def e_step(family: LinearInFeatures, x: Tensor, log_weight: Tensor) -> Statistics:
    """The statistics of images x (N, D) under the posterior that ``log_joint`` gives.

    The images are taken in blocks that stay in the processor's cache while they are worked on.
    """
    constant, slope = family.natural(log_weight.clamp(min=-1e300))  # as 0 times -inf is NaN

    def of_block(block: Tensor) -> Statistics:
        """The statistics of a few images."""
        features = family.features(block)
        r, totals = posterior(constant + features @ slope)
        return Statistics.of(r, family.sums_of(r.sums(features)), totals)

    return reduce(add, map(of_block, x.split(ROWS_IN_CACHE)))


def statistics_of_assigned(
    family: LinearInFeatures, x: Tensor, assigned: Tensor, components: int
) -> Statistics:
    """The statistics when each image of x (N, D) belongs to the component ``assigned`` (N,).

    ln p(x) is not known then, and the totals of it are 0.
    """
    blocks = zip(x.split(ROWS_IN_CACHE), assigned.split(ROWS_IN_CACHE), strict=True)
    totals: Iterable[Tensor] = (
        hard_responsibilities(component, components).sums(family.features(block))
        for block, component in blocks
    )
    sums = family.sums_of(reduce(add, totals))
    return Statistics.of(hard_responsibilities(assigned, components), sums, Totals.zero(sums.first))


def variances_above_rounding(second: Tensor, square: Tensor, dtype: torch.dtype) -> Tensor:
    """The variance E x^2 - (E x)^2, with 0 where it is no more than rounding.

    ``second`` is E x^2 and ``square`` is (E x)^2. ``dtype`` is the precision of the images that
    they are computed from.
    """
    variances = second - square
    # Sums over thousands of images are off by more than eps; nothing real varies by 1e-12.
    resolution = max(16 * torch.finfo(dtype).eps, 1e-12)
    return torch.where(variances > resolution * second, variances, 0)
