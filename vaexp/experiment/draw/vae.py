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
from vaexp.figures.posterior import posterior
from vaexp.models import VAE
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel

ENCODED_AT_ONCE = 1000


def vae_figures(
    trained: TrainedModel, model: VAE, run: RunFolder, x: Tensor, label: Tensor
) -> Iterator[shared.Drawn]:
    """Name and figure, one after another, of test images x (N, D) with digits label (N,)."""
    q = encode_all(model, x, label)
    axes, names, note = plane_axes(model, q)
    yield "samples", shared.samples(trained)
    yield "decode_modes", shared.decode_modes(trained)
    yield "reconstructions", shared.reconstructions(trained, x, label)
    size = 12 if model.conditional else 20
    yield (
        "latent_plane",
        plane_figure(trained, trained.labels, "mean", axes, names, size, note)[0],
    )
    yield "posterior", _posterior(trained, q, label, axes, names, note)
    records = run.records()
    if len(records) == 1:
        yield "training_curves", "there is one epoch, whose numbers are in metrics.jsonl"
    else:
        yield "training_curves", training_curves(records, caption(trained, "without"))


def encode_all(model: VAE, x: Tensor, label: Tensor) -> Normal:
    """q(z|x) of all images, (N, L), in blocks: the hidden layers of all at once take 100 MB."""
    blocks = [
        model.encode(*block).base_dist  # type: ignore[attr-defined]
        for block in zip(x.split(ENCODED_AT_ONCE), label.split(ENCODED_AT_ONCE), strict=True)
    ]
    return Normal(torch.cat([q.mean for q in blocks]), torch.cat([q.stddev for q in blocks]))


def plane_axes(model: VAE, q: Normal) -> tuple[tuple[int, int], tuple[str, str], str]:
    """The two latents that carry the most nats, what to call them, and a sentence on the choice."""
    if model.latent_dim <= 2:
        return (0, model.latent_dim - 1), ("$z_1$", "$z_2$"), ""
    per_axis = kl_divergence(q, model.prior().base_dist).mean(0)  # type: ignore[attr-defined]
    first, second = per_axis.topk(2).indices.tolist()
    names = (
        f"$z_{{{first + 1}}}$ ({per_axis[first]:.2f} nats)",
        f"$z_{{{second + 1}}}$ ({per_axis[second]:.2f} nats)",
    )
    note = f"Of {model.latent_dim} latents these two have the largest KL(q(z|x) to p(z)), whose "
    return (first, second), names, note + "mean over test images stands beside their names.\n"


def _posterior(
    trained: TrainedModel,
    q: Normal,
    label: Tensor,
    axes: tuple[int, int],
    names: tuple[str, str],
    note: str,
) -> Figure:
    drawn = sorted(set(axes), key=axes.index)
    return posterior(
        q.mean[:, drawn].numpy(),
        torch.diag_embed(q.variance[:, drawn]).numpy(),
        np.asarray(label) if trained.labelled else None,
        names,
        caption(trained),
        given_label=trained.model.conditional,
        note=note,
    )
