"""Start many runs at the same moment in one folder, and see that each of them ends as a whole run.

    python benchmarks/starts.py [--starts 200]

The processes are forked from one that has imported torch and read the data, so that all of them
come to the making of the run folder within a second or so. Prints how many runs have finished, how
many folders there are, and whether all of them hold the same numbers.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from vaexp import cli
from vaexp.data import bundled
from vaexp.experiment import train  # noqa: F401  (loaded once, before the forks)
from vaexp.runs.folder import RunFolder

TINY = """\
model: {kind: ppca, latent_dim: 2}
data: {limit: 64, validation_size: 100, labels: [4]}
train: {max_iter: 2}
"""


def start(number: int, begin: float) -> int:
    """Fork a process that trains a run from the moment ``begin`` on; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        with open(f"log-{number}.txt", "wb") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        time.sleep(max(0.0, begin - time.monotonic()))
        sys.argv = ["vaexp", "train", "tiny.yaml", "--no-figures", "--runs-dir", "runs"]
        cli.main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=200)
    starts = parser.parse_args().starts
    torch.set_num_threads(1)
    source = bundled.read()
    bundled.read = lambda: source  # type: ignore[assignment]  # read once, before the forks
    with tempfile.TemporaryDirectory(prefix="starts-") as folder:
        os.chdir(folder)
        Path("tiny.yaml").write_text(TINY)
        begin = time.monotonic() + 2 + starts / 100
        children = [start(number, begin) for number in range(starts)]
        codes = Counter(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        runs = [RunFolder.open(path) for path in Path("runs").iterdir()]
        statuses = Counter(run.status() for run in runs)
        numbers = {json.dumps(run.metrics()["test"], sort_keys=True) for run in runs}
        printed = {Path(f"log-{n}.txt").read_text().splitlines()[-1] for n in range(starts)}
        print(f"{starts} starts: exit codes {dict(codes)}, runs {dict(statuses)}")
        print(f"{len(printed)} different paths printed, {len(numbers)} different numbers")
        os.chdir("/")
    sys.exit(0 if statuses == {"finished": starts} and len(numbers) == 1 else 1)


if __name__ == "__main__":
    main()
