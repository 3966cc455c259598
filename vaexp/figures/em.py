"""How EM went: its two steps, how close components come to a singularity, and what a floor does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from vaexp.figures.style import (
    DARK,
    HALO,
    LABEL_COLOURS,
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

M_STEP, E_STEP, GAP_KL = "#832db6", "#e69f00", "#fbe7bd"
_FEW = 15  # iterations up to which every point gets a marker
_STEPS = 6  # iterations that the staircase shows at most
_NAMED = 3  # components that end lowest, in each panel, that are named
_ROUNDING = 1e-10  # a fall of ln p(x) by less than this share of its size is rounding
_BEFORE = 125  # pixels left of a panel, for tick labels and the axis' name


@house_style()
def em_staircase(history: Sequence[Mapping[str, Any]], subtitle: str) -> Figure:
    """EM as its proof has it: the M-step raises the ELBO, the E-step closes the gap to ln p(x).

    ln p(x) = ELBO(q, theta) + KL(q to p(z|x, theta)). The M-step raises the ELBO from
    elbo_after_e of iteration t - 1 to elbo_after_m of t with q held; the E-step of t sets q to the
    posterior, KL = 0, which raises it to ln p(x) of t. On the left the first few such steps (later
    ones where the first is so large that no other would be seen), on the right the whole run and
    the increase of ln p(x) per iteration.

    `history` holds one or more records, the lines of metrics.jsonl: {"iteration": 0, 1, ...,
    "restart": 0, ..., "train": {"log_prob", "elbo_after_e", "elbo_after_m" (not at iteration 0)},
    "validation": {"log_prob"} or absent}, in mean nats per image. The restart of the highest final
    training log_prob is the one that is emphasised, and whose steps are drawn.
    """
    restarts = _restarts(history)
    kept = _kept(restarts)
    records = restarts[kept]
    iteration = np.array([record["iteration"] for record in records], dtype=float)
    after_e = _values(records, "train", "log_prob")
    after_m = _values(records, "train", "elbo_after_m")

    curves = []  # iterations (T,), ln p(x) (T,), colour, thick; the kept restart's last, on top
    for name in [*(name for name in restarts if name != kept), kept]:
        times = np.array([record["iteration"] for record in restarts[name]], dtype=float)
        for part, colour in (("validation", VALIDATION), ("train", TRAINING)):
            values = _values(restarts[name], part, "log_prob")
            if np.isfinite(values).any():
                curves.append((times, values, colour, name == kept))
    validated = any(colour == VALIDATION for _, _, colour, _ in curves)
    limits = _bulk([values for _, values, _, _ in curves])

    stepped = len(records) > 1
    note = ""
    if stepped:
        note += "At each M-step ln p(x) rises by at least as much as the ELBO, as q is no longer the "
        note += "posterior: the difference, shaded, is KL(q to p(z|x)). The E-step makes it 0.\n"
        gap = float(np.nanmax(np.abs(_values(records, "train", "elbo_after_e") - after_e)))
        note += f"After every E-step the ELBO equals ln p(x) up to {gap:.1g} nats.\n" if gap else ""
        note += _falls(iteration, after_e) + "\n"
    else:
        note += "No iterations: these are the initial parameters.\n"
    if len(restarts) > 1:
        note += f"Restart {kept} of 0 to {max(restarts)} is kept, as its final training ln p(x) is "
        note += "the highest: thick lines" + (" and the steps.\n" if stepped else ".\n")
    note += _away(curves, limits)

    width, height, table = (560, 430, 2 * line_height(SMALL) + 8) if stepped else (0, 300, 0)
    right_width, legend, title_height, under = 510, 60, 40, 70
    start = width + 30 + _BEFORE if stepped else 0
    body = (
        _BEFORE + start + right_width + 15,
        legend + title_height + height + under + table,
    )
    figure, top = page(*body, "Expectation maximisation", subtitle, note)
    y = top + legend + title_height
    if stepped:
        axes = place(figure, MARGIN + _BEFORE, y, width, height)
        first, last = _window(after_e)
        _stairs(axes, iteration, after_e, after_m, first, last)
        _gains(figure, axes, y + height + under, iteration, after_e, after_m, first, last)
        handles = [
            Line2D([], [], color=M_STEP, linewidth=3.5, label="M-step raises the ELBO, q held"),
            Line2D([], [], color=E_STEP, linewidth=3.5, label="E-step raises it to ln p(x)"),
            Line2D([], [], color=DARK, linewidth=1, marker="o", markersize=5, label="ln p(x)"),
            Patch(color=GAP_KL, label="KL(q to p(z|x)) = ln p(x) − ELBO"),
        ]
        _legend(figure, handles, MARGIN + _BEFORE, top, columns=2)

    left = MARGIN + start + _BEFORE
    if stepped:
        total = height + table
        upper = total - 210
        axes = place(figure, left, y, right_width, upper)
        lower = place(figure, left, y + upper + 50, right_width, 160)
        _increases(lower, iteration, after_e)
        lower.set_xlim(iteration[0] - 0.5, max(times[-1] for times, *_ in curves) + 0.5)
        axes.tick_params(labelbottom=False)
        axes.set_title("the whole run")
    else:
        axes = place(figure, left, y, right_width, height)
        axes.set_xlabel("iteration")
    for times, values, colour, thick in curves:
        _line(axes, times, values, limits, colour, thick=thick)
    axes.set_ylabel("ln p(x), nats per image")
    axes.set_ylim(limits)
    axes.set_xlim(iteration[0] - 0.5, max(times[-1] for times, *_ in curves) + 0.5)
    _plain(axes)
    handles = [Line2D([], [], color=TRAINING, label="training")]
    if validated:
        handles.append(Line2D([], [], color=VALIDATION, label="validation"))
    if len(restarts) > 1:
        handles.append(Line2D([], [], color=MUTED, linewidth=0.8, label="other restarts"))
    _legend(figure, handles, left, top, columns=3)
    return figure


@house_style()
def singularities(
    history: Sequence[Mapping[str, Any]],
    floor: float,
    subtitle: str,
    singular_below: int | None = None,
) -> Figure:
    """Smallest eigenvalue and effective number of images of each component, against iterations.

    A component whose covariance loses an eigenvalue while its images lie in its plane sends the
    likelihood to infinity; `floor` keeps eigenvalues (units of x squared) from falling below it,
    and 0 is no floor. `singular_below`, D + 1 for full covariances, is the number of images under
    which a covariance has eigenvalues of 0 but for the floor.

    `history` holds records as in `em_staircase` that also have "smallest_eigenvalue" and
    "effective_count", lists of K; those of the kept restart are drawn. The components that end
    lowest in a panel are named in both.
    """
    restarts = _restarts(history)
    kept = _kept(restarts)
    records = restarts[kept]
    iteration = np.array([record["iteration"] for record in records], dtype=float)
    smallest = np.array([record["smallest_eigenvalue"] for record in records], dtype=float)
    count = np.array([record["effective_count"] for record in records], dtype=float)
    components = count.shape[1]

    tied = components > 1 and bool((smallest == smallest[:, :1]).all())
    lowest = np.argsort(count[-1], kind="stable")[:_NAMED].tolist()
    if not tied:
        lowest = np.argsort(smallest[-1], kind="stable")[:_NAMED].tolist() + lowest
    named = list(dict.fromkeys(lowest))

    note = f"{components:,} component{'s' if components > 1 else ''}, counted from k = 0"
    if components > len(named):
        note += f"; the {len(named)} that end lowest in a panel are in colour, the others grey"
    note += f". Restart {kept} of 0 to {max(restarts)}.\n" if len(restarts) > 1 else ".\n"
    if floor > 0:
        near = int(np.sum(smallest[-1] <= 2 * floor))
        note += f"{near:,} of {components:,} end within a factor 2 of the floor of {floor:g}.\n"
    else:
        note += f"There is no floor. The smallest eigenvalue at the end is {smallest[-1].min():.3g}.\n"
    few = int(np.argmin(count[-1]))
    note += f"The smallest effective count at the end is {number(count[-1, few])} images (k = {few})"
    if singular_below is not None:
        below = int(np.sum(count[-1] < singular_below))
        note += f"; {below:,} of {components:,} end below {singular_below:,} images, where a "
        note += "covariance is singular but for the floor"
    note += ".\n"
    if (count < 0.1).any():
        note += "Counts below 0.1 images are drawn at the lower edge."

    width, height, beside, legend = 500, 400, 75, 34
    body = (2 * (_BEFORE + width + beside), legend + 40 + height + 65)
    title = "How close components come to a singularity"
    figure, top = page(*body, title, subtitle, note)
    y = top + legend + 40
    lines = [(floor, f"floor {floor:g}")] if floor > 0 else []
    left = place(figure, MARGIN + _BEFORE, y, width, height)
    shown = smallest[:, :1] if tied else smallest
    _components(left, iteration, shown, lines, {} if tied else _colours(named))
    left.set_title("smallest eigenvalue of the covariance" + (", shared by all" if tied else ""))
    left.set_ylabel("units of x squared, log scale")

    lines = [] if singular_below is None else [(singular_below, f"D + 1 = {singular_below:,}")]
    right = place(figure, MARGIN + 2 * _BEFORE + width + beside, y, width, height)
    _components(right, iteration, np.maximum(count, 0.1), lines, _colours(named))
    right.set_title("effective number of training images")
    right.set_ylabel("sum of responsibilities, log scale")
    return figure
