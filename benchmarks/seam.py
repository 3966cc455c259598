"""Measure the seam in the quickstart's latent plane of the digit 1, over seeds and settings.

    python benchmarks/seam.py RUNS_DIR [SECONDS [KEY=VALUE ...]]

In some runs the plane of the digit 1 is folded: between two slants mu(z) fades from one stroke into
another, and shows both. The script trains the quickstart with each of SETTINGS and five seeds, as
far as RUNS_DIR does not have the runs. It goes on with those that were stopped, begins none after
SECONDS, and ends with exit code 75 if some are left. KEY=VALUE changes all of them. It prints a
Markdown table of what is there, for each setting over the cells of a grid of equal prior mass:

- far: the share of cells whose mu(z) is further from every training image of a 1 than 95 % of the
  test images of a 1 are, which is what crossed strokes do;
- jump: the largest distance of mu(z) between neighbouring cells over the median one;
- other digits: the mean of "far" over the nine other digits.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor

from vaexp.config import DataConfig
from vaexp.data import Dataset, load
from vaexp.experiment.sample import latent_grid
from vaexp.runs.find import find_runs
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel
from vaexp.shown import show_number

SETTINGS = {
    "as shipped (σ from 0.3)": [],
    "σ from 0.6": ["model.sigma=0.6"],
    "β rises for 5 epochs": ["model.beta_warmup=5"],
    "one hidden layer of 256": ["model.hidden=[256]"],
    "hidden layers of 1,024 and 512": ["model.hidden=[1024, 512]"],
    "tanh in place of gelu": ["model.activation=tanh"],
}
SEEDS = range(1, 6)
CELLS = 30  # along each side of the plane
USUAL = 0.95


class Ruler(NamedTuple):
    """How far images of a digit lie from the training images of it."""

    train: Tensor
    """(M, D), on the scale of 0 to 1."""
    reach: float
    """The distance to the nearest of them within which the share USUAL of the test images lies."""

    @classmethod
    def of(cls, data: Dataset, digit: int) -> "Ruler":
        train, test = (
            split.pixels[split.label == digit].float() / 255 for split in (data.train, data.test)
        )
        return cls(train, torch.cdist(test, train).min(1).values.quantile(USUAL).item())


@torch.no_grad()
def far(trained: TrainedModel, digit: int, ruler: Ruler) -> float:
    """The share of the plane where mu(z) of a digit is further from it than its images are."""
    z, _ = latent_grid(trained.model.latent_dim, (0, 1), CELLS)
    images = trained.model.decode(z, torch.tensor(digit)).mean.flatten(0, 1)
    nearest = torch.cdist(images, ruler.train).min(1).values
    return (nearest > ruler.reach).double().mean().item()


@torch.no_grad()
def jump(trained: TrainedModel, digit: int) -> float:
    """The largest distance of mu(z) between neighbouring cells, over the median one."""
    z, _ = latent_grid(trained.model.latent_dim, (0, 1), CELLS)
    images = trained.model.decode(z, torch.tensor(digit)).mean.double()
    steps = [images.diff(dim=axis).norm(dim=-1).flatten() for axis in (0, 1)]
    return (torch.cat(steps).max() / torch.cat(steps).median()).item()


def runs_of(folder: Path) -> dict[int, RunFolder]:
    """The runs of a setting by their seed, whether they have finished or not."""
    runs = find_runs(folder) if folder.is_dir() else []
    return {run.config().seed: run for run in runs}


def train(folder: Path, seed: int, changes: list[str]) -> None:
    """Train the quickstart with a seed and changes, or go on with the run that is there."""
    known = runs_of(folder).get(seed)
    if known is None:
        given = ["quickstart", f"seed={seed}", *changes, "evaluate.importance_samples=0"]
        given += ["--runs-dir", str(folder)]
    else:
        given = ["--resume", str(known.path)]
    command = [sys.executable, "-m", "vaexp", "train", *given, "--quick"]
    subprocess.run(command, check=True, stdout=sys.stderr)


def main() -> None:
    runs_dir, changes = Path(sys.argv[1]), sys.argv[3:]
    until = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else "inf")
    folders = {name: runs_dir / f"setting-{at}" for at, name in enumerate(SETTINGS)}
    left = 0
    for seed in SEEDS:
        for name, folder in folders.items():
            known = runs_of(folder).get(seed)
            if known is not None and known.status() == "finished":
                continue
            if time.monotonic() > until:
                left += 1
            else:
                train(folder, seed, [*SETTINGS[name], *changes])
    header = "setting | seeds | far of 1, each seed | mean | jump | other digits | validation elbo"
    print(f"| {header} |\n|---|---|---|---|---|---|---|")
    data = load(DataConfig())
    rulers = {digit: Ruler.of(data, digit) for digit in range(10)}
    for name, folder in folders.items():
        known_runs = sorted(runs_of(folder).items())
        runs = [run for _, run in known_runs if run.status() == "finished"]
        if not runs:
            continue
        models = [TrainedModel.read(run) for run in runs]
        shares = [far(model, 1, rulers[1]) for model in models]
        jumps = [jump(model, 1) for model in models]
        others = [
            mean(far(model, digit, rulers[digit]) for digit in range(10) if digit != 1)
            for model in models
        ]
        elbo = torch.tensor([run.records()[-1]["validation"]["elbo"] for run in runs])
        spread = elbo.std().item() if len(runs) > 1 else None
        each = " ".join(f"{share:.1%}" for share in shares)
        cells = [name, len(runs), each, f"{mean(shares):.1%}", f"{mean(jumps):.1f}"]
        cells += [f"{mean(others):.1%}", show_number(elbo.mean().item(), spread)]
        print("| " + " | ".join(map(str, cells)) + " |")
    if left:
        sys.exit(75)


if __name__ == "__main__":
    main()
