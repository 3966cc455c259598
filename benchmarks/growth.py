"""Measure how the cost grows with the size of each thing, and draw it.

    python -m benchmarks.growth [AXIS ...]     from the root of the repository

Each axis is tried at sizes that double or more. The exponent p of cost ~ size^p is that between the
two largest sizes, where what does not grow weighs least: 1 is linear. The peak memory of each
process, less that of the smallest size, stands beside it. Writes benchmarks/growth.json and
benchmarks/growth.png, and prints the table of README.md. All of it takes twenty minutes.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.em import images, our_iteration, our_steps
from benchmarks.harness import machine
from benchmarks.training import new_model, ours
from vaexp.evaluation.bounds import iw_measures
from vaexp.fitting import ppca
from vaexp.models.moments import Moments

FILE = Path(__file__).with_name("growth.json")
TURNS = 3


@dataclass(frozen=True)
class Axis:
    """One size that grows, and the work whose time is taken."""

    work: str
    letter: str
    """What grows, for the table and the axis of the figure."""
    sizes: tuple[int, ...]
    prepare: Callable[[int], Callable[[], object]]
    """Makes the work at a size; each call of what it returns is one turn."""


def repeated(count: int) -> torch.Tensor:
    """``count`` images: the 60,000 of MNIST again and again, (count, D)."""
    x = images(60_000)
    return x.repeat(-(-count // len(x)), 1)[:count]


def training(count: int = 12_800, pixels: int = 784, *overrides: str) -> Callable[[], object]:
    """An epoch of the VAE 784-400-20 in batches of 128."""
    x = repeated(count) if pixels == 784 else torch.rand(count, pixels)
    return ours(new_model("model.sigma_mode=fixed", *overrides, pixels=pixels), x, 128)


def mixture(covariance: str, count: int, k: int) -> Callable[[], object]:
    """An iteration of EM."""
    steps = our_steps(repeated(count), covariance, k)
    model = steps.start(0)
    expected = steps.e_step(model)

    def turn() -> None:
        nonlocal expected, model
        expected, model = our_iteration(steps, expected, model)

    return turn


def factors(latents: int) -> Callable[[], object]:
    """A hundred iterations of EM for pPCA, which work on the moments of the images."""
    steps = ppca.PPCASteps(Moments.of(images(60_000)), None, latents, closed=False, seed=1)

    def turn() -> None:
        model = steps.start(0)
        for _ in range(100):
            model = steps.m_step(steps.e_step(model), model)

    return turn


def importance(draws: int) -> Callable[[], object]:
    """The importance-weighted bound of 100 images."""
    model, x = new_model("model.sigma_mode=fixed"), images(100)
    label = torch.zeros(len(x), dtype=torch.int64)
    return lambda: iw_measures(model, x, label, k=draws)


def deep(layers: int) -> Callable[[], object]:
    """An epoch of a VAE with so many hidden layers of 400 units on each side."""
    return training(12_800, 784, f"model.hidden={[400] * layers}")


AXES = {
    "vae-images": Axis("an epoch of a VAE", "images N", (6_000, 60_000, 600_000), training),
    "vae-pixels": Axis(
        "100 steps of a VAE",
        "pixels D",
        (784, 3_072, 12_288),
        lambda pixels: training(12_800, pixels),
    ),
    "vae-latents": Axis(
        "100 steps of a VAE",
        "latents L",
        (2, 20, 200),
        lambda latents: training(12_800, 784, f"model.latent_dim={latents}"),
    ),
    "vae-depth": Axis("100 steps of a VAE", "hidden layers", (1, 2, 4, 8), deep),
    "draws": Axis(
        "importance-weighted bound, 100 images", "draws K", (10, 100, 1_000, 10_000), importance
    ),
    "gmm-diag-images": Axis(
        "an iteration of EM, diag, K = 10",
        "images N",
        (6_000, 60_000, 600_000),
        lambda count: mixture("diag", count, 10),
    ),
    "gmm-diag-components": Axis(
        "an iteration of EM, diag, N = 60,000",
        "components K",
        (10, 100, 1_000),
        lambda k: mixture("diag", 60_000, k),
    ),
    "gmm-full-images": Axis(
        "an iteration of EM, full, K = 10",
        "images N",
        (6_000, 60_000, 240_000),
        lambda count: mixture("full", count, 10),
    ),
    "ppca-latents": Axis("100 iterations of EM for pPCA", "latents L", (10, 50, 250), factors),
}


def once(name: str, size: int) -> None:
    """Print the seconds of a turn and the peak memory of this process in MB, as JSON."""
    turn = AXES[name].prepare(size)
    seconds = []
    for _ in range(TURNS + 1):
        start = time.perf_counter()
        turn()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": median(seconds[1:]), "megabytes": peak}))


def grown(name: str) -> dict[str, object]:
    """The costs of an axis, each size in a process of its own."""
    axis, seconds, megabytes = AXES[name], [], []
    for size in axis.sizes:
        command = [sys.executable, "-m", "benchmarks.growth", "--once", name, str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        cost = json.loads(done.stdout)
        seconds.append(cost["seconds"])
        megabytes.append(cost["megabytes"])
    ratio = math.log(seconds[-1] / seconds[-2]) / math.log(axis.sizes[-1] / axis.sizes[-2])
    costs = {"sizes": axis.sizes, "seconds": seconds, "megabytes": megabytes, "exponent": ratio}
    return costs | {"machine": machine()}


def table(measured: dict[str, dict[str, list[float]]]) -> str:
    """The costs as a Markdown table."""
    lines = [
        "| work | grows | s at each size | exponent | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for name, costs in measured.items():
        axis = AXES[name]
        sizes = ", ".join(f"{size:,}" for size in axis.sizes)
        seconds = ", ".join(f"{each:.3g}" for each in costs["seconds"])
        memory = ", ".join(f"{each:,.0f}" for each in costs["megabytes"])
        cells = [axis.work, f"{axis.letter}: {sizes}", seconds, f"{costs['exponent']:.2f}", memory]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(measured: dict[str, dict[str, list[float]]]) -> None:
    """Seconds against size, both relative to the smallest, with the line of linear cost."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5), layout="constrained")
    for name, costs in measured.items():
        axis = AXES[name]
        sizes = [size / axis.sizes[0] for size in axis.sizes]
        times = [each / costs["seconds"][0] for each in costs["seconds"]]
        axes.loglog(sizes, times, marker="o", label=f"{axis.work}, {axis.letter}")
    axes.loglog([1, 1000], [1, 1000], "--", color="0.6", label="linear")
    axes.set(xlabel="size, relative to the smallest", ylabel="seconds, relative to the smallest")
    axes.legend(fontsize=8)
    figure.savefig(FILE.with_suffix(".png"), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=", ".join(AXES))
    parser.add_argument("--once", nargs=2, metavar=("AXIS", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        once(arguments.once[0], int(arguments.once[1]))
        return
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in arguments.axes or AXES:
        found[name] = grown(name)
        print(table({name: found[name]}), flush=True)
    measured = {name: found[name] for name in AXES if name in found}
    FILE.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    draw(measured)


if __name__ == "__main__":
    main()
