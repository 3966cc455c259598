"""Values and rows as text: a table for the terminal, Markdown or CSV."""

import csv
import io
import math
import sys
from collections.abc import Sequence
from typing import Any

ABSENT = "–"


def show_value(value: Any) -> str:
    """A setting in the form that it has in a config."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_entry(entry: dict[str, Any] | None) -> str:
    """A metric as text: its value ± standard error, and what one must know to read it.

    A density shows its sigma or its floor, or that nothing bounds it. The median over images of the
    effective sample size is shown if it is small, and else the share of images for which it is,
    from 0.5 % on.
    """
    if entry is None:
        return ABSENT
    text = show_number(entry["value"], entry.get("se"))
    if entry.get("measure") == "density":
        if "sigma_floor" in entry:
            text += f" [σ ≥ {entry['sigma_floor']:g}]"
        elif "sigma" in entry:
            text += f" [σ = {entry['sigma']:g}]"
        elif "covariance_floor" in entry:
            text += f" [floor {entry['covariance_floor']:g}]"
        elif "unbounded" in entry:
            text += " [unbounded]"
    if entry.get("effective_samples", 10) < 10:
        text += f" (only {entry['effective_samples']:.1f} effective samples)"
    elif (few := entry.get("share_below_10_effective_samples", 0.0)) >= 0.005:
        text += f" ({few:.0%} of images below 10 effective samples)"
    return text


def show_number(value: float, se: float | None, *, signed: bool = False) -> str:
    """A value ± its standard error, with as many digits as the error leaves significant."""
    sign = "+" if signed else ""
    if not se or se < 1e-9 * max(1, abs(value)):  # the error is only one of rounding
        return f"{value:{sign}.5g}"
    return f"{value:{sign},.{_digits(se)}f} ± {show_error(se)}"


def show_error(se: float) -> str:
    """A standard error > 0 with two significant digits, or more where it is 100 or above."""
    return f"{se:,.{_digits(se)}f}"


def _digits(se: float) -> int:
    return max(0, 1 - math.floor(math.log10(se)))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table to stdout. It is as wide as the terminal, or in a pipe as wide as needed."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
    for header in headers:
        table.add_column(escape(header), overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
    else:
        console = Console(width=500, highlight=False, file=io.StringIO())
        console.print(table)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        print("\n".join(line.rstrip() for line in lines))


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(headers), line(["---"] * len(headers)), *map(line, rows)]) + "\n"


def comma_separated(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The rows as CSV, with an empty cell for None."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
    return out.getvalue()
