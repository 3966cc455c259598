"""The figures of a run: what to draw, from the kept weights and the test images."""

from collections.abc import Callable, Iterator
from typing import assert_never

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaexp import figures
from vaexp.config import FAExperiment, GMMExperiment, PPCAExperiment, VAEExperiment
from vaexp.experiment.draw.gmm import gmm_figures, mixture_history
from vaexp.experiment.draw.linear_gaussian import fa_figures, ppca_figures
from vaexp.experiment.draw.vae import vae_figures
from vaexp.models import FA, GMM, PPCA, VAE
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import seeded


def illustrate(run: RunFolder, x: Tensor, label: Tensor, covariance: Callable[[], Tensor]) -> None:
    """Draw figures/*.png of a finished run.

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
            case PPCA() as model:
                drawn = ppca_figures(trained, model, run, x, label, covariance)
            case FA() as model:
                drawn = fa_figures(trained, model, run, x, label, covariance)
            case _:
                assert_never(trained.model)
        _save(run, drawn)


def illustrate_history(run: RunFolder) -> None:
    """Draw how EM went, of a run that may have failed since."""
    config, records = run.config(), run.records()
    match config:
        case GMMExperiment():
            drawn = mixture_history(records, config, config.describe())
        case PPCAExperiment() | FAExperiment():
            drawn = iter([("em", figures.em_staircase(records, config.describe()))])
        case VAEExperiment():
            raise TypeError("a VAE is not fitted by EM")
        case _:
            assert_never(config)
    _save(run, drawn)


def _save(run: RunFolder, drawn: Iterator[tuple[str, Figure]]) -> None:
    """Save each figure before the next is drawn: a page takes tens of megabytes."""
    for name, figure in drawn:
        figures.save(figure, run.files.place(f"figures/{name}.png"))
