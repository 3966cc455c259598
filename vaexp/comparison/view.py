"""A comparison as text: tables for the terminal, Markdown, CSV and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from vaexp.comparison.compare import Comparison
from vaexp.comparison.differences import Difference
from vaexp.evaluation.groups import GROUPS, shown_by_default
from vaexp.evaluation.tails import ROWS as TAIL_ROWS
from vaexp.evaluation.tails import Tails, disagreement, tail_numbers
from vaexp.tables import (
    ABSENT,
    comma_separated,
    markdown,
    print_table,
    show_entry,
    show_error,
    show_number,
    show_value,
)


def render(comparison: Comparison, format_: str, *, every: bool = True) -> str | None:
    """The comparison as text. In the format ``table`` the tables are printed to stdout instead.

    ``every`` shows all measures of all groups in a table; other formats always have all of them.
    """
    if format_ == "json":
        return json.dumps(asdict(comparison), indent=2) + "\n"
    if format_ == "csv":
        return _csv(comparison)
    if format_ == "md":
        parts = [
            f"### {title}\n\n{markdown(headers, rows)}"
            for title, headers, rows in tables(comparison)
        ]
        return "\n".join([*parts, *[f"{note}\n" for note in notes(comparison)]])
    shown = comparison if every else _headlines(comparison)
    for title, headers, rows in tables(shown):
        print_table(headers, rows, title)
    lines = notes(shown)
    hidden = len(comparison.metrics) - len(shown.metrics)
    if hidden:
        lines.append(f"{hidden} more measures: --all, or --format json.")
    return "\n".join(lines) + "\n"


def _headlines(comparison: Comparison) -> Comparison:
    """The comparison with only the headlines of the groups that ``vaexp evaluate`` measured."""
    kept = {
        name
        for name, entries in comparison.metrics.items()
        if shown_by_default(name, _group(entries))
    }
    return replace(
        comparison,
        metrics={name: row for name, row in comparison.metrics.items() if name in kept},
        differences={name: row for name, row in comparison.differences.items() if name in kept},
        over_seeds=[
            replace(group, metrics={k: v for k, v in group.metrics.items() if k in kept})
            for group in comparison.over_seeds
        ],
    )


TAILS = [field.name for field in fields(Tails)]

Table = tuple[str, list[str], list[list[str]]]
"""The title, headers and rows of a table."""


def tables(comparison: Comparison) -> list[Table]:
    """The tables of a comparison: the runs, their settings, their metrics, and means over seeds."""
    legend = [
        [name, description, path]
        for name, description, path in zip(
            comparison.runs, comparison.descriptions, comparison.paths, strict=True
        )
    ]
    settings = [[key, *map(show_value, values)] for key, values in comparison.settings.items()] or [
        ["none", *[""] * len(comparison.runs)]
    ]
    reference, *others = comparison.runs
    headers = ["metric", *comparison.runs, *[f"{name} minus {reference}" for name in others]]
    return [
        ("Runs", ["run", "model", "folder"], legend),
        ("Settings that differ", ["setting", *comparison.runs], settings),
        *[(title, headers, rows) for title, rows in metric_tables(comparison)],
        *_seed_tables(comparison),
    ]


def notes(comparison: Comparison) -> list[str]:
    """The sentences below the tables: which run is best, and what was not compared."""
    lines = [
        ranking_line(comparison),
        "Differences of runs are paired: their standard error is that of the difference per image.",
        *_refusals(comparison),
    ]
    entries = [entry for row in comparison.metrics.values() for entry in row if entry]
    if any(entry["aggregate"] == "whole" for entry in entries):
        lines.insert(
            2,
            "Numbers of whole sets of images have no difference per image. Their standard errors "
            "are added as if they were independent, which is too wide for the same images or seed.",
        )
    return lines + _tail_notes(comparison)


def metric_tables(comparison: Comparison) -> list[tuple[str, list[list[str]]]]:
    """The title and rows of the test metrics, then of each group that vaexp evaluate measured."""
    rows: dict[str | None, list[list[str]]] = {None: []}
    for name, entries in comparison.metrics.items():
        rows.setdefault(_group(entries), []).append(
            [
                metric_name(name, entries),
                *map(show_entry, entries),
                *map(show_difference, comparison.differences[name]),
            ]
        )
        rows[_group(entries)] += tail_rows(entries, comparison.differences[name])
    titles: dict[str | None, str] = {None: "Test metrics, ± standard error over images"}
    titles |= {name: group.title for name, group in GROUPS.items()}
    ordered = [group for group in titles if group in rows]
    ordered += [group for group in rows if group not in titles]  # of another version of vaexp
    return [(titles.get(group, str(group)), rows[group]) for group in ordered]


def tail_rows(
    entries: Sequence[dict[str, Any] | None], differences: Sequence[Difference] = ()
) -> list[list[str]]:
    """The rows below that of a metric which say how much of its means a few images hold."""
    cells = [tail_numbers(entry or {}) for entry in entries]
    cells += [tail_numbers(asdict(difference.tails), signed=True) for difference in differences]
    return [
        [f"· {title}", *(cell.get(row, ABSENT) for cell in cells)]
        for row, title in TAIL_ROWS.items()
        if any(row in cell for cell in cells)
    ]


def _tail_notes(comparison: Comparison) -> list[str]:
    """Sentences on the metrics whose mean and median contradict each other."""
    lines = []
    for name, entries in comparison.metrics.items():
        found = [
            f"{run}: {how}"
            for run, entry in zip(comparison.runs, entries, strict=True)
            if (how := disagreement(entry or {})) is not None
        ]
        found += [
            f"{run} minus {comparison.runs[0]}: {how}"
            for run, difference in zip(
                comparison.runs[1:], comparison.differences[name], strict=True
            )
            if (how := disagreement(asdict(difference) | asdict(difference.tails))) is not None
        ]
        if found:
            few = found if len(found) <= 6 else [*found[:5], f"and {len(found) - 5} more"]
            lines.append(f"Do not read {name} by its mean alone. {'; '.join(few)}.")
    return lines


def _group(entries: Sequence[dict[str, Any] | None]) -> str | None:
    """The group of a measure, from its entries in each run, or None if training measures it."""
    return next((entry.get("group") for entry in entries if entry), None)


def _seed_tables(comparison: Comparison) -> list[Table]:
    """The table of means and spreads over runs that differ in their seed only, if there are any."""
    groups = comparison.over_seeds
    if not groups:
        return []
    headers = ["metric"]
    for i, group in enumerate(groups):
        settings = [f"{key}={show_value(value)}" for key, value in group.settings.items()]
        headers.append(", ".join(settings) or "mean ± sd")
        headers += [f"minus {headers[1]}"] if i else []
    rows = []
    for name in dict.fromkeys(name for group in groups for name in group.metrics):
        row = [metric_name(name, comparison.metrics[name])]
        for i, group in enumerate(groups):
            spread = group.metrics.get(name)
            cell = ABSENT if spread is None else show_number(spread.mean, spread.sd)
            row.append(cell + _over_images(None if spread is None else spread.se_images))
            difference = group.differences.get(name, Difference())
            row += [show_difference(difference)] if i else []
        rows.append(row)
    counts = ", ".join(str(len(group.runs)) for group in groups)
    title = (
        f"Over seeds: mean ± standard deviation of {counts} runs; differences, unpaired, "
        "± standard error over seeds; last, ± standard error over the test images, which all "
        "seeds share"
    )
    return [(title, headers, rows)]


def _csv(comparison: Comparison) -> str:
    """The comparison as CSV, with one row per metric and run."""
    headers = [
        "run", "metric", "value", "se", "mc_se", "n", "unit", "kind", "measure", "of", "k",
        "sigma", "sigma_floor", "covariance_floor", "group", *TAILS, "difference", "difference_se",
        "not_compared", *(f"difference_{name}" for name in TAILS),
    ]  # fmt: skip
    rows = []
    for name, entries in comparison.metrics.items():
        differences = [Difference(), *comparison.differences[name]]
        for run, entry, difference in zip(comparison.runs, entries, differences, strict=True):
            if entry is not None:
                facts = [entry.get(key) for key in headers[2 : headers.index("difference")]]
                compared = [difference.value, difference.se, difference.refused]
                tails = asdict(difference.tails)
                rows.append([run, name, *facts, *compared, *(tails[key] for key in TAILS)])
    return comma_separated(headers, rows)


def _refusals(comparison: Comparison) -> list[str]:
    """Sentences that say why differences are missing, one for each run and reason."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for name, differences in comparison.differences.items():
        for run, difference in zip(comparison.runs[1:], differences, strict=True):
            if difference.refused is not None:
                metrics.setdefault((run, difference.refused), []).append(name)
    lines = []
    for (run, reason), names in metrics.items():
        few = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
        lines.append(f"Not compared with {run}: {', '.join(few)}, as {reason}.")
    return lines


def ranking_line(comparison: Comparison) -> str:
    """The sentence that ranks the runs by a likelihood, or says why they cannot be ranked."""
    ranking = comparison.ranking
    if ranking.refused is not None:
        return f"Not ranked: {ranking.refused}."
    entries = [
        entry
        for i, run in enumerate(comparison.runs)
        if (entry := comparison.metrics[ranking.instead.get(run, ranking.metric)][i]) is not None
    ]
    entry = entries[0]
    kind = "" if entry["kind"] == "exact" else f"a {entry['kind'].replace('_', ' ')} on "
    what = f"{ranking.metric}, {kind}ln p({entry['of']})"
    line = f"Ranked by {what.replace(' given ', '|')}, best first: {', '.join(ranking.order)}."
    if ranking.ties:
        line += f" Within two standard errors of each other: {'; '.join(ranking.ties)}."
    for name in dict.fromkeys(ranking.instead.values()):
        runs = ", ".join(run for run, other in ranking.instead.items() if other == name)
        line += f" {name} takes its place for {runs}."
    for reason in dict.fromkeys(entry["unbounded"] for entry in entries if "unbounded" in entry):
        runs = ", ".join(
            run
            for run, entry in zip(comparison.runs, entries, strict=True)
            if entry.get("unbounded") == reason
        )
        line += f" Nothing bounds the density of {runs}: {reason}. Its rank says little."
    floors = {(entry.get("sigma_floor"), entry.get("covariance_floor")) for entry in entries}
    if len(floors - {(None, None)}) > 1:
        line += " Their floors differ, and a density depends on its floor."
    return line


def show_difference(difference: Difference) -> str:
    """A difference as text: of means over seeds its error over seeds, then that over images."""
    if difference.value is None:
        return ABSENT
    text = show_number(difference.value, difference.se, signed=True)
    return text + _over_images(difference.se_images)


def _over_images(se: float | None) -> str:
    """A second error, over images, behind that over seeds."""
    return f" ± {show_error(se)}" if se else ""


def metric_name(name: str, entries: Sequence[dict[str, Any] | None]) -> str:
    """The title of a metric's row: its name, its k, its unit and its kind."""
    entry = next(entry for entry in entries if entry is not None)
    details = [entry["unit"]]
    counts = dict.fromkeys(str(entry["k"]) for entry in entries if entry and "k" in entry)
    if counts:
        details.insert(0, f"k = {' or '.join(counts)}")
    kinds = dict.fromkeys(entry["kind"] for entry in entries if entry and "kind" in entry)
    if kinds:
        details.append(" or ".join(kinds).replace("_", " "))
    details = [detail for detail in details if detail]
    return f"{name} ({', '.join(details)})" if details else name
