"""The figure of the group ``decoding``."""

from matplotlib.figure import Figure

from vaexp.figures.decoding import decoder_moments
from vaexp.figures.evidence.about import About, Arrays, Entries


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """The variance of each pixel in its two parts, and how often sigma covers the errors."""
    names = ("variance_data", "variance_of_mean", "mean_of_variance")
    shaped = about.pictures(arrays, *(f"{name}_pixels" for name in names))
    return decoder_moments(shaped, about.images(entries["variance_data"], "with"))
