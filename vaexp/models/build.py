"""The model that a config describes."""

from typing import assert_never

import torch
from torch import Tensor

from vaexp.config import FAConfig, GMMConfig, PPCAConfig, VAEConfig
from vaexp.models.covariances import Size, family
from vaexp.models.fa import FA
from vaexp.models.gmm import GMM, PRECISIONS
from vaexp.models.likelihoods import head_of
from vaexp.models.ppca import PPCA
from vaexp.models.vae import VAE

Model = VAE | GMM | PPCA | FA


def build(
    config: VAEConfig | GMMConfig | PPCAConfig | FAConfig, *, data_dim: int, classes: int
) -> Model:
    """The model that the config describes.

    ``data_dim`` is D, the number of pixels, and ``classes`` C, the number of labels, which only a
    conditional model sees. The weights of a VAE are drawn from torch's global generator. The
    parameters of the other models mean nothing until they are fitted or loaded.
    """
    match config:
        case VAEConfig():
            return _vae(config, data_dim, classes)
        case GMMConfig():
            return _gmm(config, data_dim)
        case PPCAConfig():
            mean, factors = _mean_and_factors(data_dim, config.latent_dim)
            return PPCA(mean, factors, mean.new_empty(()))
        case FAConfig():
            mean, factors = _mean_and_factors(data_dim, config.latent_dim)
            return FA(mean, factors, mean.new_empty(data_dim))
    assert_never(config)


def _vae(config: VAEConfig, data_dim: int, classes: int) -> VAE:
    """A VAE with fresh weights."""
    return VAE(
        data_dim,
        config.latent_dim,
        config.hidden,
        config.activation,
        head_of(config, data_dim),
        classes if config.conditional else 0,
    )


def _gmm(config: GMMConfig, data_dim: int) -> GMM:
    """A mixture of the right shapes, whose parameters mean nothing."""
    dtype = PRECISIONS[config.precision]
    size = Size(config.components, data_dim, config.factors)
    weight = torch.empty(size.components, dtype=dtype)
    return GMM(weight, family(config.covariance).empty(size, dtype))


def _mean_and_factors(d: int, latent_dim: int) -> tuple[Tensor, Tensor]:
    """A mean (D,) and factors (D, L) without values."""
    factors = torch.empty(d, latent_dim, dtype=torch.float64)
    return factors.new_empty(d), factors
