"""Train a mixture at falling covariance floors, and draw train against validation likelihood.

    python scripts/floor_curve.py RUNS_DIR CURVE.png [CONFIG] [KEY=VALUE ...]

CONFIG is gmm-full unless given; in float64, as float32 resolves no floor below 2e-5. A floor that
has a finished run of the same settings in RUNS_DIR is not trained again, so a stopped script goes
on.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from vaexp import figures
from vaexp.config import GMMExperiment, load_config
from vaexp.runs.folder import RunFolder, find_runs

FLOORS = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


def run_at(floor: float, config: str, overrides: list[str], runs_dir: Path) -> RunFolder:
    settings = [
        "model.precision=float64",
        *overrides,
        f"model.covariance_floor={floor:g}",
        f"name=floor-{floor:g}",
    ]
    wanted = load_config(config, settings)
    for run in find_runs(runs_dir) if runs_dir.is_dir() else []:
        if run.status() == "finished" and run.config() == wanted:
            return run
    command = ["vaexp", "train", config, *settings, "--runs-dir", str(runs_dir)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return RunFolder.open(done.stdout.strip())


def main() -> None:
    runs_dir, target = map(Path, sys.argv[1:3])
    arguments = sys.argv[3:]
    config = arguments.pop(0) if arguments and "=" not in arguments[0] else "gmm-full"
    runs = [run_at(floor, config, arguments, runs_dir) for floor in FLOORS]
    curves = {
        split: np.array([run.metrics()[split]["log_prob"]["value"] for run in runs])
        for split in ("train", "validation")
    }
    for floor, *values in zip(FLOORS, curves["train"], curves["validation"], strict=True):
        print(f"| {floor:g} | " + " | ".join(f"{value:,.1f}" for value in values) + " |")
    settings = runs[0].config()
    assert isinstance(settings, GMMExperiment)
    text = settings.describe().replace(f"covariance floor {FLOORS[0]:g}, ", "")
    figure = figures.floor_curve(np.array(FLOORS), curves["train"], curves["validation"], text)
    figures.save(figure, target)


if __name__ == "__main__":
    main()
