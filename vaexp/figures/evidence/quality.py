"""The figure of the group ``quality``."""

from matplotlib.figure import Figure

from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.quality import sample_quality

Z_95 = 1.96


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure | None:  # noqa: ARG001
    """Each measure of draws beside its control, or None where images have no features."""
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name, entry in entries.items():
        measure, _, row = name.rpartition("_")
        value, reach = entry["value"], Z_95 * (entry["se"] or 0.0)
        ends = entry.get("interval") or (value - reach, value + reach)
        found.setdefault(measure, {})[row] = (value, *ends)
    if "digit_fid" not in found:
        return None  # images that are not digits: the classifier has no features of them
    draws = entries["digit_fid_mean"]["n"]
    return sample_quality(found, f"{about.settings}, {draws:,} draws")
