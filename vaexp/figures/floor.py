"""How near sigma comes to its floor, and what another floor would give."""

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
    TRAINING,
    VALIDATION,
    Array,
    house_style,
    page,
    place,
)

_WIDTH, _HEIGHT, _LEGEND = 440, 340, 34  # pixels of a chart, and for the legend over it


@house_style()
def near_the_floor(
    arrays: Mapping[str, Array],
    subtitle: str,
    *,
    floor: float,
    of_variance: bool = False,
    near: float = 0.0,
    note: str = "",
) -> Figure | None:
    """Where sigma lies near its floor, what that is worth, and what another floor would give.

    `floor` is that of sigma, in units of x, or `of_variance` that of covariances, in units of x
    squared. `arrays` are some of these: the maps (H, W) ``sigma_map`` of mean sigma, ``floor_map``
    of the share of images with sigma below `near` times its floor, and ``log_prob_map`` of the mean
    of ln p(x_j|z); ``floor_curve_floors`` (F,) with ``floor_curve_train`` and ``floor_curve_test``,
    mean nats per image; ``smallest_sigma`` with ``effective_count`` (K,) of a mixture's components.
    A map, a curve or the components' sigma that are the same everywhere become a sentence of the
    note. Returns None where nothing else is left.
    """
    least = float(np.sqrt(floor)) if of_variance else floor
    maps, flat = _maps(arrays, least, near)
    curves = _curves(arrays)
    if curves and max(np.ptp(curve.values) for curve in curves) == 0:
        curves = []
        flat.append("the log-likelihood is the same at every floor")
    sigma = arrays.get("smallest_sigma", np.zeros(0))
    singular = int(np.sum(sigma <= 0))  # without a floor: no log scale shows them
    has_components = singular < len(sigma)
    if len(sigma) > 1 and not singular and np.ptp(sigma) <= 0.01 * np.max(sigma):
        has_components = False
        at = number(float(f"{np.max(sigma):.3g}"))
        flat.append(f"the smallest σ of all {len(sigma):,} components is {at}")
    if not (maps or curves or has_components):
        return None
    if flat:
        note += f"\nThere is no panel of what is the same everywhere: {'; '.join(flat)}."
    if singular:
        note += f"\n{singular:,} of {len(sigma):,} components are not drawn: their smallest σ is 0."

    wide, down = size_of_maps(maps)
    charts = bool(curves) + has_components
    between = 50 if maps and charts else 0
    body = (max(wide, charts * (BEFORE + _WIDTH + 25)), down + between + bool(charts) * 440)
    title = "How near sigma comes to its floor"
    if "floor_map" not in arrays:
        title = "Sigma, and what each pixel adds to the likelihood"
    figure, top = page(*body, title, subtitle, note)
    draw_maps(figure, MARGIN, top, maps)
    y, left = top + down + between, MARGIN + BEFORE
    if curves:
        axes = place(figure, left, y + _LEGEND, _WIDTH, _HEIGHT)
        _draw_floors(axes, curves, floor, of_variance=of_variance)
        legend_at(figure, _names_of_curves(), left, y)
        left += _WIDTH + 25 + BEFORE
    if has_components:
        axes = place(figure, left, y + _LEGEND, _WIDTH, _HEIGHT)
        _draw_components(axes, arrays["effective_count"][sigma > 0], sigma[sigma > 0], least)
        legend_at(figure, _names_of_components(least), left, y)
    return figure


def _maps(arrays: Mapping[str, Array], least: float, near: float) -> tuple[list[Map], list[str]]:
    """The maps to draw, and a sentence on each of those that are the same at every pixel.

    `least` is the floor of sigma, in units of x.
    """
    maps, flat = [], []
    for name, title, unit in (
        ("sigma_map", "mean σ", "units of x"),
        ("floor_map", "share near the floor", f"share of images with σ < {near * least:.3g}"),
        ("log_prob_map", "mean ln p(xⱼ|z)", "nats per pixel"),
    ):
        if name not in arrays:
            continue
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
    return maps, flat


def _curves(arrays: Mapping[str, Array]) -> list[Curve]:
    """The log-likelihood of training and of test images against the floor, if it is there."""
    if "floor_curve_floors" not in arrays:
        return []
    return [
        Curve(arrays["floor_curve_floors"], arrays[f"floor_curve_{part}"], colour, width=THICK)
        for part, colour in (("train", TRAINING), ("test", VALIDATION))
    ]


def _names_of_curves() -> list[Line2D]:
    """The handles of the legend over the curves."""
    return [
        Line2D([], [], color=TRAINING, marker="o", markersize=4, label="training"),
        Line2D([], [], color=VALIDATION, marker="o", markersize=4, label="test"),
        Line2D([], [], color=DARK, linestyle=":", linewidth=1.1, label="as trained"),
    ]


def _names_of_components(least: float) -> list[Line2D]:
    """The handles of the legend over the components, whose sigma has the floor `least` or none."""
    handles = [Line2D([], [], color=TRAINING, marker="o", linestyle="", label="one component")]
    if least > 0:
        label = f"floor, {least:.3g}"
        handles.append(Line2D([], [], color=DARK, linestyle="--", linewidth=1.1, label=label))
    return handles


def _draw_floors(axes: Axes, curves: Sequence[Curve], floor: float, *, of_variance: bool) -> None:
    """Draw curves over floors that fall to the right, with a line at the `floor` of training."""
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


def _draw_components(axes: Axes, count: Array, sigma: Array, least: float) -> None:
    """Draw the smallest sigma (K,) of components over how many training images they hold (K,)."""
    shown = np.maximum(count, LEAST_COUNT)
    log_axis(axes.xaxis, float(np.min(shown)), float(np.max(shown)))
    edges = np.append(sigma, least) if least > 0 else sigma
    log_axis(axes.yaxis, float(np.min(edges)), float(np.max(edges)))
    if least > 0:
        axes.axhline(least, color=DARK, linestyle="--", linewidth=1.1, zorder=1)
    axes.plot(shown, sigma, "o", color=TRAINING, markersize=5, alpha=0.5, markeredgewidth=0)
    axes.set_xlabel("training images of a component, log scale")
    axes.set_ylabel("smallest σ, units of x, log scale")
