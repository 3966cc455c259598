"""Pictures of several runs: draws side by side, and their places in the rate-distortion plane."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaexp.comparison.compare import Comparison
from vaexp.comparison.view import row_names
from vaexp.data import IMAGE_SHAPE, Transform, load
from vaexp.errors import UserError
from vaexp.experiment.sample import COLUMNS, decode
from vaexp.figures.images import compare_runs
from vaexp.figures.rate_distortion import rate_distortion
from vaexp.figures.style import save
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import HELD_OUT_SEED, seeded

MOST_NAMED = 6  # with more runs the file name of the picture is a hash of their names


def draw_comparison(runs: list[RunFolder], comparison: Comparison) -> list[Path]:
    """Draw runs side by side and, if they are comparable there, in the rate-distortion plane.

    The pictures are saved in figures/ of the first run. Returns their paths.
    """
    stem = f"compare-{_short([run.name for run in runs])}"
    names = row_names(comparison)
    side = runs[0].files.place(f"figures/{stem}.png")
    side_by_side(runs, names, side)
    entries = {name: comparison.metrics.get(name) for name in ("rate", "distortion")}
    refused = comparison.differences.get("distortion", [])
    if any(entry is None or None in entry for entry in entries.values()) or any(
        difference.refused for difference in refused
    ):
        return [side]
    rate, distortion = (
        np.array([entry["value"] for entry in entries[name] or [] if entry])
        for name in ("rate", "distortion")
    )
    plane = side.with_name(f"{stem}-rate-distortion.png")
    subtitle = f"{len(runs)} runs, nats per image of the test split"
    note = "Dashed: equal ELBO, in nats; higher towards the lower left."
    save(rate_distortion(names, rate, distortion, subtitle, note), plane)
    return [side, plane]


def _short(names: list[str]) -> str:
    """The four hex digits at the end of the names if they tell few runs apart, else a hash."""
    ends = [name[-5:] for name in names]
    known = all(re.fullmatch("-[0-9a-f]{4}", end) for end in ends)
    if known and len(set(ends)) == len(ends) <= MOST_NAMED:
        return "".join(ends)[1:]
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:8]


def side_by_side(runs: list[RunFolder], names: list[str], path: Path) -> None:
    """Draw several runs in one picture, with the same latents and the same test images.

    Each run draws in its own decode mode, but a sweep is drawn as its mean. The labels are the
    digits that all runs know, in turn. Runs with different numbers of latents cannot share z, and
    each has its own. Raises UserError for runs that have no test images in common.
    """
    models = [TrainedModel.read(run) for run in runs]
    if len({trained.config.data.name for trained in models}) > 1:
        raise UserError(
            "--figure: these runs have different data, so they share no test images; compare runs "
            "with the same data.name"
        )
    digits = sorted(set.intersection(*(set(trained.labels) for trained in models)))
    if not digits:
        raise UserError(
            "--figure: these runs have no digit in common to draw; compare runs whose data.labels "
            "overlap"
        )
    label = torch.tensor(digits)[torch.arange(COLUMNS) % len(digits)]
    sizes = {trained.model.prior().event_shape for trained in models}
    drawn = [
        _draw_and_reconstruct(run, trained, label)
        for run, trained in zip(runs, models, strict=True)
    ]
    rows = [f"{name}; draws {one.what}" for name, one in zip(names, drawn, strict=True)]
    figure = compare_runs(
        rows,
        [one.draws for one in drawn],
        drawn[-1].originals,
        [one.reconstructions for one in drawn],
        "reconstructions are μ(z) at the mode of q(z|x); columns go through the digits "
        + " ".join(map(str, digits)),
        "draws at the same latents z" if len(sizes) == 1 else "draws (latent sizes differ)",
    )
    save(figure, path)


class _Row(NamedTuple):
    """The row of one run in the picture. Images are (COLUMNS, H, W) on the display scale."""

    what: str
    """The decode mode of the draws, as a formula."""
    draws: np.ndarray
    originals: np.ndarray
    reconstructions: np.ndarray


@torch.no_grad()
def _draw_and_reconstruct(run: RunFolder, trained: TrainedModel, label: Tensor) -> _Row:
    """Draws with these labels (COLUMNS,), and the reconstructions of their first test images."""
    data = load(trained.config.data, download=False)
    run.check_data(data.sha256)
    test = data.test
    pixels = test.pixels[_first_of_each(test.label, label)]
    samples = trained.config.model.decode_mode == "sample"
    given = label if trained.model.conditional else None
    with seeded(HELD_OUT_SEED, "side by side"):
        z = trained.model.prior().sample(torch.Size([COLUMNS]))
        drawn = decode(trained, z, given, "sample" if samples else "mean")
        x = Transform(trained.config.data.transform)(pixels)
        codes = trained.model.encode(x, given).mode
    return _Row(
        "x ~ p(x|z)" if samples else "μ(z)",
        trained.to_images(drawn),
        (pixels / 255).reshape(-1, *IMAGE_SHAPE).numpy(),
        trained.to_images(decode(trained, codes, given, "mean")),
    )


def _first_of_each(labels: Tensor, wanted: Tensor) -> Tensor:
    """The index of the next image that has it, for each wanted label in turn, (n,)."""
    places = {int(digit): iter((labels == digit).nonzero()[:, 0].tolist()) for digit in wanted}
    return torch.tensor([next(places[int(digit)]) for digit in wanted])
