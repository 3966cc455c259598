"""The figure of the group ``rate``."""

import numpy as np
from matplotlib.figure import Figure

from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.latent_use import latent_use


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """The KL of each latent, with the two parts of the rate in the note."""
    active, collapsed = entries["active_units"], entries["collapsed_latents"]
    total, mutual, marginal = (
        entries[name]["value"] for name in ("rate_bits", "mutual_information", "marginal_kl")
    )
    note = (
        f"{active['value']:.0f} of {active['of_latents']} latents are active, "
        f"{collapsed['value']:.0f} collapsed. "
        f"Together {total * np.log(2):.3g} nats ({total:.3g} bits) per image: mutual information "
        f"of image and code {mutual:.3g}, KL(q(z) to p(z)) {marginal:.3g}."
    )
    if "marginal_kl_given_label" in entries:
        mutual, marginal = (
            entries[f"{name}_given_label"]["value"]
            for name in ("mutual_information", "marginal_kl")
        )
        note += f" Among images of one digit they are {mutual:.3g} and {marginal:.3g}."
    if "posterior" in active:
        note += f" Latents are the {active['posterior']}, whose KL add up to less than the rate."
    return latent_use(
        arrays["kl_per_latent"],
        arrays["mean_variance_per_latent"],
        arrays["collapse_epsilon"],
        arrays["collapse_curve"],
        about.images(active),
        active=active["threshold"],
        collapsed=(collapsed["epsilon"], collapsed["delta"]),
        note=note,
    )
