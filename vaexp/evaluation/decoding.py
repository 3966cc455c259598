"""Decode modes: what is lost if a generated image is mu(z) instead of a draw of p(x|z).

The images mu(z), x ~ p(x|z) and mu(z) + k sigma(z) come from one model and one set of latents
z ~ p(z). Their first two moments are compared with those of test images (``image_moments``), and
their log densities with each other (``densities``). On test images, sigma(z) is compared with the
errors of mu(z) (``calibration``).
"""

from dataclasses import replace

import torch
from torch import Tensor

from vaexp.evaluation import calibration
from vaexp.evaluation.decode_modes import SHIFTS, generate, modes
from vaexp.evaluation.densities import log_densities, shuffled
from vaexp.evaluation.image_moments import (
    SetMoments,
    covariance_distance,
    covariance_of_means,
    mean_distance,
    moments,
    neighbour_correlation,
    variance_split,
)
from vaexp.evaluation.measure import Estimate, Evidence, Measure, average, merge
from vaexp.evaluation.subject import Subject
from vaexp.models import Model

DRAWS = 10_000  # latents from which images are generated

OF_MODE = ("mean_distance", "covariance_distance", "neighbour_correlation", "outside_share")
NO_ENDS = "the transform gives x no ends"
ALL_EQUAL = "all these images are the same, so no pixel varies"
SAME_DATA = "all these test images are the same, so there is no covariance to compare with"
TOO_FEW = "a half of fewer than 4 test images has no covariance"


@torch.no_grad()
def decoding(
    model: Model,
    x: Tensor,
    label: Tensor,
    *,
    shape: tuple[int, int],
    draws: int = DRAWS,
    unit_interval: bool,
) -> Evidence:
    """Compare the decode modes, with ``draws`` latents and test images x (N, D), labels (N,).

    A conditional model has at most N latents, one for each label. ``shape`` is the height and the
    width of an image, and ``unit_interval`` says whether a pixel's range ends at 0 and 1. N >= 2.
    Every model has the same names, either among the entries or among the absent. The distances
    named ``_control`` are those of two random halves of the test images, N / 2 each: if draws = N,
    their sampling noise is sqrt(2) times that of the other distances. The fact ``images`` of every
    Estimate says which images it counts in ``n``: generated or test. Memory holds about ten float32
    arrays of (draws, D) or (N, D).
    """
    generated = generate(model, label, draws)
    data = moments(x)
    parts = [_control(x), _correlation("data", data, shape)]
    no_sweep = model.no_sweep
    for mode, images in modes(generated, sweep=no_sweep is None):
        of_mode = moments(images)
        if mode == "mean":
            split, arrays = variance_split(of_mode, generated.variance, data)
            parts.append(Evidence({**split}, arrays))
        in_common = None
        if model.conditional:  # each draw has the label of a test image
            in_common = covariance_of_means(of_mode, generated.label, data, label)
        parts.append(_distances(mode, of_mode, data, in_common))
        parts += [_correlation(mode, of_mode, shape), _outside(mode, images, unit_interval)]
    if no_sweep is None:
        measures, strata = calibration.calibration(model, x, label)
        parts.append(Evidence({**measures}, strata))
    else:
        names = [*(f"{name}_{mode}" for name in OF_MODE for mode in SHIFTS), *calibration.NAMES]
        no_image = f"mu(z) + k sigma(z) is no image: {no_sweep}"
        parts.append(Evidence(absent=dict.fromkeys(names, no_image)))
    parts.append(log_densities(model, generated, x, label))
    found = merge(parts)
    return replace(found, entries={k: _with_images(k, entry) for k, entry in found.entries.items()})


def _control(x: Tensor) -> Evidence:
    """The distances between two random halves of the test images x (N, D)."""
    if len(x) < 4:
        names = ("mean_distance_control", "covariance_distance_control")
        return Evidence(absent=dict.fromkeys(names, TOO_FEW))
    half, other = (moments(part) for part in x[shuffled(x)].chunk(2))
    return _distances("control", half, other)


def _distances(
    mode: str, images: SetMoments, data: SetMoments, in_common: Tensor | None = None
) -> Evidence:
    means = mean_distance(images, data, in_common)
    of_covariance = covariance_distance(images, data)
    found, name = Evidence({f"mean_distance_{mode}": means}), f"covariance_distance_{mode}"
    if of_covariance is None:
        return replace(found, absent={name: SAME_DATA})
    return replace(found, entries=found.entries | {name: of_covariance})


def _correlation(mode: str, images: SetMoments, shape: tuple[int, int]) -> Evidence:
    name, correlation = f"neighbour_correlation_{mode}", neighbour_correlation(images, shape)
    if correlation is None:
        return Evidence(absent={name: ALL_EQUAL})
    return Evidence({name: correlation})


def _outside(mode: str, images: Tensor, unit_interval: bool) -> Evidence:
    name = f"outside_share_{mode}"
    if not unit_interval:
        return Evidence(absent={name: NO_ENDS})
    return Evidence({name: outside_share(images)})


def outside_share(images: Tensor) -> Estimate:
    """The share of pixels below 0 or above 1, for images (n, D)."""
    return average(((images < 0) | (images > 1)).float().mean(1), "share")


def _with_images(name: str, entry: Measure | Estimate) -> Measure | Estimate:
    """An Estimate with the fact of whose images it counts. A Measure always has the test images."""
    if isinstance(entry, Measure):
        return entry
    whose = "test" if name.endswith(("_data", "_control")) else "generated"
    return replace(entry, facts={"images": whose, **entry.facts})


def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``decoding``."""
    unit_interval = subject.transform.in_unit_interval
    return decoding(
        subject.model, subject.x, subject.label, shape=subject.shape, unit_interval=unit_interval
    )
