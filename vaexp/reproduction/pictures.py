"""The pictures of an answer. Each kind is general, and takes its numbers from the runs.

Imports no torch: ``drawing`` draws them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vaexp.config import flatten
from vaexp.reproduction.studies import Repeated


@dataclass(frozen=True)
class Panel:
    """An axis: what is measured of each series, and what that is held against."""

    title: str
    measures: Mapping[str, str]
    """The measure of each series that has marks here, by the name of the series."""
    controls: Mapping[str, tuple[Repeated, str]] = field(default_factory=dict)
    """Lines with a name: a measure of a group of runs, such as that of real images."""


@dataclass(frozen=True)
class Points:
    """Measures of groups of runs in panels, each of which has a row for each group."""

    title: str
    rows: Mapping[str, Repeated]
    panels: Sequence[Panel]


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
    """Measures in panels against a setting or a measure: in each a line for each series.

    A series is groups of runs, one for each point of its line.
    """

    title: str
    series: Mapping[str, Sequence[Repeated]]
    across: Across
    panels: Sequence[Panel]
    rings: Sequence[str] = ()
    """The series that are open rings without a line, so that they do not hide others."""


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


@dataclass(frozen=True)
class BestMeans:
    """The learned mu(z) of each group's first run below the best one that its encoder allows.

    Both are of z on the middle row of the latent plane, so they need two latents, and the arrays of
    the group ``optimal_mean``.
    """

    title: str
    rows: Mapping[str, Repeated]


Picture = Points | Against | Strips | Curves | BestMeans


def panels_of(
    measures: Sequence[str],
    series: Sequence[str] = ("",),
    controls: Mapping[str, Mapping[str, tuple[Repeated, str]]] | None = None,
) -> list[Panel]:
    """A panel for each measure, which all series have. ``controls`` are those of each measure."""
    return [
        Panel(measure, dict.fromkeys(series, measure), (controls or {}).get(measure, {}))
        for measure in measures
    ]
