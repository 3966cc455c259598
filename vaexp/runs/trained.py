"""A model read back from its run folder."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaexp.config import Config
from vaexp.data import CLASSES, Transform
from vaexp.errors import RunError
from vaexp.models import Model, build
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import WEIGHTS
from vaexp.runs.images import image_labels, image_shape
from vaexp.visible import visible


@dataclass(frozen=True)
class TrainedModel:
    """A model with the kept weights of a run, on the CPU, and the config of the run."""

    config: Config
    model: Model
    at: int
    """The epoch or iteration after which the weights were kept."""
    shape: tuple[int, int]
    """The height and the width of an image."""
    image_labels: list[int]
    """The digits of the training images before any were left out; none without labels."""

    @classmethod
    def read(cls, run: RunFolder) -> "TrainedModel":
        """Read the model of a run. Raises RunError if the checkpoint does not fit the config."""
        config = run.config()
        run.check_config(config)
        shape = image_shape(run)
        with torch.device("meta"):  # so that no initial weights are drawn
            model = build(config.model, data_dim=math.prod(shape), classes=CLASSES)
        at = load_weights(model, run, "cpu")
        return cls(config, model.eval().requires_grad_(False), at, shape, image_labels(run))

    @property
    def labels(self) -> list[int]:
        """The digits that the model was trained on. Images without labels all count as 0."""
        return self.config.data.labels or self.image_labels or [0]

    @property
    def labelled(self) -> bool:
        """Whether the images had labels."""
        return bool(self.image_labels)

    def to_images(self, x: Tensor) -> np.ndarray:
        """Turn transformed x (..., D) into images (..., H, W) on the display scale, unclipped."""
        unit = Transform(self.config.data.transform).to_unit(x)
        return unit.reshape(*x.shape[:-1], *self.shape).numpy()


def load_weights(model: Model, run: RunFolder, device: str) -> int:
    """Load the weights that the run keeps into the model, on a device.

    Returns the epoch or iteration of the weights. Raises RunError if they do not fit the model, or
    are not finite.
    """
    expected = model.state_dict()
    weights, at = run.weights({name: tuple(tensor.shape) for name, tensor in expected.items()})
    for name, tensor in weights.items():
        what = None
        if tensor.dtype != expected[name].dtype:
            what = f"{tensor.dtype}, and the model needs {expected[name].dtype}"
        elif not tensor.isfinite().all():
            what = "numbers that are not finite"
        if what is not None:
            raise RunError(
                f"{visible(str(run.path))}/{WEIGHTS}: {visible(name)} holds {what}; copy the run "
                "folder again or train anew"
            )
    model.load_state_dict({k: v.to(device) for k, v in weights.items()}, assign=True)
    return at
