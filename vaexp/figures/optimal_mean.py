"""The best mean mu*(z) that a decoder could draw, and the learned one, over the latent plane."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from vaexp.figures.charts import number
from vaexp.figures.latent import frame, plane_board, ticks
from vaexp.figures.mosaic import draw, ink_note, zoom
from vaexp.figures.style import (
    MARGIN,
    TEXT,
    VALIDATION,
    Array,
    house_style,
    line_height,
    page,
    write,
)

_DIFFERENCE = mpl.colormaps["RdBu_r"]


@house_style()
def optimal_means(
    optimal: Array,
    learned: Array,
    names: Sequence[str],
    grid: Array,
    outside: Array | None,
    subtitle: str,
    note: str = "",
) -> Figure:
    """mu*(z), mu(z) and their difference over the latent plane, a row of three for each name.

    `optimal` and `learned` are (P, G, G, H, W): [p, i, j] belongs to z = (grid[j], grid[i]), so
    that row i = 0 is drawn at the bottom. `names` (P,), such as "digit 4", may be "". A line is
    drawn around the tiles that are not `outside` (P, G, G).
    """
    boards = [
        [plane_board(best), plane_board(ours), plane_board(ours - best)]
        for best, ours in zip(optimal, learned, strict=True)
    ]
    reach = max(float(np.quantile(np.abs(learned - optimal), 0.999)), 0.01)
    height, width = boards[0][0].shape
    scale = zoom(width, height, (560, 560), most=4)
    panel = (round(width * scale), round(height * scale))
    before, between, above, under = 85, 26, line_height(TEXT) + 6, 75
    body = (
        before + 3 * (panel[0] + between) - between,
        len(boards) * (panel[1] + above + 20) + under,
    )
    title = "The best mean μ*(z) and the learned μ(z) over the latent plane"
    words = f"{_words(reach, outside)}\n{ink_note(optimal, learned)}\n{note}"
    figure, top = page(*body, title, subtitle, words)
    for row, (three, name) in enumerate(zip(boards, names, strict=True)):
        y = top + above + row * (panel[1] + above + 20)
        for column, (board, what) in enumerate(
            zip(three, ("μ*(z)", "μ(z)", "μ(z) − μ*(z)"), strict=True)
        ):
            left = MARGIN + before + column * (panel[0] + between)
            difference = column == 2
            look = (_DIFFERENCE, (-reach, reach)) if difference else ()
            axes = draw(figure, board, left, y, scale, *look)
            frame(axes)
            lowest = row == len(boards) - 1
            ticks(axes, "x", grid, panel[0], width, "$z_1$" if lowest else None)
            ticks(axes, "y", grid[::-1], panel[1], height, None if column else "$z_2$")
            write(figure, left, y - 6, f"{name}: {what}" if name else what, va="bottom",
                  fontsize=TEXT)  # fmt: skip
            if outside is not None:
                _outline(axes, ~outside[row], height)
    return figure


def _words(reach: float, outside: Array | None) -> str:
    """What the panels, their colours and the line mean."""
    inside = ""
    if outside is not None and outside.any() and not outside.all():
        inside = "The line is around the tiles whose z lies where 99% of the test images' codes do."
    elif outside is not None:
        side = "outside of" if outside.all() else "in"
        inside = f"All tiles lie {side} the region with 99% of the test images' codes."
    return (
        "μ*(z) is the average of the training images, weighted by q(z|x): with this encoder no "
        "decoder has a smaller squared error. Red in the difference is more ink in μ(z), blue is "
        f"less, and the full colours are at ±{number(reach)}.\n"
        f"{inside} The axes are spaced by quantiles of N(0, 1)."
    )


def _outline(axes: Axes, inside: Array, length: int) -> None:
    """Draw a line around the tiles that are `inside` (G, G), row 0 at the bottom.

    The tiles cover `length` pixels of the array in each direction.
    """
    tile = length / len(inside)
    shown = np.pad(inside[::-1], 1).astype(int)  # row 0 at the top, as in the picture
    lines = []
    for i, j in np.argwhere(np.diff(shown, axis=1)):  # between columns j - 1 and j of the tiles
        lines.append([(j * tile - 0.5, (i - 1) * tile - 0.5), (j * tile - 0.5, i * tile - 0.5)])
    for i, j in np.argwhere(np.diff(shown, axis=0)):
        lines.append([((j - 1) * tile - 0.5, i * tile - 0.5), (j * tile - 0.5, i * tile - 0.5)])
    axes.add_collection(LineCollection(lines, colors=VALIDATION, linewidths=1.6, zorder=3))
