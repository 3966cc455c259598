"""Comparing the test metrics of runs, with paired differences. This module imports no torch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vaexp.comparison.differences import Difference, Side, difference
from vaexp.comparison.older import in_words_of_today
from vaexp.comparison.over_seeds import OverSeeds, over_seeds
from vaexp.comparison.ranking import Ranking, rank
from vaexp.config import Config, differing, flatten
from vaexp.errors import RunError, UserError, in_a_line
from vaexp.runs.find import matching
from vaexp.runs.folder import RunFolder, short_names
from vaexp.runs.images import are_known
from vaexp.runs.unforeseen import LEFT_OUT, fault


@dataclass(frozen=True)
class Comparison:
    """The content of ``vaexp compare``. Lists have one item per run."""

    runs: list[str]
    """Short names."""
    baseline: str
    """The run from which differences are taken, by its short name."""
    paths: list[str]
    descriptions: list[str]
    settings: dict[str, list[Any]]
    """The settings that differ: dotted key -> its value in each run, None if it does not apply."""
    all_settings: list[dict[str, Any]]
    """All settings of each run, by their dotted keys."""
    metrics: dict[str, list[dict[str, Any] | None]]
    """metric -> its entry in the test split of each run, None if it was not measured."""
    differences: dict[str, list[Difference]]
    """metric -> its difference in each run except the baseline."""
    rankings: list[Ranking]
    """One for each group of comparable runs, the largest first."""
    unranked: dict[str, str]
    """The runs that are comparable with no other, and why."""
    over_seeds: list[OverSeeds]
    """Groups of runs that differ in their seed only, if there are any."""
    left_out: dict[str, str]
    """The paths of the runs that cannot be compared, and why."""
    of_unknown_images: list[str]
    """The runs of which it is not known whether their images are the published ones."""

    @property
    def others(self) -> list[str]:
        """The runs except the baseline, in the order of their differences."""
        return [name for name in self.runs if name != self.baseline]


@dataclass(frozen=True)
class _Read:
    """What is read of a run to compare it."""

    folder: RunFolder
    config: Config
    side: Side


def compare(
    runs: Sequence[RunFolder], baseline: str | None = None, *, least: int = 2
) -> Comparison:
    """Compare finished runs on their test split.

    A run that is damaged or has no metrics is left out. ``baseline`` names the run from which
    differences are taken, by its path or name; the default is the first. Raises UserError if fewer
    than ``least`` runs are given or none of them is the baseline, and RunError if too few can be
    compared. Where a single one is given and enough, what is wrong with it is raised as it is.
    """
    read, left_out = [], {}
    for run in runs:
        try:
            read.append(_read(RunFolder.open(run.path)))
        except (RunError, UserError) as error:
            if len(runs) == least == 1:
                raise
            left_out[str(run.path)] = str(error)
        except OSError as error:  # a disk that fails, or a file that may not be read
            left_out[str(run.path)] = in_a_line(error)
        except Exception as error:
            left_out[str(run.path)] = str(fault(run, error, LEFT_OUT))
    if len(read) < least:
        kind = RunError if left_out else UserError
        raise kind(_too_few(len(runs), len(read), least, left_out))
    names = _unique(short_names(one.folder for one in read))
    first = 0 if baseline is None else _position(baseline, read, names, left_out)
    settings = [flatten(one.config.model_dump()) for one in read]
    sides = [one.side for one in read]
    metrics = list(dict.fromkeys(name for side in sides for name in side.entries))
    others = [side for i, side in enumerate(sides) if i != first]
    rankings, unranked = rank(names, sides)
    return Comparison(
        runs=names,
        baseline=names[first],
        paths=[str(one.folder.path) for one in read],
        descriptions=[one.config.describe() for one in read],
        settings={
            key: [flat.get(key) for flat in settings]
            for key in differing(settings)
            if key != "name"
        },
        all_settings=settings,
        metrics={name: [side.entries.get(name) for side in sides] for name in metrics},
        differences={
            name: [difference(name, sides[first], side) for side in others] for name in metrics
        },
        rankings=rankings,
        unranked=unranked,
        over_seeds=over_seeds(names, settings, sides),
        left_out=left_out,
        of_unknown_images=[
            name for name, one in zip(names, read, strict=True) if not are_known(one.folder)
        ],
    )


def _read(run: RunFolder) -> _Read:
    """Read what is compared of a run. Raises RunError or UserError if it cannot be compared."""
    config = run.config()
    run.check_config(config)
    facts = {
        "data": (run.environment().get("data_sha256"), str(sorted(config.data.labels or []))),
        "data.transform": config.data.transform,
    }
    return _Read(run, config, Side(_test_metrics(run, config), run.per_example(), facts))


def _too_few(given: int, left: int, least: int, left_out: dict[str, str]) -> str:
    """The message for fewer runs than the ``least``, of which ``left`` can be compared."""
    if least == 1:
        return "\n".join(left_out.values())
    if not left_out:
        return "compare needs two runs or more"
    lines = [f"compare needs two runs or more, and of these {given} it can compare {left}"]
    return "\n".join([*lines, *left_out.values()])


def _position(asked: str, read: Sequence[_Read], names: list[str], left_out: dict[str, str]) -> int:
    """Which run a name or path means. Raises UserError if none or several of them."""
    here = os.path.realpath(asked)
    paths = [os.path.realpath(one.folder.path) for one in read]
    if here in paths:
        return paths.index(here)
    for path, why in left_out.items():
        if os.path.realpath(path) == here:
            raise UserError(f"--baseline {asked}: it cannot be compared: {why}")
    found = matching(asked, [one.folder.name for one in read])
    exact = [i for i in found if asked in (names[i], read[i].folder.name)]
    if len(exact or found) != 1:
        which = "several of the runs" if found else "none of the runs"
        raise UserError(
            f"--baseline {asked}: names {which}; these are compared: {', '.join(names)}"
        )
    return (exact or found)[0]


def _test_metrics(run: RunFolder, config: Config) -> dict[str, dict[str, Any]]:
    """The entries of the test split. Raises RunError if the run has none."""
    test = run.metrics().get("test")
    if test is None:
        if run.status() == "failed":
            raise RunError(f"{run.path}: has no final metrics, it failed: {run.info()['error']}")
        raise RunError(
            f"{run.path}: has no final metrics (status {run.status()}); "
            f"vaexp train --resume {run.path} finishes it"
        )
    # versions before this fact did not write it
    facts = config.likelihood_facts
    unbounded = {key: facts[key] for key in ("unbounded",) if key in facts}
    return {
        name: (unbounded if entry.get("measure") == "density" else {})
        | (entry if "scope" in entry else in_words_of_today(name, entry, config.data.transform))
        for name, entry in test.items()
    }


def _unique(names: list[str]) -> list[str]:
    """The names, with a count added to each that occurs a second time."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
