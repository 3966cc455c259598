"""The look that all figures share: colours, fonts, the page with its title and note, and `save`.

Pages are laid out in whole pixels at `DPI`, counted from the top left. So one pixel of an MNIST
image covers the same whole number of pixels everywhere on a page, and lines of text never collide.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextToPath
from numpy.typing import NDArray

from vaexp.errors import RunError
from vaexp.files import replacing

Array = NDArray[np.floating[Any]]

DPI = 150
MARGIN = 40  # pixels around the page
MIN_WIDTH = 800  # pixels between the margins at least, so that a title has room

TITLE, TEXT, SMALL = 13.0, 9.5, 8.5  # font sizes, points
DARK, MUTED, FAINT = "#222222", "#5c5c5c", "#b5b5b5"
GAP = "#bccbdc"  # between tiles, with a tint that stands out from grey noise

# The ten colours of M. Petroff, which differ under each kind of colour blindness, one per label. In
# this order the two greys and the two blues are not those of digits that lie together (358, 479).
LABEL_COLOURS = (
    "#e76300", "#94a4a2", "#a96b59", "#bd1f01", "#832db6",
    "#92dadd", "#b9ac70", "#3f90da", "#717581", "#ffa90e",
)  # fmt: skip
TRAINING, VALIDATION = "#0072b2", "#d55e00"

# Images are dark ink on white paper: 0 is white, 1 is black. NaN is the gap between tiles.
INK = mpl.colormaps["gray_r"].with_extremes(bad=GAP)
HEAT = mpl.colormaps["viridis"].with_extremes(bad=GAP)

HALO = [withStroke(linewidth=2.5, foreground="white")]

_RC = {
    "figure.dpi": DPI,
    "savefig.dpi": "figure",
    "svg.hashsalt": "vaexp",  # the names inside of an SVG follow from it, and not from chance
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": SMALL,
    "text.color": DARK,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.labelcolor": DARK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "lines.linewidth": 1.6,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the style of this project, whatever the matplotlibrc of the user says.

    It is a context manager and a decorator.
    """
    with matplotlib.style.context(["default", _RC]):
        yield


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, *, math: bool = False) -> float:
    """The width of one line of text in pixels. With `math`, $...$ is mathtext."""
    font = FontProperties(family="DejaVu Sans", size=size)
    points = TextToPath().get_text_width_height_descent(text, font, math)[0]
    return float(points) * DPI / 72


def line_height(size: float) -> int:
    """The distance between lines of text in pixels, for a font size in points."""
    return round(1.35 * size * DPI / 72)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Break text into lines of at most `width` pixels, within a word only if it is too long."""
    space = text_width("a a", size) - 2 * text_width("a", size)
    lines: list[str] = []
    free = 0.0  # pixels left on the last line
    for word in text.split(" "):
        for part in _parts(word, size, width):
            needed = text_width(part, size)
            if lines and needed + space <= free:
                lines[-1] += f" {part}"
                free -= needed + space
            else:
                lines.append(part)
                free = width - needed
    return lines


def _parts(word: str, size: float, width: float) -> list[str]:
    """A word, cut into parts of at most `width` pixels, behind a hyphen or the like if possible."""
    parts = [word]
    while len(parts[-1]) > 1 and text_width(parts[-1], size) > width:
        last = parts.pop()
        fits = [n for n in range(1, len(last)) if text_width(last[:n], size) <= width]
        cut = max(fits, default=1)
        joint = max(last[:cut].rfind(one) for one in "-_/") + 1
        cut = joint if joint > cut // 2 else cut
        parts += [last[:cut], last[cut:]]
    return parts


def page(width: int, height: int, title: str, subtitle: str, note: str = "") -> tuple[Figure, int]:
    """Make a page around a body of `width` x `height` pixels.

    Returns the figure and the pixel row at which the body starts; its first column is `MARGIN`.
    Title, subtitle and note are wrapped to the page. They are plain text, in which a $ is a dollar.
    Together they are also the label of the figure, for those who do not see it.
    """
    room = max(width, MIN_WIDTH)
    titles = wrap(title, TITLE * 1.1, room)  # bold is wider than what `wrap` measures
    subtitles = wrap(subtitle, TEXT, room) if subtitle else []
    notes = [line for part in note.split("\n") if part for line in wrap(part, SMALL, room)]
    top = MARGIN + len(titles) * line_height(TITLE) + len(subtitles) * line_height(TEXT) + 20
    foot = 20 + len(notes) * line_height(SMALL) if notes else 0
    pixels = (room + 2 * MARGIN, top + height + foot + MARGIN)
    # Matplotlib rounds the size in pixels down: a hundredth of a pixel makes that the right one.
    figure = Figure(figsize=((pixels[0] + 0.01) / DPI, (pixels[1] + 0.01) / DPI), dpi=DPI)
    said = [text.strip().rstrip(".") for text in (title, subtitle, *note.split("\n"))]
    figure.set_label("".join(f"{text}. " for text in said if text).rstrip())
    row = MARGIN
    for line in titles:
        write(figure, MARGIN, row, line, fontsize=TITLE, fontweight="bold", va="top")
        row += line_height(TITLE)
    for line in subtitles:
        write(figure, MARGIN, row, line, fontsize=TEXT, color=MUTED, va="top")
        row += line_height(TEXT)
    row = top + height + 20
    for line in notes:
        write(figure, MARGIN, row, line, fontsize=SMALL, color=MUTED, va="top")
        row += line_height(SMALL)
    return figure, top


def write(figure: Figure, x: float, y: float, text: str, *, math: bool = False, **how: Any) -> None:
    """Write text with its anchor at pixel (x, y), counted from the top left."""
    width, height = figure.bbox.size
    figure.text(x / width, 1 - y / height, text, parse_math=math, **how)


def place(
    figure: Figure,
    left: float,
    top: float,
    width: float,
    height: float,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Axes:
    """Add axes that cover a rectangle of pixels, counted from the top left, with their names."""
    page_width, page_height = figure.bbox.size
    bottom = page_height - top - height
    axes = figure.add_axes(
        (left / page_width, bottom / page_height, width / page_width, height / page_height)
    )
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return axes


@house_style()
def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, as its path ends, with the same bytes for the same input.

    The path has the whole new file, or the old one if something fails. The label of the figure is
    the Description of a PNG or SVG and the Subject of a PDF. Raises RunError where the file cannot
    be written.
    """
    format_ = path.suffix[1:]
    said = str(figure.get_label())
    # With a date or the version of matplotlib in it, the file would depend on more than the
    # picture.
    match format_:
        case "svg":
            metadata = {"Creator": None, "Date": None, "Description": said}
        case "pdf":
            metadata = {"Creator": None, "Producer": None, "CreationDate": None, "Subject": said}
        case _:
            metadata = {"Software": None, "Description": said}
    # Level 3 takes half the time of the default, 6, for files that are 5 % larger.
    pixels: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if format_ == "png" else {}
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=format_, metadata=metadata, **pixels)
    except OSError as error:
        raise RunError(f"cannot write the figure {path}: {error.strerror or error}") from error
