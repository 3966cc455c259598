"""Images and labels as tensors: the bundled MNIST, other data sets, splits and transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaexp.data import bundled, datasets
from vaexp.data.idx import CLASSES, IMAGE_SHAPE, PIXELS, Split
from vaexp.data.transforms import Transform
from vaexp.errors import UserError

if TYPE_CHECKING:
    from vaexp.config import DataConfig

__all__ = ["CLASSES", "IMAGE_SHAPE", "PIXELS", "Dataset", "Split", "Transform", "load"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images that a run learns from and is measured on, with their labels.

    `validation` is None when `data.validation_size` is 0. `sha256` is that of the whole source,
    before anything was left out: of its four unpacked IDX files (train images, train labels, test
    images, test labels) one after another. `doubt` says why they may not be the published images.
    """

    train: Split
    validation: Split | None
    test: Split
    sha256: str
    doubt: str | None = None


def load(config: DataConfig, *, download: bool = False) -> Dataset:
    """Load the data that `config` describes. Data that are missing may be downloaded if asked for.

    The order is this: (1) the last `validation_size` images of the source's training part become
    the validation split, and the rest is train; (2) `labels` filters all three splits; (3) `limit`
    keeps the first N of train. Test images are never trained on. `root` has no meaning for the
    bundled MNIST.

    Raises UserError if the settings leave too few images or the data cannot be had, RunError if
    the data's files are damaged.
    """
    name = config.name
    source = (
        bundled.read() if name == "mnist" else datasets.read(name, config.root, download=download)
    )

    total = len(source.train)
    if config.validation_size >= total:
        raise UserError(
            f"data.validation_size: {config.validation_size} leaves no training images; "
            f"{name} has {total:,}, so at most {total - 1:,} can be set aside"
        )
    cut = total - config.validation_size
    train = _rows(source.train, slice(cut))
    validation = _rows(source.train, slice(cut, None)) if config.validation_size else None
    test = source.test

    if config.labels is not None:
        train = _only(train, config.labels, "training")
        if validation is not None:
            validation = _only(validation, config.labels, "validation")
        test = _only(test, config.labels, "test")

    if config.limit is not None:
        if config.limit > len(train):
            raise UserError(
                f"data.limit: {config.limit} is larger than the {len(train):,} training images "
                f"there are after the validation split and label filter"
            )
        train = _rows(train, slice(config.limit))
    return Dataset(train, validation, test, source.sha256, source.doubt)


def _rows(split: Split, rows: slice | Tensor) -> Split:
    """The rows of a split that a slice, or a mask (N,), chooses."""
    return Split(split.pixels[rows], split.label[rows], split.at[rows])


def _only(split: Split, labels: list[int], name: str) -> Split:
    """The images of a split with these labels. Raises UserError if there are none."""
    kept = _rows(split, torch.isin(split.label, torch.tensor(labels)))
    if not len(kept):
        raise UserError(
            f"data.labels: {labels} leaves the {name} split empty; "
            f"its {len(split):,} images have the labels {sorted(set(split.label.tolist()))}"
        )
    return kept
