"""The same encoder and mu(z) with other sigmas: is sigma a bad model of the pixels, or mu(z)?

All log quantities are nats per image, summed over pixels.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaexp.evaluation.measure import Evidence, Measure, Moments
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.absent import Absent, answered

IMAGES_PER_BLOCK = 500
NAMES = ("elbo_as_trained", "elbo_sigma_implied", "elbo_sigma_global", "elbo_sigma_pixel")


@torch.no_grad()
def rescored(
    model: VAE,
    x: Tensor,
    label: Tensor,
    train: Iterable[tuple[Tensor, Tensor]],
    *,
    beta: float,
    floor: float,
    draws: int = 8,
) -> Evidence:
    """The ELBO of test images x (N, D) as trained, and with sigma replaced.

    ``elbo_as_trained``; ``elbo_sigma_implied`` at sqrt(beta) sigma, where sigma is fixed;
    ``elbo_sigma_global`` and ``elbo_sigma_pixel`` at the best single sigma and the best sigma of
    each pixel, which are fitted to ``train``, blocks of images (n, D) and labels (n,), with one
    draw of z for each, and are not below ``floor``. All four have the same q(z|x) and the same
    ``draws`` of z, at least two: facts ``gain`` and ``gain_se`` are of the paired difference to
    elbo_as_trained. Facts sigma, sigma_min and sigma_max: its mean and ends, over pixels, and as
    trained over draws too. Array ``best_sigma_pixel`` (D,). Factors beside a sigma are left out
    with it. Absent where p(x|z) has no sigma, or no best one in closed form.
    """
    head, scale = model.likelihood, model.likelihood.scale
    if isinstance(scale, Absent):
        return Evidence(absent=dict.fromkeys(NAMES, scale.reason))
    absent: dict[str, str] = {}
    sigmas: dict[str, Tensor] = {}
    squares = mean_squared_error(model, train)
    implied = head.implied_sigma(beta)
    if isinstance(implied, Absent):
        absent["elbo_sigma_implied"] = implied.reason
    else:
        sigmas["implied"] = squares.new_tensor([implied])
    for name, shared in (("global", squares.mean(0, keepdim=True)), ("pixel", squares)):
        best = head.best_sigma(shared, floor)
        if isinstance(best, Absent):
            absent[f"elbo_sigma_{name}"] = best.reason
        else:
            sigmas[name] = best

    rows = [sigma.expand_as(squares) for sigma in sigmas.values()]
    table = torch.stack(rows) if rows else squares.new_empty(0, len(squares))
    values, variances, own_facts = _elbos(model, x, label, table, draws)
    beside: dict[str, Any] = {"kind": "lower_bound", "draws": draws}
    if scale.mode.learned:
        own_facts["sigma_floor"] = floor
    own = Measure(values[0], "nats", variances[0], facts=beside | own_facts, likelihood="derived")
    entries = {"elbo_as_trained": own}
    for row, (name, sigma) in enumerate(sigmas.items(), start=1):
        facts = _about(sigma) | _gain(values[row] - values[0])
        if name != "implied":
            facts |= {"sigma_floor": floor, "train_draws": 1}
        if name == "pixel":
            facts["pixels_at_floor"] = int((sigma <= floor).sum())
        entries[f"elbo_sigma_{name}"] = Measure(
            values[row], "nats", variances[row], facts=beside | facts, likelihood="derived"
        )
    arrays = {"best_sigma_pixel": sigmas["pixel"].cpu().numpy()} if "pixel" in sigmas else {}
    return Evidence({**entries}, arrays, absent)


@torch.no_grad()
def mean_squared_error(model: VAE, images: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """E (x - mu(z))^2 of each pixel, (D,) float64, over images and one draw z ~ q(z|x) of each.

    images: blocks of x (n, D) and label (n,), gone through once.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for block, labels in images:
        for x, label in _blocks(block, labels):
            error = x - model.decode(model.encode(x, label).sample(), label).mean
            total = total.to(x.device) + error.double().square().sum(0)
            count += len(x)
    return total / count


def _elbos(
    model: VAE, x: Tensor, label: Tensor, sigma: Tensor, draws: int
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """ELBO as trained and at each of sigma (S, D), (1 + S, N), and their variances over draws.

    Also the mean and the ends of sigma as trained.
    """
    values, variances, means, ends = [], [], [], []
    for xs, labels in _blocks(x, label):
        q = model.encode(xs, labels)
        moments = Moments()
        for _ in range(draws):
            p = model.decode(q.sample(), labels)
            # ln p(x|z) in float64: at sigma = 1e-3 it may be -4e6, where float32 errs by a nat
            p = p.double()
            others = answered(p.log_prob_at_sigmas(xs, sigma))
            moments.add(torch.cat([p.log_prob(xs.double())[:, None], others], 1))
            own = answered(p.sigma)
            means.append(own.mean() * len(xs))
            ends.append(torch.stack(own.aminmax()))
        in_double = Independent(Normal(q.mean.double(), q.stddev.double(), validate_args=False), 1)
        rate = kl_divergence(in_double, model.prior())
        values.append(moments.mean.T - rate)
        variances.append(moments.variance_of_mean().T)
    own_sigma = {
        "sigma": torch.stack(means).sum().item() / (draws * len(x)),
        "sigma_min": torch.stack(ends)[:, 0].min().item(),
        "sigma_max": torch.stack(ends)[:, 1].max().item(),
    }
    return torch.cat(values, 1).cpu(), torch.cat(variances, 1).cpu(), own_sigma


def _blocks(x: Tensor, label: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(x.split(IMAGES_PER_BLOCK), label.split(IMAGES_PER_BLOCK), strict=True)


def _about(sigma: Tensor) -> dict[str, Any]:
    return {
        "sigma": sigma.mean().item(),
        "sigma_min": sigma.min().item(),
        "sigma_max": sigma.max().item(),
    }


def _gain(difference: Tensor) -> dict[str, Any]:
    n = len(difference)
    se = difference.std().item() / math.sqrt(n) if n > 1 else None
    return {"gain": difference.mean().item(), "gain_se": se}


def measure(subject: Subject[VAE]) -> Evidence:
    """The group ``rescoring``."""
    return rescored(
        subject.model,
        subject.x,
        subject.label,
        subject.train(),
        beta=subject.beta,
        floor=subject.floor,
    )
