"""The draws and reconstructions that every kind of run is shown with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaexp.experiment.sample import COLUMNS, MODE_NAMES, SWEEP_NAMES, caption, decode
from vaexp.figures import images as image_figures
from vaexp.figures.charts import by_restart, values_of
from vaexp.figures.em import em_staircase
from vaexp.models.absent import answered
from vaexp.models.likelihoods import Decoded
from vaexp.runs.trained import TrainedModel

Drawn = tuple[str, Figure | str]
"""The name of a figure, and the figure or the reason why there is none."""

SAME = 1e-7  # share of its size by which ln p(x) changes where EM works in float32 and is done


def em_steps(records: Sequence[dict[str, Any]], subtitle: str) -> Figure | str:
    """How EM went, from the lines of metrics.jsonl, or why there is nothing to draw."""
    restarts, kept = by_restart(records)
    if len(restarts[kept]) == 1:
        return "EM made no iteration, so there is no step to draw"
    log_prob = values_of(restarts[kept], "train", "log_prob")
    if np.ptp(log_prob) <= SAME * np.abs(log_prob).max():
        return "ln p(x) is the same to seven digits in every iteration, so there is no step to draw"
    return em_staircase(records, subtitle)


def samples(trained: TrainedModel) -> Figure:
    """Draws in the run's decode mode: the same z for every digit, or five rows of them."""
    mode = trained.config.model.decode_mode
    conditional = trained.model.conditional
    digits = torch.tensor(trained.labels)
    rows = 1 if conditional or mode == "sweep" else 5
    z = trained.model.prior().sample(torch.Size([rows, COLUMNS]))
    label = None
    names: list[str] | None = None
    note = "Each image is decoded from a z of its own."
    if mode == "sweep":
        z = z[0]
        label = digits[torch.arange(COLUMNS) % len(digits)] if conditional else None
        names = SWEEP_NAMES
        note = "Each column is one z, and each row another k."
    elif conditional:
        z = z.expand(len(digits), -1, -1)
        label = digits[:, None]
        names = [f"digit {digit}" for digit in trained.labels]
        note = "Each column is one z, which is decoded with every digit."
    images = trained.to_images(decode(trained, z, label, mode))
    subtitle = caption(trained, "with" if mode == "sweep" else None)
    return image_figures.samples(images, names, MODE_NAMES[mode], subtitle, note)


def decode_modes(trained: TrainedModel, z: Tensor | None = None) -> Figure:
    """Ten latents z ~ p(z), or those that are given, (n, L) or (n,), decoded in every way."""
    digits = torch.tensor(trained.labels)
    if z is None:
        z = trained.model.prior().sample(torch.Size([COLUMNS]))
    label = digits[torch.arange(COLUMNS) % len(digits)] if trained.model.conditional else None
    return image_figures.decode_modes(
        trained.to_images(decode(trained, z, label, "mean")),
        trained.to_images(decode(trained, z, label, "sample")),
        None if trained.model.no_sweep else trained.to_images(decode(trained, z, label, "sweep")),
        caption(trained, "with"),
    )


def reconstructions(trained: TrainedModel, x: Tensor, label: Tensor) -> Figure:
    """The first test image of each digit, then the next ones, up to ten."""
    firsts = [int((label == digit).nonzero()[0]) for digit in label.unique()]
    others = [i for i in range(len(x)) if i not in firsts]
    chosen = torch.tensor((firsts + others)[:COLUMNS])
    x, label = x[chosen], label[chosen]
    p = trained.model.decode(trained.model.encode(x, label).sample(), label)
    sigma = None
    if trained.model.has_sigma:
        own = answered(p.sigma) if isinstance(p, Decoded) else p.stddev
        sigma = own.reshape(-1, *trained.to_images(x).shape[1:]).numpy()
    return image_figures.reconstructions(
        trained.to_images(x),
        trained.to_images(p.mean),
        trained.to_images(p.sample()),
        sigma,
        caption(trained, "without"),
    )
