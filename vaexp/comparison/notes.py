"""The sentences that stand below the tables of a comparison."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vaexp.comparison.compare import Comparison
from vaexp.comparison.differences import NOT_ON_BOTH
from vaexp.comparison.ranking import Ranking
from vaexp.evaluation.tails import disagreement

MOST_NAMED = 12  # runs in a sentence; the table says the place of each of more


def notes(comparison: Comparison) -> list[str]:
    """The sentences below the tables: which run is best, and what was not compared."""
    if not comparison.others:
        return [*_unknown_images(comparison), *_tail_notes(comparison)]
    lines = [
        *_ranking_lines(comparison),
        "Differences of runs are paired: their standard error is that of the difference per image.",
    ]
    entries = [entry for row in comparison.metrics.values() for entry in row if entry]
    if any(entry["aggregate"] == "whole" for entry in entries):
        lines.append(
            "Numbers of whole sets of images have no difference per image. The error of their "
            "difference is the root of the sum of their squared errors, as if they were "
            "independent; for runs on the same images it is usually too large."
        )
    return [
        *lines,
        *_refusals(comparison),
        *_unknown_images(comparison),
        *_tail_notes(comparison),
        *seed_notes(comparison),
    ]


def _ranking_lines(comparison: Comparison) -> list[str]:
    """A sentence for each group of comparable runs, and one for each reason that a run has none."""
    several = len(comparison.rankings) > 1
    lines = [
        (f"Group {i}. " if several else "") + _ranking_line(comparison, ranking)
        for i, ranking in enumerate(comparison.rankings, start=1)
    ]
    reasons: dict[str, list[str]] = {}
    for run, reason in comparison.unranked.items():
        reasons.setdefault(reason, []).append(run)
    return lines + [
        f"Not ranked: {_some(runs)}. The reason: {reason}." for reason, runs in reasons.items()
    ]


def _ranking_line(comparison: Comparison, ranking: Ranking) -> str:
    """The sentence that ranks comparable runs by a likelihood."""
    entries = {
        run: entry
        for run in ranking.order
        for metric in [ranking.instead.get(run, ranking.metric)]
        if (entry := comparison.metrics[metric][comparison.runs.index(run)]) is not None
    }
    entry = entries[ranking.order[0]]
    kind = "" if entry["kind"] == "exact" else f"a {entry['kind'].replace('_', ' ')} on "
    what = f"{ranking.metric}, {kind}ln p({entry['of']})"
    line = f"Ranked by {what.replace(' given ', '|')}, best first: {_in_order(ranking)}."
    if ranking.tied:
        line += " Runs joined by = have exactly equal numbers and are tied."
    if ranking.close:
        close = _some([", ".join(runs) for runs in ranking.close], "; ")
        line += f" Within two standard errors of the next: {close}."
    for name in dict.fromkeys(ranking.instead.values()):
        runs = _some([run for run, other in ranking.instead.items() if other == name])
        line += f" {name} takes its place for {runs}."
    unbounded = (one["unbounded"] for one in entries.values() if "unbounded" in one)
    for reason in dict.fromkeys(unbounded):
        runs = _some([run for run, one in entries.items() if one.get("unbounded") == reason])
        line += f" Nothing bounds the density of {runs}: {reason}. Its rank says little."
    floors = {(one.get("sigma_floor"), one.get("covariance_floor")) for one in entries.values()}
    if len(floors - {(None, None)}) > 1:
        line += " Their floors differ, and a density depends on its floor."
    return line


def _in_order(ranking: Ranking) -> str:
    """The runs in their order, with those that are tied joined."""
    joined = {b: "=" for runs in ranking.tied for b in runs[1:]}
    text, *_ = shown = ranking.order[:MOST_NAMED]
    for run in shown[1:]:
        text += f" = {run}" if run in joined else f", {run}"
    left = len(ranking.order) - len(shown)
    return f"{text}, and {left} more, whose places are in the table" if left else text


def _some(names: list[str], between: str = ", ") -> str:
    """Names in a sentence, or the first of them and how many more there are."""
    left = len(names) - MOST_NAMED
    return between.join([*names[:MOST_NAMED], *([f"and {left} more"] if left > 0 else [])])


def _refusals(comparison: Comparison) -> list[str]:
    """Sentences that say why differences are missing, one for all runs with the same reason."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for name, differences in comparison.differences.items():
        for run, difference in zip(comparison.others, differences, strict=True):
            if difference.refused is not None:
                metrics.setdefault((run, difference.refused), []).append(name)
    runs: dict[tuple[str, str], list[str]] = {}
    lacking = [run for run, reason in metrics if reason == NOT_ON_BOTH]
    for (run, reason), names in metrics.items():
        if reason != NOT_ON_BOTH:
            few = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
            runs.setdefault((", ".join(few), reason), []).append(run)
    lines = [
        f"Not compared with {_some(named)}: {few}, as {reason}."
        for (few, reason), named in runs.items()
    ]
    if lacking:
        lines.append(f"Not compared with {_some(lacking)}: measures that one of two runs lacks.")
    return lines


def _unknown_images(comparison: Comparison) -> list[str]:
    """A sentence on the runs whose images may not be the published ones."""
    if not comparison.of_unknown_images:
        return []
    return [
        f"Whether the images of {_some(comparison.of_unknown_images)} are the published ones "
        "is not known; train.log of each run says why."
    ]


Found = tuple[str, str, dict[str, Any]]
"""A metric, whose number it is, and the mean and the median that contradict each other."""


def _tail_notes(comparison: Comparison) -> list[str]:
    """Sentences on the metrics whose mean and median contradict each other."""
    found: list[Found] = []
    for name, entries in comparison.metrics.items():
        minus = [f"{run} minus {comparison.baseline}" for run in comparison.others]
        differences = [asdict(one) | asdict(one.tails) for one in comparison.differences[name]]
        found += [
            (name, whose, facts)
            for whose, facts in [
                *zip(comparison.runs, entries, strict=True),
                *zip(minus, differences, strict=True),
            ]
            if facts is not None
        ]
    return _not_by_their_means("Do not read", found)


def seed_notes(comparison: Comparison) -> list[str]:
    """Sentences on the means over seeds that contradict the mean over seeds of the medians.

    The error is that over the test images, as other seeds would not bring the two together.
    """
    groups = comparison.over_seeds
    found: list[Found] = []
    for one in groups:
        for name, spread in one.metrics.items():
            tails = {row: of.mean for row, of in spread.tails.items()}
            found.append((name, one.title, tails | {"value": spread.mean, "se": spread.se_images}))
        for name, minus in one.differences.items():
            stated = {"value": minus.value, "se": minus.se_images}
            whose = f"{one.title} minus {groups[0].title}"
            found.append((name, whose, asdict(minus.tails) | stated))
    return _not_by_their_means("Over seeds, do not read", found)


def _not_by_their_means(start: str, found: Sequence[Found]) -> list[str]:
    """Sentences on those whose mean and median contradict each other.

    There is one sentence on those whose signs differ, and one on all others. Its example is the
    number whose mean and median are furthest apart.
    """
    contrary = [one for one in found if disagreement(one[2]) is not None]
    lines = []
    for signs_differ in (True, False):
        some = [one for one in contrary if (one[2]["value"] * one[2]["median"] < 0) == signs_differ]
        if not some:
            continue
        names = [*dict.fromkeys(name for name, _, _ in some)]
        name, whose, facts = max(some, key=lambda one: abs(one[2]["value"] - one[2]["median"]))
        own = "its mean" if len(names) == 1 else "their means"
        line = f"{start} {', '.join(names)} by {own} alone. {name} of {whose}: "
        line += f"{disagreement(facts)}."
        if others := len(some) - 1:
            which = "1 other number" if others == 1 else f"{others} other numbers"
            line += f" The same holds to a smaller degree for {which}."
        lines.append(line)
    return lines
