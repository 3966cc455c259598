"""The figures of a linear-Gaussian model's run, which depend on its noise and its W."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaexp.experiment.draw import shared
from vaexp.experiment.sample import caption, plane_figure
from vaexp.figures.linear import factors, noise, principal_axes, scaled_spectrum, spectrum
from vaexp.figures.posterior import posterior
from vaexp.models import LinearGaussian
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel

Covariance = Callable[[], Tensor]
"""Computes the covariance of the training images, (D, D)."""


def linear_gaussian_figures(
    trained: TrainedModel,
    model: LinearGaussian,
    run: RunFolder,
    x: Tensor,
    label: Tensor,
    covariance: Covariance,
) -> Iterator[shared.Drawn]:
    """Name and figure, one after another, of test images x (N, D) with digits label (N,)."""
    subtitle = caption(trained)
    yield "samples", shared.samples(trained)
    yield "decode_modes", shared.decode_modes(trained)
    yield "reconstructions", shared.reconstructions(trained, x, label)
    axes, names = (0, min(1, model.latent_dim - 1)), ("$z_1$", "$z_2$")
    first_two = ""
    if model.latent_dim > 2:
        first_two = f"Of {model.latent_dim} latents the first two are drawn.\n"
    plane = plane_figure(trained, trained.labels, "mean", axes, names, 20, first_two)[0]
    yield "latent_plane", plane
    drawn = list(dict.fromkeys(axes))
    codes = model.posterior_mean(x)[:, drawn].numpy()
    spread = (model.posterior_root @ model.posterior_root.T)[drawn][:, drawn].numpy()
    spread = np.broadcast_to(spread, (len(codes), *spread.shape))  # the same for every image
    digits = np.asarray(label) if trained.labelled else None
    yield "posterior", posterior(codes, spread, digits, names, subtitle, note=first_two)
    if trained.config.data.transform != "logit":  # mu + k w is an image
        yield _columns(trained, model)
    if model.noise.ndim == 0:
        eigenvalues = torch.linalg.eigvalsh(covariance()).flip(0).numpy()
        variance = model.noise.item()
        yield "spectrum", spectrum(eigenvalues, model.latent_dim, variance, subtitle)
    else:
        yield "noise", _noise(trained, model)
        sigma = model.noise.sqrt()
        scaled = covariance() / sigma[:, None] / sigma
        eigenvalues = torch.linalg.eigvalsh(scaled).flip(0).numpy()
        yield "spectrum", scaled_spectrum(eigenvalues, model.latent_dim, subtitle)
    yield "em", shared.em_steps(run.records(), subtitle)


def _columns(trained: TrainedModel, model: LinearGaussian) -> tuple[str, Figure]:
    """The columns of W as images, with the mean moved along each of the first five.

    They are principal axes of p(x) if they are orthogonal and all pixels share their noise.
    """
    lengths = model.factors.norm(dim=0)
    units = (model.factors / lengths.clamp(min=1e-300)).T.reshape(-1, *trained.shape).numpy()
    mean, subtitle = trained.to_images(model.mean), caption(trained)
    if model.noise.ndim == 0 and model.independent_latents:
        deviation = (lengths.square() + model.noise).sqrt()
        return "principal_axes", principal_axes(mean, units, deviation.numpy(), subtitle)
    return "factors", factors(mean, units, lengths.numpy(), subtitle)


def _noise(trained: TrainedModel, model: LinearGaussian) -> Figure | str:
    """The noise of each pixel, and the share of its variance that the latents explain."""
    explained = model.factors.square().sum(1)
    share = explained / (explained + model.noise)
    floor = trained.config.model.floor
    sigma, explains = (each.reshape(trained.shape).numpy() for each in (model.noise.sqrt(), share))
    return noise(sigma, explains, floor, caption(trained))
