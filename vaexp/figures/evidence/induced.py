"""The figure of the group ``induced``."""

from matplotlib.figure import Figure

from vaexp.figures.charts import number
from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.induced import tilted_prior


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure | None:
    """The tilted prior, or None where it is the prior or has more than two latents."""
    log_c = entries["log_c"]
    if "grid" not in arrays or log_c["method"] == "constant":
        return None  # Z(z) is the same for all z: the tilted prior is the prior
    density, names = arrays["tilted_prior"], [""]
    given = "labels" in arrays
    if given:
        names = [f"digit {digit}" for digit in arrays["labels"]]
    else:
        density = density[None]
    beside = (
        "Training with β ≠ 1 is training by the ELBO of another model, with the likelihood "
        "p(x|z)^(1/β) / Z(z) and the prior p(z) Z(z) / C that is drawn here. ln C is "
        f"{number(log_c['value'])} nats{', averaged over the labels' if given else ''}. Where the "
        "prior lies far from N(0, I), draws z ~ N(0, I) are not draws of that model."
    )
    return tilted_prior(arrays["grid"], density, names, about.settings, beside)
