"""Transforms of grey values 0 to 255 to the x of a model, and of densities of x back again.

With p the grey value, u uniform on [0, 1) and a = 1e-6:

    scale                x = p / 255
    dequantize           x = (p + u) / 256
    logit                x = logit(a + (1 - 2a) (p + u) / 256)     (Papamakarios et al., 2017)
    binarize             x = 1 if p / 255 > 1/2, else 0
    binarize_stochastic  x ~ Bernoulli(p / 255)
    binarize_static      x ~ Bernoulli(p / 255), drawn once for each image
"""

import math
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vaexp.config import TransformName

LOGIT_MARGIN = 1e-6  # a
NOISE_STEPS = 1 << 16  # that u takes
_GOLDEN, _FIRST_FACTOR, _SECOND_FACTOR = (  # of SplitMix64, as signed numbers
    constant - (1 << 64)
    for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
BLOCK = 1024  # images worked on at a time, so that temporaries stay small


@dataclass(frozen=True)
class Transform:
    """One of the transforms above, by its name. It has no state, not even a random one."""

    name: TransformName

    @property
    def has_bits_per_dim(self) -> bool:
        """Whether x has a density that says something about the grey values."""
        return self.name in ("dequantize", "logit")

    @property
    def grey(self) -> bool:
        """Whether x tells the grey level, 0 to 255, of every pixel."""
        return self.look == "grey"

    @property
    def in_unit_interval(self) -> bool:
        """Whether 0 and 1 are the ends of a pixel's range."""
        return self.name != "logit"

    @property
    def look(self) -> str:
        """How images look on the display scale. Images with the same look can be compared."""
        match self.name:
            case "scale" | "dequantize" | "logit":
                return "grey"
            case "binarize":
                return "black and white by a threshold"
            case "binarize_stochastic" | "binarize_static":
                return "black and white at random"
        assert_never(self.name)

    def __call__(self, pixels: Tensor) -> Tensor:
        """The x (N, D) float32 of pixels (N, D) uint8, on the same device.

        Random transforms draw from torch's current global generator. The caller seeds it, inside of
        torch.random.fork_rng, so that nothing else is disturbed. x is finite. With dequantize it
        lies in [0, 1), and with logit between -13.82 and 13.82.
        """
        x = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device)
        for block, out in zip(torch.split(pixels, BLOCK), torch.split(x, BLOCK), strict=True):
            out.copy_(self._apply(block))
        return x

    def _apply(self, pixels: Tensor) -> Tensor:
        """The transform of a block of pixels (n, D)."""
        match self.name:
            case "scale":
                return pixels / 255
            case "dequantize" | "logit":
                # float64, so that the float32 that x is rounded to still tells u and the level
                return self._of_unit(_dequantize(pixels).double())
            case "binarize":
                return pixels >= 128
            case "binarize_stochastic":
                return torch.bernoulli(pixels / 255)
            case "binarize_static":
                return _uniform_of(pixels) < pixels / 255
        assert_never(self.name)

    def to_unit(self, x: Tensor) -> Tensor:
        """x, of any shape, on the display scale from 0 (black) to 1 (white), not clipped.

        The logit is inverted: (sigmoid(x) - a) / (1 - 2a). Others are on that scale already.
        """
        match self.name:
            case "logit":
                return (torch.sigmoid(x) - LOGIT_MARGIN) / (1 - 2 * LOGIT_MARGIN)
            case "scale" | "dequantize" | "binarize" | "binarize_stochastic" | "binarize_static":
                return x
        assert_never(self.name)

    def levels(self, x: Tensor) -> Tensor:
        """The grey levels 0 to 255 of images x (N, D), int64.

        Raises ValueError where ``grey`` is false.
        """
        match self.name:
            case "scale":
                return (x * 255).round().long()
            case "dequantize" | "logit":
                # half a step of the noise, so that x just above an edge is not rounded below it
                return (self.to_unit(x.double()) * 256 + 0.5 / NOISE_STEPS).floor().long()
            case "binarize" | "binarize_stochastic" | "binarize_static":
                raise ValueError(f"{self.name} leaves no grey levels")
        assert_never(self.name)

    def edges(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """The edges between which all x of grey levels (...) lie, (...) float64 each.

        Of level k they are (k - 1/2) / 255 and (k + 1/2) / 255 with scale, where x is k / 255, and
        k / 256 and (k + 1) / 256 with dequantize, or their logits. The first level reaches down to
        -inf and the last up to inf. Raises ValueError where ``grey`` is false.
        """
        k = levels.double()
        match self.name:
            case "scale":
                lower, upper = (k - 0.5) / 255, (k + 0.5) / 255
            case "dequantize" | "logit":
                lower, upper = self._of_unit(k / 256), self._of_unit((k + 1) / 256)
            case "binarize" | "binarize_stochastic" | "binarize_static":
                raise ValueError(f"{self.name} leaves no grey levels")
            case _:
                assert_never(self.name)
        return lower.masked_fill(k <= 0, -math.inf), upper.masked_fill(k >= 255, math.inf)

    def _of_unit(self, unit: Tensor) -> Tensor:
        """The x of points (p + u) / 256 of the unit interval, in the precision that they have."""
        if self.name != "logit":
            return unit
        # logit(s) = ln s - ln(1 - s), with 1 - s = a + (1 - 2a)(1 - x): no cancellation
        a = LOGIT_MARGIN
        return (a + (1 - 2 * a) * unit).log() - (a + (1 - 2 * a) * (1 - unit)).log()

    def log_det(self, x: Tensor) -> Tensor:
        """ln |det dx/dy| at x (N, D), with y = p + u the grey value on 0..256, (N,) float64.

        With dequantize it is -D ln 256. With logit it is the sum over pixels of
        ln((1 - 2a) / 256) - ln s - ln(1 - s), with s = sigmoid(x). Raises ValueError for transforms
        without such a density (see has_bits_per_dim).
        """
        constant = -x.shape[1] * math.log(256)
        match self.name:
            case "dequantize":
                return x.new_full((len(x),), constant, dtype=torch.float64)
            case "logit":
                constant += x.shape[1] * math.log1p(-2 * LOGIT_MARGIN)
                blocks = [
                    -(logsigmoid(block) + logsigmoid(-block)).sum(1)
                    for block in map(Tensor.double, torch.split(x, BLOCK))
                ]
                return constant + torch.cat(blocks)
            case "scale" | "binarize" | "binarize_stochastic" | "binarize_static":
                raise ValueError(f"{self.name} has no Jacobian")
        assert_never(self.name)

    def bits_per_dim(self, log_prob: Tensor, x: Tensor) -> Tensor:
        """Bits per pixel on the scale 0..255, (N,) float64, of images x (N, D).

        ``log_prob`` is the log density of x in nats, (N,). Bits are -(log_prob + log_det) /
        (D ln 2). Their mean is an upper bound on the code length of
        the grey values (Theis et al., 2016); a uniform density has 8. Raises ValueError for
        transforms without a density (see has_bits_per_dim).
        """
        return -(log_prob.double() + self.log_det(x)) / (x.shape[1] * math.log(2))


def _uniform_of(pixels: Tensor) -> Tensor:
    """Numbers u (n, D) in [0, 1) for pixels (n, D), which follow from each image alone.

    They are the first 24 bits of SplitMix64 (Steele, Lea and Flood 2014), whose state is the place
    of the pixel plus a hash of the image. So an image has the same u in every order, split and run.
    """
    places = _mixed(torch.arange(1, pixels.shape[1] + 1, device=pixels.device) * _GOLDEN)
    image = _mixed((pixels.long() * places).sum(1, keepdim=True))
    return (_mixed(image + places) >> 40 & 0xFFFFFF).float() / (1 << 24)


def _mixed(state: Tensor) -> Tensor:
    """The output function of SplitMix64, for states (...) int64 that stand for unsigned ones."""
    state = (state ^ (state >> 30 & 0x3FFFFFFFF)) * _FIRST_FACTOR
    state = (state ^ (state >> 27 & 0x1FFFFFFFFF)) * _SECOND_FACTOR
    return state ^ (state >> 31 & 0x1FFFFFFFF)


def _dequantize(pixels: Tensor) -> Tensor:
    """(p + u) / 256 of pixels p, with u uniform on [0, 1) by torch's global generator."""
    # With 16 bits of noise p + u is exact in float32, so x never reaches the next grey value.
    noise = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device).random_(
        NOISE_STEPS
    )
    return (pixels + noise / NOISE_STEPS) / 256
