"""p(x|z) of pixels that are independent given z."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaexp.models.likelihoods.interface import Decoded


class IndependentPixels(Decoded):
    """``pixels`` is the distribution of every pixel by itself, with batch shape (..., D)."""

    def __init__(self, pixels: Distribution):
        self.pixels = pixels
        super().__init__(pixels.batch_shape)

    @property
    def mean(self) -> Tensor:
        """mu(z), (..., D)."""
        return self.pixels.mean

    @property
    def variance(self) -> Tensor:
        """The variance of each pixel, (..., D)."""
        return self.pixels.variance

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws, sample_shape + (..., D)."""
        return self.pixels.sample(torch.Size(sample_shape))

    def pixel_log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x_j|z), (..., D)."""
        return self.pixels.log_prob(x)

    def log_prob(self, value: Tensor) -> Tensor:
        """Ln p(value|z), the sum over pixels, (...)."""
        return self.pixels.log_prob(value).sum(-1)
