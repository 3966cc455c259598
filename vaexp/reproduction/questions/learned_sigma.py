"""Is it more useful to fix sigma? The order of fixed, shared and pixel by several measures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from vaexp.reproduction.answers import Answer, Question, by_runs, compared, says
from vaexp.reproduction.pictures import Points, Strips, panels_of
from vaexp.reproduction.studies import (
    MEAN_ONLY,
    PER_IMAGE,
    PER_PIXEL,
    QUALITY,
    Done,
    Repeated,
)

AT_ONE = ("model.beta=1",)  # where all of them maximise the ELBO
MODES = {
    "σ fixed at 1": replace(MEAN_ONLY, grid=AT_ONE, groups=QUALITY),
    "one σ(z) per image": replace(PER_IMAGE, grid=AT_ONE, groups=QUALITY),
    "one σ(z) per pixel": replace(PER_PIXEL, grid=AT_ONE, groups=QUALITY),
}


class Criterion(NamedTuple):
    """A measure that puts the modes in an order."""

    measure: str
    words: str
    best: int
    """1 if the largest value is best, −1 if the smallest is."""


CRITERIA = (
    Criterion("elbo", "the bound on ln p(x|y) (elbo)", 1),
    Criterion("rmse_mean", "the error of μ(z) (rmse_mean)", -1),
    Criterion("digit_fid_mean", "the quality of the images μ(z) (digit_fid_mean)", -1),
    Criterion("digit_fid_sample", "the quality of draws of p(x|z) (digit_fid_sample)", -1),
)
STRIPS = "Means and draws of models with fixed and learned σ, β = 1"
"""The title of a picture that the question on the process of mu(z) refers to."""
SHOWN = (
    "elbo",
    "iw_bound",
    "rate",
    "rmse_mean",
    "digit_fid_mean",
    "digit_fid_sample",
    "label_accuracy_mean",
    "label_accuracy_sample",
)


def orders(rows: Mapping[str, Repeated], criterion: Criterion) -> list[tuple[str, ...]]:
    """The order of the rows by a criterion, the best first, in each seed that all of them have."""
    values = {name: runs.values(criterion.measure) for name, runs in rows.items()}
    seeds = range(min(map(len, values.values())))
    return [
        tuple(sorted(values, key=lambda name: -criterion.best * values[name][seed]))
        for seed in seeds
    ]


def _sentence(rows: Mapping[str, Repeated], criterion: Criterion) -> str:
    found = orders(rows, criterion)
    if not found:
        return f"By {criterion.words} there is no order, as it was not measured."
    first = ", then ".join(found[0])
    agree = found.count(found[0])
    if len(found) == 1:
        return f"By {criterion.words} the order, best first, is {first}."
    if agree == len(found):
        return f"By {criterion.words} the order, best first, is {first}, in all {agree} seeds."
    return (
        f"By {criterion.words} the order is not stable: it is {first} in {agree} of "
        f"{len(found)} seeds, and another one in the others."
    )


def _best(rows: Mapping[str, Repeated]) -> str:
    """Which model is best by each criterion, where it is the same one in all seeds."""
    best: dict[str, list[str]] = {}
    for criterion in CRITERIA:
        firsts = {order[0] for order in orders(rows, criterion)}
        unclear = "none is best in all seeds" if firsts else "it is not known"
        verdict = f"{firsts.pop()} is best" if len(firsts) == 1 else unclear
        best.setdefault(verdict, []).append(criterion.words)
    if len(best) == 1 and verdict != unclear:
        return f"By each of the {len(CRITERIA)} measures {verdict}."
    parts = [f"{_by(words)}, {verdict}" for verdict, words in best.items()]
    return f"Which model is best depends on the measure: {'; '.join(parts)}."


def _by(words: Sequence[str]) -> str:
    """By which criteria, as the beginning of a clause."""
    *before, last = (f"by {one}" for one in words)
    return f"{', '.join(before)} and {last}" if before else last


def _conjecture(rows: Mapping[str, Repeated]) -> str:
    """Whether sigma = 1 gives better reconstructions than each way to learn it."""
    (_, fixed), *learned = rows.items()
    found = {name: compared(fixed, "rmse_mean", runs) for name, runs in learned}
    if None in found.values():
        return says(None, "", "", "")
    verdicts = [
        f"{says(sign, 'fails', 'holds', 'is not decided')} against {name}"
        for name, sign in found.items()
    ]
    *first, last = (runs["rate"] for runs in rows.values())
    return (
        "The report's assumption that fixing σ at 1 gives better reconstructed images "
        f"{' and '.join(verdicts)}, by the error of μ(z). The models are not at an equal rate, "
        f"though: theirs are {', '.join(first)} and {last} nats, in the order of the table."
    )


def answer(done: Done) -> Answer:
    """The order by each criterion, and whether all seeds agree on it."""
    rows = {name: done.of(study) for name, study in MODES.items()}
    table = by_runs("Fixed and learned σ at β = 1, two latents", "σ", rows, SHOWN)
    control = {"other real images": (next(iter(rows.values())), "digit_fid_control")}
    pictures = (
        Points(
            "Four measures that put the models in an order",
            rows,
            panels_of(
                [criterion.measure for criterion in CRITERIA],
                controls={"digit_fid_mean": control, "digit_fid_sample": control},
            ),
        ),
        Strips(STRIPS, rows),
    )
    details = [_sentence(rows, one) for one in CRITERIA]
    return Answer([_best(rows), _conjecture(rows)], details, [table], pictures)


QUESTION = Question(
    "Is a model with fixed σ more useful?",
    "Section 3.3.1: does minimising the squared error, which fixes σ at 1, really produce a more "
    "useful model?",
    tuple(MODES.values()),
    answer,
    "Maximising the likelihood also over σ cannot lower the bound that training reaches on its own "
    "images, but a bound on ln p(x) says nothing of how images μ(z) look. With σ = 1 no density "
    "exceeds −(784/2) ln 2π = −720.45 nats.",
)
