"""Bounds on ln p(x), the two terms of the ELBO, and reconstruction errors of each image.

Log quantities are in nats per image, summed over pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaexp.evaluation.blocks import IMAGES_PER_BLOCK, blocks
from vaexp.evaluation.jackknife import jackknifed
from vaexp.evaluation.measure import Evidence, Measure, RunningMean, join
from vaexp.evaluation.monte_carlo import (
    Spread,
    log_mean_weight,
    monte_carlo_variance,
    size_facts,
    spread,
)
from vaexp.evaluation.scope import Tightness
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE, LinearGaussian
from vaexp.models.absent import answered

NAMES = ("iw_bound", "iw_jackknife")  # the measures of the group
ONE_DRAW = "the jackknife leaves out one draw after the other, and K = 1 has only one"
DRAWS = 8  # of z for each image, unless the caller says how many
ROWS_PER_BLOCK = 1024  # draws x images decoded at once; as many as the processor caches can hold
WEIGHTS_PER_BLOCK = 5_000_000  # draws x images whose weights are held at once: 40 MB

LogLikelihood = Callable[[Distribution, Tensor], Tensor]


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
    moments = {name: RunningMean() for name in ("distortion", "rmse_mean", "rmse_sample", "sigma")}
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
def iw_measures(
    model: VAE | LinearGaussian,
    x: Tensor,
    label: Tensor,
    *,
    k: int,
    on_images: Callable[[int], None] = lambda _: None,
    log_likelihood: LogLikelihood = lambda p, x: p.log_prob(x),
    jackknife: bool = False,
) -> dict[str, Measure]:
    """``iw_bound`` and, if ``jackknife``, ``iw_jackknife`` from the same K weights.

    The weights are w = p(x, z) / q(z|x), z ~ q.

    x (N, D), label (N,). ``iw_bound`` is E ln (1/K) sum_k w_k, equation 8 of Burda et al. 2016; at
    K = 1 it is the ELBO. ``jackknifed`` says what the other is, which K = 1 does not have. It costs
    a few logarithms of each weight, next to nothing beside the decoding.

    The facts say how many images have an effective sample size, ESS = (sum w)^2 / sum w^2, that is
    too small. ``monte_carlo_variance`` says where the Monte Carlo variance comes from; K = 1 has
    none. At most ROWS_PER_BLOCK images are decoded at once, and the weights of all draws are held
    for at most WEIGHTS_PER_BLOCK of them, or for one image. on_images is told the number of images
    of every block. ``log_likelihood`` gives what stands for ln p(x|z) of images x (n, D), (..., n),
    such as the mass of their grey levels.
    """
    bound, of_halves = _OfWeights(log_mean_weight), _OfWeights(jackknifed)
    numbers = {"iw_bound": bound} | ({"iw_jackknife": of_halves} if jackknife and k > 1 else {})
    sizes = []
    rows = max(1, min(IMAGES_PER_BLOCK, WEIGHTS_PER_BLOCK // k))
    for xs, labels in blocks(x, label, rows=rows):
        log_w = _log_weights(model, xs, labels, k, log_likelihood)
        sizes.append((2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp())
        for number in numbers.values():
            number.add(log_w)
        on_images(len(xs))
    measures = {name: number.measure(k, torch.cat(sizes)) for name, number in numbers.items()}
    measures["iw_bound"] = replace(
        measures["iw_bound"],
        kind="lower_bound",
        tightness=Tightness.IMPORTANCE_WEIGHTED,
        headline=True,
    )
    return measures


def _log_weights(
    model: VAE | LinearGaussian, x: Tensor, label: Tensor, k: int, log_likelihood: LogLikelihood
) -> Tensor:
    """Ln p(x, z) - ln q(z|x) for K draws z ~ q(z|x) of images x (n, D), (K, n) float64."""
    q = model.encode(x, label)
    at_once = max(1, min(k, ROWS_PER_BLOCK // len(x)))
    parts = []
    for first in range(0, k, at_once):
        z = q.sample(torch.Size([min(at_once, k - first)]))
        parts.append(
            log_likelihood(model.decode(z, label), x).double()
            + model.prior().log_prob(z).double()
            - q.log_prob(z).double()
        )
    return torch.cat(parts)


class _OfWeights:
    """A number that each image's weights give, gathered block by block."""

    def __init__(self, number: Callable[[Tensor], Tensor]):
        self.number = number
        self.values: list[Tensor] = []
        self.spreads: list[Spread] = []

    def add(self, log_w: Tensor) -> None:
        """Add a block of images with weights log_w (K, n)."""
        self.values.append(self.number(log_w))
        if len(log_w) > 1:
            self.spreads.append(spread(log_w, self.number))

    def measure(self, k: int, size: Tensor) -> Measure:
        """The number for all images, with effective sample sizes (N,), as an estimate of ln p."""
        variance = None
        if self.spreads:
            whole = Spread(*map(torch.cat, zip(*self.spreads, strict=True)))
            delta = (1 / size - 1 / k).clamp(min=0)
            variance = monte_carlo_variance(whole, delta, size).cpu()
        return Measure(
            torch.cat(self.values).cpu(),
            "nats",
            variance,
            facts={"k": k, **size_facts(size)},
            kind="estimate",
            likelihood="log_prob",
        )


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``iw``."""
    k = subject.importance_samples
    given = (subject.model, subject.x, subject.label)
    found = iw_measures(*given, k=k, on_images=subject.on_images, jackknife=True)
    missing = [name for name in NAMES if name not in found]
    return Evidence({**found}, absent=dict.fromkeys(missing, ONE_DRAW))
