"""The sentences that stand below the tables of a comparison."""

from dataclasses import asdict

from vaexp.comparison.compare import Comparison
from vaexp.comparison.ranking import Ranking
from vaexp.evaluation.tails import disagreement

FEW_TAILS = 3  # contradictions of mean and median that are all said; of more, one is the example
MOST_RANKED = 12  # runs in the sentence; the table says the place of each of more


def notes(comparison: Comparison) -> list[str]:
    """The sentences below the tables: which run is best, and what was not compared."""
    if not comparison.others:
        return _tail_notes(comparison)
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
    return [*lines, *_refusals(comparison), *_tail_notes(comparison), *seed_notes(comparison)]


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
        f"Not ranked: {', '.join(runs)}. The reason: {reason}." for reason, runs in reasons.items()
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
        close = "; ".join(", ".join(runs) for runs in ranking.close)
        line += f" Within two standard errors of the next: {close}."
    for name in dict.fromkeys(ranking.instead.values()):
        runs = ", ".join(run for run, other in ranking.instead.items() if other == name)
        line += f" {name} takes its place for {runs}."
    unbounded = (one["unbounded"] for one in entries.values() if "unbounded" in one)
    for reason in dict.fromkeys(unbounded):
        runs = ", ".join(run for run, one in entries.items() if one.get("unbounded") == reason)
        line += f" Nothing bounds the density of {runs}: {reason}. Its rank says little."
    floors = {(one.get("sigma_floor"), one.get("covariance_floor")) for one in entries.values()}
    if len(floors - {(None, None)}) > 1:
        line += " Their floors differ, and a density depends on its floor."
    return line


def _in_order(ranking: Ranking) -> str:
    """The runs in their order, with those that are tied joined."""
    joined = {b: "=" for runs in ranking.tied for b in runs[1:]}
    text, *_ = shown = ranking.order[:MOST_RANKED]
    for run in shown[1:]:
        text += f" = {run}" if run in joined else f", {run}"
    left = len(ranking.order) - len(shown)
    return f"{text}, and {left} more, whose places are in the table" if left else text


def _refusals(comparison: Comparison) -> list[str]:
    """Sentences that say why differences are missing, one for all runs with the same reason."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for name, differences in comparison.differences.items():
        for run, difference in zip(comparison.others, differences, strict=True):
            if difference.refused is not None:
                metrics.setdefault((run, difference.refused), []).append(name)
    runs: dict[tuple[str, str], list[str]] = {}
    for (run, reason), names in metrics.items():
        few = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
        runs.setdefault((", ".join(few), reason), []).append(run)
    return [
        f"Not compared with {', '.join(named)}: {few}, as {reason}."
        for (few, reason), named in runs.items()
    ]


def _tail_notes(comparison: Comparison) -> list[str]:
    """Sentences on the metrics whose mean and median contradict each other."""
    lines = []
    for name, entries in comparison.metrics.items():
        found = [
            f"{run}: {how}"
            for run, entry in zip(comparison.runs, entries, strict=True)
            if (how := disagreement(entry or {})) is not None
        ]
        found += [
            f"{run} minus {comparison.baseline}: {how}"
            for run, difference in zip(comparison.others, comparison.differences[name], strict=True)
            if (how := disagreement(asdict(difference) | asdict(difference.tails))) is not None
        ]
        lines += _not_by_the_mean(f"Do not read {name} by its mean alone.", found, "runs")
    return lines


def seed_notes(comparison: Comparison) -> list[str]:
    """Sentences on the means over seeds that contradict the mean over seeds of the medians.

    The error is that over the test images, as other seeds would not bring the two together.
    """
    groups = comparison.over_seeds
    lines = []
    for name in dict.fromkeys(name for one in groups for name in one.metrics):
        found = []
        for one in groups:
            spread = one.metrics.get(name)
            if spread is not None:
                tails = {row: of.mean for row, of in spread.tails.items()}
                stated = {"value": spread.mean, "se": spread.se_images}
                found.append((one.title, disagreement(stated | tails)))
            minus = one.differences.get(name)
            if minus is not None:
                stated = {"value": minus.value, "se": minus.se_images}
                how = disagreement(stated | asdict(minus.tails))
                found.append((f"{one.title} minus {groups[0].title}", how))
        said = [f"{title}: {how}" for title, how in found if how is not None]
        start = f"Over seeds, do not read {name} by its mean alone."
        lines += _not_by_the_mean(start, said, "groups")
    return lines


def _not_by_the_mean(start: str, found: list[str], what: str) -> list[str]:
    """The sentence on a metric and its contradictions, of ``what``; none if there are none."""
    if len(found) <= FEW_TAILS:
        return [f"{start} {'; '.join(found)}."] if found else []
    alike = f"The same holds for {len(found) - 1} other {what} and differences"
    return [f"{start} {found[0]}. {alike}."]
