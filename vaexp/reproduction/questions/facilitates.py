"""Is sigma a parameter that facilitates learning? The mean it leads to, at an equal rate."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import hypot

from vaexp.reproduction.answers import Answer, Question, Sign, by_runs, says, sign
from vaexp.reproduction.pictures import Across, Against, Curves, panels_of
from vaexp.reproduction.questions.learned_sigma import AT_ONE, MODES
from vaexp.reproduction.studies import FEW_SEEDS, QUALITY, Done, Repeated, Study

GROUPS = (*QUALITY, "rescoring")
SIGMAS = (0.1, 0.2, 0.3)
FIXED = Study(
    "report/mean-only",
    grid=(*AT_ONE, f"model.sigma={','.join(map(str, SIGMAS))}"),
    groups=GROUPS,
    seeds=FEW_SEEDS,
)
IMAGE = replace(MODES["one σ(z) per image"], groups=GROUPS, seeds=FEW_SEEDS)
PIXEL = replace(MODES["one σ(z) per pixel"], groups=GROUPS, seeds=FEW_SEEDS)
WEIGHTED = Study(
    "report/sigma-per-pixel",
    grid=("model.beta=0.04", "train.sigma_weighting=1"),
    groups=GROUPS,
    seeds=FEW_SEEDS,
)
SHOWN = ("rate", "rmse_mean", "digit_fid_mean", "sigma", "elbo", "elbo_sigma_pixel")


def at_rate(curve: list[tuple[float, float]], rate: float) -> float | None:
    """A measure at a rate, on the line through the neighbours among (rate, measure).

    None where the rate is outside of theirs.
    """
    points = sorted(curve)
    for (left, low), (right, high) in pairwise(points):
        if left <= rate <= right:
            share = (rate - left) / (right - left) if right > left else 0.0
            return low + share * (high - low)
    return None


def against_fixed(runs: Repeated, fixed: list[Repeated], measure: str) -> Sign:
    """Whether a measure is above that of fixed sigma at the same rate, seed by seed."""
    gaps, errors = [], []
    for seed, (rate, value) in enumerate(
        zip(runs.values("rate"), runs.values(measure), strict=False)
    ):
        measured = [one for one in fixed if len(one.values(measure)) > seed]
        curve = [(one.values("rate")[seed], one.values(measure)[seed]) for one in measured]
        if (there := at_rate(curve, rate)) is not None:
            gaps.append(value - there)
            errors.append(hypot(runs.errors(measure)[seed], measured[0].errors(measure)[seed]))
    return sign(gaps, errors)


def _short(errors: Sequence[Sign], images: Sequence[Sign]) -> str:
    """For how many ways to learn sigma the report's view holds, by errors and by images of mu."""
    decided = len(errors) - errors.count(None)
    if not decided:
        return (
            "Whether σ facilitates learning is not decided: no fixed σ has the rate of a learned "
            "one."
        )
    so = (
        ""
        if -1 in errors
        else ": learning σ does not teach the mean better than naming the right σ does"
    )
    return (
        f"The report's view that σ is there to facilitate learning is tested on the {decided} ways "
        "to learn σ that have a fixed σ at the same rate beside them. By the error of μ(z) it "
        f"holds for {errors.count(-1)} of them{so}. By the distance of images μ(z) from real ones "
        f"(digit_fid_mean) it holds for {images.count(-1)}."
    )


def answer(done: Done) -> Answer:
    """Whether a learned sigma leads to better means than a fixed one at the same rate."""
    fixed = {sigma: done.of(FIXED, {"model.sigma": sigma}) for sigma in SIGMAS}
    learned = {
        "one σ(z) per image": done.of(IMAGE),
        "one σ(z) per pixel": done.of(PIXEL),
        "one σ(z) per pixel without its weight in the gradient of μ(z) (β = 0.04)": done.of(
            WEIGHTED
        ),
    }
    details, errors, images = [], [], []
    for name, runs in learned.items():
        error = against_fixed(runs, list(fixed.values()), "rmse_mean")
        fid = against_fixed(runs, list(fixed.values()), "digit_fid_mean")
        errors.append(error)
        images.append(fid)
        if error is None:
            details.append(
                f"With {name} the rate of {runs['rate']} nats is outside of those of the fixed σ, "
                "so that there is none at an equal rate."
            )
            continue
        details.append(
            f"With {name} the error of μ(z) is "
            + says(error, "larger than", "smaller than", "not surely other than")
            + f" with a fixed σ at the same rate of {runs['rate']} nats. "
            + says(
                fid,
                "Its images μ(z) lie further from real ones.",
                "Its images μ(z) lie nearer to real ones.",
                "Its images μ(z) lie as near to real ones.",
            )
        )
    named = {f"σ fixed at {sigma:g}": runs for sigma, runs in fixed.items()} | learned
    series = {"σ fixed": list(fixed.values())} | {name: [runs] for name, runs in learned.items()}
    pictures = (
        Against(
            "Means at equal rates: below the line of fixed σ is better",
            series,
            Across.measure("rate", "rate, nats"),
            panels_of(("rmse_mean", "digit_fid_mean"), list(series)),
        ),
        Curves("How training went with fixed and learned σ", named),
    )
    table = by_runs("Means at equal rates, two latents, β = 1 unless it is said", "σ", named, SHOWN)
    return Answer([_short(errors, images)], details, [table], pictures)


QUESTION = Question(
    "Does σ facilitate learning?",
    "Section 3.7: it seems that σ is meant to be a parameter that facilitates learning rather than "
    "a parameter with a dedicated generative purpose.",
    (FIXED, IMAGE, PIXEL, WEIGHTED),
    answer,
    "The gradient of ln p(x|z) by μⱼ is (xⱼ − μⱼ)/σⱼ². So σ sets the trade of error against rate, "
    "and a σ per pixel also says which pixels μ(z) is taught from (Seitzer et al. 2022): "
    "train.sigma_weighting = 1 takes this second part away. The error at a fixed σ between two "
    "rates is read from the line between them, which lies a little above the true curve.",
    heavy=True,
)
"""The question with its runs."""
