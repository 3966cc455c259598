"""The codes of images: what the encoder, or the exact posterior, of a run says of each image."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from vaexp.columns import check_parquet, write_csv, write_parquet
from vaexp.data import Split
from vaexp.errors import UserError
from vaexp.evaluation.blocks import blocks
from vaexp.experiment.prepare import Experiment
from vaexp.files import replacing
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.paths import file_to_write
from vaexp.progress import Reporter
from vaexp.runs.continuing import moved
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights

Arrays = dict[str, "np.ndarray"]


def encode(
    run: RunFolder,
    split: str,
    format_: str,
    reporter: Reporter,
    *,
    out: Path | None = None,
    overrides: list[str] | None = None,
) -> Path:
    """Write the codes of all images of a split, ``train``, ``validation`` or ``test``.

    ``format_`` is npz, csv or parquet. The file is codes/<split>.<format> of the run, or ``out``.
    It is written whole or not at all. ``overrides`` may say where the data lie now. Returns its
    path. Raises UserError for an ``out`` that cannot be written and for parquet without pyarrow,
    both before any work, and for a split that the run does not have. Raises RunError for a run
    whose weights are missing or whose config or data were changed.
    """
    if format_ == "parquet":
        check_parquet()
    file = None if out is None else file_to_write(out, "--out")
    with reporter.waiting("loading the run and the data"):
        experiment = Experiment.prepare(moved(run, overrides or []), run)
        load_weights(experiment.model, run, experiment.device)
        experiment.model.eval().requires_grad_(False)
    arrays = codes(experiment, split, reporter)
    name = f"codes/{split}.{format_}"
    path = file or run.files.place(name)
    with run.files.replacing(name) if file is None else replacing(file) as temporary:
        _write(temporary, arrays, format_)
    return path


def codes(experiment: Experiment, split: str, reporter: Reporter) -> Arrays:
    """The codes of a split of N images, by name, in the order of the data.

    ``image`` (N,) is the place of each image in the training or the test part of the source,
    counted from 0, and ``label`` (N,) its digit. A model with latents has ``mean`` and ``sd``
    (N, L), those of each latent under q(z|x), or p(z|x) where that is known. A mixture has
    ``responsibilities`` (N, K) and ``component`` (N,), the largest of them, counted from 0.
    """
    data = experiment.data
    found = {"train": data.train, "validation": data.validation, "test": data.test}[split]
    if found is None:
        raise UserError(f"--split {split}: this run has none, as its data.validation_size is 0")
    parts: list[Arrays] = []
    with reporter.bar(f"encoding {split}", len(found), "images"):
        for x, label in _images(experiment, found, split):
            parts.append(_codes_of(experiment.model, x, label))
            reporter.advance(len(x))
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return {"image": found.at.numpy(), "label": found.label.numpy()} | joined


def _images(experiment: Experiment, found: Split, split: str) -> Iterator[tuple[Tensor, ...]]:
    """The transformed images of a split (n, D) and their labels (n,), in blocks."""
    if found is experiment.data.train:
        for x, label in experiment.training_blocks():
            yield from blocks(x, label)
    else:
        label = found.label.to(experiment.device)
        yield from blocks(experiment.held_out_images(found, split), label)


@torch.no_grad()
def _codes_of(model: Model, x: Tensor, label: Tensor) -> Arrays:
    """The codes of images x (n, D) with labels (n,)."""
    match model:
        case VAE() | LinearGaussian():
            q = model.encode(x, label if model.conditional else None)
            found = {"mean": q.mean, "sd": q.stddev.expand_as(q.mean)}
        case GMM():
            joint = model.log_joint(x)
            found = {"responsibilities": joint.softmax(1), "component": joint.argmax(1)}
        case _:
            assert_never(model)
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


FIRST = {"mean": 1, "sd": 1, "responsibilities": 0}
"""What the columns of an array are counted from: latents from 1 and components from 0, as by
``vaexp sample``."""


def _write(path: Path, arrays: Arrays, format_: str) -> None:
    """Write arrays as npz, or with a column for each latent or component as csv or parquet."""
    if format_ == "npz":
        with path.open("wb") as file:  # given a path, NumPy adds .npz to it
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return
    columns = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array.tolist()
        else:
            numbered = enumerate(array.T.tolist(), FIRST[name])
            columns |= {f"{name}_{i}": column for i, column in numbered}
    (write_csv if format_ == "csv" else write_parquet)(path, columns)
