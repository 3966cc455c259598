"""Bounds on ln p(x), their two terms, and reconstruction errors, per image.

All log quantities are nats per image, summed over pixels.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vaexp.evaluation.measure import Evidence, Measure, Moments, Tightness, join
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.absent import answered

NAMES = ("iw_bound",)  # of the group
IMAGES_PER_BLOCK = 500
ROWS_PER_BLOCK = 1024  # draws x images decoded at once: what the processor caches hold is fastest


@torch.no_grad()
def elbo_measures(model: VAE, x: Tensor, label: Tensor, *, draws: int = 8) -> dict[str, Measure]:
    """``elbo``, ``rate``, ``distortion``, ``rmse_mean``, ``rmse_sample`` and ``sigma``.

    x (N, D), label (N,); needs at least two draws of z per image, for the Monte Carlo error. With
    z ~ q(z|x): distortion = -E ln p(x|z), rate = KL(q(z|x) to p(z)) in closed form, elbo =
    -distortion - rate. rmse_mean is the root of the squared error of mu(z), averaged over images
    and pixels and the same draws; rmse_sample that of a draw of p(x|z). sigma, where the likelihood
    has one, is the mean of sigma(z) over draws and pixels.
    """
    return join([_elbo_block(model, xs, labels, draws) for xs, labels in _blocks(x, label)])


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
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    k: int,
    on_images: Callable[[int], None] = lambda _: None,
) -> Measure:
    """The importance-weighted bound E ln (1/K) sum_k w_k, w = p(x, z) / q(z|x), z ~ q (N,).

    Burda et al. 2016, equation 8; at K = 1 it is the ELBO. The Monte Carlo variance of ln of a mean
    of weights is by the delta method 1/ESS - 1/K, with the effective sample size
    ESS = (sum w)^2 / sum w^2: too small where ESS is below about 10, and absent at K = 1. Memory
    stays bounded at any K: at most ROWS_PER_BLOCK images are decoded at once. on_images is told the
    number of images of every block.
    """
    values, variances, sizes = [], [], []
    for xs, labels in _blocks(x, label):
        q = model.encode(xs, labels)
        total = torch.full((len(xs),), -math.inf, dtype=torch.float64, device=x.device)
        squares = total.clone()
        at_once = max(1, min(k, ROWS_PER_BLOCK // len(xs)))
        for first in range(0, k, at_once):
            z = q.sample(torch.Size([min(at_once, k - first)]))
            log_w = (
                model.decode(z, labels).log_prob(xs).double()
                + model.prior().log_prob(z).double()
                - q.log_prob(z).double()
            )
            total = torch.logaddexp(total, log_w.logsumexp(0))
            squares = torch.logaddexp(squares, (2 * log_w).logsumexp(0))
        sizes.append((2 * total - squares).exp())
        values.append(total - math.log(k))
        variances.append((1 / sizes[-1] - 1 / k).clamp(min=0))
        on_images(len(xs))
    return Measure(
        torch.cat(values).cpu(),
        "nats",
        torch.cat(variances).cpu() if k > 1 else None,
        facts={"k": k, "effective_samples": torch.cat(sizes).median().item()},
        kind="lower_bound",
        likelihood="log_prob",
        tightness=Tightness.IMPORTANCE_WEIGHTED,
        headline=True,
    )


def _blocks(x: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.split(IMAGES_PER_BLOCK), label.split(IMAGES_PER_BLOCK), strict=True)


def measure(subject: Subject[VAE]) -> Evidence:
    """The group ``iw``."""
    (name,) = NAMES
    k = subject.importance_samples
    bound = iw_bound(subject.model, subject.x, subject.label, k=k, on_images=subject.on_images)
    return Evidence({name: bound})
