"""The posterior q(z|x) of test images: where the encoder puts them, and how wide."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse
from numpy.typing import NDArray

from vaexp.errors import RunError
from vaexp.figures.charts import abreast, number
from vaexp.figures.style import (
    DARK,
    GAP,
    HALO,
    LABEL_COLOURS,
    MARGIN,
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

Labels = NDArray[np.integer[Any]]

_OUTLINED = 3  # images of each label whose q is outlined where all labels share a panel
_OUTLINED_ALONE = 12  # images whose q is outlined in a panel of one label
_LEAST = 3.3  # standard deviations of the prior that a view holds on each side
_BEFORE, _UNDER, _BETWEEN = 85, 75, 26  # pixels left of a panel, under it, and from one to the next


class _Codes(NamedTuple):
    """The q(z|x) of N images in one or two latents."""

    mean: Array
    """(N, L)."""
    covariance: Array
    """(N, L, L)."""
    label: Labels
    """(N,); 0 where images have none."""
    labelled: bool

    def chosen(self, which: NDArray[Any]) -> "_Codes":
        """Those of the images that a mask (N,), or their numbers (n,), choose."""
        return _Codes(self.mean[which], self.covariance[which], self.label[which], self.labelled)

    def of(self, digit: int) -> "_Codes":
        """Those of the images with one label."""
        return self.chosen(self.label == digit)

    def first(self, count: int) -> "_Codes":
        """Those of the first images of each label, in the order of the labels."""
        kept = [np.flatnonzero(self.label == digit)[:count] for digit in np.unique(self.label)]
        return self.chosen(np.concatenate(kept))

    @property
    def of_each(self) -> str:
        """Words on whose first images something is said."""
        return " of each label" if self.labelled else ""


@house_style()
def posterior(
    mean: Array,
    covariance: Array,
    label: Labels | None,
    axis_names: tuple[str, str],
    subtitle: str,
    *,
    given_label: bool = False,
    note: str = "",
) -> Figure:
    """The posteriors q(z|x) = N(mean, covariance) of test images, over the prior N(0, I).

    `mean` (N, L) and `covariance` (N, L, L) are those of L = 1 or 2 latents and `label` (N,) the
    digits, or None where images have no labels. Every mean is a point, and the first images of each
    label also have an ellipse of one standard deviation. `given_label`: the model has a prior and a
    posterior for each label, so that each label has a panel; all panels have the same axes. With
    L = 1 the density of q(z) is drawn against that of N(0, 1), and under it one row per label; only
    the first of `axis_names`, which may use mathtext, is then used. The view holds at least three
    standard deviations of the prior; codes far from all others are left out, and the note says how
    many.

    Raises RunError where no mean is finite.
    """
    finite = np.isfinite(mean).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2))
    if not finite.any():
        raise RunError("no posterior mean is finite: the model's weights are broken")
    view, away = _view(mean)
    labels = np.zeros(len(mean), dtype=np.int64) if label is None else label
    codes = _Codes(mean, covariance, labels, label is not None).chosen(np.flatnonzero(finite))
    title = f"The posterior q(z|x) of {len(mean):,} test images"
    note = _widths(codes) + away + note
    if mean.shape[1] == 1:
        return _on_a_line(codes, axis_names[0], view, (title, subtitle, note), given_label)
    if given_label:
        return _panels(codes, axis_names, view, (title, subtitle, note))
    return _plane(codes, axis_names, view, (title, subtitle, note))


def _widths(codes: _Codes) -> str:
    """A sentence on how wide q is, which says whether the posterior has collapsed."""
    sigma = np.sqrt(np.diagonal(codes.covariance, axis1=1, axis2=2))
    medians = " and ".join(number(float(f"{value:.3g}")) for value in np.median(sigma, axis=0))
    where = ", across and up" if sigma.shape[1] > 1 else ""
    return (
        f"The median standard deviation of q(z|x) is {medians}{where}; that of the prior is 1. "
        "Where q has the mean 0 and the standard deviation 1 for every image, the code says "
        "nothing of the image.\n"
    )


class _View(NamedTuple):
    """A square part of the plane, or an interval of the axis, that a figure shows."""

    across: tuple[float, float]
    up: tuple[float, float]

    @property
    def side(self) -> float:
        """Its side in units of z."""
        return self.across[1] - self.across[0]


def _view(values: Array) -> tuple[_View, str]:
    """A view of the codes (N, L), L = 1 or 2, and a sentence on those outside of it, or "".

    The view holds 3 standard deviations of the prior, and all codes but those far from the others.
    """
    reach = np.max(np.abs(values), axis=1)
    finite = values[np.isfinite(reach)]
    # All codes, but for those more than twice as far out as 99 in 100 are.
    bulk = 2 * float(np.quantile(reach[np.isfinite(reach)], 0.99, method="lower"))
    kept = finite[np.max(np.abs(finite), axis=1) <= bulk]
    low = np.minimum(-_LEAST, 1.05 * np.min(kept, axis=0, initial=0))
    high = np.maximum(_LEAST, 1.05 * np.max(kept, axis=0, initial=0))
    middle, half = (low + high) / 2, float(np.max(high - low)) / 2
    away = int(np.sum(~(np.abs(values - middle) <= half).all(axis=1)))
    limits = [(float(one - half), float(one + half)) for one in middle]
    note = f"{away:,} of {len(values):,} codes lie out of view.\n" if away else ""
    return _View(limits[0], limits[-1]), note


def _plane(
    codes: _Codes, axis_names: tuple[str, str], view: _View, heading: tuple[str, str, str]
) -> Figure:
    """Draw the codes of all labels in one plane, coloured by label."""
    title, subtitle, more = heading
    side = 900
    coloured = ", in the colour of its label" if codes.labelled else ""
    note = (
        f"Each point is the mean of q(z|x) of an image{coloured}. The first "
        f"{_OUTLINED} images{codes.of_each} also have an outline: the ellipse of one standard "
        "deviation of q(z|x) around its mean.\n"
        "The circles are 1, 2 and 3 standard deviations of the prior N(0, I), with the share of "
        "its mass inside.\n"
    )
    if codes.labelled:
        note += "The numerals stand at the median of each label, with a line to it where they "
        note += "would collide.\n"
    note += more
    figure, top = page(_BEFORE + side + 140, side + _UNDER, title, subtitle, note)
    axes = place(figure, MARGIN + _BEFORE, top, side, side)
    axes.set(xlim=view.across, ylim=view.up, xlabel=axis_names[0], ylabel=axis_names[1])
    axes.locator_params(nbins=9, steps=[1, 2, 5, 10])

    # Later points hide earlier ones: a fixed shuffle keeps sorted labels from hiding each other.
    order = np.random.default_rng(0).permutation(len(codes.mean))
    points = codes.mean[order]
    colours = np.array(LABEL_COLOURS)[codes.label[order] % 10]
    size, opacity = (5.0, 0.5) if len(points) > 2000 else (12.0, 0.7)
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=opacity, linewidths=0)
    outlined = codes.first(_OUTLINED)
    for index in np.random.default_rng(0).permutation(len(outlined.mean)):
        colour = LABEL_COLOURS[outlined.label[index] % 10]
        axes.add_patch(_ellipse(outlined.mean[index], outlined.covariance[index], DARK, 2.0))
        axes.add_patch(_ellipse(outlined.mean[index], outlined.covariance[index], colour, 1.3))

    pixels_per_unit = side / view.side
    _prior_circles(axes, pixels_per_unit)
    if codes.labelled:
        _name_labels(axes, codes, 34 / pixels_per_unit)
    return figure


def _name_labels(axes: Axes, codes: _Codes, apart: float) -> None:
    """Write each label at its median, `apart` units from others, and add the legend of colours."""
    classes = np.unique(codes.label)
    medians = np.array([np.median(codes.mean[codes.label == digit], axis=0) for digit in classes])
    _numerals(axes, classes, medians, apart)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=LABEL_COLOURS[digit % 10], label=f"{digit}")
        for digit in classes
    ]
    axes.legend(
        handles=handles, title="label", loc="center left", bbox_to_anchor=(1.01, 0.5),
        fontsize=TEXT, title_fontsize=TEXT, labelspacing=0.7, handletextpad=0.2,
    )  # fmt: skip


def _panels(
    codes: _Codes, axis_names: tuple[str, str], view: _View, heading: tuple[str, str, str]
) -> Figure:
    """Draw the codes of each label in a panel of its own, all with the same axes."""
    title, subtitle, more = heading
    classes = np.unique(codes.label)
    across, down = abreast(len(classes), 5)
    side = min(1480 // across, 700)
    above = line_height(TEXT) + 6
    pitch = (side + _BETWEEN, side + _BETWEEN + above)
    note = (
        "Each panel has the test images of one digit, as the model is given the digit. Each point "
        f"is the mean of q(z|x) of an image. The first {_OUTLINED_ALONE} images also have an "
        "outline: the ellipse of one standard deviation of q(z|x) around its mean.\n"
        "The circles are 1, 2 and 3 standard deviations of the prior N(0, I), which hold 39%, 86% "
        f"and 99% of its mass.\n{more}"
    )
    body = (_BEFORE + across * pitch[0] - _BETWEEN, down * pitch[1] - _BETWEEN + _UNDER)
    figure, top = page(*body, title, subtitle, note)
    for index, digit in enumerate(classes):
        row, column = divmod(index, across)
        left, y = MARGIN + _BEFORE + column * pitch[0], top + above + row * pitch[1]
        axes = place(figure, left, y, side, side)
        axes.set(xlim=view.across, ylim=view.up)
        axes.locator_params(nbins=max(side // 60, 2), steps=[1, 2, 5, 10])
        write(figure, left, y - 6, f"digit {digit}", va="bottom", fontsize=TEXT)
        own = codes.of(digit)
        size = 4.0 if len(own.mean) > 200 else 9.0
        axes.scatter(own.mean[:, 0], own.mean[:, 1], s=size, c=TRAINING, alpha=0.45, linewidths=0)
        outlined = own.first(_OUTLINED_ALONE)
        for mean, covariance in zip(outlined.mean, outlined.covariance, strict=True):
            axes.add_patch(_ellipse(mean, covariance, VALIDATION, 0.9))
        _prior_circles(axes)
        lowest = index + across >= len(classes)
        axes.tick_params(labelbottom=lowest, labelleft=column == 0)
        axes.set(xlabel=axis_names[0] if lowest else "", ylabel="" if column else axis_names[1])
    return figure


def _ellipse(mean: Array, covariance: Array, colour: str, width: float) -> Ellipse:
    """The ellipse of one standard deviation of N(mean (2,), covariance (2, 2)), as an outline."""
    variances, axes = np.linalg.eigh(covariance)
    across, up = 2 * np.sqrt(np.maximum(variances, 0))
    angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    return Ellipse(
        (mean[0], mean[1]), across, up, angle=float(angle), fill=False, edgecolor=colour,
        linewidth=width, zorder=2.5,
    )  # fmt: skip


def _prior_circles(axes: Axes, pixels_per_unit: float | None = None) -> None:
    """Draw 1, 2 and 3 standard deviations of N(0, I), with the share of the mass inside each.

    The shares are written if `pixels_per_unit` is given.
    """
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=DARK, linewidth=0.9, zorder=3))
        # Zoomed far out the circles are too close for three numbers: only the outer one has its.
        if pixels_per_unit is not None and (radius == 3 or pixels_per_unit > 45):
            share = f"{1 - np.exp(-(radius**2) / 2):.0%}"
            place_at = (radius * np.cos(np.pi / 4), radius * np.sin(np.pi / 4))
            axes.annotate(
                share, place_at, xytext=(2, 2), textcoords="offset points",
                fontsize=SMALL, color=DARK, path_effects=HALO, zorder=5,
            )  # fmt: skip


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


def _on_a_line(
    codes: _Codes, axis_name: str, view: _View, heading: tuple[str, str, str], given_label: bool
) -> Figure:
    """Draw the codes of one latent: the density of q(z), and under it one row per label."""
    title, subtitle, more = heading
    classes = np.unique(codes.label)
    whose = "of the images of each label" if given_label else "of all images"
    note = (
        f"Above is the density of q(z), the mean of q(z|x) {whose}, over that of the prior "
        "N(0, 1).\n"
        f"Below, each point is the mean of q(z|x) of an image. The first {_OUTLINED} images"
        f"{codes.of_each} also have a line that reaches one standard deviation of q(z|x) to both "
        "sides. "
        "Heights within a row mean nothing. The vertical lines are 1, 2 and 3 standard deviations "
        f"of the prior.\n{more}"
    )
    width, upper, lower, legend = 1000, 260, 46 * len(classes) + 20, 34
    body = (_BEFORE + width + 200, legend + upper + 30 + lower + _UNDER)
    figure, top = page(*body, title, subtitle, note)
    left, y = MARGIN + _BEFORE, top + legend

    density = place(figure, left, y, width, upper)
    grid = np.linspace(*view.across, 401)
    prior = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    density.fill_between(grid, prior, color="#dddddd", linewidth=0, label="prior N(0, 1)")
    if given_label:
        for digit in classes:
            colour = LABEL_COLOURS[digit % 10]
            density.plot(grid, _aggregate(codes.of(digit), grid), color=colour, label=f"{digit}")
    else:
        density.plot(grid, _aggregate(codes, grid), color=TRAINING, label="q(z)")
    density.margins(y=0.12)
    density.set(xlim=view.across, ylabel="density")
    density.set_ylim(bottom=0)
    density.tick_params(labelbottom=False)
    density.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)

    rows = place(figure, left, y + upper + 30, width, lower)
    jitter = np.random.default_rng(0).uniform(-0.36, 0.36, len(codes.mean))
    height = np.searchsorted(classes, codes.label)
    colours = np.array(LABEL_COLOURS)[codes.label % 10]
    rows.scatter(codes.mean[:, 0], height + jitter, s=4, c=colours, alpha=0.6, linewidths=0)
    rows.vlines([-3, -2, -1, 1, 2, 3], -0.6, len(classes) - 0.4, color=GAP, linewidth=1, zorder=0)
    outlined = codes.first(_OUTLINED)
    sigma = np.sqrt(outlined.covariance[:, 0, 0])
    level = np.searchsorted(classes, outlined.label)
    counts = np.concatenate([np.arange(np.sum(level == row)) for row in range(len(classes))])
    offsets = 0.72 * (counts / max(_OUTLINED - 1, 1) - 0.5)
    middle = outlined.mean[:, 0]
    rows.hlines(level + offsets, middle - sigma, middle + sigma, color=DARK, linewidth=0.9)
    rows.set(xlim=view.across, ylim=(len(classes) - 0.4, -0.6), xlabel=axis_name)
    rows.set_yticks([])
    if codes.labelled:
        rows.set_ylabel("label")
        rows.set_yticks(range(len(classes)), [str(digit) for digit in classes])
    rows.grid(False)
    return figure


def _aggregate(codes: _Codes, grid: Array) -> Array:
    """The density of q(z), the mean of q(z|x) over images, at the points (G,) of a grid."""
    density = np.zeros(len(grid))
    variances = np.maximum(codes.covariance[:, 0, 0], 1e-12)
    for mean, variance in zip(codes.mean[:, 0], variances, strict=True):
        density += np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return density / len(codes.mean)
