"""Heads of families with a location mu(z) and a scale sigma(z), whatever their noise is."""

import math
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vaexp.config.sigma import SIGMA_MODES
from vaexp.models.likelihoods.interface import Likelihood, Scale

if TYPE_CHECKING:
    from vaexp.config import VAEConfig


class LocationScale(Likelihood):
    """mu(z) is a linear map of the features, and sigma is what ``sigma_mode`` names.

    ``sigma_mode`` is a key of ``vaexp.config.sigma.SIGMA_MODES``. A learned sigma starts at
    ``sigma`` for every z and stays above ``floor``. A fixed one is the number ``sigma``.
    """

    def __init__(
        self, features: int, data_dim: int, *, sigma_mode: str, sigma: float, floor: float
    ):
        super().__init__()
        self.mean = nn.Linear(features, data_dim)
        self.mode = SIGMA_MODES[sigma_mode]
        self.floor = floor
        count = data_dim if self.mode.per_pixel else 1
        if not self.mode.learned:
            self.register_buffer("sigma", torch.full((count,), sigma))
        elif not self.mode.of_z:
            start = torch.full((count,), raw_for(sigma, floor))
            self.register_parameter("raw_sigma", nn.Parameter(start))
        else:
            self.raw_sigma = nn.Linear(features, count)
            nn.init.zeros_(self.raw_sigma.weight)
            nn.init.constant_(self.raw_sigma.bias, raw_for(sigma, floor))

    @classmethod
    def from_config(cls, config: "VAEConfig", features: int, data_dim: int) -> Self:
        """The head that a config describes, on H ``features``, for D = ``data_dim`` pixels."""
        return cls(
            features,
            data_dim,
            sigma_mode=config.sigma_mode,
            sigma=config.sigma,
            floor=config.sigma_floor,
        )

    @property
    def scale(self) -> Scale:
        """What its sigma is. A fixed sigma has the precision of the weights."""
        least = self.floor if self.mode.learned else self.get_buffer("sigma")[0].item()
        return Scale(self.mode, least)

    def sigma_of(self, features: Tensor) -> Tensor:
        """Sigma at features (..., H): (..., D) or (..., 1), and (D,) or (1,) without z in it."""
        if not self.mode.learned:
            return self.get_buffer("sigma")
        if not self.mode.of_z:
            return scale_above(self.floor, self.get_parameter("raw_sigma"))
        return scale_above(self.floor, self.raw_sigma(features))


def scale_above(floor: float, raw: Tensor) -> Tensor:
    """A standard deviation from an unconstrained ``raw``, never below ``floor``.

    It is floor + softplus(raw), which grows linearly. With exp in its place, one latent far from
    all others sends sigma(z) to infinity and the run diverges (seen in epoch 81 of vae-pixel).
    """
    return floor + softplus(raw)


def raw_for(scale: float, floor: float) -> float:
    """The ``raw`` for which ``scale_above(floor, raw)`` is ``scale``, which is above ``floor``."""
    excess = scale - floor
    return excess + math.log(-math.expm1(-excess))
