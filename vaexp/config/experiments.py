"""The experiments that a config can describe, one for each kind of model."""

from typing import get_args

from vaexp.config.fa import FAExperiment
from vaexp.config.gmm import GMMExperiment
from vaexp.config.ppca import PPCAExperiment
from vaexp.config.vae import VAEExperiment

Config = VAEExperiment | GMMExperiment | PPCAExperiment | FAExperiment
"""A whole experiment, as a YAML file describes it."""
EXPERIMENTS: dict[str, type[Config]] = {each.kind(): each for each in get_args(Config)}
"""The type of experiment of each ``model.kind``."""
