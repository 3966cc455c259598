"""Score real images and their centroids by a Parzen window, on the 10,000 test images of MNIST.

    python benchmarks/parzen.py [TRAINING_IMAGES CENTROIDS ...]

The default is 10000 real training images, and 1000 and 5000 centroids of all 50,000 of them.
It prints a Markdown table.
"""

import sys
import time

from vaexp.config import DataConfig
from vaexp.data import load
from vaexp.evaluation.parzen import CHOOSING, best_bandwidth, centroids, parzen_log_prob
from vaexp.evaluation.statistics import standard_error
from vaexp.shown import show_number


def main() -> None:
    asked = [int(argument) for argument in sys.argv[1:]] or [10_000, 1_000, 5_000]
    data = load(DataConfig())
    assert data.validation is not None
    train, validation, test = (
        split.pixels.float() / 255 for split in (data.train, data.validation, data.test)
    )
    print("| kernels on | h | ln p(x) by the window, nats | s |\n|---|---|---|---|", flush=True)
    for number, count in enumerate(asked):
        began = time.perf_counter()
        kernels = train[:count] if number == 0 else centroids(train, count)
        name = f"{count:,} " + ("training images" if number == 0 else "centroids")
        bandwidth = best_bandwidth(validation[:CHOOSING], kernels)
        values = parzen_log_prob(test, kernels, bandwidth)
        shown = show_number(values.mean().item(), standard_error(values))
        seconds = time.perf_counter() - began
        print(f"| {name} | {bandwidth:.3f} | {shown} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
