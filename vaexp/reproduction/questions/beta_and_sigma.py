"""Which distribution does beta optimise? With fixed sigma, that of another sigma.

Divided by beta, the objective at (sigma = 1, beta = b) is up to a constant the ELBO at
(sigma^2 = b, beta = 1). With a learned sigma it is not: the normaliser of the tempered likelihood
depends on sigma(z), so that training also tilts the prior. ``vaexp evaluate --only induced``
measures that distribution.
"""

from math import sqrt
from statistics import mean, stdev

from vaexp.reproduction.answers import Answer, Question, by_runs, compared, says
from vaexp.reproduction.pictures import Across, Against, Panel, Points, panels_of
from vaexp.reproduction.studies import QUALITY, Done, Repeated, Study
from vaexp.shown import ABSENT, show_number
from vaexp.tables import Table

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
    "report/sigma-per-image",
    grid=(f"model.beta={','.join(f'{beta:g}' for beta in LEARNED)}",),
    groups=("induced", *QUALITY),
)
INDUCED = (
    "log_c",
    "kl_tilted_prior_to_prior",
    "kl_aggregate_to_tilted_prior",
    "objective_over_beta",
    "induced_elbo",
    "elbo",
    "marginal_kl_given_label",
    "digit_fid_mean",
)
OF_BOTH = ("rate", "rmse_mean", "mutual_information")
SHOWN = (*OF_BOTH, "sigma", "elbo")
DRAWN, OBJECTIVES = "the model that images are drawn from", "the distribution that β optimises"
"""The two models of a VAE whose beta is not 1, as the picture calls them."""


def _largest(pairs: list[tuple[Repeated, Repeated]], measure: str) -> float:
    """The largest difference of a measure between the two sides of a pair with the same seed."""
    return max(
        (
            abs(a - b)
            for left, right in pairs
            for a, b in zip(left.values(measure), right.values(measure), strict=True)
        ),
        default=0.0,
    )


def _yardstick(runs: Repeated) -> float:
    """What the rate differs by without a reason: over seeds, or twice its error over images."""
    rates = runs.values("rate")
    return max(stdev(rates) if len(rates) > 1 else 0.0, 2 * max(runs.errors("rate")))


def _of_pairs(pairs: list[tuple[Repeated, Repeated]]) -> str:
    """Whether the two sides of each pair are the same model, up to what other seeds change."""
    if not all(one.values("rate") for pair in pairs for one in pair):
        return says(None, "", "", "")
    rate, error = _largest(pairs, "rate"), _largest(pairs, "rmse_mean")
    same = all(_largest([pair], "rate") <= max(map(_yardstick, pair)) for pair in pairs)
    return (
        "With fixed σ, β is another name for the variance"
        if same
        else "With fixed σ, β should be another name for the variance, and here it is not"
    ) + (
        f": the runs (σ = 1, β = b) and (σ² = b, β = 1) of the same seed differ by at most "
        f"{rate:.2g} nats in their rate and {error:.2g} in the error of μ(z)."
    )


def _of_tilt(learned: dict[float, Repeated]) -> list[str]:
    """What the objective's own distribution is at each beta other than 1, and if it is better."""
    sentences = [
        "With learned σ(z) the objective divided by β is, up to ln C, the bound of another model: "
        "its decoder has the variance βσ²(z), and its prior is tilted, p̃(z) = p(z) Z(z) / C. Here "
        "Z(z) is the integral of p(x|z)^(1/β) over x, and C the mean of Z(z) over p(z). Each digit "
        "has its own, and the numbers are means over digits."
    ]
    one = learned[1.0]
    for beta, runs in learned.items():
        if beta == 1.0:
            continue
        sentences.append(
            f"At β = {beta:g} the objective divided by β is {runs['objective_over_beta']} nats. "
            f"This is the sum of ln C, {runs['log_c']} nats, and of the bound of the other model, "
            f"{runs['induced_elbo']} nats. Its prior is not p(z): KL(p̃(z) ‖ p(z)) is "
            f"{runs['kl_tilted_prior_to_prior']} nats. Nor is it where the codes are: KL(q(z) ‖ "
            f"p̃(z)) is {runs['kl_aggregate_to_tilted_prior']} nats. "
            + says(
                compared(runs, "induced_elbo", None, "elbo"),
                "As a model of images the other one has a higher bound than the one that images "
                "are drawn from.",
                "As a model of images the other one has a lower bound than the one that images are "
                "drawn from.",
                "As a model of images the other one has a bound that does not surely differ from "
                "that of the one that images are drawn from.",
            )
            + " "
            + says(
                compared(runs, "digit_fid_mean", one),
                f"Images μ(z) lie further from real ones than at β = 1: β = {beta:g} is not better "
                "in this respect.",
                f"Images μ(z) lie nearer to real ones than at β = 1: β = {beta:g} is better in "
                "this respect.",
                "Images μ(z) lie no nearer to real ones than at β = 1.",
            )
        )
    low, high = learned[LEARNED[0]], learned[LEARNED[-1]]
    sentences.append(
        says(
            compared(high, "marginal_kl_given_label", low),
            "The report supposes that β is good for drawing because it brings q(z|x) near p(z); "
            "here it does not, as the codes of a digit are further from the prior at the larger β.",
            "The report supposes that β is good for drawing because it brings q(z|x) near p(z); it "
            "does bring them nearer: the codes of a digit are nearer to the prior at the larger β, "
            f"{high['marginal_kl_given_label']} nats of KL divergence against "
            f"{low['marginal_kl_given_label']}.",
            "The report supposes that β is good for drawing because it brings q(z|x) near p(z); "
            "here the codes of a digit are as near to the prior at the larger β.",
        )
    )
    return sentences


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
    tilted, *of_tilt = _of_tilt(learned)
    details = [
        "If β only rescaled the variance, a learned σ would make up for it: it would shrink as "
        "1/√β, and √β σ and the rate would stay. "
        + says(
            compared(low, "rate", high),
            "In fact the rate falls as β rises.",
            "In fact the rate rises with β.",
            "The rate does not surely change with β.",
        )
        + f" From β = {LEARNED[0]:g} to {LEARNED[-1]:g} it goes from {low['rate']} to "
        f"{high['rate']} nats, and √β σ from {_scaled(low, LEARNED[0])} to "
        f"{_scaled(high, LEARNED[-1])}.",
        *of_tilt,
    ]
    names = {f"σ = {sigma:g}, β = {beta:g}": runs for (sigma, beta), runs in fixed.items()}
    of_learned = by_runs("", "setting", {f"β = {b:g}": runs for b, runs in learned.items()}, SHOWN)
    rows = [
        [*row, _scaled(runs, beta)]
        for row, (beta, runs) in zip(of_learned.rows, learned.items(), strict=True)
    ]
    return Answer(
        [_of_pairs(pairs), tilted],
        details,
        [
            by_runs("Pairs with fixed σ", "setting", names, OF_BOTH),
            Table("One learned σ(z) per image", [*of_learned.headers, "√β σ"], rows),
            by_runs(
                "The distribution that β optimises with one learned σ(z) per image",
                "setting",
                {f"β = {beta:g}": runs for beta, runs in learned.items()},
                INDUCED,
            ),
        ],
        [
            Points("Pairs with the same βσ², σ fixed", names, panels_of(("rate", "rmse_mean"))),
            Against(
                "What β changes where one σ(z) per image is learned",
                {DRAWN: list(learned.values()), OBJECTIVES: list(learned.values())},
                Across.setting("model.beta", "β, log scale", log=True),
                [
                    *panels_of(("rate", "sigma", "rmse_mean", "digit_fid_mean"), [DRAWN]),
                    Panel("log_c", {OBJECTIVES: "log_c"}),
                    Panel("elbo, induced_elbo", {DRAWN: "elbo", OBJECTIVES: "induced_elbo"}),
                ],
            ),
        ],
    )


def _scaled(runs: Repeated, beta: float) -> str:
    """The standard deviation sqrt(beta) sigma, the mean over seeds."""
    values = runs.values("sigma")
    return show_number(sqrt(beta) * mean(values), None) if values else ABSENT


QUESTION = Question(
    "Which distribution does β optimise?",
    "Section 3.3.1: with β ≠ 1 we do not maximise a bound on ln p(x) any more. What distribution "
    "are we optimising?",
    (FIXED_SIGMA, LEARNED_SIGMA),
    answer,
    "p(x|z)^(1/β) is Z(z) N(x; μ(z), βσ²(z)), so the objective divided by β is ln C plus the "
    "ELBO of p(z) Z(z) N(x; μ(z), βσ²(z)) / C. Where σ is fixed, Z is a constant and nothing is "
    "tilted; where it is learned, ln C is optimised too.",
)
