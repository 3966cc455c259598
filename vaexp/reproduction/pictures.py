"""The pictures of an answer. Each kind is general, and takes its numbers from the runs.

Imports no torch: ``drawing`` draws them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vaexp.config import flatten
from vaexp.reproduction.studies import Repeated


@dataclass(frozen=True)
class Points:
    """Measures of groups of runs: a panel for each measure, in it a row for each group."""

    title: str
    rows: Mapping[str, Repeated]
    measures: Sequence[str]


@dataclass(frozen=True)
class OneScale:
    """Numbers with the same unit in one panel: a row for each, a measure of a group of runs."""

    title: str
    rows: Mapping[str, tuple[Repeated, str]]


@dataclass(frozen=True)
class Across:
    """The horizontal axis of a picture."""

    label: str
    of: Callable[[Repeated], Sequence[float]]
    """Its value for each seed of a group of runs."""
    log: bool = False

    @classmethod
    def setting(cls, key: str, label: str, *, log: bool = False) -> "Across":
        """A setting with a dotted key, which is the same for all runs of a group."""
        return cls(label, lambda runs: [float(flatten(runs.config.model_dump())[key])], log)

    @classmethod
    def measure(cls, name: str, label: str) -> "Across":
        """A measure of each run."""
        return cls(label, lambda runs: runs.values(name))


@dataclass(frozen=True)
class Against:
    """Measures against a setting or a measure: a panel for each, in it a line for each series.

    A series is groups of runs, one for each point of its line.
    """

    title: str
    series: Mapping[str, Sequence[Repeated]]
    across: Across
    measures: Sequence[str]


@dataclass(frozen=True)
class Strips:
    """Ten draws of the first run of each group, with the same z where the latents are alike."""

    title: str
    rows: Mapping[str, Repeated]
    modes: Sequence[Literal["mean", "sample"]] = ("mean", "sample")


@dataclass(frozen=True)
class Curves:
    """How training went: the ELBO and the rate of each run against the epoch."""

    title: str
    rows: Mapping[str, Repeated]


Picture = Points | OneScale | Against | Strips | Curves
