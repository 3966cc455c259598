"""How near the components of a mixture come to a singularity, where ln p(x) has no bound."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
_WIDTH, _HEIGHT, _TITLE = 480, 400, 40  # pixels of a panel, and for the title over it
_BESIDE = 85  # pixels right of a panel, for the names of components
LEAST_COUNT = 0.1  # images: a component that holds fewer is gone, and how few means nothing


@house_style()
def singularities(
    history: Sequence[Mapping[str, Any]],
    floor: float,
    subtitle: str,
    singular_below: int | None = None,
) -> Figure | str:
    """The smallest eigenvalue and the effective number of images of each component, by iteration.

    A component that shrinks onto a point or a plane sends the likelihood to infinity. `floor`, in
    units of x squared, is what no eigenvalue of a covariance may fall below; 0 is no floor. With
    fewer images than `singular_below` (D + 1 where covariances are full) a covariance has an
    eigenvalue of 0 but for the floor.

    `history` holds records as in `em_staircase` that also have "smallest_eigenvalue" and
    "effective_count" (the sum of responsibilities), lists of K numbers > 0. The kept restart is
    drawn. The components that end lowest in a panel are named, in the same colour in both. A panel
    whose values are all the same becomes a sentence of the note. Without any iteration, and where
    both panels are such, this returns the reason why there is no figure.
    """
    restarts, kept = by_restart(history)
    records = restarts[kept]
    smallest = np.array([record["smallest_eigenvalue"] for record in records], dtype=float)
    count = np.array([record["effective_count"] for record in records], dtype=float)
    if len(records) == 1:
        return "EM made no iteration, so no component has moved"
    panels = _panels(smallest, count, floor, singular_below)
    named = len(panels[1].names)
    flat = [_flat(smallest, floor), _flat_count(count)]
    panels = [panel for panel, said in zip(panels, flat, strict=True) if not said]
    if not panels:
        return "; ".join(said.rstrip(".") for said in flat)
    note = _components_shown(count.shape[1], named)
    if len(restarts) > 1:
        note += f" This is restart {kept} of 0 to {max(restarts)}, whose final training ln p(x) "
        note += "is the highest."
    note += "\n" + "".join(
        f"There is no panel of what does not change: {said}\n" for said in flat if said
    )
    note += _ends(smallest[-1], count[-1], floor, singular_below)
    if (count < LEAST_COUNT).any():
        note += f"Counts below {LEAST_COUNT:g} are drawn as {LEAST_COUNT:g}."
    legend = 34 if any(panel.level is not None for panel in panels) else 0
    body = (len(panels) * (BEFORE + _WIDTH + _BESIDE), legend + _TITLE + _HEIGHT + 68)
    figure, top = page(*body, "How near the components come to a singularity", subtitle, note)
    for column, panel in enumerate(panels):
        left = MARGIN + BEFORE + column * (BEFORE + _WIDTH + _BESIDE)
        _draw(figure, panel, times_of(records, "iteration"), left, top + legend + _TITLE)
        if panel.level is not None:
            handle = Line2D([], [], color=DARK, linestyle="--", linewidth=1.1, label=panel.level_is)
            legend_at(figure, [handle], left, top)
    return figure


def _flat(smallest: Array, floor: float) -> str:
    """A sentence on the smallest eigenvalues (T, K) if all of them are the same, or "".

    Those within a hundredth of the floor count as at the floor.
    """
    least, most = float(np.min(smallest)), float(np.max(smallest))
    if 0 < most <= 1.01 * floor:
        return (
            "the smallest eigenvalue of every covariance lies on the floor, "
            f"{floor:g}, in every iteration."
        )
    if most - least <= 1e-6 * most:
        return f"the smallest eigenvalue of every covariance is {number(most)} in every iteration."
    return ""


def _flat_count(count: Array) -> str:
    """A sentence on the effective counts (T, K) if all of them are the same, or ""."""
    if np.ptp(count) > 1e-6 * np.max(count):
        return ""
    return f"every component has {number(float(count[0, 0]))} images in every iteration."


class _Panel(NamedTuple):
    """A number of each component against iterations."""

    title: str
    unit: str
    values: Array
    """(T, K)."""
    names: Mapping[int, tuple[str, str]]
    """The components to be named, with the name and the colour of each."""
    level: float | None
    """A value to mark by a dashed line."""
    level_is: str
    """The name of the dashed line in the legend."""


def _panels(
    smallest: Array, count: Array, floor: float, singular_below: int | None
) -> list[_Panel]:
    """The panels of the smallest eigenvalues (T, K) and of the effective counts (T, K)."""
    shared = count.shape[1] > 1 and bool((smallest == smallest[:, :1]).all())
    names = _names(smallest[-1], count[-1], floor, shared=shared)
    return [
        _Panel(
            "smallest eigenvalue" + (", the same for all k" if shared else " of the covariance"),
            "units of x squared, log scale",
            smallest[:, :1] if shared else smallest,
            {0: ("all k", DARK)} if shared else names,
            floor or None,
            f"floor, {floor:g}",
        ),
        _Panel(
            "effective count: sum of responsibilities",
            "training images, log scale",
            np.maximum(count, LEAST_COUNT),
            names,
            singular_below,
            f"fewer than {singular_below or 0:,} images: singular but for a floor",
        ),
    ]


def _names(
    smallest: Array, count: Array, floor: float, *, shared: bool
) -> dict[int, tuple[str, str]]:
    """The components to be named, with the name and the colour of each.

    `smallest` and `count` (K,) are those at the end. All are named where there are few components,
    otherwise those that end lowest in either panel. `shared`: all have one covariance.
    """
    most = len(count) if len(count) <= len(_NAME_COLOURS) else _NAMED
    lowest = np.argsort(count, kind="stable")[:most].tolist()
    if not shared:
        # Many may end at the floor: of those, the ones with the fewest images.
        lowest = np.lexsort([count, np.maximum(smallest, 1.01 * floor)])[:most].tolist() + lowest
    return {
        k: (f"k = {k}", colour)
        for k, colour in zip(dict.fromkeys(lowest), _NAME_COLOURS, strict=False)
    }


def _components_shown(total: int, named: int) -> str:
    """Which components there are, and which of them are named, as the start of a sentence."""
    shown = f"Each line is a component, k = 0 to {total - 1}"
    if total == 1:
        return "The line is the only component, k = 0."
    if total > named:
        shown += "; those that end lowest in a panel have colours and names, the others are grey"
    return shown + "."


def _ends(smallest: Array, count: Array, floor: float, singular_below: int | None) -> str:
    """Sentences on the smallest eigenvalues and the counts (K,) that the components end with."""
    total = len(count)
    if floor > 0:
        near = np.sum(smallest <= 2 * floor)
        said = f"At the end {near} of {total} lie within a factor 2 of the floor, {floor:g}.\n"
    else:
        said = f"There is no floor; the smallest eigenvalue ends at {smallest.min():.3g}.\n"
    few = int(np.argmin(count))
    said += f"The smallest effective count at the end is {number(count[few])} (k = {few})"
    if singular_below is not None:
        below = np.sum(count < singular_below)
        said += f"; {below} of {total} end with fewer than {singular_below:,} images"
    return said + ".\n"


def _draw(figure: Figure, panel: _Panel, iterations: Array, left: float, top: float) -> None:
    """Draw a panel at a pixel of the page, with the names of components right of it."""
    axes = place(
        figure, left, top, _WIDTH, _HEIGHT, title=panel.title, xlabel="iteration", ylabel=panel.unit
    )
    heights = _HEIGHT * _components(axes, iterations, panel.values, panel.names, panel.level)
    places = top + _HEIGHT - spread(heights, line_height(SMALL), (0, _HEIGHT))
    x = left + _WIDTH + 10
    for (label, colour), row in zip(panel.names.values(), places, strict=True):
        write(figure, x, row, label, color=colour, fontsize=SMALL, va="center")


def _components(
    axes: Axes,
    iteration: Array,
    values: Array,
    names: Mapping[int, tuple[str, str]],
    level: float | None,
) -> Array:
    """Draw values (T, K) on a log axis; returns how far up it, 0 to 1, the named ones end."""
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
