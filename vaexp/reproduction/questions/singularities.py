"""Are singularities the cause? A mixture and a VAE against the floors of their variances."""

from collections.abc import Mapping
from math import sqrt
from statistics import mean

from vaexp.reproduction.answers import (
    Answer,
    Question,
    by_runs,
    compared,
    in_mean_and_median,
    says,
)
from vaexp.reproduction.pictures import Across, Against, panels_of
from vaexp.reproduction.questions.learned_sigma import AT_ONE, MODES
from vaexp.reproduction.studies import FEW_SEEDS, QUALITY, Done, Repeated, Study

FLOORS = (0.1, 0.01, 0.001)
"""Of sigma. The mixture's floors are of variances, their squares."""
GROUPS = ("singularities", "levels")
VAE = Study(
    "report/sigma-per-pixel",
    grid=(*AT_ONE, f"model.sigma_floor={','.join(f'{floor:g}' for floor in FLOORS)}"),
    groups=(*GROUPS, *QUALITY),
    seeds=FEW_SEEDS,
)
VARIANCES = tuple(round(floor**2, 12) for floor in FLOORS)
MIXTURE = Study(
    "gmm-diag",
    grid=(
        "model.components=50",
        "model.precision=float64",  # which tells a variance of 1e-6 from 0
        f"model.covariance_floor={','.join(f'{floor:.6f}' for floor in VARIANCES)}",
    ),
    groups=GROUPS,
    seeds=FEW_SEEDS,
)
FIXED = MODES["σ fixed at 1"]
SHOWN = (
    "elbo",
    "train_test_gap",
    "pixels_at_floor",
    "log_prob_at_floor",
    "floor_slope",
    "elbo_levels",
    "rmse_mean",
    "digit_fid_mean",
)
PICTURED = (
    "elbo",
    "elbo_levels",
    "train_test_gap",
    "pixels_at_floor",
    "rmse_mean",
    "digit_fid_mean",
)


def _changes(name: str, highest: Repeated, lowest: Repeated) -> str:
    """What the lowest floor changes, beside the highest one."""
    return (
        f"Where the floor of σ is {FLOORS[0]:g}, a share of {highest['pixels_at_floor']} of the "
        f"pixels of the {name} is near it, and where it is {FLOORS[-1]:g}, a share of "
        f"{lowest['pixels_at_floor']}. "
        + in_mean_and_median(
            lowest,
            "elbo",
            highest,
            "The density of test images rises as the floor falls.",
            "The density of test images falls as the floor falls.",
            "The density of test images does not surely change as the floor falls.",
        )
        + " "
        + in_mean_and_median(
            lowest,
            "elbo_levels",
            highest,
            "The mass on the grey levels of test images rises.",
            "The mass on the grey levels of test images falls.",
            "The mass on the grey levels of test images does not surely change.",
        )
        + " "
        + in_mean_and_median(
            lowest,
            "train_test_gap",
            highest,
            "The density of training images gains more from the lowest floor than that of test "
            "images does.",
            "The density of training images gains less from the lowest floor than that of test "
            "images does.",
            "The density of training images does not surely gain more from the lowest floor than "
            "that of test images does.",
        )
    )


def _closed(lowest: Repeated, floored: Repeated, fixed: Repeated) -> str:
    """What a floor does to the gap between the lowest floor and a fixed sigma, over their seeds."""
    found = [runs.values("digit_fid_mean") for runs in (lowest, floored, fixed)]
    low, here, there = (mean(values[: min(map(len, found))]) for values in found)
    share = (low - here) / (low - there)
    return f"closes {share:.0%} of it" if share >= 0 else f"widens it by {-share:.0%}"


def _beside_fixed(vae: Mapping[float, Repeated], fixed: Repeated) -> str:
    """Whether a floor does for the images what fixing sigma does, if that does anything."""
    lowest, highest = vae[FLOORS[-1]], vae[FLOORS[0]]
    if compared(lowest, "digit_fid_mean", fixed) in (0, -1):
        return (
            "Fixing σ at 1 does not help here to begin with: images μ(z) at the lowest floor are "
            f"no further from real ones, {lowest['digit_fid_mean']} in digit FID against "
            f"{fixed['digit_fid_mean']}."
        )
    decided = compared(highest, "digit_fid_mean", fixed)
    if decided == 1:
        closed = ", and ".join(
            f"a floor of {floor:g} {_closed(lowest, vae[floor], fixed)}" for floor in FLOORS[:-1]
        )
        return (
            "Those of σ = 1 are nearer still. There is a gap in digit FID between the lowest floor "
            f"and σ = 1: {closed}. Where the floor is highest, σ is near it in a share of "
            f"{highest['pixels_at_floor']} of the pixels, and so nearly fixed. This does not tell "
            "whether singularities or the freedom of σ are the cause."
        )
    return says(
        decided,
        "",
        "At the highest floor they are nearer to real ones than those of σ = 1, so fixing σ is "
        "not what it takes.",
        "At the highest floor they are as near to real ones as those of σ = 1, as the report "
        "supposes.",
    )


def _floor(runs: Repeated) -> list[float]:
    """The floor of sigma; that of a mixture is one of variances."""
    floor = runs.config.model.floor
    return [sqrt(floor) if runs.config.model.discrete else floor]


def answer(done: Done) -> Answer:
    """What a lower floor adds, and whether a high one makes better images."""
    vae = {floor: done.of(VAE, {"model.sigma_floor": floor}) for floor in FLOORS}
    mixture = {
        floor: done.of(MIXTURE, {"model.covariance_floor": variance})
        for floor, variance in zip(FLOORS, VARIANCES, strict=True)
    }
    high, low = FLOORS[0], FLOORS[-1]
    details = [
        _changes("mixture", mixture[high], mixture[low]),
        _changes("VAE with σ(z) per pixel", vae[high], vae[low]),
    ]
    short = [
        says(
            compared(vae[low], "digit_fid_mean", vae[high]),
            "With the singularities kept away by a high floor, images μ(z) of the VAE are nearer "
            "to real ones.",
            "With the singularities kept away by a high floor, images μ(z) of the VAE are further "
            "from real ones.",
            "With the singularities kept away by a high floor, images μ(z) of the VAE are no "
            "nearer to real ones.",
        ),
        _beside_fixed(vae, done.of(FIXED)),
    ]
    of_vae = {f"σ ≥ {floor:g}": runs for floor, runs in vae.items()}
    of_vae["σ fixed at 1"] = done.of(FIXED)
    tables = [
        by_runs("Floors of σ: the VAE, of x given the label", "VAE", of_vae, SHOWN),
        by_runs(
            "Floors of σ: the mixture, of x without its label. The config has the floor of σ²",
            "mixture",
            {
                f"σ ≥ {floor:g}, σ² ≥ {variance:g}": mixture[floor]
                for floor, variance in zip(FLOORS, VARIANCES, strict=True)
            },
            [measure for measure in SHOWN if measure != "digit_fid_mean"],
        ),
    ]
    fixed = done.of(FIXED)
    series = {
        "VAE with σ(z) per pixel, of x given the label": list(vae.values()),
        "mixture, of x": list(mixture.values()),
    }
    picture = Against(
        "What a lower floor of σ changes",
        series,
        Across("floor of σ, log scale", _floor, log=True),
        panels_of(
            PICTURED,
            list(series),
            {
                measure: {"VAE with σ fixed at 1": (fixed, measure)}
                for measure in ("rmse_mean", "digit_fid_mean")
            },
        ),
    )
    return Answer(short, details, tables, [picture])


QUESTION = Question(
    "Are singularities the reason why fixing σ helps?",
    "Section 3.3.1: we suspect that the presence of these singularities is the cause for the poor "
    "generative performances of models where we optimize with respect to σ(z).",
    (VAE, MIXTURE, FIXED),
    answer,
    "The density of a Gaussian has no bound where its variance may fall to 0 on an image, in a "
    "mixture (Bishop 2006, section 9.2.1) as in a VAE (Mattei and Frellsen 2018). Each factor "
    "1/10 of the floor of σ adds up to ln 10 = 2.3 nats for each pixel at the floor. The mass on "
    "the grey levels (elbo_levels) is at most 1, so that no floor can inflate it. The VAE's "
    "numbers are of x given the label and the mixture's of x without it, so they are not to be "
    "ranked with each other.",
    heavy=True,
)
"""The question with its runs."""
