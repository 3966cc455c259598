"""How long the list of 1,000 runs and the comparison of 100 take: copies of one run, other betas.

    python benchmarks/many_runs.py RUN

The first list reads every run. The second takes finished runs from the index in the user's cache,
which is a temporary folder here. Times are those of whole processes, in seconds.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vaexp.config import digest, dump, load_config

COUNT, COMPARED = 1_000, 100
LEFT_OUT = ("*.pt", "*.safetensors", "*.png")  # large files, which neither command reads


def copies(run: Path, folder: Path) -> list[Path]:
    """Copies of a run without its large files, each with a beta of its own."""
    made = []
    for i in range(COUNT):
        copy = folder / f"20260101-000000-copy-{i:04x}"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        config = load_config(str(run), [f"model.beta={1 + i / 100}"])
        (copy / "config.yaml").write_text(dump(config), encoding="utf-8")
        environment = json.loads((copy / "environment.json").read_text(encoding="utf-8"))
        environment["config_sha256"] = digest(config)
        (copy / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
        made.append(copy)
    return made


def timed(name: str, *arguments: str) -> None:
    """Run a command and print how long it took, by the clock and of the processor."""
    before, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "vaexp", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print(f"{name:<40} {time.perf_counter() - before:6.2f} s  {cpu:6.2f} s of processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished VAE run")
    run = parser.parse_args().run
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        folder = Path(name) / "runs"
        folder.mkdir()
        made = copies(run, folder)
        timed("vaexp --version", "--version")
        timed(f"vaexp runs, {COUNT:,} runs, first time", "runs", str(folder))
        timed(f"vaexp runs, {COUNT:,} runs, again", "runs", str(folder))
        compared = [str(path) for path in made[:COMPARED]]
        timed(f"vaexp compare, {COMPARED} runs", "compare", *compared)
        timed(f"vaexp compare, {COMPARED} runs, csv", "compare", *compared, "--format", "csv")


if __name__ == "__main__":
    main()
