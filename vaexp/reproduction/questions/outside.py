"""Values outside [0, 1]: likelihoods with and without mass there, at one architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vaexp.reproduction.answers import (
    Answer,
    Question,
    by_runs,
    compared,
    in_mean_and_median,
    says,
)
from vaexp.reproduction.pictures import Points, Strips, panels_of
from vaexp.reproduction.questions.learned_sigma import MODES
from vaexp.reproduction.studies import FEW_SEEDS, QUALITY, Done, Repeated, Study

GROUPS = (*QUALITY, "decoding", "levels")
FAMILIES = {
    "Gaussian": replace(MODES["one σ(z) per pixel"], groups=GROUPS, seeds=FEW_SEEDS),
    "Gaussian truncated to [0, 1]": Study("vae-truncated", groups=GROUPS, seeds=FEW_SEEDS),
    "discretised logistic": Study("vae-logistic", groups=GROUPS, seeds=FEW_SEEDS),
    "continuous Bernoulli": Study(
        "vae-bernoulli",
        grid=("model.likelihood=continuous_bernoulli", "data.transform=scale"),
        groups=GROUPS,
        seeds=FEW_SEEDS,
    ),
}
SHOWN = (
    "outside_share_mean",
    "outside_share_sample",
    "elbo_levels",
    "elbo_levels_bits_per_dim",
    "rmse_mean",
    "neighbour_correlation_sample",
    "digit_fid_mean",
    "digit_fid_sample",
)


CLIPPED = (
    "Images are clipped to [0, 1] before this distance is measured, so it tells of the shape of "
    "p(x|z) inside of [0, 1] and not of the values outside."
)


def _verdict(others: Mapping[str, Repeated], gaussian: Repeated) -> str:
    """Whether draws of families without mass outside [0, 1] are nearer to real images."""
    found = {name: compared(runs, "digit_fid_sample", gaussian) for name, runs in others.items()}
    if None in found.values():
        return says(None, "", "", "")
    nearer = [name for name, sign in found.items() if sign == -1]
    if len(nearer) == len(found):
        return (
            "The domain may be a reason: draws of every family without mass outside [0, 1] lie "
            f"nearer to real images than the Gaussian's. {CLIPPED}"
        )
    if nearer:
        left = [name for name in found if name not in nearer]
        return (
            f"Of the {len(found)} families that give no mass to values outside [0, 1], the draws "
            f"of {_listed(nearer)} lie nearer to real images than the Gaussian's, and those of "
            f"{_listed(left)} do not: the domain alone does not decide it. {CLIPPED}"
        )
    if set(found.values()) == {0}:
        return (
            "This is not decided: draws of the families without mass outside [0, 1] lie as near to "
            "real images as the Gaussian's."
        )
    return (
        "The domain is not what makes the draws bad: no family without mass outside it gives draws "
        "nearer to real images than the Gaussian's."
    )


def _listed(names: Sequence[str]) -> str:
    """The names of one family at least, within a sentence."""
    return " and ".join(f"the {name}" for name in names)


def _grain(others: Mapping[str, Repeated]) -> str:
    """Whether draws of independent pixels are grainier than real images in these families too."""
    found = {
        compared(runs, "neighbour_correlation_sample", None, "neighbour_correlation_data")
        for runs in others.values()
    }
    return says(
        None if None in found else int(found == {-1}),
        "Draws of each of these families are grainier than real images, as their pixels "
        "are independent given z.",
        "",
        "Not each of these families gives draws that are grainier than real images.",
    )


def answer(done: Done) -> Answer:
    """How many pixels leave the domain, and whether families without such mass do better."""
    rows = {name: done.of(study) for name, study in FAMILIES.items()}
    (plain, gaussian), *others = rows.items()
    details = [
        f"Of the pixels of draws of the {plain} a share of {gaussian['outside_share_sample']} "
        f"lies outside [0, 1], and of the pixels of μ(z) {gaussian['outside_share_mean']}."
    ]
    for name, runs in others:
        details.append(
            in_mean_and_median(
                runs,
                "elbo_levels",
                gaussian,
                f"A {name} gives more mass to the grey levels of test images than the "
                f"{plain} does.",
                f"A {name} gives less mass to the grey levels of test images than the "
                f"{plain} does.",
                f"A {name} gives no more mass to the grey levels of test images than the "
                f"{plain} does.",
            )
            + " "
            + says(
                compared(runs, "digit_fid_sample", gaussian),
                "Its draws lie further from real images.",
                "Its draws lie nearer to real images.",
                "Its draws lie no nearer to real images.",
            )
        )
    short = [_verdict(dict(others), gaussian), _grain(dict(others))]
    title = "Likelihoods at one architecture, two latents, β = 1"
    pictures = (
        Strips(
            "Draws of p(x|z) by likelihoods with and without mass outside [0, 1]", rows, ["sample"]
        ),
        Points(
            "Values outside [0, 1], mass on the grey levels, and quality of the draws",
            rows,
            panels_of(
                ("outside_share_sample", "elbo_levels_bits_per_dim", "digit_fid_sample"),
                controls={
                    "digit_fid_sample": {"other real images": (gaussian, "digit_fid_control")}
                },
            ),
        ),
    )
    return Answer(short, details, [by_runs(title, "p(x|z)", rows, SHOWN)], pictures)


QUESTION = Question(
    "Are values outside [0, 1] the reason for bad draws?",
    "Section 3.6.1: since the domain of a Normal variable is (−∞, ∞), when we sample we have "
    "values higher than 1 and lower than 0, which do not belong in the original domain.",
    tuple(FAMILIES.values()),
    answer,
    "Densities of different families and transforms are not comparable, but the mass that each "
    "gives to the 256 grey levels is, where the outermost levels take the tails: it is at most 1, "
    "and in bits per dimension lower is better. Of a continuous Bernoulli and of truncated "
    "Gaussians the mean is inside [0, 1], so nothing can be outside.",
    heavy=True,
)
"""The question with its runs."""
