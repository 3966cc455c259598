"""Where the likelihood of a mixture has no bound: singular components, and what a floor does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaexp.figures.charts import (
    BEFORE,
    FEW,
    by_restart,
    legend_at,
    log_axis,
    number,
    spread,
    times_of,
    whole_axis,
)
from vaexp.figures.style import (
    DARK,
    FAINT,
    MARGIN,
    SMALL,
    Array,
    house_style,
    line_height,
    page,
    place,
    write,
)

_NAME_COLOURS = ("#bd1f01", "#0072b2", "#e69f00", "#832db6", "#009e73", "#222222")
_NAMED = 3  # components that are named in each panel because they end lowest there
LEAST_COUNT = 0.1  # images: below it a component is gone, and how far below means nothing


@house_style()
def singularities(
    history: Sequence[Mapping[str, Any]],
    floor: float,
    subtitle: str,
    singular_below: int | None = None,
) -> Figure:
    """Smallest eigenvalue and effective number of images of each component, by iteration.

    A component that shrinks onto a point or a plane sends the likelihood to infinity. `floor`, in
    units of x squared, is what no eigenvalue of a covariance may fall below; 0 is no floor.
    `singular_below` (D + 1 where covariances are full) is the number of images with fewer than
    which a covariance has an eigenvalue of 0 but for the floor.

    `history` holds records as in `em_staircase` that also have "smallest_eigenvalue" and
    "effective_count" (the sum of responsibilities), lists of K numbers > 0; the kept restart is
    drawn. The components that end lowest in a panel are named, in the same colour in both.
    """
    restarts, kept = by_restart(history)
    records = restarts[kept]
    iterations = times_of(records, "iteration")
    smallest = np.array([record["smallest_eigenvalue"] for record in records], dtype=float)
    count = np.array([record["effective_count"] for record in records], dtype=float)
    total = count.shape[1]

    shared = total > 1 and bool((smallest == smallest[:, :1]).all())  # one covariance for all k
    most = total if total <= len(_NAME_COLOURS) else _NAMED
    lowest = np.argsort(count[-1], kind="stable")[:most].tolist()
    if not shared:
        # Many may end at the floor: of those, the ones with the fewest images.
        ends = np.lexsort([count[-1], np.maximum(smallest[-1], 1.01 * floor)])
        lowest = ends[:most].tolist() + lowest
    names = {
        k: (f"k = {k}", colour)
        for k, colour in zip(dict.fromkeys(lowest), _NAME_COLOURS, strict=False)
    }

    note = f"Components k = 0 to {total - 1}" if total > 1 else "One component, k = 0"
    note += "; those that end lowest in a panel are named" if total > len(names) else ""
    if len(restarts) > 1:
        note += f". Restart {kept} of 0 to {max(restarts)}, whose final training ln p(x) is highest"
    if floor > 0:
        near = np.sum(smallest[-1] <= 2 * floor)
        note += f".\nAt the end {near} of {total} lie within a factor 2 of the floor, {floor:g}.\n"
    else:
        note += f".\nThere is no floor; the smallest eigenvalue ends at {smallest[-1].min():.3g}.\n"
    few = int(np.argmin(count[-1]))
    note += f"The smallest effective count at the end is {number(count[-1, few])} (k = {few})"
    if singular_below is not None:
        below = np.sum(count[-1] < singular_below)
        note += f"; {below} of {total} end with fewer than {singular_below:,} images"
    note += ".\n"
    if (count < LEAST_COUNT).any():
        note += f"Counts below {LEAST_COUNT:g} are drawn as {LEAST_COUNT:g}."

    width, height, beside, name = 480, 400, 85, 40
    legend = 34 if floor > 0 or singular_below is not None else 0
    body = (2 * (BEFORE + width + beside), legend + name + height + 68)
    title = "How near the components come to a singularity"
    figure, top = page(*body, title, subtitle, note)
    eigenvalues = (
        "smallest eigenvalue" + (", the same for all k" if shared else " of the covariance"),
        "units of x squared, log scale",
        smallest[:, :1] if shared else smallest,
        {0: ("all k", DARK)} if shared else names,
        floor or None,
        f"floor, {floor:g}",
    )
    counts = (
        "effective count: sum of responsibilities",
        "training images, log scale",
        np.maximum(count, LEAST_COUNT),
        names,
        singular_below,
        f"fewer than {singular_below:,} images: singular but for a floor" if singular_below else "",
    )
    y = top + legend + name
    for column, (title, unit, values, named, level, level_name) in enumerate((eigenvalues, counts)):
        left = MARGIN + BEFORE + column * (BEFORE + width + beside)
        axes = place(figure, left, y, width, height)
        axes.set_title(title)
        axes.set_xlabel("iteration")
        axes.set_ylabel(unit)
        heights = height * _components(axes, iterations, values, named, level)
        places = y + height - spread(heights, line_height(SMALL), (0, height))
        for (label, colour), row in zip(named.values(), places, strict=True):
            write(figure, left + width + 10, row, label, color=colour, fontsize=SMALL, va="center")
        if level is not None:
            handle = Line2D([], [], color=DARK, linestyle="--", linewidth=1.1, label=level_name)
            legend_at(figure, [handle], left, top)
    return figure


def _components(
    axes: Axes,
    iteration: Array,
    values: Array,
    names: Mapping[int, tuple[str, str]],
    level: float | None,
) -> Array:
    """Draw values (T, K) on a log axis; say how far up the axis, 0 to 1, the named ones end."""
    positive = values[values > 0]
    edges = positive if level is None else np.append(positive, level)
    log_axis(axes.yaxis, float(np.min(edges)), float(np.max(edges)))
    axes.set_xlim(iteration[0] - 0.5, iteration[-1] + 0.5)
    whole_axis(axes.xaxis)
    marker = "o" if len(iteration) <= FEW else ""
    others = [k for k in range(values.shape[1]) if k not in names]
    axes.plot(iteration, values[:, others], color=FAINT, linewidth=0.7, markersize=2,
              marker="o" if len(iteration) == 1 else "")  # fmt: skip
    for k, (_, colour) in names.items():
        axes.plot(iteration, values[:, k], color=colour, marker=marker, markersize=4)
    if level is not None:
        axes.axhline(level, color=DARK, linestyle="--", linewidth=1.1, zorder=4)
    low, high = np.log(axes.get_ylim())
    ends: Array = (np.log(values[-1, list(names)]) - low) / (high - low)
    return ends
