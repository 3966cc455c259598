"""Would a full covariance for p(x|z) fix the draws? Factors beside pixels, and full Gaussians."""

from dataclasses import replace

from vaexp.reproduction.answers import (
    Answer,
    Question,
    by_runs,
    compared,
    in_mean_and_median,
    says,
)
from vaexp.reproduction.pictures import Panel, Points, Strips
from vaexp.reproduction.questions.learned_sigma import AT_ONE, MODES
from vaexp.reproduction.studies import FEW_SEEDS, QUALITY, Done, Repeated, Study

GROUPS = (*QUALITY, "decoding")
FACTORS = (4, 16)
PIXEL = replace(MODES["one σ(z) per pixel"], groups=GROUPS, seeds=FEW_SEEDS)
LOWRANK = Study(
    "report/sigma-per-pixel",
    grid=(
        *AT_ONE,
        "model.sigma_mode=lowrank",
        f"model.factors={','.join(map(str, FACTORS))}",
    ),
    groups=GROUPS,
    seeds=2,  # as each of these runs takes four times as long as others
)
FULL = Study("gmm-labels", groups=GROUPS, seeds=1)  # nothing of its fit is random
SHOWN = (
    "elbo",
    "rmse_mean",
    "neighbour_correlation_sample",
    "neighbour_correlation_data",
    "covariance_distance_sample",
    "digit_fid_mean",
    "digit_fid_sample",
    "label_accuracy_sample",
)


def _sentences(most: Repeated, pixel: Repeated, full: Repeated) -> list[str]:
    """What factors change, and at the end whether they fix the draws."""
    return [
        f"With {FACTORS[-1]} factors that pixels share, neighbouring pixels of draws of p(x|z) "
        f"have a correlation of {most['neighbour_correlation_sample']}, where independent pixels "
        f"have {pixel['neighbour_correlation_sample']} and real images "
        f"{pixel['neighbour_correlation_data']}.",
        says(
            compared(most, "digit_fid_sample", pixel),
            f"With {FACTORS[-1]} factors that pixels share, draws lie further from real images, in "
            "the features of a digit classifier, than those of independent pixels.",
            f"With {FACTORS[-1]} factors that pixels share, draws lie nearer to real images, in "
            "the features of a digit classifier, than those of independent pixels.",
            f"With {FACTORS[-1]} factors that pixels share, draws lie no nearer to real images, in "
            "the features of a digit classifier, than those of independent pixels.",
        ),
        says(
            compared(most, "covariance_distance_sample", pixel),
            "But the covariance of all draws together lies further from that of real images: at "
            f"{most['covariance_distance_sample']}, where independent pixels are at "
            f"{pixel['covariance_distance_sample']} and images that do not vary at 1.",
            "The covariance of all draws together lies nearer to that of real images, too.",
            "The covariance of all draws together lies as near to that of real images.",
        ),
        in_mean_and_median(
            most,
            "elbo",
            pixel,
            "The bound on ln p(x|y) is higher with factors, at the same floor of σ.",
            "The bound on ln p(x|y) is lower with factors, at the same floor of σ.",
            "The bound on ln p(x|y) is no higher with factors, at the same floor of σ.",
        ),
        says(
            compared(most, "digit_fid_sample", full),
            "A single Gaussian per digit, whose covariance is full and which has no latents, gives "
            "draws that are nearer still to real images, at a digit FID of "
            f"{full['digit_fid_sample']}.",
            "Its draws are nearer to real images than those of a single Gaussian per digit, whose "
            "covariance is full and which has no latents.",
            "A single Gaussian per digit, whose covariance is full and which has no latents, gives "
            "draws that are as near to real images.",
        ),
        says(
            compared(most, "digit_fid_sample", None, "digit_fid_control"),
            "That does not fix the draws: their digit FID is "
            f"{most['digit_fid_sample']}, that of draws without factors "
            f"{pixel['digit_fid_sample']}, and that of other real images "
            f"{most['digit_fid_control']}. A full covariance beside latents was not tried.",
            "It fixes the draws: they are no further from real images than other real images.",
            "It fixes the draws: they are as near to real images as other real images.",
        ),
    ]


def answer(done: Done) -> Answer:
    """Whether factors make draws smoother, nearer to real images, and likelier."""
    pixel, full = done.of(PIXEL), done.of(FULL)
    rows = {f"{q} factors": done.of(LOWRANK, {"model.factors": q}) for q in FACTORS}
    most = rows[f"{FACTORS[-1]} factors"]
    *details, verdict = _sentences(most, pixel, full)
    named = {"independent pixels": pixel, **rows, "a full Gaussian per digit, no latents": full}
    return Answer(
        [details[1], verdict],
        [details[0], *details[2:]],
        [by_runs("Covariances of p(x|z) at β = 1, two latents", "p(x|z)", named, SHOWN)],
        [
            Strips("Draws of p(x|z) with more and more of a covariance", named, ["sample"]),
            Points(
                "Smoothness of the draws, and their distance from real images",
                named,
                [
                    Panel(
                        "neighbour_correlation",
                        {"draws of p(x|z) (_sample)": "neighbour_correlation_sample"},
                        {"real images": (pixel, "neighbour_correlation_data")},
                    ),
                    Panel(
                        "digit_fid",
                        {
                            "draws of p(x|z) (_sample)": "digit_fid_sample",
                            "means μ(z) (_mean)": "digit_fid_mean",
                        },
                        {"other real images": (pixel, "digit_fid_control")},
                    ),
                ],
            ),
        ],
    )


QUESTION = Question(
    "Would a full covariance for p(x|z) fix the draws?",
    "Section 3.6.1: since pixels are drawn independently they are not correlated with one "
    "another. Perhaps a fully parametrized covariance structure for p(x|z) would fix this problem.",
    (PIXEL, LOWRANK, FULL),
    answer,
    "A covariance diag σ²(z) + V(z)V(z)ᵀ adds latents that the encoder never sees: the model is "
    "one with L + q latents whose last q enter linearly given the others. The full Gaussians have "
    "a density of x, and not of x given the label, with another floor, so their bound is not to be "
    "ranked with those above it. Their draws are of random digits.",
    heavy=True,
)
"""The question with its runs."""
