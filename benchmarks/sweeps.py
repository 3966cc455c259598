"""Measure what a sweep costs beyond its trials, and what two jobs gain.

    python benchmarks/sweeps.py [--trials 16]

Prints, as a Markdown table: how long a sweep of 1,000 trials takes to the start of its first one,
and to the run folder of its first one beyond ``vaexp train``; what each trial costs beyond its own
process; and the time of short runs with two jobs, as a share of one after another with two threads.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vaexp.sweeps.folder import Sweep, Task
from vaexp.sweeps.jobs import Child, Here, Jobs
from vaexp.sweeps.request import Options, Request

CONFIG = """\
model: {kind: vae, hidden: [128]}
data: {limit: 10000, validation_size: 500, labels: [4, 9]}
train: {epochs: 5, batch_size: 64}
evaluate: {importance_samples: 0}
"""
VAEXP = [sys.executable, "-m", "vaexp"]
MANY = ["sweep", "short.yaml", "--random", "1000", "--range", "model.beta=log:1e-3..10"]


def until(command: list[str], there: Callable[[], bool]) -> float:
    """The seconds from the start of a command until something is there; then it is stopped."""
    start = time.perf_counter()
    process = subprocess.Popen([*VAEXP, *command], stderr=subprocess.DEVNULL)
    while not there():
        if process.poll() is not None:
            raise SystemExit(f"it ended too soon: {command}")
        time.sleep(0.001)
    taken = time.perf_counter() - start
    process.terminate()  # and not by SIGINT, which is ignored in the background of a script
    process.wait()
    return taken


def first_trial(rounds: int) -> tuple[float, float]:
    """Seconds to the start of the first trial's process, and to its run beyond vaexp train."""
    started, beyond = [], []
    for i in range(rounds):
        folder, runs = Path(f"many-{i}"), Path(f"runs-{i}")
        logs = lambda folder=folder: any(folder.glob("trials/001-*/log.txt"))  # noqa: E731
        started.append(until([*MANY, "--folder", str(folder)], logs))
        again = Path(f"again-{i}")
        run = lambda again=again: any(again.glob("trials/001-*/*/run.json"))  # noqa: E731
        swept = until([*MANY, "--folder", str(again)], run)
        alone = lambda runs=runs: any(runs.glob("*/run.json"))  # noqa: E731
        trained = until(["train", "short.yaml", "--runs-dir", str(runs)], alone)
        beyond.append(swept - trained)
    return statistics.median(started), statistics.median(beyond)


class Silent:
    """Hears nothing of what the jobs tell."""

    def started(self, child: Child) -> None: ...
    def ended(self, child: Child, _state: object) -> None: ...
    def stopping(self, _why: str) -> None: ...
    def tick(self, _running: object, _waiting: int) -> None: ...


def overhead(trials: int) -> float:
    """The seconds that each trial costs beyond its process, which here does nothing."""
    empty = [sys.executable, "-c", ""]
    request = Request.of_config("short.yaml", [], Options(seeds=trials))
    sweep = Sweep.begin(Path(f"empty-{trials}"), request)
    sweep.write_table()
    start = time.perf_counter()
    for _ in range(40):
        subprocess.run(empty, check=True)
    alone = time.perf_counter() - start
    start = time.perf_counter()
    Jobs(1, False, Silent(), Here(1, empty)).run([Task(sweep, one) for one in sweep.trials[:40]])
    return (time.perf_counter() - start - alone) / 40


def whole(jobs: int, trials: int) -> float:
    """The seconds that a sweep of short runs takes."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = ["sweep", "short.yaml", "--seeds", str(trials), "-j", str(jobs)]
    start = time.perf_counter()
    subprocess.run(
        [*VAEXP, *command, "--folder", f"whole-{jobs}"],
        check=True,
        env=environment,
        capture_output=True,
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("short.yaml").write_text(CONFIG)
        started, beyond = first_trial(arguments.rounds)
        small, large = overhead(40), overhead(1000)
        one, two = whole(1, arguments.trials), whole(2, arguments.trials)
    print("| | |\n|---|---|")
    print(f"| 1,000 trials: to the start of the first process | {started:.2f} s |")
    print(f"| 1,000 trials: to the run of the first, beyond `vaexp train` | {beyond:.2f} s |")
    print(f"| a trial beyond its process, of 40 | {small:.3f} s |")
    print(f"| a trial beyond its process, of 1,000 | {large:.3f} s |")
    print(f"| {arguments.trials} short runs one after another, with all cores | {one:.1f} s |")
    print(f"| the same with two jobs | {two:.1f} s, {two / one:.2f} of that |")


if __name__ == "__main__":
    main()
