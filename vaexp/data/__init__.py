"""Images and labels as tensors: the bundled MNIST, other data sets, splits and transforms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaexp.config.data import BUNDLED, CLASSES, OWN
from vaexp.data import bundled, datasets, own
from vaexp.data.idx import Source, Split
from vaexp.data.transforms import Transform
from vaexp.errors import UserError
from vaexp.processes import Processes

if TYPE_CHECKING:
    from vaexp.config import DataConfig

__all__ = ["CLASSES", "Dataset", "Split", "Transform", "load", "size"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images that a run learns from and is measured on, with their labels.

    `validation` is None when `data.validation_size` is 0. `sha256` is that of the whole source,
    before anything was left out: of its unpacked files (train images, train labels, test images,
    test labels) one after another. `shape` is the height and the width of an image. `labels` are
    those of the source's training images, none if they have no labels: then every label is 0.
    `mapped` pixels lie in files that may not fit into memory: they are copied batch by batch.
    `doubt` says why the images may not be the published ones, if that is so.
    """

    train: Split
    validation: Split | None
    test: Split
    sha256: str
    shape: tuple[int, int]
    labels: list[int]
    mapped: bool = False
    doubt: str | None = None

    @property
    def pixels(self) -> int:
        """D, the number of pixels of an image."""
        return math.prod(self.shape)


def load(config: DataConfig, *, download: bool = False) -> Dataset:
    """Load the data that `config` describes. Data that are missing may be downloaded if asked for.

    The order is this: (1) the last `validation_size` images of the source's training part become
    the validation split, and the rest is train; (2) `labels` filters all three splits; (3) `limit`
    keeps the first N of train. Test images are never trained on. `root` has no meaning for the
    bundled MNIST. Splits are views of the source's pixels, except that (2) copies what it keeps.

    Whoever reads images that may not be the published ones is told so here, on stderr; of several
    processes the first one says it.

    Raises UserError if the settings leave too few images or the data cannot be had, RunError if
    the files of published data are damaged.
    """
    source = _source(config, download=download)
    if source.doubt is not None and Processes.of_torchrun().rank == 0:
        datasets.say(f"note: {source.doubt}")
    total = len(source.train)
    if config.validation_size >= total:
        raise UserError(
            f"data.validation_size: {config.validation_size} leaves no training images; "
            f"{config.name} has {total:,}, so at most {total - 1:,} can be set aside"
        )
    cut = total - config.validation_size
    train = _rows(source.train, slice(cut))
    validation = _rows(source.train, slice(cut, None)) if config.validation_size else None
    test = source.test

    if config.labels is not None:
        if not source.labelled:
            raise UserError(
                f"data.labels: the images in {config.root} have no labels to choose them by; leave "
                "data.labels out"
            )
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
    return Dataset(
        train,
        validation,
        test,
        source.sha256,
        source.shape,
        source.train.label.unique().tolist() if source.labelled else [],
        source.mapped,
        source.doubt,
    )


def size(config: DataConfig) -> tuple[int, int]:
    """The number of training images of the source and of the pixels of each, D.

    No image is read. Raises UserError if own images are not where the config says.
    """
    if config.training_images is not None and config.pixels is not None:
        return config.training_images, config.pixels
    return own.size(_own_folder(config))


def is_there(config: DataConfig) -> bool:
    """Whether the data can be read without a download."""
    return config.training_images is None or (
        config.name == BUNDLED or datasets.is_there(config.name, config.root)
    )


def _source(config: DataConfig, *, download: bool) -> Source:
    """The whole data set."""
    if config.name == BUNDLED:
        return bundled.read()
    if config.name == OWN:
        return own.read(_own_folder(config))
    return datasets.read(config.name, config.root, download=download)


def _own_folder(config: DataConfig) -> str:
    """The folder of own images, without which no config is valid."""
    assert config.root is not None
    return config.root


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
