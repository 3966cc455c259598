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
    THICK,
    Curve,
    by_restart,
    draw_curves,
    left_out,
    legend_at,
    log_axis,
    number,
    padded,
    plain_axis,
    spread,
    times_of,
    whole_axis,
)
from vaexp.figures.style import (
    DARK,
    MARGIN,
    SMALL,
    TRAINING,
    VALIDATION,
    Array,
    house_style,
    line_height,
    page,
    place,
    text_width,
    write,
)

_OTHER = "#b5b5b5"
_NAME_COLOURS = ("#bd1f01", "#0072b2", "#e69f00", "#832db6", "#009e73", "#222222")
_NAMED = 3  # components that are named in each panel because they end lowest there
_LEAST_COUNT = 0.1  # images: below it a component is gone, and how far below means nothing


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
    if (count < _LEAST_COUNT).any():
        note += f"Counts below {_LEAST_COUNT:g} are drawn as {_LEAST_COUNT:g}."

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
        np.maximum(count, _LEAST_COUNT),
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


@house_style()
def floor_curve(floors: Array, train: Array, validation: Array, subtitle: str) -> Figure:
    """ln p(x) of training and validation images against the covariance floor.

    `floors` (F,), in units of x squared and > 0, may come in any order; `train` and `validation`
    (F,) are mean nats per image. The floor falls to the right: there ln p(x) of training rises
    without limit, and that of validation has a maximum, which is marked. Values far below both the
    maximum and all of training are marked at the edge of the view and said in the note.
    """
    order = np.argsort(floors)[::-1]
    floors, train, validation = floors[order], train[order], validation[order]
    known = train[np.isfinite(train)]
    note = "The smaller the floor, the nearer components may come to a singularity, where ln p(x) "
    note += "of training images grows without limit. Validation images show how far that is "
    note += "learning.\n"
    best = None
    anchor = known
    if np.isfinite(validation).any():
        best = int(np.nanargmax(np.where(np.isfinite(validation), validation, np.nan)))
        anchor = np.append(known, validation[best])
        many = f"{len(floors)} floor{'s' if len(floors) > 1 else ''}"
        note += f"{number(floors[best])} is the best of {many} on validation images: "
        note += f"{number(validation[best])} nats per image"
        note += f", {number(train[best])} on training.\n" if np.isfinite(train[best]) else ".\n"
        if len(floors) > 1 and best in (0, len(floors) - 1):
            end = "largest" if best == 0 else "smallest"
            note += f"It is the {end} of them: a {end[:-3]}er one may be better still.\n"
    low, high = (float(np.min(anchor)), float(np.max(anchor))) if anchor.size else (0.0, 1.0)
    reach = max(high - low, 0.01 * max(abs(low), abs(high)))
    seen = np.concatenate([train, validation])
    seen = seen[np.isfinite(seen) & (seen >= low - reach)]
    limits = padded(float(np.min(seen, initial=low)), high)
    curves = [
        Curve(floors, values, colour, width=THICK)
        for values, colour in ((train, TRAINING), (validation, VALIDATION))
    ]
    note += left_out(curves, limits, "floor")

    width, height, legend = 760, 430, 34
    above = 34  # for the name of the best floor
    figure, top = page(
        BEFORE + width + 15, legend + above + height + 70,
        "Likelihood against the covariance floor", subtitle, note,
    )  # fmt: skip
    left, y = MARGIN + BEFORE, top + legend + above
    axes = place(figure, left, y, width, height)
    log_axis(axes.xaxis, float(np.min(floors)), float(np.max(floors)))
    span = np.array(axes.get_xlim())[::-1]
    draw_curves(axes, curves, limits)
    axes.set(xlim=span, ylabel="ln p(x), nats per image")
    axes.set_xlabel("covariance floor, units of x squared, log scale: smaller to the right")
    plain_axis(axes.yaxis)
    if best is not None:
        axes.axvline(floors[best], color=DARK, linewidth=1, linestyle=":")
        axes.plot(
            floors[best], validation[best], "o", markersize=11, markerfacecolor="none",
            markeredgecolor=DARK, markeredgewidth=1.4, zorder=6,
        )  # fmt: skip
        label = f"best on validation: floor {number(floors[best])}"
        half = text_width(label, SMALL) / 2
        at = left + width * np.log(floors[best] / span[0]) / np.log(span[1] / span[0])
        at = float(np.clip(at, left + half, left + width - half))
        write(figure, at, y - 8, label, fontsize=SMALL, ha="center", va="bottom")
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=label)
        for colour, label in ((TRAINING, "training"), (VALIDATION, "validation"))
    ]
    legend_at(figure, handles, left, top)
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
    axes.plot(iteration, values[:, others], color=_OTHER, linewidth=0.7, markersize=2,
              marker="o" if len(iteration) == 1 else "")  # fmt: skip
    for k, (_, colour) in names.items():
        axes.plot(iteration, values[:, k], color=colour, marker=marker, markersize=4)
    if level is not None:
        axes.axhline(level, color=DARK, linestyle="--", linewidth=1.1, zorder=4)
    low, high = np.log(axes.get_ylim())
    ends: Array = (np.log(values[-1, list(names)]) - low) / (high - low)
    return ends
