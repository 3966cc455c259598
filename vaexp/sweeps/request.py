"""What a call of ``vaexp sweep`` asks for: a base config and a plan, from options or a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaexp.config.complaints import Mistakes, checked
from vaexp.config.document import Location, Source, read_text
from vaexp.config.load import name_from
from vaexp.errors import UserError
from vaexp.sweeps.base import Base
from vaexp.sweeps.file import read_sweep_file, set_and_varied
from vaexp.sweeps.plan import Plan
from vaexp.sweeps.trials import Asked, short


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
        twice = set_and_varied(asked.plan, {}, overrides)
        if twice:
            raise Mistakes(twice)
        keys = asked.plan.keys
        varied = [key for key in keys if key != "seed"] or keys
        words = [base.config.name, *short(varied).values()]
        return cls(config, base, asked, "-".join(words)[:100])

    @classmethod
    def of_file(cls, path: Path, overrides: Sequence[str]) -> "Request":
        """A YAML file that describes a sweep."""
        config, base, asked = read_sweep_file(path, overrides)
        return cls(config, base, asked, name_from(path))
