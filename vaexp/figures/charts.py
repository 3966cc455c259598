"""What charts share: numbers of records, the range of values to show, axes, curves, legends."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, ScalarFormatter

from vaexp.figures.style import DARK, Array

FEW = 15  # a curve of no more points has a marker at each
BEFORE = 125  # pixels left of a panel, for tick labels and the axis' name
THICK, THIN = 1.8, 0.7  # points, of lines beside each other

Record = Mapping[str, Any]  # a line of metrics.jsonl


class Curve(NamedTuple):
    """A curve and how it is drawn. Values that are not finite are left out."""

    times: Array  # (T,), epochs, iterations or whatever the horizontal axis has
    values: Array  # (T,)
    colour: str
    dash: str = "-"
    width: float | None = None  # points; None is the house style's


def number(value: float) -> str:
    """Write a number for people: four digits, thousands set apart, a true minus sign."""
    written = f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
    return written.replace("-", "−")


def percent(share: float) -> str:
    """Write a share, 0 to 1, in percent, with as many digits as tell small ones apart."""
    value = 100 * share
    if 0 < value < 0.01:
        return "<0.01%"
    digits = 0 if value >= 99.95 or value == 0 else 1 if value >= 0.995 else 2
    return f"{value:.{digits}f}%"


def abreast(count: int, most: int) -> tuple[int, int]:
    """How many of `count` panels stand beside each other, `most` at most, and in how many rows.

    The rows are as full as they can be: four panels, of which three fit, are two rows of two.
    """
    down = -(-count // most)
    return -(-count // down), down


def times_of(records: Sequence[Record], unit: str) -> Array:
    """The epoch or the iteration of each record, (T,): `unit` says which of the two."""
    return np.array([record[unit] for record in records], dtype=float)


def values_of(records: Sequence[Record], part: str, key: str) -> Array:
    """The number at [part][key] of each record, (T,); NaN where a record has none."""
    found = [(record.get(part) or {}).get(key) for record in records]
    return np.array([np.nan if value is None else value for value in found], dtype=float)


def by_restart(history: Sequence[Record]) -> tuple[dict[int, list[Record]], int]:
    """The records of each restart of EM, in order, and the number of the restart that is kept.

    It is the first of those with the highest final ln p(x) of the training images.
    """
    restarts: dict[int, list[Record]] = {}
    for record in history:
        restarts.setdefault(record.get("restart", 0), []).append(record)
    final = values_of([records[-1] for records in restarts.values()], "train", "log_prob")
    kept = int(np.argmax(np.where(np.isfinite(final), final, -np.inf)))
    return restarts, list(restarts)[kept]


def bulk(curves: Sequence[Array]) -> tuple[float, float]:
    """The range of values to show, which leaves out those far from the middle four fifths.

    For each curve (T,) this is decided by itself. Where no value is finite the range is 0 to 1.
    """
    shown = []
    for curve in curves:
        values = curve[np.isfinite(curve)]
        if values.size >= 5:
            low = float(np.quantile(values, 0.1, method="higher"))
            high = float(np.quantile(values, 0.9, method="lower"))
            far = 10 * max(high - low, 1e-3 * abs(high))
            values = values[np.abs(values - (low + high) / 2) <= far]
        shown.append(values)
    together = np.concatenate(shown) if shown else np.zeros(0)
    return (float(np.min(together)), float(np.max(together))) if together.size else (0.0, 1.0)


def padded(low: float, high: float) -> tuple[float, float]:
    """The range with room around it, also where `low` and `high` are the same."""
    pad = max(0.06 * (high - low), 1e-4 * max(abs(low), abs(high), 1))
    return low - pad, high + pad


def out_of_view(curves: Sequence[Curve], limits: tuple[float, float], unit: str) -> str:
    """The values outside of `limits`, such as "2 values, the lowest −8 at epoch 1", or ""."""
    said = []
    times = np.concatenate([np.zeros(0), *(curve.times for curve in curves)])
    values = np.concatenate([np.zeros(0), *(curve.values for curve in curves)])
    for outside, extreme, word in (
        (np.isfinite(values) & (values < limits[0]), np.argmin, "lowest"),
        (np.isfinite(values) & (values > limits[1]), np.argmax, "highest"),
    ):
        if outside.any():
            found = np.flatnonzero(outside)
            worst = found[extreme(values[found])]
            many = f"{len(found):,} value" + ("s" if len(found) > 1 else "")
            said.append(
                f"{many}, the {word} {number(values[worst])} at {unit} {number(times[worst])}"
            )
    return " and ".join(said)


def left_out(curves: Sequence[Curve], limits: tuple[float, float], unit: str) -> str:
    """Sentences on the values that are out of view or not finite, or "" where there are none."""
    said = out_of_view(curves, limits, unit)
    note = f"Triangles mark what is out of view: {said}." if said else ""
    broken = sum(int(np.sum(~np.isfinite(curve.values))) for curve in curves)
    return note + (f" Of the values {broken:,} are not finite." if broken else "")


def draw_curves(axes: Axes, curves: Sequence[Curve], limits: tuple[float, float]) -> None:
    """Draw curves in a view of `limits`, with triangles at its edges for what lies outside."""
    axes.set_ylim(limits)
    for times, values, colour, dash, width in curves:
        there = np.isfinite(values)
        axes.plot(
            times[there], values[there], color=colour, linestyle=dash, linewidth=width,
            marker="o" if there.sum() <= FEW else "", markersize=2 if width == THIN else 4,
        )  # fmt: skip
        for outside, edge, sign in (
            (values < limits[0], limits[0], "v"),
            (values > limits[1], limits[1], "^"),
        ):
            if len(times) > FEW:  # one triangle where the curve leaves the view, not a row of them
                outside = outside & ~np.append(False, outside[:-1])
            axes.plot(
                times[outside], np.full(outside.sum(), edge), sign, color=colour,
                markeredgecolor=DARK, markeredgewidth=0.5, clip_on=False, zorder=5,
            )  # fmt: skip


def plain_axis(axis: Axis) -> None:
    """Give an axis round numbers without "1e6" at its end, where the title is."""
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    numbers = ScalarFormatter(useOffset=False)
    numbers.set_scientific(False)
    axis.set_major_formatter(numbers)


def whole_axis(axis: Axis) -> None:
    """Give an axis whole numbers, one at least."""
    axis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def log_axis(axis: Axis, low: float, high: float) -> None:
    """Give an axis a log scale that holds `low` to `high`, both > 0, with room around them."""
    room = float(np.exp(max(0.06 * np.log(high / low), 0.3)))
    log_view(axis, low / room, high * room)


def log_view(axis: Axis, low: float, high: float) -> None:
    """Give an axis a log scale from `low` to `high`, both > 0, with numbers."""
    axes = axis.axes
    if axis is axes.xaxis:
        axes.set(xscale="log", xlim=(low, high))
    else:
        axes.set(yscale="log", ylim=(low, high))
    if high < 30 * low:
        # Powers of ten alone would leave such a short axis with one number or none.
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
        ticks = np.outer(powers, [1, 2, 5]).ravel()
        if np.sum((ticks >= low) & (ticks <= high)) < 3:
            ticks = np.array(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high))
        axis.set_major_locator(FixedLocator(ticks[(ticks >= low) & (ticks <= high)].tolist()))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def legend_at(
    figure: Figure, handles: Sequence[Artist], left: float, top: float, columns: int = 3
) -> None:
    """Put a legend with its top left corner at a pixel of the page."""
    width, height = figure.bbox.size
    figure.legend(
        handles=handles, loc="upper left", ncols=columns, borderaxespad=0, borderpad=0,
        columnspacing=1.4, bbox_to_anchor=(left / width, 1 - (top + 4) / height),
    )  # fmt: skip


def spread(places: Array, apart: float, limits: tuple[float, float]) -> Array:
    """Move places (n,) on a line as little as leaves them `apart` from each other, in order.

    The sum of squared moves is the least possible that also keeps them within `limits`, or, where
    these are too close for that, from the lower limit on.
    """
    order = np.argsort(places, kind="stable")
    # With i * apart taken off, places that are far enough apart are those that do not decrease:
    # neighbours that do are pooled at their mean until none are left.
    pools: list[tuple[float, int]] = []
    for place_now in places[order] - apart * np.arange(len(places)):
        pools.append((float(place_now), 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((m * a + n * b) / (m + n), m + n)]
    moved = np.empty(len(places))
    pooled = np.repeat([mean for mean, _ in pools], [size for _, size in pools])
    highest = max(limits[1] - apart * (len(places) - 1), limits[0])
    moved[order] = np.clip(pooled, limits[0], highest) + apart * np.arange(len(places))
    return moved
