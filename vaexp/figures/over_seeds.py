"""Measures of groups of runs that differ in their seed only: in rows, or against a setting."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vaexp.figures.charts import BEFORE, abreast, legend_at, log_axis, padded, plain_axis
from vaexp.figures.style import (
    DARK,
    LABEL_COLOURS,
    MARGIN,
    SMALL,
    TEXT,
    TRAINING,
    VALIDATION,
    Array,
    house_style,
    line_height,
    page,
    place,
    text_width,
    wrap,
    write,
)

COLOURS = (TRAINING, VALIDATION, LABEL_COLOURS[4], LABEL_COLOURS[8], LABEL_COLOURS[9])
_MARKERS = "os^Dv"
_ACROSS = 3  # panels beside each other, at most
_NAMES = (120, 330)  # pixels for the names of the rows: at least and at most
_ROW, _ABOVE, _UNDER = 40, 38, 66  # pixels of a row, over a panel, and under it
_PANEL = (250, 350)  # pixels of a panel of rows, and of one with an axis of its own


class Group(NamedTuple):
    """A measure of runs that differ in their seed only."""

    values: Array
    """(S,), one for each seed; empty where it was not measured."""
    error: float = 0.0
    """The standard error over images of a single run."""

    @property
    def reach(self) -> float:
        """The standard deviation over seeds, or the error of a single run."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else self.error

    @property
    def ends(self) -> list[float]:
        """Everything that a panel has to show of it."""
        if not len(self.values):
            return []
        mean = float(np.mean(self.values))
        return [mean - self.reach, mean + self.reach, *self.values.tolist()]


class Panel(NamedTuple):
    """A measure of several groups of runs."""

    name: str
    unit: str
    groups: Sequence[Group]
    """In the order of the names that all panels share."""


class Series(NamedTuple):
    """The points of a line: groups of runs with a place on the horizontal axis."""

    places: Sequence[Group]
    panels: Sequence[Sequence[Group]]
    """For each panel the groups, in the order of ``places``."""


@house_style()
def points(
    names: Sequence[str], panels: Sequence[Panel], title: str, subtitle: str, note: str = ""
) -> Figure:
    """A panel for each measure, in it a row for each group of runs that has it.

    Small marks are single seeds, a large one is their mean.
    """
    shown = [panel for panel in panels if any(len(group.values) for group in panel.groups)]
    longest = max(text_width(name, TEXT) for name in names)
    before = int(np.clip(longest + 20, *_NAMES))
    across, down = abreast(max(len(shown), 1), _ACROSS)
    width = int(max([_PANEL[0], *(text_width(panel.name, TEXT) for panel in shown)]))
    height = _ROW * len(names)
    pitch = _ABOVE + height + _UNDER
    body = (before + across * (width + 40), down * pitch)
    figure, top = page(*body, title, subtitle, f"{_reading(shown)}\n{note}")
    for index, panel in enumerate(shown):
        row, column = divmod(index, across)
        y = top + row * pitch + _ABOVE
        left = MARGIN + before + column * (width + 40)
        axes = place(figure, left, y, width, height, title=panel.name, xlabel=panel.unit)
        axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=[])
        axes.tick_params(axis="y", length=0)
        for at, group in enumerate(panel.groups):
            _mark(axes, Group(np.array([float(at)])), group, TRAINING, "o", upright=False)
        _view(axes.xaxis, [end for group in panel.groups for end in group.ends])
        if column == 0:
            _name_rows(figure, y, before, names)
    return figure


@house_style()
def against(
    series: Mapping[str, Series],
    measures: Sequence[tuple[str, str]],
    label: str,
    title: str,
    subtitle: str,
    note: str = "",
    *,
    log: bool = False,
) -> Figure:
    """A panel for each of the ``measures``, name and unit, against what ``label`` names.

    Each series is a line through the means over seeds. Small marks are single seeds.
    """
    kept = [
        index
        for index in range(len(measures))
        if any(len(group.values) for one in series.values() for group in one.panels[index])
    ]
    shown = [
        Panel(*measures[index], [group for one in series.values() for group in one.panels[index]])
        for index in kept
    ]
    across, down = abreast(max(len(kept), 1), _ACROSS)
    width, height = _PANEL[1], 280
    rows = -(-len(series) // 2)
    legend = rows * (line_height(SMALL) + 6) + 10 if len(series) > 1 else 0
    pitch = _ABOVE + height + _UNDER
    body = (across * (BEFORE + width), legend + down * pitch)
    figure, top = page(*body, title, subtitle, f"{_reading(shown)}\n{note}")
    places = [end for one in series.values() for group in one.places for end in group.ends]
    handles = []
    for number, name in enumerate(series):
        colour, marker = COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]
        handles.append(Line2D([], [], color=colour, marker=marker, label=name))
    for at, (index, panel) in enumerate(zip(kept, shown, strict=True)):
        row, column = divmod(at, across)
        left = MARGIN + BEFORE + column * (BEFORE + width)
        y = top + legend + row * pitch + _ABOVE
        names = {"title": panel.name, "xlabel": label, "ylabel": panel.unit}
        axes = place(figure, left, y, width, height, **names)
        for one, handle in zip(series.values(), handles, strict=True):
            _line(axes, one, index, handle)
        _view(axes.yaxis, [end for group in panel.groups for end in group.ends])
        if log:
            log_axis(axes.xaxis, min(places), max(places))
        else:
            _view(axes.xaxis, places)
    if len(series) > 1:
        legend_at(figure, handles, MARGIN, top, columns=2)
    return figure


def _line(axes: Axes, series: Series, panel: int, handle: Line2D) -> None:
    """A line through the means of a series, with the marks of its seeds."""
    groups = series.panels[panel]
    there = [at for at, group in enumerate(groups) if len(group.values)]
    means = [
        (float(np.mean(series.places[at].values)), float(np.mean(groups[at].values)))
        for at in there
        if len(series.places[at].values)
    ]
    colour, marker = str(handle.get_color()), str(handle.get_marker())
    if len(means) > 1:
        axes.plot(*np.array(sorted(means)).T, color=colour, linewidth=1.2, alpha=0.6)
    for at in there:
        _mark(axes, series.places[at], groups[at], colour, marker, upright=True)


def _mark(
    axes: Axes, place_of: Group, group: Group, colour: str, marker: str, *, upright: bool
) -> None:
    """The seeds of a group, small, and their mean with what it varies by.

    The values of ``group`` go along the vertical axis if ``upright``.
    """
    if not (len(group.values) and len(place_of.values)):
        return
    beside = np.resize(place_of.values, len(group.values))

    def turned(x: Array, y: Array) -> tuple[Array, Array]:
        return (x, y) if upright else (y, x)

    if len(group.values) > 1:
        axes.plot(
            *turned(beside, group.values), marker, color=colour, markersize=4, alpha=0.45,
            markeredgewidth=0, linestyle="none",
        )  # fmt: skip
    mean = turned(np.array([np.mean(beside)]), np.array([np.mean(group.values)]))
    reach = turned(np.array([place_of.reach]), np.array([group.reach]))
    axes.errorbar(
        *mean, xerr=reach[0] if reach[0] > 0 else None, yerr=reach[1] if reach[1] > 0 else None,
        fmt=marker, color=colour, ecolor=DARK, elinewidth=1.2, capsize=2.5, markersize=7,
    )  # fmt: skip


def _name_rows(figure: Figure, top: float, room: int, names: Sequence[str]) -> None:
    """The name of each row, left of its place in the panels."""
    for at, name in enumerate(names):
        lines = wrap(name, TEXT, room - 16)[:2]
        y = top + (at + 0.5) * _ROW - (len(lines) - 1) / 2 * (line_height(SMALL) - 4)
        for line in lines:
            write(figure, MARGIN, y, line, fontsize=TEXT if len(lines) == 1 else SMALL, va="center")
            y += line_height(SMALL) - 4


def _view(axis: Axis, values: Sequence[float]) -> None:
    """Show all values, with few round numbers."""
    limits = padded(min(values), max(values)) if values else (0.0, 1.0)
    limit: Callable[..., object] = (
        axis.axes.set_xlim if axis is axis.axes.xaxis else axis.axes.set_ylim
    )
    limit(*limits)
    plain_axis(axis)
    axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))


def _reading(panels: Sequence[Panel]) -> str:
    """How to read the marks, or that there is nothing to read."""
    if not panels:
        return "None of these measures was measured."
    counts = {len(group.values) for panel in panels for group in panel.groups} - {0}
    single = "a mark is a run, and its line one standard error over images"
    several = (
        "a small mark is a run, and a large one the mean over seeds, with a line of one standard "
        "deviation over seeds"
    )
    if counts == {1}:
        return f"{single.capitalize()}."
    return f"{several.capitalize()}." + (f" Of one seed {single}." if 1 in counts else "")
