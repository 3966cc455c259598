"""Compare every error that a measure states with the spread over repetitions. Prints a table.

    python benchmarks/stated_errors.py [--models gmm,...] [--groups rate,...] [--repeats 40]

Four small models are trained: a VAE that is given the label, one that is not, a linear one, and a
mixture. For each group of measures, two kinds of errors are tried.

draws   The same 250 test images, measured again with other random numbers: `mc_se`, and `se` where
        the entry says that it is over draws.
images  Other test images each time, 250 that no other repetition has, other validation images,
        which the controls are, and other random numbers: `se`.

Of 40 repetitions the spread itself has a relative error of 11 %, so a ratio of spread to stated
error outside of 1/1.3 to 1.3 is marked: at 2.3 of its errors, which by chance alone one ratio in 50
is. The stated error is the root mean square over repetitions. Errors of exactly 0 are left out.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vaexp.config import load_config
from vaexp.evaluation.groups import GROUPS, fast_groups
from vaexp.evaluation.subject import Subject, measure_group
from vaexp.experiment.evaluate import subject_of
from vaexp.experiment.fit import fit
from vaexp.experiment.prepare import Experiment
from vaexp.models import Model
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights
from vaexp.seeding import seeded

IMAGES = 250  # of each repetition, so that 40 of them take all 10,000 test images
AT_MOST = 1.3
IMPORTANCE_SAMPLES = 20
SMALL = ["data.limit=2000", "evaluate.importance_samples=0", "train.epochs=10"]
MODELS = {
    "conditional": ["quickstart", *SMALL, "model.beta=2", "model.sigma_mode=shared"],
    "unconditional": ["vae-unconditional", *SMALL, "model.hidden=[64]", "model.latent_dim=4"],
    "linear": ["bridge-vae", *SMALL],
    "gmm": ["gmm-diag", "data.limit=2000", "model.components=10", "train.max_iter=20"],
}


def trained(name: str, folder: Path) -> Experiment:
    """The small model of this name, fitted."""
    config, *overrides = MODELS[name]
    experiment = Experiment.prepare(load_config(config, overrides))
    run = RunFolder.create(folder, experiment.config)
    run.start()
    fit(experiment, run, Reporter())
    load_weights(experiment.model, run, experiment.device)
    experiment.model.eval().requires_grad_(False)
    return experiment


def entries(subject: Subject[Model], group: str, seed: int) -> dict[str, dict[str, Any]]:
    """What a group says of each measure, with the random numbers of a seed."""
    with seeded(seed, "stated errors", group):
        evidence = measure_group(GROUPS[group], subject)
    return {name: one.summary() for name, one in evidence.entries.items()}


def subjects(experiment: Experiment, repeats: int) -> Iterator[Subject[Model]]:
    """A subject for each repetition, with test images and validation images of its own."""
    x = experiment.held_out_images(experiment.data.test, "test")
    whole = subject_of(experiment, x, IMPORTANCE_SAMPLES, Reporter())
    others = whole.validation()
    assert others is not None
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(len(x), generator=generator).split(IMAGES)
    controls = torch.randperm(len(others), generator=generator).tensor_split(len(rows))
    for own, control in list(zip(rows, controls, strict=True))[:repeats]:
        yield replace(
            whole,
            x=x[own],
            label=whole.label[own],
            validation=partial(others.index_select, 0, control),
        )


def stated(entry: dict[str, Any], kind: str) -> float | None:
    """The error of this kind, draws or images, that an entry states; None if it states none."""
    over_draws = entry.get("over") == "draws"
    if kind == "draws":
        error = entry.get("se") if over_draws else entry.get("mc_se")
    else:
        error = None if over_draws else entry.get("se")
    return None if error is None else float(error)


def ratios(
    found: Sequence[dict[str, dict[str, Any]]], kind: str
) -> Iterator[tuple[str, float, float]]:
    """Each measure with a stated error: its name, the root mean square of it, and the spread."""
    for name in found[0]:
        errors = [stated(one[name], kind) for one in found if name in one]
        if len(errors) < len(found) or None in errors:
            continue
        square = sum(error**2 for error in errors if error is not None) / len(errors)
        values = torch.tensor([one[name]["value"] for one in found], dtype=torch.float64)
        if square > 0:
            yield name, math.sqrt(square), values.std().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--groups", default=",".join([*fast_groups(), "iw", "iw_levels"]))
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    tried, outside = 0, []
    print("| model | group | measure | error of | stated | spread | spread / stated | |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models.split(","):
            experiment = trained(model, Path(folder))
            each = list(subjects(experiment, options.repeats))
            for group in options.groups.split(","):
                for kind in ("draws", "images"):
                    found = [
                        entries(each[0] if kind == "draws" else one, group, seed)
                        for seed, one in enumerate(each)
                    ]
                    for name, error, spread in ratios(found, kind):
                        tried += 1
                        ratio = spread / error
                        mark = "" if 1 / AT_MOST <= ratio <= AT_MOST else "outside"
                        outside += [f"{model} {name} ({kind}): {ratio:.2f}"] if mark else []
                        cells = [model, group, name, kind, f"{error:.3g}", f"{spread:.3g}"]
                        print("|", " | ".join([*cells, f"{ratio:.2f}", mark]), "|", flush=True)
    print(f"\n{len(outside)} of {tried} ratios are outside of 1/{AT_MOST} to {AT_MOST}:")
    print("\n".join(outside))


if __name__ == "__main__":
    main()
