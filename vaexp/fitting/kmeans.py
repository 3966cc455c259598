"""The images that a mixture starts from: k-means++ seeding and Lloyd's iterations."""

import torch
from torch import Tensor

ROWS = 8192  # images worked on at once


def seed_centres(x: Tensor, count: int) -> Tensor:
    """K images of x (N, D) that lie far from each other, (K, D), by torch's global generator.

    The first is drawn at random. Each of the others is drawn with a probability proportional to its
    squared distance to the nearest centre drawn before (k-means++, Arthur and Vassilvitskii 2007).
    """
    chosen = [int(torch.randint(len(x), ()))]
    lengths = x.square().sum(1)
    nearest = torch.full_like(lengths, torch.inf)
    for _ in range(count - 1):
        centre = x[chosen[-1]]
        squares = (lengths - 2 * (x @ centre) + centre.square().sum()).clamp(min=0)
        nearest = torch.minimum(nearest, squares)
        nearest[chosen] = 0
        # Drawn by the distribution function, as torch.multinomial takes at most 2^24 categories.
        total = nearest.double().cumsum(0)
        if total[-1] > 0:
            drawn = torch.rand((), dtype=torch.float64) * total[-1]
            chosen.append(min(int(torch.searchsorted(total, drawn, right=True)), len(x) - 1))
        else:  # There are fewer different images than centres.
            chosen.append(int(torch.randint(len(x), ())))
    return x[chosen]


def nearest_centre(x: Tensor, centres: Tensor) -> Tensor:
    """The index of the centre (K, D) nearest to each image (N, D), (N,)."""
    offset = -0.5 * centres.square().sum(1)
    return torch.cat([(b @ centres.T + offset).argmax(1) for b in x.split(ROWS)])


def lloyd(x: Tensor, centres: Tensor, iterations: int = 100) -> Tensor:
    """The centres (K, D) after Lloyd's iterations on images x (N, D).

    Each iteration moves every centre to the mean of the images that are nearest to it. It ends when
    no image changes its centre. A centre that is nearest to no image stays where it is.
    """
    assigned = nearest_centre(x, centres)
    for _ in range(iterations):
        counts = assigned.bincount(minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, assigned, x)
        means = sums / counts.clamp(min=1)[:, None]
        centres = torch.where(counts[:, None] > 0, means, centres)
        before, assigned = assigned, nearest_centre(x, centres)
        if torch.equal(before, assigned):
            break
    return centres
