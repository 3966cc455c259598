"""The models, and how a config becomes one."""

from collections.abc import Callable
from functools import partial

from torch import nn

from vaexp.config import VAEConfig
from vaexp.models.likelihoods import (
    ContinuousBernoulli,
    GaussianHead,
    LogitsHead,
    bernoulli,
)
from vaexp.models.vae import VAE


def build(config: VAEConfig, *, data_dim: int, classes: int) -> VAE:
    """The model that the config describes, with fresh weights from torch's global generator.

    data_dim: D pixels. classes: C labels, which only a conditional model sees.
    """
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


__all__ = ["VAE", "build"]
