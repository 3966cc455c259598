"""vaexp: train, sample and compare latent-variable models described by a YAML file."""

__version__ = "0.1.0"
