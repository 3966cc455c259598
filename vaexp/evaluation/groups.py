"""The groups of measures that ``vaexp evaluate`` knows: one table, which everything else reads.

It imports no torch: what measures and what draws a group are entry points, ``module:function``,
that are looked up when they are needed.
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
    """A group of measures: what it is called, what it answers and who measures and draws it."""

    name: str
    """As in ``vaexp evaluate --only``, metrics.json and evidence/."""
    title: str
    """Of its table in ``vaexp compare`` and on the page."""
    answers: str
    """Its line of the README's table."""
    measure: str
    """Entry point of ``measure(subject: Subject) -> Evidence``."""
    figure: str | None = None
    """Entry point of ``draw(arrays, entries, about: About) -> Figure | None``; None has none."""
    headlines: tuple[str, ...] | None = None
    """The measures that the terminal shows unless asked for all; None shows all of them."""
    slow: bool = False
    """Whether it is measured only when it is named."""
    images: int | None = None
    """How many test images are measured unless the command says; None measures all."""
    needs: str = ""
    """What the model must have, for ``--help`` and the README; without it, all is absent."""
    only_bounded: str | None = None
    """For a group that has nothing to say where ln p(x) and the posterior are exact: the entry
    point of the names of its measures, which are then absent."""
    after_training: bool = False
    """Whether ``vaexp train`` measures it at its end, as it costs little."""
    ungrouped: bool = False
    """Whether its measures have no table of their own but stand in that of what ``vaexp train``
    measures, because training measures them too."""

    def measures(self) -> "Callable[[Subject[Any]], Evidence]":
        """What measures it."""
        measure: Callable[[Subject[Any]], Evidence] = pkgutil.resolve_name(self.measure)
        return measure

    def draws(self) -> "Callable[..., Figure | None] | None":
        """What draws it, if anything does."""
        return None if self.figure is None else pkgutil.resolve_name(self.figure)

    def bounded_names(self) -> tuple[str, ...]:
        """The measures that a model with an exact ln p(x) does not have."""
        if self.only_bounded is None:
            return ()
        names: tuple[str, ...] = pkgutil.resolve_name(self.only_bounded)
        return names


_EVERY = (
    Group(
        "rate",
        title="What the codes carry",
        answers="how much of the rate is information on the image; which latents are used",
        measure="vaexp.evaluation.latent_use:measure",
        figure="vaexp.figures.evidence.rate:draw",
        headlines=("mutual_information", "marginal_kl", "active_units"),
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
        "induced",
        title="The distribution that beta optimises",
        answers="the distribution that β optimises: ln C, the tilted prior, the decoder's spread",
        measure="vaexp.evaluation.induced:measure",
        figure="vaexp.figures.evidence.induced:draw",
        headlines=("induced_elbo", "log_c"),
        needs="a VAE",
        only_bounded="vaexp.evaluation.induced:NAMES",
    ),
    Group(
        "singularities",
        title="Does sigma collapse?",
        answers="whether σ, or a mixture's covariance, collapses onto its floor, where, and what "
        "that adds to the likelihood",
        measure="vaexp.evaluation.singularities:measure",
        figure="vaexp.figures.evidence.singularities:draw",
        headlines=("pixels_at_floor", "floor_slope", "train_test_gap"),
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
        "codes",
        title="What the codes are good for",
        answers="probe and neighbour accuracy, cluster agreement, reconstruction, beside PCA",
        measure="vaexp.evaluation.codes:measure",
        figure="vaexp.figures.evidence.codes:draw",
        headlines=("linear_probe_accuracy", "nmi", "rmse_code"),
    ),
    Group(
        "iw",
        title="The importance-weighted bound",
        answers="a bound on ln p(x) that is nearer than the ELBO, with `-k` samples",
        measure="vaexp.evaluation.bounds:measure",
        slow=True,
        needs="a VAE",
        only_bounded="vaexp.evaluation.bounds:NAMES",
        ungrouped=True,
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
)

GROUPS: dict[str, Group] = {group.name: group for group in _EVERY}
"""By name, in the order in which they are measured. A new group is its file and one entry."""


def fast_groups() -> list[str]:
    """The groups that are measured unless the command names others."""
    return [name for name, group in GROUPS.items() if not group.slow]


def find_groups(names: list[str]) -> list[Group]:
    """The groups of these names, each once. Raises UserError for a group that does not exist."""
    for name in names:
        if name not in GROUPS:
            raise UserError(f"--only {name}: there is no such group; there are {', '.join(GROUPS)}")
    return [GROUPS[name] for name in dict.fromkeys(names)]


def shown_by_default(measure: str, group: str | None) -> bool:
    """Whether the terminal shows a measure unless asked for all.

    group: what its entry names, None for what ``vaexp train`` measures. A group that only another
    version of vaexp knows is shown.
    """
    if group is None or group not in GROUPS:
        return True
    headlines = GROUPS[group].headlines
    return headlines is None or measure in headlines


def only_help() -> str:
    """What ``--help`` says of ``evaluate --only``."""
    slow = [
        name + (f" (for {group.needs})" if group.needs else "")
        for name, group in GROUPS.items()
        if group.slow
    ]
    return f"{', '.join(fast_groups())}; by default all of these. Slow ones: {', '.join(slow)}."


def images_help() -> str:
    """What ``--help`` says of ``evaluate --images``."""
    few = [f"{group.images:,} for {name}" for name, group in GROUPS.items() if group.images]
    return f"Measure only the first so many test images; by default all, but {' and '.join(few)}."
