"""The Gaussian likelihood p(x|z) = N(mu(z), diag sigma^2), which may have factors beside sigma."""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.models.absent import Absent
from vaexp.models.likelihoods.diagonal import DiagonalGaussian, log_z_of_power
from vaexp.models.likelihoods.interface import Affine, Decoded
from vaexp.models.likelihoods.location_scale import LocationScale
from vaexp.models.likelihoods.lowrank import LowRankGaussian

if TYPE_CHECKING:
    from vaexp.config import VAEConfig


class GaussianHead(LocationScale):
    """p(x|z) = N(mu(z), diag sigma^2), or N(mu(z), diag sigma^2(z) + V(z) V(z)^T) with factors.

    mu is a linear map of the features, and so is A = diag(1/sigma) V, (D, q): the factors in units
    of sigma. ``factors``: q, of a sigma mode that has them.

    Were V itself the linear map, the first steps of training would make it far longer than sigma
    is. It hardly comes back, as the gradient of ln |Sigma| falls with the length of V: draws of
    p(x|z) had 67 times the variance of the images, and the ELBO was below that without factors.
    """

    family = LIKELIHOODS["gaussian"]

    def __init__(
        self,
        features: int,
        data_dim: int,
        *,
        sigma_mode: str,
        sigma: float,
        floor: float,
        factors: int = 0,
    ):
        super().__init__(features, data_dim, sigma_mode=sigma_mode, sigma=sigma, floor=floor)
        self.factors: nn.Linear | None = None
        if self.mode.factors:
            self.factors = factors_map(features, data_dim, factors)

    @classmethod
    def from_config(cls, config: "VAEConfig", features: int, data_dim: int) -> Self:
        """The head that a config describes, on H ``features``, for D = ``data_dim`` pixels."""
        return cls(
            features,
            data_dim,
            sigma_mode=config.sigma_mode,
            sigma=config.sigma,
            floor=config.sigma_floor,
            factors=config.factors,
        )

    def forward(self, features: Tensor) -> Decoded:
        """p(x|z) of features (..., H): batch (...), event (D,)."""
        mean, sigma = self.mean(features), self.sigma_of(features)
        if self.factors is None:
            return DiagonalGaussian(mean, sigma)
        relative = self.factors(features).unflatten(-1, (-1, mean.shape[-1]))
        return LowRankGaussian(mean, sigma, (relative * sigma[..., None, :]).mT)

    def log_z(self, features: Tensor, beta: float) -> Tensor | Absent:
        """ln Z(z) at features (..., H), (...): without factors it needs sigma(z), but not mu(z)."""
        if self.factors is not None:
            return super().log_z(features, beta)
        log_z = log_z_of_power(self.sigma_of(features), self.mean.out_features, beta)
        return log_z.expand(features.shape[:-1])

    @property
    def constant_log_z(self) -> bool:
        """Whether sigma is the same for every z, as Z(z) depends on z through sigma(z) alone."""
        return not self.mode.of_z

    def best_sigma(self, squares: Tensor, floor: float) -> Tensor:
        """The square root of ``squares``, or the floor where that is larger.

        E ln N(x; mu(z), sigma^2) has its maximum at sigma^2 = E (x - mu(z))^2 (Rybkin, Daniilidis
        and Levine 2021, the optimal sigma-VAE) and falls on both sides of it.
        """
        return squares.sqrt().clamp(min=floor)

    def gap_to_mean(self, data_dim: int) -> float:
        """E |x - mu|^2 / (2 sigma^2) = D/2, half of the mean of a chi-squared variable."""
        return data_dim / 2

    def affine(self) -> Affine | Absent:
        """The head itself, where neither sigma nor factors are functions of z."""
        if self.mode.of_z:
            return Absent("sigma is a function of z")
        with torch.no_grad():
            sigma = self.sigma_of(self.mean.weight.new_empty(0)).double()
            variance = sigma.square() if self.mode.per_pixel else sigma[0].square()
            return Affine(self.mean.weight.double(), self.mean.bias.double(), variance)


def factors_map(features: int, data_dim: int, factors: int) -> nn.Linear:
    """The map from H ``features`` to A^T (q, D), flat, as training starts with it.

    The weights are zero, so that the factors are at first the same for every z, as sigma is. The
    biases are not: p(x|z) does not change with the sign of V, so its gradient vanishes at V = 0,
    which is a saddle point. They are N(0, 1/D), so that each column of V has a length of about
    sigma: a factor starts with as much variance as the noise in its direction. They are random so
    that no two columns are equal, because equal columns would stay equal.
    """
    linear = nn.Linear(features, factors * data_dim)
    nn.init.zeros_(linear.weight)
    nn.init.normal_(linear.bias, std=data_dim**-0.5)
    return linear
