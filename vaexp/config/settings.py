"""Write a whole config as text, as a digest and as settings; and the schema of all configs."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from vaexp.config import document
from vaexp.config.experiments import EXPERIMENTS, Config


def dump(config: Config) -> str:
    """The resolved config as YAML; ``load_config`` reads the same Config back."""
    return document.write_text(config.model_dump())


LATER: dict[tuple[str, str], Any] = {("train", "sigma_weighting"): 0.0}
"""Keys that earlier versions did not have: section and key, and the value that means the same."""


NOT_OF_THE_RUN = ("data.root", "train.checkpoint_minutes", "output.")
"""Keys, or a section, that change no number: where the data lie, and what is written when."""


def digest(config: Config) -> str:
    """The SHA-256 of the resolved config, whatever the layout of the file it came from.

    NOT_OF_THE_RUN is left out, but for ``data.root``, which counts as null as in earlier versions.
    A key of LATER is left out at the value that runs before it had.
    """
    settings = config.model_dump()
    settings["data"]["root"] = None
    settings.get("train", {}).pop("checkpoint_minutes", None)
    del settings["output"]
    for (section, key), before in LATER.items():
        if settings.get(section, {}).get(key) == before:
            del settings[section][key]
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft of JSON Schema that editors know best."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft-07) of a config, which ``model.kind`` decides."""
    from pydantic.json_schema import models_json_schema  # takes a moment to import

    references, schema = models_json_schema(
        [(experiment, "validation") for experiment in EXPERIMENTS.values()],
        ref_template="#/definitions/{model}",
    )
    kinds = {"enum": [*EXPERIMENTS], "description": "The kind of model."}
    model = {"type": "object", "required": ["kind"], "properties": {"kind": kinds}}
    is_kind = {
        kind: {"properties": {"model": {"properties": {"kind": {"const": kind}}}}}
        for kind in EXPERIMENTS
    }
    return {
        "$schema": DRAFT,
        "title": "A config of vaexp",
        "description": "One experiment: a model, its data, and how it is fitted and measured.",
        "type": "object",
        "required": ["model"],
        "properties": {"model": model},
        "allOf": [
            {"if": is_kind[kind], "then": references[experiment, "validation"]}
            for kind, experiment in EXPERIMENTS.items()
        ],
        "definitions": {name: standing_alone(part) for name, part in schema["$defs"].items()},
    }


def standing_alone(schema: Any) -> Any:
    """A schema in which nothing stands beside a $ref, as validators of draft-07 overlook it."""
    if isinstance(schema, list):
        return [standing_alone(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: standing_alone(part) for key, part in schema.items()}
    if "$ref" in parts and len(parts) > 1:
        return {"allOf": [{"$ref": parts.pop("$ref")}], **parts}
    return parts


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys, the form that overrides are written in."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def of_the_run(flat: dict[str, Any]) -> dict[str, Any]:
    """A flattened config without what changes no number."""
    return {key: value for key, value in flat.items() if not key.startswith(NOT_OF_THE_RUN)}


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The dotted keys in which flattened configs differ.

    A key that only some of them have does not count. Its decider, which all have, differs too.
    NOT_OF_THE_RUN does not count either.
    """
    keys = of_the_run(dict.fromkeys(key for flat in settings for key in flat))
    return [key for key in keys if len({repr(flat[key]) for flat in settings if key in flat}) > 1]
