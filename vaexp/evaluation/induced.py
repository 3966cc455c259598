"""The distribution that the training objective at beta != 1 belongs to.

p(x|z)^(1/beta) = Z(z) p_beta(x|z), where p_beta is normalised: of a Gaussian, N(mu(z), beta
sigma(z)^2). So objective / beta = E_q ln p(x|z) / beta - KL(q(z|x) to p(z)) is the ELBO of the
joint p(z) Z(z) p_beta(x|z) / C plus ln C, with C = E_p(z) Z(z). Given the label, Z and C depend on
it too. The objective is that of Higgins et al. 2017 (beta-VAE), equation 4.

Letters in shapes: N images, D pixels, L latents, C labels, G points of an axis. Nats, float64.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaexp.evaluation.measure import Estimate, Evidence, Measure, Moments, log_mean
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods import Likelihood

IMAGES_PER_BLOCK = 500
ROWS_PER_BLOCK = 1024  # latents decoded at once
PRIOR_SAMPLES = 10_000  # of z, for each label, where L > 2
AXIS = {1: 401, 2: 81}  # points of an axis of the tilted prior's grid, by L
NAMES = (
    "objective_over_beta",
    "induced_elbo",
    "induced_identity_error",
    "log_c",
    "implied_sigma",
    "induced_sigma",
)

NODES, WEIGHTS = map(torch.from_numpy, np.polynomial.legendre.leggauss(4))  # on [-1, 1]
TOLERANCE = 1e-6  # of the whole integral, that halving a cell may change
NEGLIGIBLE = 20.0  # nats below the whole integral
MAX_NODES = 200_000  # of one integral
MAX_WIDTH = 1.0  # of a cell that may be settled: the prior's standard deviation
SHOWN = 14.0  # nats below the whole integral, that cells of the grid's extent may be


@torch.no_grad()
def induced(model: VAE, x: Tensor, label: Tensor, *, beta: float, draws: int = 8) -> Evidence:
    """What the objective at ``beta`` is the ELBO of, on images x (N, D) with digits label (N,).

    With z ~ q(z|x), the same ``draws`` of them for all (at least two):
    ``objective_over_beta`` = E_q ln p(x|z) / beta - KL; ``induced_elbo``, the ELBO of the induced
    joint; ``induced_identity_error``, the largest |objective_over_beta - induced_elbo - ln C| of
    all images, the one from the model's own distributions and the other from their tempered ones;
    ``log_c``, averaged over the images' labels where the model is given them; ``induced_sigma``,
    sqrt(beta) sigma(z) averaged over draws and pixels, and ``implied_sigma``, the same number where
    sigma is fixed.

    Arrays: ``log_c_per_label`` (C,) of ``labels`` (C,), the ones there are in ``label``, or (1,)
    and none. Where L <= 2, ``grid`` (L, G), the points of each latent's axis, and ``tilted_prior``,
    ln [p(z) Z(z) / C] there, (G,) or (G, G) indexed [z_1, z_2], after (C,) where the model is given
    the label.
    """
    if beta == 0:
        return Evidence(absent=dict.fromkeys(NAMES, "beta is 0: the objective has no KL term"))
    exact = deepcopy(model).double()
    probe = exact.decode(exact.encode(x[:1].double(), label[:1]).mean, label[:1]).tempered(beta)
    if isinstance(probe, Absent):
        return Evidence(absent=dict.fromkeys(NAMES, probe.reason))
    labels, index = label.unique(return_inverse=True)
    if not model.conditional:
        labels, index = labels[:1], torch.zeros_like(index)
    normalisers = [log_normaliser(exact, y, beta, x.shape[1]) for y in labels]
    log_c = torch.tensor([one.log_value for one in normalisers], dtype=torch.float64)
    of_c = _together(normalisers, torch.bincount(index).double().cpu(), beta)

    objective, of_induced, *sigma = _terms(exact, x.double(), label, beta, draws)
    elbo = of_induced.values - log_c[index.cpu()]
    error = (objective.values - of_induced.values).abs().max().item()
    facts = objective.facts | _error_beside(of_c)
    facts["of"] = f"x{' given label' if model.conditional else ''}, in the induced joint"
    if of_c.facts["method"] != "monte_carlo":  # which makes ln C too low, and the ELBO too high
        facts["kind"] = "lower_bound"
    of_sigma, absent, beside = _sigmas(model.likelihood, beta, len(x), sigma)
    facts |= beside
    entries: dict[str, Measure | Estimate] = {
        "objective_over_beta": objective,
        "induced_elbo": replace(of_induced, values=elbo, facts=facts, scope="same_x"),
        "induced_identity_error": Estimate(error, "nats", len(x), facts={"draws": draws}),
        "log_c": of_c,
        **of_sigma,
    }

    arrays = {"log_c_per_label": log_c.numpy()}
    if model.conditional:
        arrays["labels"] = labels.cpu().numpy()
    if model.latent_dim in AXIS:
        grid = _grid(normalisers, model.latent_dim)
        tilted = [
            tilted_prior(exact, y, beta, grid) - one.log_value
            for y, one in zip(labels, normalisers, strict=True)
        ]
        arrays["grid"] = grid.numpy()
        arrays["tilted_prior"] = (torch.stack(tilted) if model.conditional else tilted[0]).numpy()
    return Evidence(entries, arrays, absent)


def _sigmas(
    head: Likelihood, beta: float, images: int, induced_sigma: list[Measure]
) -> tuple[dict[str, Measure | Estimate], dict[str, str], dict[str, float]]:
    """``induced_sigma`` and ``implied_sigma``, which are absent, and what stands beside a bound."""
    scale = head.scale
    if isinstance(scale, Absent):
        return {}, dict.fromkeys(("implied_sigma", "induced_sigma"), scale.reason), {}
    entries: dict[str, Measure | Estimate] = {"induced_sigma": induced_sigma[0]}
    if scale.mode.learned:
        why = "sigma is learned, so beta is more than a choice of it"
        return entries, {"implied_sigma": why}, {"sigma_floor": math.sqrt(beta) * scale.least}
    implied = head.implied_sigma(beta)
    if isinstance(implied, Absent):
        beside = {"sigma": math.sqrt(beta) * scale.least}
        return entries, {"implied_sigma": implied.reason}, beside
    entries["implied_sigma"] = Estimate(implied, "units of x", images, facts={"beta": beta})
    return entries, {}, {"sigma": implied}


@torch.no_grad()
def tilted_prior(model: VAE, label: Tensor, beta: float, grid: Tensor) -> Tensor:
    """Ln p(z) + ln Z(z) at the points of grid (L, G): (G,) at L = 1, (G, G) at L = 2.

    label (): the one that is given, which only a conditional model looks at.
    """
    values = _log_tilted(model, label, beta, torch.cartesian_prod(*grid).reshape(-1, len(grid)))
    return values.reshape([grid.shape[1]] * len(grid))


def _log_tilted(model: VAE, label: Tensor, beta: float, z: Tensor) -> Tensor:
    """Ln p(z) + ln Z(z), (n,), of latents z (n, L), on the CPU."""
    prior = Independent(Normal(torch.zeros_like(z), 1, validate_args=False), 1)
    return prior.log_prob(z) + _log_z_at(model, label, beta, z)


def _log_z_at(model: VAE, label: Tensor, beta: float, z: Tensor) -> Tensor:
    """Ln Z(z), (n,), of latents z (n, L), on the CPU."""
    if _z_is_constant(model, beta) and len(z) > 1:
        return _log_z_at(model, label, beta, z[:1]).expand(len(z))
    rows = z.to(label.device).split(ROWS_PER_BLOCK)
    return torch.cat([_log_z(model, row, label, beta) for row in rows]).cpu()


def _log_z(model: VAE, z: Tensor, label: Tensor, beta: float) -> Tensor:
    """Ln Z(z), (n,), of a block of latents z (n, L)."""
    return answered(model.decode(z, label.expand(len(z))).tempered(beta)).log_z


def _z_is_constant(model: VAE, beta: float) -> bool:
    """Whether Z(z) is the same for all z."""
    return beta == 1 or model.likelihood.constant_log_z


class Normaliser(NamedTuple):
    """Ln C given one label, and how far from the truth it can be."""

    log_value: float
    method: str
    """constant (Z is the same for all z, so that C = Z is exact), quadrature or monte_carlo."""
    error: float = 0.0
    """Of the quadrature, nats: what halving each cell changed."""
    variance: float = 0.0
    """Of the Monte Carlo estimate, nats squared."""
    effective_samples: float = math.inf
    extent: Tensor | None = None
    """(2, L): the ends of the box that holds nearly all of p(z) Z(z) / C."""


@torch.no_grad()
def log_normaliser(model: VAE, label: Tensor, beta: float, data_dim: int) -> Normaliser:
    """Ln C = ln E_p(z) Z(z), given one label (). data_dim: D.

    Exact where Z does not depend on z; by quadrature where L <= 2; else by ``PRIOR_SAMPLES`` draws
    of p(z), of which few may come near the largest Z. The quadrature reaches so far that beyond it
    p(z) Z(z) < p(0) Z(0) unless sigma(z) differs from sigma(0) by more than a factor of e^10.
    """
    latents = model.latent_dim
    if _z_is_constant(model, beta):
        origin = torch.zeros(1, latents, dtype=torch.float64)
        return Normaliser(_log_z_at(model, label, beta, origin).item(), "constant")
    if latents in AXIS:
        reach = 5 + math.sqrt(20 * data_dim * abs(1 - 1 / beta))
        found = integrate(lambda z: _log_tilted(model, label, beta, z), latents, reach)
        error = math.log1p(found.error)
        return Normaliser(found.log_value, "quadrature", error, extent=found.extent)
    z = torch.randn(PRIOR_SAMPLES, latents, dtype=torch.float64)
    log_value, variance, size = (one.item() for one in log_mean(_log_z_at(model, label, beta, z)))
    return Normaliser(log_value, "monte_carlo", variance=variance, effective_samples=size)


class Integral(NamedTuple):
    """An integral over R^L by adaptive quadrature."""

    log_value: float
    error: float
    """Relative: the sum of what halving each cell for the last time changed."""
    extent: Tensor
    """(2, L): the ends of the box that holds the cells within SHOWN nats of the integral."""


def integrate(log_f: Callable[[Tensor], Tensor], latents: int, reach: float) -> Integral:
    """Ln of the integral of f over [-reach, reach]^L, L = ``latents`` being 1 or 2.

    log_f: (n, L) points to ln f (n,). Cells with 4 Gauss-Legendre nodes for each axis, narrow at
    the origin and twice as wide as their neighbour towards it, are halved along each axis until
    that no longer changes the integral, or MAX_NODES are spent. Cells far below the rest are left
    alone: how far is ``NEGLIGIBLE`` nats and, for wide ones, what a peak as narrow as the prior's
    could lose between two nodes.
    """
    nodes = torch.cartesian_prod(*[NODES] * latents)
    nodes = (1 + nodes.reshape(-1, latents)) / 2
    weight = torch.cartesian_prod(*[WEIGHTS] * latents)
    log_weight = (weight.reshape(-1, latents) / 2).log().sum(1)
    halves = torch.cartesian_prod(*[torch.tensor([0.0, 0.5], dtype=torch.float64)] * latents)
    halves = halves.reshape(-1, latents)

    def log_mass(low: Tensor, width: Tensor) -> Tensor:
        points = low[:, None] + width[:, None] * nodes
        values = log_f(points.reshape(-1, latents)).cpu().reshape(len(low), -1)
        return (values + log_weight).logsumexp(1) + width.log().sum(1)

    doublings = max(1, math.ceil(math.log2(reach)))
    right = reach * 2.0 ** torch.arange(-doublings, 1, dtype=torch.float64)
    edges = torch.cat([-right.flip(0), torch.zeros(1, dtype=torch.float64), right])
    low = torch.cartesian_prod(*[edges[:-1]] * latents).reshape(-1, latents)
    width = torch.cartesian_prod(*[edges.diff()] * latents).reshape(-1, latents)
    mass = log_mass(low, width)
    log_change = mass.clone()  # of each cell, when it was last halved; before, all it has
    settled = torch.zeros(len(mass), dtype=torch.bool)
    spent = len(mass) * len(nodes)
    while True:
        total = mass.logsumexp(0)
        depth = NEGLIGIBLE + 0.1 * width.amax(1).square()
        chosen = ~settled & (mass > total - depth)
        spent += int(chosen.sum()) * len(halves) * len(nodes)
        if not chosen.any() or spent > MAX_NODES:
            break
        halved = width[chosen, None] / 2
        lows = low[chosen, None] + width[chosen, None] * halves
        children = log_mass(lows.reshape(-1, latents), halved.expand_as(lows).reshape(-1, latents))
        children = children.reshape(-1, len(halves))
        gap = (children.logsumexp(1) - mass[chosen]).abs()
        change = torch.maximum(children.logsumexp(1), mass[chosen]) + (-torch.expm1(-gap)).log()
        done = (change < total + math.log(TOLERANCE)) & (width[chosen].amax(1) <= 2 * MAX_WIDTH)
        count = len(halves)
        keep = ~chosen
        low = torch.cat([low[keep], lows.reshape(-1, latents)])
        width = torch.cat([width[keep], halved.expand_as(lows).reshape(-1, latents)])
        mass = torch.cat([mass[keep], children.reshape(-1)])
        # a parent's change is its children's, by mass: where its nodes hit a peak by chance, that
        # is the error of the child with the peak, and gone when that one is halved in turn
        shared = (change[:, None] + children - children.logsumexp(1, keepdim=True)).reshape(-1)
        log_change = torch.cat([log_change[keep], shared])
        settled = torch.cat([settled[keep], done.repeat_interleave(count)])
    shown = mass > total - SHOWN
    extent = torch.stack([low[shown].amin(0), (low + width)[shown].amax(0)])
    error = (log_change.logsumexp(0) - total).exp().item()
    return Integral(total.item(), error, extent)


def _terms(model: VAE, x: Tensor, label: Tensor, beta: float, draws: int) -> list[Measure]:
    """``objective_over_beta``, ``induced_elbo`` + ln C and, of a Gaussian, ``induced_sigma``."""
    means, variances = [], []
    blocks = zip(x.split(IMAGES_PER_BLOCK), label.split(IMAGES_PER_BLOCK), strict=True)
    for xs, labels in blocks:
        q = model.encode(xs, labels)
        rate = kl_divergence(q, model.prior())
        # the other side of the identity has its own KL, as it has its own likelihood
        own_rate = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
        moments = Moments()
        for _ in range(draws):
            p = model.decode(q.sample(), labels)
            p_beta, log_z = answered(p.tempered(beta))
            terms = [p.log_prob(xs) / beta - rate, p_beta.log_prob(xs) + log_z - own_rate]
            if model.has_sigma:
                terms.append(answered(p_beta.sigma).mean(-1))
            moments.add(torch.stack(terms))
        means.append(moments.mean.cpu())
        variances.append(moments.variance_of_mean().cpu())
    values, spread = torch.cat(means, 1), torch.cat(variances, 1)
    beside: dict[str, Any] = {"beta": beta, "draws": draws}
    bound = beside | {"kind": "estimate"}
    measures = [
        Measure(
            values[i], "nats", spread[i], facts=bound, likelihood="derived", scope="same_objective"
        )
        for i in range(2)
    ]
    if model.has_sigma:
        measures.append(Measure(values[2], "units of x", spread[2], facts=beside))
    return measures


def _together(normalisers: list[Normaliser], count: Tensor, beta: float) -> Estimate:
    """``log_c``: the mean over images, ``count`` (C,) of each label."""
    share = count / count.sum()

    def mean(values: list[float]) -> float:
        return (share @ torch.tensor(values, dtype=torch.float64)).item()

    method = normalisers[0].method
    facts: dict[str, Any] = {"beta": beta, "method": method, "kind": "estimate"}
    se = None
    match method:
        case "constant":
            facts["kind"] = "exact"
        case "quadrature":
            facts["quadrature_error"] = mean([one.error for one in normalisers])
        case _:
            variance = torch.tensor([one.variance for one in normalisers], dtype=torch.float64)
            se = (share.square() @ variance).sqrt().item()
            size = min(one.effective_samples for one in normalisers)
            facts |= {"samples": PRIOR_SAMPLES, "over": "draws", "effective_samples": size}
    value = mean([one.log_value for one in normalisers])
    return Estimate(value, "nats", int(count.sum()), se, facts=facts)


def _error_beside(of_c: Estimate) -> dict[str, Any]:
    """The error of ln C: the same for all images, so no part of se and mc_se of their mean."""
    if of_c.facts["method"] == "constant":
        return {}
    if of_c.facts["method"] == "quadrature":
        return {"log_c_error": of_c.facts["quadrature_error"]}
    return {"log_c_se": of_c.se, "effective_samples": of_c.facts["effective_samples"]}


def _grid(normalisers: list[Normaliser], latents: int) -> Tensor:
    """(L, G): the points of each axis, over all labels' extents and the prior's +-4."""
    prior = torch.tensor([[-4.0], [4.0]], dtype=torch.float64).expand(2, latents)
    ends = torch.stack([prior, *(one.extent for one in normalisers if one.extent is not None)])
    low, high = ends[:, 0].amin(0), ends[:, 1].amax(0)
    share = torch.linspace(0, 1, AXIS[latents], dtype=torch.float64)
    return low[:, None] + (high - low)[:, None] * share


def measure(subject: Subject[VAE]) -> Evidence:
    """The group ``induced``."""
    return induced(subject.model, subject.x, subject.label, beta=subject.beta)
