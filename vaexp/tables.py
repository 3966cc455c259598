"""Rows as a terminal table, Markdown, CSV or JSON."""

import csv
import io
import math
import sys
from collections.abc import Sequence
from typing import Any

ABSENT = "–"


def show_value(value: Any) -> str:
    """A setting as it would be written in a config."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_entry(entry: dict[str, Any] | None) -> str:
    """A metric as text: value ± standard error, and what it hangs on.

    That is the sigma, or the floor, of a density, and the effective sample size where it is small.
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
    if entry.get("effective_samples", 10) < 10:
        text += f" (only {entry['effective_samples']:.1f} effective samples)"
    return text


def show_number(value: float, se: float | None, *, signed: bool = False) -> str:
    """Value ± standard error, with as many digits as the error lets matter."""
    sign = "+" if signed else ""
    if not se or se < 1e-12 * max(1, abs(value)):  # of rounding only
        return f"{value:{sign}.5g}"
    digits = max(0, 1 - math.floor(math.log10(se)))
    return f"{value:{sign},.{digits}f} ± {se:,.{digits}f}"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """To stdout: as wide as the terminal, or as wide as it needs to be in a pipe."""
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
    """A Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(headers), line(["---"] * len(headers)), *map(line, rows)]) + "\n"


def comma_separated(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
    return out.getvalue()
