"""Measure how long commands without torch take, beside ``python -c "import torch"``.

    python benchmarks/startup.py RUN RUN [--rounds 11]

RUN are two finished run folders. The commands take turns with the import, so that a slow moment of
the machine affects both. Prints medians and their ratio, as a Markdown table.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    """How long a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs=2, type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()

    first, second = map(str, arguments.runs)
    vaexp = str(Path(sys.executable).with_name("vaexp"))
    commands = {
        "vaexp --help": [vaexp, "--help"],
        "vaexp validate quickstart": [vaexp, "validate", "quickstart"],
        "vaexp runs": [vaexp, "runs", str(arguments.runs[0].resolve().parent)],
        "vaexp compare --format json": [vaexp, "compare", first, second, "--format", "json"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(arguments.rounds + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if round_:  # the first round only warms the disk cache
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    torch = medians["python -c 'import torch'"]
    print("| command | median s | share of torch's import |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| `{name}` | {median:.2f} | {median / torch:.2f} |")


if __name__ == "__main__":
    main()
