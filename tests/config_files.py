"""What the tests of configs share: the defaults, and reading a file's values and complaints."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaexp.config import flatten, json_schema, load_config
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


SCHEMA = json.loads(json.dumps(json_schema()))


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema, or what it refers to."""
    reference = schema.get("$ref")
    return SCHEMA["$defs"][reference.split("/")[-1]] if reference else schema


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """What a validator of JSON Schema, such as an editor has, says, as far as this one goes."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return any(accepts(choice, value) for choice in schema["anyOf"])
    types = {"string": str, "null": type(None), "array": list, "object": dict, "boolean": bool}
    types |= {"integer": int, "number": int | float}
    kind = schema.get("type")
    if kind and (not isinstance(value, types[kind]) or (kind != "boolean" and value is True)):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        known = schema["properties"]
        return (
            value.keys() <= known.keys()
            and value.keys() >= set(schema.get("required", []))
            and all(accepts(known[key], below) for key, below in value.items())
        )
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(
            accepts(schema["items"], item) for item in value
        )
    if isinstance(value, int | float):
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and value < schema.get("exclusiveMaximum", math.inf)
            and value > schema.get("exclusiveMinimum", -math.inf)
        )
    return True
