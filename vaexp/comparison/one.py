"""A single run as text. This module imports no torch."""

import json
from typing import Any

from vaexp.comparison.view import TITLE, group, metric_name, tail_rows, title_of
from vaexp.runs.folder import RunFolder
from vaexp.runs.images import are_known
from vaexp.runs.listing import Listed
from vaexp.shown import show_entry, show_size, show_value
from vaexp.tables import Table, print_table

SPLITS = {
    "train": "Training metrics, ± standard error over images",
    "validation": "Validation metrics, ± standard error over images",
    "test": TITLE,
}
"""The title of what training measures of each split. The last in the terminal is the test split."""


def render_run(folder: RunFolder, run: Listed, as_json: bool) -> str:
    """One run as text: its state, settings, test metrics, and the paths of its pictures."""
    pictures = [
        str(folder.path / name)
        for part in ("figures", "samples")
        for suffix in (".png", ".svg", ".pdf")
        for name in folder.files.names(part, suffix)
    ]
    if as_json:
        content: dict[str, Any] = run.as_json() | {
            "metrics": folder.metrics(),
            "pictures": pictures,
        }
        return json.dumps(content, indent=2) + "\n"
    state = [[key, str(value)] for key, value in _state(folder, run).items() if value]
    settings = [[key, show_value(value)] for key, value in (run.settings or {}).items()]
    metrics = {} if run.status == "damaged" else folder.metrics()
    tables = [
        Table("Run", ["what", "value"], state),
        Table("Settings", ["setting", "value"], settings),
        *(table for split in SPLITS for table in _metrics(split, metrics.get(split, {}))),
        Table("Pictures", ["path"], [[path] for path in pictures]),
    ]
    for table in tables:
        if table.rows:
            print_table(table)
    return ""


def _metrics(split: str, entries: dict[str, dict[str, Any]]) -> list[Table]:
    """The tables of a split: by group, each measure with its kind, its error and its tails."""
    by_title: dict[str, list[list[str]]] = {}
    for name, entry in entries.items():
        title = SPLITS[split] if group([entry]) is None else title_of([entry])
        rows = by_title.setdefault(title, [])
        rows.append([f"{split}.{metric_name(name, [entry])}", show_entry(entry)])
        rows += tail_rows(entry)
    return [Table(title, ["metric", "value"], rows) for title, rows in by_title.items()]


def _state(folder: RunFolder, run: Listed) -> dict[str, Any]:
    damaged = run.status == "damaged"
    info = {} if damaged else folder.info()
    known = damaged or are_known(folder)
    return {
        "folder": run.run,
        "status": run.status,
        "error": run.error,
        "model": run.model,
        "images": "" if known else "not known to be the published ones; train.log says why",
        "started": run.started,
        "resumed": ", ".join(info.get("resumed", [])),
        "ended": info.get("end"),
        "trimmed": info.get("trimmed"),
        "steps": run.steps,
        "size": show_size(run.size),
    }
