"""What a call of ``vaexp sweep`` asks for: a base config and a plan, from options or a file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from vaexp.config.complaints import explain
from vaexp.config.document import Location, Source, read_file, read_text
from vaexp.config.load import find_config, name_from
from vaexp.config.section import Section
from vaexp.errors import UserError
from vaexp.sweeps.base import Base
from vaexp.sweeps.plan import Plan
from vaexp.sweeps.trials import Asked, short

AnySection = TypeVar("AnySection", bound=Section)


class SweepFile(Plan):
    """A sweep as a YAML file describes it."""

    config: str
    """What ``vaexp train`` would be given. A path counts from the folder of this file."""
    set: dict[str, Any] = Field({})
    """Settings of the config to change in all trials, such as train.epochs: 5."""


@dataclass(frozen=True)
class Options:
    """The options of the command line that say what is varied."""

    grid: Sequence[str] = ()
    zip: Sequence[str] = ()
    random: int | None = None
    ranges: Sequence[str] = ()
    seeds: int | None = None

    def __bool__(self) -> bool:
        return bool(self.grid or self.zip or self.ranges) or not (
            self.random is None and self.seeds is None
        )

    def asked(self) -> Asked:
        """The plan. Raises UserError if an option is malformed, or the plan is wrong."""
        if self.random is None and self.ranges:
            raise UserError(f"--range {self.ranges[0]}: how many draws? Add --random N")
        if self.random is not None and not self.ranges:
            raise UserError(f"--random {self.random}: from what? Add --range KEY=LOW..HIGH")
        source = Source(Path("the command line"), {})
        for part, texts in (("grid", self.grid), ("zip", self.zip)):
            for text in texts:
                where, key, values = _split(f"--{part}", text, "A,B")
                # as YAML reads a list, so that [512, 256] is one value
                listed = read_text(f"[{values}]", Source(Path(where), {}))
                _put(source, (part, key), listed, where)
        if self.random is not None:
            _put(source, ("random", "trials"), self.random, f"--random {self.random}")
            for text in self.ranges:
                where, key, ends = _split("--range", text, "LOW..HIGH")
                _put(source, ("random", "ranges", key), ends, where)
        if self.seeds is not None:
            _put(source, ("seeds",), self.seeds, f"--seeds {self.seeds}")
        return Asked(checked(Plan, source), source)


def _split(option: str, text: str, form: str) -> tuple[str, str, str]:
    """How a message names an option, and its key and value."""
    key, equals, value = text.partition("=")
    if not key or not equals or not value:
        raise UserError(f"{option} {text}: write it as {option} KEY={form}")
    return f"{option} {text}", key, value


def _put(source: Source, location: tuple[str, ...], value: Any, where: str) -> None:
    """Set a value of the document, and note where it stands."""
    target = source.data
    for part in location[:-1]:
        target = target.setdefault(part, {})
    if location[-1] in target:
        raise UserError(f"{where}: {location[-1]} is there already, in {source.values[location]}")
    target[location[-1]] = value
    known: Location = location
    source.keys[known] = source.values[known] = where


def checked(schema: type[AnySection], source: Source) -> AnySection:
    """The section that a document is. Raises UserError with a line for each thing wrong."""
    try:
        return schema.model_validate(source.data)
    except ValidationError as error:
        lines = [explain(source, one, schema) for one in error.errors(include_url=False)]
        raise UserError("\n".join(lines)) from None


@dataclass(frozen=True)
class Request:
    """What one call asks for."""

    config: str
    """The config, as it was named."""
    base: Base
    asked: Asked
    name: str
    """The name of the sweep's folder, which follows from what is asked for."""

    @classmethod
    def of_config(cls, config: str, overrides: Sequence[str], options: Options) -> "Request":
        """A config and options that say what is varied."""
        base, asked = Base.read(config, overrides), options.asked()
        _once(asked.plan, {}, overrides)
        keys = asked.plan.keys
        varied = [key for key in keys if key != "seed"] or keys
        words = [base.config.name, *short(varied).values()]
        return cls(config, base, asked, "-".join(words)[:100])

    @classmethod
    def of_file(cls, path: Path, overrides: Sequence[str]) -> "Request":
        """A YAML file that describes a sweep."""
        source = read_file(path)
        file = checked(SweepFile, source)
        changes = {key: (value, source.at(("set", key))) for key, value in file.set.items()}
        for key, (_, where) in changes.items():
            if not all(key.split(".")):
                raise UserError(f"{where}: set.{key}: a key has the form model.beta")
        config = str(path.parent / file.config)
        try:
            find_config(config if os.path.exists(config) else (config := file.config))
        except UserError as error:
            raise UserError(f"{source.at(('config',))}: config: {error}") from None
        base = Base.read(config, overrides, changes)
        plan = Plan.model_validate({key: getattr(file, key) for key in Plan.model_fields})
        _once(plan, {key: where for key, (_, where) in changes.items()}, overrides)
        return cls(config, base, Asked(plan, source), name_from(path))


def _once(plan: Plan, changed: Mapping[str, str], overrides: Sequence[str]) -> None:
    """Raise UserError if a key that is varied is also set for all trials."""
    places = dict(changed)
    places |= {override.partition("=")[0]: f"override {override}" for override in overrides}
    for key, where in places.items():
        if key in plan.keys:
            raise UserError(f"{where}: {key}: the sweep varies this key; leave one of the two out")


def is_sweep_file(config: str) -> bool:
    """Whether CONFIG is a file that describes a sweep, and not the config of a run."""
    if not os.path.isfile(config):
        return False
    return not read_file(Path(config)).data.keys().isdisjoint(SweepFile.model_fields)
