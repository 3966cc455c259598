"""An experiment made ready: its config with the data and the model that it names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from vaexp.config import Config, GMMExperiment
from vaexp.data import CLASSES, PIXELS, Dataset, Split, Transform, load
from vaexp.errors import UserError
from vaexp.models import GMM, VAE, LinearGaussian, Model, build
from vaexp.seeding import HELD_OUT_SEED, seeded

TRAINING_BLOCK = 5_000  # training images transformed at once for measuring


@dataclass(frozen=True)
class Experiment:
    """A config with everything it names at hand; nothing has been written yet."""

    config: Config
    data: Dataset
    model: Model
    device: str

    @classmethod
    def prepare(cls, config: Config) -> "Experiment":
        """Load the data and, for a VAE, draw the initial weights.

        Raises UserError or RunError for what only the data and the machine can tell.
        """
        device = _resolve_device(config.device)
        data = load(config.data)
        with seeded(config.seed, "weights"):
            model = build(config.model, data_dim=PIXELS, classes=CLASSES)
        match model:
            case GMM():
                assert isinstance(config, GMMExperiment)
                _check_components(config, data.train)
            case VAE() | LinearGaussian():
                pass  # any images do
            case _:
                assert_never(model)
        return cls(config, data, model.to(device), device)

    def training_blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The transformed training images (n, D) and labels, block by block to spare memory."""
        pixels, label = self.data.train.pixels, self.data.train.label
        blocks = zip(pixels.split(TRAINING_BLOCK), label.split(TRAINING_BLOCK), strict=True)
        for i, (block, labels) in enumerate(blocks):
            with seeded(self.config.seed, "training images", i):
                x = Transform(self.config.data.transform)(block)
            yield x.to(self.device), labels.to(self.device)

    def training_images(self) -> Tensor:
        """All of them at once, (N, D): what EM goes through again and again."""
        return torch.cat([x for x, _ in self.training_blocks()])

    def validation_images(self) -> tuple[Tensor, Tensor] | None:
        """The transformed validation images and their labels, if there are any."""
        split = self.data.validation
        if split is None:
            return None
        return self.held_out_images(split, "validation"), split.label.to(self.device)

    def held_out_images(self, split: Split, name: str) -> Tensor:
        """The transformed images (N, D) of validation or test: the same in every run."""
        with seeded(HELD_OUT_SEED, name):
            return Transform(self.config.data.transform)(split.pixels).to(self.device)


def _check_components(config: GMMExperiment, train: Split) -> None:
    """Raise UserError where the training images are too few to start every component."""
    digits = config.data.labels or range(CLASSES)
    missing = sorted(set(digits) - set(train.label.tolist()))
    if config.model.init == "labels" and missing:
        raise UserError(
            f"model.init: labels starts one component per digit, and none of the {len(train):,} "
            f"training images is a {' or a '.join(map(str, missing))}; raise data.limit"
        )
    if config.model.components > len(train):
        raise UserError(
            f"model.components: {config.model.components:,} are more than the {len(train):,} "
            "training images"
        )


def _resolve_device(name: str) -> str:
    """auto, cpu or cuda to cpu or cuda. Raises UserError when cuda is asked for and absent."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but torch sees no GPU; use auto or cpu")
    return name
