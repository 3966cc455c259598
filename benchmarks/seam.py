"""Measure the seam in the quickstart's latent plane of the digit 1, over seeds and settings.

    python benchmarks/seam.py RUNS_DIR [SECONDS [KEY=VALUE ...]]

In some runs the plane of the digit 1 is folded: between two slants mu(z) fades from one stroke into
another, and shows both. The script trains the quickstart with each of SETTINGS and five seeds, as
far as RUNS_DIR does not have the runs, and begins none after SECONDS, and ends with exit code 75 if
some are left. KEY=VALUE changes all of them. It prints a Markdown table of what is there: for each
setting, over the cells of a grid of equal prior probability,

- unsure: the share of cells whose mu(z) the shipped classifier does not read as a 1 with a
  probability of at least 0.9, which is what crossed strokes do;
- jump: the largest distance of mu(z) between neighbouring cells over the median one;
- other digits: the mean of "unsure" over the nine other digits.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

import torch

from vaexp.evaluation.digit_classifier import load_classifier, read_digits
from vaexp.experiment.sample import latent_grid
from vaexp.runs.folder import RunFolder, find_runs
from vaexp.runs.trained import TrainedModel
from vaexp.tables import show_number

SETTINGS = {
    "as shipped": [],
    "model.beta_warmup=5": ["model.beta_warmup=5"],
    "model.sigma=1 at the start": ["model.sigma=1"],
    "model.activation=tanh": ["model.activation=tanh"],
    "model.hidden=[256]": ["model.hidden=[256]"],
    "model.hidden=[1024, 512]": ["model.hidden=[1024, 512]"],
    "train.learning_rate=3e-3": ["train.learning_rate=3e-3"],
    "train.batch_size=64": ["train.batch_size=64"],
}
SEEDS = range(1, 6)
CELLS = 30  # along each side of the plane
SURE = 0.9


@torch.no_grad()
def unsure(trained: TrainedModel, digit: int) -> float:
    """The share of the plane where mu(z) of a digit is not surely read as it."""
    z, _ = latent_grid(trained.model.latent_dim, (0, 1), CELLS)
    images = trained.model.decode(z, torch.tensor(digit)).mean.flatten(0, 1).clamp(0, 1)
    _, log_prob = read_digits(load_classifier(), images)
    return (log_prob[:, digit].exp() < SURE).double().mean().item()


@torch.no_grad()
def jump(trained: TrainedModel, digit: int) -> float:
    """The largest distance of mu(z) between neighbouring cells, over the median one."""
    z, _ = latent_grid(trained.model.latent_dim, (0, 1), CELLS)
    images = trained.model.decode(z, torch.tensor(digit)).mean.double()
    steps = [images.diff(dim=axis).norm(dim=-1).flatten() for axis in (0, 1)]
    return (torch.cat(steps).max() / torch.cat(steps).median()).item()


def finished(folder: Path) -> dict[int, RunFolder]:
    """The finished runs of a folder by their seed."""
    runs = find_runs(folder) if folder.is_dir() else []
    return {run.config().seed: run for run in runs if run.status() == "finished"}


def main() -> None:
    runs_dir = Path(sys.argv[1])
    until = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else "inf")
    left = 0
    for at, changes in enumerate(SETTINGS.values()):
        folder = runs_dir / f"setting-{at}"
        for seed in SEEDS:
            if seed in finished(folder):
                continue
            if time.monotonic() > until:
                left += 1
            else:
                given = [f"seed={seed}", *changes, *sys.argv[3:], "evaluate.importance_samples=0"]
                command = [sys.executable, "-m", "vaexp", "train", "quickstart", *given, "--quick"]
                subprocess.run([*command, "--runs-dir", str(folder)], check=True)
    header = (
        "setting | seeds | unsure of 1, each seed | mean | jump | other digits | validation elbo"
    )
    print(f"| {header} |\n|---|---|---|---|---|---|---|")
    for at, name in enumerate(SETTINGS):
        runs = [run for _, run in sorted(finished(runs_dir / f"setting-{at}").items())]
        if not runs:
            continue
        models = [TrainedModel.read(run) for run in runs]
        shares = [unsure(model, 1) for model in models]
        jumps = [jump(model, 1) for model in models]
        others = [
            mean(unsure(model, digit) for digit in range(10) if digit != 1) for model in models
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
