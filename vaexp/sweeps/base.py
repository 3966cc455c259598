"""The config that all trials of a sweep begin with, and the config of each trial."""

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vaexp.config import Config, flatten
from vaexp.config.document import Location, Source, read_file
from vaexp.config.load import find_config, resolve
from vaexp.config.overrides import apply_override, put


@dataclass(frozen=True)
class Base:
    """A config, the places where its settings stand, and those that differ from the defaults."""

    config: Config
    source: Source
    given: dict[str, Any]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings: dotted key -> value."""
        return flatten(self.config.model_dump())

    @classmethod
    def resolved(cls, source: Source, overridden: set[Location]) -> "Base":
        """Check a document in which ``overridden`` was set. Raises UserError if it is wrong."""
        config, _ = resolve(source, overridden)
        # Without the defaults, as another model.kind in a trial has defaults of its own.
        return cls(config, source, config.model_dump(exclude_defaults=True))

    @classmethod
    def read(
        cls,
        config: str,
        overrides: Iterable[str],
        changes: Mapping[str, tuple[Any, str]] | None = None,
    ) -> "Base":
        """The document of ``document``, checked. Raises UserError as ``load_config`` does."""
        return cls.resolved(*cls.document(config, overrides, changes))

    @staticmethod
    def document(
        config: str,
        overrides: Iterable[str],
        changes: Mapping[str, tuple[Any, str]] | None = None,
    ) -> tuple[Source, set[Location]]:
        """Read CONFIG, then make ``changes`` (key -> value and its place), then the overrides.

        Returns the document and the locations that were set. Raises UserError if the file cannot be
        read, or a change or an override is malformed.
        """
        source = read_file(find_config(config)[0])
        overridden = {put(source, key, *change) for key, change in (changes or {}).items()}
        return source, overridden | {apply_override(source, override) for override in overrides}

    def with_settings(
        self, name: str, settings: Mapping[str, Any], places: Mapping[str, str]
    ) -> Config:
        """The config of a trial, as if its settings were overrides of the base.

        ``places`` says where each setting stands. Raises UserError if one of them is wrong.
        """
        source = Source(
            self.source.path,
            copy.deepcopy(self.given),
            dict(self.source.keys),
            dict(self.source.values),
        )
        source.data["name"] = name
        overridden = {put(source, key, value, places[key]) for key, value in settings.items()}
        return resolve(source, overridden)[0]

    def changes(self, other: "Base", swept: Iterable[str]) -> list[str]:
        """The settings in which another base differs, each with its place, as lines.

        The name does not count, nor do the keys that every trial sets itself.
        """
        ignored = {"name", *swept}
        mine, theirs = self.settings, other.settings
        return [
            f"{other.source.at(tuple(key.split('.')))}: {key}: {_is(theirs, key)}, but the sweep "
            f"was begun with {_is(mine, key)} ({self.source.at(tuple(key.split('.')))})"
            for key in dict.fromkeys([*mine, *theirs])
            if key not in ignored and _is(mine, key) != _is(theirs, key)
        ]


def _is(settings: Mapping[str, Any], key: str) -> str:
    """The value of a key as a message shows it."""
    return text(settings[key]) if key in settings else "no such key"


def text(value: Any) -> str:
    """A value as an override writes it. Equal numbers have the same text: 1 is 1.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)
