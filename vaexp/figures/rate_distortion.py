"""The rate-distortion plane: where runs spend their nats, and lines of equal ELBO."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaexp.figures.charts import BEFORE, number
from vaexp.figures.style import (
    DARK,
    HALO,
    LABEL_COLOURS,
    MARGIN,
    MUTED,
    SMALL,
    Array,
    house_style,
    line_height,
    page,
    place,
    text_width,
)

SIDE = 760  # pixels
MARKERS = "osD^vPX"


@house_style()
def rate_distortion(
    names: Sequence[str], rate: Array, distortion: Array, subtitle: str, note: str = ""
) -> Figure:
    """Rate (R,) and distortion (R,) of R named runs, in nats (Alemi et al. 2018, figure 1).

    Along a dashed line ELBO = -(rate + distortion) is the same; it grows towards the lower left.
    Every run is named beside the plane, with its ELBO.
    """
    elbo = -(rate + distortion)
    labels = [f"{name}: ELBO {number(value)}" for name, value in zip(names, elbo, strict=True)]
    column = max(text_width(label, SMALL) for label in labels) + 80
    title = "Rate and distortion: the two terms of the ELBO"
    figure, top = page(BEFORE + SIDE + int(column), SIDE + 70, title, subtitle, note)
    axis_names = {
        "xlabel": "rate, KL(q(z|x) to p(z)), nats",
        "ylabel": "distortion, −E ln p(x|z), nats",
    }
    axes = place(figure, MARGIN + BEFORE, top, SIDE, SIDE, **axis_names)
    low_r, high_r = _room(rate)
    low_d, high_d = _room(distortion)
    axes.set_xlim(low_r, high_r)
    axes.set_ylim(low_d, high_d)
    _iso_elbo(axes, (low_r, high_r), (low_d, high_d))
    for i, (r, d) in enumerate(zip(rate, distortion, strict=True)):
        axes.plot(
            r,
            d,
            MARKERS[i // len(LABEL_COLOURS) % len(MARKERS)],
            color=LABEL_COLOURS[i % len(LABEL_COLOURS)],
            markersize=9,
            markeredgecolor=DARK,
            markeredgewidth=0.7,
            label=labels[i],
            zorder=3,
        )
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.03, 1.0),
        borderaxespad=0,
        labelspacing=line_height(SMALL) / 40,
    )
    return figure


def _room(values: Array) -> tuple[float, float]:
    """The range of values with room around it."""
    low, high = float(values.min()), float(values.max())
    pad = max(0.12 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-6)
    return low - pad, high + pad


def _iso_elbo(axes: Axes, rates: tuple[float, float], distortions: tuple[float, float]) -> None:
    """Draw some six lines of equal ELBO = -(rate + distortion), each with its ELBO at its end."""
    totals = MaxNLocator(8).tick_values(rates[0] + distortions[0], rates[1] + distortions[1])
    ends = np.array(rates)
    for total in totals:
        axes.plot(ends, total - ends, color=MUTED, lw=0.8, ls=(0, (5, 4)), zorder=1)
        # The name stands at the right edge, or where the line has met the bottom before it.
        x, y = rates[1], total - rates[1]
        if y < distortions[0]:
            x, y = total - distortions[0], distortions[0]
        if not (rates[0] < x <= rates[1] and distortions[0] <= y < distortions[1]):
            continue
        axes.annotate(
            number(-total or 0.0),  # not −0
            (x, y),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=SMALL - 1,
            color=MUTED,
            path_effects=HALO,
        )
