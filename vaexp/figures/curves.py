"""How training went, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaexp.figures.charts import (
    Curve,
    bulk,
    draw_curves,
    legend_at,
    log_view,
    number,
    out_of_view,
    plain_axis,
    times_of,
    values_of,
    whole_axis,
)
from vaexp.figures.style import (
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


@house_style()
def training_curves(history: Sequence[Mapping[str, Any]], subtitle: str) -> Figure:
    """The ELBO, rate, distortion and, where there is one, sigma against epochs.

    A sigma that is the same in all epochs is a sentence and no panel.

    `history` holds a record for each of one or more epochs, the lines of metrics.jsonl:
    {"epoch": 1, "beta": 1.0, "train": {"elbo", "rate", "distortion", "objective", "sigma"?},
    "validation": {"elbo", "rate", "distortion", "sigma"?} or absent}. The objective is drawn beside
    the ELBO where beta is not 1 throughout. A panel shows the bulk of its curves; values far from
    it are marked at the edge of the panel and named in the note.
    """
    epochs = times_of(history, "epoch")
    betas = [float(record.get("beta", 1.0)) for record in history]
    panels = _panels(history, epochs, tempered=any(beta != 1 for beta in betas))
    constant = _constant(panels.get("sigma", []))
    if constant is not None:
        del panels["sigma"]
    limits = {key: _limits([curve.values for curve in panels[key]], key) for key in panels}
    validated = any(np.isfinite(curves[1].values).any() for curves in panels.values())
    note = "The ELBO is minus the sum of rate and distortion. "
    note += "Training values are averages over the epoch, while the weights change"
    note += "; validation is measured after it.\n" if validated else ".\n"
    if constant is not None:
        note += f"σ of the decoder is {number(constant)}, in units of x, in every epoch.\n"
    note += "\n".join(_away(_PANELS[key].split("  ")[0], panels[key], limits[key])
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
        unit = "units of x" if key == "sigma" else "nats per image"
        names = {"title": _PANELS[key], "xlabel": "epoch", "ylabel": unit}
        axes = place(figure, left, y, width, height, **names)
        draw_curves(axes, curves, limits[key])
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        whole_axis(axes.xaxis)
        if key == "sigma":
            log_view(axes.yaxis, *limits[key])
        else:
            plain_axis(axes.yaxis)
    legend_at(figure, _handles(betas, validated=validated), MARGIN, top)
    return figure


def _panels(
    history: Sequence[Mapping[str, Any]], epochs: Array, *, tempered: bool
) -> dict[str, list[Curve]]:
    """The curves of each panel: training, validation and, where `tempered`, the objective."""
    panels: dict[str, list[Curve]] = {}
    for key in _PANELS:
        curves = [
            Curve(epochs, values_of(history, "train", key), TRAINING),
            Curve(epochs, values_of(history, "validation", key), VALIDATION),
        ]
        if key == "elbo" and tempered:
            curves.append(Curve(epochs, values_of(history, "train", "objective"), TRAINING, "--"))
        if key != "sigma" or any(np.isfinite(curve.values).any() for curve in curves):
            panels[key] = curves
    return panels


def _constant(curves: Sequence[Curve]) -> float | None:
    """The value that several epochs share in all of these curves, or None."""
    found = np.concatenate([curve.values for curve in curves]) if curves else np.empty(0)
    found = found[np.isfinite(found)]
    alike = len(found) > 0 and np.ptp(found) <= 1e-6 * np.max(np.abs(found))
    return float(found[0]) if alike else None


def _handles(betas: Sequence[float], *, validated: bool) -> list[Line2D]:
    """The handles of the legend; the objective is named with the range of beta."""
    handles = [Line2D([], [], color=TRAINING, label="training (average over the epoch)")]
    if validated:
        handles.append(Line2D([], [], color=VALIDATION, label="validation"))
    if any(beta != 1 for beta in betas):
        span = f"{min(betas):g}" + (f" to {max(betas):g}" if min(betas) != max(betas) else "")
        name = f"training objective, β = {span}"
        handles.append(Line2D([], [], color=TRAINING, linestyle="--", label=name))
    return handles


def _limits(curves: Sequence[Array], key: str) -> tuple[float, float]:
    """The range of values to show with room around it, which for sigma is on a log scale."""
    sigma = key == "sigma"
    low, high = bulk([np.log(curve[curve > 0]) for curve in curves] if sigma else curves)
    # A curve that does not move still needs a view of some height around it.
    least = 0.05 if sigma else 1e-3 * max(abs(low), abs(high), 1)
    pad = max(0.06 * (high - low), least)
    low, high = low - pad, high + pad
    return (float(np.exp(low)), float(np.exp(high))) if sigma else (low, high)


def _away(name: str, curves: Sequence[Curve], limits: tuple[float, float]) -> str:
    """A sentence on the values that the panel does not show, or "" where it shows all."""
    training = curves[0].values
    broken = np.sum(~np.isfinite(training))
    note = ""
    if broken:
        note = f"{broken} of {len(training)} training values of {name} are not finite. "
    said = out_of_view(curves, limits, "epoch")
    return note + (f"Triangles mark what is out of view in {name}: {said}." if said else "")
