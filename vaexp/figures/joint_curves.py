"""The training curves of several runs together."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaexp.figures.charts import (
    BEFORE,
    THICK,
    THIN,
    Curve,
    Record,
    bulk,
    draw_curves,
    left_out,
    legend_at,
    padded,
    plain_axis,
    times_of,
    values_of,
    whole_axis,
)
from vaexp.figures.style import (
    LABEL_COLOURS,
    MARGIN,
    SMALL,
    house_style,
    line_height,
    page,
    place,
)

_PANELS = {"elbo": "ELBO", "rate": "rate   KL(q(z|x) to p(z))"}
_Dash = Literal["-", "--", ":"]
_DASHES: tuple[_Dash, ...] = ("-", "--", ":")  # the colours are used once for each of these
_SIZE = (440, 340)  # pixels of a panel
MOST = len(LABEL_COLOURS) * len(_DASHES)
"""The number of names that can be told apart."""


@house_style()
def joint_curves(
    histories: Mapping[str, Sequence[Sequence[Record]]], title: str, subtitle: str, note: str = ""
) -> Figure:
    """The ELBO and the rate of several runs against the epoch; those of a name share a colour.

    A history is the lines of metrics.jsonl of a run. Values are those of the validation images,
    or, of runs that have none, of the training images.
    """
    parts = {
        "validation" if "validation" in record else "train"
        for runs in histories.values()
        for history in runs
        for record in history
    }
    looks = {
        name: (LABEL_COLOURS[at % len(LABEL_COLOURS)], _DASHES[at // len(LABEL_COLOURS)])
        for at, name in enumerate(histories)
    }
    several = any(len(runs) > 1 for runs in histories.values())
    panels = {key: _curves(histories, looks, key) for key in _PANELS}
    limits = {
        key: padded(*bulk([curve.values for curve in curves])) for key, curves in panels.items()
    }
    whose = " and ".join(sorted(parts, reverse=True)).replace("train", "training")
    reading = f"Values are those of the {whose} images after each epoch"
    reading += ", and there is a thin line for each seed." if several else "."
    away = [left_out(panels[key], limits[key], "epoch") for key in panels]
    columns = 2 if len(histories) > 3 else len(histories)
    legend = -(-len(histories) // columns) * (line_height(SMALL) + 6) + 12
    width, height = _SIZE
    body = (len(panels) * (BEFORE + width) + 30, legend + 40 + height + 66)
    figure, top = page(*body, title, subtitle, "\n".join([reading, *filter(None, away), note]))
    last = max(float(curve.times[-1]) for curves in panels.values() for curve in curves)
    for index, (key, curves) in enumerate(panels.items()):
        left = MARGIN + BEFORE + index * (BEFORE + width + 30)
        names = {"title": _PANELS[key], "xlabel": "epoch", "ylabel": "nats per image"}
        axes = place(figure, left, top + legend + 40, width, height, **names)
        draw_curves(axes, curves, limits[key])
        axes.set_xlim(0.5, last + 0.5)
        whole_axis(axes.xaxis)
        plain_axis(axes.yaxis)
    handles = [
        Line2D([], [], color=colour, linestyle=dash, label=name)
        for name, (colour, dash) in looks.items()
    ]
    legend_at(figure, handles, MARGIN, top, columns=columns)
    return figure


def _curves(
    histories: Mapping[str, Sequence[Sequence[Record]]],
    looks: Mapping[str, tuple[str, _Dash]],
    key: str,
) -> list[Curve]:
    """The curve of each run in one panel."""
    curves = []
    for name, runs in histories.items():
        colour, dash = looks[name]
        for history in runs:
            values = values_of(history, "validation", key)
            if not np.isfinite(values).any():
                values = values_of(history, "train", key)
            width = THIN if len(runs) > 1 else THICK
            curves.append(Curve(times_of(history, "epoch"), values, colour, dash, width))
    return curves
