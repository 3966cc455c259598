"""The models, by family: VAE, GMM and LinearGaussian, whose models have a file each."""

from vaexp.models.build import Model, build
from vaexp.models.gmm import GMM
from vaexp.models.linear_gaussian import LinearGaussian
from vaexp.models.vae import VAE

__all__ = ["GMM", "VAE", "LinearGaussian", "Model", "build"]
