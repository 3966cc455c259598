"""Bounds on ln p(x), the two terms of the ELBO, and reconstruction errors of each image.

Log quantities are in nats per image, summed over pixels.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Evidence, Measure, Moments, Tightness, join
from vaexp.evaluation.monte_carlo import Parts, monte_carlo_variance, size_facts
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE, LinearGaussian
from vaexp.models.absent import answered

NAMES = ("iw_bound",)  # the measures of the group
DRAWS = 8  # of z for each image, unless the caller says how many
ROWS_PER_BLOCK = 1024  # draws x images decoded at once; as many as the processor caches can hold


@torch.no_grad()
def elbo_measures(
    model: VAE, x: Tensor, label: Tensor, *, draws: int = DRAWS
) -> dict[str, Measure]:
    """``elbo``, ``rate``, ``distortion``, ``rmse_mean``, ``rmse_sample`` and ``sigma``.

    x (N, D), label (N,). There must be at least two draws z ~ q(z|x) for each image, as the Monte
    Carlo error is measured too. distortion = -E ln p(x|z), rate = KL(q(z|x) to p(z)) in closed
    form, and elbo = -distortion - rate. rmse_mean is the root of the squared error of mu(z),
    averaged over images, pixels and the same draws. rmse_sample is the same for a draw of p(x|z) in
    place of mu(z). sigma is the mean of sigma(z) over draws and pixels, if the likelihood has one.
    """
    return join([_elbo_block(model, xs, labels, draws) for xs, labels in blocks(x, label)])


def _elbo_block(model: VAE, x: Tensor, label: Tensor, draws: int) -> dict[str, Measure]:
    q = model.encode(x, label)
    rate = kl_divergence(q, model.prior()).double()
    moments = {name: Moments() for name in ("distortion", "rmse_mean", "rmse_sample", "sigma")}
    for _ in range(draws):
        decoded = model.decode(q.sample(), label)
        moments["distortion"].add(-decoded.log_prob(x))
        moments["rmse_mean"].add((x - decoded.mean).square().mean(-1))
        moments["rmse_sample"].add((x - decoded.sample()).square().mean(-1))
        if model.has_sigma:
            moments["sigma"].add(answered(decoded.sigma).mean(-1))

    def measure(name: str, unit: str, aggregate: Literal["mean", "root_mean"] = "mean") -> Measure:
        mean, variance = moments[name].mean.cpu(), moments[name].variance_of_mean().cpu()
        return Measure(mean, unit, variance, aggregate, {"draws": draws})

    distortion = replace(measure("distortion", "nats"), kind="estimate", likelihood="derived")
    measures = {
        "elbo": replace(
            distortion,
            values=-distortion.values - rate.cpu(),
            kind="lower_bound",
            likelihood="log_prob",
            tightness=Tightness.ELBO,
            headline=True,
        ),
        "rate": Measure(rate.cpu(), "nats", scope="any_transform", headline=True),
        "distortion": distortion,
        "rmse_mean": replace(measure("rmse_mean", "units of x", "root_mean"), headline=True),
        "rmse_sample": measure("rmse_sample", "units of x", "root_mean"),
    }
    return measures | ({"sigma": measure("sigma", "units of x")} if model.has_sigma else {})


@torch.no_grad()
def iw_bound(
    model: VAE | LinearGaussian,
    x: Tensor,
    label: Tensor,
    *,
    k: int,
    on_images: Callable[[int], None] = lambda _: None,
    log_likelihood: Callable[[Distribution, Tensor], Tensor] = lambda p, x: p.log_prob(x),
) -> Measure:
    """The importance-weighted bound E ln (1/K) sum_k w_k with w = p(x, z) / q(z|x), z ~ q, (N,).

    x (N, D), label (N,). The formula is equation 8 of Burda et al. 2016; at K = 1 it is the ELBO.
    The facts say how many images have an effective sample size, ESS = (sum w)^2 / sum w^2, that is
    too small. ``monte_carlo_variance`` says where the Monte Carlo variance comes from; K = 1 has
    none. Memory does not grow with K, as at most ROWS_PER_BLOCK images are decoded at once.
    on_images is told the number of images of every block. ``log_likelihood`` gives what stands for
    ln p(x|z) of images x (n, D), (..., n), such as the mass of their grey levels.
    """
    values, sizes, log_sums = [], [], []
    for xs, labels in blocks(x, label):
        q = model.encode(xs, labels)
        total = torch.full((len(xs),), -math.inf, dtype=torch.float64, device=x.device)
        squares = total.clone()
        parts = Parts(k, len(xs), x.device)
        at_once = max(1, min(k, ROWS_PER_BLOCK // len(xs)))
        for first in range(0, k, at_once):
            z = q.sample(torch.Size([min(at_once, k - first)]))
            log_w = (
                log_likelihood(model.decode(z, labels), xs).double()
                + model.prior().log_prob(z).double()
                - q.log_prob(z).double()
            )
            total = torch.logaddexp(total, log_w.logsumexp(0))
            squares = torch.logaddexp(squares, (2 * log_w).logsumexp(0))
            parts.add(log_w)
        sizes.append((2 * total - squares).exp())
        values.append(total - math.log(k))
        log_sums.append(parts.log_sums)
        on_images(len(xs))
    size = torch.cat(sizes)
    variance = None
    if k > 1:
        delta = (1 / size - 1 / k).clamp(min=0)
        variance = monte_carlo_variance(torch.cat(log_sums, 1), k, delta, size).cpu()
    return Measure(
        torch.cat(values).cpu(),
        "nats",
        variance,
        facts={"k": k, **size_facts(size)},
        kind="lower_bound",
        likelihood="log_prob",
        tightness=Tightness.IMPORTANCE_WEIGHTED,
        headline=True,
    )


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``iw``."""
    (name,) = NAMES
    k = subject.importance_samples
    bound = iw_bound(subject.model, subject.x, subject.label, k=k, on_images=subject.on_images)
    return Evidence({name: bound})
