"""The figures of a run: what to draw, from the kept weights and the test images."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaexp import figures
from vaexp.compare import Comparison
from vaexp.compare_view import row_names
from vaexp.config import describe
from vaexp.data import IMAGE_SHAPE, Transform, load
from vaexp.errors import UserError
from vaexp.illustration.gmm import gmm_figures, history_figures
from vaexp.illustration.ppca import ppca_figures
from vaexp.illustration.vae import vae_figures
from vaexp.models import GMM, PPCA, VAE
from vaexp.run_folder import RunFolder
from vaexp.sampling import COLUMNS, decode
from vaexp.seeding import HELD_OUT_SEED, seeded
from vaexp.trained import TrainedModel

MOST_NAMED = 6  # runs whose pictures' file name holds a part of each of their names


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
    _save(run, history_figures(run.records(), config, describe(config)))


def _save(run: RunFolder, drawn: Iterator[tuple[str, Figure]]) -> None:
    """Save each figure before the next is drawn: a page takes tens of megabytes."""
    for name, figure in drawn:
        figures.save(figure, run.path / "figures" / f"{name}.png")


def draw_comparison(runs: list[RunFolder], comparison: Comparison) -> list[Path]:
    """Draw runs side by side and, where they may be compared there, in the rate-distortion plane.

    The pictures are put into the first run's figures/; returns their paths.
    """
    stem = f"compare-{_short([run.name for run in runs])}"
    names = row_names(comparison)
    side = runs[0].path / "figures" / f"{stem}.png"
    side_by_side(runs, names, side)
    entries = {name: comparison.metrics.get(name) for name in ("rate", "distortion")}
    refused = comparison.differences.get("distortion", [])
    if any(entry is None or None in entry for entry in entries.values()) or any(
        difference.refused for difference in refused
    ):
        return [side]
    rate, distortion = (
        np.array([entry["value"] for entry in entries[name] or [] if entry])
        for name in ("rate", "distortion")
    )
    plane = side.with_name(f"{stem}-rate-distortion.png")
    subtitle = f"{len(runs)} runs, nats per image of the test split"
    note = "Dashed: equal ELBO, in nats; higher towards the lower left."
    figures.save(figures.rate_distortion(names, rate, distortion, subtitle, note), plane)
    return [side, plane]


def _short(names: list[str]) -> str:
    """The four hex digits that end each run's name, if these tell few runs apart; else a hash."""
    ends = [name[-5:] for name in names]
    known = all(re.fullmatch("-[0-9a-f]{4}", end) for end in ends)
    if known and len(set(ends)) == len(ends) <= MOST_NAMED:
        return "".join(ends)[1:]
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:8]


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
    sizes = {(type(trained.model) is GMM, trained.model.latent_dim) for trained in models}
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
                codes = trained.model.encode(x, given).mode
            rows.append(f"{names[len(rows)]}; draws {'x ~ p(x|z)' if samples else 'μ(z)'}")
            draws.append(trained.to_images(drawn))
            reconstructions.append(trained.to_images(decode(trained, codes, given, "mean")))
    originals = (pixels / 255).reshape(-1, *IMAGE_SHAPE).numpy()
    figure = figures.compare_runs(
        rows,
        draws,
        originals,
        reconstructions,
        "reconstructions are μ(z) at the mode of q(z|x); columns go through the digits "
        + " ".join(map(str, digits)),
        "draws at the same latents z" if len(sizes) == 1 else "draws (latent sizes differ)",
    )
    figures.save(figure, path)


def _first_of_each(labels: Tensor, wanted: Tensor) -> Tensor:
    """For each wanted label in turn, the next image that has it."""
    places = {int(digit): iter((labels == digit).nonzero()[:, 0].tolist()) for digit in wanted}
    return torch.tensor([next(places[int(digit)]) for digit in wanted])
