"""ln p(x) of VAEs with one or two latents, by numerical integration over z.

ln p(x) = ln integral p(x|z) p(z) dz, per image, in nats summed over pixels.

The rule is the trapezoidal one on an unbounded lattice, h^L times the sum of p(x, z) over points
z = h i with integer i: for smooth integrands that vanish far out its error falls like exp(-c / h^2)
or faster than any power of h (Trefethen and Weideman 2014, The exponentially convergent
trapezoidal rule, section 5), and where ReLU networks have kinks still like h^2. Posteriors are
narrow, so that nearly all points can be left out. Which ones, is found level by level while h
halves: what surrounds a point stays if the point's value, raised by the largest step to one of its
neighbours, could matter. This starts from a grid that all images share, and from the best point
around the mean of q(z|x). It ends where the sum no longer depends on which points of the lattice it
is taken over, and no slope is so steep that a peak that counts could be hidden between points.

All is in float64: where sigma is 1e-3, ln p(x|z) is a sum of terms of 1e6.
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
TOLERANCE = 1e-2  # nats by which lattices of spacing 2h may disagree
NEGLIGIBLE = 10.0  # the points left out hold about e^-10 of p(x) together, at most
REACH = {1: 12.0, 2: 6.0}  # the shared grid covers |z_j| up to it, by L; q(z|x) leads beyond
COARSEST = {1: 2.0**-8, 2: 2.0**-3}  # its spacing h
FINEST = 2.0**-20
STEEP = 5.0  # nats from one point to the next
MOST_POINTS = 200_000  # of one image on one lattice: beyond it, h is not halved again
BLOCK_POINTS = 5_000_000  # of all images of a block, likewise: 1 GB
IMAGES_PER_BLOCK = 250
NODES_PER_BLOCK = 512  # z decoded at once
PAIRS_PER_BLOCK = 2048  # images and z whose ln p(x|z) is summed at once
BITS = 26  # of a lattice coordinate in a key: |z| < 32 at the finest h


class Quadrature(NamedTuple):
    """What integration found for N images."""

    log_prob: Tensor
    """(N,) ln p(x), nats."""
    error: Tensor
    """(N,) the largest difference in nats between log_prob and what one of the 2^L lattices of
    twice the spacing gives, of which the last one consists. So it is the error of a coarser rule,
    and for smooth decoders far above that of log_prob, with ReLU's kinks some four times it; a
    peak that no point came near is not in it."""
    resolved: Tensor
    """(N,) bool: error is at most TOLERANCE and no sign of a peak between points was left."""
    points: Tensor
    """(N,) int64: the z on lattices at which p(x, z) was computed, the shared grid's included."""


def quadrature(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    on_images: Callable[[int], None] = lambda _: None,
) -> Evidence:
    """``log_prob_quadrature``: ln p(x), or ln p(x | label), of images x (N, D), where L <= 2.

    Facts: ``error``, in nats, is the largest of all images' error estimates; ``nodes`` the mean
    number of z per image, those of the shared grid included; ``unresolved`` the number of images
    that are not ``Quadrature.resolved``. on_images is told the number of images of every block.
    """
    (name,) = NAMES
    if model.latent_dim not in COARSEST:
        reason = (
            f"integration over z takes one or two latents, and the model has {model.latent_dim}"
        )
        return Evidence(absent={name: reason})
    found = integrate(model, x, label, on_images=on_images)
    facts = {
        "kind": "estimate",
        "error": found.error.max().item(),
        "nodes": round(found.points.double().mean().item()),
        "unresolved": int((~found.resolved).sum()),
    }
    return Evidence({name: Measure(found.log_prob, "nats", facts=facts, likelihood="log_prob")})


@torch.no_grad()
def integrate(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    on_images: Callable[[int], None] = lambda _: None,
) -> Quadrature:
    """ln integral p(x|z) p(z) dz of images x (N, D) with labels (N,), for L = 1 or 2."""
    model = copy.deepcopy(model).double()
    log_prob = torch.full((len(x),), -math.inf, dtype=torch.float64)
    points, resolved = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), dtype=torch.bool)
    found = Quadrature(log_prob, log_prob.neg(), resolved, points)
    for rows in _blocks(label if model.conditional else torch.zeros_like(label)):
        one_label = label[rows[0]] if model.conditional else None
        part = _integrate_block(_Joint(model, x[rows].double(), one_label))
        for whole, values in zip(found, part, strict=True):
            whole[rows.cpu()] = values.cpu()
        on_images(len(rows))
    return found


def _blocks(label: Tensor) -> Iterator[Tensor]:
    """Rows of one label each, as the images of a block share their grid of decoded z."""
    for one in label.unique():
        yield from (label == one).nonzero()[:, 0].split(IMAGES_PER_BLOCK)


class _Joint:
    """ln p(x, z) of a block of images x (N, D) with one label, in float64."""

    def __init__(self, model: VAE, x: Tensor, label: Tensor | None):
        self.model, self.x, self.label = model, x, label
        self.prior = model.prior()
        self.offsets = torch.tensor(
            list(product((-1, 0, 1), repeat=model.latent_dim)), device=x.device
        )
        """(3^L, L): a point and its neighbours."""
        self.strides = 2 ** (BITS * torch.arange(model.latent_dim, device=x.device).flip(0))
        """(L,): of the coordinates in a key."""

    def decode(self, z: Tensor) -> Decoded:
        """p(x|z) of z (K, L)."""
        return self.model.decode(z, None if self.label is None else self.label.expand(len(z)))

    def nodes(self, z: Tensor) -> Iterator[tuple[slice, Tensor, Decoded]]:
        """A block of z (K, L) at a time: which of them, ln p(z), and p(x|z)."""
        for first in range(0, len(z), NODES_PER_BLOCK):
            part = slice(first, first + NODES_PER_BLOCK)
            yield part, self.prior.log_prob(z[part]), self.decode(z[part])

    def of_all(self, z: Tensor) -> Tensor:
        """Of every image at every z (K, L): (N, K)."""
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

    def of_pairs(self, image: Tensor, node: Tensor, z: Tensor) -> Tensor:
        """Of the image (P,) at z[node], node (P,) ascending, z (K, L): (P,)."""
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
        """The image (P,) and lattice coordinates (P, L) as one number, (P,) int64."""
        code = ((point + 2 ** (BITS - 1)) * self.strides).sum(-1)
        return (image << BITS * len(self.strides)) + code

    def image(self, key: Tensor) -> Tensor:
        """(P,) int64."""
        return key >> BITS * len(self.strides)

    def point(self, key: Tensor) -> Tensor:
        """(P, L) int64."""
        return (key[..., None] // self.strides) % 2**BITS - 2 ** (BITS - 1)

    def of_keys(self, key: Tensor, spacing: float) -> Tensor:
        """At lattice points, (P,); those that images share are decoded once."""
        code = key % 2 ** (BITS * len(self.strides))
        code, order = code.sort()
        codes, node = code.unique_consecutive(return_inverse=True)
        values = self.x.new_empty(len(key))
        z = self.point(codes).to(values) * spacing
        values[order] = self.of_pairs(self.image(key)[order], node, z)
        return values


class _Points(NamedTuple):
    """Points of several images on one lattice, sorted by key."""

    key: Tensor
    value: Tensor
    """ln p(x, z)."""

    def add(self, key: Tensor, value: Tensor) -> "_Points":
        """With more points, in any order."""
        keys, order = torch.cat([self.key, key]).sort()
        return _Points(keys, torch.cat([self.value, value])[order])

    def of(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the keys are among the points, and their values or else -inf."""
        at = torch.searchsorted(self.key, key).clamp(max=len(self.key) - 1)
        here = self.key[at] == key
        return here, torch.where(here, self.value[at], -math.inf)

    def steepest(self, offsets: Tensor) -> Tensor:
        """The largest difference of each value to one of its neighbours, (P,)."""
        steps = torch.zeros_like(self.value)
        for offset in offsets[offsets != 0].tolist():
            here, values = self.of(self.key + offset)
            torch.maximum(steps, torch.where(here, (values - self.value).abs(), 0), out=steps)
        return steps


def _integrate_block(joint: _Joint) -> Quadrature:
    n, latents = len(joint.x), len(joint.strides)
    spacing = COARSEST[latents]
    shared = (2 * round(REACH[latents] / spacing) + 1) ** latents
    found = Quadrature(
        joint.x.new_full((n,), -math.inf),
        joint.x.new_full((n,), math.inf),
        torch.zeros(n, dtype=torch.bool, device=joint.x.device),
        torch.full((n,), shared, device=joint.x.device),
    )
    points = _shared_grid(joint, spacing)
    best_z, best_value = _best_of_posterior(joint)
    while True:
        points, steepest, matters, new = _closed(joint, points, spacing, best_z)
        image = joint.image(points.key)
        found.points.add_(new)
        sums = _sums(image, joint.point(points.key) % 2, points.value, n)
        here = image.unique_consecutive()
        found.log_prob[here] = sums.total[here] + latents * math.log(spacing)
        found.error[here] = sums.error[here]
        # a peak that no point has met yet: steep slopes that reach what counts half a step on
        reached = points.value + steepest / 2 >= sums.total[image] + math.log(TOLERANCE)
        peaks = image[reached & (steepest > STEEP)].bincount(minlength=n)
        unresolved = (sums.error > TOLERANCE) | (sums.highest < best_value - 1) | (peaks > 0)
        found.resolved[here] = ~unresolved[here]
        # so many that the points of all images that go on stay below BLOCK_POINTS
        most = min(MOST_POINTS, BLOCK_POINTS // max(1, int(unresolved[here].sum())))
        again = unresolved & (image[matters].bincount(minlength=n) < most)
        parents = points.key[matters & again[image]]
        spacing = spacing / 2
        if not len(parents) or spacing < FINEST:
            return found
        around = 2 * joint.point(parents)[:, None] + joint.offsets
        key = joint.key(joint.image(parents)[:, None], around).flatten().unique()
        # of the old points that are on the new lattice too, the values are known
        old = points._replace(key=joint.key(image, 2 * joint.point(points.key)))
        known, value = old.of(key)
        value[~known] = joint.of_keys(key[~known], spacing)
        found.points.add_(joint.image(key[~known]).bincount(minlength=n))
        points = _Points(key, value)


def _shared_grid(joint: _Joint, spacing: float) -> _Points:
    """What matters of the shared grid to each image, and the neighbours of that."""
    n, latents = len(joint.x), len(joint.strides)
    half = round(REACH[latents] / spacing)
    axis = torch.arange(-half, half + 1, device=joint.x.device)
    grid = torch.cartesian_prod(*[axis] * latents).view(-1, latents)
    values = joint.of_all(grid.to(joint.x) * spacing)
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
    """The z (N, L) with the largest ln p(x, z), and that (N,), of 5^L points of q(z|x).

    They are the grid of 0, +-1 and +-2 standard deviations about its mean.
    """
    n, latents = len(joint.x), len(joint.strides)
    label = None if joint.label is None else joint.label.expand(n)
    q = joint.model.encode(joint.x, label)
    axis = torch.arange(-2.0, 3.0, dtype=joint.x.dtype, device=joint.x.device)
    steps = torch.cartesian_prod(*[axis] * latents).view(-1, 1, latents)
    z = (q.mean + steps * q.stddev).transpose(0, 1).reshape(-1, latents)
    image = torch.arange(n, device=z.device).repeat_interleave(len(steps))
    values = joint.of_pairs(image, torch.arange(len(z), device=z.device), z).view(n, -1)
    value, at = values.max(1)
    return z.view(n, -1, latents)[torch.arange(n, device=z.device), at], value


def _closed(
    joint: _Joint, points: _Points, spacing: float, best_z: Tensor
) -> tuple[_Points, Tensor, Tensor, Tensor]:
    """The points with all neighbours of those that matter, and of the best z.

    Also the steepest steps (P,), which points matter (P,), and how many are new (N,).
    """
    n = len(joint.x)
    new = torch.zeros(n, dtype=torch.int64, device=joint.x.device)
    neighbours = (joint.offsets * joint.strides).sum(1)

    def missing_around(key: Tensor) -> Tensor:
        near = [key + step for step in neighbours.tolist()]
        return torch.cat([some[~points.of(some)[0]] for some in near]).unique()

    images = joint.image(points.key).unique_consecutive()
    best = joint.key(images, (best_z[images] / spacing).round().long())
    missing = missing_around(best)
    while True:
        points = points.add(missing, joint.of_keys(missing, spacing))
        new += joint.image(missing).bincount(minlength=n)
        image, steepest = joint.image(points.key), points.steepest(neighbours)
        total = _sums(image, joint.point(points.key) % 2, points.value, n).total
        least = total - NEGLIGIBLE - image.bincount(minlength=n).log()
        matters = points.value + steepest >= least[image]
        missing = missing_around(points.key[matters])
        if not len(missing):
            return points, steepest, matters, new


class _Sums(NamedTuple):
    """Of the points of each image, (N,)."""

    total: Tensor
    """ln of the sum of exp(value)."""
    error: Tensor
    """How much the 2^L lattices of twice the spacing disagree with it, in nats."""
    highest: Tensor


def _sums(image: Tensor, parity: Tensor, value: Tensor, n: int) -> _Sums:
    """Of values (P,) at points of the images (P,), with the parity (P, L) of their coordinates.

    Points whose coordinates have one parity form a lattice of twice the spacing, and the sum over
    it, times 2^L, is to be the whole sum.
    """
    parts = 2 ** parity.shape[1]
    weight = 2 ** torch.arange(parity.shape[1], device=image.device)
    highest = value.new_full((n,), -math.inf).scatter_reduce(0, image, value, "amax")
    sums = value.new_zeros(n * parts)
    sums.index_add_(0, image * parts + parity @ weight, (value - highest[image]).exp())
    sums = sums.view(n, parts)
    total = sums.sum(1)
    # a lattice of none of the points would be off by infinity, which JSON cannot hold
    error = (parts * sums / total[:, None]).log().abs().amax(1).clamp(max=1e3)
    return _Sums(total.log() + highest, error, highest)


def measure(subject: Subject[VAE]) -> Evidence:
    """The group ``quadrature``."""
    return quadrature(subject.model, subject.x, subject.label, on_images=subject.on_images)
