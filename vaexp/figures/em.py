"""How EM went: its two steps, how near components come to a singularity, what a floor does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

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
    text_width,
    write,
)

_M_STEP, _E_STEP, _KL = "#832db6", "#e69f00", "#fbe7bd"
_E_STEP_TEXT = "#a86f00"  # the same hue, dark enough to read
_FALL, _OTHER = "#bd1f01", "#b5b5b5"
_NAME_COLOURS = ("#bd1f01", "#0072b2", "#e69f00", "#832db6", "#009e73", "#222222")
_FEW = 15  # iterations up to which every point gets a marker
_STEPS = 6  # iterations whose steps are drawn, at most
_NAMED = 3  # components that are named in each panel because they end lowest there
_ROUNDING = 1e-10  # ln p(x) that changes by less than this share of its size does not change
_LEAST_COUNT = 0.1  # images: below it a component is gone, and how far below means nothing
_BEFORE = 125  # pixels left of a panel, for tick labels and the axis' name

_Curve = tuple[Array, Array, str, bool]  # iterations (T,), values (T,), colour, thick?


@house_style()
def em_staircase(history: Sequence[Mapping[str, Any]], subtitle: str) -> Figure:
    """EM as its proof has it: the M-step raises the ELBO, the E-step closes its gap to ln p(x).

    ln p(x) = ELBO(q, theta) + KL(q to p(z|x, theta)). The M-step of iteration t holds q and raises
    the ELBO from elbo_after_e of iteration t - 1 to elbo_after_m of t; the E-step sets q to the
    posterior, so that KL = 0 and the ELBO is ln p(x) of t. Left: the first few iterations step by
    step, or later ones where the first step is so large that no other would be seen. Right: the
    whole run, and by how much each iteration increased ln p(x).

    `history` holds one or more records, the lines of metrics.jsonl: {"iteration": 0, 1, ...,
    "restart": 0, 1, ..., "train": {"log_prob", "elbo_after_e", "elbo_after_m" (not at iteration
    0)}, "validation": {"log_prob"} or absent}, all in mean nats per image. The restart of the
    highest final training log_prob is the kept one: its steps are drawn, and its curves thick.
    Where that has no iteration but 0, only ln p(x) is drawn.
    """
    restarts = _restarts(history)
    kept = _kept(restarts)
    records = restarts[kept]
    log_prob = _values(records, "train", "log_prob")
    after_m = _values(records, "train", "elbo_after_m")
    curves: list[_Curve] = []
    for restart in sorted(restarts, key=lambda restart: restart == kept):  # the kept one on top
        for part, colour in (("validation", VALIDATION), ("train", TRAINING)):
            values = _values(restarts[restart], part, "log_prob")
            if np.isfinite(values).any():
                curves.append((_iterations(restarts[restart]), values, colour, restart == kept))
    limits = _bulk([values for _, values, *_ in curves])

    stepped = len(records) > 1
    notes = ["No iteration: these are the initial parameters."]
    if stepped:
        gaps = np.abs(_values(records, "train", "elbo_after_e") - log_prob)
        gap = float(f"{np.max(gaps[np.isfinite(gaps)], initial=0):.1g}")
        notes = [
            "In the M-step ln p(x) rises by more than the ELBO, as q is the posterior of the old "
            "parameters: the gap, shaded, is KL(q to p(z|x)). The E-step closes it.",
            f"After the E-steps ELBO and ln p(x) differ by {number(gap)} nats at most. "
            + _falls(_iterations(records), log_prob),
        ]
    if len(restarts) > 1:
        notes.append(
            f"{'Thick lines and steps' if stepped else 'Large points'}: restart {kept} of 0 to "
            f"{max(restarts)}, whose final training ln p(x) is the highest."
        )
    notes.append(_away(curves, limits))

    legend, name, under = (64 if stepped else 34), 40, 68
    width, height = (560, 430 + 2 * line_height(SMALL)) if stepped else (0, 320)
    right_width = 510
    right = MARGIN + _BEFORE + (width + 30 + _BEFORE if stepped else 0)
    body = (right - MARGIN + right_width + 15, legend + name + height + under)
    title = "Expectation maximisation, " + ("step by step" if stepped else "not yet begun")
    figure, top = page(*body, title, subtitle, "\n".join(notes))
    y = top + legend + name
    if stepped:
        table = 2 * line_height(SMALL)
        axes = place(figure, MARGIN + _BEFORE, y, width, height - table)
        shown = _window(log_prob)
        numbers = _iterations(records)[shown]
        _stairs(axes, numbers, log_prob[shown], after_m[shown])
        _gains(figure, axes, y + height + under - table, numbers, log_prob[shown], after_m[shown])
        handles: list[Artist] = [
            Line2D([], [], color=_M_STEP, linewidth=4, label="M-step: raises the ELBO, q held"),
            Line2D([], [], color=_E_STEP, linewidth=4, label="E-step: raises it to ln p(x)"),
            Line2D([], [], color=DARK, linewidth=1, marker="o", markersize=5, label="ln p(x)"),
            Patch(color=_KL, label="KL(q to p(z|x)) = ln p(x) − ELBO"),
        ]
        _legend(figure, handles, MARGIN + _BEFORE, top, columns=2)

    sign: dict[str, Any] = {} if stepped else {"marker": "o", "linestyle": "", "markersize": 4}
    handles = [Line2D([], [], color=TRAINING, label="training", **sign)]
    if any(colour == VALIDATION for _, _, colour, _ in curves):
        handles.append(Line2D([], [], color=VALIDATION, label="validation", **sign))
    if len(restarts) > 1:
        sign = {"linewidth": 0.7} if stepped else sign | {"markersize": 2}
        handles.append(Line2D([], [], color=MUTED, label="other restarts", **sign))
    _legend(figure, handles, right, top, columns=3)
    span = (-0.5, max(float(times[-1]) for times, *_ in curves) + 0.5) if curves else (-0.5, 0.5)
    lower, between = (150, 55) if stepped else (0, 0)
    axes = place(figure, right, y, right_width, height - lower - between)
    axes.set_title("ln p(x), the whole run" if stepped else "ln p(x) of the initial parameters")
    axes.set_ylabel("nats per image")
    _draw(axes, curves, span, limits)
    if stepped:
        axes.tick_params(labelbottom=False)
        axes = place(figure, right, y + height - lower, right_width, lower)
        axes.set_title("increase of ln p(x) per iteration")
        axes.set_ylabel("nats, log scale")
        _increases(axes, _iterations(records), log_prob, span)
    axes.set_xlabel("iteration")
    return figure


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
    restarts = _restarts(history)
    kept = _kept(restarts)
    records = restarts[kept]
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
    body = (2 * (_BEFORE + width + beside), legend + name + height + 68)
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
        left = MARGIN + _BEFORE + column * (_BEFORE + width + beside)
        axes = place(figure, left, y, width, height)
        axes.set_title(title)
        axes.set_xlabel("iteration")
        axes.set_ylabel(unit)
        heights = height * _components(axes, _iterations(records), values, named, level)
        places = y + height - spread(heights, line_height(SMALL), (0, height))
        for (label, colour), row in zip(named.values(), places, strict=True):
            write(figure, left + width + 10, row, label, color=colour, fontsize=SMALL, va="center")
        if level is not None:
            handle = Line2D([], [], color=DARK, linestyle="--", linewidth=1.1, label=level_name)
            _legend(figure, [handle], left, top, columns=1)
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
    limits = _padded(float(np.min(seen, initial=low)), high)
    curves: list[_Curve] = [(floors, train, TRAINING, True), (floors, validation, VALIDATION, True)]
    note += _away(curves, limits, "floor")

    width, height, legend = 760, 430, 34
    above = 34  # for the name of the best floor
    figure, top = page(
        _BEFORE + width + 15, legend + above + height + 70,
        "Likelihood against the covariance floor", subtitle, note,
    )  # fmt: skip
    left, y = MARGIN + _BEFORE, top + legend + above
    axes = place(figure, left, y, width, height)
    log_axis(axes.xaxis, float(np.min(floors)), float(np.max(floors)))
    span = np.array(axes.get_xlim())[::-1]
    for times, values, colour, thick in curves:
        _line(axes, times, values, limits, colour, thick=thick)
    axes.set(xlim=span, ylim=limits, ylabel="ln p(x), nats per image")
    axes.set_xlabel("covariance floor, units of x squared, log scale: smaller to the right")
    _plain(axes.yaxis)
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
    _legend(figure, handles, left, top, columns=2)
    return figure


def number(value: float) -> str:
    """Write a number for people: four digits, thousands set apart, a true minus sign."""
    written = f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
    return written.replace("-", "−")


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


def log_axis(axis: Axis, low: float, high: float) -> None:
    """Give an axis a log scale that holds `low` to `high`, both > 0, with room around them."""
    pad = max(0.06 * np.log(high / low), 0.3)
    low, high = low * float(np.exp(-pad)), high * float(np.exp(pad))
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


def _restarts(history: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """The records of each restart, in order."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for record in history:
        found.setdefault(record.get("restart", 0), []).append(record)
    return found


def _kept(restarts: Mapping[int, Sequence[Mapping[str, Any]]]) -> int:
    """The restart with the highest final ln p(x) of training; the first of several such."""
    final = {name: _values(records, "train", "log_prob")[-1] for name, records in restarts.items()}
    return max(final, key=lambda name: final[name] if np.isfinite(final[name]) else -np.inf)


def _iterations(records: Sequence[Mapping[str, Any]]) -> Array:
    return np.array([record["iteration"] for record in records], dtype=float)


def _values(records: Sequence[Mapping[str, Any]], part: str, key: str) -> Array:
    """One value per record, NaN where it has none."""
    found = [(record.get(part) or {}).get(key) for record in records]
    return np.array([np.nan if value is None else value for value in found], dtype=float)


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
    limits = _padded(float(np.min(shown)), float(np.max(shown))) if shown.size else (0.0, 1.0)
    axes.set(xlim=(iteration[0] - 0.3, iteration[-1] + 0.3), ylim=limits)
    which = (
        f" {iteration[1]:g}" if len(iteration) == 2 else f"s {iteration[1]:g} to {iteration[-1]:g}"
    )
    axes.set_title(f"steps of iteration{which}, and what each gained")
    axes.set(xlabel="iteration", ylabel="nats per image")
    axes.xaxis.set_major_locator(FixedLocator(iteration.tolist()))
    _plain(axes.yaxis)


def _gains(
    figure: Figure, axes: Axes, row: float, iteration: Array, log_prob: Array, after_m: Array
) -> None:
    """Write under the steps what each gained."""
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
        written = f"{size:,.0f}" if size >= 1000 else f"{size:.3g}"
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return sign + written.replace("-", "−")


def _increases(axes: Axes, iteration: Array, log_prob: Array, span: tuple[float, float]) -> None:
    """Draw ln p(x)[t] - ln p(x)[t - 1] on a log axis, and its falls at the lower edge."""
    change, least = _changes(log_prob)
    rises, falls = change > least, change < -least
    sizes = change[rises] if rises.any() else np.ones(1)
    log_axis(axes.yaxis, float(np.min(sizes)), float(np.max(sizes)))
    axes.plot(iteration[1:], np.where(rises, change, np.nan), color=TRAINING,
              marker="o" if len(change) <= 3 * _FEW else "", markersize=3)  # fmt: skip
    axes.plot(iteration[1:][falls], np.full(falls.sum(), axes.get_ylim()[0]), "v", color=_FALL,
              markersize=5, clip_on=False, zorder=5)  # fmt: skip
    axes.set_xlim(span)
    axes.xaxis.set_major_locator(_whole())


def _changes(log_prob: Array) -> tuple[Array, Array]:
    """By how much each iteration changed ln p(x), and how much is more than rounding, (T - 1,)."""
    size = np.maximum(np.abs(log_prob), 1)
    return np.diff(log_prob), _ROUNDING * np.maximum(size[1:], size[:-1])


def _falls(iteration: Array, log_prob: Array) -> str:
    change, least = _changes(log_prob)
    falls = np.sum(change < -least)
    if not falls:
        return "ln p(x) never fell."
    worst = int(np.nanargmin(change))
    return (
        f"ln p(x) fell in {falls:,} of {len(change):,} iterations (triangles), by at most "
        f"{-change[worst]:.3g} nats, in iteration {iteration[worst + 1]:g}."
    )


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
    axes.xaxis.set_major_locator(_whole())
    marker = "o" if len(iteration) <= _FEW else ""
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


def _draw(
    axes: Axes, curves: Sequence[_Curve], span: tuple[float, float], limits: tuple[float, float]
) -> None:
    for times, values, colour, thick in curves:
        _line(axes, times, values, limits, colour, thick=thick)
    axes.set(xlim=span, ylim=limits)
    axes.xaxis.set_major_locator(_whole())
    _plain(axes.yaxis)


def _line(
    axes: Axes,
    times: Array,
    values: Array,
    limits: tuple[float, float],
    colour: str,
    *,
    thick: bool,
) -> None:
    """Draw a curve, with triangles at the edges for what `limits` leave out."""
    there = np.isfinite(values)
    marker = "o" if there.sum() <= _FEW else ""
    how = {"linewidth": 1.8, "markersize": 4} if thick else {"linewidth": 0.7, "markersize": 2}
    axes.plot(times[there], values[there], color=colour, marker=marker, **how)  # type: ignore[arg-type]
    for outside, edge, sign in (
        (values < limits[0], limits[0], "v"),
        (values > limits[1], limits[1], "^"),
    ):
        if len(times) > _FEW:  # one triangle where the curve leaves the view, not a row of them
            outside = outside & ~np.append(False, outside[:-1])
        axes.plot(
            times[outside], np.full(outside.sum(), edge), sign, color=colour,
            markeredgecolor=DARK, markeredgewidth=0.5, clip_on=False, zorder=5,
        )  # fmt: skip


def _bulk(curves: Sequence[Array]) -> tuple[float, float]:
    """The range of values to show: all of them but those far from the middle four fifths."""
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
    if not together.size:
        return 0.0, 1.0
    return _padded(float(np.min(together)), float(np.max(together)))


def _padded(low: float, high: float) -> tuple[float, float]:
    """Room around a range; a range of nothing still needs a view of some height."""
    pad = max(0.06 * (high - low), 1e-4 * max(abs(low), abs(high), 1))
    return low - pad, high + pad


def _away(curves: Sequence[_Curve], limits: tuple[float, float], at: str = "iteration") -> str:
    """Say which values the view does not show; "" where it shows all."""
    said = []
    times = np.concatenate([curve[0] for curve in curves]) if curves else np.zeros(0)
    values = np.concatenate([curve[1] for curve in curves]) if curves else np.zeros(0)
    for outside, extreme, word in (
        (np.isfinite(values) & (values < limits[0]), np.argmin, "lowest"),
        (np.isfinite(values) & (values > limits[1]), np.argmax, "highest"),
    ):
        if outside.any():
            found = np.flatnonzero(outside)
            worst = found[extreme(values[found])]
            many = f"{len(found):,} value" + ("s" if len(found) > 1 else "")
            said.append(f"{many}, {word} {number(values[worst])} at {at} {number(times[worst])}")
    note = f"Out of view (triangles): {'; '.join(said)}." if said else ""
    broken = np.sum(~np.isfinite(values))
    return note + (f" Values that are not finite: {broken:,}." if broken else "")


def _plain(axis: Axis) -> None:
    """A linear axis without "1e6" above it, where the title is."""
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.axes.ticklabel_format(axis="y", style="plain", useOffset=False)


def _whole() -> MaxNLocator:
    return MaxNLocator(7, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


def _legend(
    figure: Figure, handles: Sequence[Artist], left: float, top: float, columns: int
) -> None:
    """Put a legend with its top left corner at a pixel of the page."""
    width, height = figure.bbox.size
    figure.legend(
        handles=handles, loc="upper left", ncols=columns, borderaxespad=0, borderpad=0,
        columnspacing=1.4, bbox_to_anchor=(left / width, 1 - (top + 4) / height),
    )  # fmt: skip
