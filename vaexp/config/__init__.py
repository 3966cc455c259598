"""What an experiment is, read from YAML. Imports no torch."""

from vaexp.config.describe import describe
from vaexp.config.load import digest, dump, flatten, load_config
from vaexp.config.schema import (
    Config,
    DataConfig,
    DecodeMode,
    EvaluateConfig,
    SigmaMode,
    TrainConfig,
    TransformName,
    VAEConfig,
)
from vaexp.config.shipped import shipped_configs, summary

__all__ = [
    "Config",
    "DataConfig",
    "DecodeMode",
    "EvaluateConfig",
    "SigmaMode",
    "TrainConfig",
    "TransformName",
    "VAEConfig",
    "describe",
    "digest",
    "dump",
    "flatten",
    "load_config",
    "shipped_configs",
    "summary",
]
