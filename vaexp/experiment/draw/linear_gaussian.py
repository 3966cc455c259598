"""The figures of a linear-Gaussian model's run: probabilistic PCA and factor analysis."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaexp import figures
from vaexp.config import PPCAExperiment
from vaexp.data import IMAGE_SHAPE
from vaexp.experiment.draw import shared
from vaexp.experiment.sample import caption, plane_figure
from vaexp.models import FA, PPCA, LinearGaussian
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel

Covariance = Callable[[], Tensor]
"""Computes the covariance of the training images, (D, D)."""


def ppca_figures(
    trained: TrainedModel,
    model: PPCA,
    run: RunFolder,
    x: Tensor,
    label: Tensor,
    covariance: Covariance,
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another, of test images x (N, D) with digits label (N,)."""
    config, subtitle = trained.config, caption(trained)
    assert isinstance(config, PPCAExperiment)
    yield from _of_the_family(trained, model, x, label)
    if _moves_in_pixels(trained):
        lengths, axes = _columns(model)
        deviation = (lengths.square() + model.variance).sqrt()
        mean = trained.to_images(model.mean)
        yield "principal_axes", figures.principal_axes(mean, axes, deviation.numpy(), subtitle)
    eigenvalues = torch.linalg.eigvalsh(covariance()).flip(0).numpy()
    variance = model.variance.item()
    yield "spectrum", figures.spectrum(eigenvalues, model.latent_dim, variance, subtitle)
    if config.model.method == "em":
        yield "em", figures.em_staircase(run.records(), subtitle)


def fa_figures(
    trained: TrainedModel,
    model: FA,
    run: RunFolder,
    x: Tensor,
    label: Tensor,
    covariance: Covariance,
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another, of test images x (N, D) with digits label (N,)."""
    subtitle = caption(trained)
    yield from _of_the_family(trained, model, x, label)
    lengths, loadings = _columns(model)
    if _moves_in_pixels(trained):
        mean = trained.to_images(model.mean)
        yield "factors", figures.factors(mean, loadings, lengths.numpy(), subtitle)
    sigma = model.noise.sqrt()
    explained = model.factors.square().sum(1)
    share = explained / (explained + model.noise)
    floor = trained.config.model.floor
    yield "noise", figures.noise(sigma.numpy(), share.numpy(), floor, subtitle)
    scaled = covariance() / sigma[:, None] / sigma
    eigenvalues = torch.linalg.eigvalsh(scaled).flip(0).numpy()
    yield "spectrum", figures.scaled_spectrum(eigenvalues, model.latent_dim, subtitle)
    yield "em", figures.em_staircase(run.records(), subtitle)


def _of_the_family(
    trained: TrainedModel, model: LinearGaussian, x: Tensor, label: Tensor
) -> Iterator[tuple[str, Figure]]:
    """Draws, reconstructions, and what the first two latents mean."""
    yield "samples", shared.samples(trained)
    yield "decode_modes", shared.decode_modes(trained)
    yield "reconstructions", shared.reconstructions(trained, x, label)
    axes, names = (0, min(1, model.latent_dim - 1)), ("$z_1$", "$z_2$")
    yield "latent_plane", plane_figure(trained, trained.labels, "mean", axes, names, 20)[0]
    codes = model.posterior_mean(x)[:, list(dict.fromkeys(axes))]
    yield "posterior", figures.posterior(codes.numpy(), np.asarray(label), names, caption(trained))


def _moves_in_pixels(trained: TrainedModel) -> bool:
    """Whether mu + k w is an image: of logits it is not one until the logit is inverted."""
    return trained.config.data.transform != "logit"


def _columns(model: LinearGaussian) -> tuple[Tensor, np.ndarray]:
    """The lengths of the columns of W, (L,), and the columns as unit vectors, (L, H, W)."""
    lengths = model.factors.norm(dim=0)
    units = (model.factors / lengths.clamp(min=1e-300)).T.reshape(-1, *IMAGE_SHAPE)
    return lengths, units.numpy()
