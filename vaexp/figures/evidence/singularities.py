"""The figure of the group ``singularities``."""

from matplotlib.figure import Figure

from vaexp.figures.charts import number, percent
from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.floor import near_the_floor


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure | None:
    """Where sigma lies near its floor; the note says what that adds to the likelihood."""
    said = []
    if (slope := entries.get("floor_slope")) is not None:
        said.append(
            "Halving the floor with the same weights changes the log-likelihood by "
            f"{number(slope['value'])} nats per image (standard error {slope['se'] or 0:.2g}) on "
            f"test images and by {number(slope['train'])} on training images; it can add "
            f"{slope['at_most']:.0f} at most."
        )
    if (part := entries.get("log_prob_at_floor")) is not None:
        share = entries["pixels_at_floor"]["value"]
        said.append(
            f"{percent(share)} of the pixels have σ below {part['near_floor']:g} × floor: their "
            f"part of the {number(part['total'])} nats per image is {number(part['value'])}."
        )
    if (single := entries.get("singleton_components")) is not None:
        said.append(
            f"{single['value']:.0f} of {single['of_components']} components hold fewer than "
            f"{single['fewer_than']} training images."
        )
    return near_the_floor(
        about.pictures(arrays, "sigma_map", "floor_map", "log_prob_map"),
        about.images(entries["sigma_median"], "without"),
        floor=about.floor,
        of_variance=any("covariance_floor" in entry for entry in entries.values()),
        near=entries.get("pixels_at_floor", {}).get("near_floor", 0.0),
        note="\n".join(said),
    )
