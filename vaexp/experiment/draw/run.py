"""The figures of a run: what to draw, from the kept weights and the test images."""

from collections.abc import Iterator
from typing import assert_never

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaexp import figures
from vaexp.experiment.draw.gmm import gmm_figures, history_figures
from vaexp.experiment.draw.ppca import ppca_figures
from vaexp.experiment.draw.vae import vae_figures
from vaexp.models import GMM, PPCA, VAE
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import seeded


def illustrate(run: RunFolder, x: Tensor, label: Tensor, spectrum: Tensor | None = None) -> None:
    """Draw figures/*.png of a finished run.

    x (N, D) and label (N,) are its transformed test images. spectrum: for probabilistic PCA, the
    eigenvalues (D,) of the training images' covariance, largest first.
    """
    trained = TrainedModel.read(run)
    with torch.no_grad(), seeded(trained.config.seed, "figures"):
        match trained.model:
            case VAE():
                drawn = vae_figures(trained, run, x, label)
            case GMM():
                drawn = gmm_figures(trained, run, x, label)
            case PPCA():
                assert spectrum is not None
                drawn = ppca_figures(trained, run, x, label, spectrum)
            case _:
                assert_never(trained.model)
        _save(run, drawn)


def illustrate_history(run: RunFolder) -> None:
    """Draw how EM went, of a run that may have failed since."""
    config = run.config()
    _save(run, history_figures(run.records(), config, config.describe()))


def _save(run: RunFolder, drawn: Iterator[tuple[str, Figure]]) -> None:
    """Save each figure before the next is drawn: a page takes tens of megabytes."""
    for name, figure in drawn:
        figures.save(figure, run.path / "figures" / f"{name}.png")
