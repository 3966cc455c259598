"""How much the draws of a model look like real digits."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaexp.figures.charts import abreast, percent
from vaexp.figures.style import (
    DARK,
    MARGIN,
    MUTED,
    SMALL,
    TRAINING,
    VALIDATION,
    house_style,
    page,
    place,
)

_ROW_COLOURS = {"mean": TRAINING, "sample": VALIDATION, "control": "#8c8c8c"}
_ASIDE = 105  # pixels left of a panel

# Key, title and unit of the panels of sample quality.
_QUALITIES = (
    ("digit_fid", "digit FID: lower is better", "squared distance"),
    ("digit_kid", "digit KID: lower is better", "squared distance"),
    ("precision", "precision", "share of draws"),
    ("recall", "recall", "share of real images"),
    ("density", "density", "neighbourhoods / k"),
    ("coverage_real", "coverage", "share of real images"),
)


@house_style()
def sample_quality(
    found: Mapping[str, Mapping[str, tuple[float, float, float]]], subtitle: str, note: str = ""
) -> Figure:
    """Measures of drawn images, beside those of a control: other real images.

    `found` has some of digit_fid, digit_kid, precision, recall, density and coverage_real. Each of
    them has some of the rows mean, sample and control, with the value and the ends of its 95%
    interval.
    """
    panels = [quality for quality in _QUALITIES if found.get(quality[0])]
    control = merit = ""
    if any("control" in found[name] for name, *_ in panels):
        control = "The control is other real images, the best that can be expected. "
        merit = (
            " Precision and density above the control's are no merit: such draws keep to the "
            "middle of the real images."
        )
    note = (
        "The bars of mean are of draws μ(z), and those of sample of draws x ~ p(x|z). "
        f"{control}The black lines are 95% intervals.\n"
        "Neighbourhoods reach to the k-th nearest neighbour. Precision is the share of draws "
        "inside one of a real image, recall that of real images inside one of a draw, density how "
        "many of real images a draw is inside, divided by k, and coverage the share of real images "
        f"with a draw in theirs.{merit}\n"
        "Distances are between features of the shipped digit classifier, not of Inception: compare "
        f"them among runs of vaexp only.\n{note}"
    )
    width, height, above, under = 330, 230, 34, 46
    across, down = abreast(len(panels), 3)
    body = (across * (_ASIDE + width), down * (above + height + under))
    figure, top = page(*body, "How like digits the draws are", subtitle, note)
    for index, (name, title, unit) in enumerate(panels):
        row, column = divmod(index, across)
        left = MARGIN + _ASIDE + column * (_ASIDE + width)
        y = top + above + row * (above + height + under)
        axes = place(figure, left, y, width, height, title=title, ylabel=unit)
        _bars(axes, found[name], share=unit.startswith("share"))
    return figure


def _bars(axes: Axes, found: Mapping[str, tuple[float, float, float]], *, share: bool) -> None:
    """Draw a bar with its 95% interval for each row of ``found``; a `share` is in percent."""
    rows = [row for row in _ROW_COLOURS if row in found]
    ends = np.array([found[row] for row in rows])
    if share:
        ends = np.clip(ends, 0, 1)
    low, high = min(0.0, float(np.min(ends))), max(0.0, float(np.max(ends))) or 1.0
    reach = high - low
    axes.set(
        xlim=(-0.6, len(rows) - 0.4), ylim=(low - 0.06 * reach * (low < 0), high + 0.2 * reach)
    )
    if share:
        axes.set_ylim(0, 1.2)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    decimals = max(0, 3 - int(np.floor(np.log10(reach))))
    reach = float(np.ptp(axes.get_ylim()))
    for place_now, row in enumerate(rows):
        value, lower, upper = ends[place_now]
        axes.bar(place_now, value, width=0.62, color=_ROW_COLOURS[row])
        axes.vlines(place_now, lower, upper, color=DARK, linewidth=1.4)
        text = percent(value) if share else f"{value:.{decimals}f}".replace("-", "−")
        axes.text(place_now, max(upper, 0) + 0.02 * reach, text, ha="center", va="bottom",
                  fontsize=SMALL)  # fmt: skip
    axes.axhline(0, color=MUTED, linewidth=0.7)
    axes.grid(False, axis="x")
    axes.set_xticks(range(len(rows)), rows)
    axes.tick_params(axis="x", length=0)
