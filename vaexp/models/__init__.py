"""The models, and how a config becomes one."""

from typing import assert_never

import torch

from vaexp.config import GMMConfig, PPCAConfig, VAEConfig
from vaexp.models.gaussians import Diag, Full, Gaussians, LowRank, Spherical, Tied
from vaexp.models.gmm import GMM
from vaexp.models.likelihoods import head_of
from vaexp.models.ppca import PPCA
from vaexp.models.vae import VAE

Model = VAE | GMM | PPCA


def build(config: VAEConfig | GMMConfig | PPCAConfig, *, data_dim: int, classes: int) -> Model:
    """The model that the config describes.

    A VAE has fresh weights from torch's global generator; the parameters of the others mean nothing
    until they are fitted or loaded. data_dim: D pixels. classes: C labels, which only a conditional
    model sees.
    """
    match config:
        case VAEConfig():
            return _vae(config, data_dim, classes)
        case GMMConfig():
            return _gmm(config, data_dim)
        case PPCAConfig():
            numbers = torch.empty(data_dim, config.latent_dim, dtype=torch.float64)
            return PPCA(numbers.new_empty(data_dim), numbers, numbers.new_empty(()))
    assert_never(config)


def _vae(config: VAEConfig, data_dim: int, classes: int) -> VAE:
    return VAE(
        data_dim,
        config.latent_dim,
        config.hidden,
        config.activation,
        head_of(config, data_dim),
        classes if config.conditional else 0,
    )


def _gmm(config: GMMConfig, d: int) -> GMM:
    dtype = {"float32": torch.float32, "float64": torch.float64}[config.precision]
    k = config.components
    mean = torch.empty(k, d, dtype=dtype)
    gaussians: Gaussians
    match config.covariance:
        case "full":
            gaussians = Full(mean, mean.new_empty(k, d, d))
        case "tied":
            gaussians = Tied(mean, mean.new_empty(d, d))
        case "diag":
            gaussians = Diag(mean, mean.new_empty(k, d))
        case "spherical":
            gaussians = Spherical(mean, mean.new_empty(k))
        case "lowrank":
            factors = mean.new_empty(k, d, config.factors)
            gaussians = LowRank(mean, factors, mean.new_empty(k))
        case _:
            assert_never(config.covariance)
    return GMM(mean.new_empty(k), gaussians)


__all__ = ["GMM", "PPCA", "VAE", "Model", "build"]
