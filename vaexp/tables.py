"""Rows as a terminal table, Markdown, CSV or JSON."""

import csv
import io
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
