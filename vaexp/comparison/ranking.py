"""Ranking runs by a likelihood, within each group of comparable runs. It imports no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from vaexp.comparison.differences import Side, difference, incomparable
from vaexp.evaluation.scope import Tightness

Named = dict[int, str]
"""By the position of a run, the name of the measure that it is ranked by."""


@dataclass(frozen=True)
class Ranking:
    """The order of comparable runs by one likelihood, the best first."""

    metric: str
    order: list[str]
    tied: list[list[str]] = field(default_factory=list)
    """Runs whose numbers are exactly equal, so that they share a place in the order."""
    close: list[list[str]] = field(default_factory=list)
    """Neighbours in the order, each within two standard errors of the next."""
    instead: dict[str, str] = field(default_factory=dict)
    """The metric of ln p(x) that takes the place of ``metric`` in a run given the label."""

    def places(self) -> dict[str, str]:
        """The place of each run, from 1 on; that of tied runs is followed by an equals sign."""
        shared = {run: group[0] for group in self.tied for run in group}
        first = {run: place for place, run in reversed([*enumerate(self.order, start=1)])}
        return {
            run: f"{first[shared[run]]}=" if run in shared else str(first[run])
            for run in self.order
        }


def rank(names: list[str], sides: Sequence[Side]) -> tuple[list[Ranking], dict[str, str]]:
    """Rank runs within groups whose likelihoods may be compared, the largest group first.

    A group is ranked by the tightest likelihood in which all of it may be compared: ln p(x) itself,
    the importance-weighted bound with the same K, or the ELBO. The ELBO of a model with an exact
    posterior is ln p(x). Where some runs are given the label and others are not, the numbers that
    those have of ln p(x) are taken, if they were measured.

    Returns the rankings, and why each run that is comparable with no other is in none of them.
    """
    rankings = []
    first: Named = {}
    left = list(range(len(names)))
    while group := max(_groups(left, sides), key=len, default={}):
        if len(group) < 2:
            break
        first = first or group
        rankings.append(_ranking(group, names, sides))
        left = [i for i in left if i not in group]
    if len(names) == 1:  # alone, it is not unranked but has nothing to be ranked with
        left = []
    return rankings, {names[i]: _why_unranked(i, first, names, sides) for i in left}


def _groups(runs: list[int], sides: Sequence[Side]) -> Iterator[Named]:
    """The groups of comparable runs, those by the tightest likelihood first."""
    for tightness in sorted(Tightness, reverse=True):
        found = {
            i: [name for name, one in sides[i].entries.items() if one.get("tightness") == tightness]
            for i in runs
        }
        for metric in dict.fromkeys(name for names in found.values() for name in names):
            yield from _comparable({i: metric for i in runs if metric in found[i]}, sides)
        of_x = {
            i: next((name for name in found[i] if sides[i].entries[name]["of"] == "x"), None)
            for i in runs
        }
        yield from _comparable({i: name for i, name in of_x.items() if name is not None}, sides)


def _comparable(named: Named, sides: Sequence[Side]) -> list[Named]:
    """The runs, parted into groups within which these measures may be compared."""
    groups: list[Named] = []
    for i, name in named.items():
        for group in groups:
            j, known = next(iter(group.items()))
            if incomparable(sides[j], known, sides[i], name) is None:
                group[i] = name
                break
        else:
            groups.append({i: name})
    return groups


def _ranking(group: Named, names: list[str], sides: Sequence[Side]) -> Ranking:
    """Rank runs by the measures that are named for them, which may be compared."""
    metric = max(group.values(), key=list(group.values()).count)
    renamed = {i: _renamed(sides[i], name, metric) for i, name in group.items()}
    order = sorted(group, key=lambda i: -sides[i].entries[group[i]]["value"])
    tied: list[list[str]] = []
    close: list[list[str]] = []
    for better, worse in pairwise(order):
        gap = difference(metric, renamed[worse], renamed[better])
        if gap.value is None:
            continue
        if gap.value == 0 and not gap.se:
            _chain(tied, names[better], names[worse])
        elif gap.se is not None and gap.value < 2 * gap.se:
            _chain(close, names[better], names[worse])
    instead = {names[i]: name for i, name in group.items() if name != metric}
    return Ranking(metric, [names[i] for i in order], tied, close, instead)


def _renamed(side: Side, name: str, metric: str) -> Side:
    """The run with a single measure, which has another name."""
    values = {metric: side.values[name]} if name in side.values else {}
    return Side({metric: side.entries[name]}, values, side.facts)


def _chain(chains: list[list[str]], better: str, worse: str) -> None:
    """Add a pair of neighbours, in their order, to the chains of such neighbours."""
    if chains and chains[-1][-1] == better:
        chains[-1].append(worse)
    else:
        chains.append([better, worse])


def _why_unranked(i: int, group: Named, names: list[str], sides: Sequence[Side]) -> str:
    """Why a run is comparable with no other: how it differs from the largest group, or a run."""
    measures = {name: one for name, one in sides[i].entries.items() if one.get("tightness")}
    if not measures:
        return "no likelihood was measured on it"
    other = next(iter(group), 0 if i else 1)
    a, b = sorted((i, other))
    pair = f"{names[a]} and {names[b]}"
    known = sides[other].entries
    shared = [name for name in measures if known.get(name, {}).get("tightness")]
    if not shared:
        return f"{pair}: no likelihood was measured on both"
    tightest = max(shared, key=lambda name: measures[name]["tightness"])
    return f"{pair}: {incomparable(sides[a], tightest, sides[b], tightest)}"
