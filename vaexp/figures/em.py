"""How EM went: the M-step raises the ELBO, and the E-step closes its gap to ln p(x)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator

from vaexp.figures.charts import (
    BEFORE,
    FEW,
    THICK,
    THIN,
    Curve,
    Record,
    bulk,
    by_restart,
    draw_curves,
    left_out,
    legend_at,
    log_axis,
    number,
    padded,
    plain_axis,
    times_of,
    values_of,
    whole_axis,
)
from vaexp.figures.style import (
    DARK,
    MARGIN,
    MUTED,
    SMALL,
    TRAINING,
    VALIDATION,
    Array,
    house_style,
    line_height,
    page,
    place,
    write,
)

_M_STEP, _E_STEP, _KL = "#832db6", "#e69f00", "#fbe7bd"
_E_STEP_TEXT = "#a86f00"  # the same hue, dark enough to read
_FALL = "#bd1f01"
_STEPS = 6  # iterations whose steps are drawn, at most
_ROUNDING = 1e-10  # ln p(x) that changes by less than this share of its size does not change
# Pixels: the widths of the steps and of the whole run, their height, and that of what is over and
# under them.
_STEP, _RUN, _HEIGHT, _TITLE, _UNDER = 560, 510, 430 + 2 * line_height(SMALL), 40, 68
_FIRST = 250  # pixels: the width of the first step, where it has an axis of its own


@house_style()
def em_staircase(history: Sequence[Mapping[str, Any]], subtitle: str) -> Figure:
    """EM step by step: the M-step raises the ELBO, the E-step closes its gap to ln p(x).

    ln p(x) = ELBO(q, theta) + KL(q to p(z|x, theta)). The M-step of iteration t holds q and raises
    the ELBO from elbo_after_e of iteration t - 1 to elbo_after_m of t; the E-step sets q to the
    posterior, so that KL = 0 and the ELBO is ln p(x) of t. Left: the first few iterations step by
    step; where the first step is so large that no other would be seen, it has an axis of its own,
    and later iterations another. Right: the whole run, and by how much each iteration increased
    ln p(x), unless the run is one iteration.

    `history` holds two or more records, the lines of metrics.jsonl: {"iteration": 0, 1, ...,
    "restart": 0, 1, ..., "train": {"log_prob", "elbo_after_e", "elbo_after_m" (not at iteration
    0)}, "validation": {"log_prob"} or absent}, all in mean nats per image. The restart of the
    highest final training log_prob is the kept one, which needs an iteration 1: its steps are
    drawn, and its curves thick.
    """
    restarts, kept = by_restart(history)
    records = restarts[kept]
    curves = _curves(restarts, kept)
    limits = padded(*bulk([curve.values for curve in curves]))
    shown = _window(values_of(records, "train", "log_prob"))
    alone = len(records) == 2  # the whole run is one iteration, which the steps show
    notes = _what_steps_show(records)
    if shown.start > 0:
        notes.append(
            "The first step has an axis of its own: on one axis with it no other would be seen."
        )
    if alone:
        notes += _ends_of_validation(records)
    if len(restarts) > 1:
        which = "The steps are" if alone else "Thick lines and steps are"
        notes.append(
            f"{which} those of restart {kept} of 0 to {max(restarts)}, whose final training "
            "ln p(x) is the highest."
        )
    if not alone:
        notes.append(left_out(curves, limits, "iteration"))
    first = BEFORE + _FIRST + 30 if shown.start > 0 else 0
    run = 0 if alone else 30 + BEFORE + _RUN
    body = (first + BEFORE + _STEP + run + 15, 64 + _TITLE + _HEIGHT + _UNDER)
    title = "Expectation maximisation, step by step"
    figure, top = page(*body, title, subtitle, "\n".join(notes))
    left = MARGIN + BEFORE
    legend_at(figure, _names_of_steps(), left, top, columns=2)
    if first:
        _draw_steps(figure, records, slice(0, 2), left, top, _FIRST)
    _draw_steps(figure, records, shown, left + first, top, _STEP)
    if not alone:
        left += first + _STEP + 30 + BEFORE
        _draw_run(figure, records, curves, limits, left, top, others=len(restarts) > 1)
    return figure


def _ends_of_validation(records: Sequence[Record]) -> list[str]:
    """A sentence on ln p(x) of the validation images before and after, if there are any."""
    values = values_of(records, "validation", "log_prob")
    if not np.isfinite(values).all():
        return []
    before, after = (number(float(value)) for value in values[[0, -1]])
    return [f"ln p(x) of the validation images went from {before} to {after} nats per image."]


def _curves(restarts: Mapping[int, Sequence[Record]], kept: int) -> list[Curve]:
    """ln p(x) of training and validation images in each restart, the kept one last and thick."""
    curves = []
    for restart in sorted(restarts, key=lambda restart: restart == kept):
        times = times_of(restarts[restart], "iteration")
        width = THICK if restart == kept else THIN
        for part, colour in (("validation", VALIDATION), ("train", TRAINING)):
            values = values_of(restarts[restart], part, "log_prob")
            if np.isfinite(values).any():
                curves.append(Curve(times, values, colour, width=width))
    return curves


def _what_steps_show(records: Sequence[Record]) -> list[str]:
    """Sentences on what the steps show, and on how nearly ELBO and ln p(x) agree."""
    log_prob = values_of(records, "train", "log_prob")
    gaps = np.abs(values_of(records, "train", "elbo_after_e") - log_prob)
    gap = float(f"{np.max(gaps[np.isfinite(gaps)], initial=0):.1g}")
    return [
        "In the M-step ln p(x) rises by more than the ELBO, as q is the posterior of the old "
        "parameters: the gap, shaded, is KL(q to p(z|x)). The E-step closes it.",
        f"After the E-steps ELBO and ln p(x) differ by {number(gap)} nats at most. "
        + _falls(times_of(records, "iteration"), log_prob),
    ]


def _names_of_steps() -> list[Artist]:
    """The handles of the legend over the steps."""
    return [
        Line2D([], [], color=_M_STEP, linewidth=4, label="M-step: raises the ELBO, q held"),
        Line2D([], [], color=_E_STEP, linewidth=4, label="E-step: raises it to ln p(x)"),
        Line2D([], [], color=DARK, linewidth=1, marker="o", markersize=5, label="ln p(x)"),
        Patch(color=_KL, label="KL(q to p(z|x)) = ln p(x) − ELBO"),
    ]


def _draw_steps(
    figure: Figure, records: Sequence[Record], shown: slice, left: float, top: float, width: float
) -> None:
    """Draw the steps of a few iterations at a pixel of the page, with what each gained under it."""
    iterations = times_of(records, "iteration")[shown]
    log_prob = values_of(records, "train", "log_prob")[shown]
    after_m = values_of(records, "train", "elbo_after_m")[shown]
    y, table = top + 64 + _TITLE, 2 * line_height(SMALL)
    axes = place(figure, left, y, width, _HEIGHT - table)
    _stairs(axes, iterations, log_prob, after_m)
    _gains(figure, axes, y + _HEIGHT + _UNDER - table, iterations, log_prob, after_m)


def _draw_run(
    figure: Figure,
    records: Sequence[Record],
    curves: Sequence[Curve],
    limits: tuple[float, float],
    left: float,
    top: float,
    *,
    others: bool,
) -> None:
    """Draw ln p(x) of the whole run, and under it by how much each iteration increased it.

    `others`: whether there are other restarts than the kept one, whose `records` these are.
    """
    y = top + 64 + _TITLE
    legend_at(figure, _names_of_curves(curves, others=others), left, top)
    lower, between = 150, 55
    title = "ln p(x), the whole run"
    axes = place(figure, left, y, _RUN, _HEIGHT - lower - between, title=title)
    _draw_log_prob(axes, curves, limits)
    axes.tick_params(labelbottom=False)
    names = {"xlabel": "iteration", "ylabel": "nats, log scale"}
    title = "increase of ln p(x) per iteration"
    axes = place(figure, left, y + _HEIGHT - lower, _RUN, lower, title=title, **names)
    log_prob = values_of(records, "train", "log_prob")
    _increases(axes, times_of(records, "iteration"), log_prob, _span(curves))


def _draw_log_prob(axes: Axes, curves: Sequence[Curve], limits: tuple[float, float]) -> None:
    """Draw ln p(x) against iterations."""
    axes.set_ylabel("nats per image")
    draw_curves(axes, curves, limits)
    axes.set_xlim(_span(curves))
    whole_axis(axes.xaxis)
    plain_axis(axes.yaxis)


def _span(curves: Sequence[Curve]) -> tuple[float, float]:
    """The range of iterations, with half an iteration of room on both sides."""
    return -0.5, max((float(curve.times[-1]) for curve in curves), default=0.0) + 0.5


def _names_of_curves(curves: Sequence[Curve], *, others: bool) -> list[Artist]:
    """The handles of the legend over ln p(x). `others`: whether there are other restarts."""
    handles: list[Artist] = [Line2D([], [], color=TRAINING, label="training")]
    if any(curve.colour == VALIDATION for curve in curves):
        handles.append(Line2D([], [], color=VALIDATION, label="validation"))
    if others:
        handles.append(Line2D([], [], color=MUTED, linewidth=THIN, label="other restarts"))
    return handles


def _window(log_prob: Array) -> slice:
    """The first iterations of which each step can be seen beside the others, up to `_STEPS`."""
    best = slice(0, 2)
    for first in range(min(len(log_prob) - 1, 20)):
        last = first + 1
        while last - first < _STEPS and last + 1 < len(log_prob):
            longer = log_prob[first : last + 2]
            if not np.min(np.abs(np.diff(longer))) >= 0.025 * np.ptp(longer):
                break
            last += 1
        if last - first > best.stop - best.start - 1:
            best = slice(first, last + 1)
        if last - first >= 3:
            break
    return best


def _stairs(axes: Axes, iteration: Array, log_prob: Array, after_m: Array) -> None:
    """Draw the steps between iterations (n,): the M-step halfway, the E-step at the iteration."""
    for t in range(1, len(iteration)):
        end = iteration[t]
        middle = end - 0.5
        start, raised, closed = log_prob[t - 1], after_m[t], log_prob[t]
        axes.fill_between([middle, end], [raised] * 2, [closed] * 2, color=_KL, linewidth=0)
        axes.plot([end - 1, middle, middle, end], [start, start, closed, closed], color=DARK,
                  linewidth=1, zorder=3)  # fmt: skip
        axes.plot([middle, end], [raised] * 2, color=MUTED, linewidth=1, zorder=3)
        for place_now, low, high, colour in (
            (middle, start, raised, _M_STEP),
            (end, raised, closed, _E_STEP),
        ):
            axes.plot([place_now] * 2, [low, high], color=colour, linewidth=4, zorder=4,
                      solid_capstyle="butt")  # fmt: skip
    axes.plot(iteration, log_prob, "o", color=DARK, markersize=5, zorder=5)
    shown = np.append(log_prob, after_m[1:])
    shown = shown[np.isfinite(shown)]
    limits = padded(float(np.min(shown)), float(np.max(shown))) if shown.size else (0.0, 1.0)
    axes.set(xlim=(iteration[0] - 0.3, iteration[-1] + 0.3), ylim=limits)
    title = f"step of iteration {iteration[1]:g}"
    if len(iteration) > 2:
        title = f"steps of iterations {iteration[1]:g} to {iteration[-1]:g}, and what each gained"
    axes.set_title(title)
    axes.set(xlabel="iteration", ylabel="nats per image")
    axes.xaxis.set_major_locator(FixedLocator(iteration.tolist()))
    plain_axis(axes.yaxis)


def _gains(
    figure: Figure, axes: Axes, row: float, iteration: Array, log_prob: Array, after_m: Array
) -> None:
    """Write under each step between iterations (n,) what it gained, below a `row` of the page."""
    page_width = figure.bbox.width
    box, (low, high) = axes.get_position(), axes.get_xlim()
    left, width = box.x0 * page_width, box.width * page_width
    steps = (
        ("M-step", _M_STEP, after_m[1:] - log_prob[:-1], iteration[1:] - 0.5),
        ("E-step", _E_STEP_TEXT, log_prob[1:] - after_m[1:], iteration[1:]),
    )
    for line, (name, colour, gains, places) in enumerate(steps):
        y = row + line * line_height(SMALL)
        write(figure, left - 12, y, name, color=colour, fontsize=SMALL, ha="right", va="top")
        for gain, place_now in zip(gains, places, strict=True):
            x = left + width * (place_now - low) / (high - low)
            write(figure, x, y, _gain(gain), color=colour, fontsize=SMALL, ha="center", va="top")


def _gain(value: float) -> str:
    """A signed number of at most seven characters."""
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-3:
        digits, power = f"{size:.1e}".split("e")
        written = f"{digits}e{int(power)}"
    else:
        written = f"{size:,.0f}" if size >= 1000 else f"{size:.{3 if size >= 0.01 else 2}g}"
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return sign + written.replace("-", "−")


def _increases(axes: Axes, iteration: Array, log_prob: Array, span: tuple[float, float]) -> None:
    """Draw ln p(x)[t] - ln p(x)[t - 1] on a log axis, and its falls at the lower edge."""
    change, least = _changes(log_prob)
    rises, falls = change > least, change < -least
    sizes = change[rises] if rises.any() else np.ones(1)
    log_axis(axes.yaxis, float(np.min(sizes)), float(np.max(sizes)))
    axes.plot(iteration[1:], np.where(rises, change, np.nan), color=TRAINING,
              marker="o" if len(change) <= 3 * FEW else "", markersize=3)  # fmt: skip
    axes.plot(iteration[1:][falls], np.full(falls.sum(), axes.get_ylim()[0]), "v", color=_FALL,
              markersize=5, clip_on=False, zorder=5)  # fmt: skip
    axes.set_xlim(span)
    whole_axis(axes.xaxis)


def _changes(log_prob: Array) -> tuple[Array, Array]:
    """By how much each iteration changed ln p(x), and how much is more than rounding, (T - 1,)."""
    size = np.maximum(np.abs(log_prob), 1)
    return np.diff(log_prob), _ROUNDING * np.maximum(size[1:], size[:-1])


def _falls(iteration: Array, log_prob: Array) -> str:
    """A sentence on the iterations in which ln p(x) fell."""
    change, least = _changes(log_prob)
    falls = np.sum(change < -least)
    if not falls:
        return "ln p(x) never fell."
    worst = int(np.nanargmin(change))
    return (
        f"ln p(x) fell in {falls:,} of {len(change):,} iterations (triangles), by at most "
        f"{-change[worst]:.3g} nats, in iteration {iteration[worst + 1]:g}."
    )
