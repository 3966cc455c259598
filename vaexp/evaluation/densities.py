"""The model's own log densities of mu(z), of samples of p(x|z), and of test images.

Letters in shapes: n generated images, N test images, D pixels. Log quantities are in nats per
image, summed over pixels.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, assert_never

import torch
from torch import Tensor

from vaexp.evaluation.bounds import elbo_measures
from vaexp.evaluation.decode_modes import Generated
from vaexp.evaluation.measure import (
    Estimate,
    Evidence,
    Kind,
    average_log_likelihood,
    merge,
)
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.absent import Absent
from vaexp.models.interface import ExactModel
from vaexp.models.ppca import of_linear_vae

IMAGES = 1_000  # of each kind whose log densities are averaged, at most
ELBO_DRAWS = 4  # of z for every image whose ELBO is measured

NO_MASS = "p(x|z) is a mass, and mu(z) is none of the images that have one"
NOT_EXACT = "ln p(x) is not exact; see elbo_of_sample"
EXACT = "ln p(x) is exact; see log_prob_of_mean"


@torch.no_grad()
def log_densities(model: Model, generated: Generated, x: Tensor, label: Tensor) -> Evidence:
    """The log densities of mu(z), of the samples at the same z, and of test images x (N, D).

    label (N,). A random subset of the test images is used, and as many generated ones.

    ``log_prob_of_mean``, ``_of_sample`` and ``_of_data`` exist where ln p(x) is exact. A VAE has
    ``log_density_given_z_of_mean`` = ln p(mu(z)|z) and ``log_density_given_z_of_sample`` =
    ln p(x|z) with x ~ p(x|z), and ``elbo_of_*``, for which the images are encoded again. Each
    ``*_gap`` is the number of mu(z) minus that of the sample, with the standard error of the paired
    difference. For a Gaussian ln p(mu(z)|z) - ln p(x|z) = |x - mu|^2 / (2 sigma^2), which is D/2
    nats on average whatever sigma is; this is the fact ``expected``. Every entry has its
    ``Tails`` beside it, as a few extreme images may hold most of a mean.
    """
    count = min(IMAGES, len(generated.z))
    chosen = shuffled(x)[:IMAGES]
    images = _Images(
        generated.mean[:count],
        generated.sample[:count],
        generated.label[:count],
        x[chosen],
        label[chosen],
    )
    exact: ExactModel | None
    match model:
        case VAE():
            exact = of_linear_vae(model)
            bounds = _of_vae(model, generated.z[:count], images)
        case GMM() | LinearGaussian():
            exact = model
            absent = _absent("log_density_given_z", ("mean", "sample"), EXACT)
            absent |= _absent("elbo", ("mean", "sample", "data"), EXACT)
            bounds = Evidence(absent=absent)
        case _:
            assert_never(model)
    if exact is None:
        no_log_prob = _absent("log_prob", ("mean", "sample", "data"), NOT_EXACT)
        return merge([Evidence(absent=no_log_prob), bounds])
    of_mean, of_sample, of_data = map(exact.log_prob, (images.mean, images.sample, images.data))
    facts = {"measure": "density", "of": "x"}
    found = compare_modes("log_prob", of_mean, of_sample, of_data, facts, kind="exact")
    return merge([Evidence({**found}), bounds])


def shuffled(x: Tensor) -> Tensor:
    """A random order of images x (N, D): MNIST's first 5,000 test images are the easier half."""
    return torch.randperm(len(x), device=x.device)


class _Images(NamedTuple):
    """The images whose densities are measured."""

    mean: Tensor
    """mu(z), (n, D)."""
    sample: Tensor
    """x ~ p(x|z), (n, D)."""
    label: Tensor
    """The labels of both, (n,)."""
    data: Tensor
    """Test images, (M, D)."""
    data_label: Tensor
    """Their labels, (M,)."""


def _of_vae(model: VAE, z: Tensor, images: _Images) -> Evidence:
    """``log_density_given_z_*`` and ``elbo_*`` of a VAE; z (n, L) are those of mu(z)."""
    p = model.decode(z, images.label)
    measure = model.likelihood.family.measure
    gap = model.likelihood.gap_to_mean(images.data.shape[1])

    def elbo(x: Tensor, label: Tensor) -> Tensor:
        return elbo_measures(model, x, label, draws=ELBO_DRAWS)["elbo"].values

    absent: dict[str, str] = {}
    of_mean, elbo_of_mean = None, None
    if measure == "mass":
        for name in ("log_density_given_z", "elbo"):
            absent |= _absent(name, ("mean",), NO_MASS)
    else:
        of_mean, elbo_of_mean = p.log_prob(images.mean), elbo(images.mean, images.label)
    given_z = compare_modes(
        "log_density_given_z",
        of_mean,
        p.log_prob(images.sample),
        None,
        {"measure": measure, "of": "x given z"},
        kind="exact",
        facts_of_gap={} if isinstance(gap, Absent) else {"expected": gap},
    )
    of = "x given label" if model.conditional else "x"
    bounds = compare_modes(
        "elbo",
        elbo_of_mean,
        elbo(images.sample, images.label),
        elbo(images.data, images.data_label),
        {"measure": measure, "of": of, "draws": ELBO_DRAWS},
        kind="lower_bound",
        kind_of_gap="estimate",  # the difference of two bounds is no bound
    )
    return Evidence({**given_z, **bounds}, absent=absent)


def compare_modes(
    name: str,
    of_mean: Tensor | None,
    of_sample: Tensor,
    of_data: Tensor | None,
    facts: Mapping[str, Any],
    *,
    kind: Kind,
    kind_of_gap: Kind | None = None,
    facts_of_gap: Mapping[str, Any] | None = None,
) -> dict[str, Estimate]:
    """The means of log densities (n,) of mu(z), of samples and of test images, those that exist.

    The entries are ``name``_of_mean, _of_sample and _of_data, and _gap, the mean of the paired
    difference of the first two. The gap is of the same kind as the rest unless ``kind_of_gap`` is
    given.
    """

    def entry(values: Tensor, kind: Kind, more: Mapping[str, Any]) -> Estimate:
        return average_log_likelihood(values, {**facts, **more}, kind=kind)

    sets = {"of_mean": of_mean, "of_sample": of_sample, "of_data": of_data}
    entries = {
        f"{name}_{of}": entry(values, kind, {}) for of, values in sets.items() if values is not None
    }
    if of_mean is not None:
        difference = of_mean.double() - of_sample.double()
        entries[f"{name}_gap"] = entry(difference, kind_of_gap or kind, facts_of_gap or {})
    return entries


def _absent(name: str, of: tuple[str, ...], reason: str) -> dict[str, str]:
    """The names that ``compare_modes`` would use, all absent for this reason.

    The gap is among them, as there is none without mu(z).
    """
    return dict.fromkeys([*(f"{name}_of_{what}" for what in of), f"{name}_gap"], reason)
