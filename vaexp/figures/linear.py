"""Linear-Gaussian models: the columns of W as images, the noise, and the spectrum."""

from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from vaexp.figures.charts import BEFORE, legend_at, log_axis, number, percent
from vaexp.figures.maps import Map, colour_bar, draw_maps, size_of_maps
from vaexp.figures.mosaic import draw, ink_note, mosaic, scale_to
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
_SIDE = 112  # page pixels of the longer side of an image
_BAR, _ASIDE = 290, 45  # pixels of the colour bar, and on either side for its numbers
_SIGNED = mpl.colormaps["RdBu_r"].with_extremes(bad=GAP)
_KEPT, _DISCARDED, _NOISE = TRAINING, "#9a9a9a", VALIDATION


def principal_axes(mean: Array, axes: Array, stddev: Array, subtitle: str) -> Figure:
    """The mean and the first 24 principal axes, and the mean moved along the first 5.

    `mean` (H, W) is on the display scale, and the axes must be too, as the mean is moved by
    k stddev axis for k = -2, -1, 1 and 2. `axes` (L, H, W) are directions: each is divided by its
    length, so that unit vectors and the columns of W give the same figure. `stddev` (L,) is the
    standard deviation of the data along each axis. The colours of an axis reach from minus to plus
    its own largest absolute value.
    """
    note = (
        "The number of an axis, sd, is the standard deviation of the data along it, in units of x. "
    )
    note += "The sign of an axis means nothing.\n"
    words = _Words(
        "Principal axes", "axis", "axes", "sd", ("−2 sd", "−1 sd", "+1 sd", "+2 sd"), note
    )
    return _columns(mean, axes, stddev, subtitle, words)


def factors(mean: Array, loadings: Array, lengths: Array, subtitle: str) -> Figure:
    """The mean and the first 24 columns of W of factor analysis, and what the first 5 latents do.

    `mean` (H, W) is on the display scale. `loadings` (L, H, W) are taken as directions, as in
    `principal_axes`, and `lengths` (L,) are those of the columns of W: as z ~ N(0, I), the mean is
    moved by z w for z = -2, -1, 1 and 2.
    """
    note = (
        "The number of a factor, |w|, is the length of its column w of W, in units of x: how far "
    )
    note += "the mean moves as its latent moves by 1. The sign of a factor means nothing.\n"
    columns = ("z = −2", "z = −1", "z = 1", "z = 2")
    words = _Words("Factors: the columns of W", "factor", "factors", "|w|", columns, note)
    return _columns(mean, loadings, lengths, subtitle, words)


class _Words(NamedTuple):
    """The words that a figure of the columns of W uses for them."""

    title: str
    one: str
    many: str
    length: str
    """The number beside each column, by which it is stretched."""
    steps: tuple[str, ...]
    """The names of the mean moved by -2, -1, 1 and 2 lengths."""
    note: str


@house_style()
def _columns(mean: Array, axes: Array, stddev: Array, subtitle: str, words: _Words) -> Figure:
    """Draw `axes` (L, H, W) as images, and the mean moved by k `stddev` (L,), k = ±1, ±2."""
    length = np.sqrt(np.sum(axes**2, axis=(1, 2), keepdims=True))
    unit = axes / np.where(length > 0, length, 1)
    shown = unit[:_AXES]
    largest = np.max(np.abs(shown), axis=(1, 2), keepdims=True)
    pictures = shown / np.where(largest > 0, largest, 1)
    swept = min(len(axes), _SWEPT)
    steps = np.array([-2, -1, 1, 2])[:, None, None] * stddev[:swept, None, None, None]
    sweep = mean + steps * unit[:swept, None]  # (swept, 4, H, W); the mean itself is there once
    names = ["mean"] + [
        f"{i + 1}: {words.length} {stddev[i]:#.3g}".rstrip(".") for i in range(len(shown))
    ]
    rows_named = [f"{words.one} {i + 1}" for i in range(swept)]

    note = words.note
    if len(axes) > _AXES:
        note += f"The first {_AXES} of {len(axes)} {words.many} are shown.\n"
    note += f"On the right the mean is moved along the first {words.many}. {ink_note(mean, sweep)}"
    scale = _scale(mean, words.steps)
    height, width = (round((side + 2) * scale) for side in mean.shape)
    pitch = max(width, round(max(text_width(name, SMALL) for name in names))) + 14
    above = line_height(SMALL) + 4
    across = min(len(names), 5)
    down = -(-len(names) // across) * (above + height + 14)
    board = mosaic(sweep)
    before = round(text_width(rows_named[0], SMALL)) + 12
    middle = max(across * pitch, _BAR + 2 * _ASIDE) + 40 + before
    body = (
        middle + round(board.shape[1] * scale),
        max(down + 90, above + round(board.shape[0] * scale)),
    )
    figure, top = page(*body, words.title, subtitle, note)
    for index, name in enumerate(names):
        row, column = divmod(index, across)
        left, y = MARGIN + column * pitch, top + row * (above + height + 14)
        write(figure, left + width / 2, y, name, fontsize=SMALL, ha="center", va="top")
        if index == 0:
            draw(figure, mosaic(mean[None, None]), left, y + above, scale)
        else:
            tile = mosaic(pictures[None, index - 1 : index])
            signed = draw(figure, tile, left, y + above, scale, _SIGNED, (-1.0, 1.0))
    label = f"value of the {words.one}, each on its own scale"
    bar = colour_bar(figure, signed.images[0], MARGIN + _ASIDE, top + down + 6, _BAR, label)
    bar.set_xticks([-1, 0, 1], ["−largest", "0", "+largest"])

    left = MARGIN + middle
    tile_height, tile_width = ((side + 1) * scale for side in mean.shape)
    for k, name in enumerate(words.steps):
        at = left + (k + 0.5) * tile_width
        write(figure, at, top, name, fontsize=SMALL, ha="center", va="top")
    for row, name in enumerate(rows_named):
        at = top + above + (row + 0.5) * tile_height
        write(figure, left - 12, at, name, fontsize=SMALL, ha="right", va="center")
    draw(figure, board, left, top + above, scale)
    return figure


def _scale(image: Array, over: tuple[str, ...]) -> float:
    """The page pixels per pixel of an image (H, W), so that each text fits over a column of it."""
    height, width = image.shape
    widest = max(text_width(text, SMALL) for text in over) + 8
    return max(scale_to(_SIDE, height, width), float(np.ceil(widest / (width + 1))))


def spectrum(
    eigenvalues: Array, latent_dim: int, noise_variance: float, subtitle: str
) -> Figure | str:
    """Eigenvalues of the sample covariance, the L kept ones, and what replaces the others.

    `eigenvalues` (D,) are in decreasing order and units of x squared; the model's covariance
    W W^T + sigma^2 I has the first L = `latent_dim` of them (1 <= L <= D) and for the D - L others
    sigma^2 = `noise_variance`, whose maximum-likelihood value is their mean. Right: the share of
    the total variance that the first i eigenvalues hold. Eigenvalues under a millionth of the
    largest are left out of the view, and the note says how many.
    """
    kept, size = latent_dim, len(eigenvalues)
    note = f"The model's covariance, W Wᵀ + σ² I, keeps the largest eigenvalues, L = {kept:,}, and "
    note += f"has σ² in place of the other {size - kept:,}.\n"
    if kept < size:
        note += f"Their mean is {number(float(np.mean(np.maximum(eigenvalues, 0)[kept:])))}: "
        note += "the σ² of the highest likelihood.\n"
    title = "Spectrum of the sample covariance"
    names = ("eigenvalue i of the sample covariance", "units of x squared, log scale", "σ²")
    return _spectrum(eigenvalues, latent_dim, noise_variance, (title, subtitle, note), names)


def scaled_spectrum(eigenvalues: Array, latent_dim: int, subtitle: str) -> Figure | str:
    """The spectrum of the covariance of images whose pixels j are divided by their noise sigma_j.

    `eigenvalues` (D,) of Psi^-1/2 S Psi^-1/2 are in decreasing order. At a maximum of ln p(x),
    Psi^-1/2 (W W^T + Psi) Psi^-1/2 has the first L = `latent_dim` of them and 1 for the others. The
    panels are those of `spectrum`.
    """
    note = (
        "Each pixel is divided by its noise σⱼ, so that all the noise has variance 1. The model's "
    )
    note += f"covariance keeps the largest eigenvalues, L = {latent_dim:,}, and has 1 in place of "
    note += f"the other {len(eigenvalues) - latent_dim:,}.\n"
    title = "Spectrum of the covariance in units of the noise"
    names = ("eigenvalue i of the scaled covariance", "noise variances, log scale", "noise")
    return _spectrum(eigenvalues, latent_dim, 1.0, (title, subtitle, note), names)


@house_style()
def _spectrum(
    eigenvalues: Array,
    kept: int,
    noise_variance: float,
    heading: tuple[str, str, str],
    names: tuple[str, str, str],
) -> Figure | str:
    """Draw a spectrum, of whose eigenvalues (D,) the first `kept` are those of the model.

    Returns why there is none, where all eigenvalues are 0.

    `heading` holds title, subtitle and note, and `names` those of eigenvalue, unit and noise.
    """
    title, subtitle, note = heading
    size = len(eigenvalues)
    values = np.maximum(eigenvalues, 0)
    if values[0] == 0:
        return "all training images are the same, so every eigenvalue is 0"
    view = values[0] / 1e6
    hidden = int(np.sum(values < view))
    if hidden:
        many = f"{hidden:,} eigenvalue{'s' if hidden > 1 else ''}"
        note += f"{many} under a millionth of the largest {'are' if hidden > 1 else 'is'} "
        note += "out of view.\n"

    width, height, legend, name = 500, 400, 34, 40
    body = (2 * (BEFORE + width + 15) + 15, legend + name + height + 70)
    figure, top = page(*body, title, subtitle, note)
    y, left = top + legend + name, MARGIN + BEFORE
    handles = [
        Line2D([], [], color=_KEPT, marker="o", linestyle="", markersize=4,
               label=f"kept: the largest, L = {kept:,}"),
        Line2D([], [], color=_DISCARDED, marker="o", linestyle="", markersize=4,
               label=f"discarded: the other {size - kept:,}"),
        Line2D([], [], color=_NOISE, linewidth=2.5,
               label=f"in their place: {names[2]} = {number(noise_variance)}"),
    ]  # fmt: skip
    axes = place(figure, left, y, width, height, title=names[0], ylabel=names[1])
    _eigenvalues(axes, values, kept, noise_variance, view)
    legend_at(figure, handles, left, top)
    cumulative = place(figure, left + width + 15 + BEFORE, y, width, height)
    _shares(cumulative, values, kept)
    for panel in (axes, cumulative):
        panel.set_xlabel("i, log scale")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure


def _eigenvalues(axes: Axes, values: Array, kept: int, noise_variance: float, view: float) -> None:
    """Draw the eigenvalues (D,) that are at least `view`, and what replaces those not kept."""
    size = len(values)
    number_of = np.arange(1, size + 1)
    shown = values >= view
    edges = np.append(values[shown], noise_variance) if noise_variance > 0 else values[shown]
    log_axis(axes.xaxis, 1, size)
    log_axis(axes.yaxis, float(np.min(edges)), float(np.max(edges)))
    for part, colour in ((slice(kept, None), _DISCARDED), (slice(0, kept), _KEPT)):
        axes.plot(number_of[part], np.where(shown, values, np.nan)[part], "o", color=colour,
                  markersize=3)  # fmt: skip
    if kept < size and noise_variance > 0:
        axes.plot([kept + 1, size], [noise_variance] * 2, color=_NOISE, linewidth=2.5)


def _shares(axes: Axes, values: Array, kept: int) -> None:
    """Draw the share of the sum of the eigenvalues (D,) that the first i of them hold."""
    number_of = np.arange(1, len(values) + 1)
    share = np.cumsum(values) / (np.sum(values) or 1)
    axes.plot(number_of, share, color=_DISCARDED)
    axes.plot(number_of[:kept], share[:kept], color=_KEPT, linewidth=2.5)
    log_axis(axes.xaxis, 1, len(values))
    low = axes.get_xlim()[0]
    axes.plot([low, kept, kept], [share[kept - 1]] * 2 + [0], ":", color=DARK, linewidth=1)
    axes.plot(kept, share[kept - 1], "o", color=_KEPT, markersize=6)
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_title(f"the kept hold {share[kept - 1]:.1%} of the variance")
    axes.set_ylabel("share of eigenvalues 1 to i")


@house_style()
def noise(sigma: Array, explained: Array, floor: float, subtitle: str) -> Figure | str:
    """The noise of factor analysis at each pixel, and how much of its variance the latents explain.

    `sigma` (H, W) is the standard deviation of the noise, and `floor`, in units of x squared, the
    least noise variance. `explained` (H, W), 0 to 1, is the share of a pixel's variance under the
    model that W z has: its communality. A map that is the same for all pixels becomes a sentence of
    the note; where both are, this returns the reason why there is no figure.
    """
    least = float(np.sqrt(floor))
    at_floor = int(np.sum(sigma <= least * (1 + 1e-9)))
    note = f"{at_floor:,} of {sigma.size:,} pixels ({percent(at_floor / sigma.size)}) lie at the "
    note += f"floor, σ = {number(least)}: pixels that do not vary, and pixels that the latents "
    note += f"explain. The largest σ is {number(float(np.max(sigma)))}."
    low, high = float(np.min(sigma)), float(np.max(sigma))
    every = [
        Map("σ of the noise", "units of x, log scale", sigma, LogNorm(low, high)),
        Map("share that z explains", "of the variance of x", explained, Normalize(0, 1)),
    ]
    maps = [one for one in every if np.ptp(one.values) > 1e-6 * np.max(one.values)]
    if not maps:
        return "all pixels have the same noise, and z explains as much of each"
    for one in every:
        if one not in maps:
            note += f"\nThe {one.title} is {number(float(one.values.flat[0]))} at every pixel."
    figure, top = page(*size_of_maps(maps), "The noise of each pixel", subtitle, note)
    draw_maps(figure, MARGIN, top, maps)
    return figure
