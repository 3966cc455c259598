"""How real drawn images look, and how much of the variety of real images they cover.

Every number has a control: the same number for other real images, if there are any. The features
are those of the small classifier of digits that ships with vaexp, not those of Inception.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import assert_never

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.digit_classifier import load_classifier, read_digits
from vaexp.evaluation.feature_distances import digit_fid, digit_kid
from vaexp.evaluation.measure import Estimate, Evidence, average, bootstrapped, merge
from vaexp.evaluation.neighbourhoods import (
    DENSITY_K,
    MANIFOLD_K,
    neighbour_entries,
    neighbour_radii,
)
from vaexp.evaluation.pixel_bins import bin_entries, make_bins
from vaexp.evaluation.statistics import RESAMPLES, entropy, resample
from vaexp.evaluation.subject import Subject
from vaexp.evaluation.two_sample import two_sample_accuracy
from vaexp.models import GMM, VAE, LinearGaussian, Model

CONTROL = "control"
FEATURE_MEASURES = (
    "digit_fid",
    "digit_kid",
    "two_sample_accuracy",
    "precision",
    "recall",
    "density",
    "coverage_real",
    "label_entropy",
    "label_marginal_entropy",
)
PIXEL_MEASURES = ("ndb", "js_divergence")
NO_CONTROL = "there is no validation split, and the bins are made of the training images"
NOT_DIGITS = "its features are of digits, and these images are not"
NO_MIXTURE = "there is no mixture of codes: z is an index, or a digit has no training image"
NOT_ASKED = "no digit was asked for"

DRAWN_AT_ONCE = 1_000  # images that the model draws at once
LEAST_IMAGES = 100  # of each set: fewer say nothing about 64 features or 5 neighbours


@torch.no_grad()
def quality(
    generated: Mapping[str, Tensor],
    real: Tensor,
    other_real: Tensor | None,
    *,
    train: Tensor,
    digits: bool,
    real_label: Tensor,
    wanted_label: Tensor | None = None,
    elsewhere: Mapping[str, Tensor] = MappingProxyType({}),
) -> Evidence:
    """Distances, coverage and legibility of drawn images, and the same of other real images.

    All images are on the CPU and on the display scale, 0 black to 1 white. Values outside of this
    range are clipped here. ``generated`` holds images (n, D) for each mode: mean and sample.
    ``real`` (N, D) are the test images and ``real_label`` (N,) int64 their digits. ``other_real``
    is the control: real images that are in neither ``real`` nor ``train``, or None. The bins are
    made of the images ``train``. ``digits`` says whether the images are digits, as only digits have
    features. ``wanted_label`` (n,) are the digits that a conditional model was asked for.

    ``elsewhere`` holds images (n, D) that were drawn with other z than z ~ p(z), such as
    "mean_posterior" with z ~ q(z), the aggregated posterior; they have ``digit_fid_*`` alone.

    Every mode and the control is a row, and the names of its entries end in _mean, _sample or
    _control. Most of these numbers depend on the number of images. All rows therefore use the same
    number, the first images of each set. ``label_accuracy_real`` is the accuracy on ``real``. Every
    call with the same modes has the same names, either among the entries or among the absent. All
    are absent if a set has fewer than LEAST_IMAGES images. 10,000 images in each set and 50,000
    training images take about 12 s on one core: 3 s for each row, and 3 s for the bins and the test
    images.

    Arrays: ``ndb_centres`` (K, D), ``ndb_share_train`` (K,), ``ndb_share_*`` (K,) and, for digits,
    ``label_share_*`` (C,), the mean prediction of the classifier. The bins and the bootstrap draw
    from torch's global generator.
    """
    rows = dict(generated) if other_real is None else {**generated, CONTROL: other_real}
    n = min(map(len, [*rows.values(), *elsewhere.values()]))
    if min(n, len(real), len(train)) < LEAST_IMAGES:
        return _too_few(generated, elsewhere)

    absent: dict[str, str] = {}
    if wanted_label is None:
        absent |= dict.fromkeys(_names(["label_accuracy"], generated), NOT_ASKED)
    if other_real is None:
        absent |= dict.fromkeys(_names([*FEATURE_MEASURES, *PIXEL_MEASURES], [CONTROL]), NO_CONTROL)
    if not digits:
        absent |= dict.fromkeys(_names_of_digits(generated, elsewhere), NOT_DIGITS)

    rows = {row: images[:n] for row, images in rows.items()}
    entries: dict[str, Estimate] = {}
    arrays: dict[str, Tensor] = {}
    if digits:
        others = {row: images[:n] for row, images in elsewhere.items()}
        entries, arrays = _digit_measures(rows, others, real, real_label, wanted_label)
    binned, shares = _bin_measures(rows, train)
    arrays |= shares
    return Evidence(
        {**entries, **binned}, {name: array.numpy() for name, array in arrays.items()}, absent
    )


def _too_few(generated: Mapping[str, Tensor], elsewhere: Mapping[str, Tensor]) -> Evidence:
    """All names as absent, because a set has too few images."""
    names = [
        *_names_of_digits(generated, elsewhere),
        *_names(PIXEL_MEASURES, [*generated, CONTROL]),
    ]
    return Evidence(absent=dict.fromkeys(names, f"it needs {LEAST_IMAGES} images of every set"))


def _digit_measures(
    rows: dict[str, Tensor],
    others: dict[str, Tensor],
    real: Tensor,
    real_label: Tensor,
    wanted_label: Tensor | None,
) -> tuple[dict[str, Estimate], dict[str, Tensor]]:
    """Entries and arrays from what the classifier reads in every row (n, D) and in real (N, D).

    The rows ``others`` have the distance ``digit_fid`` alone.
    """
    classifier = load_classifier()
    real_features, real_log_prob = read_digits(classifier, real)
    radii = neighbour_radii(real_features, (MANIFOLD_K, DENSITY_K))
    entries = {"label_accuracy_real": _accuracy(real_log_prob, real_label)}
    arrays = {}
    for row, images in rows.items():
        features, log_prob = read_digits(classifier, _shown(images))
        of_row = {
            "digit_fid": digit_fid(features, real_features),
            "digit_kid": digit_kid(features, real_features),
            "two_sample_accuracy": two_sample_accuracy(features, real_features),
            **neighbour_entries(features, real_features, radii),
            **label_entries(log_prob),
        }
        if wanted_label is not None and row != CONTROL:
            of_row["label_accuracy"] = _accuracy(log_prob, wanted_label[: len(images)])
        entries |= _with_row(of_row, row)
        arrays[f"label_share_{row}"] = log_prob.exp().mean(0)
    for row, images in others.items():
        features, _ = read_digits(classifier, _shown(images))
        entries |= _with_row({"digit_fid": digit_fid(features, real_features)}, row)
    return entries, arrays


def _bin_measures(
    rows: dict[str, Tensor], train: Tensor
) -> tuple[dict[str, Estimate], dict[str, Tensor]]:
    """Entries and arrays from the bins of train (M, D) that each row of images (n, D) falls in."""
    bins = make_bins(train)
    entries: dict[str, Estimate] = {}
    arrays = {"ndb_centres": bins.centres.float(), "ndb_share_train": bins.share}
    for row, images in rows.items():
        counts = bins.counts(_shown(images))
        entries |= _with_row(bin_entries(counts, bins), row)
        arrays[f"ndb_share_{row}"] = counts.double() / len(images)
    return entries, arrays


def _shown(images: Tensor) -> Tensor:
    """Images (n, D) as a picture would show them, clipped to 0..1."""
    return images.float().clamp(0, 1)


def _with_row(entries: dict[str, Estimate], row: str) -> dict[str, Estimate]:
    return {f"{name}_{row}": entry for name, entry in entries.items()}


def _names(measures: Iterable[str], rows: Iterable[str]) -> list[str]:
    rows = list(rows)
    return [f"{measure}_{row}" for measure in measures for row in rows]


def _names_of_digits(modes: Iterable[str], elsewhere: Iterable[str]) -> list[str]:
    modes = list(modes)
    return [
        *_names(["digit_fid"], elsewhere),
        *_names(FEATURE_MEASURES, [*modes, CONTROL]),
        *_names(["label_accuracy"], modes),
        "label_accuracy_real",
    ]


def _accuracy(log_prob: Tensor, label: Tensor) -> Estimate:
    """The share of images with predictions (n, C) that are read as their label (n,)."""
    return average(log_prob.argmax(1) == label, "share", kind="estimate")


def label_entries(log_prob: Tensor) -> dict[str, Estimate]:
    """``label_entropy`` and ``label_marginal_entropy`` of predictions (n, C), in nats."""
    prob, n = log_prob.exp(), len(log_prob)
    marginal = entropy(prob.mean(0)).item()
    replicates = [entropy(resample(n) @ prob / n).item() for _ in range(RESAMPLES)]
    return {
        "label_entropy": average(entropy(prob), "nats", kind="estimate"),
        "label_marginal_entropy": bootstrapped(marginal, replicates, "nats", n, kind="estimate"),
    }


def drawn(subject: Subject[Model], codes: Iterable[tuple[Tensor, ...]]) -> dict[str, Tensor]:
    """mu(z) and a draw of p(x|z), (n, D) each on the display scale, at blocks of z and labels."""
    means, samples = [], []
    for z, label in codes:
        p = subject.model.decode(z, label if subject.model.conditional else None)
        means.append(subject.transform.to_unit(p.mean.float()).cpu())
        samples.append(subject.transform.to_unit(p.sample().float()).cpu())
    return {"mean": torch.cat(means), "sample": torch.cat(samples)}


def _of_mixture(subject: Subject[Model]) -> dict[str, Tensor]:
    """Draws of each mode at z from a mixture that is fitted to the codes, (n, D) each.

    There are none for a mixture, and none where a label of the test images is of no training image.
    """
    match subject.model:
        case GMM():
            return {}
        case VAE() | LinearGaussian() as model:
            if not subject.codes.aggregate(model, subject.train).knows(subject.label):
                return {}
            mixture = subject.codes.mixture(model, subject.train)
            z = mixture.sample(subject.label).to(subject.x)
            return drawn(subject, blocks(z, subject.label, rows=DRAWN_AT_ONCE))
        case _:
            assert_never(subject.model)


@torch.no_grad()
def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``quality``, with as many draws of each mode as there are test images.

    A model that is given the label gets the labels of the test images. Draws with z ~ q(z) start
    from random training images, one for each draw, and have their labels.
    """
    model, n = subject.model, len(subject.label)
    prior = (
        (model.prior().sample(labels.shape), labels)
        for labels in subject.label.split(DRAWN_AT_ONCE)
    )
    of_prior = drawn(subject, prior)
    images, label = (torch.cat(parts) for parts in zip(*subject.train(), strict=True))
    chosen = torch.randint(len(images), (n,), device=images.device)
    posterior = (
        (model.encode(images[rows], label[rows]).sample(), label[rows])
        for rows in chosen.split(DRAWN_AT_ONCE)
    )
    elsewhere = {f"{mode}_posterior": x for mode, x in drawn(subject, posterior).items()}
    of_mixture = _of_mixture(subject)
    elsewhere |= {f"{mode}_mixture": x for mode, x in of_mixture.items()}

    def to_unit(x: Tensor) -> Tensor:
        return subject.transform.to_unit(x.float()).cpu()

    validation = subject.validation()
    evidence = quality(
        of_prior,
        to_unit(subject.x),
        None if validation is None else to_unit(validation),
        train=to_unit(images),
        digits=subject.digits,
        real_label=subject.label.cpu(),
        wanted_label=subject.label.cpu() if model.conditional else None,
        elsewhere=elsewhere,
    )
    if not of_mixture:
        names = _names(["digit_fid"], [f"{mode}_mixture" for mode in of_prior])
        evidence = merge([evidence, Evidence(absent=dict.fromkeys(names, NO_MIXTURE))])
    return evidence.with_scope("same_look", look=subject.transform.look)
