"""How much a code z says about its image: the rate in two parts, and what each latent adds to it.

q(z) = (1/N) sum_n q(z|x_n) is the aggregated posterior of the N images measured.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple, assert_never

import torch
from torch import Tensor

from vaexp.evaluation.measure import Estimate, Evidence, Measure, Moments
from vaexp.evaluation.subject import Subject
from vaexp.models import GMM, VAE, LinearGaussian, Model

IMAGES_PER_BLOCK = 500  # encoded at once
ROWS_PER_BLOCK = 64  # of the N x N densities: what the processor caches hold is fastest
ACTIVE = 0.01
EPSILON, DELTA = 0.01, 0.01
NEAR_CEILING = 0.9
CURVE_EPSILON = torch.logspace(-5, 2, 71, dtype=torch.float64)


@torch.no_grad()
def latent_use(model: Model, x: Tensor, label: Tensor, *, draws: int = 1) -> Evidence:
    """The rate's two parts, the rate in bits, and counts of latents that are used and that are not.

    x (N, D), label (N,). ``mutual_information`` and ``marginal_kl``, in nats, add up to the rate of
    every image, which is in closed form; ``rate_bits`` is the rate / ln 2. For a mixture all three
    are exact. For VAEs and linear-Gaussian models the parts hold the error of ``draws`` codes z for
    each image: with one draw it is part of ``se``, with more it also stands by itself, as
    ``mc_se``. Beside ``mutual_information`` stand its ``ceiling`` and ``population_at_most``, an
    estimate of an upper bound on its value for all images there are. ``active_units`` and
    ``collapsed_latents`` are counts of latents, which a mixture has not. It costs some 4 draws N^2
    L operations and draws N^2 exponentials.

    Arrays, where z is a vector: ``kl_per_latent`` (L,) nats, ``mean_variance_per_latent`` (L,),
    ``collapse_curve`` (E, L), the share of images whose KL in a latent is below each of
    ``collapse_epsilon`` (E,) nats.
    """
    match model:
        case GMM():
            return _mixture_use(model, x)
        case VAE():
            mean, scale = _encode(model, x, label)
            kl = kl_to_standard_normal(mean, scale)
            information = index_information(mean, scale, draws)
            return _vector_use(mean, kl, kl.sum(1), information, {})
        case LinearGaussian():
            mean, scale = _encode(model, x, label)
            root = model.posterior_root.double()
            kl = kl_to_standard_normal(mean, scale)
            rate = kl.sum(1) + total_correlation(root)
            # I(x; z) is the same of any invertible map of z: here of R^-1 z, whose posterior is
            # diagonal
            white = torch.linalg.solve_triangular(root, mean.T, upper=False).T
            information = index_information(white, torch.ones_like(white), draws)
            axes = {"posterior": "marginals of a full covariance, on the axes as fitted"}
            return _vector_use(mean, kl, rate, information, axes)
        case _:
            assert_never(model)


def log_ratios(z: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """ln q(z_n|x_n) - ln q(z_n) of codes z (N, L) drawn for the images n, and with n left out of q.

    Nats, (N,) each. q(z|x_n) = N(mean_n, diag scale_n^2), both (N, L); the second has q(z) =
    1/(N-1) sum_m q(z|x_m) over m other than n, and is infinite at N = 1. The first is at most ln N.
    All in float64; N x N densities in blocks, each a matrix product: the sum over latents of
    (z - m)^2 / s^2 is that of z^2 / s^2 - 2 z m / s^2 + m^2 / s^2. It cancels where scales are
    tiny, as after training at beta = 0, but then q(z_n) is nearly all n's own part, which is
    computed without.
    """
    z, mean, scale = z.double(), mean.double(), scale.double()
    n = len(z)
    # L/2 ln(2 pi) is left out everywhere: the differences do not need it
    log_scale = scale.log().sum(1)
    own = -0.5 * ((z - mean) / scale).square().sum(1) - log_scale
    precision = scale**-2
    constant = -0.5 * (mean.square() * precision).sum(1) - log_scale
    weights = torch.cat([-0.5 * precision, mean * precision], 1).T.contiguous()
    blocks = []
    for first in range(0, n, ROWS_PER_BLOCK):
        rows = z[first : first + ROWS_PER_BLOCK]
        densities = torch.addmm(constant, torch.cat([rows.square(), rows], 1), weights)
        densities.diagonal(first).fill_(-math.inf)
        blocks.append(densities.logsumexp(1))
    others = torch.cat(blocks)
    without = own - others + math.log(max(n - 1, 1))
    return own - torch.logaddexp(others, own) + math.log(n), without


class Information(NamedTuple):
    """What codes say about which of N images they are of, from draws of them."""

    values: Tensor
    """KL(q(z|x_n) to q(z)), nats (N,); their mean is I_q(x; z)."""
    variance: Tensor | None
    """Of each value over draws; None with one draw."""
    leave_one_out: float
    """The mean if no image were part of the q(z) it is compared with; of one image infinite."""
    draws: int


def index_information(mean: Tensor, scale: Tensor, draws: int) -> Information:
    """E ln q(z|x_n) - ln q(z), z ~ q(z|x_n) = N(mean_n, diag scale_n^2), mean and scale (N, L).

    ``draws`` codes for each image, independent between images. The mean over images is the mutual
    information of z and the index n, ln N - E H[q(n|z)] (Hoffman and Johnson 2016, ELBO surgery).
    As an estimate of I(x; z) for all images there are, it is too low and ``leave_one_out`` too
    high, each in expectation (Poole et al. 2019, On variational bounds of mutual information).
    """
    moments, without = Moments(), 0.0
    for _ in range(draws):
        ratio, ratio_without = log_ratios(mean + scale * torch.randn_like(mean), mean, scale)
        moments.add(ratio)
        without += ratio_without.mean().item() / draws
    variance = moments.variance_of_mean() if draws > 1 else None
    return Information(moments.mean, variance, without, draws)


def kl_to_standard_normal(mean: Tensor, scale: Tensor) -> Tensor:
    """KL(N(mean, scale^2) to N(0, 1)) elementwise, nats: (mean^2 + scale^2 - 1) / 2 - ln scale.

    Kingma and Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + scale.square() - 1) - scale.log()


def total_correlation(root: Tensor) -> Tensor:
    """KL of N(m, C) to the product of its marginals, nats: (sum_l ln C_ll - ln det C) / 2.

    root (L, L): lower triangular, root root^T = C. Watanabe 1960. What the KL of N(m, C) to N(0, I)
    has above the sum of its marginals' KL.
    """
    return 0.5 * root.square().sum(1).log().sum() - root.diagonal().log().sum()


def mixture_split(log_r: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
    """KL(r_n to r-bar) and KL(r_n to pi) of each image, nats (N,) each.

    log_r (N, K): ln p(z = k|x_n), rows that sum to one in probability; log_prior (K,): ln pi;
    r-bar is the mean of the r_n. The means over images are I(x; z) = H(r-bar) - mean H(r_n) (Cover
    and Thomas 2006, equation 2.43) and the rate, and their difference is KL(r-bar to pi).
    """
    r = log_r.exp()
    log_mean = log_r.logsumexp(0) - math.log(len(r))
    information = torch.where(r > 0, r * (log_r - log_mean), 0).sum(1)
    rate = torch.where(r > 0, r * (log_r - log_prior), 0).sum(1)
    return information, rate


def mean_variance(mean: Tensor) -> Tensor:
    """Var_x(E_q[z_l]), (L,), of posterior means (N, L), with divisor N.

    Burda et al. 2016, section 5.2: latent l is an active unit where this is above 0.01.
    """
    return mean.var(0, correction=0)


def share_below(kl: Tensor, epsilon: Tensor) -> Tensor:
    """P_x(KL(q(z_l|x) to p(z_l)) < epsilon), (E, L), of kl (N, L) and epsilon (E,), nats.

    Lucas et al. 2019, Don't blame the ELBO!: latent l is (epsilon, delta)-collapsed where that is
    at least 1 - delta.
    """
    ordered = kl.T.contiguous().sort(1).values
    limits = epsilon.to(kl).expand(len(ordered), -1).contiguous()
    return torch.searchsorted(ordered, limits).T.double() / len(kl)


def _encode(model: VAE | LinearGaussian, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of q(z_l|x_n), float64 (N, L) each."""
    blocks = zip(x.split(IMAGES_PER_BLOCK), label.split(IMAGES_PER_BLOCK), strict=True)
    parts = [model.encode(xs, labels) for xs, labels in blocks]
    return (
        torch.cat([part.mean for part in parts]).double(),
        torch.cat([part.stddev for part in parts]).double(),
    )


def _vector_use(
    mean: Tensor, kl: Tensor, rate: Tensor, information: Information, axes: dict[str, Any]
) -> Evidence:
    """Evidence of posterior means and KL per latent (N, L), and rates (N,)."""
    n, latents = mean.shape
    split = _split(
        Measure(
            information.values.cpu(),
            "nats",
            _cpu(information.variance),
            facts={"draws": information.draws},
            kind="estimate",
            scope="any_transform",
        ),
        rate.cpu(),
        ceiling=math.log(n),
        # the rate, too, is never below I
        population_at_most=min(information.leave_one_out, rate.mean().item()),
    )

    spread = mean_variance(mean)
    collapsed = share_below(kl, torch.tensor([EPSILON]))[0] >= 1 - DELTA

    def count(chosen: Tensor, facts: dict[str, Any]) -> Estimate:
        beside = facts | {"of_latents": latents} | axes
        value = float(chosen.sum().item())
        return Estimate(value, "latents", n, facts=beside, scope="any_transform")

    return Evidence(
        entries={
            **split,
            "active_units": count(spread > ACTIVE, {"threshold": ACTIVE}),
            "collapsed_latents": count(collapsed, {"epsilon": EPSILON, "delta": DELTA}),
        },
        arrays={
            "kl_per_latent": kl.mean(0).cpu().numpy(),
            "mean_variance_per_latent": spread.cpu().numpy(),
            "collapse_epsilon": CURVE_EPSILON.numpy(),
            "collapse_curve": share_below(kl, CURVE_EPSILON).cpu().numpy(),
        },
    )


def _mixture_use(model: GMM, x: Tensor) -> Evidence:
    joint = model.log_joint(x)
    log_r = joint - joint.logsumexp(1, keepdim=True)
    information, rate = mixture_split(log_r, model.weight.double().log())
    ceiling = math.log(min(joint.shape))  # I is at most H(r-bar), so at most ln K
    why = "z is a component index, not a vector"
    exact = Measure(information.cpu(), "nats", kind="exact", scope="any_transform")
    return Evidence(
        entries={**_split(exact, rate.cpu(), ceiling=ceiling)},
        absent={"active_units": why, "collapsed_latents": why},
    )


def _split(information: Measure, rate: Tensor, **beside: float) -> dict[str, Measure]:
    """The two parts of the rate (N,), and the rate in bits; ``beside`` are facts of the first."""
    marginal = replace(information, values=rate - information.values)
    ours, theirs = information.facts | beside, dict(information.facts)
    if information.values.mean().item() >= NEAR_CEILING * math.log(len(rate)):
        near = "within 10 % of ln N"
        ours["warning"] = f"{near}, its ceiling: more images could raise it"
        theirs["warning"] = f"mutual_information is {near}: more images could lower this"
    return {
        "mutual_information": replace(information, facts=ours),
        "marginal_kl": replace(marginal, facts=theirs),
        "rate_bits": Measure(rate / math.log(2), "bits", kind="exact", scope="any_transform"),
    }


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()


def measure(subject: Subject[Model]) -> Evidence:
    """The group ``rate``, which ``vaexp train`` measures too."""
    return latent_use(subject.model, subject.x, subject.label, draws=2)
