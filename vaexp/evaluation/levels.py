"""The mass that a model gives to the 256 grey levels of an image, in place of a density of x.

A density p(x) has no bound: where sigma falls to a floor, the floor decides it. Its mass between
the edges of the grey level that each pixel has,

    P(levels|z) = integral of p(x|z) over lower_j < x_j < upper_j for all pixels j,

is at most 1 whatever sigma is. The first level takes the lower tail and the last the upper one, as
the discretised logistic does (Salimans et al. 2017, PixelCNN++, section 2.1). So masses of all
families stand on one scale, in nats or in bits per dimension, and may be ranked. The bounds are
those of ln p(x) with P(levels|z) in the place of p(x|z).

Letters in shapes: N images, D pixels, K components. Log quantities are in nats per image and
float64.
"""

import math
from dataclasses import replace
from typing import Any, assert_never

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaexp.data import Transform
from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.bounds import iw_measures
from vaexp.evaluation.exact import exact_measures
from vaexp.evaluation.measure import Evidence, Measure, RunningMean
from vaexp.evaluation.scope import Tightness
from vaexp.evaluation.subject import Subject
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods import GREY_LEVELS, Decoded
from vaexp.models.likelihoods.diagonal import DiagonalGaussian, log_normal_mass

NAMES = ("elbo_levels", "log_prob_levels")
IW_NAME = "iw_bound_levels"
DRAWS = 4  # of z for each image; a mass costs several times what a density does
NO_LEVELS = "the images are black and white, so they have no grey levels"
BOUNDED = "elbo_levels and iw_bound_levels bound it"
EXACT = "ln P(levels) of a mixture is a sum over components; see log_prob_levels"
DEPENDENT = "pixels depend on each other given the component: their mass has no closed form"
MASS: dict[str, Any] = {"measure": "mass", "on": GREY_LEVELS}


@torch.no_grad()
def level_masses(model: Model, x: Tensor, label: Tensor, transform: Transform) -> Evidence:
    """``elbo_levels`` of images x (N, D) with labels (N,), and ``log_prob_levels`` of a mixture.

    elbo_levels = E_q ln P(levels|z) - KL(q(z|x) to p(z)) with DRAWS draws z ~ q(z|x), a lower bound
    on ln P(levels). Of pPCA and FA, q is p(z|x) of the density. In a mixture with independent
    pixels ln P(levels) is a sum over components, and both entries are that number. Absent where the
    images have no grey levels, or where P(levels|z) has no closed form.
    """
    match model:
        case GMM():
            return _of_mixture(model, x, transform)
        case VAE() | LinearGaussian():
            reason = _why_absent(model, x, label, transform)
            if reason is not None:
                return Evidence(absent=dict.fromkeys(NAMES, reason))
            elbo = _elbo(model, x, label, transform)
            return Evidence({"elbo_levels": elbo}, absent={"log_prob_levels": BOUNDED})
        case _:
            assert_never(model)


def _elbo(model: VAE | LinearGaussian, x: Tensor, label: Tensor, transform: Transform) -> Measure:
    """``elbo_levels``, with a closed-form rate."""
    values, variances = [], []
    for xs, labels in blocks(x, label):
        q, edges, moments = (
            model.encode(xs, labels),
            transform.edges(transform.levels(xs)),
            RunningMean(),
        )
        for _ in range(DRAWS):
            p = _pixels(model.decode(q.sample(), labels))
            moments.add(answered(p.log_mass(*edges)))
        values.append(moments.mean - _rate(model, q, xs))
        variances.append(moments.variance_of_mean())
    return Measure(
        torch.cat(values).cpu(),
        "nats",
        torch.cat(variances).cpu(),
        facts=MASS | {"draws": DRAWS},
        kind="lower_bound",
        likelihood="log_prob",
        tightness=Tightness.ELBO,
    )


def _rate(model: VAE | LinearGaussian, q: Distribution, x: Tensor) -> Tensor:
    """KL(q(z|x) to p(z)) of images x (n, D), (n,) float64."""
    match model:
        case VAE():
            return kl_divergence(q, model.prior()).double()
        case LinearGaussian():
            return exact_measures(model, x)["rate"].values.to(x.device)
        case _:
            assert_never(model)


def _pixels(p: Distribution) -> Decoded:
    """p(x|z) in float64. That of a linear-Gaussian model is a Gaussian with independent pixels."""
    return p.double() if isinstance(p, Decoded) else DiagonalGaussian(p.mean, p.stddev).double()


def _why_absent(
    model: VAE | LinearGaussian, x: Tensor, label: Tensor, transform: Transform
) -> str | None:
    """Why the images x (N, D) have no mass P(levels|z), or None if they have one."""
    if not transform.grey:
        return NO_LEVELS
    p = _pixels(model.decode(model.encode(x[:1], label[:1]).mean, label[:1]))
    mass = p.log_mass(*transform.edges(transform.levels(x[:1])))
    return mass.reason if isinstance(mass, Absent) else None


def _of_mixture(model: GMM, x: Tensor, transform: Transform) -> Evidence:
    """ln P(levels) = ln sum_k pi_k prod_j P(level_j|k), exact, as both entries.

    The masses of all levels in a component are a table, in which those of the images are found.
    """
    if not transform.grey:
        return Evidence(absent=dict.fromkeys(NAMES, NO_LEVELS))
    if not model.gaussians.independent_pixels:
        return Evidence(absent=dict.fromkeys(NAMES, DEPENDENT))
    levels = transform.levels(x)
    lower, upper = transform.edges(torch.arange(256, device=x.device)[:, None])
    parts = zip(model.gaussians.mean, model.gaussians.variance().sqrt(), model.weight, strict=True)
    pixels = torch.arange(x.shape[1], device=x.device)
    total = x.new_full((len(x),), -math.inf, dtype=torch.float64)
    for mean, sigma, weight in parts:
        table = log_normal_mass(mean, sigma, lower, upper)
        of_images = torch.cat([table[rows, pixels].sum(1) for (rows,) in blocks(levels)])
        total = torch.logaddexp(total, weight.double().log() + of_images)
    exact = Measure(
        total.cpu(),
        "nats",
        facts=MASS,
        kind="exact",
        likelihood="log_prob",
        tightness=Tightness.EXACT,
    )
    # it is reached, but compared with bounds of other models
    bound = replace(exact, kind="lower_bound", tightness=Tightness.ELBO)
    return Evidence({"elbo_levels": bound, "log_prob_levels": exact})


def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``levels``. A mass of grey levels does not depend on the scale of x."""
    evidence = level_masses(subject.model, subject.x, subject.label, subject.transform)
    return evidence.with_scope("any_transform")


def measure_iw(subject: Subject[Model]) -> Evidence:
    """Measure the group ``iw_levels``: the importance-weighted bound on ln P(levels)."""
    model, transform = subject.model, subject.transform
    match model:
        case GMM():
            return Evidence(absent={IW_NAME: EXACT})
        case VAE() | LinearGaussian():
            reason = _why_absent(model, subject.x, subject.label, transform)
            if reason is not None:
                return Evidence(absent={IW_NAME: reason})
        case _:
            assert_never(model)

    def log_likelihood(p: Distribution, x: Tensor) -> Tensor:
        return answered(_pixels(p).log_mass(*transform.edges(transform.levels(x))))

    found = iw_measures(
        model,
        subject.x,
        subject.label,
        k=subject.importance_samples,
        on_images=subject.on_images,
        log_likelihood=log_likelihood,
    )
    bound = found["iw_bound"]
    bound = replace(bound, facts=MASS | bound.facts, headline=False)
    return Evidence({IW_NAME: bound}).with_scope("any_transform")
