"""The list of runs as text. This module imports no torch."""

import json
from collections.abc import Sequence
from typing import Any

from vaexp.config import differing
from vaexp.runs.keys import check_keys, entry_of, value_of
from vaexp.runs.listing import HEADLINE, Listed
from vaexp.shown import median_beside, show_entry, show_size, show_value
from vaexp.tables import Table, comma_separated, markdown, print_table


def render_runs(runs: Sequence[Listed], format_: str, columns: Sequence[str] = ()) -> str:
    """The list as text. In the format ``table`` it is printed to stdout instead.

    ``columns`` are keys of settings, metrics and fields; the default shows the headlines. Raises
    UserError for a key that no run has.
    """
    check_keys(runs, columns, "--columns")
    if format_ == "json":
        content = [run.as_json() for run in runs]
        if columns:
            content = [
                {"run": run.run} | {key: value_of(run, key) for key in columns} for run in runs
            ]
        return json.dumps(content, indent=2) + "\n"
    if format_ == "csv":
        return _csv(runs, columns)
    table = _chosen(runs, columns) if columns else _headlines(runs)
    if format_ == "md":
        return markdown(table)
    print_table(table)
    return ""


def _headlines(runs: Sequence[Listed]) -> Table:
    """The table of status, headline metrics, size, model and settings that differ.

    The metrics that most runs have come first, so that the first block of a narrow terminal has a
    number of every run.
    """
    differ = differing([run.settings for run in runs if run.settings is not None])
    count = {name: sum(name in run.metrics for run in runs) for name in HEADLINE}
    shown = sorted(filter(count.get, HEADLINE), key=lambda name: -count[name])
    headers = ["run", "status", *(f"{name}, test" for name in shown), "steps", "size"]
    rows = [
        [
            run.name,
            run.status,
            *(_shown(run.metrics.get(name)) for name in shown),
            str(run.steps),
            show_size(run.size),
            "; ".join(text for text in (run.model, _differing(run, differ), run.error) if text),
        ]
        for run in runs
    ]
    return Table("", [*headers, "model, and the other settings that differ"], rows)


def _chosen(runs: Sequence[Listed], columns: Sequence[str]) -> Table:
    """The table of chosen columns."""
    return Table("", ["run", *columns], [[run.name, *_texts(run, columns)] for run in runs])


def _texts(run: Listed, columns: Sequence[str]) -> list[str]:
    """The chosen columns of a run as text: metrics with their errors."""
    texts = []
    for key in columns:
        value, entry = value_of(run, key), entry_of(run, key)
        is_metric = value is not None and entry is not None
        text = _shown(entry) if is_metric else show_value(value)
        texts.append(show_size(run.size) if key == "size" else text)
    return texts


def _shown(entry: dict[str, Any] | None) -> str:
    """A metric as text, with its median where a few images may carry its mean."""
    return show_entry(entry, median_beside(entry or {}))


def _csv(runs: Sequence[Listed], columns: Sequence[str]) -> str:
    """The list as CSV, with one row per run.

    ``run`` is the name of the run's folder, as in the CSV of ``vaexp compare``. All settings and
    all metrics of the test split are columns.
    """
    if columns:
        rows = [[run.name, *(value_of(run, key) for key in columns)] for run in runs]
        return comma_separated(["run", *columns], rows)
    settings = dict.fromkeys(key for run in runs for key in run.settings or {})
    metrics = dict.fromkeys(name for run in runs for name in run.metrics)
    headers = ["run", "folder", "status", "started", "steps", "size", "model", "error", *settings]
    facts = [(name, key) for name in metrics for key in ("value", "se")]
    have = [name for name in metrics if any("median" in run.metrics.get(name, {}) for run in runs)]
    facts += [(name, "median") for name in have]
    headers += [name if key == "value" else f"{name}_{key}" for name, key in facts]
    rows = [
        [
            *(run.name, run.run, run.status, run.started, run.steps, run.size, run.model),
            run.error,
            *((run.settings or {}).get(key) for key in settings),
            *(run.metrics.get(name, {}).get(key) for name, key in facts),
        ]
        for run in runs
    ]
    return comma_separated(headers, rows)


def _differing(run: Listed, keys: Sequence[str]) -> str:
    """The settings that differ, except those that the description of the model contains."""
    if run.settings is None:
        return ""
    return ", ".join(
        f"{key}={show_value(run.settings[key])}"
        for key in keys
        if key in run.settings and key not in run.described
    )
