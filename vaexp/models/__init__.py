"""The models, and how a config becomes one."""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
from torch import nn

from vaexp.config import GMMConfig, PPCAConfig, VAEConfig
from vaexp.models.covariances import Size, family
from vaexp.models.gmm import GMM, PRECISIONS
from vaexp.models.likelihoods import (
    ContinuousBernoulli,
    GaussianHead,
    LogitsHead,
    bernoulli,
)
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
    if config.likelihood == "gaussian":
        head: Callable[[int], nn.Module] = partial(
            GaussianHead,
            data_dim=data_dim,
            sigma_mode=config.sigma_mode,
            sigma=config.sigma,
            floor=config.sigma_floor,
        )
    elif config.likelihood == "bernoulli":
        head = partial(LogitsHead, data_dim=data_dim, family=bernoulli)
    else:
        head = partial(LogitsHead, data_dim=data_dim, family=ContinuousBernoulli)
    return VAE(
        data_dim,
        config.latent_dim,
        config.hidden,
        config.activation,
        head,
        classes if config.conditional else 0,
    )


def _gmm(config: GMMConfig, data_dim: int) -> GMM:
    dtype = PRECISIONS[config.precision]
    size = Size(config.components, data_dim, config.factors)
    weight = torch.empty(size.components, dtype=dtype)
    return GMM(weight, family(config.covariance).empty(size, dtype))


__all__ = ["GMM", "PPCA", "VAE", "Model", "build"]
