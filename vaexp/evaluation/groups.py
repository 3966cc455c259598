"""The table of the groups of measures, from which the rest of the program learns what they are.

This module imports no torch. The functions that measure and draw a group are named as entry points,
``module:function``, and are imported when they are needed.
"""

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vaexp.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from vaexp.evaluation.measure import Evidence
    from vaexp.evaluation.subject import Subject


@dataclass(frozen=True)
class Group:
    """A group of measures: its name, what it answers, and what measures and draws it."""

    name: str
    """The name in ``vaexp evaluate --only``, metrics.json and evidence/."""
    title: str
    """The title of its table in ``vaexp compare`` and on the page."""
    answers: str
    """The question it answers, for the README's table."""
    measure: str
    """The entry point of ``measure(subject: Subject) -> Evidence``."""
    figure: str | None = None
    """The entry point of ``draw(arrays, entries, about: About) -> Figure | None``, if any."""
    headlines: tuple[str, ...] | None = None
    """The measures that the terminal shows without --all. None stands for all of them."""
    slow: bool = False
    """Whether ``vaexp evaluate`` measures it only if --only names it."""
    images: int | None = None
    """How many test images are measured by default. None stands for all of them."""
    needs: str = ""
    """The model that it needs, for --help and the README. For others all measures are absent."""
    only_bounded: str | None = None
    """The entry point of the names of its measures, if all of them are absent for a model whose
    ln p(x) and posterior are exact. None for a group that also measures such models."""
    after_training: bool = False
    """Whether ``vaexp train`` measures it as well, as it costs little."""
    ungrouped: bool = False
    """Whether its measures belong into the table of what ``vaexp train`` measures, because training
    measures them too. Other groups have a table of their own."""

    def measures(self) -> "Callable[[Subject[Any]], Evidence]":
        """The function that measures it."""
        measure: Callable[[Subject[Any]], Evidence] = pkgutil.resolve_name(self.measure)
        return measure

    def draws(self) -> "Callable[..., Figure | None] | None":
        """The function that draws it, if there is one."""
        return None if self.figure is None else pkgutil.resolve_name(self.figure)

    def bounded_names(self) -> tuple[str, ...]:
        """The names of the measures that are absent for a model with an exact ln p(x)."""
        if self.only_bounded is None:
            return ()
        names: tuple[str, ...] = pkgutil.resolve_name(self.only_bounded)
        return names


_ALL = (
    Group(
        "rate",
        title="What the codes carry",
        answers="how much of the rate is information on the image; which latents are used",
        measure="vaexp.evaluation.latent_use:measure",
        figure="vaexp.figures.evidence.rate:draw",
        headlines=(
            "mutual_information",
            "marginal_kl",
            "mutual_information_given_label",
            "marginal_kl_given_label",
            "active_units",
        ),
        after_training=True,
    ),
    Group(
        "rescoring",
        title="The same weights at other sigmas",
        answers="the same weights at other sigmas: the one that β implies, the best one, the best "
        "per pixel",
        measure="vaexp.evaluation.rescoring:measure",
        headlines=("elbo_sigma_pixel",),
        needs="a VAE",
        only_bounded="vaexp.evaluation.rescoring:NAMES",
    ),
    Group(
        "levels",
        title="The mass on the grey levels",
        answers="a bound on the mass of the 256 grey levels, which no floor of σ holds up, in nats "
        "and bits",
        measure="vaexp.evaluation.levels:measure",
    ),
    Group(
        "induced",
        title="The distribution that beta optimises",
        answers="the distribution that β optimises: ln C, the tilted prior, the decoder's spread",
        measure="vaexp.evaluation.tilt:measure",
        figure="vaexp.figures.evidence.induced:draw",
        headlines=("induced_elbo", "log_c"),
        needs="a VAE",
        only_bounded="vaexp.evaluation.tilt:NAMES",
    ),
    Group(
        "singularities",
        title="Does sigma collapse?",
        answers="whether σ, or a mixture's covariance, collapses onto its floor, where, and what "
        "that adds to the likelihood",
        measure="vaexp.evaluation.singularities:measure",
        figure="vaexp.figures.evidence.singularities:draw",
        headlines=(
            "pixels_at_floor",
            "floor_slope",
            "log_prob_of_narrow_pixels",
            "train_test_gap",
        ),
    ),
    Group(
        "decoding",
        title="What is lost by drawing μ(z)",
        answers="what is lost by drawing μ(z): variance, correlation, coverage, density",
        measure="vaexp.evaluation.decoding:measure",
        figure="vaexp.figures.evidence.decoding:draw",
        headlines=(
            "covariance_distance_mean",
            "covariance_distance_sample",
            "neighbour_correlation_mean",
            "neighbour_correlation_sample",
            "coverage_1",
        ),
    ),
    Group(
        "optimal_mean",
        title="The learned mean and the best one",
        answers="how far μ(z) is from μ*(z), the average of training images that has the least "
        "squared error for this encoder; over how many images it averages",
        measure="vaexp.evaluation.optimal_mean:measure",
        figure="vaexp.figures.evidence.optimal_mean:draw",
        headlines=("optimal_mean_gap_prior", "optimal_mean_gap_codes", "images_averaged_codes"),
    ),
    Group(
        "quality",
        title="Sample quality, in the features of a digit classifier",
        answers="FID and KID in the features of a digit classifier (not Inception's), precision, "
        "recall, density, coverage, NDB",
        measure="vaexp.evaluation.quality:measure",
        figure="vaexp.figures.evidence.quality:draw",
        headlines=(
            "digit_fid_mean",
            "digit_fid_sample",
            "digit_fid_control",
            "recall_mean",
            "recall_sample",
        ),
    ),
    Group(
        "prior",
        title="Draws of z, from the prior and from a mixture of the codes",
        answers="the share of z ~ p(z) outside of the region with 99 % of the codes, and what a "
        "Gaussian mixture fitted to the codes changes: `sample --prior gmm`",
        measure="vaexp.evaluation.prior:measure",
        figure="vaexp.figures.evidence.prior:draw",
    ),
    Group(
        "codes",
        title="What the codes are good for",
        answers="probe and neighbour accuracy, cluster agreement, reconstruction, beside PCA",
        measure="vaexp.evaluation.codes:measure",
        figure="vaexp.figures.evidence.codes:draw",
        headlines=("linear_probe_accuracy", "nmi", "rmse_code"),
    ),
    Group(
        "law",
        title="What theory says of a linear VAE",
        answers="the optimum that a linear VAE can reach, which latents it uses, and how near "
        "training came",
        measure="vaexp.evaluation.linear_law:measure",
        headlines=("law_gap", "law_active_units"),
        needs="a linear VAE",
        only_bounded="vaexp.evaluation.linear_law:NAMES",
    ),
    Group(
        "labels",
        title="The label summed out",
        answers="a bound on ln p(x) where the model is given the label, and the digits that it "
        "reads by Bayes' rule",
        measure="vaexp.evaluation.labels:measure",
        needs="a VAE that is given the label",
        only_bounded="vaexp.evaluation.labels:NAMES",
    ),
    Group(
        "iw",
        title="The importance-weighted bound",
        answers="a bound on ln p(x) that is nearer than the ELBO, with `-k` samples, and the "
        "jackknife's estimate of ln p(x) from the same samples",
        measure="vaexp.evaluation.bounds:measure",
        slow=True,
        needs="a VAE",
        only_bounded="vaexp.evaluation.bounds:NAMES",
        ungrouped=True,
    ),
    Group(
        "iw_levels",
        title="The importance-weighted bound on the mass on the grey levels",
        answers="a bound on the mass of the grey levels that is nearer than `elbo_levels`, with "
        "`-k` samples",
        measure="vaexp.evaluation.levels:measure_iw",
        slow=True,
        needs="any model but a mixture",
    ),
    Group(
        "parzen",
        title="The Parzen trap: the likelihood that a window around images gives",
        answers="why a Parzen window is no likelihood of a model: averages of images outscore "
        "real images, and μ(z) outscores honest draws",
        measure="vaexp.evaluation.parzen:measure",
        figure="vaexp.figures.evidence.parzen:draw",
        slow=True,
    ),
    Group(
        "quadrature",
        title="ln p(x) by quadrature",
        answers="ln p(x) itself, by integration over z",
        measure="vaexp.evaluation.quadrature:measure",
        headlines=("log_prob_quadrature",),
        slow=True,
        images=1_000,
        needs="a VAE with one or two latents",
        only_bounded="vaexp.evaluation.quadrature:NAMES",
    ),
    Group(
        "ais",
        title="ln p(x) by annealed importance sampling",
        answers="ln p(x) with any number of latents, and how far from it the answer may be",
        measure="vaexp.evaluation.annealing:measure",
        headlines=("log_prob_ais",),
        slow=True,
        images=100,
        needs="a VAE",
        only_bounded="vaexp.evaluation.annealing:NAMES",
    ),
    Group(
        "gaps",
        title="Why the ELBO lies below ln p(x)",
        answers="what the ELBO loses to the family of q, and what to the encoder",
        measure="vaexp.evaluation.gaps:measure",
        headlines=("amortisation_gap", "approximation_gap"),
        slow=True,
        images=100,
        needs="a VAE",
        only_bounded="vaexp.evaluation.gaps:NAMES",
    ),
)

GROUPS: dict[str, Group] = {group.name: group for group in _ALL}
"""The groups by name, in the order in which they are measured.

A new group needs its own file and one entry in this table."""


def fast_groups() -> list[str]:
    """The names of the groups that are measured by default."""
    return [name for name, group in GROUPS.items() if not group.slow]


def find_groups(names: list[str]) -> list[Group]:
    """The groups with these names, each once. Raises UserError for a name that no group has."""
    for name in names:
        if name not in GROUPS:
            raise UserError(f"--only {name}: there is no such group; there are {', '.join(GROUPS)}")
    return [GROUPS[name] for name in dict.fromkeys(names)]


def shown_by_default(measure: str, group: str | None) -> bool:
    """Whether the terminal shows a measure without --all.

    ``group`` is the group that the entry names, or None for what ``vaexp train`` measures. Measures
    of a group that only another version of vaexp knows are shown.
    """
    if group is None or group not in GROUPS:
        return True
    headlines = GROUPS[group].headlines
    return headlines is None or measure in headlines


def only_help() -> str:
    """The help text of ``vaexp evaluate --only``."""
    slow = [
        name + (f" (for {group.needs})" if group.needs else "")
        for name, group in GROUPS.items()
        if group.slow
    ]
    return f"{', '.join(fast_groups())}; by default all of these. Slow ones: {', '.join(slow)}."


def images_help() -> str:
    """The help text of ``vaexp evaluate --images``."""
    few = [f"{group.images:,} for {name}" for name, group in GROUPS.items() if group.images]
    but = f"{', '.join(few[:-1])} and {few[-1]}"
    return f"Measure only the first so many test images; by default all, but {but}."
