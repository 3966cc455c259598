"""How well sigma(z) describes errors, and where the variance of images comes from."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from vaexp.figures.charts import BEFORE, THICK, number, spread
from vaexp.figures.maps import Map, draw_maps, size_of_maps
from vaexp.figures.style import (
    MARGIN,
    MUTED,
    SMALL,
    TEXT,
    Array,
    house_style,
    line_height,
    page,
    place,
    text_width,
    write,
)

_MAPS = (
    "Variance over images of each pixel, units of x squared, on one scale: of test images, and of "
    "draws with z ~ p(z)"
)
_MOST = 3.0  # variances are drawn up to so many times the largest of the data
_NOMINAL = (0.6827, 0.9545, 0.9973)  # of mu +- k sigma, k = 1, 2, 3: erf(k / sqrt 2)
_LEVEL_COLOURS = ("#0072b2", "#d55e00", "#832db6")
_ROOM = (911, 360)  # pixels of the chart of coverage
_COLUMN = 170  # pixels of a column of the table of coverage


@house_style()
def decoder_moments(arrays: Mapping[str, Array], subtitle: str, note: str = "") -> Figure:
    """How well sigma(z) describes errors, and where the variance of images comes from, by pixel.

    `arrays`: the maps (H, W) ``variance_data_pixels`` of the test images, and of draws z ~ p(z)
    ``variance_of_mean_pixels`` = Var mu(z) and ``mean_of_variance_pixels`` = E Var(x|z), units of x
    squared, drawn with one scale beside the sum of the last two. Of a model with sigma, also the
    share of the test images' pixels within mu +- k sigma, z ~ q(z|x), ``coverage_strata`` (S, 3),
    its standard error ``coverage_strata_se``, and the mean of sigma ``sigma_strata`` (S,) and the
    share of pixels ``share_strata`` (S,) in each stratum of sigma. One stratum is a table, more are
    a chart.
    """
    strata = len(arrays.get("coverage_strata", ()))
    maps, above_scale = _variance_maps(arrays, "E σ²(z)" if strata else "E Var(x|z)")
    title = "Where the variance of images comes from, pixel by pixel"
    if strata:
        title = "What σ(z) says of each pixel: its errors, and where its variance comes from"
    note = f"{_reading(strata)}{above_scale}{note}"
    heading, gap = 36, 40
    above = {0: 0, 1: heading + 3 * line_height(TEXT) + gap}.get(strata, heading + 430 + gap)
    wide, down = size_of_maps(maps)
    wide = max(wide, round(text_width(_MAPS, TEXT)) + 1)
    figure, top = page(wide, above + heading + down, title, subtitle, note)
    if strata:
        said = "Pixels of test images within μ(z) ± kσ(z), z ~ q(z|x)"
        if strata == 1:
            said += f", at σ = {number(float(arrays['sigma_strata'][0]))}"
        write(figure, MARGIN, top, said, fontsize=TEXT, va="top")
        draw_coverage = _coverage_table if strata == 1 else _coverage_chart
        draw_coverage(figure, arrays, top + heading)
    y = top + above
    write(figure, MARGIN, y, _MAPS, fontsize=TEXT, va="top")
    draw_maps(figure, MARGIN, y + heading, maps, shared=True)
    return figure


def _variance_maps(arrays: Mapping[str, Array], within_is: str) -> tuple[list[Map], str]:
    """Maps of the variances on one scale, and sentences on those above it, or "".

    `within_is` names the mean over z of the variance of p(x|z). A map that would have one colour is
    left out, and a sentence says what it would show.
    """
    data, of_mean, within = (
        arrays[f"{name}_pixels"]
        for name in ("variance_data", "variance_of_mean", "mean_of_variance")
    )
    parts = {
        "test images": data,
        "draws x ~ p(x|z)": of_mean + within,
        "of which Var μ(z)": of_mean,
        f"and {within_is}": within,
    }
    most = _MOST * float(np.max(data))
    flat = {
        name: part
        for name, part in parts.items()
        if np.ptp(part) <= 1e-6 * np.max(part) or np.min(part) > most
    }
    left_out = []
    for name, part in flat.items():
        low, high, total = (number(float(one(part))) for one in (np.min, np.max, np.sum))
        where = low if low == high else f"from {low} to {high}"
        left_out.append(f"{_bare(name)} ({where}, sum {total})")
    said = "A map that would have one colour is left out: " if left_out else ""
    said += ", ".join(left_out) + (".\n" if left_out else "")
    shown = {name: part for name, part in parts.items() if name not in flat}
    largest = max((float(np.max(part)) for part in shown.values()), default=0.0)
    scale = Normalize(0, min(largest, most) or 1.0)
    maps = [
        Map(_bare(name) if flat else name, f"sum {number(float(np.sum(part)))}", part, scale)
        for name, part in shown.items()
    ]
    if largest > most:
        said += f"Variances above {number(most)} have the last colour; the largest is "
        said += f"{number(largest)}.\n"
    return maps, said


def _bare(name: str) -> str:
    """The name of a map that does not stand behind the others."""
    return name.removeprefix("of which ").removeprefix("and ")


def _reading(strata: int) -> str:
    """How to read the coverage of a table (one stratum) or of a chart (more), as lines."""
    if not strata:
        return ""
    nominal = "its dashed line" if strata > 1 else "a Gaussian's share"
    reading = (
        f"Above {nominal} an interval is too wide, below it too narrow; above at 1σ and below at "
        "3σ, errors have heavier tails than a Gaussian's.\n"
    )
    if strata == 1:
        return reading
    return (
        "Each stratum has the pixels of all test images between two deciles of σ(z), equal ones "
        f"together. The vertical lines at the markers are 95% intervals.\n{reading}"
    )


def _coverage_table(figure: Figure, arrays: Mapping[str, Array], top: float) -> None:
    """Write the coverage of the only stratum beside that of a Gaussian."""
    share, error = arrays["coverage_strata"][0], 1.96 * arrays["coverage_strata_se"][0]
    rows = {
        "": [f"{k}σ" for k in (1, 2, 3)],
        "found, 95% interval": [
            f"{100 * s:.2f}% ± {100 * e:.2f}" for s, e in zip(share, error, strict=True)
        ],
        "of a Gaussian": [f"{100 * nominal:.2f}%" for nominal in _NOMINAL],
    }
    for row, (name, cells) in enumerate(rows.items()):
        y = top + row * line_height(TEXT)
        write(figure, MARGIN, y, name, fontsize=SMALL, color=MUTED, va="top")
        for column, cell in enumerate(cells):
            right = MARGIN + (column + 2) * _COLUMN
            write(figure, right, y, cell, fontsize=SMALL, ha="right", va="top",
                  color=_LEVEL_COLOURS[column] if row == 0 else None)  # fmt: skip


def _coverage_chart(figure: Figure, arrays: Mapping[str, Array], top: float) -> None:
    """Draw coverage by strata of sigma, each as wide as its share of the pixels."""
    width, height = _ROOM
    axes = place(figure, MARGIN + BEFORE, top, width, height)
    found, error = arrays["coverage_strata"], 1.96 * arrays["coverage_strata_se"]
    ends = np.append(0, np.cumsum(arrays["share_strata"]))
    ends /= ends[-1]
    middles = (ends[:-1] + ends[1:]) / 2
    low = min(float(np.min(found - error)), _NOMINAL[0])
    limits = (low - 0.06 * (1 - low), 1 + 0.04 * (1 - low))
    axes.set(xlim=(0, 1), ylim=limits)
    for k, (nominal, colour) in enumerate(zip(_NOMINAL, _LEVEL_COLOURS, strict=True)):
        axes.axhline(nominal, color=colour, linestyle="--", linewidth=1)
        axes.hlines(found[:, k], ends[:-1], ends[1:], color=colour, linewidth=THICK)
        axes.errorbar(middles, found[:, k], error[:, k], color=colour, fmt="os^"[k], markersize=5,
                      elinewidth=1.2)  # fmt: skip
    places = height * (limits[1] - np.array(_NOMINAL)) / (limits[1] - limits[0])
    rows = spread(places, line_height(SMALL), (0, height))
    for k, (row, colour) in enumerate(zip(rows, _LEVEL_COLOURS, strict=True)):
        label = f"{k + 1}σ: {100 * _NOMINAL[k]:.1f}%"
        write(figure, MARGIN + BEFORE + width + 10, top + row, label, color=colour, fontsize=SMALL,
              va="center")  # fmt: skip
    _name_strata(axes, middles, arrays["sigma_strata"])
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("pixels within μ(z) ± kσ(z)")
    axes.set_xlabel("mean σ(z) of a stratum, units of x; as wide as its share of the pixels")


def _name_strata(axes: Axes, middles: Array, sigma: Array) -> None:
    """Write sigma under each stratum that is wide enough for it."""
    names, free = [], 0.0
    for middle, value in zip(middles * _ROOM[0], sigma, strict=True):
        name = f"{value:.3g}"
        half = text_width(name, SMALL) / 2
        names.append(name if middle - half >= free else "")
        free = middle + half + 8 if names[-1] else free
    axes.set_xticks(middles, names)
