"""The figures of a probabilistic PCA's run."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vaexp import figures
from vaexp.config import PPCAExperiment
from vaexp.data import IMAGE_SHAPE
from vaexp.experiment.draw import shared
from vaexp.experiment.draw.gmm import history_figures
from vaexp.experiment.sample import caption, plane_figure
from vaexp.models import PPCA
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel


def ppca_figures(
    trained: TrainedModel, run: RunFolder, x: Tensor, label: Tensor, spectrum: Tensor
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another, of test images x (N, D) with digits label (N,).

    spectrum: the eigenvalues (D,) of the training images' covariance, largest first.
    """
    model, config = trained.model, trained.config
    assert isinstance(model, PPCA)
    assert isinstance(config, PPCAExperiment)
    subtitle = caption(trained)
    yield "samples", shared.samples(trained)
    yield "decode_modes", shared.decode_modes(trained)
    yield "reconstructions", shared.reconstructions(trained, x, label)
    axes, names = (0, min(1, model.latent_dim - 1)), ("$z_1$", "$z_2$")
    yield "latent_plane", plane_figure(trained, trained.labels, "mean", axes, names, 20)[0]
    codes = model.encode(x).mean[:, list(dict.fromkeys(axes))]
    yield "posterior", figures.posterior(codes.numpy(), np.asarray(label), names, subtitle)
    if config.data.transform != "logit":  # of which mu + k w is not an image until it is inverted
        yield "principal_axes", _principal_axes(trained, model, subtitle)
    sigma_squared = model.variance.item()
    yield "spectrum", figures.spectrum(spectrum.numpy(), model.latent_dim, sigma_squared, subtitle)
    if config.model.method == "em":
        yield from history_figures(run.records(), config, subtitle)


def _principal_axes(trained: TrainedModel, model: PPCA, subtitle: str) -> Figure:
    """The columns of W, as unit vectors, and the model's standard deviation along each."""
    lengths = model.factors.norm(dim=0)
    axes = (model.factors / lengths.clamp(min=1e-300)).T.reshape(-1, *IMAGE_SHAPE)
    deviation = (lengths.square() + model.variance).sqrt()
    mean = trained.to_images(model.mean)
    return figures.principal_axes(mean, axes.numpy(), deviation.numpy(), subtitle)
