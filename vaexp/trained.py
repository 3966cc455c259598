"""A model read back from its run folder."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaexp.config import Config
from vaexp.data import CLASSES, IMAGE_SHAPE, PIXELS, Transform
from vaexp.errors import RunError
from vaexp.models import VAE, build
from vaexp.run_folder import RunFolder


@dataclass(frozen=True)
class TrainedModel:
    """The kept weights of a run, on the CPU, and what is needed to draw with them."""

    config: Config
    model: VAE
    epoch: int
    """The epoch that the weights are of."""

    @classmethod
    def read(cls, run: RunFolder) -> "TrainedModel":
        """From a run folder. Raises RunError where its checkpoint does not fit its config."""
        config = run.config()
        with torch.device("meta"):  # no initial weights are drawn only to be replaced
            model = build(config.model, data_dim=PIXELS, classes=CLASSES)
        epoch = load_weights(model, run)
        return cls(config, model.eval().requires_grad_(False), epoch)

    @property
    def labels(self) -> list[int]:
        """The digits it was trained on."""
        return self.config.data.labels or list(range(CLASSES))

    def to_images(self, x: Tensor) -> np.ndarray:
        """(..., D) transformed x to (..., 28, 28) on the display scale, unclipped."""
        unit = Transform(self.config.data.transform).to_unit(x)
        return unit.reshape(*x.shape[:-1], *IMAGE_SHAPE).numpy()


def load_weights(model: VAE, run: RunFolder) -> int:
    """Give the model the weights that the run keeps; returns the epoch they are of.

    Raises RunError where the checkpoint does not fit the model.
    """
    weights, epoch = run.weights()
    device = next(iter(model.parameters())).device
    if device.type != "meta":
        weights = {name: weight.to(device) for name, weight in weights.items()}
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise RunError(
            f"{run.path}: checkpoints/model.safetensors does not fit config.yaml ({detail}); "
            "one of the two was changed or comes from another run"
        ) from None
    return epoch
