"""Grids of images: draws, the ways to decode a latent, reconstructions, runs side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vaexp.figures.maps import colour_bar
from vaexp.figures.mosaic import clipping_note, draw, mosaic, zoom
from vaexp.figures.style import (
    HEAT,
    MARGIN,
    MUTED,
    TEXT,
    Array,
    house_style,
    line_height,
    page,
    text_width,
    wrap,
    write,
)

_ROOM = (1200, 1000)  # pixels for the images of a page
_BLOCK_GAP = 18  # pixels between blocks of rows


@house_style()
def samples(images: Array, row_names: Sequence[str] | None, title: str, subtitle: str) -> Figure:
    """A grid of images (R, C, H, W), with a name such as the digit before each row."""
    names = [""] * len(images) if row_names is None else list(row_names)
    return _stack([(names, images)], title, subtitle, clipping_note(images))[0]


@house_style()
def decode_modes(mean: Array, sample: Array, sweep: Array | None, subtitle: str) -> Figure:
    """The same n latents decoded in every way: mu(z), x ~ p(x|z), and mu + k sigma, k = -2..2.

    `mean` and `sample` are (n, H, W); `sweep` is (5, n, H, W), or None where there is no sigma.
    """
    blocks = [
        ([r"$\mu(z)$"], mean[None]),
        ([r"$x \sim p(x\,|\,z)$"], sample[None]),
    ]
    if sweep is not None:
        names = [
            r"$\mu(z) - 2\sigma(z)$",
            r"$\mu(z) - \sigma(z)$",
            r"$\mu(z)$",
            r"$\mu(z) + \sigma(z)$",
            r"$\mu(z) + 2\sigma(z)$",
        ]
        blocks.append((names, sweep))
    note = "Each column is one latent z, decoded in every row.\n"
    note += clipping_note(mean, sample, sweep)
    title = "Ways to decode the same latents"
    return _stack(blocks, title, subtitle, note, math=True)[0]


@house_style()
def reconstructions(
    x: Array, mean: Array, sample: Array, sigma: Array | None, subtitle: str
) -> Figure:
    """Images x (n, H, W), their reconstructions mu(z), draws from p(x|z), and sigma(z).

    A sigma that is the same for every pixel of every image is stated in the note; one that differs
    is drawn as a heat map, on a log scale where it differs by more than a factor of 20.
    """
    blocks = [
        ([r"$x$"], x[None]),
        ([r"$\mu(z)$"], mean[None]),
        ([r"$x' \sim p(x\,|\,z)$"], sample[None]),
    ]
    note = "Each column is one image x, with what the model decodes from its code z.\n"
    constant = sigma is not None and np.ptp(sigma) <= 1e-6 * np.max(sigma)
    if sigma is not None and constant:
        note += f"σ = {sigma.flat[0]:.3g} (units of x) for every pixel of every image.\n"
    note += clipping_note(x, mean, sample)
    title = "Images and their reconstructions"
    if sigma is None or constant:
        return _stack(blocks, title, subtitle, note, math=True)[0]

    height, width = mosaic(sigma[None]).shape
    bar = 95  # pixels for the colour bar and its caption
    name = r"$\sigma(z)$"
    figure, left, bottom, scale = _stack(
        blocks, title, subtitle, note, math=True, below=(height, bar), extra_name=name
    )
    top = bottom + _BLOCK_GAP
    lowest, highest = float(np.min(sigma)), float(np.max(sigma))
    axes = draw(figure, mosaic(sigma[None]), left, top, scale, HEAT, (0.0, highest))
    wide = highest > 20 * lowest > 0
    if wide:  # a few large values would leave all others one colour
        axes.images[0].set_norm(LogNorm(lowest, highest))
    _name_row(figure, left, top + height * scale / 2, [name], math=True)
    bar_width = min(round(width * scale), 420)
    caption = "σ(z), units of x" + (", log scale" if wide else "")
    y = top + height * scale + 14
    colour_bar(figure, axes.images[0], left, y, max(bar_width, 260), caption)
    return figure


@house_style()
def compare_runs(
    names: Sequence[str],
    draws: Sequence[Array],
    x: Array,
    reconstructions: Sequence[Array],
    subtitle: str,
    draws_name: str = "draws at the same latents z",
) -> Figure:
    """One row per run: its draws (n, H, W), and how it reconstructs the test images x (m, H, W).

    `draws_name` says what the columns on the left share. Runs with different numbers of latents
    cannot share z.
    """
    right_name = "test images, and their reconstructions"
    left_width = mosaic(draws[0][None]).shape[1]
    height, right_width = mosaic(x[None]).shape
    wrapped = [wrap(name, TEXT, 300) for name in names]
    labels = max(text_width(line, TEXT) for lines in wrapped for line in lines)
    start = MARGIN + round(labels) + 16
    scale = zoom(left_width + right_width, height, (_ROOM[0], 160))
    tile = round(height * scale)
    pitch = max(tile + 8, max(map(len, wrapped)) * line_height(TEXT) + 12)

    # A few images are narrower than their heading, which is wrapped and widens the block.
    left_lines = wrap(draws_name, TEXT, max(left_width * scale, 200))
    right_lines = wrap(right_name, TEXT, max(right_width * scale, 200))
    left_block = max(left_width * scale, *(text_width(line, TEXT) for line in left_lines))
    right_block = max(right_width * scale, *(text_width(line, TEXT) for line in right_lines))
    middle = start + round(left_block) + 40
    end = middle + round(right_block)
    heading = len(right_lines) * line_height(TEXT) + 6
    first = heading + tile + 14  # the runs' first row, under the test images
    body = first + pitch * (len(names) - 1) + max(tile, pitch - 8)
    title = "Runs side by side"
    note = clipping_note(*draws, x, *reconstructions)
    figure, top = page(end - MARGIN, body, title, subtitle, note)

    write(figure, middle, top, "\n".join(right_lines), fontsize=TEXT, color=MUTED, va="top")
    draw(figure, mosaic(x[None]), middle, top + heading, scale)
    top += first
    spare = (max(tile, pitch - 8) - tile) // 2
    above = top + spare - 8
    write(figure, start, above, "\n".join(left_lines), fontsize=TEXT, color=MUTED, va="bottom")
    for row, lines in enumerate(wrapped):
        y = top + row * pitch + spare
        _name_row(figure, start, y + tile / 2, lines)
        draw(figure, mosaic(draws[row][None]), start, y, scale)
        draw(figure, mosaic(reconstructions[row][None]), middle, y, scale)
    return figure


def _name_row(
    figure: Figure, left: float, middle: float, lines: Sequence[str], math: bool = False
) -> None:
    """Write the name of a row before its first pixel column `left`, around a `middle` row."""
    text = "\n".join(lines)
    write(figure, left - 12, middle, text, math=math, fontsize=TEXT, ha="right", va="center")


def _stack(
    blocks: Sequence[tuple[Sequence[str], Array]],
    title: str,
    subtitle: str,
    note: str,
    *,
    math: bool = False,
    below: tuple[int, int] = (0, 0),
    extra_name: str = "",
) -> tuple[Figure, int, float, float]:
    """Draw blocks of named rows (names, images (R, C, H, W)) under each other at one zoom.

    `below` is the room under them: pixels of an array that has the same zoom, and pixels of the
    page. Returns the figure, the first pixel column of the images, the row under the last block,
    and the zoom.
    """
    boards = [mosaic(images) for _, images in blocks]
    width = boards[0].shape[1]
    height = sum(board.shape[0] for board in boards)
    scale = zoom(width, height + below[0], _ROOM)
    names = [name for block_names, _ in blocks for name in block_names]
    labels = max(text_width(name, TEXT, math=math) for name in [*names, extra_name])
    left = MARGIN + (round(labels) + 16 if labels else 0)
    gaps = _BLOCK_GAP * (len(boards) - (0 if below[0] else 1))
    body = sum(round(board.shape[0] * scale) for board in boards)
    figure, top = page(
        left - MARGIN + round(width * scale),
        body + gaps + round(below[0] * scale) + below[1],
        title,
        subtitle,
        note,
    )
    y = top
    for (block_names, images), board in zip(blocks, boards, strict=True):
        draw(figure, board, left, y, scale)
        row_height = (images.shape[2] + 1) * scale
        for row, name in enumerate(block_names):
            _name_row(figure, left, y + (row + 0.5) * row_height, [name], math=math)
        y += round(board.shape[0] * scale) + _BLOCK_GAP
    return figure, left, y - _BLOCK_GAP, scale
