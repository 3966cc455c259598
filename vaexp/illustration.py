"""The figures of a finished run: what to draw, from the kept weights and the test images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vaexp import figures
from vaexp.data import IMAGE_SHAPE, Transform, load
from vaexp.errors import UserError
from vaexp.run_folder import RunFolder
from vaexp.sampling import (
    COLUMNS,
    MODE_NAMES,
    SWEEP_NAMES,
    caption,
    decode,
    plane_figure,
)
from vaexp.seeding import HELD_OUT_SEED, seeded
from vaexp.trained import TrainedModel

ENCODED_AT_ONCE = 1000


def illustrate(run: RunFolder, x: Tensor, label: Tensor) -> None:
    """Draw figures/*.png of a run. x (N, D) and label (N,) are its transformed test images."""
    trained = TrainedModel.read(run)
    with torch.no_grad(), seeded(trained.config.seed, "figures"):
        for name, figure in _figures(trained, run, x, label):
            figures.save(figure, run.path / "figures" / f"{name}.png")


def _figures(
    trained: TrainedModel, run: RunFolder, x: Tensor, label: Tensor
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another: a drawn page takes tens of megabytes."""
    q = _encode(trained, x, label)
    axes, names = _plane_axes(trained, q)
    yield "samples", _samples(trained)
    yield "decode_modes", _decode_modes(trained)
    yield "reconstructions", _reconstructions(trained, x, label)
    yield "latent_plane", _latent_plane(trained, axes, names)
    yield "posterior", _posterior(trained, q.mean, label, axes, names)
    yield "training_curves", figures.training_curves(run.records(), caption(trained))


def _samples(trained: TrainedModel) -> Figure:
    """Draws in the run's decode mode: the same z for every digit, or five rows of them."""
    mode = trained.config.model.decode_mode
    conditional = trained.model.conditional
    digits = torch.tensor(trained.labels)
    rows = 1 if conditional or mode == "sweep" else 5
    z = trained.model.prior().sample(torch.Size([rows, COLUMNS]))
    label = None
    names: list[str] | None = None
    if mode == "sweep":
        z = z[0]
        label = digits[torch.arange(COLUMNS) % len(digits)] if conditional else None
        names = SWEEP_NAMES
    elif conditional:
        z = z.expand(len(digits), -1, -1)
        label = digits[:, None]
        names = [f"digit {digit}" for digit in trained.labels]
    images = trained.to_images(decode(trained, z, label, mode))
    return figures.samples(images, names, MODE_NAMES[mode], caption(trained))


def _decode_modes(trained: TrainedModel) -> Figure:
    digits = torch.tensor(trained.labels)
    z = trained.model.prior().sample(torch.Size([COLUMNS]))
    label = digits[torch.arange(COLUMNS) % len(digits)] if trained.model.conditional else None
    return figures.decode_modes(
        trained.to_images(decode(trained, z, label, "mean")),
        trained.to_images(decode(trained, z, label, "sample")),
        trained.to_images(decode(trained, z, label, "sweep")) if trained.model.has_sigma else None,
        caption(trained),
    )


def _reconstructions(trained: TrainedModel, x: Tensor, label: Tensor) -> Figure:
    """The first test image of each digit, then the next ones, up to ten."""
    firsts = [int((label == digit).nonzero()[0]) for digit in label.unique()]
    others = [i for i in range(len(x)) if i not in firsts]
    chosen = torch.tensor((firsts + others)[:COLUMNS])
    x, label = x[chosen], label[chosen]
    p = trained.model.decode(trained.model.encode(x, label).sample(), label)
    sigma = p.stddev.reshape(-1, *trained.to_images(x).shape[1:]).numpy()
    return figures.reconstructions(
        trained.to_images(x),
        trained.to_images(p.mean),
        trained.to_images(p.sample()),
        sigma if trained.model.has_sigma else None,
        caption(trained),
    )


def _encode(trained: TrainedModel, x: Tensor, label: Tensor) -> Normal:
    """q(z|x) of all images, (N, L), in blocks: the hidden layers of all at once take 100 MB."""
    blocks = [
        trained.model.encode(*block).base_dist  # type: ignore[attr-defined]
        for block in zip(x.split(ENCODED_AT_ONCE), label.split(ENCODED_AT_ONCE), strict=True)
    ]
    return Normal(torch.cat([q.mean for q in blocks]), torch.cat([q.stddev for q in blocks]))


def _plane_axes(trained: TrainedModel, q: Normal) -> tuple[tuple[int, int], tuple[str, str]]:
    """The two latents that carry the most nats, and what to call them; both if there are two."""
    model = trained.model
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
    return figures.posterior(codes, np.asarray(label), names, caption(trained))


def side_by_side(runs: list[RunFolder], names: list[str], path: Path) -> None:
    """One picture of several runs: draws at the same latents, the same test images reconstructed.

    Each run draws in its own decode mode (a sweep as its mean). Labels go through the digits that
    all the runs know. Runs of different latent size cannot share z: each then has its own. Raises
    UserError for runs that have no test images in common.
    """
    models = [TrainedModel.read(run) for run in runs]
    if len({trained.config.data.name for trained in models}) > 1:
        raise UserError("--figure: these runs are of different data, and share no test images")
    digits = sorted(set.intersection(*(set(trained.labels) for trained in models)))
    if not digits:
        raise UserError("--figure: these runs have no digit in common to draw")
    label = torch.tensor(digits)[torch.arange(COLUMNS) % len(digits)]
    sizes = {trained.model.latent_dim for trained in models}
    rows: list[str] = []
    draws, reconstructions = [], []
    with torch.no_grad():
        for trained in models:
            test = load(trained.config.data).test
            chosen = _first_of_each(test.label, label)
            pixels = test.pixels[chosen]
            with seeded(HELD_OUT_SEED, "side by side"):
                given = label if trained.model.conditional else None
                z = trained.model.prior().sample(torch.Size([COLUMNS]))
                samples = trained.config.model.decode_mode == "sample"
                drawn = decode(trained, z, given, "sample" if samples else "mean")
                x = Transform(trained.config.data.transform)(pixels)
                codes = trained.model.encode(x, given).mean
            rows.append(f"{names[len(rows)]}; draws {'x ~ p(x|z)' if samples else 'μ(z)'}")
            draws.append(trained.to_images(drawn))
            reconstructions.append(trained.to_images(decode(trained, codes, given, "mean")))
    originals = (pixels / 255).reshape(-1, *IMAGE_SHAPE).numpy()
    figure = figures.compare_runs(
        rows,
        draws,
        originals,
        reconstructions,
        "reconstructions are μ(z) at the mean of q(z|x); columns go through the digits "
        + " ".join(map(str, digits)),
        "draws at the same latents z" if len(sizes) == 1 else "draws (latent sizes differ)",
    )
    figures.save(figure, path)


def _first_of_each(labels: Tensor, wanted: Tensor) -> Tensor:
    """For each wanted label in turn, the next image that has it."""
    places = {int(digit): iter((labels == digit).nonzero()[:, 0].tolist()) for digit in wanted}
    return torch.tensor([next(places[int(digit)]) for digit in wanted])
