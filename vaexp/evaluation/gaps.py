"""Why the ELBO lies below ln p(x): the family of q(z|x), or the encoder that has to find it.

    ln p(x) - ELBO = [ln p(x) - ELBO*] + [ELBO* - ELBO],

where ELBO* is that of the best q in the family of diagonal Gaussians, found for each image by
itself. The first bracket is the gap of approximation and the second that of amortisation (Cremer,
Li and Duvenaud 2018, Inference suboptimality in variational autoencoders, section 3). Letters in
shapes: N images, D pixels, L latents, S draws. Log quantities are in nats per image and float64.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from vaexp.evaluation.annealing import in_double
from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Evidence, Kind, Measure, RunningMean, log_mean
from vaexp.evaluation.quadrature import COARSEST, integrate
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE

NAMES = ("elbo_free", "amortisation_gap", "approximation_gap")
STEPS = 300  # of Adam for each image
RATE = 0.1  # its first step, in standard deviations of q(z|x); it falls to 0 linearly
PAIRS = 8  # of draws e and -e at each step
DRAWS = 256  # of z that the ELBOs are measured with
SAMPLES = 4096  # of z ~ q* for ln p(x), where there are more than two latents
ROWS_PER_BLOCK = 1024  # z that are decoded at once


class Posteriors(NamedTuple):
    """A diagonal Gaussian over z for each image, (N, L) each."""

    mean: Tensor
    scale: Tensor

    @property
    def q(self) -> Distribution:
        """The distribution: batch (N,), event (L,)."""
        return Independent(Normal(self.mean, self.scale, validate_args=False), 1)


def best_posteriors(model: VAE, x: Tensor, label: Tensor, start: Posteriors) -> Posteriors:
    """The diagonal Gaussians that maximise the ELBO of images x (N, D) with labels (N,).

    By STEPS steps of Adam from ``start``, on u and v with mean + scale u and scale e^v, where mean
    and scale are those of ``start``. Each step has PAIRS fresh pairs of draws of opposite sign, and
    the KL term is in closed form. The weights of the model need no gradients.
    """
    with torch.enable_grad():
        u, v = (torch.zeros_like(start.mean, requires_grad=True) for _ in range(2))
        optimizer = torch.optim.Adam([u, v], lr=RATE)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            found = Posteriors(start.mean + start.scale * u, start.scale * v.exp())
            half = torch.randn(PAIRS, *u.shape, dtype=u.dtype, device=u.device)
            z = found.mean + found.scale * torch.cat([half, -half])
            elbo = model.decode(z, label).log_prob(x).mean(0)
            elbo = elbo - kl_divergence(found.q, model.prior())
            optimizer.zero_grad()
            (-elbo.sum()).backward()
            optimizer.step()
    with torch.no_grad():
        return Posteriors(start.mean + start.scale * u, start.scale * v.exp())


def gaps(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    on_images: Callable[[int], None] = lambda _: None,
) -> Evidence:
    """``elbo_free``, ``amortisation_gap`` and ``approximation_gap`` of x (N, D), labels (N,).

    elbo_free is ELBO*, measured with DRAWS draws that were not used to find q*. amortisation_gap is
    ELBO* - ELBO with the same standard normal numbers for both. approximation_gap is
    ln p(x) - ELBO*. There ln p(x) is by quadrature for one or two latents, and else the
    importance-weighted bound with SAMPLES draws of q*, which is too low in expectation and the gap
    with it. The fact ``log_prob_by`` says which. Of a conditional model all are of x given the
    label. Either gap may come out a little below 0: by its Monte Carlo error, and as Adam stops
    short of q*.
    """
    model = in_double(model)
    parts = []
    for xs, labels in blocks(x.double(), label, rows=max(1, ROWS_PER_BLOCK // (2 * PAIRS))):
        parts.append(_block(model, xs, labels))
        on_images(len(xs))
    free, gain, of_free, of_gain, log_prob, of_log_prob = (
        torch.cat(part) for part in zip(*parts, strict=True)
    )
    facts: dict[str, Any] = {"draws": DRAWS, "steps": STEPS}
    by: dict[str, Any] = {"log_prob_by": "importance weights", "samples": SAMPLES}
    if model.latent_dim in COARSEST:
        exact = integrate(model, x, label)
        log_prob, of_log_prob = exact.log_prob.to(free), torch.zeros_like(free)
        by = {"log_prob_by": "quadrature", "unresolved": int((~exact.resolved).sum())}

    def measure(values: Tensor, variance: Tensor, kind: Kind, more: dict[str, Any]) -> Measure:
        facts_of = facts | more
        return Measure(
            values.cpu(), "nats", variance.cpu(), facts=facts_of, kind=kind, likelihood="derived"
        )

    entries = (
        measure(free, of_free, "lower_bound", {}),
        measure(gain, of_gain, "estimate", {}),
        measure(log_prob - free, of_log_prob + of_free, "estimate", by),
    )
    return Evidence(dict(zip(NAMES, entries, strict=True)))


def _block(model: VAE, x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    """ELBO*, its difference to the ELBO, the variances of both, ln p(x) and its variance, (N,)."""
    with torch.no_grad():
        encoded = model.encode(x, label)
        own = Posteriors(encoded.mean, encoded.stddev)
    free = best_posteriors(model, x, label, own)
    with torch.no_grad():
        moments = RunningMean()
        for _ in range(DRAWS):
            noise = torch.randn_like(own.mean)
            elbo_free, elbo = (
                model.decode(one.mean + one.scale * noise, label).log_prob(x)
                - kl_divergence(one.q, model.prior())
                for one in (free, own)
            )
            moments.add(torch.stack([elbo_free, elbo_free - elbo]))
        if model.latent_dim in COARSEST:  # then ln p(x) is by quadrature
            log_prob = variance = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        else:
            log_w = [_log_weights(model, x, label, free) for _ in range(SAMPLES // (2 * PAIRS))]
            log_prob, variance, _ = log_mean(torch.cat(log_w))
        return *moments.mean, *moments.variance_of_mean(), log_prob, variance


def _log_weights(model: VAE, x: Tensor, label: Tensor, free: Posteriors) -> Tensor:
    """ln p(x, z) / q*(z) of 2 PAIRS draws z ~ q* for each image, (S, N)."""
    z = free.q.sample(torch.Size([2 * PAIRS]))
    log_joint = model.decode(z, label).log_prob(x) + model.prior().log_prob(z)
    return log_joint - free.q.log_prob(z)


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``gaps``."""
    return gaps(subject.model, subject.x, subject.label, on_images=subject.on_images)
