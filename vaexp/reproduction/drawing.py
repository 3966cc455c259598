"""Drawing the pictures of the report's figures, and of the answers, from trained runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, assert_never

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.distributions import Normal

from vaexp.experiment.draw.vae import encode_all, plane_axes
from vaexp.experiment.prepare import Experiment
from vaexp.experiment.sample import (
    COLUMNS,
    MODE_NAMES,
    SWEEP_NAMES,
    caption,
    decode,
    plane_figure,
)
from vaexp.figures.images import samples
from vaexp.figures.joint_curves import joint_curves
from vaexp.figures.over_seeds import Group, Panel, against, points
from vaexp.figures.posterior import posterior
from vaexp.figures.style import page
from vaexp.models import VAE
from vaexp.reproduction import pictures
from vaexp.reproduction.figures import Picture, Plane, Scatter, Strip
from vaexp.reproduction.pictures import Against, BestMeans, Curves, Points, Strips
from vaexp.reproduction.studies import Repeated
from vaexp.runs.folder import RunFolder
from vaexp.runs.images import image_shape
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import seeded

TILES = 15  # images along each side of a plane
SEED = 1  # of the draws, which are the same for every run
_SAID = {"mean": "μ(z)", "sample": "x ~ p(x|z)"}


@torch.no_grad()
def draw(picture: Picture, run: RunFolder) -> Figure:
    """Draw a picture from a finished run of a VAE that is given the label."""
    trained = TrainedModel.read(run)
    match picture:
        case Plane(digit=digit):
            codes = _codes(trained, run)
            return plane_figure(
                trained, [digit], "mean", codes.axes, codes.names, TILES, codes.note
            )[0]
        case Strip(mode=mode):
            label = torch.tensor(trained.labels)[torch.arange(COLUMNS) % len(trained.labels)]
            with seeded(SEED, "reproduction"):
                z = trained.model.prior().sample(torch.Size([COLUMNS]))
                images = trained.to_images(decode(trained, z, label, mode))
            rows, row_names = (images, SWEEP_NAMES) if mode == "sweep" else (images[None], None)
            return samples(rows, row_names, MODE_NAMES[mode], caption(trained))
        case Scatter():
            codes = _codes(trained, run)
            drawn = list(codes.axes)
            return posterior(
                codes.q.mean[:, drawn].numpy(),
                torch.diag_embed(codes.q.variance[:, drawn]).numpy(),
                codes.label,
                codes.names,
                caption(trained),
                note=codes.note,
            )
        case _:
            assert_never(picture)


class _Codes(NamedTuple):
    """The codes of the test images, and which two latents are shown."""

    q: Normal
    label: np.ndarray
    axes: tuple[int, int]
    names: tuple[str, str]
    note: str
    """A sentence on the choice of the two latents."""


def _codes(trained: TrainedModel, run: RunFolder) -> _Codes:
    """The posteriors of the test images of a run."""
    assert isinstance(trained.model, VAE)
    experiment = Experiment.prepare(trained.config, run)
    test = experiment.data.test
    x = experiment.held_out_images(test, "test").cpu()
    q = encode_all(trained.model, x, test.label)
    return _Codes(q, test.label.numpy(), *plane_axes(trained.model, q))


def draw_answer(picture: pictures.Picture) -> Figure:
    """Draw a picture of the answer to a question."""
    match picture:
        case Points(title=title, rows=rows):
            groups = list(rows.values())
            everywhere = {name: groups for panel in picture.panels for name in panel.measures}
            panels = [_panel(panel, everywhere) for panel in picture.panels]
            return points(list(rows), panels, title, _seeds(groups))
        case Against(title=title, across=across, series=series):
            places = {
                name: [Group(np.array(across.of(runs))) for runs in line]
                for name, line in series.items()
            }
            panels = [_panel(panel, series) for panel in picture.panels]
            seeds = _seeds(runs for line in series.values() for runs in line)
            return against(
                places, panels, across.label, title, seeds, rings=picture.rings, log=across.log
            )
        case Strips():
            return _strips(picture)
        case BestMeans():
            return _best_means(picture)
        case Curves(title=title, rows=rows):
            histories = {name: [run.records() for run in runs.runs] for name, runs in rows.items()}
            return joint_curves(histories, title, _seeds(rows.values()))
        case _:
            assert_never(picture)


def _group(runs: Repeated, measure: str) -> Group:
    values, errors = runs.values(measure), runs.errors(measure)
    return Group(np.array(values), errors[0] if len(errors) == 1 else 0.0)


def _panel(panel: pictures.Panel, series: Mapping[str, Sequence[Repeated]]) -> Panel:
    """A panel with its numbers. Its unit is that of the first run that has one of its measures."""
    units = (
        one[measure].get("unit")
        for name, measure in panel.measures.items()
        for runs in series[name]
        for one in runs.entries
        if measure in one
    )
    return Panel(
        panel.title,
        next(units, "") or "",
        {
            name: [_group(runs, measure) for runs in series[name]]
            for name, measure in panel.measures.items()
        },
        {name: _group(runs, measure) for name, (runs, measure) in panel.controls.items()},
    )


def _seeds(groups: Iterable[Repeated]) -> str:
    """How many seeds the groups have."""
    counts = sorted({len(runs.entries) for runs in groups})
    words = " or ".join(map(str, counts))
    return f"{words.capitalize()} seed{'' if counts == [1] else 's'} of each"


@torch.no_grad()
def _strips(picture: Strips) -> Figure:
    """mu(z) or a draw of the first run of each group, one row for each, under each other."""
    names, rows = [], []
    for name, runs in picture.rows.items():
        trained = TrainedModel.read(runs.first)
        label = torch.tensor(trained.labels)[torch.arange(COLUMNS) % len(trained.labels)]
        given = label if trained.model.conditional else None
        for mode in picture.modes:
            with seeded(SEED, "reproduction"):
                z = trained.model.prior().sample(torch.Size([COLUMNS]))
                rows.append(trained.to_images(decode(trained, z, given, mode)))
            names.append(f"{name}, {_SAID[mode]}" if len(picture.modes) > 1 else name)
    said = " and ".join(_SAID[mode] for mode in picture.modes)
    return samples(
        np.stack(rows),
        names,
        picture.title,
        f"{said}, z ~ p(z), of the first seed",
        "A column has the same digit in all rows of models that are given the label, and the same "
        "z in all rows of models with as many latents.",
    )


def _best_means(picture: BestMeans) -> Figure:
    """The best mu*(z) of each group's first run over its learned mu(z), along a line of the plane.

    The digit is that for which the two differ most. A run without two latents has no rows.
    """
    names, rows = [], []
    for name, runs in picture.rows.items():
        arrays = runs.first.evidence("optimal_mean")
        if "optimal" not in arrays:
            continue
        digit = f" of digit {arrays['labels'][-1]}" if "labels" in arrays else ""
        middle = len(arrays["grid"]) // 2
        for key, which in (("optimal", f"best μ*(z){digit}"), ("learned", "learned μ(z)")):
            line = arrays[key][-1, middle].reshape(-1, *image_shape(runs.first))
            names.append(f"{name}, {which}")
            rows.append(line)
    if not rows:
        return page(0, 0, picture.title, "None of these runs has a plane of two latents.")[0]
    return samples(
        np.stack(rows),
        names,
        picture.title,
        "z₁ at quantiles of N(0, 1), from left to right, and z₂ = 0; of the first seed",
        "μ*(z) is the average of the training images, weighted by q(z|x): with this encoder no "
        "decoder has a smaller squared error on them. Of each model the digit is shown for which "
        "the two differ most.",
    )
