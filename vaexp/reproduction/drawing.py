"""Drawing the pictures of the report's figures, and of the answers, from trained runs."""

from collections.abc import Iterable
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
from vaexp.figures.over_seeds import Group, Panel, Series, against, points
from vaexp.figures.posterior import posterior
from vaexp.models import VAE
from vaexp.reproduction import pictures
from vaexp.reproduction.figures import Picture, Plane, Scatter, Strip
from vaexp.reproduction.pictures import Against, Curves, OneScale, Points, Strips
from vaexp.reproduction.studies import Repeated
from vaexp.runs.folder import RunFolder
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
        case Points(title=title, rows=rows, measures=measures):
            panels = [
                Panel(
                    name, _unit(rows.values(), name), [_group(runs, name) for runs in rows.values()]
                )
                for name in measures
            ]
            return points(list(rows), panels, title, _seeds(rows.values()))
        case OneScale(title=title):
            unit = next(_unit([runs], measure) for runs, measure in picture.rows.values())
            groups = [_group(runs, measure) for runs, measure in picture.rows.values()]
            seeds = _seeds(runs for runs, _ in picture.rows.values())
            return points(list(picture.rows), [Panel("", unit, groups)], title, seeds)
        case Against(title=title, across=across, measures=measures):
            series = {
                name: Series(
                    [Group(np.array(across.of(runs))) for runs in line],
                    [[_group(runs, measure) for runs in line] for measure in measures],
                )
                for name, line in picture.series.items()
            }
            every = [runs for line in picture.series.values() for runs in line]
            named = [(name, _unit(every, name)) for name in measures]
            return against(series, named, across.label, title, _seeds(every), log=across.log)
        case Strips():
            return _strips(picture)
        case Curves(title=title, rows=rows):
            histories = {name: [run.records() for run in runs.runs] for name, runs in rows.items()}
            return joint_curves(histories, title, _seeds(rows.values()))
        case _:
            assert_never(picture)


def _group(runs: Repeated, measure: str) -> Group:
    values, errors = runs.values(measure), runs.errors(measure)
    return Group(np.array(values), errors[0] if len(errors) == 1 else 0.0)


def _unit(groups: Iterable[Repeated], measure: str) -> str:
    """The unit of a measure, of the first run that has it."""
    found = (one[measure].get("unit") for runs in groups for one in runs.entries if measure in one)
    return next(found, "") or ""


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
