"""Time two versions of vaexp, given as source folders, on the same commands.

    python benchmarks/versions.py OLD NEW [REPETITIONS]

The two take turns, with one thread each. The table has the medians of the processor seconds of
whole processes (user and system), which other work on the machine disturbs less than wall time, and
the ratio new / old. A folder is a checkout, for instance made by `git worktree add`.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FEW = ["data.limit=12000", "data.validation_size=2000"]
EPOCHS = [*FEW, "train.epochs=2"]
TRAININGS = {
    "vae-fixed, 2 epochs": ["vae-fixed", *EPOCHS],
    "vae-pixel, 2 epochs": ["vae-pixel", *EPOCHS],
    "vae-bernoulli, 2 epochs": ["vae-bernoulli", *EPOCHS],
    "gmm-diag, K = 50": ["gmm-diag", *FEW, "model.components=50", "train.max_iter=20"],
    "gmm-full, K = 5": ["gmm-full", *FEW, "model.components=5", "train.max_iter=5"],
    "ppca": ["ppca", *FEW],
}
FAST = "--only rate,rescoring,induced,singularities,decoding,quality"
EVALUATIONS = {
    "evaluate, 1,000 images": ["--images", "1000", *FAST.split()],
    "evaluate iw, K = 200, 200 images": ["--images", "200", "--only", "iw", "-k", "200"],
}
QUICK = {"--help": ["--help"], "validate": ["validate", "quickstart"], "runs": ["runs"]}


def spent(source: Path, folder: Path, arguments: list[str]) -> tuple[float, str]:
    """Processor seconds of one vaexp command from this source, and the run folder it answers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vaexp", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, text=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, done.stdout.strip()


def main() -> None:
    """Print the table."""
    sources = [Path(sys.argv[1]), Path(sys.argv[2])]
    repetitions = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    times: dict[str, list[list[float]]] = {}

    def add(title: str, side: int, seconds: float) -> None:
        times.setdefault(title, [[], []])[side].append(seconds)

    with tempfile.TemporaryDirectory() as name:
        for number in range(repetitions):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                folder = Path(name) / str(side)
                folder.mkdir(exist_ok=True)
                source, run = sources[side], ""
                for title, arguments in TRAININGS.items():
                    seconds, answer = spent(source, folder, ["train", *arguments])
                    add(title, side, seconds)
                    run = answer if title.startswith("vae-fixed") else run
                for title, arguments in EVALUATIONS.items():
                    add(title, side, spent(source, folder, ["evaluate", run, *arguments])[0])
                for title, arguments in QUICK.items():
                    add(title, side, spent(source, folder, arguments)[0])
    print("| command | old s | new s | new / old |\n|---|---|---|---|")
    for title, (old, new) in times.items():
        a, b = statistics.median(old), statistics.median(new)
        print(f"| {title} | {a:.2f} | {b:.2f} | {b / a:.2f} |")


if __name__ == "__main__":
    main()
