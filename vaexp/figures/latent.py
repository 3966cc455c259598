"""The latent plane: what the decoder draws at each point."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaexp.figures.charts import abreast
from vaexp.figures.mosaic import draw, ink_note, mosaic, zoom
from vaexp.figures.style import (
    MARGIN,
    SMALL,
    TEXT,
    Array,
    house_style,
    line_height,
    page,
    text_width,
    write,
)


@house_style()
def latent_plane(
    planes: Sequence[Array],
    names: Sequence[str],
    horizontal: Array,
    vertical: Array,
    axis_names: tuple[str, str],
    subtitle: str,
    what: str = "Decoder mean μ(z)",
    note: str = "",
) -> Figure:
    """Images over a grid of the latent plane, one panel per plane (up to five abreast).

    A plane is (rows, cols, H, W): image [i, j] belongs to the latent (horizontal[j], vertical[i]),
    so vertical[0] is drawn at the bottom. Both grids increase, in steps of any size: ticks stand at
    the middle of tiles and say the z of these tiles. With one row it is a strip over one latent:
    strips lie under each other, and `vertical` and its name are not drawn. `names`, such as
    "digit 4", may be "". `axis_names` may use mathtext. `what` names the images in the title.
    """
    boards = [plane_board(plane) for plane in planes]
    height, width = boards[0].shape
    strip = len(planes[0]) == 1
    across, down = (1, len(boards)) if strip else abreast(len(boards), 5)
    labels = max(text_width(name, TEXT) for name in names)
    between, name_height = 26, (line_height(TEXT) + 6 if any(names) and not strip else 0)
    before = (round(labels) + 16 if labels else 0) if strip else 85
    under = 75  # tick labels and the axis' name
    room = (1140, 1140) if across == 1 else (1700 // across, 900 // down)
    scale = zoom(width, height, (1140, 110) if strip else room, most=4)
    panel = (round(width * scale), round(height * scale))
    pitch = (panel[0] + between, panel[1] + (10 if strip else between + name_height))
    body = (
        before + across * pitch[0] - between,
        name_height + down * pitch[1] - (pitch[1] - panel[1]) + under,
    )
    title = f"{what} over the latent {'axis' if strip else 'plane'}"
    note = "Each tile is decoded from the z at its middle, which the axes give.\n" + note
    figure, top = page(*body, title, subtitle, note + ink_note(*planes))

    for index, (board, name) in enumerate(zip(boards, names, strict=True)):
        row, column = divmod(index, across)
        left = MARGIN + before + column * pitch[0]
        y = top + name_height + row * pitch[1]
        axes = draw(figure, board, left, y, scale)
        frame(axes)
        lowest = index + across >= len(boards)
        ticks(axes, "x", horizontal, panel[0], width, axis_names[0] if lowest else None)
        if strip:
            axes.set_yticks([])
            write(figure, left - 12, y + panel[1] / 2, name, ha="right", va="center", fontsize=TEXT)
        else:
            # imshow counts rows downwards: the first vertical value is the last row of tiles.
            ticks(
                axes, "y", vertical[::-1], panel[1], height, axis_names[1] if column == 0 else None
            )
            write(figure, left, y - 6, name, va="bottom", fontsize=TEXT)
    return figure


def plane_board(plane: Array) -> Array:
    """Tile a plane (rows, cols, H, W) without gaps, its first row at the bottom."""
    return mosaic(plane[::-1], gap=0)


def frame(axes: Axes) -> None:
    """Draw the frame around an image again, without a grid."""
    axes.set_axis_on()
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)


def ticks(axes: Axes, side: str, grid: Array, room: float, length: int, name: str | None) -> None:
    """Put ticks at the middles of tiles that say their z (n,), and name the axis.

    The tiles cover `length` pixels of the array and `room` pixels of the page. Every tile has a
    tick where there is room for its number, otherwise every second or third and so on.
    """
    shown = [f"{value:.2f}".replace("-", "−") for value in np.round(grid, 2) + 0.0]
    if all(text.endswith("00") for text in shown):
        shown = [text[:-3] for text in shown]
    needed = line_height(SMALL) + 6.0
    if side == "x":
        needed = max(text_width(text, SMALL) for text in shown) + 12
    step = max(int(np.ceil(needed * len(grid) / room)), 1)
    chosen = np.arange(((len(grid) - 1) % step) // 2, len(grid), step)
    places = (chosen + 0.5) * length / len(grid) - 0.5
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_ticks(places.tolist(), [shown[i] if name is not None else "" for i in chosen])
    if name is not None:
        axis.set_label_text(name)
