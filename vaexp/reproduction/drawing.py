"""Drawing the pictures of the report's figures from trained runs."""

from typing import NamedTuple, assert_never

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.distributions import Normal

from vaexp.experiment.draw.vae import encode_all, plane_axes
from vaexp.experiment.prepare import Experiment
from vaexp.experiment.sample import (
    COLUMNS,
    MODE_NAMES,
    SWEEP_NAMES,
    caption,
    decode,
    plane_figure,
)
from vaexp.figures.images import samples
from vaexp.figures.posterior import posterior
from vaexp.models import VAE
from vaexp.reproduction.figures import Picture, Plane, Scatter, Strip
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import seeded

TILES = 15  # images along each side of a plane
SEED = 1  # of the draws, which are the same for every run


@torch.no_grad()
def draw(picture: Picture, run: RunFolder) -> Figure:
    """Draw a picture from a finished run of a VAE that is given the label."""
    trained = TrainedModel.read(run)
    match picture:
        case Plane(digit=digit):
            codes = _codes(trained, run)
            return plane_figure(
                trained, [digit], "mean", codes.axes, codes.names, TILES, codes.note
            )[0]
        case Strip(mode=mode):
            label = torch.tensor(trained.labels)[torch.arange(COLUMNS) % len(trained.labels)]
            with seeded(SEED, "reproduction"):
                z = trained.model.prior().sample(torch.Size([COLUMNS]))
                images = trained.to_images(decode(trained, z, label, mode))
            rows, row_names = (images, SWEEP_NAMES) if mode == "sweep" else (images[None], None)
            return samples(rows, row_names, MODE_NAMES[mode], caption(trained))
        case Scatter():
            codes = _codes(trained, run)
            drawn = list(codes.axes)
            return posterior(
                codes.q.mean[:, drawn].numpy(),
                torch.diag_embed(codes.q.variance[:, drawn]).numpy(),
                codes.label,
                codes.names,
                caption(trained),
                note=codes.note,
            )
        case _:
            assert_never(picture)


class _Codes(NamedTuple):
    """The codes of the test images, and which two latents are shown."""

    q: Normal
    label: np.ndarray
    axes: tuple[int, int]
    names: tuple[str, str]
    note: str
    """A sentence on the choice of the two latents."""


def _codes(trained: TrainedModel, run: RunFolder) -> _Codes:
    """The posteriors of the test images of a run."""
    assert isinstance(trained.model, VAE)
    experiment = Experiment.prepare(trained.config, run)
    test = experiment.data.test
    x = experiment.held_out_images(test, "test").cpu()
    q = encode_all(trained.model, x, test.label)
    return _Codes(q, test.label.numpy(), *plane_axes(trained.model, q))
