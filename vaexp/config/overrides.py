"""KEY=VALUE overrides: set one key of a document, and remove the keys that no longer apply."""

from typing import Any

from vaexp.config.document import Location, Source, read_override, short_text
from vaexp.config.experiments import EXPERIMENTS, Config
from vaexp.config.section import Section
from vaexp.config.settings import flatten
from vaexp.errors import UserError


def apply_override(source: Source, override: str) -> Location:
    """Set one key of the document; returns its location. Raises UserError for a malformed one."""
    key, equals, text = override.partition("=")
    where = f"override {short_text(override)}"
    if not equals or not all(key.split(".")):
        raise UserError(f"{where}: write it as KEY=VALUE, such as model.beta=4")
    value = text if key == "name" else read_override(text, where)
    return put(source, key, value, where)


def put(source: Source, key: str, value: Any, where: str) -> Location:
    """Set one dotted key of the document; returns its location.

    ``where`` is the place that complaints name. Raises UserError if a part of the key is a value.
    """
    parts = key.split(".")
    target = source.data
    for depth, part in enumerate(parts[:-1], start=1):
        if target.get(part) is None:
            target[part] = {}
            created: Location = tuple(parts[:depth])
            source.keys[created] = source.values[created] = where
        target = target[part]
        if not isinstance(target, dict):
            raise UserError(f"{where}: {'.'.join(parts[:depth])} is a value, not a section")
    target[parts[-1]] = value
    location: Location = tuple(parts)
    for places in (source.keys, source.values):
        for stale in [known for known in places if known[: len(location)] == location]:
            del places[stale]
        places[location] = where
    return location


def remove_overruled(
    data: dict[str, Any], overridden: set[Location], experiment: type[Config]
) -> list[str]:
    """Remove from the data of a file the keys that no longer apply after the overrides.

    Returns these keys with dots, but without those whose place an override takes.

    So a file need not be edited for ``model.likelihood=bernoulli``, with which its sigma_mode does
    not apply, for ``train.steps=5``, which takes the place of its epochs, or for another
    ``model.kind``, which does not have all of its keys. A key that is itself overridden stays, and
    is an error when the data are validated.
    """
    other_kind = ("model", "kind") in overridden
    before = list(flatten(data))
    if other_kind:
        _remove_keys_of_other_kinds(data, overridden, experiment)
    sections: list[tuple[Location, type[Section]]] = [((), experiment)]
    sections += [
        ((key,), section) for key in data if (section := experiment.below(key)) is not None
    ]
    for location, section in sections:
        for condition in section.conditions:
            decider = (*location, *condition.decider.split("."))
            # Two kinds may share a key, such as factors, whose decider the file then leaves out.
            moved = decider in overridden or (other_kind and location == ("model",))
            if moved and not condition.suits(_value_at(data, decider, section)):
                for key in condition.keys:
                    _remove(data, (*location, key), overridden)
    left = flatten(data)
    for location, section in sections:
        for keys in section.alternatives:
            chosen = [(*location, key) for key in keys if (*location, key) in overridden]
            if any(_value_at(data, each, section) is not None for each in chosen):
                for key in keys:
                    _remove(data, (*location, key), overridden)
    return [short_text(key) for key in before if key not in left]


def _remove_keys_of_other_kinds(
    data: dict[str, Any], overridden: set[Location], experiment: type[Config]
) -> None:
    """Remove the keys that experiments of other kinds have and this one has not."""
    for name, values in list(data.items()):
        section = experiment.below(name)
        if section is None:
            if name not in experiment.model_fields and any(
                name in other.model_fields for other in EXPERIMENTS.values()
            ):
                _remove(data, (name,), overridden)
        elif isinstance(values, dict):
            for key in [key for key in values if key not in section.model_fields]:
                _remove(data, (name, key), overridden)


def _value_at(data: dict[str, Any], location: Location, section: type[Section]) -> object:
    """The value at a location, or its default in the section that it is a key of."""
    holder, key = _holder(data, location), str(location[-1])
    if isinstance(holder, dict) and key in holder:
        return holder[key]
    return section.model_fields[key].default


def _holder(data: dict[str, Any], location: Location) -> Any:
    """The value that holds the last key of a location."""
    value: Any = data
    for part in location[:-1]:
        value = value[part]
    return value


def _remove(data: dict[str, Any], location: Location, overridden: set[Location]) -> None:
    """Remove a location from the data, but not what an override has set there or below it."""
    holder, key = _holder(data, location), str(location[-1])
    if not isinstance(holder, dict) or key not in holder:
        return
    if any(location[: len(each)] == each for each in overridden):
        return
    if any(each[: len(location)] == location for each in overridden):
        for inner in list(holder[key]):
            _remove(data, (*location, inner), overridden)
    else:
        del holder[key]
