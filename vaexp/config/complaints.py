"""The errors of pydantic as messages that say where they stand and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vaexp.config.base import BaseConfig
from vaexp.config.document import Location, Source, brief, short_text
from vaexp.config.experiments import EXPERIMENTS
from vaexp.config.other_names import meant_by
from vaexp.config.section import Section
from vaexp.errors import UserError

AnySection = TypeVar("AnySection", bound=Section)
MOST_SHOWN = 20  # lines in a message


class Mistakes(UserError):
    """What is wrong with a document: a line for each mistake, of which the message shows some."""

    def __init__(self, lines: Iterable[str], of_one_key: Iterable[str] = (), more: int = 0):
        self.lines = list(dict.fromkeys(lines))
        """The lines, each once."""
        self.of_one_key = list(of_one_key)
        """Those on what is wrong whatever the other keys are."""
        self.more = more
        """How many mistakes there are beside the lines."""
        left = more + max(0, len(self.lines) - MOST_SHOWN)
        shown = self.lines[:MOST_SHOWN] + ([f"and {left:,} more mistakes"] if left else [])
        super().__init__("\n".join(shown))


def checked(schema: type[AnySection], source: Source) -> AnySection:
    """The section that a document is. Raises UserError with a line for each thing wrong."""
    try:
        return schema.model_validate(source.data)
    except ValidationError as error:
        raise mistakes(source, error, schema) from None


def lines_of(error: UserError) -> list[str]:
    """The mistakes that an error names, a line for each."""
    return error.lines if isinstance(error, Mistakes) else str(error).splitlines()


def beside_the_lines(error: UserError) -> int:
    """How many mistakes there are beside those lines."""
    return error.more if isinstance(error, Mistakes) else 0


def mistakes(source: Source, error: ValidationError, schema: type[Section]) -> Mistakes:
    """The mistakes that the validation of a document as this section has found."""
    every = error.errors(include_url=False)
    listed = every[:MOST_SHOWN]  # as looking for what was meant takes time
    lines = [explain(source, details, schema) for details in listed]
    of_one_key = [
        line for line, details in zip(lines, listed, strict=True) if details["type"] != "config"
    ]
    return Mistakes(lines, of_one_key, len(every) - len(listed))


def explain(source: Source, details: ErrorDetails, schema: type[Section]) -> str:
    """An error as one line, ``file:line:column: key: message``.

    ``schema`` is the section that the whole document is, such as an experiment.
    """
    location = location_of(details)
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


def location_of(details: ErrorDetails) -> Location:
    """What an error is about: where it was raised, and the key below that it names."""
    return (*details["loc"], *details.get("ctx", {}).get("key", ()))


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
