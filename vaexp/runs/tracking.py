"""Runs as runs of MLflow, through its own client. Imports no torch."""

from datetime import datetime
from typing import Any

from vaexp.config import flatten
from vaexp.errors import UserError
from vaexp.runs.export import history_rows, metric_rows
from vaexp.runs.folder import RunFolder

EXPERIMENT = "vaexp"
TAG = "vaexp.run"
AT_ONCE = 1_000  # metrics that MLflow takes at once
PARAMS_AT_ONCE = 100
_STATUS = {"finished": "FINISHED", "running": "RUNNING", "interrupted": "KILLED", "dead": "KILLED"}


def log_runs(runs: list[RunFolder], address: str | None) -> list[str]:
    """Log runs to the tracking server or folder at an address; returns their MLflow ids.

    None stands for the address that MLflow itself would use. The settings are params. The metrics
    are those of each epoch or iteration, such as train.elbo, at its step, and the final ones, such
    as final.test.elbo and final.test.elbo.se, at the last step. Figures are artifacts. A run that
    was logged there before is replaced. Raises UserError if the package mlflow is missing, or
    refuses.
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
        return [_log(client, where, run) for run in runs]
    except MlflowException as error:
        raise UserError(f"--out {address}: MLflow says: {' '.join(str(error).split())}") from None


def _log(client: Any, experiment: str, run: RunFolder) -> str:
    """Log one run into an MLflow experiment; returns its id."""
    from mlflow.entities import Metric, Param

    info, config = run.info(), run.config()
    began = _milliseconds(info["start"])
    earlier = client.search_runs([experiment], f"tags.`{TAG}` = '{run.name}'")
    tags = {TAG: run.name, "vaexp.folder": str(run.path), "vaexp.model": config.describe()}
    made = client.create_run(experiment, start_time=began, run_name=run.name, tags=tags)
    number = str(made.info.run_id)
    settings = flatten(config.model_dump())
    params = [Param(key, str(value)) for key, value in settings.items()]
    for i in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(number, params=params[i : i + PARAMS_AT_ONCE])
    when = _milliseconds(info.get("end")) or began or 0
    metrics = [Metric(key, value, when, step) for key, value, step in _metrics(run)]
    for i in range(0, len(metrics), AT_ONCE):
        client.log_batch(number, metrics=metrics[i : i + AT_ONCE])
    for name in run.files.names("figures", config.output.suffix):
        client.log_artifact(number, str(run.path / name), "figures")
    client.set_terminated(number, _STATUS.get(run.status(), "FAILED"), when)
    for old in earlier:
        client.delete_run(old.info.run_id)
    return number


def _metrics(run: RunFolder) -> list[tuple[str, float, int]]:
    """Name, value and step of every number of a run."""
    found, step = [], 0
    for step, row in enumerate(history_rows(run), start=1):
        numbers = {key: value for key, value in row.items() if type(value) in (int, float)}
        found += [(key, float(value), step) for key, value in numbers.items()]
    for row in metric_rows(run):
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
