"""A model read back from its run folder."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaexp.config import Config, VAEConfig
from vaexp.data import CLASSES, IMAGE_SHAPE, PIXELS, Transform
from vaexp.errors import RunError
from vaexp.models import Model, build
from vaexp.runs.folder import RunFolder


@dataclass(frozen=True)
class TrainedModel:
    """The kept weights of a run, on the CPU, and what is needed to draw with them."""

    config: Config
    model: Model
    at: int
    """The epoch or iteration that the weights are of."""

    @classmethod
    def read(cls, run: RunFolder) -> "TrainedModel":
        """From a run folder. Raises RunError where its checkpoint does not fit its config."""
        config = run.config()
        with torch.device("meta"):  # no initial weights are drawn only to be replaced
            model = build(config.model, data_dim=PIXELS, classes=CLASSES)
        at = load_weights(model, run, "cpu")
        return cls(config, model.eval().requires_grad_(False), at)

    @property
    def labels(self) -> list[int]:
        """The digits it was trained on."""
        return self.config.data.labels or list(range(CLASSES))

    @property
    def no_sweep(self) -> str | None:
        """Why mu(z) + k sigma(z) is not an image of it; None where it is."""
        model = self.config.model
        return model.family.no_sweep if isinstance(model, VAEConfig) else None

    def to_images(self, x: Tensor) -> np.ndarray:
        """(..., D) transformed x to (..., 28, 28) on the display scale, unclipped."""
        unit = Transform(self.config.data.transform).to_unit(x)
        return unit.reshape(*x.shape[:-1], *IMAGE_SHAPE).numpy()


def load_weights(model: Model, run: RunFolder, device: str) -> int:
    """Give the model the weights that the run keeps, on a device.

    Returns the epoch or iteration they are of. Raises RunError where they do not fit the model.
    """
    weights, at = run.weights()
    try:
        model.load_state_dict({k: v.to(device) for k, v in weights.items()}, assign=True)
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise RunError(
            f"{run.path}: checkpoints/model.safetensors does not fit config.yaml ({detail}); "
            "one of the two was changed or comes from another run"
        ) from None
    return at
