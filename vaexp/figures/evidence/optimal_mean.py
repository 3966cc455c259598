"""The figure of the group ``optimal_mean``."""

import numpy as np
from matplotlib.figure import Figure

from vaexp.figures.charts import number, percent
from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.optimal_mean import optimal_means


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """Both means over the latent plane; the note says how far apart they are."""
    prior, codes = (entries[f"optimal_mean_gap_{place}"] for place in ("prior", "codes"))
    arrays = about.pictures(arrays, "optimal", "learned")
    names = [f"digit {digit}" for digit in arrays.get("labels", [])] or [""]
    images = entries["images_averaged_codes"]["value"]
    note = (
        f"The root of their mean squared difference is {number(prior['value'])} for z ~ p(z) and "
        f"{number(codes['value'])} for z ~ q(z). μ*(z) of the median z ~ q(z) is an average of "
        f"{images:,.{0 if images >= 10 else 1}f} images."
    )
    if "share_outside" in prior:
        share = percent(prior["share_outside"])
        note += f" {share} of z ~ p(z) lie outside of the region with 99 % of the codes."
    if len(names) > 1:
        note += " These are the digits for which z ~ p(z) has the smallest and the largest one."
    outside = arrays.get("outside")
    return optimal_means(
        arrays["optimal"],
        arrays["learned"],
        names,
        np.asarray(arrays["grid"]),
        None if outside is None else outside.astype(bool),
        about.settings,
        note,
    )
