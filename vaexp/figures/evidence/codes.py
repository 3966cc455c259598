"""The figure of the group ``codes``."""

import numpy as np
from matplotlib.figure import Figure

from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.mixture import clusters, confusion


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """The digits in each cluster of the codes; a mixture's clusters are its components."""
    table = arrays["contingency"]
    digits = np.flatnonzero(table.sum(0))
    subtitle = about.images(entries["nmi"])
    if about.mixture:
        return confusion(table[:, digits], digits.tolist(), subtitle)
    beside = (
        f"Adjusted Rand index {entries['ari']['value']:.3f}, normalised mutual information "
        f"{entries['nmi']['value']:.3f}: near 0 where clusters "
        "have nothing to do with digits, 1 where they are the digits."
    )
    return clusters(table[:, digits], digits.tolist(), subtitle, beside)
