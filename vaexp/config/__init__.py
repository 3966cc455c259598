"""What an experiment is, read from YAML. Imports no torch."""

from vaexp.config.describe import describe, unit
from vaexp.config.load import differing, digest, dump, flatten, load_config
from vaexp.config.schema import (
    Config,
    DataConfig,
    DecodeMode,
    FAConfig,
    FAExperiment,
    GMMConfig,
    GMMExperiment,
    PPCAConfig,
    PPCAExperiment,
    SigmaMode,
    TransformName,
    VAEConfig,
    VAEExperiment,
)
from vaexp.config.shipped import shipped_configs, summary

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
    "SigmaMode",
    "TransformName",
    "VAEConfig",
    "VAEExperiment",
    "describe",
    "differing",
    "digest",
    "dump",
    "flatten",
    "load_config",
    "shipped_configs",
    "summary",
    "unit",
]
