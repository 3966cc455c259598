"""The figure of the group ``parzen``."""

from matplotlib.figure import Figure

from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.parzen import Window, parzen_windows

_NAMES = {
    "train": "real training images",
    "centroids": "centroids of real images, by k-means",
    "mean": "μ(z) of the model, z ~ p(z)",
    "sample": "draws x ~ p(x|z) of the model, z ~ p(z)",
}


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """The four windows with some of their images."""
    arrays = about.pictures(arrays, *(f"images_{key}" for key in _NAMES))
    windows = []
    for key, name in _NAMES.items():
        entry, images = entries[f"parzen_{key}"], arrays[f"images_{key}"]
        score = (entry["value"], entry["se"] or 0.0)
        real = key in ("train", "centroids")
        windows.append(Window(name, entry["kernels"], entry["bandwidth"], score, images, real))
    trap = entries["parzen_centroids"]["value"] > entries["parzen_train"]["value"]
    note = (
        " No model can do better than to draw real images, and yet averages of them score higher."
        if trap
        else ""
    )
    return parzen_windows(windows, about.images(entries["parzen_train"]), note)
