"""Reading a figure as drawn, and the page of a comparison as a browser would."""

import html.parser
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

PNG = b"\x89PNG"


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(PNG)


def tick_labels(axes: Axes) -> list[list[Text]]:
    """The tick labels in view, of x and of y."""
    sides = []
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        ticks = [t for t in axis.get_major_ticks() if min(limits) <= t.get_loc() <= max(limits)]
        labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
        sides.append([label for label in labels if label.get_visible()])
    return sides


def shown_texts(figure: Figure, *, on_charts: bool = True) -> list[Text]:
    """Every text in view on a page: its own, and that of axes, ticks and legends.

    ``on_charts``: with the texts that stand on a chart beside what they name.
    """
    shown = list(figure.texts)
    for axes in figure.axes:
        shown += [*(axes.texts if on_charts else []), axes._left_title]
        if axes.axison:
            shown += [axes.xaxis.label, axes.yaxis.label]
            shown += [label for side in tick_labels(axes) for label in side]
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        shown += legend.get_texts() if legend else []
    return [text for text in shown if text.get_visible() and text.get_text()]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in shown_texts(figure)]


def pixels(figure: Figure) -> np.ndarray:
    """The page as drawn, (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def assert_readable(figure: Figure, *, on_charts: bool = True) -> None:
    """No text is off the page or over other text, and the outermost pixels are paper.

    Without ``on_charts``, names on a chart may lie over each other, as the things named do.
    """
    page = pixels(figure)
    height, width, _ = page.shape
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    shown = shown_texts(figure, on_charts=on_charts)
    boxes = np.array([text.get_window_extent(renderer).extents for text in shown])
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    assert [text.get_text() for text, fits in zip(shown, inside, strict=True) if not fits] == []
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    # A pixel or two of the boxes is leading, not ink.
    over = np.argwhere(np.triu((high - low > 3).all(axis=2), 1))
    assert [(shown[a].get_text(), shown[b].get_text()) for a, b in over] == []
    edge = np.concatenate([page[:3].ravel(), page[-3:].ravel(), page[:, :3].ravel()])
    assert (np.append(edge, page[:, -3:].ravel()) == 255).all()


class Page(html.parser.HTMLParser):
    """An HTML page: its tags with their attributes, what it would fetch, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.found]

    @property
    def sources(self) -> list[str]:
        fetched = ("src", "href", "srcset")
        return [value or "" for _, attrs in self.found for key, value in attrs.items()
                if key in fetched]  # fmt: skip

    def of(self, tag: str, name: str) -> list[str | None]:
        return [attrs[name] for found, attrs in self.found if found == tag and name in attrs]
