"""A config in a few words, for titles and tables."""

from vaexp.config.schema import Config

FAMILIES = {
    "gaussian": "Gaussian",
    "bernoulli": "Bernoulli",
    "continuous_bernoulli": "continuous Bernoulli",
}


def describe(config: Config) -> str:
    """The settings that matter when looking at a picture or a number, on one line."""
    model = config.model
    parts = [
        f"VAE, L = {model.latent_dim}" if model.hidden else f"linear VAE, L = {model.latent_dim}"
    ]
    likelihood = FAMILIES[model.likelihood]
    if model.likelihood == "gaussian":
        learned = f"≥ {model.sigma_floor:g}"
        likelihood += {
            "fixed": f", σ fixed at {model.sigma:g}",
            "global": f", one learned σ ({learned})",
            "shared": f", σ(z) per image ({learned})",
            "pixel": f", σ(z) per pixel ({learned})",
        }[model.sigma_mode]
    parts += [likelihood, f"β = {model.beta:g}"]
    if model.conditional:
        parts.append("given the label")
    if config.data.labels is not None:
        parts.append("digits " + " ".join(map(str, config.data.labels)))
    if config.data.name != "mnist":
        parts.append(config.data.name)
    if config.data.transform != "scale":
        parts.append(config.data.transform)
    return ", ".join(parts)
