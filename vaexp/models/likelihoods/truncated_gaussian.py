"""The truncated Gaussian likelihood: a density on images of grey values in [0, 1].

p(x_j|z) = N(x_j; m_j, sigma_j^2) / [Phi((1 - m_j) / sigma_j) - Phi(-m_j / sigma_j)] for x_j in
[0, 1], where m(z) and sigma(z) are the location and the scale of the Gaussian before truncation.

The mass in the denominator and the square in the numerator are huge and nearly equal where m lies
far outside [0, 1]: both are 1e7 nats at m = -5 and sigma = 1e-3, where float32 resolves one nat.
So nothing here is relative to m. With c the mode, which is the point of [0, 1] nearest to m,
d = |m - c| / sigma, and v the distance from c in units of sigma, positive towards the interval,

    p(x|z) = e^(-v (d + v/2)) / (sigma I),    I = integral of e^(-v (d + v/2)) over the interval.

I and the first two moments of v are sums of positive terms, by Gauss-Legendre quadrature over the
part of the interval where the integrand is not negligible; no digit cancels, whatever m and sigma.

The density has no bound. As for the Gaussian, it grows without limit as sigma falls where the
pixel can be predicted, and sigma's floor stops that. Where a pixel is always 0 (or 1) it grows also
at any fixed sigma, as m moves away from the interval: p(0) is about |m| / sigma^2. No floor stops
that, on grey values as they are: a test image with one bright pixel there then loses |m| / sigma^2
times the pixel's value. data.transform: dequantize stops it, since noise of the width of a grey
level bounds what a density can gain. The continuous Bernoulli is alike.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.models.absent import Absent
from vaexp.models.likelihoods.bounded import BoundedHead, BoundedPixels
from vaexp.models.likelihoods.diagonal import log_normal_mass
from vaexp.models.likelihoods.interface import Quadratic, Tempered

# For each precision: e^-DEPTH of the integrand is left out at either end, and the number of nodes
# that integrates the rest to that precision.
DEPTH = {torch.float32: 18.0, torch.float64: 42.0}
NODES = {torch.float32: 18, torch.float64: 40}
PIXELS_PER_BLOCK = 4096  # so that their nodes stay in the processor's cache


class TruncatedGaussianHead(BoundedHead):
    """p(x|z) = prod_j N(x_j; m_j(z), sigma_j^2(z)) restricted to [0, 1]."""

    family = LIKELIHOODS["truncated_gaussian"]

    def forward(self, features: Tensor) -> "TruncatedGaussian":
        """p(x|z) of features (..., H): batch (...), event (D,)."""
        return TruncatedGaussian(self.mean(features), self.sigma_of(features))

    def gap_to_mean(self, data_dim: int) -> Absent:  # noqa: ARG002
        """It is another number for every z."""
        return Absent("the gap between the mean and a draw depends on where [0, 1] cuts")


class TruncatedGaussian(BoundedPixels):
    """N(location, diag sigma^2) restricted to [0, 1]^D: (..., D), sigma of a shape that broadcasts.

    ``mean`` and ``variance`` are those of the truncated distribution. They carry no gradient.
    """

    @property
    def mean(self) -> Tensor:
        """E x, (..., D), within [0, 1]."""
        v = self._about_mode
        return (v.mode + v.inward * v.sigma * v.mean).clamp(0, 1)

    @property
    def variance(self) -> Tensor:
        """Var x, (..., D)."""
        return self._about_mode.sigma.square() * self._about_mode.variance

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws, sample_shape + (..., D), all within [0, 1].

        Where the mode is inside, the side of it is drawn first, and then the distance to it.
        """
        with torch.no_grad():
            v = self._about_mode
            shape = self._extended_shape(torch.Size(sample_shape))
            on_near, on_far = torch.erf(v.near / math.sqrt(2)), torch.erf(v.far / math.sqrt(2))
            uniform = torch.rand(shape, dtype=v.mode.dtype, device=v.mode.device)
            is_near = uniform * (on_near + on_far) < on_near
            step = _half_draw(v.distance.expand(shape), torch.where(is_near, v.near, v.far))
            x = v.mode + v.inward * v.sigma * torch.where(is_near, -step, step)
            return x.clamp(0, 1)

    def pixel_log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x_j|z), (..., D); x in [0, 1]."""
        # the mode needs no gradient of its own: ln p does not depend on which point is chosen
        from_mode = (x - self._about_mode.mode) / self.scale
        to_location = (self._about_mode.mode - self.location) / self.scale
        return -from_mode * (from_mode / 2 + to_location) - self._log_integral

    def tempered(self, beta: float) -> Tempered:
        """N(m, beta sigma^2) on [0, 1], and ln Z = ln J(sqrt(beta) sigma) - ln J(sigma) / beta.

        J(sigma) = sigma I is the integral of p(x|z) / p(mode|z); both have the same mode.
        """
        wider = TruncatedGaussian(self.location, math.sqrt(beta) * self.scale)
        log_z = wider._log_integral - self._log_integral / beta
        return Tempered(wider, log_z.sum(-1))

    def log_prob_at_floors(self, x: Tensor, floor: float, factors: Sequence[float]) -> Tensor:
        """Ln p(x) at sigma + (factor - 1) floor, (N, F) float64."""
        columns = []
        for factor in factors:
            sigma = self.scale if factor == 1 else self.scale + (factor - 1) * floor
            terms = TruncatedGaussian(self.location, sigma).pixel_log_prob(x)
            columns.append(terms.sum(1, dtype=torch.float64))
        return torch.stack(columns, 1)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Ln of the product of the masses between the edges, as shares of that in [0, 1], (...)."""
        inside = log_normal_mass(self.location, self.scale, lower.clamp(min=0), upper.clamp(max=1))
        zero = torch.zeros_like(self.location)
        whole = log_normal_mass(self.location, self.scale, zero, zero + 1)
        return (inside - whole).sum(-1)

    def quadratic(self) -> Quadratic:
        """a = m / sigma^2, b = -1 / (2 sigma^2).

        With the mode M, the constant is M (M/2 - m) / sigma^2 - ln (sigma I).
        """
        precision = self.scale.square().reciprocal()
        mode = self._about_mode.mode
        constant = mode * (mode / 2 - self.location) * precision - self._log_integral
        return Quadratic(constant.sum(-1), self.location * precision, -0.5 * precision)

    @cached_property
    def _about_mode(self) -> "_AboutMode":
        with torch.no_grad():
            return _about_mode(self.location, self.scale)

    @cached_property
    def _log_integral(self) -> Tensor:
        """Ln (sigma I), (..., D), with its derivatives by location and sigma."""
        v = self._about_mode
        by_location = v.inward * v.mean / v.sigma
        by_sigma = (v.variance + v.mean * (v.mean + 2 * v.distance)) / v.sigma
        log_integral: Tensor = _Known.apply(
            v.sigma.log() + v.log_integral, self.location, self.scale, by_location, by_sigma
        )
        return log_integral


class _AboutMode(NamedTuple):
    """The truncated Gaussian of every pixel, in v = inward (x - mode) / sigma; all (..., D)."""

    mode: Tensor
    """The point of [0, 1] nearest to the location: the location itself, 0 or 1."""
    inward: Tensor
    """-1 where the location is above 1, else 1."""
    sigma: Tensor
    distance: Tensor
    """d = |location - mode| / sigma."""
    near: Tensor
    """v reaches from -near, which is 0 where d > 0,"""
    far: Tensor
    """to far."""
    log_integral: Tensor
    """ln I."""
    mean: Tensor
    """E v."""
    variance: Tensor
    """Var v."""


def _about_mode(location: Tensor, sigma: Tensor) -> _AboutMode:
    """The integral of e^(-v (d + v/2)) over -near < v < far, and the first two moments of v."""
    mode = location.clamp(0, 1)
    above = location > 1
    distance = (location - mode).abs() / sigma
    near = torch.where(above, 1 - mode, mode) / sigma
    far = torch.where(above, mode, 1 - mode) / sigma
    # v (d + v/2) = DEPTH there; written so that nothing cancels where d is large
    depth = DEPTH[location.dtype]
    reach = 2 * depth / (distance + (distance.square() + 2 * depth).sqrt())
    start = -torch.minimum(near, reach)
    length = torch.minimum(far, reach) - start

    moments = _moments(distance.flatten(), start.flatten(), length.flatten())
    moments = moments.view(3, *distance.shape)
    share = moments[1] / moments[0]
    return _AboutMode(
        mode=mode,
        inward=torch.where(above, -1.0, 1.0).to(sigma),
        sigma=sigma,
        distance=distance,
        near=near,
        far=far,
        log_integral=(length * moments[0]).log(),
        mean=start + length * share,
        variance=length.square() * (moments[2] / moments[0] - share.square()),
    )


def _moments(distance: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """The integrals of s^k e^(-v (d + v/2)), v = start + length s, over 0 < s < 1; k = 0, 1, 2.

    All (P,): (3, P). By Gauss-Legendre quadrature.
    """
    points, weights = np.polynomial.legendre.leggauss(NODES[distance.dtype])
    s = (points + 1) / 2
    node = distance.new_tensor(s)[:, None]
    weight = distance.new_tensor(weights / 2 * s ** np.arange(3)[:, None])
    blocks = [part.split(PIXELS_PER_BLOCK) for part in (distance, start, length)]
    found = []
    for d, first, width in zip(*blocks, strict=True):
        v = torch.addcmul(first, node, width)
        found.append(weight @ torch.add(d, v, alpha=0.5).mul_(v).neg_().exp_())
    return torch.cat(found, 1)


def _half_draw(distance: Tensor, room: Tensor) -> Tensor:
    """Draws of v in [0, room] with a density proportional to e^(-v (d + v/2)).

    By rejection from an exponential distribution (Robert 1995, Simulation of truncated normal
    variables, section 2) that ends at ``room``: exact, and 3 of 5 proposals or more are accepted
    whatever d and room are. Inverting the distribution function costs ten times as much.
    """
    d, end = distance.flatten(), room.flatten()
    more = 2 / (d + (d.square() + 4).sqrt())  # than d, is the rate
    rate = d + more
    found = torch.empty_like(d)
    left = torch.arange(len(d), device=d.device)
    while len(left):
        own, beyond = rate[left], more[left]
        v = -torch.log1p(torch.rand_like(own) * torch.expm1(-own * end[left])) / own
        refused = torch.rand_like(own) > (-(v - beyond).square() / 2).exp()
        found[left] = v
        left = left[refused]
    return found.view_as(distance)


class _Known(torch.autograd.Function):
    """A function of location and sigma of which value and derivatives are computed already."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        location: Tensor,  # noqa: ARG004
        sigma: Tensor,  # noqa: ARG004
        by_location: Tensor,
        by_sigma: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(by_location, by_sigma)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        by_location, by_sigma = ctx.saved_tensors
        return None, outer * by_location, outer * by_sigma, None, None
