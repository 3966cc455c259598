"""Check elbo <= iw_bound(K) <= iw_bound(1,000) <= ln p(x) on finished runs. Prints a table.

    python benchmarks/bounds.py BEFORE AFTER

AFTER holds copies of the runs in the folder BEFORE, on which `vaexp evaluate RUN --only
iw,quadrature -k 1000 --images 300` was run. The differences are means over the first 300 test
images, with the standard error of the paired difference.
"""

import sys
from pathlib import Path

import numpy as np

from vaexp.runs.folder import RunFolder

IMAGES = 300


def difference(upper: np.ndarray, lower: np.ndarray) -> str:
    """The mean of upper - lower over images (N,), with its standard error."""
    gap = upper[:IMAGES] - lower[:IMAGES]
    return f"{gap.mean():,.3f} ± {gap.std(ddof=1) / np.sqrt(len(gap)):.3f}"


def main() -> None:
    before, after = map(Path, sys.argv[1:])
    print("| run | IW(K) - ELBO | IW(1,000) - IW(K) | ln p(x) - IW(1,000) | effective of 1,000 |")
    print("|---|---|---|---|---|")
    for path in sorted(after.iterdir()):
        old = RunFolder.open(before / path.name).per_example()
        run = RunFolder.open(path)
        new, test = run.per_example(), run.metrics()["test"]
        if "iw_bound" not in old or test["iw_bound"]["k"] != 1000:
            continue
        exact = new.get("log_prob_quadrature", new.get("log_prob"))
        last = "" if exact is None else difference(exact, new["iw_bound"])
        cells = [
            run.config().name,
            difference(old["iw_bound"], old["elbo"]),
            difference(new["iw_bound"], old["iw_bound"]),
            last,
            f"{test['iw_bound']['effective_samples']:.1f}",
        ]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
