"""The fourteen figures of the report: from which runs, which pictures, and what the caption says.

One entry in this table is one figure. Imports no torch: ``drawing`` draws the pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vaexp.reproduction.studies import (
    BETA_LARGE,
    BETA_MEDIUM,
    BETA_SMALL,
    MEAN_ONLY,
    PER_IMAGE,
    PER_PIXEL,
    SIGMA_SMALL,
    SIGMA_SMALLER,
    Done,
    Repeated,
    Study,
)


@dataclass(frozen=True)
class Plane:
    """The decoder mean of one digit over the latent plane."""

    digit: int


@dataclass(frozen=True)
class Strip:
    """Ten draws of z from the prior, decoded: mu(z), x from p(x|z), or mu(z) + k sigma(z)."""

    mode: Literal["mean", "sample", "sweep"]


@dataclass(frozen=True)
class Scatter:
    """The posterior means of test images in the latent plane, by digit."""


Picture = Plane | Strip | Scatter

OF_SIGMA = ("elbo", "rate", "sigma", "rmse_mean", "rmse_sample")
OF_BETA = (
    "elbo",
    "rate",
    "rmse_mean",
    "marginal_kl_given_label",
    "active_units",
    "label_accuracy_mean",
    "digit_fid_mean",
)


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report, as this program draws it."""

    number: int
    title: str
    study: Study
    pictures: Mapping[str, Picture]
    """The pictures by what their names add to the number: nothing, or a and b."""
    caption: str
    """What was chosen, and what there is to see. {beta} stands for a setting of its model,
    {own[elbo]} for a measure of its runs, and {word[elbo]} for one of the runs that ``beside``
    calls so."""
    measures: tuple[str, ...]
    """The measures of its runs that stand below it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Which runs of the study: dotted key -> value."""
    beside: Mapping[str, tuple[Study, Mapping[str, Any]]] = field(default_factory=dict)
    """Other runs that the caption cites."""

    def runs(self, done: Done) -> Repeated:
        """Its runs, one for each seed. The first one is drawn."""
        return done.of(self.study, self.settings)

    def captioned(self, done: Done) -> str:
        """The caption, with the measures in their places."""
        own = self.runs(done)
        others = {word: done.of(*which) for word, which in self.beside.items()}
        return self.caption.format(own=own, **own.config.model.model_dump(), **others)


SAME_DRAWS = (
    "The digits are 0 to 9, and the ten z are the same in all figures of models with two latents."
)
FIVE, TWO = {"model.latent_dim": 5}, {"model.latent_dim": 2}

FIGURES = (
    ReportFigure(
        1,
        "Latent plane of μ for the digit four, σ learned",
        PER_IMAGE,
        {"": Plane(4)},
        "The decoder learns μ(z) and one σ(z) per image, as the theory says. Each image is μ(z) "
        "at its place in the plane, at quantiles of the prior. The report says that its β is "
        "moderately large, and names neither β nor its latent size. Here L = {latent_dim} and β = "
        "{beta:g}. The learned σ is {own[sigma]} on average over images.",
        OF_SIGMA,
    ),
    ReportFigure(
        2,
        "μ(z) for ten z from the prior, σ learned",
        PER_IMAGE,
        {"": Strip("mean")},
        "These are the images that papers show. They are no draws from the model, but the means "
        f"of p(x|z). {SAME_DRAWS}",
        OF_SIGMA,
    ),
    ReportFigure(
        3,
        "Samples of p(x|z), one σ per image",
        PER_IMAGE,
        {"": Strip("sample")},
        "This is ancestral sampling, at the z of figure 2. Each pixel gets noise of its own, with "
        "one σ for all pixels of the image, so that the background is as noisy as the stroke.",
        OF_SIGMA,
    ),
    ReportFigure(
        4,
        "Samples of p(x|z), one σ per pixel",
        PER_PIXEL,
        {"": Strip("sample")},
        "With a σ(z) for every pixel the border is clean, because no training image varies there, "
        "and the digit itself is blurred into noise, because σ is large wherever its stroke may "
        "be. The ELBO is {own[elbo]} nats, where one σ per image has {image[elbo]}: pixels that "
        "are always black add to it without limit, down to the floor of σ.",
        OF_SIGMA,
        beside={"image": (PER_IMAGE, {})},
    ),
    ReportFigure(
        5,
        "Sweep from μ(z) − 2σ(z) to μ(z) + 2σ(z), one σ per image",
        PER_IMAGE,
        {"": Strip("sweep")},
        "Each column is one z of figure 2. All pixels move together, by the same multiple of "
        "σ(z). So the whole image gets lighter or darker, and every row is as smooth as μ(z). The "
        "noise of figure 3 comes from pixels that are independent given z, and not from the size "
        "of σ.",
        OF_SIGMA,
    ),
    ReportFigure(
        6,
        "Sweep from μ(z) − 2σ(z) to μ(z) + 2σ(z), one σ per pixel",
        PER_PIXEL,
        {"": Strip("sweep")},
        "Here only the pixels near the stroke move, as σ(z) is small elsewhere. At the top the "
        "digit has vanished, and at the bottom it fills the whole region in which the strokes of "
        "the images with this code lie.",
        OF_SIGMA,
    ),
    ReportFigure(
        7,
        "Latent plane of μ for the digit four, only the mean learned",
        MEAN_ONLY,
        {"": Plane(4)},
        "σ is fixed at {sigma:g}, and β = {beta:g}. With both at 1 training minimises half the "
        "squared error plus the KL term. An error that is measured against such a σ is not worth "
        "many nats: the rate is {own[rate]} nats, where figure 1, with a learned σ of "
        "{image[sigma]}, has {image[rate]} even at its larger β of {image.config.model.beta:g}.",
        OF_SIGMA,
        beside={"image": (PER_IMAGE, {})},
    ),
    ReportFigure(
        8,
        "μ(z) for ten z from the prior, only the mean learned",
        MEAN_ONLY,
        {"": Strip("mean")},
        "These are the images that popular code shows. The model that was trained says something "
        f"else, that every pixel varies by σ = {{sigma:g}} around them: a draw of p(x|z) would be "
        f"off by {{own[rmse_sample]}} per pixel, and μ(z) by {{own[rmse_mean]}}. {SAME_DRAWS}",
        OF_SIGMA,
    ),
    ReportFigure(
        9,
        "Small β: (a) posterior means, (b) latent plane of μ for the digit nine",
        BETA_SMALL,
        {"a": Scatter(), "b": Plane(9)},
        "σ = {sigma:g}, β = {beta:g}, and L = {latent_dim} latents, of which the two with the "
        "most nats are shown, the others at 0. In the scatter the codes reach far beyond the "
        "prior. In these two latents alone they seem to cover it, but in all of them together "
        "they leave most of it empty: KL(q(z|y) ‖ p(z)) of the test images' codes is "
        "{own[marginal_kl_given_label]} nats. So draws from the prior fall where the decoder saw "
        "few codes or none, and the nines are fuzzy. The shipped classifier reads a share of "
        "{own[label_accuracy_mean]} of the images μ(z), z ~ p(z), as the digit that was asked "
        "for. This takes more than two latents. With L = {two.config.model.latent_dim} and the "
        "same β the codes fill the middle of the plane and almost all nines stay clean: the "
        "classifier reads {two[label_accuracy_mean]}.",
        OF_BETA,
        settings=FIVE,
        beside={"two": (BETA_SMALL, TWO)},
    ),
    ReportFigure(
        10,
        "Medium β: (a) posterior means, (b) latent plane of μ for the digit nine",
        BETA_MEDIUM,
        {"a": Scatter(), "b": Plane(9)},
        "σ = {sigma:g}, β = {beta:g}, and the same latents as in figure 9, of which the two with "
        "the most nats are shown. The codes fill the prior, so that its draws are digits: the "
        "classifier reads {own[label_accuracy_mean]} of them as the digit that was asked for.",
        OF_BETA,
    ),
    ReportFigure(
        11,
        "Large β: (a) posterior means, (b) latent plane of μ for the digit nine",
        BETA_LARGE,
        {"a": Scatter(), "b": Plane(9)},
        "σ = {sigma:g}, β = {beta:g}, and the same latents. The posterior has collapsed onto the "
        "prior: the rate is {own[rate]} nats, {own[active_units]} latents are active, and the "
        "decoder gives the same nine whatever z is. This is the mean of all nines.",
        OF_BETA,
    ),
    ReportFigure(
        12,
        "Latent plane of μ for the digit four, σ fixed at a small value",
        SIGMA_SMALL,
        {"": Plane(4)},
        "σ is fixed at {sigma:g}, and β = {beta:g}. A small error is worth more nats than with σ "
        "= {one.config.model.sigma:g}, so the codes are packed more tightly: the rate is "
        "{own[rate]} nats, where figure 7 has {one[rate]}, and the error of μ(z) is "
        "{own[rmse_mean]}, where figure 7 has {one[rmse_mean]}.",
        OF_SIGMA,
        beside={"one": (MEAN_ONLY, {})},
    ),
    ReportFigure(
        13,
        "Samples of p(x|z), σ fixed at a small value",
        SIGMA_SMALL,
        {"": Strip("sample")},
        "Draws of p(x|z) with σ = {sigma:g}. The noise is there and does not hide the digit. But "
        "this σ is below the error of the reconstructions, {own[rmse_mean]}, so that the ELBO is "
        "{own[elbo]} nats, where the learned σ of figure 3 has {image[elbo]}.",
        OF_SIGMA,
        beside={"image": (PER_IMAGE, {})},
    ),
    ReportFigure(
        14,
        "Samples of p(x|z), σ fixed at a smaller value",
        SIGMA_SMALLER,
        {"": Strip("sample")},
        "The same with σ = {sigma:g}. Draws are as clean as the means, as the model claims to "
        "know every pixel that well. Its error is {own[rmse_mean]}, and the ELBO falls to "
        "{own[elbo]} nats.",
        OF_SIGMA,
    ),
)
