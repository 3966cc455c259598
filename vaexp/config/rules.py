"""Conditions between the keys of a config as JSON Schema (draft-07), for editors.

The loader checks the conditions by itself, and its messages say more. Here they have the form in
which an editor can check them while somebody types.
"""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """While the value at ``key`` fits the schema ``when``, that at ``other`` must fit ``then``.

    Both keys are dotted, and count from the section that has the rule. ``then`` is False where the
    other key does not apply.
    """

    key: str
    when: Json
    other: str
    then: Json | bool


def as_schema(rule: Rule, default: Any, other_default: Any) -> Json:
    """The rule as a schema with if and then. A key that is left out has its default."""
    needed = isinstance(rule.then, dict) and not fits(other_default, rule.then)
    return {
        "if": _at(rule.key, rule.when, required=not fits(default, rule.when)),
        "then": _at(rule.other, rule.then, required=needed),
    }


def at_most_one(defaults: dict[str, Any]) -> list[Json]:
    """The schemas that of some keys not all, and not none, have another value than null."""
    given = {"not": {"type": "null"}}
    null = {"type": "null"}
    by_default = sorted(key for key, default in defaults.items() if default is not None)
    keys = sorted(defaults)
    return [
        {"not": {"required": keys, "properties": dict.fromkeys(keys, given)}},
        {"not": {"required": by_default, "properties": dict.fromkeys(keys, null)}},
    ]


def fits(value: Any, schema: Json) -> bool:
    """Whether a value fits a schema of those that rules have: enum, and kinds of numbers."""
    if "enum" in schema:
        return value in schema["enum"]
    if not isinstance(value, int | float):
        return False
    return bool(
        value >= schema.get("minimum", value)
        and value > schema.get("exclusiveMinimum", value - 1)
        and value <= schema.get("maximum", value)
    )


def _at(key: str, schema: Json | bool, *, required: bool) -> Json:
    """The schema of a section in which the value at a dotted key fits a schema."""
    first, dot, rest = key.partition(".")
    below = _at(rest, schema, required=required) if dot else schema
    return {"properties": {first: below}} | ({"required": [first]} if required else {})
