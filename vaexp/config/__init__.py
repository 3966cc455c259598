"""What an experiment is, read from YAML. Imports no torch."""

from vaexp.config.base import DecodeMode
from vaexp.config.data import DataConfig, TransformName
from vaexp.config.experiments import Config
from vaexp.config.fa import FAConfig, FAExperiment
from vaexp.config.gmm import GMMConfig, GMMExperiment
from vaexp.config.load import load_config, read_config
from vaexp.config.ppca import PPCAConfig, PPCAExperiment
from vaexp.config.settings import differing, digest, dump, flatten
from vaexp.config.shipped import shipped_configs, summary
from vaexp.config.training import SGDConfig
from vaexp.config.vae import VAEConfig, VAEExperiment

__all__ = [
    "Config",
    "DataConfig",
    "DecodeMode",
    "FAConfig",
    "FAExperiment",
    "GMMConfig",
    "GMMExperiment",
    "PPCAConfig",
    "PPCAExperiment",
    "SGDConfig",
    "TransformName",
    "VAEConfig",
    "VAEExperiment",
    "differing",
    "digest",
    "dump",
    "flatten",
    "load_config",
    "read_config",
    "shipped_configs",
    "summary",
]
