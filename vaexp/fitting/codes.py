"""A Gaussian mixture for the codes of a model, fitted by EM, to draw z from in place of p(z).

Ghosh et al. 2020 (From variational to deterministic autoencoders, section 4) call this ex-post
density estimation. Letters in shapes: N codes, L latents.
"""

import torch
from torch import Tensor

from vaexp.fitting.em import Collapse
from vaexp.fitting.gmm import GMMSteps
from vaexp.models.gmm import GMM

MOST_COMPONENTS = 32
WORTH_DOUBLING = 0.01  # nats per held-out code
HELD_OUT = 5  # one code in so many decides how many components there are
FLOOR = 1e-6  # of variances, in units of z squared
MOST_ITERATIONS = 30
TOLERANCE = 1e-3  # nats per code, what an iteration must add


def mixture_of_codes(z: Tensor, seed: int) -> GMM:
    """The mixture with full covariances that is fitted to z (N, L), float64.

    It has 1, 2, 4, ... components, at most MOST_COMPONENTS, doubled as long as that makes every
    HELD_OUT-th code, which EM does not see, likelier by WORTH_DOUBLING nats in the mean and no
    component collapses. Fewer codes therefore get fewer components. The random numbers of k-means++
    follow from ``seed``.

    It is done with one thread: on matrices as small as these, threads mostly wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _doubled(z, seed)
    finally:
        torch.set_num_threads(threads)


def _doubled(z: Tensor, seed: int) -> GMM:
    """The last mixture of z (N, L) whose doubling was worth it."""
    held = torch.arange(len(z), device=z.device) % HELD_OUT == HELD_OUT - 1
    seen, unseen = z[~held], z[held]
    best = _fitted(seen, 1, seed)
    if len(unseen) == 0:
        return best
    reached = best.log_prob(unseen).mean()
    components = 2
    while components <= min(MOST_COMPONENTS, len(seen)):
        try:
            next_ = _fitted(seen, components, seed)
        except Collapse:  # of a component that holds too few codes
            break
        log_prob = next_.log_prob(unseen).mean()
        if log_prob - reached < WORTH_DOUBLING:
            break
        best, reached, components = next_, log_prob, 2 * components
    return best


def _fitted(z: Tensor, components: int, seed: int) -> GMM:
    """A mixture of so many components, fitted to z (N, L) from the clusters of k-means."""
    steps = GMMSteps(
        z,
        torch.zeros(len(z), dtype=torch.int64, device=z.device),
        None,
        components=components,
        covariance="full",
        factors=0,
        covariance_floor=FLOOR,
        init="kmeans",
        precision="float64",
        seed=seed,
    )
    model = steps.start(0)
    expected = steps.e_step(model)
    for _ in range(MOST_ITERATIONS):
        before = expected.mean_log_prob
        model = steps.m_step(expected, model)
        expected = steps.e_step(model)
        if expected.mean_log_prob - before < TOLERANCE:
            break
    return model
