"""The model that a config describes."""

import pkgutil
from typing import assert_never

from vaexp.config import GMMConfig, LinearGaussianConfig, VAEConfig
from vaexp.models.gmm import GMM
from vaexp.models.linear_gaussian import LinearGaussian
from vaexp.models.vae import VAE

Model = VAE | GMM | LinearGaussian


def build(
    config: VAEConfig | GMMConfig | LinearGaussianConfig, *, data_dim: int, classes: int
) -> Model:
    """The model that the config describes.

    ``data_dim`` is D, the number of pixels, and ``classes`` C, the number of labels, which only a
    conditional model sees. The weights of a VAE are drawn from torch's global generator. The
    parameters of the other models mean nothing until they are fitted or loaded.
    """
    match config:
        case VAEConfig():
            return VAE.from_config(config, data_dim, classes)
        case GMMConfig():
            return GMM.empty(config, data_dim)
        case LinearGaussianConfig():
            kind: type[LinearGaussian] = pkgutil.resolve_name(config.implementation)
            return kind.empty(config, data_dim)
    assert_never(config)
