"""Kill short runs with SIGKILL at random moments, resume them, and compare all that they leave.

    python benchmarks/sigkill.py [--kills 100] [--seed 1]

Each kill hits a run of its own, at a moment drawn uniformly from the time that a run which is never
killed trains, measures or draws. ``vaexp train --resume`` ends it, and each of its files is
compared with that of the run that was never killed: weights, checkpoint, numbers and figures bit by
bit. What depends on the clock, the process or the command line is left out; LEFT_OUT names it.
Prints a table of models and moments, also where Ctrl-C ends it. The exit code is 1 if a run ends
with another result.

The commands run in forks of this process, so that the import of torch is no part of a run's life.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaexp import cli
from vaexp.experiment import train  # noqa: F401  all that a run needs is imported before the forks

COMMON = """\
name: short
data: {limit: 400, validation_size: 200, labels: [4]}
"""
CONFIGS = {
    "VAE": COMMON
    + """\
model: {kind: vae, latent_dim: 2, hidden: [32], sigma_mode: pixel}
train: {epochs: 4, batch_size: 20, checkpoint_minutes: 0.001}
evaluate: {importance_samples: 5}
""",
    "GMM": COMMON
    + """\
model: {kind: gmm, components: 4, covariance: full}
train: {max_iter: 4, tolerance: 0, restarts: 2}
""",
    "pPCA": COMMON
    + """\
model: {kind: ppca, latent_dim: 20}
train: {max_iter: 20, tolerance: 0, restarts: 2}
""",
}
MOMENTS = {
    "training": "run folder",
    "measuring": "measuring on",
    "drawing": "drawing figures",
}
"""The parts of a run's life, and the line of train.log that each begins with."""
LEFT_OUT = {
    "run.json": None,  # the times, the process and how often it was resumed
    "train.log": None,  # the times, and the lines of both processes
    "checkpoints/.lock": None,
    "checkpoints/heartbeat.json": None,
    "environment.json": {"argv", "resumptions"},
    "metrics.jsonl": {"seconds", "images_per_second"},
}
"""The files that are not compared, or the keys of a file that are left out."""
LONGEST = 120.0  # seconds that one command may take


def begin(folder: Path, *arguments: str) -> int:
    """Start a command of vaexp in a fork whose messages go to a file. Returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        out = os.open(folder / "messages.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = ["vaexp", *arguments]
        cli.main()
    except SystemExit as done:
        os._exit(done.code if isinstance(done.code, int) else 1)
    finally:
        os._exit(1)


def ended(pid: int) -> bool:
    """Whether a process of this script has ended; then nothing is left of it."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if found and (code := os.waitstatus_to_exitcode(status)) not in (0, -signal.SIGKILL):
        raise SystemExit(f"a command ended with exit code {code}")
    return found != 0


def run_in(folder: Path) -> Path:
    """The only run folder."""
    return next(folder.glob("runs/*"))


def moment_of(folder: Path) -> str | None:
    """What the run is doing, by its train.log; None before it begins."""
    text = "".join(log.read_text(encoding="utf-8") for log in folder.glob("runs/*/train.log"))
    return next((name for name in reversed(MOMENTS) if MOMENTS[name] in text), None)


def whole(folder: Path, config: str) -> dict[str, float]:
    """Train a run that is never killed. Returns the seconds of each part of its life."""
    (folder / "short.yaml").write_text(config, encoding="utf-8")
    pid = begin(folder, "train", str(folder / "short.yaml"), "--runs-dir", str(folder / "runs"))
    began: dict[str, float] = {}
    while not ended(pid):
        if (moment := moment_of(folder)) is not None:
            began.setdefault(moment, time.monotonic())
        time.sleep(0.002)
    times = [*(began[name] for name in MOMENTS), time.monotonic()]
    return dict(zip(MOMENTS, (b - a for a, b in itertools.pairwise(times)), strict=True))


def killed_and_resumed(folder: Path, config: str, moment: str, after: float) -> str | None:
    """Kill a run so many seconds after a part of its life begins, and resume it.

    Returns what it was doing, or None if it had ended before.
    """
    (folder / "short.yaml").write_text(config, encoding="utf-8")
    pid = begin(folder, "train", str(folder / "short.yaml"), "--runs-dir", str(folder / "runs"))
    while moment_of(folder) != moment:
        if ended(pid):
            return None
        time.sleep(0.002)
    time.sleep(after)
    if ended(pid):
        return None
    os.kill(pid, signal.SIGKILL)
    while not ended(pid):
        time.sleep(0.002)
    found, run = moment_of(folder), run_in(folder)
    if json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] != "running":
        return None
    until = time.monotonic() + LONGEST
    pid = begin(folder, "train", "--resume", str(run))
    while not ended(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values of a checkpoint are equal, bit by bit; how long it took does not count."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() - {"seconds"}
        return keys == other.keys() - {"seconds"} and all(same(one[k], other[k]) for k in keys)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


def content(path: Path, left_out: set[str]) -> Any:
    """What is compared of a file."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        return [{k: v for k, v in json.loads(line).items() if k not in left_out} for line in lines]
    if left_out:
        whole = json.loads(path.read_text(encoding="utf-8"))
        return {key: value for key, value in whole.items() if key not in left_out}
    return path.read_bytes()


def differences(one: Path, other: Path) -> list[str]:
    """The files of two runs that differ, or that only one of them has."""

    def files(run: Path) -> set[str]:
        return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}

    both = files(one) & files(other)
    differ = (files(one) ^ files(other)) | {
        name
        for name in both
        if (keys := LEFT_OUT.get(name, set())) is not None
        and not same(content(one / name, keys), content(other / name, keys))
    }
    return sorted(differ)


@dataclass
class Outcome:
    """Of each model and moment, how many runs were killed and how many ended equal."""

    killed: Counter[tuple[str, str]]
    equal: Counter[tuple[str, str]]

    def show(self) -> None:
        """Print the table."""
        print("| model | moment | kills | ended equal |\n|---|---|---|---|")
        for key in itertools.product(CONFIGS, MOMENTS):
            print(f"| {key[0]} | {key[1]} | {self.killed[key]} | {self.equal[key]} |")
        print(f"| all | | {self.killed.total()} | {self.equal.total()} |")


def kill_many(kills: int, draw: random.Random, place: Path, outcome: Outcome) -> None:
    """Kill so many runs, of all models and in all parts of their lives in turn."""
    seconds = {}
    for model, config in CONFIGS.items():
        (place / model).mkdir()
        seconds[model] = whole(place / model, config)
        shown = ", ".join(f"{name} {taken:.2f} s" for name, taken in seconds[model].items())
        print(f"{model}, never killed: {shown}", flush=True)
    wanted = itertools.cycle(itertools.product(CONFIGS, MOMENTS))
    while outcome.killed.total() < kills:
        model, moment = next(wanted)
        after = draw.uniform(0, seconds[model][moment])
        with tempfile.TemporaryDirectory(dir=place) as name:
            folder = Path(name)
            found = killed_and_resumed(folder, CONFIGS[model], moment, after)
            if found is None:
                continue  # it was over before the kill
            wrong = differences(run_in(place / model), run_in(folder))
        outcome.killed[model, found] += 1
        outcome.equal[model, found] += not wrong
        if wrong:
            where = f"{model}, {after:.3f} s after the begin of {moment}"
            print(f"{where}: {', '.join(wrong)} differ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    outcome = Outcome(Counter(), Counter())
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):
        kill_many(wanted.kills, random.Random(wanted.seed), Path(name), outcome)
    outcome.show()
    sys.exit(outcome.equal != outcome.killed)


if __name__ == "__main__":
    main()
