"""Is posterior collapse sigma's doing? Linear VAEs beside their law, and deep ones."""

from collections.abc import Sequence
from dataclasses import replace

from vaexp.reproduction.answers import Answer, Question, by_runs, compared, says
from vaexp.reproduction.pictures import Across, Against, Panel
from vaexp.reproduction.studies import (
    BETA_LARGE,
    BETA_MEDIUM,
    BETA_SMALL,
    FEW_SEEDS,
    Done,
    Repeated,
    Study,
)
from vaexp.tables import Table

SETTINGS = ((0.3, 1.0), (0.7, 4.0), (1.4, 1.0), (2.5, 1.0))
"""sigma and beta. The two in the middle have the same beta sigma^2."""
LINEAR = Study(
    "bridge-vae",
    grid=("model.sigma_mode=fixed",),
    zip=(
        f"model.sigma={','.join(f'{sigma:g}' for sigma, _ in SETTINGS)}",
        f"model.beta={','.join(f'{beta:g}' for _, beta in SETTINGS)}",
    ),
    groups=("law",),
    seeds=FEW_SEEDS,
)
DEEP = {"model.latent_dim": 5}  # the small beta has runs with fewer latents too
DEEP_STUDIES = tuple(replace(study, groups=()) for study in (BETA_SMALL, BETA_MEDIUM, BETA_LARGE))
SHOWN = ("active_units", "collapsed_latents", "rate", "rmse_mean")
LINES = ("linear VAE, ten latents", "deep VAE, five latents")
LAW = "the law of linear VAEs, around what was trained"
OF_LAW = ("law_active_units", "law_rate", "law_gap")


def _threshold(runs: Repeated) -> list[float]:
    """beta sigma^2, above which an eigenvalue must be for its latent to be used."""
    model = runs.config.model.model_dump()
    return [model["beta"] * model["sigma"] ** 2]


def _named(runs: Repeated) -> str:
    """The sigma and the beta of some runs, and what they make together."""
    model = runs.config.model.model_dump()
    (threshold,) = _threshold(runs)
    return f"σ = {model['sigma']:g}, β = {model['beta']:g}, βσ² = {threshold:.3g}"


def answer(done: Done) -> Answer:
    """Whether the number of used latents is that of the law, and depends on beta sigma^2 alone."""
    linear = [
        done.of(LINEAR, {"model.sigma": sigma, "model.beta": beta}) for sigma, beta in SETTINGS
    ]
    deep = [done.of(study, DEEP) for study in DEEP_STUDIES]
    *law_held, threshold = _held_against_the_law(linear)
    details = [
        *law_held,
        says(
            compared(linear[0], "active_units", linear[-1]),
            f"From {_named(linear[0])} to {_named(linear[-1])} the active latents fall from "
            f"{linear[0]['active_units']} to {linear[-1]['active_units']}.",
            "With larger βσ² more latents are active, against the law.",
            "With larger βσ² no fewer latents are active.",
        ),
    ]
    networks = says(
        compared(deep[0], "active_units", deep[-1]),
        "In the deep VAEs of figures 9 to 11, where σ = 1 and β alone changes, the active latents "
        f"fall from {deep[0]['active_units']} at {_named(deep[0])} to {deep[-1]['active_units']} "
        f"at {_named(deep[-1])}.",
        "In the deep VAEs of figures 9 to 11, where σ = 1 and β alone changes, the active latents "
        "rise with βσ², against what the law of linear ones says.",
        "In the deep VAEs of figures 9 to 11, where σ = 1 and β alone changes, the active latents "
        "do not fall with βσ², against what the law of linear ones says.",
    )
    law = by_runs("", "setting", {_named(runs): runs for runs in linear}, (*SHOWN, *OF_LAW))
    return Answer(
        [threshold, networks],
        details,
        [
            Table(
                "Linear VAEs, ten latents, σ fixed",
                law.headers,
                law.rows,
                "law_gap, in nats, is by how much the objective stays below the law's optimum. "
                "Both are exact for the training images, so a single run has no error of law_gap.",
            ),
            by_runs(
                "Deep VAEs given the label, five latents, σ fixed",
                "setting",
                {_named(runs): runs for runs in deep},
                SHOWN,
            ),
        ],
        [
            Against(
                "Active latents and rate against βσ²",
                {LINES[0]: linear, LINES[1]: deep, LAW: linear},
                Across("βσ², log scale", _threshold, log=True),
                [
                    Panel(measure, dict.fromkeys(LINES, measure) | {LAW: f"law_{measure}"})
                    for measure in ("active_units", "rate")
                ],
                rings=[LAW],
            )
        ],
    )


def _held_against_the_law(linear: Sequence[Repeated]) -> list[str]:
    """Sentences on the active latents and objectives of linear VAEs, in the order of SETTINGS."""
    left = [gap for runs in linear for gap in runs.values("law_gap")]
    off = [
        abs(a - b)
        for runs in linear
        for a, b in zip(runs.values("active_units"), runs.values("law_active_units"), strict=False)
    ]
    counts = {tuple(runs.values("active_units")) for runs in linear[1:3]}
    return [
        says(
            None if not off else int(max(off) > 0),
            "Of linear VAEs the number of active latents is not always that of the law: it is off "
            f"by up to {max(off, default=0):.0f}. Latents whose eigenvalue is near βσ² take "
            "longest to be used or to collapse.",
            "",
            "Each linear VAE has exactly the number of active latents that the law gives.",
        ),
        f"Their objectives come within {max(left):.2g} nats of the law's optimum."
        if left
        else "How near they come to the law's optimum was not measured.",
        says(
            None if counts == {()} else int(len(counts) == 1),
            f"The two linear VAEs with βσ² = {SETTINGS[1][1] * SETTINGS[1][0] ** 2:.3g} have the "
            "same number of active latents, although σ and β differ: what collapses is decided by "
            "βσ², so the report is right to name σ, as long as β is named beside it.",
            "",
            "The two linear VAEs with the same βσ² have different numbers of active latents.",
        ),
    ]


QUESTION = Question(
    "Is posterior collapse the doing of σ?",
    "Section 3.6.2: Lucas et al. defined posterior collapse properly, establishing the σ parameter "
    "as the real driving force for this issue.",
    (LINEAR, *DEEP_STUDIES),
    answer,
    "A linear VAE uses latent i exactly if the eigenvalue λᵢ of the images' covariance is above "
    "βσ² (Lucas et al. 2019 for β = 1; Ziyin and Wang 2022, theorem 2). A network may use a latent "
    "that the law of linear models lets collapse, as it has other directions than straight ones.",
)
"""The question with its runs."""
