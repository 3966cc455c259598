"""The figure of the group ``decoding``."""

from matplotlib.figure import Figure

from vaexp.figures.decoding import decoder_moments
from vaexp.figures.evidence.about import About, Arrays, Entries


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """The variance of each pixel in its two parts, and how often sigma covers the errors."""
    return decoder_moments(arrays, about.images(entries["variance_data"], "with"))
