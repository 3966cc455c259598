"""How training went, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from vaexp.figures.style import (
    DARK,
    MARGIN,
    TRAINING,
    VALIDATION,
    Array,
    house_style,
    page,
    place,
)

_PANELS = {
    "elbo": "ELBO",
    "rate": "rate   KL(q(z|x) to p(z))",
    "distortion": "distortion   −E ln p(x|z)",
    "sigma": "σ of the decoder, log scale",
}
_FEW = 15  # epochs up to which every point gets a marker


@house_style()
def training_curves(history: Sequence[Mapping[str, Any]], subtitle: str) -> Figure:
    """ELBO, rate, distortion and (where there is one) sigma against epochs.

    `history` holds a record for each of one or more epochs, the lines of metrics.jsonl:
    {"epoch": 1, "beta": 1.0, "train": {"elbo", "rate", "distortion", "objective", "sigma"?},
    "validation": {"elbo", "rate", "distortion", "sigma"?} or absent}. The objective is drawn beside
    the ELBO where beta is not 1 throughout. A panel shows the bulk of its curves; values far from
    it are marked at the panel's edge and said in the note.
    """
    epochs = np.array([record["epoch"] for record in history], dtype=float)
    betas = [float(record.get("beta", 1.0)) for record in history]
    tempered = any(beta != 1 for beta in betas)
    panels: dict[str, list[tuple[Array, str, str]]] = {}  # values (E,), colour, line style
    for key in _PANELS:
        curves = [
            (_values(history, "train", key), TRAINING, "-"),
            (_values(history, "validation", key), VALIDATION, "-"),
        ]
        if key == "elbo" and tempered:
            curves.append((_values(history, "train", "objective"), TRAINING, "--"))
        if key != "sigma" or any(np.isfinite(values).any() for values, *_ in curves):
            panels[key] = curves

    limits = {key: _limits([values for values, *_ in panels[key]], key) for key in panels}
    validated = any(np.isfinite(curves[1][0]).any() for curves in panels.values())
    note = "Training values are averages over the epoch, while the weights change"
    note += "; validation is measured after it.\n" if validated else ".\n"
    note += "\n".join(_away(_PANELS[key].split("  ")[0], epochs, panels[key], limits[key])
                      for key in panels)  # fmt: skip

    across = 3 if len(panels) == 3 else 2
    width, height = (400, 340) if across == 3 else (560, 300)
    before, between, legend = 115, 60, 44
    rows = -(-len(panels) // across)
    body = (
        across * (before + width) + (across - 1) * 30,
        legend + rows * (height + 40) + rows * 60 + (rows - 1) * 10 + 15,
    )
    figure, top = page(*body, "Training curves", subtitle, note)
    for index, (key, curves) in enumerate(panels.items()):
        row, column = divmod(index, across)
        left = MARGIN + before + column * (before + width + 30)
        y = top + legend + 40 + row * (height + 40 + between + 10)
        axes = place(figure, left, y, width, height)
        axes.set_title(_PANELS[key])
        axes.set_xlabel("epoch")
        axes.set_ylabel("units of x" if key == "sigma" else "nats per image")
        _draw(axes, epochs, curves, limits[key], logarithmic=key == "sigma")

    handles = [Line2D([], [], color=TRAINING, label="training (average over the epoch)")]
    if validated:
        handles.append(Line2D([], [], color=VALIDATION, label="validation"))
    if tempered:
        span = f"{min(betas):g}" + (f" to {max(betas):g}" if min(betas) != max(betas) else "")
        name = f"training objective, β = {span}"
        handles.append(Line2D([], [], color=TRAINING, linestyle="--", label=name))
    page_width, page_height = figure.bbox.size
    figure.legend(
        handles=handles, loc="upper left", ncols=3, borderaxespad=0, borderpad=0,
        bbox_to_anchor=(MARGIN / page_width, 1 - (top + 4) / page_height),
    )  # fmt: skip
    return figure


def _values(history: Sequence[Mapping[str, Any]], part: str, key: str) -> Array:
    """One value per epoch, NaN where the record has none."""
    found = [(record.get(part) or {}).get(key) for record in history]
    return np.array([np.nan if value is None else value for value in found], dtype=float)


def _limits(curves: Sequence[Array], key: str) -> tuple[float, float]:
    """The range of values to show: all of them but those far from the middle four fifths."""
    shown = []
    for curve in curves:
        values = curve[np.isfinite(curve) & ((curve > 0) | (key != "sigma"))]
        values = np.log(values) if key == "sigma" else values
        if values.size >= 5:
            low = float(np.quantile(values, 0.1, method="higher"))
            high = float(np.quantile(values, 0.9, method="lower"))
            far = 10 * max(high - low, 1e-3 * abs(high))
            values = values[np.abs(values - (low + high) / 2) <= far]
        shown.append(values)
    together = np.concatenate(shown)
    if not together.size:
        return (0.1, 1.0) if key == "sigma" else (0.0, 1.0)
    low, high = float(np.min(together)), float(np.max(together))
    # A curve that does not move still needs a view of some height around it.
    least = 0.05 if key == "sigma" else 1e-3 * max(abs(low), abs(high), 1)
    pad = max(0.06 * (high - low), least)
    low, high = low - pad, high + pad
    return (float(np.exp(low)), float(np.exp(high))) if key == "sigma" else (low, high)


def _away(
    name: str,
    epochs: Array,
    curves: Sequence[tuple[Array, str, str]],
    limits: tuple[float, float],
) -> str:
    """Say which values the panel does not show; "" where it shows all."""
    said = []
    training = curves[0][0]
    if not np.isfinite(training).all():
        count = np.sum(~np.isfinite(training))
        said.append(f"{count} of {len(epochs)} training values are not finite")
    values = np.concatenate([curve[0] for curve in curves])
    when = np.tile(epochs, len(curves))
    for outside, extreme, word in (
        (np.isfinite(values) & (values < limits[0]), np.argmin, "lowest"),
        (np.isfinite(values) & (values > limits[1]), np.argmax, "highest"),
    ):
        if outside.any():
            at = np.flatnonzero(outside)
            worst = at[extreme(values[at])]
            count = f"{len(at)} value" + ("s" if len(at) > 1 else "")
            said.append(f"{count}, {word} {_number(values[worst])} at epoch {when[worst]:g}")
    return f"Out of view in {name}: {'; '.join(said)}." if said else ""


def _number(value: float) -> str:
    written = f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
    return written.replace("-", "−", 1) if value < 0 else written


def _draw(
    axes: Axes,
    epochs: Array,
    curves: Sequence[tuple[Array, str, str]],
    limits: tuple[float, float],
    *,
    logarithmic: bool,
) -> None:
    if logarithmic:
        axes.set_yscale("log")
    axes.set_ylim(limits)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    for values, colour, line in curves:
        there = np.isfinite(values)
        marker = "o" if there.sum() <= _FEW else ""
        axes.plot(epochs[there], values[there], color=colour, linestyle=line, marker=marker,
                  markersize=4)  # fmt: skip
        for outside, edge, sign in (
            (values < limits[0], limits[0], "v"),
            (values > limits[1], limits[1], "^"),
        ):
            axes.plot(
                epochs[outside], np.full(outside.sum(), edge), sign,
                color=colour, markeredgecolor=DARK, markeredgewidth=0.5, clip_on=False, zorder=5,
            )  # fmt: skip
    if not logarithmic:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        # No "1e6" above the axis, where the title is.
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    if logarithmic and limits[1] / limits[0] < 30:
        # Powers of ten alone would leave such a short axis with one number or none.
        ticks = MaxNLocator(5).tick_values(*limits)
        inside = [tick for tick in ticks if limits[0] <= tick <= limits[1] and tick > 0]
        axes.yaxis.set_major_locator(FixedLocator(inside))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
