"""The models, by family: VAE; GMM; LinearGaussian with PPCA and FA."""

from vaexp.models.build import Model, build
from vaexp.models.fa import FA
from vaexp.models.gmm import GMM
from vaexp.models.linear_gaussian import LinearGaussian
from vaexp.models.ppca import PPCA
from vaexp.models.vae import VAE

__all__ = ["FA", "GMM", "PPCA", "VAE", "LinearGaussian", "Model", "build"]
