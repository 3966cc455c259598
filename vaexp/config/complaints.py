"""The errors of pydantic as messages that say where they stand and what to do."""

from difflib import get_close_matches

from pydantic_core import ErrorDetails

from vaexp.config.base import BaseConfig
from vaexp.config.document import Location, Source, brief, short_text
from vaexp.config.experiments import EXPERIMENTS
from vaexp.config.other_names import meant_by
from vaexp.config.section import Section


def explain(source: Source, details: ErrorDetails, schema: type[Section]) -> str:
    """An error as one line, ``file:line:column: key: message``.

    ``schema`` is the section that the whole document is, such as an experiment.
    """
    context = details.get("ctx", {})
    location: Location = (*details["loc"], *context.get("key", ()))
    kind = details["type"]
    is_key = kind in ("extra_forbidden", "missing")
    if kind == "extra_forbidden":
        message = _unknown_key(location, schema)
    elif kind == "missing":
        message = "this key is required"
    elif kind == "config":
        message = details["msg"]
    elif kind in ("model_type", "model_attributes_type"):
        message = f"expected keys and values, got {brief(details['input'])}"
    else:
        message = details["msg"].replace("Input should", "should", 1)
        message += f", got {brief(details['input'])}"
    name = short_text(".".join(str(part) for part in location))
    return f"{source.at(location, key=is_key)}: {name}: {message}"


def _unknown_key(location: Location, schema: type[Section]) -> str:
    """The message on a key that the schema has not, with what may have been meant."""
    *parents, key = map(str, location)
    section: type[Section] = schema
    for part in parents:
        section = section.below(part) or section
    known = list(section.model_fields)
    dotted = ".".join([*parents, key])
    kinds = [kind for kind, other in EXPERIMENTS.items() if dotted in other.dotted_keys()]
    if kinds and "." in key:
        return f"unknown key; write it as {_nested(key)}"
    if kinds and issubclass(schema, BaseConfig):
        return (
            f"does not apply when model.kind is {schema.kind()}, only when it is "
            f"{' or '.join(kinds)}; the keys that apply here: {', '.join(known)}"
        )
    here, every = get_close_matches(key, known, n=1), list(schema.dotted_keys())
    elsewhere = [path for path in every if path.split(".")[-1] == key]
    meant = [path for path in meant_by(key) if path in every]
    hints = elsewhere or meant
    if hints or here:
        inside = ".".join([*parents, ""])
        shown = [hint.removeprefix(inside) for hint in hints] or here
        is_above = parents and hints and not any("." in hint for hint in hints)
        outside = f", outside of {'.'.join(parents)}" if is_above else ""
        return f"unknown key; did you mean {' or '.join(shown)}{outside}?"
    others = {
        kind: path
        for path in meant_by(key)
        for kind, other in EXPERIMENTS.items()
        if path in other.dotted_keys()
    }
    if others and issubclass(schema, BaseConfig):
        named = " or ".join(dict.fromkeys(others.values()))
        return (
            f"unknown key; that is {named}, which does not apply when model.kind is "
            f"{schema.kind()}, only when it is {' or '.join(others)}"
        )
    return f"unknown key; the keys here are {', '.join(known)}"


def _nested(dotted: str) -> str:
    """A dotted key as YAML writes it: ``model: {beta: ...}``."""
    *above, last = dotted.split(".")
    text = f"{last}: ..."
    for part in reversed(above):
        text = f"{part}: {{{text}}}"
    return text
