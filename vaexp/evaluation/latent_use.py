"""How much a code z says about its image: the two parts of the rate, and the share of each latent.

q(z) = (1/N) sum_n q(z|x_n) is the aggregated posterior of the N measured images, and q(z|y) that of
the images with the label y. Letters in shapes: N images, L latents, K components, E thresholds. All
values are float64.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.distributions import Normal

from vaexp.evaluation.aggregate import ROWS_PER_BLOCK, Posteriors, encoded
from vaexp.evaluation.log_sums import log_sum_exp_
from vaexp.evaluation.measure import Estimate, Evidence, Measure, RunningMean, merge
from vaexp.evaluation.subject import Subject
from vaexp.models import GMM, VAE, LinearGaussian, Model

DRAWS = 2  # of z for each image
ACTIVE = 0.01  # the variance above which a latent is active
EPSILON, DELTA = 0.01, 0.01  # of a collapsed latent
NEAR_CEILING = 0.9  # the share of ln N from which on the mutual information gets a warning
MARGINALS = "marginals of a full covariance, on the axes as fitted"
SHARED = 0.6  # of what an image changes in the terms of others; see ``index_information``
GIVEN_LABEL = "_given_label"  # how the names of the two parts within the images of each label end
NO_LABEL = "the model is not given the label"
DECADES = (-5, 2)  # of epsilon in the curve of collapse, which goes on to the largest KL


@torch.no_grad()
def latent_use(model: Model, x: Tensor, label: Tensor, *, draws: int = DRAWS) -> Evidence:
    """The two parts of the rate, the rate in bits, and how many latents are used.

    x (N, D), label (N,). ``mutual_information`` and ``marginal_kl``, in nats, add up to the rate of
    every image, which has a closed form. ``rate_bits`` is the rate / ln 2. For a mixture all three
    are exact. For VAEs and linear-Gaussian models the two parts are estimated from ``draws`` codes
    z for each image. Their Monte Carlo error is part of ``se``, and with more than one draw it is
    also reported by itself as ``mc_se``. The fact ``ceiling`` of ``mutual_information`` is the
    largest value that is possible for N images. The fact ``population_at_most`` estimates an upper
    bound on its value for all images there are.

    A conditional model draws z from p(z) for every label alike. So ``marginal_kl`` of all labels
    together does not show which parts of p(z) the codes of one label leave empty.
    ``marginal_kl_given_label`` does: it is E_y KL(q(z|y) to p(z)). Beside it stands
    ``mutual_information_given_label``, I(x; z|y), with labels as frequent as among the images. The
    two add up to the rate as well. Other models have neither.

    ``active_units`` and ``collapsed_latents`` are
    counts of latents; a mixture has none. The cost is about 4 draws N^2 L operations and draws N^2
    exponentials.

    Arrays, if z is a vector: ``kl_per_latent`` (L,) in nats, ``mean_variance_per_latent`` (L,), and
    ``collapse_curve`` (E, L), the share of images whose KL in a latent is below each of
    ``collapse_epsilon`` (E,), in nats. The KL of the latents add up to the rate where they are
    independent given x. A fact ``posterior`` says where they are not.
    """
    match model:
        case GMM():
            return _mixture_use(model, x)
        case VAE():
            mean, scale = encoded(model, x, label)
            kl = kl_to_standard_normal(mean, scale)
            information = index_information(mean, scale, draws)
            evidence = _vector_use(mean, kl, kl.sum(1), information, draws, {})
            if not model.conditional:
                return merge([evidence, Evidence(absent=_absent_given_label())])
            within = _given_label(mean, scale, kl.sum(1), label, draws)
            return merge([evidence, Evidence({**within})])
        case LinearGaussian():
            mean, scale = encoded(model, x, label)
            root = model.posterior_root.double()
            kl = kl_to_standard_normal(mean, scale)
            rate = kl.sum(1) + total_correlation(root)
            # I(x; z) is the same for every invertible map of z. R^-1 z has a diagonal posterior.
            white = torch.linalg.solve_triangular(root, mean.T, upper=False).T
            information = index_information(white, torch.ones_like(white), draws)
            axes = {} if model.independent_latents else {"posterior": MARGINALS}
            evidence = _vector_use(mean, kl, rate, information, draws, axes)
            return merge([evidence, Evidence(absent=_absent_given_label())])
        case _:
            assert_never(model)


class Ratios(NamedTuple):
    """What codes z_n, one for each of N images, say of the image that they belong to, in nats."""

    own: Tensor
    """ln q(z_n|x_n) - ln q(z_n), (N,), which is at most ln N."""
    without: Tensor
    """The same if image n is left out of q: q(z) = 1/(N-1) sum_m q(z|x_m) over all m but n, (N,).

    It is infinite if N = 1."""
    shared: Tensor
    """-sum_n ln(1 - q(z_n|x_m) / sum_k q(z_n|x_k)) over all n but m, for each image m, (N,).

    That is how much ``own`` of all other images is lower because image m is in q, up to a constant.
    It varies little where every code is shared by many images, and much where few share one."""


def log_posterior_ratios(z: Tensor, mean: Tensor, scale: Tensor) -> Ratios:
    """ln q(z_n|x_n) - ln q(z_n) for codes z (N, L), one for each image n.

    q(z|x_n) = N(mean_n, diag scale_n^2), with mean and scale (N, L).

    The N x N densities are computed block by block. They lose digits to cancellation if scales are
    tiny, as after training at beta = 0. But then nearly all of q(z_n) is the part of image n
    itself, which is computed as the square of a difference.
    """
    z, mean, scale = z.double(), mean.double(), scale.double()
    n = len(z)
    own = Normal(mean, scale, validate_args=False).log_prob(z).sum(1)
    posteriors = Posteriors(mean, scale)
    of_others, shared = [], torch.zeros_like(own)
    for first in range(0, n, ROWS_PER_BLOCK):
        rows = z[first : first + ROWS_PER_BLOCK]
        densities = posteriors.log_prob(rows)
        densities.diagonal(first).fill_(-math.inf)
        of_others.append(log_sum_exp_(densities))
        total = torch.logaddexp(of_others[-1], own[first : first + len(rows)])
        share = densities.mul_((of_others[-1] - total).exp_()[:, None]).clamp_(max=1 - 1e-12)
        left = share.neg_().add_(1)  # of at least 1e-12, so that products of 16 of them are not 0
        shared -= torch.stack([some.prod(0) for some in left.split(16)]).log_().sum(0)
    others = torch.cat(of_others)
    without = own - others + math.log(max(n - 1, 1))
    return Ratios(own - torch.logaddexp(others, own) + math.log(n), without, shared)


class Information(NamedTuple):
    """How well draws of codes tell which of N images they belong to."""

    values: Tensor
    """KL(q(z|x_n) to q(z)) in nats, (N,). Its mean over images is I_q(x; z)."""
    influence: Tensor
    """How much the mean would change with each image, (N,): its spread is the error of the mean."""
    variance: Tensor | None
    """The variance of each value over draws, (N,), or None if there is only one draw."""
    leave_one_out: float
    """The mean if every image is left out of its own q(z), in nats. It is infinite if N = 1."""


def index_information(mean: Tensor, scale: Tensor, draws: int) -> Information:
    """E ln q(z|x_n) - ln q(z) with z ~ q(z|x_n) = N(mean_n, diag scale_n^2), mean, scale (N, L).

    Each image gets ``draws`` codes of its own. The mean over images is the mutual information of z
    and the index n, ln N - E H[q(n|z)] (Hoffman and Johnson 2016, ELBO surgery). As an estimate of
    I(x; z) for all images there are, this mean is too low and ``leave_one_out`` is too high, each
    in expectation (Poole et al. 2019, On variational bounds of mutual information).

    An image is in its own term and in q(z), that is in the terms of all others. Where many images
    share every code, its effect on the others is the same for all images. Near the ceiling of ln N
    it is not: two images that share a code lower each other's term. Leaving each image out (the
    jackknife) gives the influence ``values`` - ``Ratios.shared``. The variance that follows is up
    to twice too large where chance alone decides which images share a code (Efron and Stein 1981,
    The jackknife estimate of variance), and that of ``values`` alone is up to four times too small.
    ``influence`` therefore counts the share SHARED of the second term. The error that follows was
    within a fifth of the spread over repetitions, from 4 % to 99.9 % of the ceiling.
    """
    moments, without, shared = RunningMean(), 0.0, mean.new_zeros(len(mean), dtype=torch.float64)
    for _ in range(draws):
        z = mean + scale * torch.randn_like(mean)
        ratios = log_posterior_ratios(z, mean, scale)
        moments.add(ratios.own)
        without += ratios.without.mean().item() / draws
        shared += ratios.shared / draws
    variance = moments.variance_of_mean() if draws > 1 else None
    return Information(moments.mean, moments.mean - SHARED * shared, variance, without)


def kl_to_standard_normal(mean: Tensor, scale: Tensor) -> Tensor:
    """KL(N(mean, scale^2) to N(0, 1)) of every element, in nats.

    It is (mean^2 + scale^2 - 1) / 2 - ln scale (Kingma and Welling 2014, appendix B).
    """
    return 0.5 * (mean.square() + scale.square() - 1) - scale.log()


def total_correlation(root: Tensor) -> Tensor:
    """KL of N(m, C) to the product of its marginals, (sum_l ln C_ll - ln det C) / 2, in nats.

    root (L, L) is lower triangular with root root^T = C. The total correlation (Watanabe 1960) is
    the KL of N(m, C) to N(0, I) minus the sum of the KLs of its marginals.
    """
    return 0.5 * root.square().sum(1).log().sum() - root.diagonal().log().sum()


def mixture_split(log_r: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
    """KL(r_n to r-bar) and KL(r_n to pi) for each image n, both (N,), in nats.

    log_r (N, K) is ln p(z = k|x_n), log_prior (K,) is ln pi, and r-bar is the mean of the r_n. The
    mean of the first over images is I(x; z) = H(r-bar) - mean H(r_n) (Cover and Thomas 2006,
    equation 2.43), and that of the second is the rate. The difference of both means is
    KL(r-bar to pi).
    """
    r = log_r.exp()
    log_mean = log_r.logsumexp(0) - math.log(len(r))
    information = torch.where(r > 0, r * (log_r - log_mean), 0).sum(1)
    rate = torch.where(r > 0, r * (log_r - log_prior), 0).sum(1)
    return information, rate


def mean_variance(mean: Tensor) -> Tensor:
    """Var_x(E_q[z_l]) of posterior means (N, L), (L,), with the divisor N.

    Latent l is an active unit if this is above 0.01 (Burda et al. 2016, section 5.2).
    """
    return mean.var(0, correction=0)


def share_below(kl: Tensor, epsilon: Tensor) -> Tensor:
    """The share of images with KL(q(z_l|x) to p(z_l)) < epsilon, (E, L).

    kl (N, L) and epsilon (E,) are in nats. Latent l is (epsilon, delta)-collapsed if the share is
    at least 1 - delta (Lucas et al. 2019, Don't blame the ELBO!).
    """
    ordered = kl.T.contiguous().sort(1).values
    limits = epsilon.to(kl).expand(len(ordered), -1).contiguous()
    return torch.searchsorted(ordered, limits).T.double() / len(kl)


def _vector_use(
    mean: Tensor,
    kl: Tensor,
    rate: Tensor,
    information: Information,
    draws: int,
    axes: dict[str, Any],
) -> Evidence:
    """The evidence from posterior means and KLs of each latent (N, L), and the rate (N,).

    ``axes`` are facts on the axes of z that the latents are counted along.
    """
    n, latents = mean.shape
    # the rate is an upper bound on I, too
    at_most = min(information.leave_one_out, rate.mean().item())
    split = _split(
        _information_measure(information, draws),
        rate.cpu(),
        ceiling=math.log(n),
        population_at_most=at_most,
    )

    spread = mean_variance(mean)
    collapsed = share_below(kl, torch.tensor([EPSILON]))[0] >= 1 - DELTA
    epsilon = _epsilons(float(kl.max()))

    def count(chosen: Tensor, facts: dict[str, Any]) -> Estimate:
        beside = facts | {"of_latents": latents} | axes
        value = float(chosen.sum().item())
        return Estimate(value, "latents", n, facts=beside, scope="any_transform")

    return Evidence(
        entries={
            **split,
            "rate_bits": _in_bits(rate.cpu()),
            "active_units": count(spread > ACTIVE, {"threshold": ACTIVE}),
            "collapsed_latents": count(collapsed, {"epsilon": EPSILON, "delta": DELTA}),
        },
        arrays={
            "kl_per_latent": kl.mean(0).cpu().numpy(),
            "mean_variance_per_latent": spread.cpu().numpy(),
            "collapse_epsilon": epsilon.numpy(),
            "collapse_curve": share_below(kl, epsilon).cpu().numpy(),
        },
    )


def _epsilons(largest: float) -> Tensor:
    """The epsilons of the curve of collapse, ten in a decade, up to all finite KL, in nats."""
    low, high = DECADES
    if math.isfinite(largest):
        high = max(high, math.floor(math.log10(max(largest, 1.0))) + 1)
    return torch.logspace(low, high, 10 * (high - low) + 1, dtype=torch.float64)


def _mixture_use(model: GMM, x: Tensor) -> Evidence:
    joint = model.log_joint(x)
    log_r = joint - joint.logsumexp(1, keepdim=True)
    information, rate = mixture_split(log_r, model.weight.double().log())
    ceiling = math.log(min(joint.shape))  # I is at most H(r-bar), so at most ln K
    why = "z is a component index, not a vector"
    exact = Measure(information.cpu(), "nats", kind="exact", scope="any_transform")
    return Evidence(
        entries={
            **_split(exact, rate.cpu(), ceiling=ceiling, log_images=math.log(len(joint))),
            "rate_bits": _in_bits(rate.cpu()),
        },
        absent={"active_units": why, "collapsed_latents": why, **_absent_given_label()},
    )


def _information_measure(information: Information, draws: int) -> Measure:
    return Measure(
        information.values.cpu(),
        "nats",
        _cpu(information.variance),
        facts={"draws": draws},
        kind="estimate",
        scope="any_transform",
        influence=information.influence.cpu(),
    )


def _given_label(
    mean: Tensor, scale: Tensor, rate: Tensor, label: Tensor, draws: int
) -> dict[str, Measure]:
    """I(x; z|y) and E_y KL(q(z|y) to p(z)), from posteriors (N, L), the rate (N,) and labels (N,).

    The information is that of each label's images among themselves, so its ceiling is the mean over
    images of ln N_y, where N_y images have the label y.
    """
    values, influence = torch.empty_like(rate), torch.empty_like(rate)
    variance = torch.empty_like(rate)
    ceiling = leave_one_out = 0.0
    for one in label.unique():
        rows = (label == one).nonzero()[:, 0]
        within = index_information(mean[rows], scale[rows], draws)
        values[rows], influence[rows] = within.values, within.influence
        if within.variance is not None:
            variance[rows] = within.variance
        share = len(rows) / len(label)
        ceiling += share * math.log(len(rows))
        leave_one_out += share * within.leave_one_out
    together = Information(values, influence, variance if draws > 1 else None, leave_one_out)
    parts = _split(
        _information_measure(together, draws),
        rate.cpu(),
        ceiling=ceiling,
        population_at_most=min(leave_one_out, rate.mean().item()),
    )
    return {name + GIVEN_LABEL: part for name, part in parts.items()}


def _absent_given_label() -> dict[str, str]:
    names = ("mutual_information", "marginal_kl")
    return dict.fromkeys([name + GIVEN_LABEL for name in names], NO_LABEL)


def _split(
    information: Measure,
    rate: Tensor,
    *,
    ceiling: float,
    log_images: float | None = None,
    **facts: float,
) -> dict[str, Measure]:
    """The two parts of the rate (N,).

    ``ceiling`` is the largest value of the first part. ``log_images`` is the part of it that more
    images would raise, if it is not all of it. ``facts`` go to the first part.
    """
    marginal = replace(
        information,
        values=rate - information.values,
        influence=None if information.influence is None else rate - information.influence,
    )
    of_information = information.facts | {"ceiling": ceiling} | facts
    of_marginal = dict(information.facts)
    limit = ceiling if log_images is None else log_images
    if information.values.mean().item() >= NEAR_CEILING * limit:
        near = "within 10 % of ln N"
        of_information["warning"] = f"{near}, its ceiling: more images could raise it"
        of_marginal["warning"] = f"mutual_information is {near}: more images could lower this"
    return {
        "mutual_information": replace(information, facts=of_information),
        "marginal_kl": replace(marginal, facts=of_marginal),
    }


def _in_bits(rate: Tensor) -> Measure:
    return Measure(rate / math.log(2), "bits", kind="exact", scope="any_transform")


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()


def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``rate``, as ``vaexp train`` does too."""
    return latent_use(subject.model, subject.x, subject.label)
