"""What the groups of measures of ``vaexp evaluate`` found, one figure for each group.

Letters in shapes: D pixels, L latents, K components or clusters, C digits, F floors, S strata.
"""

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from vaexp.figures.charts import (
    BEFORE,
    THICK,
    THIN,
    Curve,
    draw_curves,
    legend_at,
    log_axis,
    log_view,
    number,
    padded,
    plain_axis,
    spread,
    whole_axis,
)
from vaexp.figures.mixture import percent
from vaexp.figures.style import (
    DARK,
    HEAT,
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
    write,
)

_OTHER = "#b5b5b5"
_ROW_COLOURS = {"mean": TRAINING, "sample": VALIDATION, "control": "#8c8c8c"}
_NUMBERED = 16  # latents up to which each bar has its number
_ZOOM = 9  # page pixels per image pixel of a map of pixels
_APART, _BAR = 46, 86  # pixels between maps, and for the colour bar under them
_ASIDE = 105  # pixels left of a panel of sample quality
_MOST = 3.0  # variances are drawn up to so many times the largest of the data
_DEPTH = 14.0  # nats below its largest value, to which a log density is drawn
_NOMINAL = (0.6827, 0.9545, 0.9973)  # of mu +- k sigma, k = 1, 2, 3: erf(k / sqrt 2)
_LEVEL_COLOURS = ("#0072b2", "#d55e00", "#832db6")
_SHARES = mpl.colormaps["Blues"].with_extremes(bad="white")
_TILTED = "The prior of the model that this β trains"
_LEAST_COUNT = 0.1  # images: below it a component is gone, and how far below means nothing

# Key, title and unit of the panels of sample quality.
_QUALITIES = (
    ("digit_fid", "digit FID: lower is better", "squared distance"),
    ("digit_kid", "digit KID: lower is better", "squared distance"),
    ("precision", "precision", "share of draws"),
    ("recall", "recall", "share of real images"),
    ("density", "density", "neighbourhoods / k"),
    ("coverage_real", "coverage", "share of real images"),
)


@house_style()
def latent_use(
    kl: Array,
    mean_variance: Array,
    epsilon: Array,
    below: Array,
    subtitle: str,
    *,
    active: float,
    collapsed: tuple[float, float],
    beside: str = "",
) -> Figure:
    """KL of each latent as bars, the largest first, beside the shares of images without any.

    `kl` (L,), nats, is the mean of KL(q(z_l|x) to p(z_l)); latents whose posterior means vary by
    more than `active` over images (`mean_variance` (L,)) are in colour. `below` (E, L) is the share
    of images whose KL is below `epsilon` (E,). `collapsed` is (epsilon, delta): where the share at
    epsilon is at least 1 - delta the latent is collapsed.
    """
    order = np.argsort(-kl, kind="stable")
    used = mean_variance > active
    colours = np.where(used, TRAINING, _OTHER)
    limit, delta = collapsed
    reached = np.array([np.interp(limit, epsilon, column) for column in below.T])
    gone = reached >= 1 - delta - 1e-9
    note = (
        f"{used.sum()} of {len(kl)} latents are active: the variance over images of their "
        f"posterior mean is above {active:g}.\n"
        f"{gone.sum()} of {len(kl)} are collapsed: for at least {100 * (1 - delta):g}% of the "
        f"images their KL is below {limit:g} nats, the cross of the dashed lines.\n{beside}"
    )
    width, height, legend = 480, 400, 34
    figure, top = page(
        2 * (BEFORE + width) + 40, legend + height + 70, "What each latent carries", subtitle, note
    )
    y = top + legend
    axes = place(figure, MARGIN + BEFORE, y, width, height)
    ranks = np.arange(1, len(kl) + 1)
    axes.bar(ranks, kl[order], color=colours[order], width=0.8)
    axes.set(xlim=(0.4, len(kl) + 0.6), ylabel="mean KL(q(z|x) to p(z)), nats per image")
    axes.grid(False, axis="x")
    if len(kl) <= _NUMBERED:
        axes.set_xticks(ranks, [str(latent + 1) for latent in order])
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("latent, the largest KL first")
    else:
        whole_axis(axes.xaxis)
        axes.set_xlabel("rank of the latent by its KL")

    axes = place(figure, MARGIN + 2 * BEFORE + width + 40, y, width, height)
    axes.set(xscale="log", xlim=(epsilon[0], epsilon[-1]), ylim=(-0.02, 1.02))
    for dashed in (axes.axvline(limit), axes.axhline(1 - delta)):
        dashed.set(color=DARK, linestyle="--", linewidth=0.9)
    for latent in order[::-1]:
        axes.plot(epsilon, below[:, latent], color=colours[latent],
                  linewidth=THICK if len(kl) <= _NUMBERED else THIN)  # fmt: skip
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("images with a KL below ε in the latent")
    axes.set_xlabel("ε, nats, log scale")
    handles = [
        Patch(color=colour, label=name)
        for colour, name, chosen in ((TRAINING, "active", used), (_OTHER, "not active", ~used))
        if chosen.any()
    ]
    legend_at(figure, handles, MARGIN + BEFORE, top)
    return figure


@house_style()
def near_the_floor(
    arrays: Mapping[str, Array],
    subtitle: str,
    *,
    floor: float,
    of_variance: bool = False,
    near: float = 2.0,
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
        ("sigma_map", "mean σ", "units of x, log scale"),
        ("floor_map", "share near the floor", f"share of images with σ < {near * least:.3g}"),
        ("log_prob_map", "mean ln p(x_j|z)", "nats per pixel"),
    ):
        if name in arrays:
            values = arrays[name]
            low, high = float(np.min(values)), float(np.max(values))
            if high - low <= 1e-6 * max(abs(low), abs(high)):
                flat.append(f"{title} is {number(low)} at every pixel")
            elif name == "floor_map":
                maps.append(_Map(title, unit, values, Normalize(0, 1)))
            else:
                scale = LogNorm if name == "sigma_map" else Normalize
                maps.append(_Map(title, unit, values, scale(low, high)))
    if flat:
        note = _lines(note, f"Not drawn: {'; '.join(flat)}.")

    curves = []
    if "floor_curve_floors" in arrays:
        curves = [
            Curve(arrays["floor_curve_floors"], arrays[f"floor_curve_{part}"], colour, width=THICK)
            for part, colour in (("train", TRAINING), ("test", VALIDATION))
        ]
    has_components = "smallest_sigma" in arrays
    wide, down = _size_of_maps(maps)
    width, height = 440, 340
    charts = bool(curves) + has_components
    between = 50 if maps and charts else 0
    body = (max(wide, charts * (BEFORE + width + 25)), down + between + bool(charts) * 440)
    title = "How near sigma comes to its floor"
    if "floor_map" not in arrays:
        title = "Sigma, and what each pixel adds to the likelihood"
    figure, top = page(*body, title, subtitle, note)
    _draw_maps(figure, MARGIN, top, maps)
    y, left = top + down + between, MARGIN + BEFORE
    if curves:
        axes = place(figure, left, y + 34, width, height)
        _floor_curve(axes, curves, floor, of_variance=of_variance)
        handles = [
            Line2D([], [], color=curve.colour, marker="o", markersize=4, label=name)
            for curve, name in zip(curves, ("training", "test"), strict=True)
        ]
        handles.append(Line2D([], [], color=DARK, linestyle=":", linewidth=1.1, label="as trained"))
        legend_at(figure, handles, left, y)
        left += width + 25 + BEFORE
    if has_components:
        axes = place(figure, left, y + 34, width, height)
        _components(axes, arrays["effective_count"], arrays["smallest_sigma"], least)
        handles = [
            Line2D([], [], color=TRAINING, marker="o", linestyle="", label="one component"),
            Line2D([], [], color=DARK, linestyle="--", linewidth=1.1, label=f"floor, {least:.3g}"),
        ]
        legend_at(figure, handles[: 1 + (least > 0)], left, y)
    return figure


def _floor_curve(axes: Axes, curves: Sequence[Curve], floor: float, *, of_variance: bool) -> None:
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
    shown = np.maximum(count, _LEAST_COUNT)
    log_axis(axes.xaxis, float(np.min(shown)), float(np.max(shown)))
    edges = np.append(sigma, least) if least > 0 else sigma
    log_axis(axes.yaxis, float(np.min(edges)), float(np.max(edges)))
    if least > 0:
        axes.axhline(least, color=DARK, linestyle="--", linewidth=1.1, zorder=1)
    axes.plot(shown, sigma, "o", color=TRAINING, markersize=5, alpha=0.5, markeredgewidth=0)
    axes.set_xlabel("training images of a component, log scale")
    axes.set_ylabel("smallest σ, units of x, log scale")


@house_style()
def tilted_prior(
    grid: Array, log_density: Array, names: Sequence[str], subtitle: str, note: str = ""
) -> Figure:
    """The prior that a beta other than 1 belongs to: ln [p(z) Z(z) / C], nats.

    `grid` (L, G), L = 1 or 2: the points of each latent's axis. `log_density` (P, G) or (P, G, G),
    indexed [z_1, z_2], of P panels or curves with `names`, such as "digit 4" or "". In the plane
    colours are nats below the largest value of each panel, with the circles of N(0, I) at 1, 2 and
    3 standard deviations; on the axis curves are densities.
    """
    if len(grid) == 1:
        return _tilted_line(grid[0], log_density, names, subtitle, note)
    note = _lines(
        f"Circles: 1, 2 and 3 standard deviations of N(0, I). Densities {_DEPTH:g} nats and more "
        "below the largest have the last colour.",
        note,
    )
    spans = np.ptp(grid, axis=1)
    across = min(len(names), 5)
    down = -(-len(names) // across)
    room = 760 if across == 1 else 1480 // across
    scale = room / float(np.max(spans))
    width, height = (round(span * scale) for span in spans.tolist())
    above = line_height(TEXT) + 6 if any(names) else 0
    pitch = (width + 24, height + 24 + above)
    before, bar = 85, 120
    body = (before + across * pitch[0] - 24, above + down * pitch[1] - 24 - above + 75 + bar)
    figure, top = page(*body, _TILTED, subtitle, note)
    (x0, x1), (y0, y1) = grid[:, [0, -1]].tolist()
    step = np.diff(grid[:, :2], axis=1)[:, 0] / 2
    for index, (values, name) in enumerate(zip(log_density, names, strict=True)):
        row, column = divmod(index, across)
        left, y = MARGIN + before + column * pitch[0], top + above + row * pitch[1]
        axes = place(figure, left, y, width, height)
        picture = axes.imshow(
            np.maximum(values - np.max(values), -_DEPTH).T, cmap=HEAT, vmin=-_DEPTH, vmax=0,
            origin="lower", aspect="auto", interpolation="bilinear",
            extent=(x0 - step[0], x1 + step[0], y0 - step[1], y1 + step[1]),
        )  # fmt: skip
        axes.set(xlim=(x0, x1), ylim=(y0, y1))
        axes.grid(False)
        for radius in (1, 2, 3):
            axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor="white", linewidth=1))
        for axis, length in ((axes.xaxis, width), (axes.yaxis, height)):
            axis.set_major_locator(MaxNLocator(min(max(length // 55, 1), 8), steps=[1, 2, 5, 10]))
        write(figure, left, y - 6, name, va="bottom", fontsize=TEXT)
        if index + across < len(names):
            axes.tick_params(labelbottom=False)
        else:
            axes.set_xlabel("$z_1$")
        if column:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("$z_2$")
    y = top + body[1] - bar + 50
    label = "ln density less the largest of the panel, nats"
    _colour_bar(figure, picture, MARGIN + before, y, 480, label)
    return figure


def _tilted_line(
    grid: Array, log_density: Array, names: Sequence[str], subtitle: str, note: str
) -> Figure:
    width, height, aside = 760, 430, 180
    body = (BEFORE + width + aside, height + 70)
    figure, top = page(*body, _TILTED, subtitle, note)
    axes = place(figure, MARGIN + BEFORE, top, width, height)
    prior = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    axes.fill_between(grid, prior, color="#d9d9d9", linewidth=0, label="N(0, 1)")
    for index, (values, name) in enumerate(zip(log_density, names, strict=True)):
        colour = LABEL_COLOURS[index % 10] if len(names) > 1 else TRAINING
        axes.plot(grid, np.exp(values), color=colour, label=name or "tilted prior")
    axes.set(xlim=(grid[0], grid[-1]), ylabel="density, 1 / unit of z", xlabel="$z$")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)
    return figure


@house_style()
def decoder_moments(arrays: Mapping[str, Array], subtitle: str, note: str = "") -> Figure:
    """How well sigma(z) describes errors, and where the variance of images comes from, by pixel.

    `arrays`: the maps (D,) ``variance_data_pixels``, ``variance_of_mean_pixels`` = Var mu(z) and
    ``mean_of_variance_pixels`` = E Var(x|z), units of x squared, drawn with one scale beside the
    sum of the last two, and, of a model with sigma, the share of pixels within mu +- k sigma,
    ``coverage_strata`` (S, 3), its standard error ``coverage_strata_se``, and the mean of sigma
    ``sigma_strata`` (S,) and the share of pixels ``share_strata`` (S,) in each stratum.
    """
    data, of_mean, within = (
        arrays[f"{name}_pixels"]
        for name in ("variance_data", "variance_of_mean", "mean_of_variance")
    )
    calibrated = "coverage_strata" in arrays
    noise = "E σ²(z)" if calibrated else "E Var(x|z)"
    parts = {
        "test images": data,
        "model: sum of the next two": of_mean + within,
        "Var μ(z)": of_mean,
        noise: within,
    }
    largest = max(float(np.max(part)) for part in parts.values())
    most = min(largest, _MOST * float(np.max(data)) or 1.0)
    maps = [
        _Map(name, f"sum {number(float(np.sum(part)))}", part, Normalize(0, most or 1.0))
        for name, part in parts.items()
    ]
    if largest > most:
        note = _lines(note, f"Variances above {number(most)} have the last colour; the largest is "
                            f"{number(largest)}.")  # fmt: skip
    wide, down = _size_of_maps(maps)
    width, height = 700, 360
    chart = 34 + height + 70 + 40 if calibrated else 0
    if calibrated:
        share = arrays["share_strata"]
        strata = f"of which the largest has {percent(float(np.max(share)))} of the pixels"
        if len(share) == 1:
            strata = "here all in one, as σ is one number"
        note = _lines(
            f"Strata: pixels of all test images by the deciles of σ(z), equal ones together, "
            f"{strata}. Bars: 95% intervals. Above its dashed line σ is too large for the errors "
            "of μ(z), below it too small.",
            note,
        )
    title = "Where the variance of images comes from, pixel by pixel"
    if calibrated:
        title = "What σ(z) says of each pixel: its errors, and where its variance comes from"
        wide = max(wide, BEFORE + width + 110)
    figure, top = page(wide, chart + 36 + down, title, subtitle, note)
    if calibrated:
        axes = place(figure, MARGIN + BEFORE, top, width, height)
        _coverage(figure, axes, arrays, (MARGIN + BEFORE + width, top, height))
    y = top + chart
    heading = "Variance over images of each pixel, units of x squared, on one scale"
    write(figure, MARGIN, y, heading, fontsize=TEXT, va="top")
    _draw_maps(figure, MARGIN, y + 36, maps, shared=True)
    return figure


def _coverage(
    figure: Figure, axes: Axes, arrays: Mapping[str, Array], corner: tuple[float, float, float]
) -> None:
    """Draw coverage by strata of sigma; `corner` is the right end, top and height, in pixels."""
    sigma, share = arrays["sigma_strata"], arrays["coverage_strata"]
    error = 1.96 * arrays["coverage_strata_se"]
    low = min(float(np.min(share - error)), _NOMINAL[0])
    limits = (low - 0.06 * (1 - low), 1 + 0.04 * (1 - low))
    log_axis(axes.xaxis, float(np.min(sigma)), float(np.max(sigma)))
    axes.set_ylim(limits)
    for k, (nominal, colour) in enumerate(zip(_NOMINAL, _LEVEL_COLOURS, strict=True)):
        axes.axhline(nominal, color=colour, linestyle="--", linewidth=1)
        axes.errorbar(
            sigma, share[:, k], error[:, k], color=colour, marker="os^"[k], markersize=5,
            linewidth=THICK, elinewidth=1.2,
        )  # fmt: skip
    right, top, height = corner
    places = height * (limits[1] - np.array(_NOMINAL)) / (limits[1] - limits[0])
    rows = spread(places, line_height(SMALL), (0, height))
    for k, (row, colour) in enumerate(zip(rows, _LEVEL_COLOURS, strict=True)):
        label = f"{k + 1}σ: {100 * _NOMINAL[k]:.1f}%"
        write(figure, right + 10, top + row, label, color=colour, fontsize=SMALL, va="center")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("pixels within μ(z) ± kσ(z)")
    axes.set_xlabel("mean σ(z) of a stratum of pixels, units of x, log scale")


@house_style()
def sample_quality(
    found: Mapping[str, Mapping[str, tuple[float, float, float]]], subtitle: str, note: str = ""
) -> Figure:
    """Measures of drawn images beside the same of other real images, the control.

    `found` has some of digit_fid, digit_kid, precision, recall, density and coverage_real, and for
    each the value and the ends of its 95% interval of some of mean, sample and control.
    """
    panels = [quality for quality in _QUALITIES if found.get(quality[0])]
    note = _lines(
        "mean: draws μ(z). sample: draws x ~ p(x|z). control: other real images, the best that can "
        "be expected. Bars: 95% intervals.\n"
        "Neighbourhoods reach to the k-th nearest neighbour. Precision: draws inside one of a real "
        "image. Recall: real images inside one of a draw. Density: how many of real images a draw "
        "is inside, by k. Coverage: real images with a draw in theirs. Precision and density above "
        "the control's are no merit: such draws keep to the middle of the real images.\n"
        "Distances are between features of the shipped digit classifier, not of Inception: compare "
        "them among runs of vaexp only.",
        note,
    )
    width, height, above, under = 330, 230, 34, 46
    across = min(len(panels), 3)
    down = -(-len(panels) // 3)
    body = (across * (_ASIDE + width), down * (above + height + under))
    figure, top = page(*body, "How like digits the draws are", subtitle, note)
    for index, (name, title, unit) in enumerate(panels):
        row, column = divmod(index, 3)
        left = MARGIN + _ASIDE + column * (_ASIDE + width)
        axes = place(figure, left, top + above + row * (above + height + under), width, height)
        axes.set_title(title)
        axes.set_ylabel(unit)
        _bars(axes, found[name], share=unit.startswith("share"))
    return figure


def _bars(axes: Axes, found: Mapping[str, tuple[float, float, float]], *, share: bool) -> None:
    rows = [row for row in _ROW_COLOURS if row in found]
    ends = np.array([found[row] for row in rows])
    if share:
        ends = np.clip(ends, 0, 1)
    low, high = min(0.0, float(np.min(ends))), max(0.0, float(np.max(ends))) or 1.0
    reach = high - low
    axes.set(
        xlim=(-0.6, len(rows) - 0.4), ylim=(low - 0.06 * reach * (low < 0), high + 0.2 * reach)
    )
    if share:
        axes.set_ylim(0, 1.2)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    decimals = max(0, 3 - int(np.floor(np.log10(reach))))
    reach = float(np.ptp(axes.get_ylim()))
    for place_now, row in enumerate(rows):
        value, lower, upper = ends[place_now]
        axes.bar(place_now, value, width=0.62, color=_ROW_COLOURS[row])
        axes.vlines(place_now, lower, upper, color=DARK, linewidth=1.4)
        text = percent(value) if share else f"{value:.{decimals}f}".replace("-", "−")
        axes.text(place_now, max(upper, 0) + 0.02 * reach, text, ha="center", va="bottom",
                  fontsize=SMALL)  # fmt: skip
    axes.axhline(0, color=MUTED, linewidth=0.7)
    axes.grid(False, axis="x")
    axes.set_xticks(range(len(rows)), rows)
    axes.tick_params(axis="x", length=0)


@house_style()
def clusters(counts: Array, digits: Sequence[int], subtitle: str, note: str = "") -> Figure:
    """Which digits each cluster of codes gathers: test images of each cluster and digit.

    `counts` (K, C), of the digits `digits` (C,). Clusters are sorted by the digit that most of
    their images are, then by size, and numbered in this order. For many components of a mixture,
    and shares in place of images, see `confusion`.
    """
    total = np.sum(counts, axis=1)
    majority = np.where(total > 0, np.argmax(counts, axis=1), counts.shape[1])
    order = np.lexsort([-total, majority])
    counts, total = counts[order], total[order]
    shares = counts / np.maximum(total, 1)[:, None]
    rows, columns = counts.shape
    note = _lines(
        "Numbers: test images. Colour: their share of the cluster. Clusters are those of k-means "
        "of the codes, sorted by the digit that most of their images are.",
        note,
    )
    cell, pitch, before, above = max(72, 320 // columns), 40, 60, 60
    figure, top = page(
        before + (columns + 1) * cell + 20, above + rows * pitch + 90, "Digits in each cluster",
        subtitle, note,
    )  # fmt: skip
    left, y = MARGIN + before, top + above
    axes = place(figure, left, y, columns * cell, rows * pitch)
    picture = axes.imshow(shares, cmap=_SHARES, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.set_xticks(range(columns), [str(digit) for digit in digits])
    axes.set_yticks(range(rows), [str(row + 1) for row in range(rows)])
    axes.set(xlabel="digit", ylabel="cluster")
    axes.xaxis.set_label_position("top")
    for row, column in np.argwhere(counts > 0):
        axes.text(
            column, row, f"{counts[row, column]:,.0f}", ha="center", va="center", fontsize=SMALL,
            color="white" if shares[row, column] > 0.55 else DARK,
        )  # fmt: skip
    right = left + (columns + 0.85) * cell
    write(figure, right, y - 10, "images", fontsize=TEXT, ha="right", va="bottom")
    for row, images in enumerate(total):
        write(figure, right, y + (row + 0.5) * pitch, f"{images:,.0f}", fontsize=SMALL, ha="right",
              va="center")  # fmt: skip
    label = "share of the cluster's images"
    bar = _colour_bar(figure, picture, left, y + rows * pitch + 18, 260, label)
    bar.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    return figure


class _Map(NamedTuple):
    """A number for each pixel of an image."""

    title: str
    unit: str
    values: Array
    """(D,)."""
    scale: Normalize


def _size_of_maps(maps: Sequence[_Map]) -> tuple[int, int]:
    if not maps:
        return 0, 0
    side = isqrt(maps[0].values.size) * _ZOOM
    return len(maps) * (side + _APART) - _APART, line_height(TEXT) + 6 + side + _BAR


def _draw_maps(
    figure: Figure, left: float, top: float, maps: Sequence[_Map], *, shared: bool = False
) -> None:
    """Draw maps beside each other, each with its own colour bar or all with a shared one."""
    for index, one in enumerate(maps):
        side = isqrt(one.values.size)
        x, y = left + index * (side * _ZOOM + _APART), top + line_height(TEXT) + 6
        write(figure, x, y - 6, one.title, fontsize=TEXT, va="bottom")
        axes = place(figure, x, y, side * _ZOOM, side * _ZOOM)
        picture = axes.imshow(
            one.values.reshape(side, side), cmap=HEAT, norm=one.scale, interpolation="nearest"
        )
        axes.set_axis_off()
        under = y + side * _ZOOM
        if not shared:
            _colour_bar(figure, picture, x, under + 12, side * _ZOOM, one.unit)
            continue
        write(figure, x, under + 6, one.unit, fontsize=SMALL, color=MUTED, va="top")
        if index == 0:
            _colour_bar(figure, picture, x, under + 34, side * _ZOOM, "")


def _colour_bar(
    figure: Figure, picture: AxesImage, left: float, top: float, width: float, label: str
) -> Axes:
    axes = place(figure, left, top, width, 14)
    bar = figure.colorbar(picture, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    if isinstance(picture.norm, LogNorm):
        log_view(axes.xaxis, *picture.get_clim())
    else:
        axes.locator_params(nbins=5)
    axes.set_xlabel(label, fontsize=SMALL, color=MUTED)
    return axes


def _lines(*parts: str) -> str:
    return "\n".join(part.strip("\n") for part in parts if part)
