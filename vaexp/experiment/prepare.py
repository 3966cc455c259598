"""Preparing an experiment: loading the data and building the model that its config names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaexp.config import Config
from vaexp.data import CLASSES, Dataset, Split, Transform, load
from vaexp.errors import UserError
from vaexp.models import Model, build
from vaexp.runs.folder import RunFolder
from vaexp.seeding import HELD_OUT_SEED, seeded

TRAINING_BLOCK = 5_000  # training images that are transformed at once for measuring


@dataclass(frozen=True)
class Experiment:
    """A config with its data and its model. Nothing has been written to disk yet."""

    config: Config
    data: Dataset
    model: Model
    device: str

    @classmethod
    def prepare(cls, config: Config, run: RunFolder | None = None) -> "Experiment":
        """Load the data and build the model; for a VAE this draws the initial weights.

        Data that are missing are downloaded only for a new experiment. That of a ``run`` must have
        the config and the data that the run was trained with, wherever they lie now. Raises
        UserError or RunError for problems that only the data or the machine can show.
        """
        device = resolve_device(config.device)
        if run is not None:
            run.check_config()
        data = load(config.data, download=run is None)
        if run is not None:
            run.check_data(data.sha256)
        _check(config, data)
        with seeded(config.seed, "weights"):
            model = build(config.model, data_dim=data.pixels, classes=CLASSES)
        return cls(config, data, model.to(device), device)

    def training_batches(self) -> Callable[[Tensor], Tensor]:
        """A function from row numbers (B,) to those training images (B, D), transformed anew.

        The pixels of all images lie on the device, unless they are mapped: then those of a batch
        are copied to it.
        """
        transform, pixels = Transform(self.config.data.transform), self.data.train.pixels
        if self.data.mapped:
            return lambda rows: transform(pixels[rows.cpu()].to(self.device))
        on_device = pixels.to(self.device)
        return lambda rows: transform(on_device[rows])

    def training_blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The transformed training images (n, D) and labels (n,), in blocks to spare memory."""
        pixels, label = self.data.train.pixels, self.data.train.label
        blocks = zip(pixels.split(TRAINING_BLOCK), label.split(TRAINING_BLOCK), strict=True)
        for i, (block, labels) in enumerate(blocks):
            with seeded(self.config.seed, "training images", i):
                x = Transform(self.config.data.transform)(block)
            yield x.to(self.device), labels.to(self.device)

    def training_images(self) -> Tensor:
        """All transformed training images at once, (N, D). EM needs them in every iteration."""
        return torch.cat([x for x, _ in self.training_blocks()])

    def validation_images(self) -> tuple[Tensor, Tensor] | None:
        """The transformed validation images (M, D) and their labels (M,), if there are any."""
        split = self.data.validation
        if split is None:
            return None
        return self.held_out_images(split, "validation"), split.label.to(self.device)

    def held_out_images(self, split: Split, name: str) -> Tensor:
        """The transformed validation or test images (N, D), which are the same in every run."""
        with seeded(HELD_OUT_SEED, name):
            return Transform(self.config.data.transform)(split.pixels).to(self.device)


def check_data(config: Config, loaded: dict[str, Dataset]) -> None:
    """Raise UserError if the data, which are read for this, do not suit the config.

    ``loaded`` keeps those that were read last, as many configs in a row may have the same.
    """
    key = config.data.model_dump_json()
    if key not in loaded:
        loaded.clear()
        loaded[key] = load(config.data)
    _check(config, loaded[key])


def _check(config: Config, data: Dataset) -> None:
    """Raise UserError if the data have too few images or pixels for the config, or no labels."""
    on_pixels = config.model.complaint_on_pixels(data.pixels)
    if on_pixels is not None:
        raise UserError("model.{}: {}".format(*on_pixels))
    complaint = None if data.labels else config.complaint_without_labels()
    if complaint is None:
        digits = set(data.train.label.unique().tolist())
        complaint = config.complaint_on_images(len(data.train), digits)
    if complaint is not None:
        raise UserError(complaint)


def resolve_device(name: str) -> str:
    """Turn auto into cpu or cuda. Raises UserError if cuda is asked for and torch sees no GPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but torch sees no GPU; use auto or cpu")
    return name
