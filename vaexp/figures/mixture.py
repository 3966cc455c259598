"""What each component of a mixture looks like, and which digits a component or cluster gathers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from vaexp.figures.charts import percent, spread
from vaexp.figures.maps import colour_bar
from vaexp.figures.mosaic import draw, ink_note, scale_to
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
_SIDES = (140, 112, 84, 56)  # page pixels of the longer side of an image, as many as fit
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
    maps with one scale for all; None leaves them out. One that is the same for all pixels of each
    component is a number over its mean, and one that all components share is drawn once. `weight`
    (K,) sums to 1. Of more than `limit` components the heaviest are drawn, and the note says which
    share of the weight they have.
    """
    order = np.argsort(-weight, kind="stable")[:limit]
    texts = {
        "k": [f"{k}" for k in order],
        "weight": [percent(float(weight[k])) for k in order],
    }
    maps, once, alike = stddev, None, ""
    if stddev is not None:
        rounding = 1e-6 * float(np.max(stddev))
        if np.max(np.ptp(stddev, axis=(1, 2))) <= rounding:
            texts["σ"] = [f"{stddev[k, 0, 0]:#.3g}".rstrip(".") for k in order]
            alike = "σ, in units of x, is that of every pixel of the component.\n"
            maps = None
        elif len(weight) > 1 and np.max(np.ptp(stddev, axis=0)) <= rounding:
            alike = "The standard deviations are those of every component, and are drawn once.\n"
            maps, once = None, stddev[0]
    parts = {"mean": mean[order]} | ({} if maps is None else {"std. dev.": maps[order]})
    note = _counted(weight, order) + alike + ink_note(parts["mean"])
    tiles = _Tiles.of(texts, parts, once)
    title = "Components of the mixture" if len(weight) > 1 else "The one component of the mixture"
    figure, top = page(*tiles.body, title, subtitle, note)
    tiles.draw(figure, top)
    return figure


def _counted(weight: Array, order: NDArray[np.intp]) -> str:
    """How the components are counted, and which share of the weight those in `order` have."""
    note = "Components are counted from k = 0"
    note += " and sorted by weight.\n" if len(weight) > 1 else ".\n"
    if len(order) < len(weight):
        note += f"The {len(order)} heaviest of {len(weight)} are shown, which have "
        note += f"{percent(float(weight[order].sum() / weight.sum()))} of the weight.\n"
    return note


@dataclass(frozen=True)
class _Tiles:
    """The captions and images of components, laid out on a page."""

    texts: dict[str, list[str]]
    """Captions over the images of each component, by their name."""
    parts: dict[str, Array]
    """Images (K, H, W) under each other, by their name. The first are means, others are maps."""
    once: Array | None
    """A map (H, W) that all components share."""
    grid: "_Grid"
    widest: float
    """The widest caption, in page pixels."""

    @classmethod
    def of(cls, texts: dict[str, list[str]], parts: dict[str, Array], once: Array | None) -> Self:
        """Lay out the components, as large as they fit on a page."""
        widest = max(text_width(text, SMALL) for line in texts.values() for text in line)
        height, width = parts["mean"].shape[1] + 2, parts["mean"].shape[2] + 2  # with a frame
        beside = len(texts) * line_height(SMALL) + 22
        count = len(parts["mean"])
        grid = _grid_of_tiles(count, len(parts), width, height, widest, beside)
        return cls(texts, parts, once, grid, widest)

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of a tile in image pixels, with a frame of one pixel."""
        return self.parts["mean"].shape[1] + 2, self.parts["mean"].shape[2] + 2

    @property
    def before(self) -> int:
        """The page pixels to the left of the first tile."""
        names = [*self.texts, *self.parts, *(["std. dev."] if self.once is not None else [])]
        room = round(max(text_width(name, SMALL) for name in names)) + 16
        wider = round((self.widest - self.size[1] * self.grid.scale) / 2)  # a caption than a tile
        return room + max(wider, 0)

    @property
    def body(self) -> tuple[int, int]:
        """The width and height of all of it, in page pixels."""
        grid, bar = self.grid, 95 if "std. dev." in self.parts or self.once is not None else 0
        shared = 0 if self.once is None else round(self.size[0] * grid.scale) + 20
        width = self.before + round(grid.across * grid.pitch * grid.scale)
        return width, grid.rows * grid.down - 20 + shared + bar

    def draw(self, figure: Figure, top: int) -> None:
        """Draw captions, images and the colour bar of the maps, below a row of the page."""
        left, grid = MARGIN + self.before, self.grid
        maps = self.parts.get("std. dev.") if self.once is None else self.once
        highest = 1.0 if maps is None else float(np.max(maps)) or 1.0
        axes = None
        for row in range(grid.rows):
            chosen = slice(row * grid.across, (row + 1) * grid.across)
            y = top + row * grid.down
            self._captions(figure, left, y, chosen)
            for part, (name, images) in enumerate(self.parts.items()):
                above = len(self.texts) * line_height(SMALL) + 2
                at = y + above + part * (self.size[0] * grid.scale + 4)
                axes = self._images(figure, left, at, name, images[chosen], highest)
        below: float = top + grid.rows * grid.down
        if self.once is not None:
            axes = self._images(figure, left, below, "std. dev.", self.once[None], highest)
            below += self.size[0] * grid.scale + 20
        if axes is not None and maps is not None:
            label = "standard deviation, units of x"
            colour_bar(figure, axes.images[0], left, below - 2, 320, label)

    def _captions(self, figure: Figure, left: float, y: float, chosen: slice) -> None:
        """Write the captions over a row of components."""
        style: dict[str, Any] = {"fontsize": SMALL, "va": "top"}
        for line, (name, texts) in enumerate(self.texts.items()):
            at = y + line * line_height(SMALL)
            write(figure, left - 12, at, name, color=MUTED, ha="right", **style)
            for column, caption in enumerate(texts[chosen]):
                middle = left + (column * self.grid.pitch + self.size[1] / 2) * self.grid.scale
                colour = MUTED if line == 0 else DARK
                write(figure, middle, at, caption, color=colour, ha="center", **style)

    def _images(
        self, figure: Figure, left: float, y: float, name: str, images: Array, highest: float
    ) -> Axes:
        """Draw a row of tiles, means in ink and maps in colours up to `highest`."""
        middle, is_map = y + self.size[0] * self.grid.scale / 2, name != "mean"
        style: dict[str, Any] = {"fontsize": SMALL, "ha": "right", "va": "center"}
        write(figure, left - 12, middle, name, color=MUTED, **style)
        board = _tiles(images, self.grid.pitch, blank=np.nan if is_map else 0.0)
        colours = HEAT.with_extremes(bad="white") if is_map else INK
        limits = (0.0, highest if is_map else 1.0)
        return draw(figure, board, left, y, self.grid.scale, colours, limits)


class _Grid(NamedTuple):
    """How the tiles of components are laid out."""

    scale: float
    """Page pixels per image pixel."""
    pitch: int
    """Image pixels from one component to the next."""
    rows: int
    across: int
    """Components in a row."""
    down: int
    """Page pixels from one row to the next."""


def _grid_of_tiles(
    count: int, parts: int, width: int, height: int, widest: float, beside: int
) -> _Grid:
    """The largest tiles with which `count` components fit on a page.

    A component has `parts` tiles of `width` x `height` image pixels under each other, a caption of
    up to `widest` page pixels, and `beside` page pixels of height that are no tile.
    """
    for scale in (scale_to(side, height - 2, width - 2) for side in _SIDES):
        # A pitch in whole image pixels, so that a row of tiles is one array.
        pitch = int(np.ceil(max(width * scale + _APART, round(widest) + _APART) / scale))
        rows = -(-count // max(int(_ROOM[0] / (pitch * scale)), 1))
        down = beside + parts * (round(height * scale) + 4)
        if rows * down <= _ROOM[1]:
            break
    return _Grid(scale, pitch, rows, -(-count // rows), down)


@house_style()
def confusion(counts: Array, digits: Sequence[int], subtitle: str) -> Figure:
    """Which digits each component of a mixture gathers, and how many test images in all.

    `counts` (K, C) is the sum of responsibilities of component k over the test images of digit
    `digits[c]`. Components are sorted by the digit that most of their images are, then by size;
    those with less than half an image come last and have no shares. Purity is the share of images
    that lie in a component whose majority digit they are.
    """
    return _gathered("component", counts, digits, subtitle, "")


@house_style()
def clusters(counts: Array, digits: Sequence[int], subtitle: str, note: str = "") -> Figure:
    """Which digits each cluster gathers that k-means finds among the codes of a model.

    The arguments are those of `confusion`; `note` is added to its note.
    """
    note = f"Clusters are those of k-means of the codes.\n{note}"
    return _gathered("cluster", counts, digits, subtitle, note)


class _Gathered(NamedTuple):
    """What R components or clusters gather, in the order of the rows of the figure."""

    numbers: NDArray[np.integer[Any]]
    """The number of each, (R,)."""
    shares: Array
    """Its shares of the digits, (R, C); NaN where it is empty."""
    total: Array
    """The test images in it, (R,)."""
    group: NDArray[np.integer[Any]]
    """The column of its most frequent digit, or C where it is empty, (R,)."""


def _sorted_rows(counts: Array) -> _Gathered:
    """Sort the rows of a table (R, C) by most frequent digit, then size; empty ones come last."""
    total = np.sum(counts, axis=1)
    empty = total < _EMPTY
    group = np.where(empty, counts.shape[1], np.argmax(counts, axis=1))
    order = np.lexsort([-total, group])
    shares = np.full(counts.shape, np.nan)
    shares[~empty] = counts[~empty] / total[~empty, None]
    return _Gathered(order, shares[order], total[order], group[order])


def _gathered(each: str, counts: Array, digits: Sequence[int], subtitle: str, more: str) -> Figure:
    """Draw which digits each "component" or "cluster" gathers, as counts (R, C) say."""
    found = _sorted_rows(counts)
    rows, columns = counts.shape
    pitch = 40 if rows <= _NUMBERED else 26 if rows <= _NAMED else max(1300 // rows, 6)
    cell, bars, height = max(56, 320 // columns), 320, pitch * rows
    names, middles = _names_of_rows(found, digits, pitch)
    before = round(max(text_width(name, SMALL) for name in names)) + 16
    above, between, under = 60, 40, 100
    body = (before + columns * cell + between + bars + 20, above + height + under)
    note = _purity(each, counts) + more
    figure, top = page(*body, f"Digits in each {each}", subtitle, note)
    left, y = MARGIN + before, top + above
    for name, middle in zip(names, middles, strict=True):
        write(figure, left - 12, y + middle, name, fontsize=SMALL, color=MUTED, ha="right",
              va="center")  # fmt: skip
    table = place(figure, left, y, columns * cell, height, xlabel="digit")
    picture = _draw_shares(table, found, digits)
    bar = colour_bar(figure, picture, left, y + height + 16, 260, f"share of the {each}'s images")
    bar.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    left += columns * cell + between
    sizes = place(figure, left, y, bars, height, xlabel=f"test images in the {each}")
    _draw_sizes(sizes, found.total, thin=pitch <= 10)
    return figure


def _purity(each: str, counts: Array) -> str:
    """Sentences on the purity of a table (R, C) and on its empty rows."""
    rows, images = len(counts), float(np.sum(counts))
    note = "A row's shares add up to 100%. "
    if images > 0:
        purity = np.sum(np.max(counts, axis=1)) / images
        alone = np.max(np.sum(counts, axis=0)) / images
        note += f"Purity is {purity:.1%}: so many of the {images:,.0f} test images are the digit "
        note += f"that is most frequent in their {each}."
        note += f" A single {each} would have {alone:.1%}.\n" if rows > 1 else "\n"
    empty = np.sum(counts, axis=1) < _EMPTY
    if empty.any():
        note += f"{np.sum(empty)} of {rows} have less than half an image: no shares are shown.\n"
    return note


def _names_of_rows(
    found: _Gathered, digits: Sequence[int], pitch: int
) -> tuple[list[str], Sequence[float] | Array]:
    """The names beside the rows, of many rows one for each digit, and their heights in pixels."""
    rows, columns = found.shares.shape
    if rows <= _NAMED:
        return [f"k = {k}" for k in found.numbers], (np.arange(rows) + 0.5) * pitch
    groups, starts = np.unique(found.group, return_index=True)
    names = ["empty" if group == columns else f"mostly {digits[group]}" for group in groups]
    ends = np.append(starts[1:], rows)
    return names, spread((starts + ends) / 2 * pitch, line_height(SMALL), (0, pitch * rows))


def _draw_shares(axes: Axes, found: _Gathered, digits: Sequence[int]) -> AxesImage:
    """Draw the shares as a table of colours, with numbers where there are few rows."""
    rows = len(found.shares)
    picture = axes.imshow(
        found.shares, cmap=_SHARES, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    axes.grid(False)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.set_xticks(range(len(digits)), [str(digit) for digit in digits])
    axes.set_yticks([])
    axes.xaxis.set_label_position("top")
    for border in np.flatnonzero(np.diff(found.group)) + 1:
        axes.axhline(border - 0.5, color=MUTED, linewidth=0.7)
    if rows <= _NUMBERED:
        for row, column in np.argwhere(found.shares >= 0.005):
            share = found.shares[row, column]
            axes.text(
                column, row, f"{100 * share:.0f}%", ha="center", va="center", fontsize=SMALL,
                color="white" if share > _DARK_FROM else DARK,
            )  # fmt: skip
    return picture


def _draw_sizes(axes: Axes, total: Array, *, thin: bool) -> None:
    """Draw the numbers of images (R,) as bars; `thin` ones touch each other."""
    rows = len(total)
    axes.barh(np.arange(rows), total, height=1 if thin else 0.8, color="#6b8fb5")
    largest = float(np.max(total)) or 1.0
    axes.set(ylim=(rows - 0.5, -0.5), xlim=(0, largest * (1.3 if rows <= _NAMED else 1.05)))
    axes.grid(False, axis="y")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if rows <= _NAMED:
        for row, size in enumerate(total):
            count = f"{size:,.0f}" if size >= 10 or size < 0.05 else f"{size:.1f}"
            axes.text(size + 0.02 * largest, row, count, va="center", fontsize=SMALL, color=DARK)


def _tiles(images: Array, pitch: int, blank: float) -> Array:
    """Put images (n, H, W) in a row with frames of NaN, `pitch` pixels from one to the next."""
    count, height, width = images.shape
    board = np.full((height + 2, count, pitch), blank)
    board[:, :, : width + 2] = np.nan
    board[1:-1, :, 1 : width + 1] = images.transpose(1, 0, 2)
    return board.reshape(height + 2, count * pitch)[:, : (count - 1) * pitch + width + 2]
