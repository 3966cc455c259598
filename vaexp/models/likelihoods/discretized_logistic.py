"""The discretised logistic likelihood: a mass on the 256 grey levels of every pixel.

x_j = level / 255, and with the logistic distribution function F(t) = 1 / (1 + e^-t)

    P(level|z) = F((level + 1/2 - M) / S) - F((level - 1/2 - M) / S),

where the first and the last level take the tails, too (Kingma et al. 2016, Improved variational
inference with inverse autoregressive flow, section 5.2; Salimans et al. 2017, PixelCNN++, section
2.1, as a mixture). M = 255 m(z) is the location in levels, and S = 255 sigma(z) sqrt(3) / pi the
scale, so that sigma is the standard deviation of the logistic before it is rounded to levels.

It is a mass, so ln p(x|z) <= 0 whatever sigma is, and nothing is to be gained from a sigma far
below one level, 1/255 = 0.0039.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.models.absent import Absent
from vaexp.models.likelihoods.bounded import BoundedHead, BoundedPixels
from vaexp.models.likelihoods.interface import Tempered

LAST = 255  # of the levels, which are counted from 0
SCALE_OF_SIGMA = math.sqrt(3) / math.pi
PIXELS_PER_BLOCK = 1024  # of which all levels are at hand at once


class DiscretizedLogisticHead(BoundedHead):
    """Every pixel a logistic distribution, rounded to grey levels."""

    family = LIKELIHOODS["discretized_logistic"]

    def forward(self, features: Tensor) -> "DiscretizedLogistic":
        """p(x|z) of features (..., H): batch (...), event (D,)."""
        return DiscretizedLogistic(self.mean(features), self.sigma_of(features))

    def gap_to_mean(self, data_dim: int) -> Absent:  # noqa: ARG002
        """Means are between levels."""
        return Absent("the mean of a discretised logistic is none of the grey levels")


class DiscretizedLogistic(BoundedPixels):
    """Independent pixels, (..., D), on the values 0, 1/255, ..., 1; sigma broadcasts to location.

    ``mean`` and ``variance`` are those of the 256 levels. They carry no gradient.
    """

    @property
    def mean(self) -> Tensor:
        """E x, (..., D): the sum of P(level >= k) over k = 1..255, over 255."""
        sums = [
            ((location - edge) / scale).sigmoid().sum(1) for location, scale, edge in self._blocks()
        ]
        return (torch.cat(sums) / LAST).view(self.location.shape)

    @property
    def variance(self) -> Tensor:
        """Var x, (..., D), from the first two moments about the level c that is nearest to M.

        E (level - c) and E (level - c)^2 are the sums, over the edges between levels, of the
        probability that the level is on the other side of the edge than c, times +-1 and times
        twice the distance of the edge from c.
        """
        found = []
        for location, scale, edge in self._blocks():
            from_c = edge - location.round().clamp(0, LAST)
            beyond = (-(location - edge).abs() / scale).sigmoid()
            first, second = (beyond * from_c.sign()).sum(1), 2 * (beyond * from_c.abs()).sum(1)
            found.append(second - first.square())
        return (torch.cat(found) / LAST**2).view(self.location.shape)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws, sample_shape + (..., D): of the logistic, rounded to the nearest level."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            uniform = torch.rand(shape, dtype=torch.float64, device=self.location.device)
            location, scale = self._in_levels(torch.float64)
            level = (location + scale * uniform.logit()).round().clamp(0, LAST)
            return level.to(self.location.dtype) / LAST

    def pixel_log_prob(self, x: Tensor) -> Tensor:
        """Ln P(x_j|z), (..., D), of the level that x_j is nearest to.

        With the edges a > b of a level, F(a) - F(b) = F(a) F(-b) (1 - e^(b - a)): the logarithms of
        three numbers that are positive and not above 1, so nothing cancels. The first level has no
        lower edge and the last no upper one, which leaves one of the factors.
        """
        location, scale, log_step = self._log_prob_terms
        level = (LAST * x).round()
        # the upper edge of a level and the lower edge of the next come out as the same number
        below_upper = logsigmoid((level + 0.5 - location) / scale)
        above_lower = logsigmoid((location - (level - 0.5)) / scale)
        first, last = level <= 0, level >= LAST
        inner = log_step.masked_fill(first | last, 0)
        return below_upper.masked_fill(last, 0) + above_lower.masked_fill(first, 0) + inner

    def tempered(self, beta: float) -> Tempered | Absent:
        """Itself at beta = 1."""
        if beta == 1:
            return Tempered(self, torch.zeros_like(self.location[..., 0]))
        return Absent("p(x|z)^(1/beta) of a discretised logistic is not one")

    def log_prob_at_floors(self, x: Tensor, floor: float, factors: Sequence[float]) -> Absent:  # noqa: ARG002
        """A mass has no singularities."""
        return Absent("p(x|z) is a mass, at most 1 whatever sigma is, so no floor holds it down")

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Ln p(x|z) itself, (...), of the levels between these edges."""
        first = lower.isinf()
        level = torch.where(first, 0, (LAST * lower + 0.5).round().clamp(max=LAST))
        del upper  # the next edge above
        return self.double().log_prob(level.double() / LAST)

    def quadratic(self) -> Absent:
        """It is not."""
        return Absent("ln p(x|z) is not a polynomial in the pixels")

    @cached_property
    def _log_prob_terms(self) -> tuple[Tensor, Tensor, Tensor]:
        """M, S and ln(1 - e^(b - a)), where a - b = 1/S of every level, (..., D)."""
        location, scale = self._in_levels(self.location.dtype)
        return location, scale, (-torch.expm1(-1 / scale)).log()

    def _in_levels(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """M and S, (..., D)."""
        return LAST * self.location.to(dtype), LAST * SCALE_OF_SIGMA * self.scale.to(dtype)

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """M (n, 1) and S (n, 1) of some pixels at a time, and the edges between levels (255,)."""
        with torch.no_grad():
            location, scale = self._in_levels(self.location.dtype)
            edge = torch.arange(LAST, dtype=location.dtype, device=location.device) + 0.5
            parts = (whole.reshape(-1, 1).split(PIXELS_PER_BLOCK) for whole in (location, scale))
            for some, their in zip(*parts, strict=True):
                yield some, their, edge
