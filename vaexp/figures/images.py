"""Grids of images: draws, the ways to decode a latent, and reconstructions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure

from vaexp.figures.charts import number
from vaexp.figures.maps import colour_bar
from vaexp.figures.mosaic import draw, grey_limits, ink_note, mosaic, zoom
from vaexp.figures.style import (
    HEAT,
    INK,
    MARGIN,
    TEXT,
    Array,
    house_style,
    page,
    text_width,
    write,
)

_ROOM = (1200, 1000)  # pixels for the images of a page
_BLOCK_GAP = 18  # pixels between blocks of rows
_BAR = 95  # pixels for a colour bar under a block, with its caption
_SEEN = 1 / 510  # half a grey level: images that differ by less look the same
_WIDE = 20  # times the smallest sigma, above which sigma has a log scale


class _Block(NamedTuple):
    """Rows of images that have one scale of colours."""

    names: Sequence[str]
    images: Array
    """(R, C, H, W)."""
    colours: Colormap = INK
    limits: tuple[float, float] = (0.0, 1.0)
    log: bool = False
    bar: str = ""
    """What a colour bar under the block says; "" stands for no bar."""


@house_style()
def samples(
    images: Array, row_names: Sequence[str] | None, title: str, subtitle: str, note: str = ""
) -> Figure:
    """A grid of images (R, C, H, W), with a name such as the digit before each row.

    `note` says which draws they are. Where white and black at 0 and 1 leave a row solid, a wider
    grey scale is drawn and said.
    """
    names = [""] * len(images) if row_names is None else list(row_names)
    block, said = _grey(names, images, "images")
    return _stack([block], title, subtitle, f"{note}\n{said or ink_note(images)}")


@house_style()
def decode_modes(mean: Array, sample: Array, sweep: Array | None, subtitle: str) -> Figure:
    """The same n latents decoded in every way: mu(z), x ~ p(x|z), and mu + k sigma, k = -2..2.

    `mean` and `sample` are (n, H, W); `sweep` is (5, n, H, W), or None where there is no sigma. Its
    middle row, which is mu(z) again, is left out, and so are rows that look like mu(z). Where white
    at 0 and black at 1 leave a row of the sweep solid, its rows share a wider grey scale.
    """
    blocks, unseen = [_Block([r"$\mu(z)$"], mean[None])], []
    if np.max(np.abs(sample - mean)) >= _SEEN:
        blocks.append(_Block([r"$x \sim p(x\,|\,z)$"], sample[None]))
    else:
        unseen.append("x ~ p(x|z)")
    note = "Each column is one latent z, which every row decodes in its own way.\n"
    note += ink_note(*(block.images for block in blocks))
    if sweep is not None and np.max(np.abs(sweep - mean)) >= _SEEN:
        names = [
            r"$\mu(z) - 2\sigma(z)$",
            r"$\mu(z) - \sigma(z)$",
            r"$\mu(z) + \sigma(z)$",
            r"$\mu(z) + 2\sigma(z)$",
        ]
        block, said = _grey(names, sweep[[0, 1, 3, 4]], "rows μ(z) + kσ(z)")
        blocks.append(block)
        note += f"\n{said}" if said else ""
    elif sweep is not None:
        unseen.append("μ(z) + kσ(z)")
    note += "".join(
        f"\n{row} is not drawn: it differs from μ(z) by less than half a grey level."
        for row in unseen
    )
    return _stack(blocks, "Ways to decode the same latents", subtitle, note, math=True)


def _grey(names: Sequence[str], images: Array, what: str) -> tuple[_Block, str]:
    """A block of `what` that has a grey scale of its own if it needs one, and a sentence on it."""
    limits = grey_limits(images)
    if limits == (0.0, 1.0):
        return _Block(names, images), ""
    bar = f"grey scale of the {what}, units of x"
    note = f"The {what} have a grey scale of their own, from {number(limits[0])} to "
    note += f"{number(limits[1])}, as white at 0 and black at 1 would leave some of them solid."
    if limits[0] > np.nanmin(images):
        note += " Values outside of it are drawn as the nearer end."
    return _Block(names, images, limits=limits, bar=bar), note


@house_style()
def reconstructions(
    x: Array, mean: Array, sample: Array, sigma: Array | None, subtitle: str
) -> Figure:
    """Images x (n, H, W), their reconstructions mu(z), draws from p(x|z), and sigma(z).

    A sigma (n, H, W) that is the same for every pixel of every image is stated in the note, and one
    that is the same within each image is a number under it. One that differs by pixel is drawn as a
    heat map, once if it is the same for all images, and on a log scale where it differs by more
    than a factor of 20.
    """
    blocks = [
        _Block([r"$x$"], x[None]),
        _Block([r"$\mu(z)$"], mean[None]),
        _Block([r"$x' \sim p(x\,|\,z)$"], sample[None]),
    ]
    note = "Each column is one test image x, with what the model decodes from a draw of its code "
    note += f"z ~ q(z|x).\n{ink_note(x, mean, sample)}\n"
    numbers: list[str] = []
    if sigma is not None:
        alike = 1e-6 * float(np.max(sigma))
        if np.ptp(sigma) <= alike:
            note += f"σ is {number(float(sigma.flat[0]))}, in units of x, for every pixel of every "
            note += "image."
        elif np.max(np.ptp(sigma, axis=(1, 2))) <= alike:
            numbers = [f"{value:#.3g}".rstrip(".") for value in sigma[:, 0, 0]]
            note += "The numbers are σ(z), in units of x, which all pixels of an image share."
        else:
            blocks.append(_heat(sigma))
            if np.max(np.ptp(sigma, axis=0)) <= alike:
                blocks[-1] = blocks[-1]._replace(images=sigma[None, :1])
                note += "σ is the same for every image, and is drawn once."
    return _stack(blocks, "Images and their reconstructions", subtitle, note, math=True,
                  numbers=numbers)  # fmt: skip


def _heat(sigma: Array) -> _Block:
    """The heat maps of sigma (n, H, W)."""
    lowest, highest = float(np.min(sigma)), float(np.max(sigma))
    wide = highest > _WIDE * lowest > 0  # a few large values would leave all others one colour
    caption = "σ(z), units of x" + (", log scale" if wide else "")
    limits = (lowest if wide else 0.0, highest)
    return _Block([r"$\sigma(z)$"], sigma[None], HEAT, limits, wide, caption)


def _name_row(figure: Figure, left: float, middle: float, text: str, *, math: bool = False) -> None:
    """Write the name of a row before its first pixel column `left`, around a `middle` row."""
    write(figure, left - 12, middle, text, math=math, fontsize=TEXT, ha="right", va="center")


def _stack(
    blocks: Sequence[_Block],
    title: str,
    subtitle: str,
    note: str,
    *,
    math: bool = False,
    numbers: Sequence[str] = (),
) -> Figure:
    """Draw blocks of rows under each other at one zoom, and `numbers` under their columns."""
    boards = [mosaic(block.images) for block in blocks]
    width = max(board.shape[1] for board in boards)
    scale = zoom(width, sum(board.shape[0] for board in boards), _ROOM)
    names = [name for block in blocks for name in block.names] + [r"$\sigma(z)$"] * bool(numbers)
    labels = max(text_width(name, TEXT, math=math) for name in names)
    left = MARGIN + (round(labels) + 16 if labels else 0)
    heights = [
        round(board.shape[0] * scale) + (_BAR if block.bar else 0)
        for block, board in zip(blocks, boards, strict=True)
    ]
    body = sum(heights) + _BLOCK_GAP * (len(boards) - 1) + (40 if numbers else 0)
    figure, y = page(left - MARGIN + round(width * scale), body, title, subtitle, note)
    for block, board, height in zip(blocks, boards, heights, strict=True):
        axes = draw(figure, board, left, y, scale, block.colours, block.limits)
        if block.log:
            axes.images[0].set_norm(LogNorm(*block.limits))
        row_height = (block.images.shape[2] + 1) * scale
        for row, name in enumerate(block.names):
            _name_row(figure, left, y + (row + 0.5) * row_height, name, math=math)
        if block.bar:
            under = y + round(board.shape[0] * scale) + 14
            bar_width = max(min(round(width * scale), 420), 260)
            colour_bar(figure, axes.images[0], left, under, bar_width, block.bar)
        y += height + _BLOCK_GAP
    if numbers:
        _name_row(figure, left, y + 10, r"$\sigma(z)$", math=True)
        pitch = (blocks[0].images.shape[3] + 1) * scale
        for column, text in enumerate(numbers):
            at = left + (column + 0.5) * pitch
            write(figure, at, y + 10, text, fontsize=TEXT, ha="center", va="center")
    return figure
