"""Cases of whole commands, beside the import of torch and the work that they cannot do without."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Case, Program, Rival

VAEXP = [sys.executable, "-m", "vaexp"]
TORCH = [sys.executable, "-c", "import torch"]
SMALL = ["data.limit=2000", "train.epochs=1", "evaluate.importance_samples=0"]


def command(arguments: list[str], folder: Path) -> Program:
    """Runs a command in a folder; the seconds of its whole process count."""

    def run() -> None:
        subprocess.run(arguments, cwd=folder, check=True, capture_output=True)

    return run


def seconds(program: Program) -> float:
    """How long a program takes."""
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def beside_torch(name: str, arguments: list[str], runs: int = 0) -> Callable[[Path], Case]:
    """A command that needs no torch, in a folder with so many finished ``runs``."""

    def case(folder: Path) -> Case:
        for seed in range(1, runs + 1):
            config = ["quickstart", *SMALL, f"seed={seed}", "--no-figures"]
            command([*VAEXP, "train", *config], folder)()
        trained = sorted(str(path) for path in folder.glob("runs/*-quickstart-*"))
        ours = command([*VAEXP, *arguments, *(trained if name == "compare" else [])], folder)
        rival = Rival("`import torch`", command(TORCH, folder), 0.15, "bound")
        return Case(name, f"`vaexp {' '.join(arguments)}`", ours, [rival])

    return case


def quickstart(folder: Path) -> Case:
    """The whole quickstart, beside importing torch and the steps of its training."""
    runs = folder / "runs"

    def ours() -> None:
        shutil.rmtree(runs, ignore_errors=True)
        command([*VAEXP, "train", "quickstart"], folder)()

    def needed() -> float:
        (records,) = runs.glob("*/metrics.jsonl")
        lines = records.read_text(encoding="utf-8").splitlines()
        return seconds(command(TORCH, folder)) + sum(json.loads(one)["seconds"] for one in lines)

    rival = Rival("`import torch` and its steps of training", needed, 1.25, "bound")
    return Case("quickstart", "`vaexp train quickstart`", ours, [rival], rounds=3)


def first_step(folder: Path) -> Case:
    """From the start of a training on the bundled MNIST to its first step."""
    arguments = [*VAEXP, "train", "quickstart", "train.steps=1", "data.validation_size=0"]

    def ours() -> float:
        """Seconds to the line that the epoch of this one step prints, beyond importing torch."""
        start = time.perf_counter()
        with subprocess.Popen(
            [*arguments, "--no-figures"], cwd=folder, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("epoch 1/1"):
                    break
            taken = time.perf_counter() - start
            process.terminate()
            process.stderr.read()
        return taken - seconds(command(TORCH, folder))

    rival = Rival("half a second", lambda: 0.5, 1.0, "bound")
    return Case(
        "first-step", "`vaexp train` to its first step, without `import torch`", ours, [rival]
    )


def measured(folder: Path) -> Case:
    """The default evaluation of a trained quickstart on 10,000 images."""
    command([*VAEXP, "train", "quickstart", "--no-figures"], folder)()
    ours = command([*VAEXP, "evaluate", "runs/latest", "--no-figures"], folder)
    rival = Rival("15 seconds", lambda: 15.0, 1.0, "bound")
    return Case("evaluate", "`vaexp evaluate` of the quickstart, 10,000 images", ours, [rival], 3)


def drawn(folder: Path) -> Case:
    """The figures of a trained quickstart: the command with them, less the same without."""
    config = [*VAEXP, "train", "quickstart", *SMALL, "train.steps=1"]

    def ours() -> float:
        with_figures = seconds(command(config, folder))
        return with_figures - seconds(command([*config, "--no-figures"], folder))

    rival = Rival("4 seconds", lambda: 4.0, 1.0, "bound")
    return Case("figures", "the figures of the quickstart", ours, [rival], 3)


CASES = {
    "help": beside_torch("help", ["--help"]),
    "validate": beside_torch("validate", ["validate", "quickstart"]),
    "runs": beside_torch("runs", ["runs"], 2),
    "compare": beside_torch("compare", ["compare", "--format", "json"], 2),
    "quickstart": quickstart,
    "first-step": first_step,
    "evaluate": measured,
    "figures": drawn,
}
