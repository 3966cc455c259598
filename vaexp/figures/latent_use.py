"""What each latent carries: its KL, and for how many images it carries any."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from vaexp.figures.charts import BEFORE, THIN, legend_at, whole_axis
from vaexp.figures.style import (
    DARK,
    FAINT,
    HALO,
    MARGIN,
    SMALL,
    TRAINING,
    Array,
    house_style,
    page,
    place,
)

Order = NDArray[np.integer[Any]]
Colours = NDArray[np.str_]

_NUMBERED = 16  # latents up to which each bar and curve has its number


@house_style()
def latent_use(
    kl: Array,
    mean_variance: Array,
    epsilon: Array,
    below: Array,
    subtitle: str,
    *,
    active: float,
    collapsed: tuple[float, float],
    note: str = "",
) -> Figure:
    """The KL of each latent as bars, the largest first, beside the shares of images without any.

    `kl` (L,), nats, is the mean of KL(q(z_l|x) to p(z_l)); latents whose posterior means vary by
    more than `active` over images (`mean_variance` (L,)) are in colour. `below` (E, L) is the share
    of images whose KL is below `epsilon` (E,). `collapsed` is (epsilon, delta): where the share at
    epsilon is at least 1 - delta the latent is collapsed.
    """
    order = np.argsort(-kl, kind="stable")
    used = mean_variance > active
    colours = np.where(used, TRAINING, FAINT)
    limit, delta = collapsed
    note = (
        f"A latent is active where the variance over images of its posterior mean is above "
        f"{active:g}, and collapsed where for at least {100 * (1 - delta):g}% of the images its KL "
        f"is below {limit:g} nats, the cross of the dashed lines.\n{note}"
    )
    width, height, legend = 480, 400, 34
    body = (2 * (BEFORE + width) + 40, legend + height + 70)
    figure, top = page(*body, "What each latent carries", subtitle, note)
    y, left = top + legend, MARGIN + BEFORE
    bars = place(figure, left, y, width, height, ylabel="mean KL(q(z|x) to p(z)), nats per image")
    _draw_bars(bars, kl, order, colours)
    shares = place(
        figure, left + width + 40 + BEFORE, y, width, height,
        xlabel="ε, nats, log scale", ylabel="images with a KL below ε in the latent",
    )  # fmt: skip
    shares.set(xscale="log", xlim=(epsilon[0], epsilon[-1]), ylim=(-0.02, 1.02))
    for dashed in (shares.axvline(limit), shares.axhline(1 - delta)):
        dashed.set(color=DARK, linestyle="--", linewidth=0.9)
    _draw_shares(shares, epsilon, below, order, colours)
    handles = [
        Patch(color=colour, label=name)
        for colour, name, chosen in ((TRAINING, "active", used), (FAINT, "not active", ~used))
        if chosen.any()
    ]
    legend_at(figure, handles, left, top)
    return figure


def _draw_bars(axes: Axes, kl: Array, order: Order, colours: Colours) -> None:
    """Draw the KL (L,) of the latents in an order (L,), each in its colour (L,)."""
    ranks = np.arange(1, len(kl) + 1)
    axes.bar(ranks, kl[order], color=colours[order], width=0.8)
    axes.set_xlim(0.4, len(kl) + 0.6)
    axes.grid(False, axis="x")
    if len(kl) <= _NUMBERED:
        axes.set_xticks(ranks, [str(latent + 1) for latent in order])
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("latent, the largest KL first")
    else:
        whole_axis(axes.xaxis)
        axes.set_xlabel("rank of the latent by its KL")


def _draw_shares(axes: Axes, epsilon: Array, below: Array, order: Order, colours: Colours) -> None:
    """Draw the shares `below` (E, L) against epsilon (E,), the first latent of the order on top."""
    numbered = len(order) <= _NUMBERED
    for latent in order[::-1]:
        axes.plot(
            epsilon, below[:, latent], color=colours[latent], linewidth=1.2 if numbered else THIN
        )
    if numbered:
        # Each at a height of its own, so that numbers of curves close together do not collide.
        levels = np.linspace(0.92, 0.08, len(order) + 2)[1:-1]
        for latent, level in zip(order, levels, strict=True):
            curve = below[:, latent]
            if curve[0] < level < curve[-1]:
                at = np.exp(np.interp(level, curve, np.log(epsilon)))
                axes.text(
                    at, level, str(latent + 1), ha="center", va="center", fontsize=SMALL,
                    color=DARK, path_effects=HALO,
                )  # fmt: skip
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
