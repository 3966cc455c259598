"""Settings, numbers and metrics as text."""

import math
from typing import Any

ABSENT = "–"


def show_value(value: Any) -> str:
    """A setting in the form that it has in a config."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_entry(entry: dict[str, Any] | None, beside: str = "") -> str:
    """A metric as text: its value ± standard error, and what one must know to read it.

    ``beside`` stands right behind the number. A density shows its sigma or its floor, or that
    nothing bounds it; where a floor of variances is given as one of sigma too, it shows both. The
    median over images of the effective sample size is shown if it is small, and else the share of
    images for which it is, from 0.5 % on. A measure of the first images only shows how many these
    are.
    """
    if entry is None:
        return ABSENT
    text = show_number(entry["value"], entry.get("se")) + beside
    if entry.get("measure") == "density":
        if "unbounded" in entry:
            text += " [unbounded]"
        elif "sigma_floor" in entry:
            squared = entry.get("covariance_floor")
            both = "" if squared is None else f", σ² ≥ {squared:g}"
            text += f" [σ ≥ {entry['sigma_floor']:g}{both}]"
        elif "sigma" in entry:
            text += f" [σ = {entry['sigma']:g}]"
        elif "covariance_floor" in entry:
            text += f" [floor {entry['covariance_floor']:g}]"
    if _has_few_samples(entry):
        text += f" (only {entry['effective_samples']:.1f} effective samples)"
    elif is_unreliable(entry):
        few = entry["share_below_10_effective_samples"]
        text += f" ({few:.0%} of images below 10 effective samples)"
    if first := entry.get("first_images"):
        text += f" (n = {first:,})"
    return text


def contradict(value: float, se: float, median: float) -> bool:
    """Whether a mean over images and their median contradict each other.

    They do if their signs differ, or if they are further apart than the error ``se`` of the mean.
    A few images far from all others then carry the mean.
    """
    return value * median < 0 or abs(value - median) > se


def median_beside(entry: dict[str, Any], error: float | None = None) -> str:
    """Behind a mean its median in brackets, where the two contradict each other; else nothing.

    Its digits are those that ``error`` leaves significant, or else the error of the mean.
    """
    value, se, median = (entry.get(key) for key in ("value", "se", "median"))
    if value is None or se is None or median is None or not contradict(value, se, median):
        return ""
    return f" (median {rounded(median, se if error is None else error)})"


def is_unreliable(entry: dict[str, Any]) -> bool:
    """Whether the effective sample size is small: its median over images, or that of 0.5 %."""
    return _has_few_samples(entry) or entry.get("share_below_10_effective_samples", 0.0) >= 0.005


def _has_few_samples(entry: dict[str, Any]) -> bool:
    return bool(entry.get("effective_samples", 10) < 10)


def show_number(value: float, se: float | None, *, signed: bool = False) -> str:
    """A value ± its standard error, with as many digits as the error leaves significant.

    Without an error it has five digits, or all before the point.
    """
    text = rounded(value, se, signed=signed)
    return text if _is_rounding(value, se) or not se else f"{text} ± {show_error(se)}"


def rounded(value: float, se: float | None, *, signed: bool = False) -> str:
    """A value alone, with as many digits as its standard error leaves significant."""
    sign = "+" if signed else ""
    if not se or _is_rounding(value, se):
        return f"{value:{sign},.0f}" if abs(value) >= 99_999.5 else f"{value:{sign},.5g}"
    return f"{value:{sign},.{_digits(se)}f}"


def _is_rounding(value: float, se: float | None) -> bool:
    """Whether an error is only one of rounding."""
    return se is not None and se < 1e-9 * max(1, abs(value))


def show_size(count: int) -> str:
    """A number of bytes, in the unit of a thousand that suits it."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"


def show_error(se: float) -> str:
    """A standard error > 0 with two significant digits, or more where it is 100 or above."""
    return f"{se:,.{_digits(se)}f}"


def _digits(se: float) -> int:
    return max(0, 1 - math.floor(math.log10(se)))
