"""A config in a few words, for titles and tables."""

from typing import assert_never

from vaexp.config.covariances import COVARIANCES
from vaexp.config.schema import Config, FAConfig, GMMConfig, PPCAConfig, VAEConfig

FAMILIES = {
    "gaussian": "Gaussian",
    "bernoulli": "Bernoulli",
    "continuous_bernoulli": "continuous Bernoulli",
}


def describe(config: Config) -> str:
    """The settings that matter when looking at a picture or a number, on one line."""
    match config.model:
        case VAEConfig():
            parts = _vae(config.model)
        case GMMConfig():
            parts = _gmm(config.model)
            if config.train.max_iter == 0:
                parts.append("as initialised")
        case PPCAConfig():
            method = {"em": "EM", "closed_form": "closed form"}[config.model.method]
            parts = [f"probabilistic PCA, L = {config.model.latent_dim}", method]
        case FAConfig():
            floor = f"noise floor {config.model.noise_floor:g}"
            parts = [f"factor analysis, L = {config.model.latent_dim}", floor]
        case _:
            assert_never(config.model)
    if config.data.labels is not None:
        parts.append("digits " + " ".join(map(str, config.data.labels)))
    if config.data.name != "mnist":
        parts.append(config.data.name)
    if config.data.transform != "scale":
        parts.append(config.data.transform)
    return ", ".join(parts)


def _vae(model: VAEConfig) -> list[str]:
    name = "VAE" if model.hidden else "linear VAE"
    likelihood = FAMILIES[model.likelihood]
    if model.likelihood == "gaussian":
        learned = f"≥ {model.sigma_floor:g}"
        likelihood += {
            "fixed": f", σ fixed at {model.sigma:g}",
            "global": f", one learned σ ({learned})",
            "shared": f", σ(z) per image ({learned})",
            "pixel": f", σ(z) per pixel ({learned})",
        }[model.sigma_mode]
    parts = [f"{name}, L = {model.latent_dim}", likelihood, f"β = {model.beta:g}"]
    return parts + (["given the label"] if model.conditional else [])


def _gmm(model: GMMConfig) -> list[str]:
    covariance = COVARIANCES[model.covariance].caption.format(factors=model.factors)
    started = "one per digit" if model.init == "labels" else f"from {model.init}"
    return [
        f"Gaussian mixture, K = {model.components}, {covariance}",
        f"covariance floor {model.covariance_floor:g}",
        started,
    ]


def unit(config: Config) -> str:
    """What training counts: epochs of gradients, or iterations of EM."""
    return "epoch" if isinstance(config.model, VAEConfig) else "iteration"
