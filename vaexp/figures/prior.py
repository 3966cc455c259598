"""Where draws of the prior fall among the codes, and what the decoder makes of them."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaexp.figures.charts import legend_at, plain_axis
from vaexp.figures.mosaic import draw, ink_note, mosaic, scale_to
from vaexp.figures.style import (
    MARGIN,
    MUTED,
    TEXT,
    TRAINING,
    VALIDATION,
    Array,
    house_style,
    page,
    place,
    write,
)

_SOURCES = {
    "codes": ("codes of test images", "#8c8c8c"),
    "prior": ("z ~ p(z)", TRAINING),
    "mixture": ("z ~ mixture of the codes", VALIDATION),
}
_WIDTH, _HEIGHT, _BEFORE, _UNDER = 1000, 330, 95, 75
_SIDE = 84  # page pixels of the longer side of an image


@house_style()
def prior_and_codes(
    margins: Mapping[str, Array],
    images: Mapping[str, Array],
    names: Mapping[str, str],
    subtitle: str,
    note: str = "",
) -> Figure:
    """Distribution functions of ln q(z), and rows of images with their names.

    `margins` has codes, prior and mixture, (S,) each: ln q(z) minus its least value inside of the
    codes' region, nats. `images` are (n, H, W), and `names` say whose they are.
    """
    height, width = next(iter(images.values())).shape[1:]
    scale = scale_to(_SIDE, height, width)
    pitch = round((height + 2) * scale) + 35
    body = (_BEFORE + _WIDTH, 40 + _HEIGHT + _UNDER + len(images) * pitch)
    note = (
        "q(z) is the average of q(z|x) over the training images: the density of the codes. The "
        "curves show what share of z has at most this density. 99% of the test images' codes lie "
        "right of the line. With z left of it the decoder has hardly been trained.\n"
        f"{ink_note(*images.values())}\n{note}"
    )
    figure, top = page(*body, "Where draws of z fall among the codes", subtitle, note)
    axes = place(
        figure, MARGIN + _BEFORE, top + 40, _WIDTH, _HEIGHT,
        xlabel="ln q(z), nats above the least density of the codes' region",
        ylabel="share of z below",
    )  # fmt: skip
    low, high = _view(margins)
    for source, (_, colour) in _SOURCES.items():
        values = np.sort(margins[source])
        shares = np.arange(1, len(values) + 1) / len(values)
        axes.step(np.clip(values, low, high), shares, where="post", color=colour)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set(xlim=(low, high), ylim=(0, 1.02))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    plain_axis(axes.xaxis)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in _SOURCES.values()]
    legend_at(figure, handles, MARGIN + _BEFORE, top)
    y = top + 40 + _HEIGHT + _UNDER
    for source, row in images.items():
        write(figure, MARGIN + _BEFORE, y + 28, names[source], va="bottom", fontsize=TEXT)
        draw(figure, mosaic(row[None]), MARGIN + _BEFORE, y + 34, scale)
        y += pitch
    return figure


def _view(margins: Mapping[str, Array]) -> tuple[float, float]:
    """The range of ln q(z) to show: the line at 0, most codes, and as much again to the left."""
    codes = margins["codes"]
    high = float(np.max(codes))
    reach = max(high, 1.0)
    lowest = min(0.0, *(float(np.quantile(each, 0.02)) for each in margins.values()))
    return max(lowest, -1.5 * reach) - 0.05 * reach, high + 0.05 * reach
