"""The trials of a sweep: their numbers, names and configs."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vaexp.config import Config, digest
from vaexp.config.complaints import Mistakes, lines_of
from vaexp.config.document import Location, Source
from vaexp.errors import UserError
from vaexp.sweeps.base import Base, text
from vaexp.sweeps.plan import Plan, hashable


@dataclass(frozen=True)
class Asked:
    """A plan, and where it is written."""

    plan: Plan
    source: Source
    above: Location = ()
    """The location of the plan in the source."""

    def at(self, location: Location) -> str:
        """The place of a part of the plan."""
        return self.source.at((*self.above, *location))


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    number: int
    """It counts from 1, and stays as it is when trials are added to the sweep."""
    settings: dict[str, Any]
    """Dotted key -> value."""
    places: dict[str, str]
    """Dotted key -> where its value is written."""

    @property
    def title(self) -> str:
        """The settings as overrides, on one line."""
        return " ".join(f"{key}={text(value)}" for key, value in self.settings.items())

    @property
    def label(self) -> str:
        """The settings as a part of the name of its run folder."""
        names = short(list(self.settings))
        words = "-".join(f"{names[key]}-{text(value)}" for key, value in self.settings.items())
        return re.sub(r"[^A-Za-z0-9._]+", "-", words).strip("-._")[:64]

    @property
    def folder(self) -> str:
        """The name of its folder. The number keeps it apart from all others."""
        return f"{self.number:03d}-{self.label}"


def short(keys: Sequence[str]) -> dict[str, str]:
    """The last word of each key, or the whole key where two of them have the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)
    }


def numbered(asked: Iterable[Asked], base: Base) -> list[Trial]:
    """The trials that were ever asked for, in the order in which they were.

    Raises UserError if a random search finds too few points.
    """
    found: dict[Any, Trial] = {}
    for one in asked:
        try:
            for point in one.plan.points(base.config.seed):
                places = {key: one.at(place) for key, place in point.places.items()}
                trial = Trial(len(found) + 1, point.settings, places)
                found.setdefault(identity(trial, base), trial)
        except ValueError as error:
            raise UserError(f"{one.at(('random', 'trials'))}: {error}") from None
    return list(found.values())


def identity(trial: Trial, base: Base) -> Any:
    """What two trials share that are the same: their settings that are not those of the base.

    So a sweep that is repeated with more seeds keeps the trials that it has of the first one.
    """
    return frozenset(
        (key, hashable(value))
        for key, value in trial.settings.items()
        if key not in base.settings or hashable(base.settings[key]) != hashable(value)
    )


def config_of(base: Base, trial: Trial) -> Config:
    """The config of a trial. Raises UserError, with its place, if a setting is wrong."""
    return base.with_settings(trial.label, trial.settings, trial.places)


def check(base: Base, trials: Iterable[Trial]) -> None:
    """Raise UserError, with a line for each mistake, if a trial is wrong or there twice."""
    lines: list[str] = []
    same: dict[tuple[str, str | None], Trial] = {}
    for trial in trials:
        try:
            config = config_of(base, trial)
        except UserError as error:
            lines += lines_of(error)
            continue
        settings = digest(config.model_copy(update={"name": "trial"}))
        first = same.setdefault((settings, config.data.own_folder), trial)
        if first is not trial:
            place = next(reversed(trial.places.values()))
            lines.append(
                f"{place}: trial {trial.number} ({trial.title}) is the same as trial "
                f"{first.number} ({first.title})"
            )
    if lines:
        raise Mistakes(lines)
