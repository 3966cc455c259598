"""The prior of the model that a beta other than 1 trains."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import MaxNLocator

from vaexp.figures.charts import BEFORE, abreast
from vaexp.figures.maps import colour_bar
from vaexp.figures.style import (
    DARK,
    HEAT,
    LABEL_COLOURS,
    MARGIN,
    TEXT,
    TRAINING,
    Array,
    house_style,
    line_height,
    page,
    place,
    write,
)

_TITLE = "The prior of the model that this β trains"
_DEPTH = 14.0  # nats below its largest value, to which a log density is drawn
# Light lines are not seen without an outline.
_OUTLINE: list[AbstractPathEffect] = [withStroke(linewidth=2.6, foreground=DARK)]


@house_style()
def tilted_prior(
    grid: Array, log_density: Array, names: Sequence[str], subtitle: str, note: str = ""
) -> Figure:
    """The prior p(z) Z(z) / C of the model that a beta other than 1 trains.

    `grid` (L, G), L = 1 or 2, holds the points of each latent's axis. `log_density`, (P, G) or
    (P, G, G) indexed [z_1, z_2], is ln [p(z) Z(z) / C] in nats for P curves or panels with `names`,
    such as "digit 4" or "". In the plane colours are nats below the largest value of each panel,
    with the circles of N(0, I) at 1, 2 and 3 standard deviations. On the axis curves are densities.
    """
    if len(grid) == 1:
        return _tilted_line(grid[0], log_density, names, subtitle, note)
    note = (
        "The circles are 1, 2 and 3 standard deviations of N(0, I). Densities "
        f"{_DEPTH:g} nats and more below the largest have the last colour.\n{note}"
    )
    spans = np.ptp(grid, axis=1)
    across, down = abreast(len(names), 5)
    room = 760 if across == 1 else 1480 // across
    scale = room / float(np.max(spans))
    width, height = (round(span * scale) for span in spans.tolist())
    above = line_height(TEXT) + 6 if any(names) else 0
    gap = 32
    pitch = (width + gap, height + gap + above)
    before, bar = 85, 120
    body = (before + across * pitch[0] - gap, down * pitch[1] - gap + 75 + bar)
    figure, top = page(*body, _TITLE, subtitle, note)
    for index, (values, name) in enumerate(zip(log_density, names, strict=True)):
        row, column = divmod(index, across)
        left, y = MARGIN + before + column * pitch[0], top + above + row * pitch[1]
        axes = place(figure, left, y, width, height)
        picture = _draw_plane(axes, grid, values)
        for axis, length in ((axes.xaxis, width), (axes.yaxis, height)):
            axis.set_major_locator(MaxNLocator(min(max(length // 55, 1), 8), steps=[1, 2, 5, 10]))
        write(figure, left, y - 6, name, va="bottom", fontsize=TEXT)
        if index + across < len(names):
            axes.tick_params(labelbottom=False)
        else:
            axes.set_xlabel("$z_1$")
        if column:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("$z_2$")
    y = top + body[1] - bar + 36
    label = "ln density less the largest of the panel, nats"
    colour_bar(figure, picture, MARGIN + before, y, 480, label)
    return figure


def _draw_plane(axes: Axes, grid: Array, log_density: Array) -> AxesImage:
    """Draw a log density (G, G) over the points (2, G) of two latents, with circles of N(0, I)."""
    (x0, x1), (y0, y1) = grid[:, [0, -1]].tolist()
    step = np.diff(grid[:, :2], axis=1)[:, 0] / 2
    picture = axes.imshow(
        np.maximum(log_density - np.max(log_density), -_DEPTH).T, cmap=HEAT, vmin=-_DEPTH, vmax=0,
        origin="lower", aspect="auto", interpolation="bilinear",
        extent=(x0 - step[0], x1 + step[0], y0 - step[1], y1 + step[1]),
    )  # fmt: skip
    axes.set(xlim=(x0, x1), ylim=(y0, y1))
    axes.grid(False)
    for radius in (1, 2, 3):
        circle = Circle((0, 0), radius, fill=False, edgecolor="white", linewidth=1)
        circle.set_path_effects(_OUTLINE)
        axes.add_patch(circle)
    return picture


def _tilted_line(
    grid: Array, log_density: Array, names: Sequence[str], subtitle: str, note: str
) -> Figure:
    """Draw the densities exp `log_density` (P, G) of one latent over the points `grid` (G,)."""
    width, height, aside = 760, 430, 180
    body = (BEFORE + width + aside, height + 70)
    figure, top = page(*body, _TITLE, subtitle, note)
    axes = place(figure, MARGIN + BEFORE, top, width, height)
    prior = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    axes.fill_between(grid, prior, color="#d9d9d9", linewidth=0, label="N(0, 1)")
    for index, (values, name) in enumerate(zip(log_density, names, strict=True)):
        colour = LABEL_COLOURS[index % 10] if len(names) > 1 else TRAINING
        axes.plot(
            grid, np.exp(values), color=colour, label=name or "tilted prior",
            path_effects=_OUTLINE if len(names) > 1 else None,
        )  # fmt: skip
    axes.set(xlim=(grid[0], grid[-1]), ylabel="density, 1 / unit of z", xlabel="$z$")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)
    return figure
