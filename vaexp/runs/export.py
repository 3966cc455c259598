"""What a run holds as rows of tables, for other tools and for notebooks. Imports no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vaexp.config import Config, flatten
from vaexp.errors import RunError, UserError, in_a_line
from vaexp.runs.folder import RunFolder
from vaexp.runs.unforeseen import LEFT_OUT, fault

Row = dict[str, Any]


@dataclass(frozen=True)
class Content:
    """What a run holds, read once."""

    folder: RunFolder
    config: Config
    row: Row
    metrics: list[Row]
    history: list[Row]

    @classmethod
    def read(cls, run: RunFolder) -> Self:
        """Read a run. Raises RunError if a file is damaged, or config.yaml is no longer its own."""
        config = run.config()
        run.check_config(config)
        return cls(run, config, run_row(run), metric_rows(run), history_rows(run))


def read_all(paths: Iterable[Path]) -> tuple[list[Content], list[str]]:
    """What the runs in these folders hold, and of each that cannot be read, why."""
    found, wrong = [], []
    for path in paths:
        try:
            found.append(Content.read(RunFolder.open(path)))
        except (RunError, UserError) as error:
            wrong.append(str(error))
        except OSError as error:  # a disk that fails, or a file that may not be read
            wrong.append(f"{path}: {in_a_line(error)}")
        except Exception as error:
            wrong.append(str(fault(RunFolder(path), error, LEFT_OUT)))
    return found, wrong


def run_row(run: RunFolder) -> Row:
    """One row for a run: how it went, and all its settings by their dotted keys."""
    config, info = run.config(), run.info()
    return {
        "run": run.name,
        "folder": str(run.path),
        "status": run.status(),
        "start": info["start"],
        "end": info.get("end"),
        "model": config.describe(),
        **flatten(config.model_dump()),
    }


def metric_rows(run: RunFolder) -> list[Row]:
    """A row for each split and final metric, with all facts of its entry in metrics.json."""
    return [
        {"run": run.name, "split": split, "metric": name, **entry}
        for split, entries in run.metrics().items()
        for name, entry in entries.items()
    ]


def history_rows(run: RunFolder) -> list[Row]:
    """A row for each epoch or iteration in metrics.jsonl, with keys such as train.elbo."""
    return [{"run": run.name, **flatten(record)} for record in run.records()]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The rows as columns that have one kind of value each, as files with types need them.

    What a row does not have is None. Lists become JSON, and so does a column in which texts are
    mixed with other values.
    """
    names = dict.fromkeys(key for row in rows for key in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {name: _of_one_kind(values) for name, values in columns.items()}


def _of_one_kind(values: list[Any]) -> list[Any]:
    given = [value for value in values if value is not None]
    texts = [isinstance(value, str) for value in given]
    if any(isinstance(value, list | dict) for value in given) or any(texts) != all(texts):
        return [None if value is None else json.dumps(value) for value in values]
    return values
