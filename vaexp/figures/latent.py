"""The latent space: what the decoder draws at each point, and where the encoder puts images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vaexp.errors import RunError
from vaexp.figures.mosaic import clipping_note, draw, mosaic, zoom
from vaexp.figures.style import (
    DARK,
    GAP,
    HALO,
    LABEL_COLOURS,
    MARGIN,
    SMALL,
    TEXT,
    Array,
    house_style,
    line_height,
    page,
    place,
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
) -> Figure:
    """Images over a grid of the latent plane, one panel per plane (up to five abreast).

    A plane is (rows, cols, H, W): image [i, j] belongs to the latent (horizontal[j], vertical[i]),
    so vertical[0] is drawn at the bottom. Both grids increase. With one row it is a strip over one
    latent: strips lie under each other, and `vertical` and its name are not drawn. `names`, such as
    "digit 4", may be "". `axis_names` may use mathtext. `what` names the images in the title.
    """
    boards = [plane_board(plane) for plane in planes]
    height, width = boards[0].shape
    strip = len(planes[0]) == 1
    across = 1 if strip else min(len(boards), 5)
    down = -(-len(boards) // across)
    labels = max(text_width(name, TEXT) for name in names)
    between, name_height = 26, (line_height(TEXT) + 6 if any(names) and not strip else 0)
    before = (round(labels) + 16 if labels else 0) if strip else 85
    under = 75  # tick labels and the axis' name
    room = (1140, 1140) if across == 1 else (1500 // across, 900 // down)
    scale = zoom(width, height, (1140, 110) if strip else room, most=4)
    panel = (round(width * scale), round(height * scale))
    pitch = (panel[0] + between, panel[1] + (10 if strip else between + name_height))
    body = (
        before + across * pitch[0] - between,
        name_height + down * pitch[1] - (pitch[1] - panel[1]) + under,
    )
    title = f"{what} over the latent {'axis' if strip else 'plane'}"
    figure, top = page(*body, title, subtitle, clipping_note(*planes))

    for index, (board, name) in enumerate(zip(boards, names, strict=True)):
        row, column = divmod(index, across)
        left = MARGIN + before + column * pitch[0]
        y = top + name_height + row * pitch[1]
        axes = draw(figure, board, left, y, scale)
        _frame(axes)
        lowest = index + across >= len(boards)
        _ticks(axes, "x", horizontal, width, axis_names[0] if lowest else None)
        if strip:
            axes.set_yticks([])
            write(figure, left - 12, y + panel[1] / 2, name, ha="right", va="center", fontsize=TEXT)
        else:
            # imshow counts rows downwards: the first vertical value is the last row of tiles.
            _ticks(axes, "y", vertical[::-1], height, axis_names[1] if column == 0 else None)
            write(figure, left, y - 6, name, va="bottom", fontsize=TEXT)
    return figure


def plane_board(plane: Array) -> Array:
    """Tile a plane (rows, cols, H, W) without gaps, its first row at the bottom."""
    return mosaic(plane[::-1], gap=0)


def _frame(axes: Axes) -> None:
    axes.set_axis_on()
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)


def _ticks(axes: Axes, side: str, grid: Array, length: int, name: str | None) -> None:
    """Put ticks at a few round latent values along `length` pixels of tiles, and name the axis."""
    low, high = float(np.min(grid)), float(np.max(grid))
    values = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high) if high > low else [low]
    slack = 1e-9 * (high - low)
    kept = [value for value in values if low - slack <= value <= high + slack]
    order = np.argsort(grid)
    centres = (np.arange(len(grid)) + 0.5) * length / len(grid) - 0.5
    places = np.interp(kept, np.asarray(grid)[order], centres[order])
    shown = [f"{value:g}".replace("-", "−") for value in np.round(kept, 9)]
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_ticks(places.tolist(), shown if name is not None else [""] * len(shown))
    if name is not None:
        axis.set_label_text(name)


@house_style()
def posterior(
    mean: Array, label: NDArray[np.integer[Any]], axis_names: tuple[str, str], subtitle: str
) -> Figure:
    """Posterior means (N, 2) of test images, coloured by label (N,), over the prior N(0, I).

    Means (N, 1) are drawn against the density of N(0, 1), with one row per label; only the first
    of `axis_names`, which may use mathtext, is then used. The view holds at least the circle of
    three standard deviations; codes far from all others are left out, and the note says how many.

    Raises RunError where no mean is finite.
    """
    title = f"Posterior means of {len(mean):,} test images"
    finite = np.isfinite(mean).all(axis=1)
    if not finite.any():
        raise RunError("no posterior mean is finite: the model's weights are broken")
    half, away = _view(mean)
    mean, label = mean[finite], label[finite]
    if mean.shape[1] == 1:
        return _posterior_line(mean[:, 0], label, axis_names[0], half, title, subtitle, away)
    side = 900
    note = (
        "Circles: 1, 2 and 3 standard deviations of the prior N(0, I), and the share of its mass "
        "inside.\n"
        "Numerals: the median of each label, with a line to it where numerals would collide.\n"
        + away
    )
    figure, top = page(85 + side + 140, side + 70, title, subtitle, note)
    axes = place(figure, MARGIN + 85, top, side, side)
    axes.set(xlim=(-half, half), ylim=(-half, half), xlabel=axis_names[0], ylabel=axis_names[1])
    axes.locator_params(nbins=9, steps=[1, 2, 5, 10])

    # Later points hide earlier ones: a fixed shuffle keeps sorted labels from hiding each other.
    order = np.random.default_rng(0).permutation(len(mean))
    points = mean[order]
    colours = np.array(LABEL_COLOURS)[label[order] % 10]
    size, opacity = (5.0, 0.6) if len(mean) > 2000 else (12.0, 0.8)
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=opacity, linewidths=0)

    pixels_per_unit = side / (2 * half)
    _prior_circles(axes, pixels_per_unit)
    classes = np.unique(label)
    medians = np.array([np.median(mean[label == digit], axis=0) for digit in classes])
    _numerals(axes, classes, medians, 34 / pixels_per_unit)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=LABEL_COLOURS[digit % 10], label=f"{digit}")
        for digit in classes
    ]
    axes.legend(
        handles=handles, title="label", loc="center left", bbox_to_anchor=(1.01, 0.5),
        fontsize=TEXT, title_fontsize=TEXT, labelspacing=0.7, handletextpad=0.2,
    )  # fmt: skip
    return figure


def _prior_circles(axes: Axes, pixels_per_unit: float) -> None:
    """Draw 1, 2 and 3 standard deviations of N(0, I), with the share of the mass inside each."""
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=DARK, linewidth=0.9, zorder=3))
        # Zoomed far out the circles are too close for three numbers: only the outer one has its.
        if radius == 3 or pixels_per_unit > 45:
            share = f"{1 - np.exp(-(radius**2) / 2):.0%}"
            place_at = (radius * np.cos(np.pi / 4), radius * np.sin(np.pi / 4))
            axes.annotate(
                share, place_at, xytext=(2, 2), textcoords="offset points",
                fontsize=SMALL, color=DARK, path_effects=HALO, zorder=5,
            )  # fmt: skip


def _view(values: Array) -> tuple[float, str]:
    """Half the width of a square view, and a sentence on the codes (N, L) that lie outside, or "".

    The view holds 3 standard deviations of the prior, and all codes but those far from the others.
    """
    reach = np.max(np.abs(values), axis=1)
    finite = reach[np.isfinite(reach)]
    # All codes, but for those more than twice as far out as 99 in 100 are.
    bulk = 2 * float(np.quantile(finite, 0.99, method="lower"))
    half = max(3.3, 1.05 * float(np.max(finite[finite <= bulk], initial=0)))
    away = int(np.sum(~(reach <= half)))
    return half, f"{away:,} of {len(values):,} codes lie out of view." if away else ""


def _numerals(axes: Axes, classes: NDArray[Any], medians: Array, apart: float) -> None:
    """Write each label at its median; labels closer than `apart` are moved, with a line back."""
    spots = _spread(medians, apart)
    for digit, median, spot in zip(classes, medians, spots, strict=True):
        colour = LABEL_COLOURS[digit % 10]
        if np.hypot(*(spot - median)) > apart / 2:
            axes.plot(*zip(median, spot, strict=True), color=DARK, linewidth=0.7, zorder=4)
        axes.text(
            spot[0], spot[1], str(digit), ha="center", va="center", fontsize=13, fontweight="bold",
            color=DARK, zorder=6, clip_on=True,
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": colour,
                  "linewidth": 1.6, "alpha": 0.9},
        )  # fmt: skip


def _spread(centres: Array, apart: float) -> Array:
    """Move apart those points (C, 2) that are closer to another than `apart`."""
    overlap, _ = _overlap(centres, apart)
    crowd = np.sum(overlap > 0, axis=1, keepdims=True)
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(centres)) / len(centres)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # Points that crowd together start on a ring around their place, in order and large enough.
    spots = centres + np.where(crowd > 0, 0.18 * apart * (crowd + 1) * ring, 0)
    for _ in range(500):
        overlap, direction = _overlap(spots, apart)
        if not overlap.any():
            break
        # Small steps: with whole ones, points that meet at one place would cross each other.
        spots = spots + 0.1 * np.sum(overlap[..., None] * direction, axis=1)
    return spots


def _overlap(points: Array, apart: float) -> tuple[Array, Array]:
    """By how much each pair of points (C, 2) is closer than `apart`, (C, C), and their directions.

    A direction is the unit vector from the second point of a pair to the first, (C, C, 2).
    """
    step = points[:, None] - points[None]
    distance = np.hypot(step[..., 0], step[..., 1])
    overlap: Array = np.maximum(apart - distance, 0)
    overlap[overlap < 0.01 * apart] = 0
    np.fill_diagonal(overlap, 0)
    return overlap, step / np.where(distance == 0, 1, distance)[..., None]


def _posterior_line(
    mean: Array,
    label: NDArray[np.integer[Any]],
    axis_name: str,
    half: float,
    title: str,
    subtitle: str,
    away: str,
) -> Figure:
    """Draw posterior means (N,) of one latent: their density, and under it one row per label."""
    classes = np.unique(label)
    width, upper, lower = 1000, 260, 46 * len(classes) + 20
    note = (
        "Below, each point is one image, scattered vertically only to keep points apart.\n"
        "Vertical lines: 1, 2 and 3 standard deviations of the prior N(0, 1).\n" + away
    )
    figure, top = page(85 + width, upper + 30 + lower + 70, title, subtitle, note)
    left = MARGIN + 85

    density = place(figure, left, top, width, upper)
    grid = np.linspace(-half, half, 401)
    density.hist(
        mean, bins=np.linspace(-half, half, 81).tolist(), density=True, color="#bdbdbd",
        label="posterior means", histtype="stepfilled",
    )  # fmt: skip
    prior = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    density.plot(grid, prior, color=DARK, label="prior N(0, 1)")
    density.margins(y=0.12)
    density.set(xlim=(-half, half), ylabel="density")
    density.tick_params(labelbottom=False)
    density.legend(loc="upper right")

    rows = place(figure, left, top + upper + 30, width, lower)
    jitter = np.random.default_rng(0).uniform(-0.36, 0.36, len(mean))
    height = np.searchsorted(classes, label)
    colours = np.array(LABEL_COLOURS)[label % 10]
    rows.scatter(mean, height + jitter, s=4, c=colours, alpha=0.6, linewidths=0)
    rows.vlines([-3, -2, -1, 1, 2, 3], -0.6, len(classes) - 0.4, color=GAP, linewidth=1, zorder=0)
    rows.set(xlim=(-half, half), ylim=(len(classes) - 0.4, -0.6), xlabel=axis_name, ylabel="label")
    rows.set_yticks(range(len(classes)), [str(digit) for digit in classes])
    rows.grid(False)
    return figure
