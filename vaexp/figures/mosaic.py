"""Many small images put together as one big image, and the grey scale that they are drawn with."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from vaexp.figures.style import INK, Array, place

_LEAST_CONTRAST = 0.25  # of a row's standard deviation, which white and black at 0 and 1 must keep
_FAR = 0.01  # the share of pixels at either end whose own grey level may be lost
_STRETCH = 2  # how much wider the scale may become for their sake


def mosaic(images: Array, gap: int = 1) -> Array:
    """Tile images (R, C, H, W) into (R (H + gap) + gap, C (W + gap) + gap), row 0 at the top.

    The gaps, which also run around the edge, are NaN. An image that is NaN throughout stands for
    none, as at the end of a last row, and becomes blank paper.
    """
    images = np.where(np.isnan(images).all(axis=(2, 3), keepdims=True), 0.0, images)
    rows, columns, height, width = images.shape
    tiles = np.full((rows, height + gap, columns, width + gap), np.nan)
    tiles[:, gap:, :, gap:] = images.transpose(0, 2, 1, 3)
    board = tiles.reshape(rows * (height + gap), columns * (width + gap))
    return np.pad(board, ((0, gap), (0, gap)), constant_values=np.nan)


def zoom(width: int, height: int, room: tuple[int, int], most: int = 5) -> float:
    """The page pixels per array pixel with which (width, height) fits in `room`.

    It is at most `most`, and a whole number where it is 1 or more.
    """
    fit = min(room[0] / width, room[1] / height, most)
    return float(int(fit)) if fit >= 1 else fit


def scale_to(side: int, height: int, width: int) -> float:
    """The page pixels per pixel of an image (H, W) whose longer side gets about `side` of them.

    It is a whole number where it is 2 or more.
    """
    fit = side / max(height, width)
    return float(int(fit)) if fit >= 2 else fit


def draw(
    figure: Figure,
    board: Array,
    left: float,
    top: float,
    scale: float,
    colours: Colormap = INK,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Axes:
    """Show an array (H, W) with its top left corner at a pixel of the page; no axes around it.

    Values beyond `limits` are drawn as the nearest limit.
    """
    height, width = board.shape
    axes = place(figure, left, top, round(width * scale), round(height * scale))
    axes.imshow(
        np.clip(board, *limits),
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        interpolation="nearest" if scale >= 1 else "hanning",
    )
    axes.set_axis_off()
    return axes


def grey_limits(images: Array) -> tuple[float, float]:
    """The values of white and of black with which every row of images (R, C, H, W) shows something.

    They are 0 and 1, or the least and the largest value where 0 and 1 would leave a row solid
    white or black: where clipping takes three quarters of the row's standard deviation. Where a few
    pixels alone are far outside they are the quantiles that leave out the share _FAR at either end.
    """
    for row in images:
        # in float64, as the squares of what a diverged model draws overflow in float32
        values = row[~np.isnan(row)].astype(np.float64)
        if np.std(np.clip(values, 0, 1)) < _LEAST_CONTRAST * np.std(values):
            least, low, high, most = np.nanquantile(images, [0, _FAR, 1 - _FAR, 1])
            few = most - least > _STRETCH * (high - low)
            return (float(low), float(high)) if few else (float(least), float(most))
    return 0.0, 1.0


def ink_note(*images: Array | None) -> str:
    """Sentences on what white and black mean, and on the share of values outside [0, 1], if any."""
    values = np.concatenate([np.ravel(array) for array in images if array is not None])
    values = values[~np.isnan(values)]
    outside = float(np.mean((values < -0.005) | (values > 1.005))) if values.size else 0.0
    note = "White is 0 and black is 1."
    if outside == 0:
        return note
    share = f"{outside:.0%}" if outside >= 0.01 else "Under 1%"
    return f"{note} {share} of the pixel values lie outside and are drawn as the nearer of the two."
