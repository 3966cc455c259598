"""The experiments that a config can describe, one for each kind of model."""

from vaexp.config.linear_gaussian import LinearGaussianExperiment
from vaexp.config.models import fa, gmm, ppca, vae

Config = vae.VAEExperiment | gmm.GMMExperiment | LinearGaussianExperiment
"""A whole experiment, as a YAML file describes it: one of the three families of models."""

_ALL: tuple[type[Config], ...] = (
    vae.VAEExperiment,
    gmm.GMMExperiment,
    ppca.PPCAExperiment,
    fa.FAExperiment,
)
EXPERIMENTS: dict[str, type[Config]] = {experiment.kind(): experiment for experiment in _ALL}
"""The type of experiment of each ``model.kind``. A new linear-Gaussian model is one more line."""
