"""Heat maps of a number for each pixel of an image, beside each other, and colour bars."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from vaexp.figures.charts import log_view
from vaexp.figures.mosaic import scale_to
from vaexp.figures.style import HEAT, MUTED, SMALL, TEXT, Array, line_height, place, write

_SIDE = 252  # page pixels of the longer side of a map, and of the width of its place
_APART, _BAR = 46, 86  # pixels between maps, and for the colour bar under them


class Map(NamedTuple):
    """A number for each pixel of an image."""

    title: str
    unit: str
    values: Array
    """(H, W)."""
    scale: Normalize


def size_of_maps(maps: Sequence[Map]) -> tuple[int, int]:
    """Width and height, in pixels of the page, of what `draw_maps` draws."""
    if not maps:
        return 0, 0
    _, height = _size(maps[0])
    return len(maps) * (_SIDE + _APART) - _APART, line_height(TEXT) + 6 + height + _BAR


def _size(one: Map) -> tuple[int, int]:
    """The width and height of a map on the page."""
    height, width = one.values.shape
    scale = scale_to(_SIDE, height, width)
    return round(width * scale), round(height * scale)


def draw_maps(
    figure: Figure, left: float, top: float, maps: Sequence[Map], *, shared: bool = False
) -> None:
    """Draw maps beside each other, each with its own colour bar or all with a shared one."""
    for index, one in enumerate(maps):
        width, height = _size(one)
        x, y = left + index * (_SIDE + _APART), top + line_height(TEXT) + 6
        write(figure, x, y - 6, one.title, fontsize=TEXT, va="bottom")
        axes = place(figure, x, y, width, height)
        picture = axes.imshow(
            one.values, cmap=HEAT, norm=one.scale, aspect="auto", interpolation="nearest"
        )
        axes.set_axis_off()
        under = y + height
        if not shared:
            colour_bar(figure, picture, x, under + 12, _SIDE, one.unit)
            continue
        write(figure, x, under + 6, one.unit, fontsize=SMALL, color=MUTED, va="top")
        if index == 0:
            colour_bar(figure, picture, x, under + 34, _SIDE, "")


def colour_bar(
    figure: Figure, picture: ScalarMappable, left: float, top: float, width: float, label: str
) -> Axes:
    """Put the colour bar of a picture or of colours at a pixel of the page. Returns its axes."""
    axes = place(figure, left, top, width, 16)
    bar = figure.colorbar(picture, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    if isinstance(picture.norm, LogNorm):
        log_view(axes.xaxis, *picture.get_clim())
    else:
        axes.locator_params(nbins=5)
    axes.set_xlabel(label, fontsize=SMALL, color=MUTED)
    return axes
