"""ln p(x) of VAEs with one or two latents, by numerical integration over z.

ln p(x) = ln integral p(x|z) p(z) dz for each image, in nats, summed over pixels.

The integral is computed by the trapezoidal rule on an unbounded lattice, as h^L times the sum of
p(x, z) over the points z = h i with integer i. For smooth integrands that vanish far out, the error
falls like exp(-c / h^2) or faster than any power of h (Trefethen and Weideman 2014, The
exponentially convergent trapezoidal rule, section 5). Where ReLU networks have kinks, it still
falls like h^2.

Posteriors are narrow, so nearly all points can be left out. The points that stay are found level by
level while h halves. The surroundings of a point stay if its value, raised by the largest
difference to one of its neighbours, is large enough to matter. The search starts from a grid that
all images share, and from the best point around the mean of q(z|x). It ends once two conditions
hold. The sum no longer depends on which points of the lattice it is taken over. And no slope is so
steep that a peak that matters could be hidden between points.

All numbers are float64, as ln p(x|z) is a sum of terms of the order of 1e6 where sigma is 1e-3.

Letters in shapes: N images, D pixels, L latents, K values of z, P pairs of an image and a point.
"""

import copy
import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from vaexp.evaluation.measure import Evidence, Measure
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.absent import Absent
from vaexp.models.likelihoods import Decoded

NAMES = ("log_prob_quadrature",)
TOLERANCE = 1e-2  # how much lattices of spacing 2h may disagree, in nats
NEGLIGIBLE = 10.0  # the points that are left out hold at most about e^-10 of p(x) together
REACH = {1: 12.0, 2: 6.0}  # L -> the shared grid covers |z_j| up to this; q(z|x) leads beyond it
COARSEST = {1: 2.0**-8, 2: 2.0**-3}  # L -> the spacing h of the shared grid
FINEST = 2.0**-20  # the smallest h
STEEP = 5.0  # a slope in nats per point from which on a peak may be hidden
MOST_POINTS = 200_000  # of one image on one lattice: with more of them h is not halved again
BLOCK_POINTS = 5_000_000  # the same for all images of a block, which take 1 GB
IMAGES_PER_BLOCK = 250
NODES_PER_BLOCK = 512  # z that are decoded at once
PAIRS_PER_BLOCK = 2048  # pairs of an image and a z whose ln p(x|z) is summed at once
BITS = 26  # of a lattice coordinate in a key, which suffice for |z| < 32 at the finest h


class Quadrature(NamedTuple):
    """The result of integration for N images."""

    log_prob: Tensor
    """ln p(x) in nats, (N,)."""
    error: Tensor
    """An estimate of the error in nats, (N,).

    The last lattice consists of 2^L lattices of twice the spacing. This is the largest difference
    between log_prob and the result on one of them, so it is the error of a coarser rule. For smooth
    decoders it is far larger than the error of log_prob, and with the kinks of ReLU about four
    times as large. It does not show a peak that no point came near."""
    resolved: Tensor
    """Whether error is at most TOLERANCE and nothing hints at a peak between points, (N,) bool."""
    points: Tensor
    """The number of z at which p(x, z) was computed, with those of the shared grid, (N,) int64."""


def quadrature(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    on_images: Callable[[int], None] = lambda _: None,
) -> Evidence:
    """``log_prob_quadrature``: ln p(x), or ln p(x | label), of images x (N, D), if L <= 2.

    label (N,). The fact ``error`` is the largest error estimate of all images, in nats. ``nodes``
    is the mean number of z per image, with those of the shared grid. ``unresolved`` is the number
    of images that are not ``Quadrature.resolved``. on_images is told the number of images of every
    block.
    """
    (name,) = NAMES
    if model.latent_dim not in COARSEST:
        reason = (
            f"integration over z takes one or two latents, and the model has {model.latent_dim}"
        )
        return Evidence(absent={name: reason})
    result = integrate(model, x, label, on_images=on_images)
    facts = {
        "error": result.error.max().item(),
        "nodes": round(result.points.double().mean().item()),
        "unresolved": int((~result.resolved).sum()),
    }
    log_prob = Measure(result.log_prob, "nats", facts=facts, kind="estimate", likelihood="log_prob")
    return Evidence({name: log_prob})


@torch.no_grad()
def integrate(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    on_images: Callable[[int], None] = lambda _: None,
) -> Quadrature:
    """ln integral p(x|z) p(z) dz for images x (N, D) with labels (N,), where L is 1 or 2."""
    model = copy.deepcopy(model).double()
    log_prob = torch.full((len(x),), -math.inf, dtype=torch.float64)
    points, resolved = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), dtype=torch.bool)
    result = Quadrature(log_prob, log_prob.neg(), resolved, points)
    for rows in _rows_by_label(label if model.conditional else torch.zeros_like(label)):
        one_label = label[rows[0]] if model.conditional else None
        part = _integrate_block(_Joint(model, x[rows].double(), one_label))
        for whole, values in zip(result, part, strict=True):
            whole[rows.cpu()] = values.cpu()
        on_images(len(rows))
    return result


def _rows_by_label(label: Tensor) -> Iterator[Tensor]:
    """The row numbers of label (N,), in blocks of one label, which share a grid of decoded z."""
    for one in label.unique():
        yield from (label == one).nonzero()[:, 0].split(IMAGES_PER_BLOCK)


class _Joint:
    """ln p(x, z) of a block of images x (N, D) that share their label, in float64."""

    def __init__(self, model: VAE, x: Tensor, label: Tensor | None):
        self.model, self.x, self.label = model, x, label
        self.prior = model.prior()
        self.offsets = torch.tensor(
            list(product((-1, 0, 1), repeat=model.latent_dim)), device=x.device
        )
        """The steps from a point to itself and to its neighbours, (3^L, L)."""
        self.strides = 2 ** (BITS * torch.arange(model.latent_dim, device=x.device).flip(0))
        """The factors of the coordinates in a key, (L,)."""

    def decode(self, z: Tensor) -> Decoded:
        """p(x|z) at z (K, L)."""
        return self.model.decode(z, None if self.label is None else self.label.expand(len(z)))

    def nodes(self, z: Tensor) -> Iterator[tuple[slice, Tensor, Decoded]]:
        """A block of z (K, L) at a time: which of them, ln p(z), and p(x|z)."""
        for first in range(0, len(z), NODES_PER_BLOCK):
            part = slice(first, first + NODES_PER_BLOCK)
            yield part, self.prior.log_prob(z[part]), self.decode(z[part])

    def at_all(self, z: Tensor) -> Tensor:
        """ln p(x, z) of every image at every z (K, L), (N, K)."""
        values = self.x.new_empty(len(self.x), len(z))
        squares = self.x.square()
        for part, log_prior, p in self.nodes(z):
            polynomial = p.quadratic()
            if isinstance(polynomial, Absent):
                rows = [p.log_prob(image) for image in self.x]
                values[:, part] = torch.stack(rows) + log_prior
            else:
                constant, a, b = polynomial
                values[:, part] = (constant + log_prior) + self.x @ a.T + squares @ b.T
        return values

    def at_pairs(self, image: Tensor, node: Tensor, z: Tensor) -> Tensor:
        """ln p(x, z) of the images numbered ``image`` (P,) at z[node], (P,).

        z (K, L), and node (P,) is ascending.
        """
        values = self.x.new_empty(len(image))
        ends = torch.searchsorted(node, torch.arange(len(z) + 1, device=node.device))
        for part, log_prior, p in self.nodes(z):
            polynomial = p.quadratic()
            low, high = int(ends[part.start]), int(ends[min(part.stop, len(z))])
            for first in range(low, high, PAIRS_PER_BLOCK):
                pairs = slice(first, min(first + PAIRS_PER_BLOCK, high))
                x, k = self.x[image[pairs]], node[pairs] - part.start
                if isinstance(polynomial, Absent):
                    values[pairs] = self.decode(z[node[pairs]]).log_prob(x) + log_prior[k]
                else:
                    constant, a, b = polynomial
                    terms = torch.linalg.vecdot(x, a[k] + x * b[k])
                    values[pairs] = (constant + log_prior)[k] + terms
        return values

    def key(self, image: Tensor, point: Tensor) -> Tensor:
        """The number of the image (P,) and lattice coordinates (P, L) as one number, (P,) int64."""
        code = ((point + 2 ** (BITS - 1)) * self.strides).sum(-1)
        return (image << BITS * len(self.strides)) + code

    def image(self, key: Tensor) -> Tensor:
        """The number of the image in each key, (P,) int64."""
        return key >> BITS * len(self.strides)

    def point(self, key: Tensor) -> Tensor:
        """The lattice coordinates in each key, (P, L) int64."""
        return (key[..., None] // self.strides) % 2**BITS - 2 ** (BITS - 1)

    def at_keys(self, key: Tensor, spacing: float) -> Tensor:
        """ln p(x, z) at the points with these keys (P,), (P,). Shared points are decoded once."""
        code = key % 2 ** (BITS * len(self.strides))
        code, order = code.sort()
        codes, node = code.unique_consecutive(return_inverse=True)
        values = self.x.new_empty(len(key))
        z = self.point(codes).to(values) * spacing
        values[order] = self.at_pairs(self.image(key)[order], node, z)
        return values


class _Points(NamedTuple):
    """Points of several images on one lattice, sorted by key."""

    key: Tensor
    value: Tensor
    """ln p(x, z)."""

    def add(self, key: Tensor, value: Tensor) -> "_Points":
        """These points and more of them, which come in any order."""
        keys, order = torch.cat([self.key, key]).sort()
        return _Points(keys, torch.cat([self.value, value])[order])

    def look_up(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each key is among the points, and its value if it is, else -inf."""
        at = torch.searchsorted(self.key, key).clamp(max=len(self.key) - 1)
        here = self.key[at] == key
        return here, torch.where(here, self.value[at], -math.inf)

    def steepest(self, offsets: Tensor) -> Tensor:
        """The largest difference between each value and one of its neighbours, (P,)."""
        steps = torch.zeros_like(self.value)
        for offset in offsets[offsets != 0].tolist():
            here, values = self.look_up(self.key + offset)
            torch.maximum(steps, torch.where(here, (values - self.value).abs(), 0), out=steps)
        return steps


def _integrate_block(joint: _Joint) -> Quadrature:
    """The integral for each image of a block, by halving the spacing until it is resolved."""
    n, latents = len(joint.x), len(joint.strides)
    spacing = COARSEST[latents]
    shared = (2 * round(REACH[latents] / spacing) + 1) ** latents
    result = Quadrature(
        joint.x.new_full((n,), -math.inf),
        joint.x.new_full((n,), math.inf),
        torch.zeros(n, dtype=torch.bool, device=joint.x.device),
        torch.full((n,), shared, device=joint.x.device),
    )
    points = _shared_grid(joint, spacing)
    best_z, best_value = _best_of_posterior(joint)
    while True:
        points, steepest, matters, new = _with_neighbours(joint, points, spacing, best_z)
        image = joint.image(points.key)
        result.points.add_(new)
        sums = _sums(image, joint.point(points.key) % 2, points.value, n)
        here = image.unique_consecutive()
        result.log_prob[here] = sums.total[here] + latents * math.log(spacing)
        result.error[here] = sums.error[here]
        # Between two points there may be a peak that matters if the slope is steep and, half a
        # step on, reaches a value that matters.
        reached = points.value + steepest / 2 >= sums.total[image] + math.log(TOLERANCE)
        peaks = image[reached & (steepest > STEEP)].bincount(minlength=n)
        unresolved = (sums.error > TOLERANCE) | (sums.highest < best_value - 1) | (peaks > 0)
        result.resolved[here] = ~unresolved[here]
        # so that the points of all images that go on stay below BLOCK_POINTS
        most = min(MOST_POINTS, BLOCK_POINTS // max(1, int(unresolved[here].sum())))
        again = unresolved & (image[matters].bincount(minlength=n) < most)
        parents = points.key[matters & again[image]]
        spacing = spacing / 2
        if not len(parents) or spacing < FINEST:
            return result
        around = 2 * joint.point(parents)[:, None] + joint.offsets
        key = joint.key(joint.image(parents)[:, None], around).flatten().unique()
        # the values of old points that are also on the new lattice are known
        old = points._replace(key=joint.key(image, 2 * joint.point(points.key)))
        known, value = old.look_up(key)
        value[~known] = joint.at_keys(key[~known], spacing)
        result.points.add_(joint.image(key[~known]).bincount(minlength=n))
        points = _Points(key, value)


def _shared_grid(joint: _Joint, spacing: float) -> _Points:
    """The points of the shared grid that matter to each image, and their neighbours."""
    n, latents = len(joint.x), len(joint.strides)
    half = round(REACH[latents] / spacing)
    axis = torch.arange(-half, half + 1, device=joint.x.device)
    grid = torch.cartesian_prod(*[axis] * latents).view(-1, latents)
    values = joint.at_all(grid.to(joint.x) * spacing)
    picture = values.view(n, 1, len(axis), -1)
    kernel = (3, 3 if latents == 2 else 1)
    padding = (1, 1 if latents == 2 else 0)

    def widened(picture: Tensor) -> Tensor:
        return max_pool2d(picture, kernel, 1, padding)

    steepest = torch.maximum(widened(picture) - picture, picture + widened(-picture))
    least = values.logsumexp(1) - NEGLIGIBLE - math.log(len(grid))
    matters = picture + steepest >= least.view(n, 1, 1, 1)
    image, node = (widened(matters.double()) > 0).view(n, -1).nonzero().unbind(1)
    return _Points(joint.key(image, grid[node]), values[image, node])


def _best_of_posterior(joint: _Joint) -> tuple[Tensor, Tensor]:
    """The best of 5^L points around the mean of q(z|x), (N, L), and ln p(x, z) there, (N,).

    The points are 0, +-1 and +-2 standard deviations away from the mean along each axis.
    """
    n, latents = len(joint.x), len(joint.strides)
    label = None if joint.label is None else joint.label.expand(n)
    q = joint.model.encode(joint.x, label)
    axis = torch.arange(-2.0, 3.0, dtype=joint.x.dtype, device=joint.x.device)
    steps = torch.cartesian_prod(*[axis] * latents).view(-1, 1, latents)
    z = (q.mean + steps * q.stddev).transpose(0, 1).reshape(-1, latents)
    image = torch.arange(n, device=z.device).repeat_interleave(len(steps))
    values = joint.at_pairs(image, torch.arange(len(z), device=z.device), z).view(n, -1)
    value, at = values.max(1)
    return z.view(n, -1, latents)[torch.arange(n, device=z.device), at], value


def _with_neighbours(
    joint: _Joint, points: _Points, spacing: float, best_z: Tensor
) -> tuple[_Points, Tensor, Tensor, Tensor]:
    """Add to the points all neighbours of those that matter, and of the best z (N, L).

    Returns the points, the steepest difference of each to a neighbour (P,), whether it matters (P,)
    bool, and how many points of each image are new (N,).
    """
    n = len(joint.x)
    new = torch.zeros(n, dtype=torch.int64, device=joint.x.device)
    neighbours = (joint.offsets * joint.strides).sum(1)

    def missing_around(key: Tensor) -> Tensor:
        near = [key + step for step in neighbours.tolist()]
        return torch.cat([some[~points.look_up(some)[0]] for some in near]).unique()

    images = joint.image(points.key).unique_consecutive()
    best = joint.key(images, (best_z[images] / spacing).round().long())
    missing = missing_around(best)
    while True:
        points = points.add(missing, joint.at_keys(missing, spacing))
        new += joint.image(missing).bincount(minlength=n)
        image, steepest = joint.image(points.key), points.steepest(neighbours)
        total = _sums(image, joint.point(points.key) % 2, points.value, n).total
        least = total - NEGLIGIBLE - image.bincount(minlength=n).log()
        matters = points.value + steepest >= least[image]
        missing = missing_around(points.key[matters])
        if not len(missing):
            return points, steepest, matters, new


class _Sums(NamedTuple):
    """Sums over the points of each image, (N,) each."""

    total: Tensor
    """The logarithm of the sum of exp(value)."""
    error: Tensor
    """The largest difference of one of the 2^L lattices of twice the spacing to it, in nats."""
    highest: Tensor
    """The largest value."""


def _sums(image: Tensor, parity: Tensor, value: Tensor, n: int) -> _Sums:
    """Sums of values (P,) at points of the images numbered ``image`` (P,), of which there are n.

    ``parity`` (P, L) is that of the lattice coordinates. The points of one parity form a lattice of
    twice the spacing. The sum over it, times 2^L, estimates the whole sum.
    """
    parts = 2 ** parity.shape[1]
    weight = 2 ** torch.arange(parity.shape[1], device=image.device)
    highest = value.new_full((n,), -math.inf).scatter_reduce(0, image, value, "amax")
    sums = value.new_zeros(n * parts)
    sums.index_add_(0, image * parts + parity @ weight, (value - highest[image]).exp())
    sums = sums.view(n, parts)
    total = sums.sum(1)
    # The error of a lattice without points would be infinite, which JSON cannot hold.
    error = (parts * sums / total[:, None]).log().abs().amax(1).clamp(max=1e3)
    return _Sums(total.log() + highest, error, highest)


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``quadrature``."""
    return quadrature(subject.model, subject.x, subject.label, on_images=subject.on_images)
