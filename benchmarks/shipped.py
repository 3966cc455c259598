"""Train every shipped config on full MNIST and print its numbers as a Markdown table.

    python benchmarks/shipped.py RUNS_DIR [KEY=VALUE ...]

Those of the report are left out, as ``vaexp reproduce`` trains them. A config that has a finished
run in RUNS_DIR is not trained again, so a stopped script goes on.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vaexp.config import shipped_configs
from vaexp.runs.find import find_runs
from vaexp.runs.folder import RunFolder
from vaexp.shown import show_number

METRICS = (
    "log_prob",
    "elbo",
    "iw_bound",
    "rate",
    "distortion",
    "rmse_mean",
    "rmse_sample",
    "sigma",
)


def finished(runs_dir: Path, name: str) -> RunFolder | None:
    """The newest finished run of a config, or None."""
    runs = find_runs(runs_dir) if runs_dir.is_dir() else []
    matching = [run for run in runs if run.config().name == name and run.status() == "finished"]
    return matching[-1] if matching else None


def cell(entry: dict[str, Any] | None) -> str:
    """A number with its standard error, or nothing where the run has no such number."""
    return "" if entry is None else show_number(entry["value"], entry["se"])


def main() -> None:
    runs_dir, overrides = Path(sys.argv[1]), sys.argv[2:]
    vaexp = str(Path(sys.executable).with_name("vaexp"))
    rows = []
    for name in shipped_configs():
        if name.startswith("report/"):
            continue
        run = finished(runs_dir, name.replace("/", "-"))
        if run is None:
            command = [vaexp, "train", name, *overrides, "--runs-dir", str(runs_dir), "--json"]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            run = RunFolder.open(json.loads(answer)["run"])
        metrics = run.metrics()
        seconds = sum(record["seconds"] for record in run.records())
        shown = [cell(metrics["test"].get(metric)) for metric in METRICS]
        rows.append([name, cell(metrics["train"]["elbo"]), *shown, f"{seconds:.0f}"])
    headers = ["config", "elbo, train", *[f"{name}, test" for name in METRICS], "training s"]
    for row in (headers, ["---"] * len(headers), *rows):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
