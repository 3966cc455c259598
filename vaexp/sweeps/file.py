"""A sweep as a YAML file describes it. All that is wrong with a file is said at once."""

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from vaexp.config.complaints import Mistakes, beside_the_lines, lines_of, location_of, mistakes
from vaexp.config.document import Location, Source, read_file
from vaexp.config.load import find_config, resolve
from vaexp.config.overrides import put
from vaexp.config.section import problem, problems
from vaexp.config.shipped import shipped_sweeps
from vaexp.errors import UserError
from vaexp.sweeps.base import Base
from vaexp.sweeps.plan import Plan
from vaexp.sweeps.trials import Asked

KIND = "model.kind"  # which decides what keys there are


class SweepFile(Plan):
    """A sweep: a config, and what is varied of it. Every combination is a trial."""

    config: str
    """What vaexp train would be given: a shipped config's name or a path, which counts from the
    folder of this file."""
    set: dict[str, Any] = Field({})
    """Settings of the config to change in all trials, such as train.epochs: 5."""

    @field_validator("set")
    @classmethod
    def _are_settings(cls, changes: dict[str, Any]) -> dict[str, Any]:
        found = [
            problem("a key has the form model.beta", key)
            for key in changes
            if not all(key.split("."))
        ]
        found += [
            problem("to change a section, name its keys, such as train.epochs", key)
            for key, value in changes.items()
            if isinstance(value, dict)
        ]
        if found:
            raise problems(found)
        return changes


def sweep_file(config: str) -> Path | None:
    """The file that describes a sweep, if CONFIG is the path of one or a shipped sweep's name."""
    if os.path.isfile(config):
        keys = read_file(Path(config), quick=True).data.keys()
        return None if keys.isdisjoint(SweepFile.model_fields) else Path(config)
    return None if os.path.exists(config) else shipped_sweeps().get(config)


def read_sweep_file(path: Path, overrides: Sequence[str]) -> tuple[str, Base, Asked]:
    """The config that a sweep's file names, with its changes and the overrides; and its plan.

    Raises UserError with a line for each mistake. What is right is checked whatever is wrong
    beside it, and the trials that follow are checked too if there is any mistake. If there is none,
    that is left to ``trials.check``.
    """
    source = read_file(path)
    file, found = _right_part(source)
    if file is None:
        raise Mistakes(found)
    asked = Asked(Plan(**{key: getattr(file, key) for key in Plan.model_fields}), source)
    changes = {key: (value, source.at(("set", key))) for key, value in file.set.items()}
    try:
        config = _named(file.config, source)
        document, overridden = Base.document(config, overrides, changes)
    except UserError as error:
        raise Mistakes([*found, *lines_of(error)], more=beside_the_lines(error)) from None
    is_whole = not found
    places = {key: place for key, (_, place) in changes.items()}
    found += set_and_varied(asked.plan, places, overrides)
    more = 0
    try:
        base = Base.resolved(copy.deepcopy(document), overridden)
    except UserError as error:
        found += lines_of(error)
        more = beside_the_lines(error)
    else:
        if not found:
            return config, base, asked
    if is_whole or KIND not in {*_varied(source)} - {*asked.plan.keys}:
        found += _mistakes_of_trials(document, overridden, asked, is_whole)
    raise Mistakes(found, more=more)


def set_and_varied(plan: Plan, changed: Mapping[str, str], overrides: Iterable[str]) -> list[str]:
    """A line for each key that is varied and also set for all trials.

    ``changed`` has the place of each key that a file sets.
    """
    places = dict(changed)
    places |= {override.partition("=")[0]: f"override {override}" for override in overrides}
    return [
        f"{where}: {key}: the sweep varies this key; leave one of the two out"
        for key, where in places.items()
        if key in plan.keys
    ]


def _named(config: str, source: Source) -> str:
    """The config that a file names, as a path if there is one there.

    Raises UserError, with its place, if there is none.
    """
    path = str(source.path.parent / config)
    config = path if os.path.exists(path) else config
    try:
        find_config(config)
    except UserError as error:
        raise UserError(f"{source.at(('config',))}: config: {error}") from None
    return config


def _right_part(source: Source) -> tuple[SweepFile | None, list[str]]:
    """What is right in a file, as if nothing else stood there, and the mistakes in it.

    Nothing is right if the file names no config. Raises UserError for more mistakes than a message
    shows.
    """
    data, found = source.data, list[str]()
    while True:
        try:
            return SweepFile.model_validate(data), found
        except ValidationError as error:
            wrong = mistakes(source, error, SweepFile)
            if wrong.more:
                raise wrong from None
            found += wrong.lines
            right = _without(data, map(location_of, error.errors(include_url=False)))
        if right == data:
            return None, found
        data = right


def _without(data: dict[str, Any], locations: Iterable[Location]) -> dict[str, Any]:
    """The data without what is wrong: a single key of what is set and of a grid, or a whole part.

    If nothing is left that is varied, one seed is.
    """
    right = dict(data)
    for part, *below in locations:
        if part in ("grid", "set") and below and isinstance(right.get(part), dict):
            right[part] = {key: value for key, value in right[part].items() if key != below[0]}
        elif part != "config":
            right.pop(str(part), None)
    return right if any(right.get(part) for part in Plan.model_fields) else right | {"seeds": 1}


def _varied(source: Source) -> Iterator[str]:
    """The keys of a file that its grid and zip name, even if there is something wrong with them."""
    for part in ("grid", "zip"):
        keys = source.data.get(part)
        yield from keys if isinstance(keys, dict) else ()


def _mistakes_of_trials(
    document: Source, overridden: set[Location], asked: Asked, is_whole: bool
) -> list[str]:
    """The mistakes in the trials of a file in which there are mistakes.

    Where a part of the plan is left out, whether keys go together cannot be said.
    """
    found: list[str] = []
    try:
        for point in asked.plan.points(seed=1):
            trial = copy.deepcopy(document)
            try:
                own = {
                    put(trial, key, value, asked.at(point.places[key]))
                    for key, value in point.settings.items()
                }
                resolve(trial, overridden | own)
            except Mistakes as error:
                found += error.lines if is_whole else error.of_one_key
            except UserError as error:
                found += lines_of(error)
    except ValueError as error:
        found.append(f"{asked.at(('random', 'trials'))}: {error}")
    return found
