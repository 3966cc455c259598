"""The list of the runs in a folder. This module imports no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaexp.config import differing, flatten
from vaexp.errors import RunError, UserError
from vaexp.runs.folder import find_runs
from vaexp.tables import comma_separated, markdown, print_table, show_entry, show_value
from vaexp.visible import visible

HEADLINE = ("log_prob", "elbo", "iw_bound", "rmse_mean")


@dataclass(frozen=True)
class Listed:
    """A run in the list. If it cannot be read, its status is damaged and ``error`` says why."""

    run: str
    status: str
    steps: int = 0
    """The number of finished epochs, or of EM iterations of all restarts."""
    model: str = ""
    settings: dict[str, Any] | None = None
    metrics: dict[str, dict[str, Any]] | None = None
    error: str | None = None
    described: frozenset[str] = frozenset()
    """The settings, by their dotted keys, that ``model`` and the name of the run say."""

    def as_json(self) -> dict[str, Any]:
        """What ``vaexp runs --json`` prints of it."""
        return {key: value for key, value in asdict(self).items() if key != "described"}


def list_runs(folder: Path) -> list[Listed]:
    """All runs directly below ``folder``, the oldest first."""
    listed = []
    for run in find_runs(folder):
        try:
            config = run.config()
            test = run.metrics().get("test", {})
            listed.append(
                Listed(
                    run=str(run.path),
                    status=run.status(),
                    steps=_steps(run.records()),
                    model=config.describe(),
                    settings=flatten(config.model_dump()),
                    metrics={name: test[name] for name in HEADLINE if name in test},
                    error=run.info()["error"] or run.edited(),
                    described=config.described(),
                )
            )
        except (RunError, UserError, ValueError, KeyError, TypeError) as error:
            listed.append(
                Listed(str(run.path), "damaged", error=visible("; ".join(str(error).splitlines())))
            )
    return listed


def render_runs(runs: list[Listed], format_: str) -> str | None:
    """The list as text. The format ``table`` is printed to stdout instead, and returns None."""
    if format_ == "json":
        return json.dumps([run.as_json() for run in runs], indent=2) + "\n"
    readable = [run.settings for run in runs if run.settings is not None]
    differ = differing(readable)
    if format_ == "csv":
        headers = ["run", "status", "steps", "model", *differ]
        headers += [column for name in HEADLINE for column in (name, f"{name}_se")]
        rows = []
        for run in runs:
            entries = [(run.metrics or {}).get(name, {}) for name in HEADLINE]
            numbers = [entry.get(key) for entry in entries for key in ("value", "se")]
            values = [(run.settings or {}).get(key) for key in differ]
            rows.append([run.run, run.status, run.steps, run.model, *values, *numbers])
        return comma_separated(headers, rows)
    table = [
        [
            Path(run.run).name,
            run.status,
            str(run.steps),
            "; ".join(text for text in (run.model, _differing(run, differ), run.error) if text),
            *[show_entry((run.metrics or {}).get(name)) for name in HEADLINE],
        ]
        for run in runs
    ]
    headers = ["run", "status", "steps", "model, and the other settings that differ"]
    headers += [f"{name}, test" for name in HEADLINE]
    if format_ == "md":
        return markdown(headers, table)
    print_table(headers, table)
    return None


def _steps(records: list[dict[str, Any]]) -> int:
    """The number of epochs, or of EM iterations. The first record of a restart is its start."""
    return sum(1 for record in records if record.get("iteration") != 0)


def _differing(run: Listed, keys: list[str]) -> str:
    """The settings that differ, except those that the description of the model contains."""
    if run.settings is None:
        return ""
    return ", ".join(
        f"{key}={show_value(run.settings[key])}"
        for key in keys
        if key in run.settings and key not in run.described
    )
