"""The Parzen trap: images with a kernel on each, and the log density that these give others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vaexp.figures.charts import number, padded, plain_axis
from vaexp.figures.mosaic import draw, ink_note, mosaic, scale_to
from vaexp.figures.style import (
    DARK,
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

_SIDE = 56  # page pixels of the longer side of an image
_BAR = 420  # pixels of the longest bar
_APART = 60  # pixels between rows
_HEADING = 34


class Window(NamedTuple):
    """A set of images with a Gaussian kernel on each."""

    name: str
    kernels: int
    bandwidth: float
    log_prob: tuple[float, float]
    """The mean log density of test images and its standard error, in nats."""
    images: Array
    """Some of the set, (n, H, W)."""
    real: bool
    """Whether they are made of real images and not of the model's."""


@house_style()
def parzen_windows(windows: Sequence[Window], subtitle: str, note: str = "") -> Figure:
    """A row for each window: its images, and its log density with a 95% interval, as a point.

    The window with the highest log density is first. `note` says what follows from them.
    """
    rows = sorted(windows, key=lambda window: -window.log_prob[0])
    boards = [mosaic(window.images[None]) for window in rows]
    scale = scale_to(_SIDE, *rows[0].images.shape[1:])
    side, wide = (round(length * scale) for length in boards[0].shape)
    pitch = line_height(TEXT) + side + _APART
    left = MARGIN + wide + 60
    note = (
        "A Gaussian kernel lies on each image of a set, and the points are the mean log density "
        "that the kernels give to test images, with 95% intervals. The bandwidth h is the best "
        "one on validation images."
        f"{note}\n{ink_note(*(window.images for window in rows))}"
    )
    body = (left - MARGIN + _BAR, _HEADING + len(rows) * pitch + 75)
    title = "The Parzen trap: a window around images is no likelihood"
    figure, top = page(*body, title, subtitle, note)
    values = np.array([window.log_prob for window in rows])
    reach = 1.96 * values[:, 1]
    low, high = padded(float((values[:, 0] - reach).min()), float((values[:, 0] + reach).max()))
    height = len(rows) * pitch
    axes = place(figure, left, top + _HEADING, _BAR, height)
    axes.set(xlim=(low, high), ylim=(height, 0), xlabel="ln p(x) by the window, nats per image")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    plain_axis(axes.xaxis)
    for row, (window, board) in enumerate(zip(rows, boards, strict=True)):
        y = top + _HEADING + row * pitch
        write(figure, MARGIN, y, window.name, fontsize=TEXT, va="top")
        said = f"{window.kernels:,} kernels, h = {window.bandwidth:.3g}"
        draw(figure, board, MARGIN, y + line_height(TEXT) + 6, scale)
        under = y + line_height(TEXT) + 6 + side + 4
        write(figure, MARGIN, under, said, fontsize=SMALL, color=MUTED, va="top")
        middle = row * pitch + line_height(TEXT) + 6 + side / 2
        value, error = window.log_prob
        axes.errorbar(
            value, middle, xerr=1.96 * error, fmt="o", ms=7, capsize=3, elinewidth=1.4,
            color=VALIDATION if window.real else TRAINING, ecolor=DARK,
        )  # fmt: skip
        axes.annotate(
            number(value), (value, middle), (0, 10), textcoords="offset points", ha="center",
            fontsize=SMALL,
        )  # fmt: skip
    return figure
