"""Probabilistic PCA: its axes as images, and what it keeps of the spectrum."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from vaexp.figures.charts import BEFORE, legend_at, log_axis, number
from vaexp.figures.maps import colour_bar
from vaexp.figures.mosaic import clipping_note, draw, mosaic
from vaexp.figures.style import (
    DARK,
    GAP,
    MARGIN,
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

_AXES = 24  # drawn at most
_SWEPT = 5  # axes along which the mean is moved
_SCALE = 4  # page pixels per image pixel
_BAR, _ASIDE = 290, 45  # pixels of the colour bar, and on either side for its numbers
_SIGNED = mpl.colormaps["RdBu_r"].with_extremes(bad=GAP)
_KEPT, _DISCARDED, _NOISE = TRAINING, "#9a9a9a", VALIDATION


@house_style()
def principal_axes(mean: Array, axes: Array, stddev: Array, subtitle: str) -> Figure:
    """The mean and the first 24 principal axes, and the mean moved along the first 5.

    `mean` (H, W) is on the display scale, on which the axes must be too, as it is moved by
    mean + k stddev axis, k = -2..2. `axes` (L, H, W) are taken as directions: each is divided by
    its length, so that unit vectors and the columns of W give the same figure. `stddev` (L,) is the
    standard deviation of the data along each axis. Each axis is drawn with its sign, in colours
    from minus to plus its own largest absolute value.
    """
    length = np.sqrt(np.sum(axes**2, axis=(1, 2), keepdims=True))
    unit = axes / np.where(length > 0, length, 1)
    shown = unit[:_AXES]
    largest = np.max(np.abs(shown), axis=(1, 2), keepdims=True)
    pictures = shown / np.where(largest > 0, largest, 1)
    swept = min(len(axes), _SWEPT)
    steps = np.arange(-2, 3)[:, None, None] * stddev[:swept, None, None, None]
    sweep = mean + steps * unit[:swept, None]  # (swept, 5, H, W)
    names = ["mean"] + [f"{i + 1}: sd {stddev[i]:#.3g}".rstrip(".") for i in range(len(shown))]
    rows_named = [f"axis {i + 1}" for i in range(swept)]

    note = "sd: standard deviation of the data along an axis, units of x. "
    note += "The sign of an axis means nothing.\n"
    if len(axes) > _AXES:
        note += f"The first {_AXES} of {len(axes)} axes are shown.\n"
    note += clipping_note(mean, sweep)
    height, width = ((side + 2) * _SCALE for side in mean.shape)
    pitch = max(width, round(max(text_width(name, SMALL) for name in names))) + 14
    above = line_height(SMALL) + 4
    across = min(len(names), 5)
    down = -(-len(names) // across) * (above + height + 14)
    board = mosaic(sweep)
    before = round(text_width(rows_named[0], SMALL)) + 12
    middle = max(across * pitch, _BAR + 2 * _ASIDE) + 40 + before
    body = (middle + board.shape[1] * _SCALE, max(down + 90, above + board.shape[0] * _SCALE))
    figure, top = page(*body, "Principal axes", subtitle, note)
    for index, name in enumerate(names):
        row, column = divmod(index, across)
        left, y = MARGIN + column * pitch, top + row * (above + height + 14)
        write(figure, left + width / 2, y, name, fontsize=SMALL, ha="center", va="top")
        if index == 0:
            draw(figure, mosaic(mean[None, None]), left, y + above, _SCALE)
        else:
            tile = mosaic(pictures[None, index - 1 : index])
            signed = draw(figure, tile, left, y + above, _SCALE, _SIGNED, (-1.0, 1.0))
    label = "value of the axis, each on its own scale"
    bar = colour_bar(figure, signed.images[0], MARGIN + _ASIDE, top + down + 6, _BAR, label)
    bar.set_xticks([-1, 0, 1], ["−largest", "0", "+largest"])

    left = MARGIN + middle
    tile_width, tile_height = (mean.shape[1] + 1) * _SCALE, (mean.shape[0] + 1) * _SCALE
    for k, name in enumerate(("−2 sd", "−1 sd", "mean", "+1 sd", "+2 sd")):
        at = left + (k + 0.5) * tile_width
        write(figure, at, top, name, fontsize=SMALL, ha="center", va="top")
    for row, name in enumerate(rows_named):
        at = top + above + (row + 0.5) * tile_height
        write(figure, left - 12, at, name, fontsize=SMALL, ha="right", va="center")
    draw(figure, board, left, top + above, _SCALE)
    return figure


@house_style()
def spectrum(eigenvalues: Array, latent_dim: int, noise_variance: float, subtitle: str) -> Figure:
    """Eigenvalues of the sample covariance, the L kept ones, and what replaces the others.

    `eigenvalues` (D,) are in decreasing order and units of x squared; the model's covariance
    W W^T + sigma^2 I has the first L = `latent_dim` of them (1 <= L <= D) and for the D - L others
    sigma^2 = `noise_variance`, whose maximum-likelihood value is their mean. Right: the share of
    the total variance that the first i eigenvalues hold. Eigenvalues under a millionth of the
    largest are left out of the view, and the note says how many.
    """
    size, kept = len(eigenvalues), latent_dim
    values = np.maximum(eigenvalues, 0)
    number_of = np.arange(1, size + 1)
    view = values[0] / 1e6
    hidden = int(np.sum(values < view)) if values[0] > 0 else size
    share = np.cumsum(values) / (np.sum(values) or 1)

    note = f"The model's covariance, W Wᵀ + σ² I, keeps the largest eigenvalues, L = {kept:,}, and "
    note += f"has σ² in place of the other {size - kept:,}.\n"
    if kept < size:
        note += f"Their mean is {number(float(np.mean(values[kept:])))}: "
        note += "the σ² of the highest likelihood.\n"
    if hidden:
        many = f"{hidden:,} eigenvalue{'s' if hidden > 1 else ''}"
        note += f"{many} under a millionth of the largest {'are' if hidden > 1 else 'is'} "
        note += "out of view.\n"

    width, height, legend, name = 500, 400, 34, 40
    body = (2 * (BEFORE + width + 15) + 15, legend + name + height + 70)
    figure, top = page(*body, "Spectrum of the sample covariance", subtitle, note)
    y, left = top + legend + name, MARGIN + BEFORE
    axes = place(figure, left, y, width, height)
    shown = values >= view
    edges = np.append(values[shown], noise_variance) if noise_variance > 0 else values[shown]
    log_axis(axes.xaxis, 1, size)
    log_axis(axes.yaxis, float(np.min(edges)), float(np.max(edges)))
    for part, colour in ((slice(kept, None), _DISCARDED), (slice(0, kept), _KEPT)):
        axes.plot(number_of[part], np.where(shown, values, np.nan)[part], "o", color=colour,
                  markersize=3)  # fmt: skip
    if kept < size and noise_variance > 0:
        axes.plot([kept + 1, size], [noise_variance] * 2, color=_NOISE, linewidth=2.5)
    axes.set_title("eigenvalue i of the sample covariance")
    axes.set_ylabel("units of x squared, log scale")
    handles = [
        Line2D([], [], color=_KEPT, marker="o", linestyle="", markersize=4,
               label=f"kept: the largest, L = {kept:,}"),
        Line2D([], [], color=_DISCARDED, marker="o", linestyle="", markersize=4,
               label=f"discarded: the other {size - kept:,}"),
        Line2D([], [], color=_NOISE, linewidth=2.5,
               label=f"in their place: σ² = {number(noise_variance)}"),
    ]  # fmt: skip
    legend_at(figure, handles, left, top)

    cumulative = place(figure, left + width + 15 + BEFORE, y, width, height)
    cumulative.plot(number_of, share, color=_DISCARDED)
    cumulative.plot(number_of[:kept], share[:kept], color=_KEPT, linewidth=2.5)
    log_axis(cumulative.xaxis, 1, size)
    low = cumulative.get_xlim()[0]
    cumulative.plot([low, kept, kept], [share[kept - 1]] * 2 + [0], ":", color=DARK, linewidth=1)
    cumulative.plot(kept, share[kept - 1], "o", color=_KEPT, markersize=6)
    cumulative.set_ylim(0, 1.03)
    cumulative.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    cumulative.set_title(f"the kept hold {share[kept - 1]:.1%} of the variance")
    cumulative.set_ylabel("share of eigenvalues 1 to i")
    for panel in (axes, cumulative):
        panel.set_xlabel("i, log scale")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure
