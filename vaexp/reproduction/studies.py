"""The runs that the report's figures and questions need. Each study is a sweep of a config.

Imports no torch: what is to be trained is known before anything is.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vaexp.config import Config, flatten, load_config
from vaexp.config.experiments import EXPERIMENTS
from vaexp.reproduction.cells import for_sentence, for_table
from vaexp.reproduction.size import SEEDS, Size
from vaexp.runs.folder import RunFolder
from vaexp.sweeps.request import Options, Request

FEW_SEEDS = 3
"""The seeds of runs that only one question needs."""


@dataclass(frozen=True)
class Study:
    """Runs of a shipped config: one for each combination of settings and each seed."""

    config: str
    grid: tuple[str, ...] = ()
    """The settings that are varied, as ``vaexp sweep --grid`` takes them."""
    zip: tuple[str, ...] = ()
    """The settings that are varied in step, as ``vaexp sweep --zip`` takes them."""
    groups: tuple[str, ...] = ()
    """What ``vaexp evaluate`` measures of its runs, beside what training measures."""
    seeds: int = SEEDS
    """With how many seeds everything is done, but for --quick."""

    def request(self, size: Size, overrides: Sequence[str]) -> Request:
        """What ``vaexp sweep`` would be asked for. Raises UserError for a wrong override.

        An override of a key that only models of another kind have is left out.
        """
        options = Options(grid=self.grid, zip=self.zip, seeds=min(self.seeds, size.seeds))
        return Request.of_config(self.config, self._changes(size, overrides), options)

    def _changes(self, size: Size, overrides: Sequence[str]) -> list[str]:
        """Those changes whose key the config has, or no config has."""
        own = flatten(load_config(self.config).model_dump())
        elsewhere = _keys_of_all_kinds() - own.keys()
        return [
            change
            for change in (*size.changes, *overrides)
            if change.partition("=")[0] not in elsewhere
        ]

    def request_of_all(self, request: Request) -> Request:
        """The same as a request of it, with all seeds."""
        asked = request.asked
        plan = asked.plan.model_copy(update={"seeds": self.seeds})
        return replace(request, asked=replace(asked, plan=plan))

    def command(self, size: Size, overrides: Sequence[str], seeds: int | None = None) -> str:
        """The command that trains its runs, with as many seeds as the size says if not given."""
        words = ["vaexp", "sweep", self.config, *self._changes(size, overrides)]
        words += [word for text in self.grid for word in ("--grid", text)]
        words += [word for text in self.zip for word in ("--zip", text)]
        return shlex.join([*words, "--seeds", str(seeds or min(self.seeds, size.seeds))])


def _keys_of_all_kinds() -> set[str]:
    """The dotted keys of the sections of all experiments."""
    return {
        f"{name}.{key}"
        for experiment in EXPERIMENTS.values()
        for name in experiment.model_fields
        if (section := experiment.below(name)) is not None
        for key in section.model_fields
    }


QUALITY = ("quality",)

PER_IMAGE = Study("report/sigma-per-image")
PER_PIXEL = Study("report/sigma-per-pixel")
MEAN_ONLY = Study("report/mean-only")
BETA_SMALL = Study("report/beta-small", grid=("model.latent_dim=5,2",), groups=QUALITY)
BETA_MEDIUM = Study("report/beta-medium", groups=QUALITY)
BETA_LARGE = Study("report/beta-large", groups=QUALITY)
SIGMA_SMALL = Study("report/sigma-small")
SIGMA_SMALLER = Study("report/sigma-smaller")


@dataclass(frozen=True)
class Repeated:
    """The finished runs of the same settings, one for each seed. The first has the first seed."""

    runs: tuple[RunFolder, ...]

    @property
    def first(self) -> RunFolder:
        """The run that pictures are drawn from."""
        return self.runs[0]

    @cached_property
    def config(self) -> Config:
        """The config of the first run."""
        return self.first.config()

    @cached_property
    def entries(self) -> list[dict[str, dict[str, Any]]]:
        """For each run the entries of its test split in metrics.json, by name."""
        return [run.metrics()["test"] for run in self.runs]

    def values(self, name: str, key: str = "value") -> list[float]:
        """A measure of each run that has it, in the order of seeds; or another key of its entry."""
        return [float(one[name][key]) for one in self.entries if key in one.get(name, {})]

    def errors(self, name: str) -> list[float]:
        """The standard error over images of a measure of each run that has it, or 0."""
        return [float(one[name].get("se") or 0.0) for one in self.entries if name in one]

    def cell(self, name: str) -> str:
        """A measure as text for a table; a dash stands for none."""
        return for_table(self._of(name))

    def __getitem__(self, name: str) -> str:
        """The same for a sentence."""
        return for_sentence(self._of(name))

    def _of(self, name: str) -> list[dict[str, Any]]:
        """The entries of a measure, of each run that has it."""
        return [one[name] for one in self.entries if name in one]


@dataclass(frozen=True)
class Done:
    """The finished runs of all studies, in the order of their trials."""

    runs: Mapping[Study, Sequence[RunFolder]]

    @cached_property
    def _settings(self) -> dict[Path, dict[str, Any]]:
        """The settings of each run, by its path: dotted key -> value."""
        runs = {run.path: run for runs in self.runs.values() for run in runs}
        return {path: flatten(run.config().model_dump()) for path, run in runs.items()}

    def seeds(self, study: Study) -> int:
        """With how many seeds the runs of a study were trained."""
        return len({self._settings[run.path]["seed"] for run in self.runs[study]})

    def of(self, study: Study, settings: Mapping[str, Any] | None = None) -> Repeated:
        """The runs of a study that have these settings: dotted key -> value."""
        wanted = (settings or {}).items()
        found = [
            run
            for run in self.runs[study]
            if all(self._settings[run.path][key] == value for key, value in wanted)
        ]
        return Repeated(tuple(found))
