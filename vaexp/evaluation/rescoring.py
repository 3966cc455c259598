"""The ELBO of the same encoder and the same mu(z) with other sigmas.

It shows whether a low ELBO comes from sigma or from mu(z). Log quantities are in nats per image,
summed over pixels.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Evidence, Measure, RunningMean, tails_of
from vaexp.evaluation.statistics import standard_error
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods import Likelihood

DRAWS = 8  # of z for each test image
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
) -> Evidence:
    """The ELBO of test images x (N, D) with labels (N,), as trained and with other sigmas.

    ``elbo_as_trained`` is the ELBO itself. ``elbo_sigma_implied`` is at sqrt(beta) sigma if sigma
    is fixed. ``elbo_sigma_global`` is at the best single sigma, and ``elbo_sigma_pixel`` at the
    best sigma of each pixel. The best sigmas are fitted to ``train``, blocks of images (n, D) and
    labels (n,), with one draw of z for each image, and are at least ``floor``. Factors that stand
    beside a sigma are left out together with it.

    All four have the same q(z|x) and the same DRAWS draws of z. The facts ``gain`` and ``gain_se``
    are the mean and standard error of the paired difference to elbo_as_trained. The facts
    ``sigma``, ``sigma_min`` and ``sigma_max`` are the mean, smallest and largest sigma over pixels;
    as trained, also over draws. Array: ``best_sigma_pixel`` (D,). A measure is absent if p(x|z) has
    no sigma, or if its best sigma has no closed form.
    """
    scale = model.likelihood.scale
    if isinstance(scale, Absent):
        return Evidence(absent=dict.fromkeys(NAMES, scale.reason))
    squares = mean_squared_error(model, train)
    sigmas, absent = _other_sigmas(model.likelihood, squares, beta, floor)
    rows = [sigma.expand_as(squares) for sigma in sigmas.values()]
    table = torch.stack(rows) if rows else squares.new_empty(0, len(squares))
    values, variances, own_facts = _elbos(model, x, label, table)

    def elbo(row: int, facts: dict[str, Any]) -> Measure:
        facts = {"draws": DRAWS} | facts
        return Measure(
            values[row],
            "nats",
            variances[row],
            facts=facts,
            kind="lower_bound",
            likelihood="derived",
        )

    if scale.mode.learned:
        own_facts["sigma_floor"] = floor
    entries = {"elbo_as_trained": elbo(0, own_facts)}
    for row, (name, sigma) in enumerate(sigmas.items(), start=1):
        facts = _mean_and_ends(sigma) | _gain(values[row] - values[0])
        if name != "implied":
            facts |= {"sigma_floor": floor, "train_draws": 1}
        if name == "pixel":
            facts["pixels_at_floor"] = int((sigma <= floor).sum())
        entries[f"elbo_sigma_{name}"] = elbo(row, facts)
    arrays = {"best_sigma_pixel": sigmas["pixel"].cpu().numpy()} if "pixel" in sigmas else {}
    return Evidence({**entries}, arrays, absent)


def _other_sigmas(
    likelihood: Likelihood, squares: Tensor, beta: float, floor: float
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The sigmas to measure at, (1,) or (D,) by name, and which measures are absent and why.

    squares (D,): E (x - mu(z))^2 of each pixel.
    """
    sigmas: dict[str, Tensor] = {}
    absent: dict[str, str] = {}
    implied = likelihood.implied_sigma(beta)
    if isinstance(implied, Absent):
        absent["elbo_sigma_implied"] = implied.reason
    else:
        sigmas["implied"] = squares.new_tensor([implied])
    for name, shared in (("global", squares.mean(0, keepdim=True)), ("pixel", squares)):
        best = likelihood.best_sigma(shared, floor)
        if isinstance(best, Absent):
            absent[f"elbo_sigma_{name}"] = best.reason
        else:
            sigmas[name] = best
    return sigmas, absent


@torch.no_grad()
def mean_squared_error(model: VAE, images: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean of (x - mu(z))^2 for each pixel, (D,) float64, with one draw z ~ q(z|x) per image.

    ``images`` gives blocks of x (n, D) and label (n,), and is gone through once.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for block, labels in images:
        for x, label in blocks(block, labels):
            error = x - model.decode(model.encode(x, label).sample(), label).mean
            total = total.to(x.device) + error.double().square().sum(0)
            count += len(x)
    return total / count


def _elbos(
    model: VAE, x: Tensor, label: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The ELBO as trained and at each sigma (S, D), both (1 + S, N), and the variances over draws.

    Also returns the mean and the ends of sigma as trained, as facts.
    """
    values, variances, means, ends = [], [], [], []
    for xs, labels in blocks(x, label):
        q = model.encode(xs, labels)
        moments = RunningMean()
        for _ in range(DRAWS):
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
        "sigma": torch.stack(means).sum().item() / (DRAWS * len(x)),
        "sigma_min": torch.stack(ends)[:, 0].min().item(),
        "sigma_max": torch.stack(ends)[:, 1].max().item(),
    }
    return torch.cat(values, 1).cpu(), torch.cat(variances, 1).cpu(), own_sigma


def _mean_and_ends(sigma: Tensor) -> dict[str, Any]:
    """Facts of a sigma (1,) or (D,)."""
    return {
        "sigma": sigma.mean().item(),
        "sigma_min": sigma.min().item(),
        "sigma_max": sigma.max().item(),
    }


def _gain(difference: Tensor) -> dict[str, Any]:
    """Facts of the paired difference (N,) of an ELBO to the ELBO as trained."""
    facts = {"gain": difference.mean().item(), "gain_se": standard_error(difference)}
    return facts | tails_of(difference).facts("gain_")


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``rescoring``."""
    return rescored(
        subject.model,
        subject.x,
        subject.label,
        subject.train(),
        beta=subject.beta,
        floor=subject.floor,
    )
