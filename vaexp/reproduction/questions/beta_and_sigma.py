"""Which distribution does beta optimise? With fixed sigma, that of another sigma.

Divided by beta, the objective at (sigma = 1, beta = b) is up to a constant the ELBO at
(sigma^2 = b, beta = 1). With a learned sigma it is not: the normaliser of the tempered likelihood
depends on sigma(z), so that training also tilts the prior. ``vaexp evaluate --only induced``
measures that distribution.
"""

from math import sqrt
from statistics import mean

from vaexp.reproduction.answers import Answer, Question, by_runs
from vaexp.reproduction.studies import Done, Repeated, Study
from vaexp.tables import Table, show_number

SIGMAS = (0.1, 0.3)
LEARNED = (0.25, 1.0, 4.0)

_PAIRS = [pair for sigma in SIGMAS for pair in ((1.0, round(sigma**2, 12)), (sigma, 1.0))]
FIXED_SIGMA = Study(
    "report/mean-only",
    zip=(
        f"model.sigma={','.join(f'{sigma:g}' for sigma, _ in _PAIRS)}",
        f"model.beta={','.join(f'{beta:g}' for _, beta in _PAIRS)}",
    ),
)
LEARNED_SIGMA = Study(
    "report/sigma-per-image", grid=(f"model.beta={','.join(f'{beta:g}' for beta in LEARNED)}",)
)
OF_BOTH = ("rate", "rmse_mean", "mutual_information")
SHOWN = (*OF_BOTH, "sigma", "elbo")


def _largest(pairs: list[tuple[Repeated, Repeated]], measure: str) -> str:
    """The largest difference of a measure between the two sides of a pair with the same seed."""
    gaps = [
        abs(a - b)
        for left, right in pairs
        for a, b in zip(left.values(measure), right.values(measure), strict=True)
    ]
    return f"{max(gaps):.2g}"


def answer(done: Done) -> Answer:
    """The differences within each pair, and how rate and sigma move with beta where it learns."""
    fixed = {
        (sigma, beta): done.of(FIXED_SIGMA, {"model.sigma": sigma, "model.beta": beta})
        for sigma, beta in _PAIRS
    }
    groups = list(fixed.values())
    pairs = list(zip(groups[::2], groups[1::2], strict=True))
    learned = {beta: done.of(LEARNED_SIGMA, {"model.beta": beta}) for beta in LEARNED}
    low, high = learned[LEARNED[0]], learned[LEARNED[-1]]
    sentences = [
        "With fixed σ, β is another name for the variance: the runs (σ = 1, β = b) and "
        f"(σ² = b, β = 1) of the same seed differ by at most {_largest(pairs, 'rate')} nats in "
        f"their rate and {_largest(pairs, 'rmse_mean')} in the error of μ(z).",
        "With learned σ it is not. If β only rescaled the variance, σ would follow it, √β σ and "
        "the rate would stay as they are, and so would the images. In fact, as β goes from "
        f"{LEARNED[0]:g} to {LEARNED[-1]:g}, the rate goes from {low['rate']} to {high['rate']} "
        f"nats, and √β σ from {_scaled(low, LEARNED[0])} to {_scaled(high, LEARNED[-1])}.",
    ]
    names = {f"σ = {sigma:g}, β = {beta:g}": runs for (sigma, beta), runs in fixed.items()}
    of_learned = by_runs("", "", {f"β = {b:g}": runs for b, runs in learned.items()}, SHOWN)
    rows = [
        [*row, _scaled(runs, beta)]
        for row, (beta, runs) in zip(of_learned.rows, learned.items(), strict=True)
    ]
    return Answer(
        sentences,
        [
            by_runs(
                "Pairs with fixed σ", "setting", names, [one for one in SHOWN if one != "sigma"]
            ),
            Table("One learned σ(z) per image", ["setting", *SHOWN, "√β σ"], rows),
        ],
    )


def _scaled(runs: Repeated, beta: float) -> str:
    """The standard deviation sqrt(beta) sigma, the mean over seeds."""
    return show_number(sqrt(beta) * mean(runs.values("sigma")), None)


QUESTION = Question(
    "Which distribution does β optimise?",
    "Section 3.3.1: with β ≠ 1 we do not maximise a bound on ln p(x) any more. What distribution "
    "are we optimising?",
    (FIXED_SIGMA, LEARNED_SIGMA),
    answer,
)
