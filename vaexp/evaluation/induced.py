"""The distribution whose ELBO is maximised by training at beta != 1.

p(x|z)^(1/beta) = Z(z) p_beta(x|z), where p_beta is normalised. For a Gaussian, p_beta is
N(mu(z), beta sigma(z)^2). Therefore objective / beta = E_q ln p(x|z) / beta - KL(q(z|x) to p(z)) is
the ELBO of the joint p(z) Z(z) p_beta(x|z) / C, plus ln C with C = E_p(z) Z(z). In a model that is
given the label, Z and C depend on the label too. The objective is that of Higgins et al. 2017
(beta-VAE), equation 4.

Letters in shapes: N images, D pixels, L latents, C labels, G points of an axis. Log quantities are
in nats and float64.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal, NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.integral import Integral, integrate
from vaexp.evaluation.measure import (
    Arrays,
    Estimate,
    Evidence,
    Kind,
    Measure,
    RunningMean,
    log_mean,
    merge,
)
from vaexp.models import VAE
from vaexp.models.absent import Absent, answered
from vaexp.models.likelihoods import Likelihood

DRAWS = 8  # of z for each image
ROWS_PER_BLOCK = 1024  # latents that are decoded at once
PRIOR_SAMPLES = 10_000  # draws of z that estimate ln C of one label, where L > 2
AXIS = {1: 401, 2: 81}  # L -> the points on each axis of the tilted prior's grid
NAMES = (
    "objective_over_beta",
    "induced_elbo",
    "induced_identity_error",
    "log_c",
    "implied_sigma",
    "induced_sigma",
)


@torch.no_grad()
def induced(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    beta: float,
    normalisers: Sequence["Normaliser"] | None = None,
) -> Evidence:
    """What the objective at ``beta`` is the ELBO of, on images x (N, D) with labels (N,).

    All entries use the same DRAWS draws z ~ q(z|x). ``objective_over_beta`` is
    E_q ln p(x|z) / beta - KL, and ``induced_elbo`` the ELBO of the induced joint. Their difference
    is ln C. ``induced_identity_error`` is the largest |objective_over_beta - induced_elbo - ln C|
    of all images: the first comes from the model's own distributions, the second from the tempered
    ones. ``log_c`` is ln C, averaged over the labels of the images if the model is given the label.
    ``induced_sigma`` is sqrt(beta) sigma(z), averaged over draws and pixels, and ``implied_sigma``
    is the same number for a fixed sigma.

    ``normalisers`` are those of the labels that occur, in ascending order, where they are known.

    Arrays: ``log_c_per_label`` (C,) of the ``labels`` (C,) that occur in ``label``, or (1,) without
    labels. If L <= 2, also ``grid`` (L, G), the points of the axis of each latent, and
    ``tilted_prior``, ln [p(z) Z(z) / C] at the grid points. That is (G,), or (G, G) indexed
    [z_1, z_2]; if the model is given the label, (C,) comes before.
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
    if normalisers is None:
        normalisers = [log_normaliser(exact, y, beta, x.shape[1]) for y in labels]
    log_c = torch.tensor([one.log_value for one in normalisers], dtype=torch.float64)
    mean_log_c = _mean_log_c(normalisers, torch.bincount(index).double().cpu(), beta)

    method = normalisers[0].method
    objective, unnormalised, *sigma = _terms(exact, x.double(), label, beta)
    error = (objective.values - unnormalised.values).abs().max().item()
    sigmas, of_sigma = _sigmas(model.likelihood, beta, len(x), sigma)
    of = f"x{' given label' if model.conditional else ''}, in the induced joint"
    elbo = replace(
        unnormalised,
        values=unnormalised.values - log_c[index.cpu()],
        facts=objective.facts | error_of_log_c(mean_log_c, method) | {"of": of} | of_sigma,
        scope="same_x",
        # a Monte Carlo estimate of ln C is too low, which makes the ELBO too high
        kind="estimate" if method == "monte_carlo" else "lower_bound",
    )
    entries: dict[str, Measure | Estimate] = {
        "objective_over_beta": objective,
        "induced_elbo": elbo,
        "induced_identity_error": Estimate(error, "nats", len(x), facts={"draws": DRAWS}),
        "log_c": mean_log_c,
    }
    return merge([Evidence(entries, _arrays(exact, labels, beta, normalisers)), sigmas])


def _arrays(model: VAE, labels: Tensor, beta: float, normalisers: Sequence["Normaliser"]) -> Arrays:
    """The arrays of ``induced``, for ``labels`` (C,) or, without labels, for the first of them."""
    arrays = {"log_c_per_label": np.array([one.log_value for one in normalisers])}
    if model.conditional:
        arrays["labels"] = labels.cpu().numpy()
    if model.latent_dim not in AXIS:
        return arrays
    grid = _grid(normalisers, model.latent_dim)
    tilted = [
        tilted_prior(model, label, beta, grid) - one.log_value
        for label, one in zip(labels, normalisers, strict=True)
    ]
    values = torch.stack(tilted) if model.conditional else tilted[0]
    return arrays | {"grid": grid.numpy(), "tilted_prior": values.numpy()}


def _sigmas(
    head: Likelihood, beta: float, images: int, induced_sigma: list[Measure]
) -> tuple[Evidence, dict[str, float]]:
    """``induced_sigma`` and ``implied_sigma``, and the facts of sigma that a bound must state."""
    scale = head.scale
    if isinstance(scale, Absent):
        names = ("implied_sigma", "induced_sigma")
        return Evidence(absent=dict.fromkeys(names, scale.reason)), {}
    entries: dict[str, Measure | Estimate] = {"induced_sigma": induced_sigma[0]}
    if scale.mode.learned:
        why = "sigma is learned, so beta is more than a choice of it"
        floor = math.sqrt(beta) * scale.least
        return Evidence(entries, absent={"implied_sigma": why}), {"sigma_floor": floor}
    implied = head.implied_sigma(beta)
    if isinstance(implied, Absent):
        absent = {"implied_sigma": implied.reason}
        return Evidence(entries, absent=absent), {"sigma": math.sqrt(beta) * scale.least}
    entries["implied_sigma"] = Estimate(implied, "units of x", images, facts={"beta": beta})
    return Evidence(entries), {"sigma": implied}


@torch.no_grad()
def tilted_prior(model: VAE, label: Tensor, beta: float, grid: Tensor) -> Tensor:
    """ln p(z) + ln Z(z) at the points of grid (L, G): (G,) if L = 1, (G, G) if L = 2.

    Only a conditional model uses the label ().
    """
    values = _log_tilted(model, label, beta, torch.cartesian_prod(*grid).reshape(-1, len(grid)))
    return values.reshape([grid.shape[1]] * len(grid))


def _log_tilted(model: VAE, label: Tensor, beta: float, z: Tensor) -> Tensor:
    """ln p(z) + ln Z(z) at latents z (n, L), (n,) on the CPU."""
    prior = Independent(Normal(torch.zeros_like(z), 1, validate_args=False), 1)
    return prior.log_prob(z) + log_z_at(model, label, beta, z)


def log_z_at(model: VAE, label: Tensor, beta: float, z: Tensor) -> Tensor:
    """ln Z(z) at latents z (n, L), (n,) on the CPU."""
    if z_is_constant(model, beta) and len(z) > 1:
        return log_z_at(model, label, beta, z[:1]).expand(len(z))
    rows = z.to(label.device).split(ROWS_PER_BLOCK)
    return torch.cat([_log_z(model, row, label, beta) for row in rows]).cpu()


def _log_z(model: VAE, z: Tensor, label: Tensor, beta: float) -> Tensor:
    """ln Z(z) at one block of latents z (n, L), (n,)."""
    return answered(model.log_z(z, label.expand(len(z)), beta))


def z_is_constant(model: VAE, beta: float) -> bool:
    """Whether Z(z) has the same value for all z."""
    return beta == 1 or model.likelihood.constant_log_z


Method = Literal["constant", "quadrature", "monte_carlo"]
"""How ln C is computed. It is exact if it is constant: Z has the same value C for all z."""


class Normaliser(NamedTuple):
    """ln C given one label, and how far from the truth it may be."""

    log_value: float
    method: Method
    error: float = 0.0
    """The error of the quadrature, in nats: what halving each cell changed."""
    variance: float = 0.0
    """The variance of the Monte Carlo estimate, in nats squared."""
    effective_samples: float = math.inf
    extent: Tensor | None = None
    """The ends of the box that holds nearly all of p(z) Z(z) / C, (2, L)."""


@torch.no_grad()
def log_normaliser(model: VAE, label: Tensor, beta: float, data_dim: int) -> Normaliser:
    """ln C = ln E_p(z) Z(z), given one label (). data_dim is D.

    It is exact if Z does not depend on z. If L <= 2 it is computed by quadrature, over a range
    beyond which p(z) Z(z) < p(0) Z(0) unless sigma(z) differs from sigma(0) by more than a factor
    of e^10. Else it is estimated from PRIOR_SAMPLES draws of p(z), of which only a few may come
    near the largest Z.
    """
    latents = model.latent_dim
    if z_is_constant(model, beta):
        origin = torch.zeros(1, latents, dtype=torch.float64)
        return Normaliser(log_z_at(model, label, beta, origin).item(), "constant")
    if latents in AXIS:
        reach = reach_of(data_dim, beta)
        integral = integrate(lambda z: _log_tilted(model, label, beta, z), latents, reach)
        return quadrature_of(integral)
    z = torch.randn(PRIOR_SAMPLES, latents, dtype=torch.float64)
    log_value, variance, size = (one.item() for one in log_mean(log_z_at(model, label, beta, z)))
    return Normaliser(log_value, "monte_carlo", variance=variance, effective_samples=size)


def quadrature_of(integral: Integral) -> Normaliser:
    """ln C from the integral of p(z) Z(z)."""
    error = math.log1p(integral.error)
    return Normaliser(integral.log_value, "quadrature", error, extent=integral.extent)


def reach_of(data_dim: int, beta: float) -> float:
    """How far from the origin p(z) Z(z) is integrated, for images of D = ``data_dim`` pixels."""
    return 5 + math.sqrt(20 * data_dim * abs(1 - 1 / beta))


def _terms(model: VAE, x: Tensor, label: Tensor, beta: float) -> list[Measure]:
    """``objective_over_beta``, ``induced_elbo`` + ln C and, if there is one, ``induced_sigma``."""
    means, variances = [], []
    for xs, labels in blocks(x, label):
        q = model.encode(xs, labels)
        rate = kl_divergence(q, model.prior())
        # computed again, so that the two sides of the identity have nothing in common
        own_rate = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
        moments = RunningMean()
        for _ in range(DRAWS):
            p = model.decode(q.sample(), labels)
            p_beta, log_z = answered(p.tempered(beta))
            terms = [p.log_prob(xs) / beta - rate, p_beta.log_prob(xs) + log_z - own_rate]
            if model.has_sigma:
                terms.append(answered(p_beta.sigma).mean(-1))
            moments.add(torch.stack(terms))
        means.append(moments.mean.cpu())
        variances.append(moments.variance_of_mean().cpu())
    values, spread = torch.cat(means, 1), torch.cat(variances, 1)
    facts: dict[str, Any] = {"beta": beta, "draws": DRAWS}
    measures = [
        Measure(
            values[i],
            "nats",
            spread[i],
            facts=facts,
            kind="estimate",
            likelihood="derived",
            scope="same_objective",
        )
        for i in range(2)
    ]
    if model.has_sigma:
        measures.append(Measure(values[2], "units of x", spread[2], facts=facts))
    return measures


def _mean_log_c(normalisers: Sequence[Normaliser], count: Tensor, beta: float) -> Estimate:
    """``log_c``, the mean of ln C over images. ``count`` (C,) are the images of each label."""
    share = count / count.sum()

    def mean(values: list[float]) -> float:
        return (share @ torch.tensor(values, dtype=torch.float64)).item()

    method = normalisers[0].method
    facts: dict[str, Any] = {"beta": beta, "method": method}
    kind: Kind = "estimate"
    se = None
    match method:
        case "constant":
            kind = "exact"
        case "quadrature":
            facts["quadrature_error"] = mean([one.error for one in normalisers])
        case "monte_carlo":
            variance = torch.tensor([one.variance for one in normalisers], dtype=torch.float64)
            se = (share.square() @ variance).sqrt().item()
            size = min(one.effective_samples for one in normalisers)
            facts |= {"samples": PRIOR_SAMPLES, "over": "draws", "effective_samples": size}
        case _:
            assert_never(method)
    value = mean([one.log_value for one in normalisers])
    return Estimate(value, "nats", int(count.sum()), se, facts=facts, kind=kind)


def error_of_log_c(log_c: Estimate, method: Method) -> dict[str, Any]:
    """The facts on the error of ln C.

    The error is the same for all images, so it is in neither se nor mc_se of their mean.
    """
    match method:
        case "constant":
            return {}
        case "quadrature":
            return {"log_c_error": log_c.facts["quadrature_error"]}
        case "monte_carlo":
            return {"log_c_se": log_c.se, "effective_samples": log_c.facts["effective_samples"]}
    assert_never(method)


def _grid(normalisers: Sequence[Normaliser], latents: int) -> Tensor:
    """The points of each axis, (L, G). They cover the extents of all labels and -4 to 4."""
    prior = torch.tensor([[-4.0], [4.0]], dtype=torch.float64).expand(2, latents)
    ends = torch.stack([prior, *(one.extent for one in normalisers if one.extent is not None)])
    low, high = ends[:, 0].amin(0), ends[:, 1].amax(0)
    share = torch.linspace(0, 1, AXIS[latents], dtype=torch.float64)
    return low[:, None] + (high - low)[:, None] * share
