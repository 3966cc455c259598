"""What the tests of configs share: the defaults, and reading a file's values and complaints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaexp.config import flatten, load_config
from vaexp.errors import UserError

COMMON = {
    "name": "experiment",
    "seed": 1,
    "device": "auto",
    "data.name": "mnist",
    "data.root": None,
    "data.transform": "scale",
    "data.labels": None,
    "data.limit": None,
    "data.validation_size": 10_000,
    "output.figure_format": "png",
    "output.tensorboard": False,
}
VAE_DEFAULTS = COMMON | {
    "model.kind": "vae",
    "model.latent_dim": 2,
    "model.hidden": [512, 256],
    "model.activation": "relu",
    "model.conditional": True,
    "model.likelihood": "gaussian",
    "model.sigma_mode": "fixed",
    "model.sigma": 1.0,
    "model.sigma_floor": 1e-3,
    "model.beta": 1.0,
    "model.beta_warmup": 0.0,
    "model.decode_mode": "mean",
    "train.epochs": 30,
    "train.steps": None,
    "train.batch_size": 256,
    "train.optimizer": "adam",
    "train.learning_rate": 1e-3,
    "train.schedule": "constant",
    "train.gradient_clip": None,
    "train.sigma_weighting": 0.0,
    "train.checkpoint_minutes": 10.0,
    "train.patience": None,
    "evaluate.importance_samples": 1000,
}
EM = {"train.max_iter": 500, "train.tolerance": 1e-3, "train.restarts": 1}
GMM_DEFAULTS = {
    "model.kind": "gmm",
    "model.components": 10,
    "model.covariance": "full",
    "model.covariance_floor": 1e-3,
    "model.init": "kmeans",
    "model.precision": "float32",
    "model.decode_mode": "sample",
}
PPCA_DEFAULTS = {
    "model.kind": "ppca",
    "model.latent_dim": 2,
    "model.method": "em",
    "model.decode_mode": "mean",
}
FA_DEFAULTS = {
    "model.kind": "fa",
    "model.latent_dim": 2,
    "model.noise_floor": 0.001,
    "model.decode_mode": "mean",
}
DEFAULTS = {
    "vae": VAE_DEFAULTS,
    "gmm": COMMON | GMM_DEFAULTS | EM,
    "ppca": COMMON | PPCA_DEFAULTS | EM | {"train.tolerance": 1e-9},
    "fa": COMMON | FA_DEFAULTS | EM | {"train.max_iter": 5000, "train.tolerance": 1e-7},
}

Write = Callable[[str], Path]


def complaints(path: Path, *overrides: str) -> list[str]:
    """The lines of the error, with the folder left out of the places."""
    with pytest.raises(UserError) as caught:
        load_config(str(path), overrides)
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def value(path: Path, key: str, *overrides: str) -> Any:
    return flatten(load_config(str(path), overrides).model_dump())[key]
