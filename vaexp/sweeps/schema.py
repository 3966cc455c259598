"""The JSON Schema (draft-07) of a file that describes a sweep, for editors."""

from typing import Any

from vaexp.config.experiments import EXPERIMENTS
from vaexp.config.section import Section
from vaexp.config.settings import DRAFT, json_schema, standing_alone
from vaexp.sweeps.file import SweepFile

Json = dict[str, Any]


def sweep_schema() -> Json:
    """The schema of a sweep's file. It knows the keys of all kinds of models, and their values.

    Whether keys go together is seen when the trials are checked, as the config decides it.
    """
    schema = SweepFile.model_json_schema(ref_template="#/definitions/{model}")
    definitions, properties = schema.pop("$defs"), schema["properties"]
    settings = _settings()
    varied = {key: one for key, one in settings.items() if key != "name"}
    definitions |= settings
    for key, one in varied.items():
        definitions[f"{key}.values"] = _described(
            one, type="array", minItems=1, items=_reference(key)
        )
    ranges = definitions["RandomSearch"]["properties"]["ranges"]
    text = ranges["additionalProperties"]
    lists = {key: _reference(f"{key}.values") for key in varied}
    for part, keys in (
        (properties["set"], {key: _reference(key) for key in settings}),
        (properties["grid"], {key: one | {"uniqueItems": True} for key, one in lists.items()}),
        (properties["zip"], lists),
        (ranges, {key: _described(one, **text) for key, one in varied.items()}),
    ):
        part |= {"properties": keys, "additionalProperties": False}
    schema |= {"$schema": DRAFT, "title": "A sweep of vaexp", "definitions": definitions}
    schema["anyOf"] = [_given("grid"), _given("zip"), _given("random"), _given("seeds")]
    no_seed = {"not": {"required": ["seed"]}}
    schema |= {
        "if": _given("seeds"),
        "then": {
            "properties": {
                "grid": no_seed,
                "zip": no_seed,
                "random": {"properties": {"ranges": no_seed}},
            }
        },
    }
    answer: Json = standing_alone(schema)
    return answer


def _reference(definition: str) -> Json:
    return {"$ref": f"#/definitions/{definition}"}


def _described(setting: Json, **schema: Any) -> Json:
    """A schema with the description of a setting."""
    return {"description": setting["description"], **schema}


def _given(part: str) -> Json:
    """The schema of files in which a part of the plan varies something."""
    given: Json = {"not": {"enum": [None, {}]}}
    return {"required": [part], "properties": {part: given}}


def _settings() -> dict[str, Json]:
    """The schema of each dotted key of a config that has a value, whatever the kind of model."""
    definitions = json_schema()["definitions"]
    descriptions: dict[str, str] = {}
    found: dict[str, list[Json]] = {}
    for experiment in EXPERIMENTS.values():
        for key, schema in _leaves(experiment, definitions):
            descriptions.setdefault(key, schema.get("description", ""))
            beside = ("default", "description", "title")
            values = {name: one for name, one in schema.items() if name not in beside}
            if values not in found.setdefault(key, []):
                found[key].append(values)
    return {
        key: {"description": descriptions[key]}
        | (schemas[0] if len(schemas) == 1 else {"anyOf": schemas})
        for key, schemas in found.items()
    }


def _leaves(
    section: type[Section], definitions: dict[str, Json], before: str = ""
) -> list[tuple[str, Json]]:
    """The dotted keys of a section that have values, each with its schema."""
    found = []
    for key, schema in definitions[section.__name__]["properties"].items():
        below = section.below(key)
        if below is None:
            found.append((f"{before}{key}", schema))
        else:
            found += _leaves(below, definitions, f"{before}{key}.")
    return found
