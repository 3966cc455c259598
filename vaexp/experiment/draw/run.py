"""The figures of a run: what to draw, from the kept weights and the test images."""

import math
from collections.abc import Callable, Iterator
from typing import assert_never

import torch
from torch import Tensor

from vaexp.config import GMMExperiment, LinearGaussianExperiment
from vaexp.experiment.draw import shared
from vaexp.experiment.draw.gmm import gmm_figures, mixture_history
from vaexp.experiment.draw.linear_gaussian import linear_gaussian_figures
from vaexp.experiment.draw.vae import vae_figures
from vaexp.figures.style import save
from vaexp.models import GMM, VAE, LinearGaussian
from vaexp.models.covariances import Size, family
from vaexp.runs.folder import RunFolder
from vaexp.runs.images import image_shape
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import seeded


def illustrate(
    run: RunFolder, x: Tensor, label: Tensor, covariance: Callable[[], Tensor]
) -> list[str]:
    """Draw the figures of a finished run. Returns which are left out, and why, as lines.

    x (N, D) and label (N,) are its transformed test images. covariance: computes that of the
    training images, (D, D), for the models whose figures show it.
    """
    trained = TrainedModel.read(run)
    with torch.no_grad(), seeded(trained.config.seed, "figures"):
        match trained.model:
            case VAE() as model:
                drawn = vae_figures(trained, model, run, x, label)
            case GMM() as model:
                drawn = gmm_figures(trained, model, run, x, label)
            case LinearGaussian() as model:
                drawn = linear_gaussian_figures(trained, model, run, x, label, covariance)
            case _:
                assert_never(trained.model)
        return _save(run, drawn)


def illustrate_history(run: RunFolder, config: GMMExperiment | LinearGaussianExperiment) -> None:
    """Draw how EM went, of a run that may have failed since. ``config`` is the run's."""
    records, subtitle = run.records(), config.describe()
    match config:
        case GMMExperiment(model=model):
            size = Size(model.components, math.prod(image_shape(run)), model.factors)
            needed = family(model.covariance).images_that_vary(size)
            drawn = mixture_history(records, model.floor, needed, subtitle)
        case LinearGaussianExperiment():
            drawn = iter([("em", shared.em_steps(records, subtitle))])
        case _:
            assert_never(config)
    _save(run, drawn)


def _save(run: RunFolder, drawn: Iterator[shared.Drawn]) -> list[str]:
    """Save each figure before the next is drawn: a page takes tens of megabytes.

    Returns which are left out, and why.
    """
    left_out = []
    suffix = run.config().output.suffix
    for name, figure in drawn:
        if isinstance(figure, str):
            left_out.append(f"no figure {name}: {figure}")
        else:
            save(figure, run.files.place(f"figures/{name}{suffix}"))
    return left_out
