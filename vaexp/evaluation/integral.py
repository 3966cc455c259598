"""Adaptive quadrature of a positive function of one or two variables, given by its logarithm.

Letters in shapes: n points, L = 1 or 2 variables, M cells, H = 2^L halves of a cell, Q = 4^L nodes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NODES, WEIGHTS = map(torch.from_numpy, np.polynomial.legendre.leggauss(4))  # on [-1, 1]
TOLERANCE = 1e-6  # how much halving a settled cell may change the integral, relative to it
NEGLIGIBLE = 20.0  # cells that are so many nats below the integral are not halved
MAX_NODES = 200_000  # of one integral
MAX_WIDTH = 1.0  # of a settled cell: the standard deviation of the prior
SHOWN = 14.0  # cells at most so many nats below the integral count for its extent


class Integral(NamedTuple):
    """The integral of a function over a box around the origin of R^L."""

    log_value: float
    error: float
    """The relative error: the sum of what halving each cell for the last time changed."""
    extent: Tensor
    """The ends of the box that holds the cells within SHOWN nats of the integral, (2, L)."""


class _Cells(NamedTuple):
    """Boxes that fill the range of integration."""

    low: Tensor
    """The lower corner of each, (M, L)."""
    width: Tensor
    """(M, L)."""
    log_mass: Tensor
    """The logarithm of the integral over each, (M,)."""
    log_change: Tensor
    """The logarithm of what the last halving changed, (M,)."""
    settled: Tensor
    """Whether another halving would change too little, (M,) bool."""

    def joined(self, chosen: Tensor, halves: "_Cells") -> "_Cells":
        """These cells with ``halves`` in place of the ``chosen`` (M,) ones."""
        return _Cells(*(torch.cat([a[~chosen], b]) for a, b in zip(self, halves, strict=True)))


def integrate(log_f: Callable[[Tensor], Tensor], latents: int, reach: float) -> Integral:
    """The integral of f over [-reach, reach]^L, where L = ``latents`` is 1 or 2.

    ``log_f`` maps points (n, L) to ln f (n,). Every cell has 4 Gauss-Legendre nodes along each
    axis. The first cells are narrow at the origin, and each is twice as wide as its neighbour
    towards the origin. Cells are halved along each axis until that changes the integral no more, or
    until MAX_NODES are spent. Cells far below the integral are left as they are. A cell is far
    below if it is lower by NEGLIGIBLE nats plus, for wide cells, what a peak as narrow as the prior
    could lose between two nodes.
    """
    nodes = (1 + _points([NODES] * latents)) / 2
    log_weight = (_points([WEIGHTS] * latents) / 2).log().sum(1)
    half = _points([torch.tensor([0.0, 0.5], dtype=torch.float64)] * latents)

    def log_mass(low: Tensor, width: Tensor) -> Tensor:
        points = low[:, None] + width[:, None] * nodes
        values = log_f(points.reshape(-1, latents)).cpu().reshape(len(low), -1)
        return (values + log_weight).logsumexp(1) + width.log().sum(1)

    def halved(cells: _Cells, chosen: Tensor, total: Tensor) -> _Cells:
        """The halves of the chosen cells. ``total`` is the logarithm of the whole integral."""
        width = cells.width[chosen, None] / 2
        low = cells.low[chosen, None] + cells.width[chosen, None] * half
        low, width = low.reshape(-1, latents), width.expand_as(low).reshape(-1, latents)
        masses = log_mass(low, width)
        children, parent = masses.reshape(-1, len(half)), cells.log_mass[chosen]
        together = children.logsumexp(1)
        gap = (together - parent).abs()
        change = torch.maximum(together, parent) + (-torch.expm1(-gap)).log()
        wide = cells.width[chosen].amax(1) > 2 * MAX_WIDTH
        settled = (change < total + math.log(TOLERANCE)) & ~wide
        # Each half gets the change of its parent in proportion to its mass. If a node of the parent
        # hit a peak by chance, the half with the peak gets that error until it is halved itself.
        shared = (change[:, None] + children - together[:, None]).reshape(-1)
        return _Cells(low, width, masses, shared, settled.repeat_interleave(len(half)))

    doublings = max(1, math.ceil(math.log2(reach)))
    right = reach * 2.0 ** torch.arange(-doublings, 1, dtype=torch.float64)
    edges = torch.cat([-right.flip(0), torch.zeros(1, dtype=torch.float64), right])
    low, width = _points([edges[:-1]] * latents), _points([edges.diff()] * latents)
    mass = log_mass(low, width)
    cells = _Cells(low, width, mass, mass.clone(), torch.zeros(len(mass), dtype=torch.bool))
    spent = len(mass) * len(nodes)
    while True:
        total = cells.log_mass.logsumexp(0)
        depth = NEGLIGIBLE + 0.1 * cells.width.amax(1).square()
        chosen = ~cells.settled & (cells.log_mass > total - depth)
        spent += int(chosen.sum()) * len(half) * len(nodes)
        if not chosen.any() or spent > MAX_NODES:
            return _integral(cells, total)
        cells = cells.joined(chosen, halved(cells, chosen, total))


def _points(axes: list[Tensor]) -> Tensor:
    """All points whose coordinates are on the axes (m,), one axis for each variable, (n, L)."""
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def _integral(cells: _Cells, total: Tensor) -> Integral:
    shown = cells.log_mass > total - SHOWN
    low, high = cells.low[shown], (cells.low + cells.width)[shown]
    extent = torch.stack([low.amin(0), high.amax(0)])
    return Integral(total.item(), (cells.log_change.logsumexp(0) - total).exp().item(), extent)
