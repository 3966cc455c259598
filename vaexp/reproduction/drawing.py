"""Drawing the pictures of the report's figures from trained runs."""

from typing import assert_never

import numpy as np
import torch
from matplotlib.figure import Figure

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
from vaexp.figures.latent import posterior
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
            axes, names, _, _ = _codes(trained, run)
            return plane_figure(trained, [digit], "mean", axes, names, TILES)[0]
        case Strip(mode=mode):
            label = torch.tensor(trained.labels)[torch.arange(COLUMNS) % len(trained.labels)]
            with seeded(SEED, "reproduction"):
                z = trained.model.prior().sample(torch.Size([COLUMNS]))
                images = trained.to_images(decode(trained, z, label, mode))
            rows, row_names = (images, SWEEP_NAMES) if mode == "sweep" else (images[None], None)
            return samples(rows, row_names, MODE_NAMES[mode], caption(trained))
        case Scatter():
            axes, names, codes, digits = _codes(trained, run)
            return posterior(codes[:, list(axes)], digits, names, caption(trained))
        case _:
            assert_never(picture)


def _codes(
    trained: TrainedModel, run: RunFolder
) -> tuple[tuple[int, int], tuple[str, str], np.ndarray, np.ndarray]:
    """The two latents that are shown and their names, the test images' codes, and their labels."""
    assert isinstance(trained.model, VAE)
    experiment = Experiment.prepare(trained.config, run)
    test = experiment.data.test
    x = experiment.held_out_images(test, "test").cpu()
    q = encode_all(trained.model, x, test.label)
    return *plane_axes(trained.model, q), q.mean.numpy(), test.label.numpy()
