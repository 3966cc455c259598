"""How much drawn images look like real ones, and how much of the real ones' variety they cover.

Every number has a control: the same number for other real images, where there are any. Features are
those of the small classifier of digits that ships with vaexp, not those of Inception.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vaexp.evaluation.digit_classifier import load_classifier, read_digits
from vaexp.evaluation.feature_distances import digit_fid, digit_kid
from vaexp.evaluation.measure import Estimate, Evidence, average, bootstrapped
from vaexp.evaluation.neighbourhoods import (
    DENSITY_K,
    MANIFOLD_K,
    neighbour_entries,
    neighbour_radii,
)
from vaexp.evaluation.pixel_bins import bin_entries, make_bins
from vaexp.evaluation.statistics import RESAMPLES, entropy, resample
from vaexp.evaluation.subject import Subject
from vaexp.models import Model

CONTROL = "control"
OF_FEATURES = (
    "digit_fid",
    "digit_kid",
    "precision",
    "recall",
    "density",
    "coverage_real",
    "label_entropy",
    "label_marginal_entropy",
)
OF_PIXELS = ("ndb", "js_divergence")
NO_CONTROL = "there is no validation split, and the bins are made of the training images"
NOT_DIGITS = "its features are of digits, and these images are not"
NOT_ASKED = "no digit was asked for"

DRAWN_AT_ONCE = 1_000  # of the model
LEAST_IMAGES = 100  # of each set: fewer say nothing about 64 features, or about 5 neighbours


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
) -> Evidence:
    """Distances, coverage and legibility of drawn images, each beside those of other real images.

    All images are on the CPU and on the display scale, 0 black to 1 white; values outside of it are
    clipped here. generated: images (n, D) of each mode (mean, sample). real (N, D): the test
    images. other_real: the control, real images that are in neither ``real`` nor ``train``, or
    None. train: the images that the bins are made of. digits: whether the images are digits, as
    only digits have features. real_label (N,): int64, the digits of ``real``. wanted_label (n,):
    the digits that a conditional model was asked for.

    A row is one mode or the control. Most of these numbers depend on how many images there are, so
    all rows use the same number, the first ones of each set. The names of entries end in their
    row's: ``_mean``, ``_sample``, ``_control``. ``label_accuracy_real`` is that of ``real``.
    Entries and absent together are the same names for every call with the same modes. With fewer
    than 100 images in a set all are absent. 10,000 images in each set and 50,000 to train on take
    about 12 s on one core: 3 s for each row, 3 s for the bins and the test images.

    Arrays: ``ndb_centres`` (K, D), ``ndb_share_train`` (K,), ``ndb_share_*`` (K,) and, for digits,
    ``label_share_*`` (C,), the mean prediction of the classifier. The bins and the bootstrap draw
    from torch's global generator.
    """
    rows = dict(generated) if other_real is None else {**generated, CONTROL: other_real}
    n = min(map(len, rows.values()))
    if min(n, len(real), len(train)) < LEAST_IMAGES:
        few = f"it needs {LEAST_IMAGES} images of every set"
        names = [*_names_of_digits(generated), *_names(OF_PIXELS, [*generated, CONTROL])]
        return Evidence(absent=dict.fromkeys(names, few))

    absent: dict[str, str] = {}
    if wanted_label is None:
        absent |= dict.fromkeys(_names(["label_accuracy"], generated), NOT_ASKED)
    if other_real is None:
        absent |= dict.fromkeys(_names([*OF_FEATURES, *OF_PIXELS], [CONTROL]), NO_CONTROL)
    if not digits:
        absent |= dict.fromkeys(_names_of_digits(generated), NOT_DIGITS)

    rows = {row: images[:n] for row, images in rows.items()}
    entries, arrays = _of_digits(rows, real, real_label, wanted_label) if digits else ({}, {})
    binned, shares = _of_bins(rows, train)
    arrays |= shares
    return Evidence(
        {**entries, **binned}, {name: array.numpy() for name, array in arrays.items()}, absent
    )


def _of_digits(
    rows: dict[str, Tensor], real: Tensor, real_label: Tensor, wanted_label: Tensor | None
) -> tuple[dict[str, Estimate], dict[str, Tensor]]:
    """Entries and arrays of what the classifier makes of every row (n, D) and of real (N, D)."""
    classifier = load_classifier()
    real_features, real_log_prob = read_digits(classifier, real)
    radii = neighbour_radii(real_features, (MANIFOLD_K, DENSITY_K))
    entries = {"label_accuracy_real": _accuracy(real_log_prob, real_label)}
    arrays = {}
    for row, images in rows.items():
        features, log_prob = read_digits(classifier, _shown(images))
        found = {
            "digit_fid": digit_fid(features, real_features),
            "digit_kid": digit_kid(features, real_features),
            **neighbour_entries(features, real_features, radii),
            **label_entries(log_prob),
        }
        if wanted_label is not None and row != CONTROL:
            found["label_accuracy"] = _accuracy(log_prob, wanted_label[: len(images)])
        entries |= _with_row(found, row)
        arrays[f"label_share_{row}"] = log_prob.exp().mean(0)
    return entries, arrays


def _of_bins(
    rows: dict[str, Tensor], train: Tensor
) -> tuple[dict[str, Estimate], dict[str, Tensor]]:
    """Entries and arrays of where every row (n, D) lies in bins of train (M, D)."""
    bins = make_bins(train)
    entries: dict[str, Estimate] = {}
    arrays = {"ndb_centres": bins.centres.float(), "ndb_share_train": bins.share}
    for row, images in rows.items():
        counts = bins.counts(_shown(images))
        entries |= _with_row(bin_entries(counts, bins), row)
        arrays[f"ndb_share_{row}"] = counts.double() / len(images)
    return entries, arrays


def _shown(images: Tensor) -> Tensor:
    """What a picture shows of images (n, D)."""
    return images.float().clamp(0, 1)


def _with_row(found: dict[str, Estimate], row: str) -> dict[str, Estimate]:
    return {f"{name}_{row}": entry for name, entry in found.items()}


def _names(measures: Iterable[str], rows: Iterable[str]) -> list[str]:
    rows = list(rows)
    return [f"{measure}_{row}" for measure in measures for row in rows]


def _names_of_digits(modes: Iterable[str]) -> list[str]:
    modes = list(modes)
    return [
        *_names(OF_FEATURES, [*modes, CONTROL]),
        *_names(["label_accuracy"], modes),
        "label_accuracy_real",
    ]


def _accuracy(log_prob: Tensor, label: Tensor) -> Estimate:
    """The share of images, predictions (n, C), that are read as their label (n,)."""
    return average(log_prob.argmax(1) == label, "share", {"kind": "estimate"})


def label_entries(log_prob: Tensor) -> dict[str, Estimate]:
    """``label_entropy`` and ``label_marginal_entropy`` of predictions (n, C), nats."""
    prob, n = log_prob.exp(), len(log_prob)
    marginal = entropy(prob.mean(0)).item()
    replicates = [entropy(resample(n) @ prob / n).item() for _ in range(RESAMPLES)]
    facts = {"kind": "estimate"}
    return {
        "label_entropy": average(entropy(prob), "nats", facts),
        "label_marginal_entropy": bootstrapped(marginal, replicates, "nats", n, facts),
    }


@torch.no_grad()
def measure(subject: Subject[Model]) -> Evidence:
    """The group ``quality``: as many draws of each kind as there are test images.

    A model that is given the label draws the test images' own.
    """
    model = subject.model

    def to_unit(images: Tensor) -> Tensor:
        return subject.transform.to_unit(images.float()).cpu()

    drawn: dict[str, list[Tensor]] = {"mean": [], "sample": []}
    for labels in subject.label.split(DRAWN_AT_ONCE):
        z = model.prior().sample(labels.shape)
        p = model.decode(z, labels if model.conditional else None)
        drawn["mean"].append(to_unit(p.mean))
        drawn["sample"].append(to_unit(p.sample()))
    validation = subject.validation()
    found = quality(
        {mode: torch.cat(images) for mode, images in drawn.items()},
        to_unit(subject.x),
        None if validation is None else to_unit(validation),
        train=to_unit(torch.cat([x for x, _ in subject.train()])),
        digits=subject.digits,
        real_label=subject.label.cpu(),
        wanted_label=subject.label.cpu() if model.conditional else None,
    )
    return found.with_scope("same_look", look=subject.transform.look)
