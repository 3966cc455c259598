"""Compare every error that a measure states with the spread over repetitions. Prints a table.

    python benchmarks/stated_errors.py [--models gmm,...] [--groups rate,...] [--kinds draws,images]
                                       [--repeats 40]

Eleven small models are trained, of every kind and of most likelihoods. For each group of measures,
and for what training measures (``trained``), two kinds of errors are tried.

draws   The same 250 test images, measured again with other random numbers: `mc_se`, and `se` where
        the entry says that it is over draws.
images  Other test images each time, 250 that no other repetition has, other validation images,
        which the controls are, and other random numbers: `se`. So are the paired differences of
        each model from the one before it, as `vaexp compare` states them.

Beside `se` stand the other errors of an entry: those of the number that they are named after, as
`gain_se` is of `gain`, and the width of a 95 % interval, over 2 x 1.96. `train_se` is left out: it
is over training images, which no repetition changes.

Of 40 repetitions the spread itself has a relative error of 11 %, so a ratio of spread to stated
error outside of 1/1.3 to 1.3 is marked: at 2.3 of its errors, which by chance alone one ratio in 50
is. The stated error is the root mean square over repetitions. Errors of rounding are left out.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vaexp.comparison.differences import Side, difference
from vaexp.config import load_config
from vaexp.evaluation.groups import GROUPS, fast_groups
from vaexp.evaluation.measure import Estimate, Measure
from vaexp.evaluation.subject import Subject, measure_group
from vaexp.experiment.evaluate import Entries, subject_of
from vaexp.experiment.fit import fit
from vaexp.experiment.measure import entry, measure_split
from vaexp.experiment.prepare import Experiment
from vaexp.models import Model
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights
from vaexp.seeding import seeded

IMAGES = 250  # of each repetition, so that 40 of them take all 10,000 test images
AT_MOST = 1.3
ROUNDING = 1e-9  # of a number, below which an error is one of rounding
IMPORTANCE_SAMPLES = 20
SMALL = ["data.limit=2000", "evaluate.importance_samples=0", "train.epochs=10"]
OF_VAE = [*SMALL, "model.hidden=[64]"]
OF_EM = ["data.limit=2000", "train.max_iter=20"]
MODELS = {
    "conditional": ["quickstart", *SMALL, "model.beta=2", "model.sigma_mode=shared"],
    "unconditional": ["vae-unconditional", *SMALL, "model.hidden=[64]", "model.latent_dim=4"],
    "linear": ["bridge-vae", *SMALL],
    "gmm": ["gmm-diag", *OF_EM, "model.components=10"],
    "ppca": ["ppca", *OF_EM, "model.latent_dim=4"],
    "fa": ["fa", *OF_EM, "model.latent_dim=4"],
    "pixel": ["vae-pixel", *OF_VAE],
    "lowrank": ["vae-lowrank", *OF_VAE],
    "bernoulli": ["vae-bernoulli", *OF_VAE],
    "truncated": ["vae-truncated", *OF_VAE],
    "logistic": ["vae-logistic", *OF_VAE],
}
TRAINED = "trained"
"""The name of what training measures, which is no group of the table."""
FIXED = ("train",)
"""The numbers whose errors are over images that no repetition changes."""


class Found(NamedTuple):
    """What one repetition says of a group of measures."""

    entries: Entries
    values: dict[str, "np.ndarray[Any, Any]"]
    """Those of each image, as per_example.npz has them."""


class Stated(NamedTuple):
    """A number and an error that an entry states of it."""

    name: str
    kind: str
    """Over what the error is: draws or images."""
    value: float
    error: float


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


def measured(experiment: Experiment, subject: Subject[Model], group: str, seed: int) -> Found:
    """What a group says of each measure, with the random numbers of a seed."""
    with seeded(seed, "stated errors", group):
        if group == TRAINED:
            found: Mapping[str, Measure | Estimate] = measure_split(
                subject.model, subject.x, subject.label
            )
        else:
            found = measure_group(GROUPS[group], subject).entries
    facts = experiment.config.likelihood_facts
    values = {
        key: array
        for name, one in found.items()
        if isinstance(one, Measure)
        for key, array in one.per_example(name).items()
    }
    return Found({name: entry(one, facts) for name, one in found.items()}, values)


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


def stated(found: Found) -> Iterator[Stated]:
    """All errors that the entries state."""
    for name, one in found.entries.items():
        over = "draws" if one.get("over") == "draws" else "images"
        value = one["value"]
        if one.get("se") is not None:
            yield Stated(name, over, value, one["se"])
        if "mc_se" in one:
            yield Stated(name, "draws", value, one["mc_se"])
        if "interval" in one:
            low, high = one["interval"]
            yield Stated(f"{name}: interval", over, value, (high - low) / (2 * 1.96))
        for key in one:
            of = key.removesuffix("_se")
            if key in (of, "mc_se") or of in FIXED or one[key] is None:
                continue
            if of in one:
                yield Stated(f"{name}: {of}", over, one[of], one[key])
            else:  # such as that of ln C, which is a measure too and is added to others
                yield Stated(f"{name}: {of}", "draws", found.entries[of]["value"], one[key])


def differences(a: Found, b: Found, transforms: tuple[str, str]) -> Found:
    """The paired differences b - a, of the measures that have them."""
    sides = [
        Side(one.entries, one.values, {"data": None, "data.transform": transform})
        for one, transform in zip((a, b), transforms, strict=True)
    ]
    answer = {}
    for name, one in b.entries.items():
        if one["aggregate"] != "whole" and name in a.entries:
            found = difference(name, *sides)
            if found.refused is None:
                answer[f"{name} (paired)"] = asdict(found) | found.tails.facts()
    return Found(answer, {})


def ratios(found: Sequence[Found], kind: str) -> Iterator[tuple[str, float, float]]:
    """Each number with a stated error: its name, the root mean square of it, and the spread."""
    numbers: dict[str, list[Stated]] = {}
    for one in found:
        for each in stated(one):
            if each.kind == kind:
                numbers.setdefault(each.name, []).append(each)
    for name, all_of_it in numbers.items():
        if len(all_of_it) == len(found):
            square = sum(one.error**2 for one in all_of_it) / len(found)
            values = torch.tensor([one.value for one in all_of_it], dtype=torch.float64)
            if math.sqrt(square) > ROUNDING * values.abs().max().item():
                yield name, math.sqrt(square), values.std().item()


def repeated(
    experiment: Experiment, subjects: Sequence[Subject[Model]], group: str, kind: str
) -> list[Found]:
    """What a group says in each repetition."""
    return [
        measured(experiment, subjects[0] if kind == "draws" else one, group, seed)
        for seed, one in enumerate(subjects)
    ]


class Table:
    """The table, which is printed line by line."""

    def __init__(self) -> None:
        self.tried = 0
        self.outside: list[str] = []
        print("| model | group | measure | error of | stated | spread | spread / stated | |")
        print("|---|---|---|---|---|---|---|---|")

    def add(self, model: str, group: str, kind: str, found: Sequence[Found]) -> None:
        """Print the ratios of one kind of errors."""
        for name, error, spread in ratios(found, kind):
            self.tried += 1
            ratio = spread / error
            mark = "" if 1 / AT_MOST <= ratio <= AT_MOST else "outside"
            self.outside += [f"{model} {name} ({kind}): {ratio:.2f}"] if mark else []
            cells = [model, group, name, kind, f"{error:.3g}", f"{spread:.3g}", f"{ratio:.2f}"]
            print("|", " | ".join([*cells, mark]), "|", flush=True)

    def end(self) -> None:
        """Print which ratios are outside."""
        print(
            f"\n{len(self.outside)} of {self.tried} ratios are outside of 1/{AT_MOST} to", AT_MOST
        )
        print("\n".join(self.outside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--groups", default=",".join([TRAINED, *fast_groups(), "iw", "iw_levels"]))
    parser.add_argument("--kinds", default="draws,images")
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    groups, kinds = options.groups.split(","), options.kinds.split(",")
    table = Table()
    before: dict[str, list[Found]] = {}
    transform = ""
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models.split(","):
            experiment = trained(model, Path(folder))
            each = list(subjects(experiment, options.repeats))
            transforms = transform, experiment.config.data.transform
            for group in groups:
                if "draws" in kinds:
                    table.add(model, group, "draws", repeated(experiment, each, group, "draws"))
                if "images" not in kinds:
                    continue
                found = repeated(experiment, each, group, "images")
                table.add(model, group, "images", found)
                if group in before:
                    pairs = zip(before[group], found, strict=True)
                    paired = [differences(a, b, transforms) for a, b in pairs]
                    table.add(model, group, "images", paired)
                before[group] = found
            transform = experiment.config.data.transform
    table.end()


if __name__ == "__main__":
    main()
