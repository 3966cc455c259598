"""Measures of groups of runs that differ in their seed only: in rows, or against a setting."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vaexp.figures.charts import BEFORE, abreast, legend_at, log_axis, padded, plain_axis
from vaexp.figures.style import (
    DARK,
    DPI,
    HALO,
    LABEL_COLOURS,
    MARGIN,
    MUTED,
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
_LABEL = line_height(SMALL)  # pixels of the name of a control


class Group(NamedTuple):
    """A measure of runs that differ in their seed only."""

    values: Array
    """(S,), one for each seed; empty where it was not measured."""
    error: float = 0.0
    """The standard error over images of a single run."""

    @property
    def mean(self) -> float:
        """The mean over seeds, of one seed at least."""
        return float(np.mean(self.values))

    @property
    def reach(self) -> float:
        """The standard deviation over seeds, or the error of a single run."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else self.error

    @property
    def ends(self) -> list[float]:
        """Everything that a panel has to show of it."""
        if not len(self.values):
            return []
        return [self.mean - self.reach, self.mean + self.reach, *self.values.tolist()]


class Panel(NamedTuple):
    """Measures of several groups of runs on one axis."""

    name: str
    unit: str
    series: Mapping[str, Sequence[Group]]
    """For each series that has marks here its groups, in the order of the rows or of its places."""
    controls: Mapping[str, Group] = {}
    """What the marks are held against, each a line with its name."""

    @property
    def groups(self) -> list[Group]:
        """The groups of all series."""
        return [group for groups in self.series.values() for group in groups]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured of any series."""
        return not any(len(group.values) for group in self.groups)

    @property
    def lines(self) -> dict[str, Group]:
        """The controls that were measured."""
        return {name: group for name, group in self.controls.items() if len(group.values)}

    @property
    def ends(self) -> list[float]:
        """Everything that the axis has to show."""
        return [end for group in (*self.groups, *self.lines.values()) for end in group.ends]


class Look(NamedTuple):
    """How the marks of a series look."""

    colour: str
    marker: str
    ring: bool
    """Whether it is an open ring without a line, around marks of another series."""

    def handle(self, name: str, *, line: bool) -> Line2D:
        """Its entry in a legend, with a ``line`` if the chart has lines through its marks."""
        return Line2D(
            [], [], color=self.colour, marker=self.marker, label=name,
            linestyle="-" if line and not self.ring else "none", **self.mark,
        )  # fmt: skip

    @property
    def mark(self) -> dict[str, Any]:
        """The size and the face of a mark."""
        if self.ring:
            return {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.6}
        return {"markersize": 7}


def _looks(names: Collection[str], rings: Collection[str] = ()) -> dict[str, Look]:
    """A look for each series; a ring is dark and round."""
    looks: dict[str, Look] = {}
    for name in names:
        number = len([look for look in looks.values() if not look.ring])
        looks[name] = (
            Look(DARK, "o", ring=True)
            if name in rings
            else Look(COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)], ring=False)
        )
    return looks


@house_style()
def points(
    names: Sequence[str], panels: Sequence[Panel], title: str, subtitle: str, note: str = ""
) -> Figure:
    """A panel for each axis, in it a row for each group of runs that has a measure of it.

    Small marks are single seeds, a large one is their mean. Controls are lines across all rows.
    """
    shown = [panel for panel in panels if not panel.is_empty]
    looks = _looks(list(dict.fromkeys(name for panel in shown for name in panel.series)))
    longest = max(text_width(name, TEXT) for name in names)
    before = int(np.clip(longest + 20, *_NAMES))
    across, down = abreast(max(len(shown), 1), _ACROSS)
    width = max([_PANEL[0], *(needed for panel in shown for needed in _widths(panel))])
    height = _ROW * len(names)
    legend = _legend_height(looks)
    # How many lines the names of controls take over the panels of each row.
    lines = [
        max([0, *(len(panel.lines) for panel in shown[row * across : (row + 1) * across])])
        for row in range(down)
    ]
    heights = [_ABOVE + _LABEL * count + height + _UNDER for count in lines]
    body = (before + across * (width + 40), legend + sum(heights))
    figure, top = page(*body, title, subtitle, f"{_reading(shown)}\n{note}")
    for index, panel in enumerate(shown):
        row, column = divmod(index, across)
        y = top + legend + sum(heights[: row + 1]) - height - _UNDER
        left = MARGIN + before + column * (width + 40)
        axes = place(figure, left, y, width, height, xlabel=panel.unit)
        axes.set_title(panel.name, pad=6 + lines[row] * _LABEL * 72 / DPI)
        axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=[])
        axes.tick_params(axis="y", length=0)
        for name, groups in panel.series.items():
            for at, group in enumerate(groups):
                _mark(axes, Group(np.array([float(at)])), group, looks[name], upright=False)
        _view(axes.xaxis, panel.ends)
        _lines_down(axes, panel.lines)
        if column == 0:
            _name_rows(figure, y, before, names)
    _legend(figure, looks, top, line=False)
    return figure


@house_style()
def against(
    places: Mapping[str, Sequence[Group]],
    panels: Sequence[Panel],
    label: str,
    title: str,
    subtitle: str,
    note: str = "",
    *,
    rings: Collection[str] = (),
    log: bool = False,
) -> Figure:
    """A panel for each axis, against what ``label`` names, of which each series has ``places``.

    Each series is a line through the means over seeds. Small marks are single seeds. The series in
    ``rings`` are open rings without a line. Controls are lines from left to right.
    """
    shown = [panel for panel in panels if not panel.is_empty]
    drawn = {name for panel in shown for name in panel.series}
    looks = _looks([name for name in places if name in drawn], rings)
    across, down = abreast(max(len(shown), 1), _ACROSS)
    width, height = _PANEL[1], 280
    legend = _legend_height(looks)
    pitch = _ABOVE + height + _UNDER
    body = (across * (BEFORE + width), legend + down * pitch)
    figure, top = page(*body, title, subtitle, f"{_reading(shown)}\n{note}")
    ends = [end for groups in places.values() for group in groups for end in group.ends]
    for at, panel in enumerate(shown):
        row, column = divmod(at, across)
        left = MARGIN + BEFORE + column * (BEFORE + width)
        y = top + legend + row * pitch + _ABOVE
        axes = place(
            figure, left, y, width, height, title=panel.name, xlabel=label, ylabel=panel.unit
        )
        for name, groups in panel.series.items():
            _line(axes, places[name], groups, looks[name])
        _view(axes.yaxis, panel.ends)
        if log:
            log_axis(axes.xaxis, min(ends), max(ends))
        else:
            _view(axes.xaxis, ends)
        _lines_across(axes, panel, places)
    _legend(figure, looks, top, line=True)
    return figure


def _legend_height(looks: Mapping[str, Look]) -> int:
    """The pixels of the legend. A single series needs none."""
    return -(-len(looks) // 2) * (line_height(SMALL) + 6) + 10 if len(looks) > 1 else 0


def _legend(figure: Figure, looks: Mapping[str, Look], top: float, *, line: bool) -> None:
    if len(looks) > 1:
        handles = [look.handle(name, line=line) for name, look in looks.items()]
        legend_at(figure, handles, MARGIN, top, columns=2)


def _line(axes: Axes, places: Sequence[Group], groups: Sequence[Group], look: Look) -> None:
    """A line through the means of a series, with the marks of its seeds."""
    there = [at for at, group in enumerate(groups) if len(group.values)]
    means = [(places[at].mean, groups[at].mean) for at in there if len(places[at].values)]
    if len(means) > 1 and not look.ring:
        axes.plot(*np.array(sorted(means)).T, color=look.colour, linewidth=1.2, alpha=0.6)
    for at in there:
        _mark(axes, places[at], groups[at], look, upright=True)


def _mark(axes: Axes, place_of: Group, group: Group, look: Look, *, upright: bool) -> None:
    """The seeds of a group, small, and their mean with what it varies by.

    The values of ``group`` go along the vertical axis if ``upright``. A ring is of the mean alone.
    """
    if not (len(group.values) and len(place_of.values)):
        return
    beside = np.resize(place_of.values, len(group.values))

    def turned(x: Array, y: Array) -> tuple[Array, Array]:
        return (x, y) if upright else (y, x)

    if len(group.values) > 1 and not look.ring:
        axes.plot(
            *turned(beside, group.values), look.marker, color=look.colour, markersize=4, alpha=0.45,
            markeredgewidth=0, linestyle="none",
        )  # fmt: skip
    mean = turned(np.array([np.mean(beside)]), np.array([group.mean]))
    if look.ring:
        axes.plot(*mean, look.marker, color=look.colour, zorder=4, **look.mark)
        return
    reach = turned(np.array([place_of.reach]), np.array([group.reach]))
    axes.errorbar(
        *mean, xerr=reach[0] if reach[0] > 0 else None, yerr=reach[1] if reach[1] > 0 else None,
        fmt=look.marker, color=look.colour, ecolor=DARK, elinewidth=1.2, capsize=2.5, **look.mark,
    )  # fmt: skip


def _widths(panel: Panel) -> list[int]:
    """The pixels that a panel of rows needs for its name, and for those of its controls.

    The name of a control stands on the side of its line that has more room.
    """
    low, high = padded(min(panel.ends), max(panel.ends))
    shares = {name: (group.mean - low) / (high - low) for name, group in panel.lines.items()}
    beside = [
        (text_width(name, SMALL) + 10) / max(share, 1 - share) for name, share in shares.items()
    ]
    return [round(needed) for needed in (text_width(panel.name, TEXT), *beside)]


def _lines_down(axes: Axes, controls: Mapping[str, Group]) -> None:
    """A line across all rows for each control, up to its name, which stands over the panel.

    The names stand above each other, the first one lowest, so that none hides another.
    """
    low, high = axes.get_xlim()
    height = axes.bbox.height
    for number, (name, group) in enumerate(controls.items()):
        up = 4 + number * _LABEL  # pixels over the panel
        axes.axvspan(group.mean - group.reach, group.mean + group.reach, color=MUTED, alpha=0.18)
        axes.plot(
            [group.mean] * 2, [0, 1 + (up + _LABEL / 2) / height], color=DARK, linestyle="--",
            linewidth=1.1, zorder=1, transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
        on_left = group.mean > (low + high) / 2
        axes.annotate(
            name, (group.mean, 1), xycoords=axes.get_xaxis_transform(),
            xytext=(-4 if on_left else 4, up * 72 / DPI), textcoords="offset points",
            ha="right" if on_left else "left", fontsize=SMALL, color=DARK, path_effects=HALO,
        )  # fmt: skip


def _lines_across(axes: Axes, panel: Panel, places: Mapping[str, Sequence[Group]]) -> None:
    """A line from left to right for each control, with its name over it.

    The name stands at the end where the marks are further from the line.
    """
    marks = [
        axes.transData.transform((at.mean, group.mean))
        for name, groups in panel.series.items()
        for at, group in zip(places[name], groups, strict=True)
        if len(at.values) and len(group.values)
    ]
    middle = axes.transAxes.transform((0.5, 0))[0]
    for name, group in panel.lines.items():
        axes.axhspan(group.mean - group.reach, group.mean + group.reach, color=MUTED, alpha=0.18)
        axes.axhline(group.mean, color=DARK, linestyle="--", linewidth=1.1, zorder=1)
        level = axes.transData.transform((0, group.mean))[1]
        room = [
            min((abs(y - level) for x, y in marks if (x > middle) == right), default=np.inf)
            for right in (False, True)
        ]
        right = room[1] >= room[0]
        axes.annotate(
            name, (1.0 if right else 0.0, group.mean), xycoords=axes.get_yaxis_transform(),
            xytext=(-2 if right else 3, 2), textcoords="offset points",
            ha="right" if right else "left", va="bottom", fontsize=SMALL, color=DARK,
            path_effects=HALO,
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
    dashed = (
        " A dashed line is a reference, with its error in grey."
        if any(panel.lines for panel in panels)
        else ""
    )
    if counts == {1}:
        return f"{single.capitalize()}.{dashed}"
    of_one = f" Of one seed {single}." if 1 in counts else ""
    return f"{several.capitalize()}.{of_one}{dashed}"
