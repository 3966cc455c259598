"""The figures of a VAE's run."""

from collections.abc import Iterator

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vaexp.experiment.draw import shared
from vaexp.experiment.sample import caption, plane_figure
from vaexp.figures.curves import training_curves
from vaexp.figures.latent import posterior
from vaexp.models import VAE
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel

ENCODED_AT_ONCE = 1000


def vae_figures(
    trained: TrainedModel, model: VAE, run: RunFolder, x: Tensor, label: Tensor
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another, of test images x (N, D) with digits label (N,)."""
    q = encode_all(model, x, label)
    axes, names = plane_axes(model, q)
    yield "samples", shared.samples(trained)
    yield "decode_modes", shared.decode_modes(trained)
    yield "reconstructions", shared.reconstructions(trained, x, label)
    yield "latent_plane", _latent_plane(trained, axes, names)
    yield "posterior", _posterior(trained, q.mean, label, axes, names)
    yield "training_curves", training_curves(run.records(), caption(trained, "without"))


def encode_all(model: VAE, x: Tensor, label: Tensor) -> Normal:
    """q(z|x) of all images, (N, L), in blocks: the hidden layers of all at once take 100 MB."""
    blocks = [
        model.encode(*block).base_dist  # type: ignore[attr-defined]
        for block in zip(x.split(ENCODED_AT_ONCE), label.split(ENCODED_AT_ONCE), strict=True)
    ]
    return Normal(torch.cat([q.mean for q in blocks]), torch.cat([q.stddev for q in blocks]))


def plane_axes(model: VAE, q: Normal) -> tuple[tuple[int, int], tuple[str, str]]:
    """The two latents that carry the most nats, and what to call them; both if there are two."""
    if model.latent_dim <= 2:
        return (0, model.latent_dim - 1), ("$z_1$", "$z_2$")
    per_axis = kl_divergence(q, model.prior().base_dist).mean(0)  # type: ignore[attr-defined]
    first, second = per_axis.topk(2).indices.tolist()
    return (first, second), (
        f"$z_{{{first + 1}}}$ ({per_axis[first]:.2f} nats)",
        f"$z_{{{second + 1}}}$ ({per_axis[second]:.2f} nats)",
    )


def _latent_plane(trained: TrainedModel, axes: tuple[int, int], names: tuple[str, str]) -> Figure:
    size = 12 if trained.model.conditional else 20
    return plane_figure(trained, trained.labels, "mean", axes, names, size)[0]


def _posterior(
    trained: TrainedModel,
    means: Tensor,
    label: Tensor,
    axes: tuple[int, int],
    names: tuple[str, str],
) -> Figure:
    codes = means[:, sorted(set(axes), key=axes.index)].numpy()
    return posterior(codes, np.asarray(label), names, caption(trained))
