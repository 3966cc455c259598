"""Pictures of several runs: draws, places in the rate-distortion plane, and training curves."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaexp.comparison.compare import Comparison
from vaexp.data import Dataset, Split, Transform, load
from vaexp.errors import UserError
from vaexp.experiment.sample import COLUMNS, decode
from vaexp.figures.joint_curves import MOST, joint_curves
from vaexp.figures.rate_distortion import rate_distortion
from vaexp.figures.side_by_side import RunImages, compare_runs
from vaexp.figures.style import save
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import HELD_OUT_SEED, seeded

Histories = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
"""By the name of a run, the lines of its metrics.jsonl."""
MOST_DRAWN = 16  # runs side by side; the rate-distortion plane has all of them


def draw_comparison(
    runs: list[RunFolder], comparison: Comparison, side: Path, say: Callable[[str], None]
) -> list[Path]:
    """Draw runs side by side and, if they are comparable there, in the rate-distortion plane.

    Comparable runs that were trained by gradients also have their training curves together. The
    first picture is saved at the path ``side``, and the others beside it. Returns their paths, and
    says why others were not drawn.
    """
    side_by_side(runs, comparison, side)
    refused = _not_in_a_plane(comparison)
    if refused is not None:
        say(f"no picture of the rate-distortion plane and the training curves: {refused}")
        return [side]
    rate, distortion = (
        np.array([entry["value"] for entry in comparison.metrics[name] if entry])
        for name in ("rate", "distortion")
    )
    beta = np.array([run.config().model.kl_factor for run in runs], dtype=float)
    plane = side.with_name(f"{side.stem}-rate-distortion.png")
    subtitle = f"{len(runs)} runs, nats per image of the test split"
    save(rate_distortion(comparison.runs, rate, distortion, beta, subtitle), plane)
    histories = {
        name: [records]
        for name, run in zip(comparison.runs, runs, strict=True)
        if (records := run.records())  # which may be lost
    }
    refused = _no_curves(runs, histories)
    if refused is not None:
        say(f"no picture of the training curves: {refused}")
        return [side, plane]
    curves = side.with_name(f"{side.stem}-training-curves.png")
    save(joint_curves(histories, "Training curves", f"{len(runs)} runs"), curves)
    return [side, plane, curves]


def _not_in_a_plane(comparison: Comparison) -> str | None:
    """Why the runs have no places in one rate-distortion plane, or None."""
    for name in ("rate", "distortion"):
        if None in comparison.metrics.get(name, [None]):
            return f"{name} was not measured on all runs"
    differences = comparison.differences["distortion"]
    for run, difference in zip(comparison.others, differences, strict=True):
        if difference.refused is not None:
            return f"for {comparison.baseline} and {run}, {difference.refused}"
    return None


def _no_curves(runs: list[RunFolder], histories: Histories) -> str | None:
    """Why the training curves of runs are not drawn in one picture, or None."""
    if len(runs) > MOST:
        return f"there are more than {MOST} runs"
    if any(run.config().model.unit != "epoch" for run in runs):
        return "some runs were fitted by EM"
    if all(len(history) == 1 for (history,) in histories.values()):
        return "no run has more than one epoch"
    return None


def side_by_side(runs: list[RunFolder], comparison: Comparison, path: Path) -> None:
    """Draw the first MOST_DRAWN runs in one picture, with the same latents and test images.

    Each run has the same rows, its mean and a draw, whatever its decode mode. The labels are the
    digits that all runs know, in turn. Runs with different numbers of latents cannot share z, and
    each has its own. Raises UserError for runs that have no test images in common.
    """
    count, runs = len(runs), runs[:MOST_DRAWN]
    models = [TrainedModel.read(run) for run in runs]
    loaded: dict[str, Dataset] = {}  # reading the images takes a second
    for run, trained in zip(runs, models, strict=True):
        key = trained.config.data.model_dump_json()
        if key not in loaded:
            loaded[key] = load(trained.config.data, download=False)
        run.check_data(loaded[key].sha256)
    if len({data.sha256 for data in loaded.values()}) > 1:
        raise UserError(
            "--figure: these runs have different data, so they share no test images; compare runs "
            "of the same data"
        )
    known = [set(trained.labels) for trained in models]
    known += [set(data.test.label.unique().tolist()) for data in loaded.values()]
    digits = sorted(set.intersection(*known))
    if not digits:
        raise UserError(
            "--figure: these runs have no digit in common to draw; compare runs whose data.labels "
            "overlap"
        )
    label = torch.tensor(digits)[torch.arange(COLUMNS) % len(digits)]
    sizes = {trained.model.prior().event_shape for trained in models}
    rows, originals = [], np.zeros(0)
    named = zip(models, comparison.runs, comparison.descriptions, strict=False)
    for trained, name, description in named:
        test = loaded[trained.config.data.model_dump_json()].test
        drawn, originals = _draw_and_reconstruct(trained, test, label)
        rows.append(RunImages(name, description, *drawn))
    figure = compare_runs(
        rows,
        originals,
        f"{count} runs" if count == len(runs) else f"The first {len(runs)} of {count} runs",
        same_latents=len(sizes) == 1,
        note=(_columns_of(digits) if models[0].labelled else "")
        + "The code of a test image is the mode of q(z|x).\n",
    )
    save(figure, path)


def _columns_of(digits: list[int]) -> str:
    """A sentence on the digits that the columns show."""
    return (
        "The columns of test images, and of the draws of models that are given the label, go "
        f"through the digits {' '.join(map(str, digits))}. "
    )


@torch.no_grad()
def _draw_and_reconstruct(
    trained: TrainedModel, test: Split, label: Tensor
) -> tuple[list[np.ndarray], np.ndarray]:
    """Mean and draw of latents from the prior, and of the codes of test images; and these images.

    All have the labels (COLUMNS,), and are (COLUMNS, H, W) on the display scale.
    """
    pixels = test.pixels[_first_of_each(test.label, label)]
    given = label if trained.model.conditional else None
    with seeded(HELD_OUT_SEED, "side by side"):
        z = trained.model.prior().sample(torch.Size([COLUMNS]))
        x = Transform(trained.config.data.transform)(pixels)
        codes = trained.model.encode(x, given).mode
        drawn = [
            trained.to_images(decode(trained, latents, given, mode))
            for latents in (z, codes)
            for mode in ("mean", "sample")
        ]
    return drawn, (pixels / 255).reshape(-1, *trained.shape).numpy()


def _first_of_each(labels: Tensor, wanted: Tensor) -> Tensor:
    """The index of the next image that has it, for each wanted label in turn, (n,).

    Where there are no more, they begin again.
    """
    places = {int(digit): cycle((labels == digit).nonzero()[:, 0].tolist()) for digit in wanted}
    return torch.tensor([next(places[int(digit)]) for digit in wanted])
