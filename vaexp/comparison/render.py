"""A comparison as text: tables for the terminal, Markdown, CSV and JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vaexp.comparison.compare import Comparison
from vaexp.comparison.differences import Difference
from vaexp.comparison.notes import notes
from vaexp.comparison.view import MAIN, MOST_COLUMNS, group, tables
from vaexp.evaluation.groups import shown_by_default
from vaexp.tables import comma_separated, markdown, on_lines, print_table

MOST_IN_FULL = 12  # runs of which a terminal shows the headlines of every group
FACTS = (
    *("value", "se", "mc_se", "n", "unit", "kind", "measure", "of", "k", "sigma", "sigma_floor"),
    *("covariance_floor", "group"),
)
"""The columns of a CSV that stand first, whichever facts the entries have."""


def render(comparison: Comparison, format_: str, *, every: bool = True) -> str:
    """The comparison as text. In the format ``table`` the tables are printed to stdout instead.

    ``every`` shows all measures of all groups in a table; other formats always have all of them.
    """
    if format_ == "json":
        content = asdict(comparison)
        del content["all_settings"]  # they are long, and in the config.yaml of each run
        return json.dumps(content, indent=2) + "\n"
    if format_ == "csv":
        return _csv(comparison)
    if format_ == "md":
        parts = [markdown(table) for table in tables(comparison)]
        return "\n".join([*parts, *[f"{note}\n" for note in notes(comparison)]])
    shown = comparison if every else _headlines(comparison)
    for table in tables(shown, tails=every):
        print_table(table)
    lines = notes(shown)
    hidden = len(comparison.metrics) - len(shown.metrics)
    if hidden:
        lines.append(f"{hidden} more measures: --all, or --format json.")
    if not every and len(comparison.runs) > MOST_COLUMNS:
        lines.append("Medians and trimmed means of all measures: --all, or --format md.")
    return on_lines(lines) + "\n"


def _headlines(comparison: Comparison) -> Comparison:
    """The comparison with only the headlines of the groups that ``vaexp evaluate`` measured.

    Of many runs it has only the metrics of the table in which each run is a row. What runs are
    ranked by is always there.
    """
    many = len(comparison.runs) > MOST_IN_FULL
    kept = {
        name
        for name, entries in comparison.metrics.items()
        if (name in MAIN if many else shown_by_default(name, group(entries)))
    }
    for ranking in comparison.rankings:
        kept |= {ranking.metric, *ranking.instead.values()}
    return replace(
        comparison,
        metrics={name: row for name, row in comparison.metrics.items() if name in kept},
        differences={name: row for name, row in comparison.differences.items() if name in kept},
        over_seeds=[
            replace(one, metrics={k: v for k, v in one.metrics.items() if k in kept})
            for one in comparison.over_seeds
        ],
    )


def _csv(comparison: Comparison) -> str:
    """The comparison as CSV, with one row per run and metric.

    ``run`` is the name of the run's folder, as in the CSV of ``vaexp runs``. All settings of the
    run and all facts of the entry in metrics.json are columns.
    """
    entries = [entry for row in comparison.metrics.values() for entry in row if entry]
    facts = dict.fromkeys([*FACTS, *(key for entry in entries for key in entry)])
    settings = dict.fromkeys(key for flat in comparison.all_settings for key in flat)
    differences = [*_difference_cells(Difference())]
    headers = ["run", "folder", "metric", *facts, *differences, *settings]
    rows = []
    for name, row in comparison.metrics.items():
        of_run = dict(zip(comparison.others, comparison.differences[name], strict=True))
        for i, (run, entry) in enumerate(zip(comparison.runs, row, strict=True)):
            if entry is not None:
                compared = _difference_cells(of_run.get(run, Difference()))
                path, flat = comparison.paths[i], comparison.all_settings[i]
                known = [entry.get(fact) for fact in facts]
                values = [flat.get(key) for key in settings]
                rows.append(
                    [Path(path).resolve().name, path, name, *known, *compared.values(), *values]
                )
    return comma_separated(headers, rows)


def _difference_cells(difference: Difference) -> dict[str, Any]:
    """The columns of a difference from the baseline."""
    cells = {
        "difference": difference.value,
        "difference_se": difference.se,
        "not_compared": difference.refused,
    }
    return cells | {f"difference_{name}": one for name, one in asdict(difference.tails).items()}
