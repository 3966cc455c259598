"""What a sweep varies, as a YAML file or the command line says it, and the trials that follow."""

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from vaexp.config.document import Location
from vaexp.config.section import Section, problem
from vaexp.sweeps.ranges import Range

MOST_TRIALS = 10_000
MOST_TRIES = 1_000  # draws for each trial of a random search, until it differs from the others

Values = Annotated[list[Any], Field(min_length=1)]
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
    if isinstance(value, list):
        return tuple(map(hashable, value))
    return (bool, value) if isinstance(value, bool) else value


class RandomSearch(Section):
    """Trials whose settings are drawn from ranges."""

    trials: int = Field(ge=1, le=MOST_TRIALS)
    """The number of draws. A larger number keeps those of a smaller one, and adds more."""
    ranges: Annotated[dict[str, str], Field(min_length=1)]
    """For each key LOW..HIGH or log:LOW..HIGH, such as train.learning_rate: log:1e-4..1e-2. Where
    both ends are whole numbers, whole numbers are drawn."""

    @field_validator("ranges")
    @classmethod
    def _are_ranges(cls, ranges: dict[str, str]) -> dict[str, str]:
        for key, text in ranges.items():
            try:
                Range.parse(text)
            except ValueError as error:
                raise problem(f"{text}: {error}", key) from None
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

    @model_validator(mode="after")
    def _keys_can_be_swept(self) -> Self:
        seen: dict[str, str] = {}
        for part, key in self._parts():
            place = (part, "ranges", key) if part == "random" else (part, key)
            if key in seen:
                raise problem(f"it is in {seen[key]} already", *place)
            seen[key] = part
            if not all(key.split(".")):
                raise problem("a key has the form model.beta", *place)
            if key == "name":
                raise problem("every trial gets a name of its own, from its settings", *place)
            if key == "seed" and self.seeds is not None:
                raise problem("leave it out, or leave out seeds", *place)
        if not seen and self.seeds is None:
            raise problem("nothing is varied; give a grid, zip, random or seeds", "grid")
        return self

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        for part in ("grid", "zip"):
            for key, values in getattr(self, part).items():
                if any(isinstance(value, dict) for value in values):
                    raise problem(
                        "a value is a number, a word or a list; to vary a section, name its keys",
                        part,
                        key,
                    )
                (_, times), *_ = Counter(map(hashable, values)).most_common(1)
                if part == "grid" and times > 1:
                    raise problem(f"one of its values is there {times} times", part, key)
        lengths = {key: len(values) for key, values in self.zip.items()}
        for key, length in lengths.items():
            first = next(iter(lengths))
            if length != lengths[first]:
                raise problem(f"has {length} values, but {first} has {lengths[first]}", "zip", key)
        rows = zip(*self.zip.values(), strict=True)
        if self.zip and len({hashable(list(row)) for row in rows}) < max(lengths.values()):
            raise problem("has the same values twice", "zip", next(iter(lengths)))
        count = math.prod(
            [
                self.seeds or 1,
                self.random.trials if self.random else 1,
                *list(lengths.values())[:1],
                *(len(values) for values in self.grid.values()),
            ]
        )
        if count > MOST_TRIALS:
            raise problem(f"{count:,} trials are more than {MOST_TRIALS:,}", "grid")
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
