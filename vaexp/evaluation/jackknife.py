"""The jackknife of the importance-weighted bound: its bias of order 1/K, estimated and removed.

Letters in shapes: K draws, N images. All numbers are in nats and in float64.
"""

import math

import torch
from torch import Tensor

from vaexp.evaluation.monte_carlo import log_mean_weight


def jackknifed(log_w: Tensor) -> Tensor:
    """K L_K - (K - 1) (1/K) sum_k L_(K-1) without draw k, of weights log_w (K, N), (N,).

    L_K = ln (1/K) sum_k w_k is the importance-weighted bound. It lies below ln p(x) by
    Var(w) / (2 K p(x)^2) and terms of higher order in 1/K. The jackknife (Quenouille 1956) removes
    the first of them (Nowozin 2018, Debiasing evidence approximations, section 3.1, the estimator
    JVI-1). What remains may be of either sign, so this is an estimate and no bound. One draw cannot
    be left out of one: then it is L_1.
    """
    bound, k = log_mean_weight(log_w), len(log_w)
    if k == 1:
        return bound
    # L_(K-1) - L_K, in which a large ln w has cancelled already
    change = _log_share_of_others(log_w) - math.log((k - 1) / k)
    return bound - (k - 1) * change.mean(0)


def _log_share_of_others(log_w: Tensor) -> Tensor:
    """Ln sum_(j != k) w_j / sum_j w_j for each of at least two draws k, (K, N).

    1 minus the share of the draw itself loses all digits where this share is near 1. Only the
    largest can be above one half, so the others of this one are summed anew.
    """
    total = log_w.logsumexp(0)
    largest = log_w.argmax(0, keepdim=True)
    without = log_w.scatter(0, largest, -math.inf).logsumexp(0, keepdim=True)
    share = (log_w - total).exp().scatter(0, largest, 0)
    return torch.log1p(-share).scatter(0, largest, without - total)
