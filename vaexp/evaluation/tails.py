"""How much of a mean over images rests on a few of them. This module imports no torch.

A density can be very low for a few images, above all where sigma is small. The mean over images and
its standard error are then statements about those few. What stands here says so.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vaexp.shown import contradict, show_number

SHARE = 100  # one image of so many is 1 % of them


@dataclass(frozen=True)
class Tails:
    """What stands beside the mean of heavy-tailed values. The names are those in metrics.json."""

    median: float | None = None
    """The median over images."""
    trimmed_mean_1_percent: float | None = None
    """The mean without the lowest 1 % and the highest 1 % of the images, floor(n / 100) each.

    None for fewer than 100 images, of which 1 % is less than one."""
    trimmed_mean_1_percent_se: float | None = None
    """Its standard error, s_w / ((1 - 2 g / n) sqrt(n)), where s_w is the standard deviation of the
    values with g of them at each end moved to the nearest that stays (Tukey and McLaughlin 1963,
    Less vulnerable confidence and significance procedures)."""
    extreme_1_percent: float | None = None
    """(1/n) times the sum of (value - median) over the 1 % of images, floor(n / 100), whose values
    lie furthest from the median. Mean - median is this plus the same of all other images. Of a
    density the furthest images are as a rule the worst. None for fewer than 100 images."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """The tails of at least one value (n,), one for each image; none if one is not finite."""
        ordered = np.sort(values.astype(np.float64))
        if not np.isfinite(ordered[[0, -1]]).all():
            return cls()
        n, cut = len(ordered), len(ordered) // SHARE
        median = float(np.median(ordered))
        if cut == 0:
            return cls(median)
        inner = ordered[cut : n - cut]
        winsorised = ordered.clip(inner[0], inner[-1])
        se = winsorised.std(ddof=1) / ((1 - 2 * cut / n) * math.sqrt(n))
        away = ordered - median
        furthest = np.argsort(-np.abs(away), kind="stable")[:cut]
        return cls(median, float(inner.mean()), float(se), float(away[furthest].sum() / n))

    @classmethod
    def stated(cls, entry: dict[str, Any]) -> Self:
        """Those that an entry of metrics.json states."""
        return cls(**{one.name: entry.get(one.name) for one in fields(cls)})

    def minus(self, other: "Tails") -> "Tails":
        """The difference of two independent samples, number by number; standard errors add up."""
        pairs = {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        }
        return Tails(
            **{
                name: math.hypot(a, b) if name.endswith("_se") else a - b
                for name, (a, b) in pairs.items()
                if a is not None and b is not None
            }
        )

    def facts(self, prefix: str = "") -> dict[str, float]:
        """What a metrics.json entry says of them: its keys begin with ``prefix``."""
        return {prefix + name: value for name, value in asdict(self).items() if value is not None}


ROWS = {
    "median": "median",
    "trimmed_mean_1_percent": "mean without the lowest and the highest 1 %",
    "extreme_1_percent": "part of mean − median that the furthest 1 % hold",
}
"""The rows that stand below a mean in a table, and their titles."""


def tail_numbers(tails: dict[str, Any], *, signed: bool = False) -> dict[str, str]:
    """The numbers of ROWS that an entry of metrics.json or a difference has, as text."""
    errors = {"trimmed_mean_1_percent": tails.get("trimmed_mean_1_percent_se")}
    return {
        row: show_number(tails[row], errors.get(row), signed=signed or row == "extreme_1_percent")
        for row in ROWS
        if tails.get(row) is not None
    }


def disagreement(tails: dict[str, Any]) -> str | None:
    """How the mean ``value`` and the ``median`` of an entry or a difference contradict each other.

    ``se`` is the standard error of the mean. Returns None where the two do not contradict each
    other, or where there is no median.
    """
    value, se, median = (tails.get(key) for key in ("value", "se", "median"))
    if value is None or se is None or median is None:
        return None
    if not contradict(value, se, median):
        return None
    how = "have different signs" if value * median < 0 else "differ by more than its error"
    sentence = f"the mean {show_number(value, se)} and the median {median:,.4g} {how}"
    extreme = tails.get("extreme_1_percent")
    if extreme is None:
        return sentence
    held = f"{extreme:+,.3g} of mean − median"
    return f"{sentence}; the 1 % of images furthest from the median hold {held}"
