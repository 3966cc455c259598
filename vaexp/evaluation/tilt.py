"""How far the tilted prior p~(z) = p(z) Z(z) / C of ``induced`` is from p(z) and from q(z).

q(z) = (1/N) sum_n q(z|x_n) is the aggregated posterior. With C = E_p(z) Z(z),

    KL(p~(z) to p(z)) = E_p~ ln Z(z) - ln C = E_p (Z/C) ln(Z/C),
    KL(q(z) to p~(z)) = KL(q(z) to p(z)) - E_q(z) ln Z(z) + ln C,

each by its definition. A model that is given the label has a p~(z) and a q(z) for each label, and
the KLs are averaged over the labels of the images. Log quantities are in nats and float64.
"""

import math
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vaexp.evaluation import induced as of_beta
from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.induced import (
    Normaliser,
    log_normaliser,
    log_z_at,
    quadrature_of,
    reach_of,
    z_is_constant,
)
from vaexp.evaluation.integral import integrate
from vaexp.evaluation.latent_use import index_information, kl_to_standard_normal
from vaexp.evaluation.measure import Estimate, Evidence, Kind, Measure, RunningMean, log_mean, merge
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.absent import Absent

DRAWS = 4  # of z for each image
IN_SIGHT = 60.0  # nats below the largest p(z) Z(z): what lies further below adds nothing
TILTED, AGGREGATE = "kl_tilted_prior_to_prior", "kl_aggregate_to_tilted_prior"
NAMES = (*of_beta.NAMES, TILTED, AGGREGATE)


class Tilt(NamedTuple):
    """KL(p~ to p) and ln C given one label, and how far from the truth they may be."""

    kl: float
    normaliser: Normaliser
    error: float = 0.0
    """The error of the quadrature of the KL, in nats."""
    variance: float = 0.0
    """The variance of the Monte Carlo estimate of the KL, in nats squared."""


@torch.no_grad()
def tilt(model: VAE, label: Tensor, beta: float, data_dim: int) -> Tilt:
    """KL(p~ to p) of a float64 model given one label (), as ``log_normaliser`` finds ln C.

    Where Z is a constant it is 0. For L <= 2 it is m - ln C - E_p~ (m - ln Z), with m the largest
    ln Z in sight, so that both integrands are positive. Else the PRIOR_SAMPLES draws of p(z) are
    weighted with Z, which is too low where no draw comes near the largest Z; the variance follows
    from the influence of each draw, w (ln Z - E_p~ ln Z - 1) + 1 with w = Z/C (delta method).
    """
    if z_is_constant(model, beta):
        return Tilt(0.0, log_normaliser(model, label, beta, data_dim))
    latents = model.latent_dim
    if latents not in of_beta.AXIS:
        log_z = log_z_at(model, label, beta, torch.randn(of_beta.PRIOR_SAMPLES, latents).double())
        log_c, variance, size = (one.item() for one in log_mean(log_z))
        weight = (log_z - log_c).exp()
        mean = (weight * log_z).mean().item()
        influence = weight * (log_z - mean - 1) + 1
        of_kl = (influence.var() / len(log_z)).item()
        of_c = Normaliser(log_c, "monte_carlo", variance=variance, effective_samples=size)
        return Tilt(mean - log_c, of_c, variance=of_kl)
    seen: list[Tensor] = []

    def log_tilted(z: Tensor) -> tuple[Tensor, Tensor]:
        prior = Independent(Normal(torch.zeros_like(z), 1, validate_args=False), 1)
        log_z = log_z_at(model, label, beta, z)
        return prior.log_prob(z) + log_z, log_z

    def noted(z: Tensor) -> Tensor:
        seen.append(torch.stack(log_tilted(z)))
        return seen[-1][0]

    reach = reach_of(data_dim, beta)
    whole = integrate(noted, latents, reach)
    joint, log_z = torch.cat(seen, 1)
    largest = log_z[joint > joint.max() - IN_SIGHT].max()

    def below(z: Tensor) -> Tensor:
        joint, log_z = log_tilted(z)
        return joint + (largest - log_z).clamp(min=1e-300).log()

    part = integrate(below, latents, reach)
    distance = math.exp(part.log_value - whole.log_value)
    error = distance * (part.error + whole.error) + whole.error
    kl = largest.item() - distance - whole.log_value
    return Tilt(kl, quadrature_of(whole), error)


@torch.no_grad()
def tilts(
    model: VAE, x: Tensor, label: Tensor, *, beta: float
) -> tuple[Evidence, list[Normaliser]]:
    """The two KLs of ``NAMES``, of images x (N, D) with labels (N,), and ln C for each label.

    In a model that is given the label, both are means over the labels of the images: of KL(p~ to p)
    given y, and of KL(q(z|y) to p~(z|y)). The second has a value for each image,
    KL(q(z|x) to p) - [ln q(z|x) - ln q(z)] - ln Z(z) + ln C over DRAWS draws z ~ q(z|x), whose mean
    it is. Its Monte Carlo error is that of the draws. The error of ln C, which all images of a
    label share, is a fact.
    """
    if beta == 0:
        return Evidence(absent=dict.fromkeys((TILTED, AGGREGATE), "beta is 0: no KL term")), []
    exact = deepcopy(model).double()
    probe = exact.decode(exact.encode(x[:1].double(), label[:1]).mean, label[:1]).tempered(beta)
    if isinstance(probe, Absent):
        return Evidence(absent=dict.fromkeys((TILTED, AGGREGATE), probe.reason)), []
    labels = label.unique() if model.conditional else label[:1]
    values = x.new_empty(len(x), dtype=torch.float64)
    variance, influence = torch.empty_like(values), torch.empty_like(values)
    found, shares = [], []
    for one in labels:
        rows = (label == one).nonzero()[:, 0] if model.conditional else torch.arange(len(x))
        of_label = tilt(exact, one, beta, x.shape[1])
        terms = _to_tilted(exact, x[rows], one, beta, of_label.normaliser.log_value)
        values[rows], variance[rows], influence[rows] = (part.to(values) for part in terms)
        found.append(of_label)
        shares.append(len(rows) / len(x))
    facts = {"beta": beta, **_error_facts(found, shares)}
    kind: Kind = "exact" if found[0].normaliser.method == "constant" else "estimate"
    se = None
    if found[0].normaliser.method == "monte_carlo":
        se = math.sqrt(sum(s**2 * t.variance for s, t in zip(shares, found, strict=True)))
    kl = sum(s * t.kl for s, t in zip(shares, found, strict=True))
    aggregate = Measure(
        values.cpu(),
        "nats",
        variance.cpu(),
        facts=facts | {"draws": DRAWS},
        kind="estimate",
        scope="same_objective",
        influence=influence.cpu(),
    )
    over = {} if se is None else {"over": "draws", "samples": of_beta.PRIOR_SAMPLES}
    tilted = Estimate(kl, "nats", len(x), se, facts=facts | over, kind=kind, scope="same_objective")
    return Evidence({TILTED: tilted, AGGREGATE: aggregate}), [one.normaliser for one in found]


def _error_facts(found: list[Tilt], shares: list[float]) -> dict[str, Any]:
    """What the entries say of the method, and of the errors that all images share."""
    facts: dict[str, Any] = {"method": found[0].normaliser.method}
    if found[0].normaliser.method == "quadrature":
        facts["quadrature_error"] = sum(s * t.error for s, t in zip(shares, found, strict=True))
    if found[0].normaliser.method == "monte_carlo":
        squares = (s**2 * t.normaliser.variance for s, t in zip(shares, found, strict=True))
        facts["log_c_se"] = math.sqrt(sum(squares))
        facts["effective_samples"] = min(one.normaliser.effective_samples for one in found)
    return facts


def _to_tilted(
    model: VAE, x: Tensor, label: Tensor, beta: float, log_c: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The terms of KL(q(z) to p~(z)) of images x (n, D) that share a label (), (n,) each.

    Also their variances over draws, and how much their mean would change with each image.
    """
    parts = [model.encode(xs.double(), label.expand(len(xs))) for (xs,) in blocks(x)]
    mean, scale = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "stddev")
    )
    rate = kl_to_standard_normal(mean, scale).sum(1)
    information = index_information(mean, scale, DRAWS)
    assert information.variance is not None
    moments = RunningMean()
    for _ in range(DRAWS):
        z = mean + scale * torch.randn_like(mean)
        moments.add(log_z_at(model, label, beta, z).to(mean))
    rest = rate - moments.mean + log_c
    return (
        rest - information.values,
        information.variance + moments.variance_of_mean(),
        rest - information.influence,
    )


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``induced``."""
    model, x, label = subject.model, subject.x, subject.label
    tilted, normalisers = tilts(model, x, label, beta=subject.beta)
    induced = of_beta.induced(model, x, label, beta=subject.beta, normalisers=normalisers or None)
    return merge([induced, tilted])
