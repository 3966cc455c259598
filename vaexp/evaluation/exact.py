"""Measures of models whose posterior and ln p(x) are exact. Nothing is drawn or bounded.

All values are of each image and float64. Log quantities are in nats, summed over pixels.
"""

from typing import assert_never

import torch
from torch import Tensor

from vaexp.evaluation.measure import Measure
from vaexp.evaluation.scope import Tightness
from vaexp.models import GMM, LinearGaussian


def exact_log_prob(values: Tensor) -> Measure:
    """The measure ``log_prob`` from ln p(x) of each image (N,), in nats."""
    return Measure(
        values.cpu(),
        "nats",
        kind="exact",
        likelihood="log_prob",
        tightness=Tightness.EXACT,
        headline=True,
    )


@torch.no_grad()
def exact_measures(model: GMM | LinearGaussian, x: Tensor) -> dict[str, Measure]:
    """``log_prob``, the two terms it consists of, and reconstruction errors, of images x (N, D).

    All expectations are over p(z|x) and in closed form. distortion = -E ln p(x|z), rate =
    KL(p(z|x) to p(z)), and elbo = -distortion - rate. The elbo equals ln p(x), as the posterior is
    exact. rmse_mean is the root of E|x - mu(z)|^2 / D, and rmse_sample that of E|x - x'|^2 / D with
    x' ~ p(x|z). sigma is the mean over z and pixels of the standard deviation of p(x|z).
    """
    match model:
        case GMM():
            terms = _mixture_terms(model, x)
        case LinearGaussian():
            terms = _linear_terms(model, x)
        case _:
            assert_never(model)
    distortion, rate, error, noise, sigma = (term.cpu() for term in terms)
    return {
        "log_prob": exact_log_prob(model.log_prob(x)),
        "elbo": Measure(
            -distortion - rate,
            "nats",
            kind="lower_bound",  # it is reached, but compared with bounds of other models
            likelihood="log_prob",
            tightness=Tightness.ELBO,
        ),
        "rate": Measure(rate, "nats", scope="any_transform", headline=True),
        "distortion": Measure(distortion, "nats", kind="exact", likelihood="derived"),
        "rmse_mean": Measure(error, "units of x", aggregate="root_mean", headline=True),
        "rmse_sample": Measure(error + noise, "units of x", aggregate="root_mean"),
        "sigma": Measure(sigma, "units of x"),
    }


def _mixture_terms(model: GMM, x: Tensor) -> tuple[Tensor, ...]:
    """Distortion, rate, squared error of mu(z), variance and sigma of pixels given z, (N,) each."""
    joint = model.log_joint(x)
    log_prior = model.weight.double().log()
    log_r = joint - joint.logsumexp(1, keepdim=True)
    r = log_r.exp()
    distortion = -torch.where(r > 0, r * (joint - log_prior), 0).sum(1)
    rate = torch.where(r > 0, r * (log_r - log_prior), 0).sum(1)
    variance = model.gaussians.variance().double()
    error = x.new_zeros(len(x), dtype=torch.float64)
    for k in (r > 1e-12).any(0).nonzero()[:, 0].tolist():
        rows = (r[:, k] > 1e-12).nonzero()[:, 0]
        squares = (x[rows].double() - model.gaussians.mean[k].double()).square().mean(1)
        error[rows] += r[rows, k] * squares
    return distortion, rate, error, r @ variance.mean(1), r @ variance.sqrt().mean(1)


def _linear_terms(model: LinearGaussian, x: Tensor) -> tuple[Tensor, ...]:
    """The same terms; the variance, which is the same for every image, may be ()."""
    distortion, squares = model.expected_terms(x)
    # torch's kl_divergence would hold an L x L matrix for each image
    root = model.posterior_root
    constant = root.square().sum() - model.latent_dim - 2 * root.diagonal().log().sum()
    rate = 0.5 * (model.posterior_mean(x).square().sum(1) + constant)
    noise = model.noise
    return distortion, rate, squares / x.shape[1], noise.mean(), noise.sqrt().mean().expand(len(x))
