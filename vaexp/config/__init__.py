"""What an experiment is, read from YAML. Imports no torch."""

from vaexp.config.base import DecodeMode
from vaexp.config.data import DataConfig, TransformName
from vaexp.config.document import read_override
from vaexp.config.em import EMExperiment
from vaexp.config.experiments import Config
from vaexp.config.linear_gaussian import LinearGaussianConfig, LinearGaussianExperiment
from vaexp.config.load import load_config, load_text, read_config
from vaexp.config.models.gmm import GMMConfig, GMMExperiment
from vaexp.config.models.vae import VAEConfig, VAEExperiment
from vaexp.config.settings import differing, digest, dump, flatten, json_schema, of_the_run
from vaexp.config.shipped import shipped_configs, shipped_sweeps, summary
from vaexp.config.training import SGDConfig

__all__ = [
    "Config",
    "DataConfig",
    "DecodeMode",
    "EMExperiment",
    "GMMConfig",
    "GMMExperiment",
    "LinearGaussianConfig",
    "LinearGaussianExperiment",
    "SGDConfig",
    "TransformName",
    "VAEConfig",
    "VAEExperiment",
    "differing",
    "digest",
    "dump",
    "flatten",
    "json_schema",
    "load_config",
    "load_text",
    "of_the_run",
    "read_config",
    "read_override",
    "shipped_configs",
    "shipped_sweeps",
    "summary",
]
