"""Runs side by side: what each draws from the prior, and how it reconstructs the same images."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from vaexp.figures.mosaic import draw, ink_note, mosaic, scale_to
from vaexp.figures.style import (
    MARGIN,
    MUTED,
    SMALL,
    TEXT,
    Array,
    house_style,
    line_height,
    page,
    wrap,
    write,
)

# page pixels of an image's longer side: up to so many runs, and with more
_SIDES, _SMALLEST = ((8, 84), (40, 56)), 28
_NAMES, _ROWS = 250, 105  # pixels for the names of the runs, and for those of their rows
_HEADING, _APART, _BETWEEN = 12 + line_height(TEXT), 10, 34  # pixels: over a part, in it, after it


class RunImages(NamedTuple):
    """What is drawn of a run. Images are on the display scale."""

    name: str
    details: str
    """The settings of the run, which are cut where they do not fit beside its images."""
    means: Array
    """Mu(z) of latents from the prior, (n, H, W)."""
    draws: Array
    """X ~ p(x|z) of the same latents, (n, H, W)."""
    reconstructed_means: Array
    """Mu(z) of the codes of the test images, (m, H, W)."""
    reconstructed_draws: Array
    """X ~ p(x|z) of the same codes, (m, H, W)."""


@house_style()
def compare_runs(
    runs: Sequence[RunImages], x: Array, subtitle: str, *, same_latents: bool, note: str = ""
) -> Figure:
    """The same rows for every run, whatever its decode mode: mu(z), and a draw x ~ p(x|z).

    The first part has latents from the prior, which are the same in each column if `same_latents`.
    The second has the test images x (m, H, W), and what each run makes of their codes.
    """
    count = len(runs)
    side = next((side for most, side in _SIDES if count <= most), _SMALLEST)
    scale = scale_to(side, *x.shape[1:])
    tile = round(mosaic(x[None]).shape[0] * scale)
    pitch = 2 * tile + _APART
    columns = max(len(x), len(runs[0].means))
    width = _NAMES + _ROWS + round((columns * (x.shape[2] + 1) + 1) * scale)
    height = 2 * (_HEADING + count * pitch - _APART) + _BETWEEN + tile + _APART
    note = (
        "Each run has two rows: its mean μ(z), and below it a draw x ~ p(x|z) at the same z.\n"
        f"{note}{_note(runs, x)}"
    )
    figure, top = page(width, height, "Runs side by side", subtitle, note)
    heading = "Latents z ~ p(z), the same in each column for all runs"
    if not same_latents:
        heading = "Latents z ~ p(z), each run's own, as the latents of the runs differ in size"
    write(figure, MARGIN, top, heading, fontsize=TEXT, va="top")
    y = top + _HEADING
    for run in runs:
        _draw_run(figure, y, run.name, run.details, (run.means, run.draws), scale)
        y += pitch
    y += _BETWEEN - _APART
    write(figure, MARGIN, y, "Test images, and what each run makes of their codes",
          fontsize=TEXT, va="top")  # fmt: skip
    y += _HEADING
    _draw_row(figure, y, "test images", x, scale)
    y += tile + _APART
    for run in runs:
        rows = (run.reconstructed_means, run.reconstructed_draws)
        _draw_run(figure, y, run.name, "", rows, scale)
        y += pitch
    return figure


def _note(runs: Sequence[RunImages], x: Array) -> str:
    """What white and black are, for all images of the page."""
    return ink_note(x, *(images for run in runs for images in run[2:]))


def _draw_run(
    figure: Figure, top: float, name: str, details: str, rows: tuple[Array, Array], scale: float
) -> None:
    """Draw the mean and the draw of a run under each other, with its name before them."""
    tile = round(mosaic(rows[0][None]).shape[0] * scale)
    for row, (what, images) in enumerate(zip((r"$\mu(z)$", r"$x \sim p(x|z)$"), rows, strict=True)):
        _draw_row(figure, top + row * tile, what, images, scale, math=True)
    y, bottom = top + 4, top + 2 * tile
    for line in wrap(name, TEXT, _NAMES - 16):
        write(figure, MARGIN, y, line, fontsize=TEXT, va="top")
        y += line_height(TEXT)
    together = details.replace(" = ", "\u00a0=\u00a0")
    lines = wrap(together, SMALL, _NAMES - 16) if details else []
    room = max(int((bottom - y) / line_height(SMALL)), 0)
    for index, line in enumerate(lines[:room]):
        cut = index == room - 1 < len(lines) - 1
        write(figure, MARGIN, y, f"{line} …" if cut else line, fontsize=SMALL, color=MUTED,
              va="top")  # fmt: skip
        y += line_height(SMALL)


def _draw_row(
    figure: Figure, top: float, what: str, images: Array, scale: float, *, math: bool = False
) -> None:
    """Draw a row of images, with `what` they are before them."""
    board, left = mosaic(images[None]), MARGIN + _NAMES + _ROWS
    write(figure, left - 12, top + board.shape[0] * scale / 2, what, math=math, fontsize=SMALL,
          ha="right", va="center")  # fmt: skip
    draw(figure, board, left, top, scale)
