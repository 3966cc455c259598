"""The floor of sigma or of covariances: what lies near it, and what another would give."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from vaexp.figures.charts import (
    BEFORE,
    THICK,
    Curve,
    draw_curves,
    left_out,
    legend_at,
    log_axis,
    number,
    padded,
    plain_axis,
)
from vaexp.figures.maps import Map, draw_maps, size_of_maps
from vaexp.figures.singularities import LEAST_COUNT
from vaexp.figures.style import (
    DARK,
    MARGIN,
    SMALL,
    TRAINING,
    VALIDATION,
    Array,
    house_style,
    page,
    place,
    text_width,
    write,
)


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
    curves = _curves(floors, train, validation)
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
    legend_at(figure, _handles("validation"), left, top)
    return figure


@house_style()
def near_the_floor(
    arrays: Mapping[str, Array],
    subtitle: str,
    *,
    floor: float,
    of_variance: bool = False,
    near: float = 0.0,
    note: str = "",
) -> Figure:
    """Where sigma lies near its floor, what that is worth, and what another floor would give.

    `floor` is that of sigma, in units of x, or `of_variance` that of covariances, in units of x
    squared. `arrays` are some of these: the maps (D,) ``sigma_map`` of mean sigma, ``floor_map`` of
    the share of images with sigma below `near` times its floor, and ``log_prob_map`` of the mean of
    ln p(x_j|z); ``floor_curve_floors`` (F,) with ``floor_curve_train`` and ``floor_curve_test``,
    mean nats per image; ``smallest_sigma`` with ``effective_count`` (K,) of a mixture's components.
    A map that is the same for all pixels becomes a sentence of the note.
    """
    least = float(np.sqrt(floor)) if of_variance else floor
    maps, flat = [], []
    for name, title, unit in (
        ("sigma_map", "mean σ", "units of x"),
        ("floor_map", "share near the floor", f"share of images with σ < {near * least:.3g}"),
        ("log_prob_map", "mean ln p(xⱼ|z)", "nats per pixel"),
    ):
        if name in arrays:
            values = arrays[name]
            low, high = float(np.min(values)), float(np.max(values))
            if high - low <= 1e-6 * max(abs(low), abs(high)):
                flat.append(f"{title} is {number(low)} at every pixel")
            elif name == "floor_map":
                maps.append(Map(title, unit, values, Normalize(0, 1)))
            elif name == "sigma_map" and low > 0:
                maps.append(Map(title, f"{unit}, log scale", values, LogNorm(low, high)))
            else:
                maps.append(Map(title, unit, values, Normalize(low, high)))
    if flat:
        note += f"\nNot drawn: {'; '.join(flat)}."

    curves = []
    if "floor_curve_floors" in arrays:
        parts = ("floors", "train", "test")
        curves = _curves(*(arrays[f"floor_curve_{part}"] for part in parts))
    sigma = arrays.get("smallest_sigma", np.zeros(0))
    singular = int(np.sum(sigma <= 0))  # without a floor: no log scale shows them
    has_components = singular < len(sigma)
    if singular:
        note += f"\nNot drawn: {singular:,} of {len(sigma):,} components, whose smallest σ is 0."
    wide, down = size_of_maps(maps)
    width, height = 440, 340
    charts = bool(curves) + has_components
    between = 50 if maps and charts else 0
    body = (max(wide, charts * (BEFORE + width + 25)), down + between + bool(charts) * 440)
    title = "How near sigma comes to its floor"
    if "floor_map" not in arrays:
        title = "Sigma, and what each pixel adds to the likelihood"
    figure, top = page(*body, title, subtitle, note)
    draw_maps(figure, MARGIN, top, maps)
    y, left = top + down + between, MARGIN + BEFORE
    if curves:
        axes = place(figure, left, y + 34, width, height)
        _other_floors(axes, curves, floor, of_variance=of_variance)
        trained = Line2D([], [], color=DARK, linestyle=":", linewidth=1.1, label="as trained")
        legend_at(figure, [*_handles("test"), trained], left, y)
        left += width + 25 + BEFORE
    if has_components:
        axes = place(figure, left, y + 34, width, height)
        _components(axes, arrays["effective_count"][sigma > 0], sigma[sigma > 0], least)
        handles = [
            Line2D([], [], color=TRAINING, marker="o", linestyle="", label="one component"),
            Line2D([], [], color=DARK, linestyle="--", linewidth=1.1, label=f"floor, {least:.3g}"),
        ]
        legend_at(figure, handles[: 1 + (least > 0)], left, y)
    return figure


def _other_floors(axes: Axes, curves: Sequence[Curve], floor: float, *, of_variance: bool) -> None:
    floors = curves[0].times
    log_axis(axes.xaxis, float(np.min(floors)), float(np.max(floors)))
    axes.xaxis.set_major_locator(FixedLocator(sorted(floors.tolist())))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    values = np.concatenate([curve.values for curve in curves])
    draw_curves(axes, curves, padded(float(np.min(values)), float(np.max(values))))
    axes.set_xlim(axes.get_xlim()[::-1])
    axes.axvline(floor, color=DARK, linestyle=":", linewidth=1.1)
    plain_axis(axes.yaxis)
    if of_variance:
        axes.set_xlabel("covariance floor, units of x squared")
        axes.set_ylabel("ln p(x), nats per image")
    else:
        axes.set_xlabel("floor of σ, units of x")
        axes.set_ylabel("E ln p(x|z), nats per image")


def _components(axes: Axes, count: Array, sigma: Array, least: float) -> None:
    shown = np.maximum(count, LEAST_COUNT)
    log_axis(axes.xaxis, float(np.min(shown)), float(np.max(shown)))
    edges = np.append(sigma, least) if least > 0 else sigma
    log_axis(axes.yaxis, float(np.min(edges)), float(np.max(edges)))
    if least > 0:
        axes.axhline(least, color=DARK, linestyle="--", linewidth=1.1, zorder=1)
    axes.plot(shown, sigma, "o", color=TRAINING, markersize=5, alpha=0.5, markeredgewidth=0)
    axes.set_xlabel("training images of a component, log scale")
    axes.set_ylabel("smallest σ, units of x, log scale")


def _curves(floors: Array, train: Array, held_out: Array) -> list[Curve]:
    return [
        Curve(floors, values, colour, width=THICK)
        for values, colour in ((train, TRAINING), (held_out, VALIDATION))
    ]


def _handles(held_out: str) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, marker="o", markersize=4, label=label)
        for colour, label in ((TRAINING, "training"), (VALIDATION, held_out))
    ]
