"""What a sweep varies, as a YAML file or the command line says it, and the trials that follow."""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vaexp.config.document import Location
from vaexp.config.section import Section, problem, problems
from vaexp.sweeps.ranges import PATTERN, Range

MOST_TRIALS = 10_000
MOST_TRIES = 1_000  # draws for each trial of a random search, until it differs from the others

Values = Annotated[list[Any], Field(min_length=1)]
RangeText = Annotated[str, Field(json_schema_extra={"pattern": PATTERN})]
Choice = tuple[Any, Location]
"""The value of a key, and its place in the plan."""


@dataclass(frozen=True)
class Point:
    """The settings of one trial."""

    settings: dict[str, Any]
    """Dotted key -> value. The seed comes last, where the plan has seeds."""
    places: dict[str, Location]
    """Dotted key -> the place of its value in the plan."""


def hashable(value: Any) -> Any:
    """A value of YAML in a form that can be an item of a set, in which 1 is 1.0 but not true."""
    if isinstance(value, dict):
        return tuple((key, hashable(one)) for key, one in value.items())
    if isinstance(value, list):
        return tuple(map(hashable, value))
    return (bool, value) if isinstance(value, bool) else value


def _unswept(keys: Iterable[str]) -> list[PydanticCustomError]:
    """What is wrong with keys that cannot be varied."""
    found = []
    for key in keys:
        if not all(key.split(".")):
            found.append(problem("a key has the form model.beta", key))
        elif key == "name":
            found.append(problem("every trial gets a name of its own, from its settings", key))
    return found


def _sections(lists: dict[str, Values]) -> list[PydanticCustomError]:
    """What is wrong with lists of values in which there are sections."""
    why = "a value is a number, a word or a list; to vary a section, name its keys"
    return [
        problem(why, key)
        for key, values in lists.items()
        if any(isinstance(value, dict) for value in values)
    ]


class RandomSearch(Section):
    """Trials whose settings are drawn from ranges."""

    trials: int = Field(ge=1, le=MOST_TRIALS)
    """The number of draws. A larger number keeps those of a smaller one, and adds more."""
    ranges: Annotated[dict[str, RangeText], Field(min_length=1)]
    """For each key LOW..HIGH or log:LOW..HIGH, such as train.learning_rate: log:1e-4..1e-2. Where
    both ends are whole numbers, whole numbers are drawn."""

    @field_validator("ranges")
    @classmethod
    def _are_ranges(cls, ranges: dict[str, str]) -> dict[str, str]:
        found = _unswept(ranges)
        for key, text in ranges.items():
            try:
                Range.parse(text)
            except ValueError as error:
                found.append(problem(f"{text}: {error}", key))
        if found:
            raise problems(found)
        return ranges


class Plan(Section):
    """What is varied. Every combination of the parts below is a trial."""

    grid: dict[str, Values] = Field({})
    """For each key its values. All combinations of them are tried."""
    zip: dict[str, Values] = Field({})
    """For each key its values. The first values of all keys go together, then the second, ..."""
    random: RandomSearch | None = None
    """A random search."""
    seeds: int | None = Field(None, ge=1, le=MOST_TRIALS)
    """Do everything with so many seeds: the seed of the config and the numbers that follow it."""

    @field_validator("grid")
    @classmethod
    def _values_differ(cls, lists: dict[str, Values]) -> dict[str, Values]:
        found = _unswept(lists) + _sections(lists)
        for key, values in lists.items():
            (_, times), *_ = Counter(map(hashable, values)).most_common(1)
            if times > 1:
                found.append(problem(f"one of its values is there {times} times", key))
        if found:
            raise problems(found)
        return lists

    @field_validator("zip")
    @classmethod
    def _values_go_in_step(cls, lists: dict[str, Values]) -> dict[str, Values]:
        found = _unswept(lists) + _sections(lists)
        lengths = {key: len(values) for key, values in lists.items()}
        first = next(iter(lengths), "")
        found += [
            problem(f"has {length} values, but {first} has {lengths[first]}", key)
            for key, length in lengths.items()
            if length != lengths[first]
        ]
        if found:
            raise problems(found)
        rows = [hashable(list(row)) for row in zip(*lists.values(), strict=True)]
        if len(set(rows)) < len(rows):
            raise problem("has the same values twice", first)
        return lists

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        found, seen = [], dict[str, str]()
        for part, key in self._parts():
            place = (part, "ranges", key) if part == "random" else (part, key)
            if key in seen:
                found.append(problem(f"it is in {seen[key]} already", *place))
            elif key == "seed" and self.seeds is not None:
                found.append(problem("leave it out, or leave out seeds", *place))
            seen.setdefault(key, part)
        if not seen and self.seeds is None:
            found.append(problem("nothing is varied; give a grid, zip, random or seeds", "grid"))
        count = math.prod(
            [
                self.seeds or 1,
                self.random.trials if self.random else 1,
                *[len(values) for values in self.zip.values()][:1],
                *(len(values) for values in self.grid.values()),
            ]
        )
        if count > MOST_TRIALS:
            found.append(problem(f"{count:,} trials are more than {MOST_TRIALS:,}", "grid"))
        if found:
            raise problems(found)
        return self

    def _parts(self) -> Iterator[tuple[str, str]]:
        """The keys that are varied, each with the part of the plan that it stands in."""
        yield from (("grid", key) for key in self.grid)
        yield from (("zip", key) for key in self.zip)
        yield from (("random", key) for key in (self.random.ranges if self.random else ()))

    @property
    def keys(self) -> list[str]:
        """The keys that are varied; the seed comes last, if there are seeds."""
        return [key for _, key in self._parts()] + ([] if self.seeds is None else ["seed"])

    def points(self, seed: int) -> Iterator[Point]:
        """The trials. ``seed`` is that of the config, from which random draws follow too.

        The seed varies slowest, so that every combination is seen once before any is repeated.
        Raises ValueError if the ranges have too few numbers for a random search.
        """
        for combination in product(*self._axes(seed)):
            merged = {key: choice for part in combination for key, choice in part.items()}
            yield Point(
                {key: merged[key][0] for key in self.keys},
                {key: merged[key][1] for key in self.keys},
            )

    def _axes(self, seed: int) -> Iterator[list[dict[str, Choice]]]:
        """The lists whose combinations are the trials."""
        if self.seeds is not None:
            yield [{"seed": (seed + i, ("seeds",))} for i in range(self.seeds)]
        if self.random is not None:
            yield _draws(self.random, seed)
        if self.zip:
            count = len(next(iter(self.zip.values())))
            yield [
                {key: (values[i], ("zip", key, i)) for key, values in self.zip.items()}
                for i in range(count)
            ]
        for key, values in self.grid.items():
            yield [{key: (value, ("grid", key, i))} for i, value in enumerate(values)]


def _draws(search: RandomSearch, seed: int) -> list[dict[str, Choice]]:
    """Draw the settings of a random search; no two of them are equal.

    Each key has a generator of its own, so that a further trial or range changes no earlier draw.
    """
    ranges = {key: Range.parse(text) for key, text in search.ranges.items()}
    generators = {key: random.Random(f"{seed} {key}") for key in ranges}
    seen: set[tuple[float, ...]] = set()
    drawn: list[dict[str, Choice]] = []
    for _ in range(MOST_TRIES * search.trials):
        point = {key: one.draw(generators[key]) for key, one in ranges.items()}
        if tuple(point.values()) not in seen:
            seen.add(tuple(point.values()))
            drawn.append({key: (value, ("random", "ranges", key)) for key, value in point.items()})
        if len(drawn) == search.trials:
            return drawn
    raise ValueError(f"the ranges have only {len(drawn)} different points")
