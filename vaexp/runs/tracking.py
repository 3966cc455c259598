"""Runs as runs of MLflow, through its own client. Imports no torch."""

from datetime import datetime
from typing import Any

from vaexp.config import flatten
from vaexp.errors import UserError
from vaexp.runs.export import Content

EXPERIMENT = "vaexp"
TAG = "vaexp.run"
AT_ONCE = 1_000  # metrics that MLflow takes at once
PARAMS_AT_ONCE = 100
_STATUS = {"finished": "FINISHED", "running": "RUNNING", "interrupted": "KILLED", "dead": "KILLED"}


def log_runs(runs: list[Content], address: str | None) -> list[str]:
    """Log runs to the tracking server or folder at an address; returns their MLflow ids.

    None stands for the address that MLflow itself would use. The settings are params. The metrics
    are those of each epoch or iteration, such as train.elbo, at its step, and the final ones, such
    as final.test.elbo and final.test.elbo.se, at the last step. Figures are artifacts. A run that
    was logged there by an earlier call is replaced. Raises UserError if the package mlflow is
    missing, or refuses.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(
            f"mlflow needs the package mlflow, which cannot be imported ({error}); pip install "
            "'vaexp[mlflow]' installs it"
        ) from None
    try:
        client = MlflowClient(tracking_uri=address)
        known = client.get_experiment_by_name(EXPERIMENT)
        where = client.create_experiment(EXPERIMENT) if known is None else known.experiment_id
        earlier = {run.folder.name: _logged(client, where, run.folder.name) for run in runs}
        numbers = []
        for run in runs:
            numbers.append(_log(client, where, run))
            for old in earlier.pop(run.folder.name, []):
                client.delete_run(old)
        return numbers
    except MlflowException as error:
        place = "" if address is None else f"--out {address}: "
        raise UserError(f"{place}MLflow says: {' '.join(str(error).split())}") from None


def _logged(client: Any, experiment: str, name: str) -> list[str]:
    """The ids of the runs in an MLflow experiment that are of the run with this name.

    Its query cannot escape a quotation mark, in whose place _ stands for any letter.
    """
    like = name.replace("'", "_")
    found = client.search_runs([experiment], f"tags.`{TAG}` LIKE '{like}'")
    return [str(one.info.run_id) for one in found if one.data.tags.get(TAG) == name]


def _log(client: Any, experiment: str, run: Content) -> str:
    """Log one run into an MLflow experiment; returns its id."""
    from mlflow.entities import Metric, Param

    row, config, name = run.row, run.config, run.folder.name
    began = _milliseconds(row["start"])
    tags = {TAG: name, "vaexp.folder": row["folder"], "vaexp.model": row["model"]}
    made = client.create_run(experiment, start_time=began, run_name=name, tags=tags)
    number = str(made.info.run_id)
    settings = flatten(config.model_dump())
    params = [Param(key, str(value)) for key, value in settings.items()]
    for i in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(number, params=params[i : i + PARAMS_AT_ONCE])
    when = _milliseconds(row["end"]) or began or 0
    metrics = [Metric(key, value, when, step) for key, value, step in _metrics(run)]
    for i in range(0, len(metrics), AT_ONCE):
        client.log_batch(number, metrics=metrics[i : i + AT_ONCE])
    for figure in run.folder.files.names("figures", config.output.suffix):
        client.log_artifact(number, str(run.folder.path / figure), "figures")
    client.set_terminated(number, _STATUS.get(row["status"], "FAILED"), when)
    return number


def _metrics(run: Content) -> list[tuple[str, float, int]]:
    """Name, value and step of every number of a run."""
    found, step = [], 0
    for step, row in enumerate(run.history, start=1):
        numbers = {key: value for key, value in row.items() if type(value) in (int, float)}
        found += [(key, float(value), step) for key, value in numbers.items()]
    for row in run.metrics:
        name = f"{row['split']}.{row['metric']}"
        found.append((f"final.{name}", float(row["value"]), step))
        if row.get("se") is not None:
            found.append((f"final.{name}.se", float(row["se"]), step))
    return found


def _milliseconds(time: str | None) -> int | None:
    """A time of run.json as MLflow counts it, since 1970; None if there is none."""
    try:
        return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
