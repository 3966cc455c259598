"""The rate-distortion plane: where runs spend their nats, and lines of equal ELBO."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from vaexp.figures.charts import BEFORE, number
from vaexp.figures.maps import colour_bar
from vaexp.figures.style import (
    DARK,
    HALO,
    MARGIN,
    MUTED,
    SMALL,
    TRAINING,
    Array,
    house_style,
    line_height,
    page,
    place,
    text_width,
)

SIDE = 800  # pixels
_BETAS = mpl.colormaps["viridis"]
_MARKER = 9  # pixels around the middle of a point
_TICKS = 8  # values of beta that the colour bar names, at most


class _Box(NamedTuple):
    """A rectangle on the plane, in pixels from its lower left corner."""

    left: float
    bottom: float
    width: float
    height: float

    def meets(self, other: "_Box") -> bool:
        """Whether the two lie over each other."""
        across = self.left < other.left + other.width and other.left < self.left + self.width
        up = self.bottom < other.bottom + other.height and other.bottom < self.bottom + self.height
        return across and up

    def inside(self) -> bool:
        """Whether it lies on the plane."""
        right, top = self.left + self.width, self.bottom + self.height
        return min(self.left, self.bottom) >= 0 and max(right, top) <= SIDE


class _Name(NamedTuple):
    """A text on the plane and where it stands."""

    text: str
    box: _Box
    point: int = -1
    """Which point it names; -1 for the ELBO of a line."""


@house_style()
def rate_distortion(
    names: Sequence[str],
    rate: Array,
    distortion: Array,
    beta: Array,
    subtitle: str,
    note: str = "",
) -> Figure:
    """Rate (R,) and distortion (R,) of R named runs, in nats (Alemi et al. 2018, figure 1).

    Along a dashed line ELBO = -(rate + distortion) is the same; it grows towards the lower left.
    A name stands beside its point, or at a thin line to it, and is left out where it would lie over
    another. Colours follow `beta` (R,), that of the training objective, where it differs.
    """
    low, high = _room(rate)
    # A rate is never negative: left of 0 there is room for half a point.
    limits = (max(low, -0.04 * high), high), _room(distortion)
    points = np.stack([
        SIDE * (values - low) / (high - low)
        for values, (low, high) in zip((rate, distortion), limits, strict=True)
    ])  # fmt: skip
    lines = _iso_elbo(*limits)
    placed = _names_beside(names, points.T, [name.box for _, name in lines if name])
    differs = bool(np.ptp(beta) > 0)
    note = _note(len(names) - len(placed), len(names), differs=differs) + note
    title = "Rate and distortion: the two terms of the ELBO"
    figure, top = page(BEFORE + SIDE + 20, SIDE + 70 + 105 * differs, title, subtitle, note)
    axis_names = {
        "xlabel": "rate, KL(q(z|x) to p(z)), nats",
        "ylabel": "distortion, −E ln p(x|z), nats",
    }
    axes = place(figure, MARGIN + BEFORE, top, SIDE, SIDE, **axis_names)
    axes.set(xlim=limits[0], ylim=limits[1])
    for total, name in lines:
        ends = np.array(limits[0])
        axes.plot(ends, total - ends, color=MUTED, lw=0.8, ls=(0, (5, 4)), zorder=1)
        if name is not None:
            _write(axes, name, MUTED)
    for name in placed:
        _write(axes, name, DARK, points[:, name.point])
    logs = bool(np.min(beta) > 0)
    scale = (LogNorm if logs else Normalize)(float(np.min(beta)), float(np.max(beta)))
    axes.scatter(
        rate, distortion, s=70, c=_BETAS(scale(beta)) if differs else TRAINING,
        edgecolors=DARK, linewidths=0.7, zorder=3,
    )  # fmt: skip
    if differs:
        _beta_bar(figure, scale, beta, top + SIDE + 95, logs=logs)
    return figure


def _note(unnamed: int, total: int, *, differs: bool) -> str:
    """Sentences on the dashed lines, the colours, and the points without a name."""
    note = "Each point is a run. Along a dashed line the ELBO is the number at its end, in nats; "
    note += "it grows towards the lower left.\n"
    if differs:
        note += "The colour of a point is the β of its training objective.\n"
    if unnamed:
        note += f"{unnamed} of {total} points have no name, as it would lie over others.\n"
    return note


def _beta_bar(figure: Figure, scale: Normalize, beta: Array, top: float, *, logs: bool) -> None:
    """Draw the colours of beta under the plane, with the values that the runs have."""
    label = f"β of the training objective{', log scale' if logs else ''}"
    bar = colour_bar(figure, ScalarMappable(scale, _BETAS), MARGIN + BEFORE, top, 420, label)
    found = np.unique(beta)
    near = 40 / 420  # of the bar: the least distance of two numbers
    kept: list[float] = []
    for value in found.tolist():
        if not kept or scale(value) - scale(kept[-1]) > near:
            kept.append(value)
    bar.xaxis.set_major_locator(FixedLocator(kept[:: -(-len(kept) // _TICKS)]))
    bar.xaxis.set_minor_locator(NullLocator())
    bar.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _room(values: Array) -> tuple[float, float]:
    """The range of values with room around it."""
    low, high = float(values.min()), float(values.max())
    pad = max(0.12 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-6)
    return low - pad, high + pad


def _names_beside(names: Sequence[str], points: Array, taken: Sequence[_Box]) -> list[_Name]:
    """The names of points (R, 2), in pixels of the plane, each where it lies over nothing else.

    It is the nearest of the places around its point that are free. A name without one is left out.
    """
    full = [*taken, *(_Box(x - _MARKER, y - _MARKER, 2 * _MARKER, 2 * _MARKER) for x, y in points)]
    placed: list[_Name] = []
    for index, (name, (x, y)) in enumerate(zip(names, points, strict=True)):
        for box in _places(x, y, text_width(name, SMALL), line_height(SMALL)):
            if box.inside() and not any(box.meets(other) for other in full):
                placed.append(_Name(name, box, index))
                full.append(box)
                break
    return placed


def _places(x: float, y: float, width: float, height: float) -> list[_Box]:
    """Places of a text around a point, in pixels, the nearest first."""
    found = []
    for away in (_MARKER + 3, 34, 60):
        middle, above, below = y - height / 2, y + away, y - away - height
        right, left, centred = x + away, x - away - width, x - width / 2
        found += [(right, middle), (left, middle), (centred, above), (centred, below),
                  (right, above), (left, above), (right, below), (left, below)]  # fmt: skip
    return [_Box(*corner, width, height) for corner in found]


def _write(axes: Axes, name: _Name, colour: str, point: Array | None = None) -> None:
    """Write a name on the plane, with a thin line to its point if that is not beside it."""
    box = name.box
    axes.text(
        box.left / SIDE, box.bottom / SIDE, name.text, transform=axes.transAxes, fontsize=SMALL,
        color=colour, va="bottom", path_effects=HALO, zorder=4, parse_math=False,
    )  # fmt: skip
    if point is None:
        return
    nearest = np.array([
        np.clip(point[0], box.left, box.left + box.width),
        np.clip(point[1], box.bottom, box.bottom + box.height),
    ])  # fmt: skip
    if np.hypot(*(nearest - point)) > 2 * _MARKER:
        ends = np.stack([point, nearest], axis=1) / SIDE
        axes.plot(*ends, transform=axes.transAxes, color=MUTED, linewidth=0.7, zorder=2)


def _iso_elbo(
    rates: tuple[float, float], distortions: tuple[float, float]
) -> list[tuple[float, _Name | None]]:
    """Some six totals rate + distortion = -ELBO, each with its ELBO where its line ends in view.

    That is at the right edge, or where the line has met the bottom before it.
    """
    found: list[tuple[float, _Name | None]] = []
    ends = (rates[0] + distortions[0], rates[1] + distortions[1])
    totals = np.array(MaxNLocator(8).tick_values(*ends))
    per_rate = SIDE / (rates[1] - rates[0])
    per_distortion = SIDE / (distortions[1] - distortions[0])
    for total in totals.tolist():
        text = number(-total or 0.0)  # not −0
        width, name = text_width(text, SMALL), None
        x, y = float(SIDE), (total - rates[1] - distortions[0]) * per_distortion
        if y < 0:
            x, y = (total - distortions[0] - rates[0]) * per_rate, 0.0
        if width + 8 < x <= SIDE and 0 <= y < SIDE - line_height(SMALL) - 6:
            name = _Name(text, _Box(x - width - 6, y + 6, width, line_height(SMALL)))
        found.append((total, name))
    return found
