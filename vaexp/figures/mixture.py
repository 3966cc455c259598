"""What each component of a mixture looks like, and which digits it or a cluster gathers."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vaexp.figures.charts import percent, spread
from vaexp.figures.maps import colour_bar
from vaexp.figures.mosaic import clipping_note, draw
from vaexp.figures.style import (
    DARK,
    HEAT,
    INK,
    MARGIN,
    MUTED,
    SMALL,
    Array,
    house_style,
    line_height,
    page,
    place,
    text_width,
    write,
)

_ROOM = (1300, 1200)  # pixels for the images of a page of components
_APART = 14  # least number of pixels between two components
_NUMBERED = 20  # components up to which each cell has its number
_NAMED = 50  # components up to which each row has its name
_EMPTY = 0.5  # images: a component with fewer gathers none
_SHARES = mpl.colormaps["Blues"].with_extremes(bad="white")
_DARK_FROM = 0.66  # share from which on its colour is dark enough for white numbers


@house_style()
def components(
    mean: Array, stddev: Array | None, weight: Array, subtitle: str, limit: int = 100
) -> Figure:
    """Mean, standard deviation and weight of a mixture's components, the heaviest first.

    `mean` (K, H, W) is on the display scale. `stddev` (K, H, W), in units of x, is drawn as heat
    maps with one scale for all; None leaves them out. `weight` (K,) sums to 1. Of more than `limit`
    components the heaviest are drawn, and the note says which share of the weight they have.
    """
    order = np.argsort(-weight, kind="stable")[:limit]
    parts = [mean[order]] if stddev is None else [mean[order], stddev[order]]
    names = ["k", "weight", "mean", "std. dev."][: 2 + len(parts)]
    texts = [[f"{k}" for k in order], [percent(float(weight[k])) for k in order]]
    widest = max(text_width(text, SMALL) for line in texts for text in line)
    before = round(max(text_width(name, SMALL) for name in names)) + 16

    height, width = mean.shape[1] + 2, mean.shape[2] + 2  # of a tile, with a frame of one pixel
    above, between, bar = 2 * line_height(SMALL) + 2, 4, 95 if stddev is not None else 0
    for scale in (5, 4, 3, 2):
        # A pitch in whole image pixels, so that a row of tiles is one array.
        pitch = -(-max(width * scale + _APART, round(widest) + _APART) // scale)
        rows = -(-len(order) // max(_ROOM[0] // (pitch * scale), 1))
        down = above + len(parts) * (height * scale + between) + 20
        if rows * down <= _ROOM[1]:
            break
    across = -(-len(order) // rows)  # as many in each row as can be, up to the last

    note = "Components are counted from k = 0"
    note += " and sorted by weight.\n" if len(weight) > 1 else ".\n"
    if len(order) < len(weight):
        note += f"The {len(order)} heaviest of {len(weight)} are shown, which have "
        note += f"{percent(float(weight[order].sum() / weight.sum()))} of the weight.\n"
    note += clipping_note(parts[0])
    body = (before + (across * pitch) * scale, rows * down - 20 + bar)
    title = "Components of the mixture" if len(weight) > 1 else "The one component of the mixture"
    figure, top = page(*body, title, subtitle, note)

    left = MARGIN + before
    highest = float(np.max(parts[-1])) or 1.0
    for row in range(rows):
        chosen = slice(row * across, (row + 1) * across)
        y = top + row * down
        for line, text in enumerate(texts):
            at = y + line * line_height(SMALL)
            write(figure, left - 12, at, names[line], fontsize=SMALL, color=MUTED, ha="right",
                  va="top")  # fmt: skip
            for column, caption in enumerate(text[chosen]):
                middle = left + (column * pitch + width / 2) * scale
                colour = MUTED if line == 0 else DARK
                write(figure, middle, at, caption, fontsize=SMALL, color=colour, ha="center",
                      va="top")  # fmt: skip
        for part, images in enumerate(parts):
            at = y + above + part * (height * scale + between)
            write(figure, left - 12, at + height * scale / 2, names[2 + part], fontsize=SMALL,
                  color=MUTED, ha="right", va="center")  # fmt: skip
            blank = np.nan if part else 0.0
            colours = HEAT.with_extremes(bad="white") if part else INK
            board = _tiles(images[chosen], pitch, blank)
            axes = draw(figure, board, left, at, scale, colours, (0.0, highest if part else 1.0))
    if stddev is not None:
        y = top + rows * down - 20 + 18
        colour_bar(figure, axes.images[0], left, y, 320, "standard deviation, units of x")
    return figure


@house_style()
def confusion(counts: Array, digits: Sequence[int], subtitle: str) -> Figure:
    """Which digits each component gathers: its share of each, and how many test images in all.

    `counts` (K, C) is the sum of responsibilities of component k over the test images of digit
    `digits[c]`. Components are sorted by the digit that most of their images are, then by size;
    those with less than half an image come last and have no shares. Purity is the share of images
    that lie in a component whose majority digit they are.
    """
    return _gathered("component", counts, digits, subtitle, "")


@house_style()
def clusters(counts: Array, digits: Sequence[int], subtitle: str, note: str = "") -> Figure:
    """The same of the clusters that k-means finds among the codes of another model."""
    note = f"Clusters are those of k-means of the codes.\n{note}"
    return _gathered("cluster", counts, digits, subtitle, note)


def _gathered(each: str, counts: Array, digits: Sequence[int], subtitle: str, more: str) -> Figure:
    total = np.sum(counts, axis=1)
    majority = np.argmax(counts, axis=1)
    empty = total < _EMPTY
    order = np.lexsort([-total, np.where(empty, counts.shape[1], majority)])
    shares = np.full(counts.shape, np.nan)
    shares[~empty] = counts[~empty] / total[~empty, None]
    shares, total, majority, empty = shares[order], total[order], majority[order], empty[order]

    rows, columns = counts.shape
    images = float(np.sum(counts))
    note = "A row's shares add up to 100%. "
    if images > 0:
        purity = np.sum(np.max(counts, axis=1)) / images
        alone = np.max(np.sum(counts, axis=0)) / images
        note += f"Purity is {purity:.1%}: so many of the {images:,.0f} test images are the digit "
        note += f"that is most frequent in their {each}."
        note += f" A single {each} would have {alone:.1%}.\n" if rows > 1 else "\n"
    if empty.any():
        note += f"{np.sum(empty)} of {rows} have less than half an image: no shares are shown.\n"
    note += more

    pitch = 40 if rows <= _NUMBERED else 26 if rows <= _NAMED else max(1300 // rows, 6)
    cell, bars, height = max(56, 320 // columns), 320, pitch * rows
    groups = np.where(empty, columns, majority)
    borders = np.flatnonzero(np.diff(groups)) + 1
    if rows <= _NAMED:
        names = [f"k = {k}" for k in order]
        middles = (np.arange(rows) + 0.5) * pitch
    else:
        names = ["empty" if g == columns else f"mostly {digits[g]}" for g in np.unique(groups)]
        starts, ends = np.append(0, borders), np.append(borders, rows)
        middles = spread((starts + ends) / 2 * pitch, line_height(SMALL), (0, height))
    before = round(max(text_width(name, SMALL) for name in names)) + 16
    above, between, under = 60, 40, 100
    body = (before + columns * cell + between + bars + 20, above + height + under)
    figure, top = page(*body, f"Digits in each {each}", subtitle, note)
    left, y = MARGIN + before, top + above
    for name, middle in zip(names, middles, strict=True):
        write(figure, left - 12, y + middle, name, fontsize=SMALL, color=MUTED, ha="right",
              va="center")  # fmt: skip

    axes = place(figure, left, y, columns * cell, height)
    picture = axes.imshow(
        shares, cmap=_SHARES, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    axes.grid(False)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.set_xticks(range(columns), [str(digit) for digit in digits])
    axes.set_yticks([])
    axes.set_xlabel("digit")
    axes.xaxis.set_label_position("top")
    for border in borders:
        axes.axhline(border - 0.5, color=MUTED, linewidth=0.7)
    if rows <= _NUMBERED:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            axes.text(
                column, row, f"{100 * share:.0f}%", ha="center", va="center", fontsize=SMALL,
                color="white" if share > _DARK_FROM else DARK,
            )  # fmt: skip
    bar = colour_bar(figure, picture, left, y + height + 16, 260, f"share of the {each}'s images")
    bar.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])

    axes = place(figure, left + columns * cell + between, y, bars, height)
    axes.barh(np.arange(rows), total, height=0.8 if pitch > 10 else 1, color="#6b8fb5")
    largest = float(np.max(total)) or 1.0
    axes.set(ylim=(rows - 0.5, -0.5), xlim=(0, largest * (1.3 if rows <= _NAMED else 1.05)))
    axes.grid(False, axis="y")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(f"test images in the {each}")
    if rows <= _NAMED:
        for row, size in enumerate(total):
            count = f"{size:,.0f}" if size >= 10 or size < 0.05 else f"{size:.1f}"
            axes.text(size + 0.02 * largest, row, count, va="center", fontsize=SMALL, color=DARK)
    return figure


def _tiles(images: Array, pitch: int, blank: float) -> Array:
    """Put images (n, H, W) in a row with frames of NaN, `pitch` pixels from one to the next."""
    count, height, width = images.shape
    board = np.full((height + 2, count, pitch), blank)
    board[:, :, : width + 2] = np.nan
    board[1:-1, :, 1 : width + 1] = images.transpose(1, 0, 2)
    return board.reshape(height + 2, count * pitch)[:, : (count - 1) * pitch + width + 2]
