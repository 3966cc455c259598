"""What is measured on a split once a model is fitted, and what must stand beside each number."""

import math
from collections.abc import Callable, Mapping
from typing import Any, assert_never

from torch import Tensor

from vaexp.config import Config, FAConfig, GMMConfig, VAEConfig
from vaexp.data import Transform
from vaexp.evaluation.bounds import elbo_measures, iw_bound
from vaexp.evaluation.exact import exact_measures
from vaexp.evaluation.measure import Measure
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.ppca import of_linear_vae

LIKELIHOODS = ("log_prob", "elbo", "iw_bound", "log_prob_quadrature", "log_prob_ais")


def measure_split(
    model: Model, x: Tensor, label: Tensor, transform: Transform
) -> dict[str, Measure]:
    """Name -> measure of images x (N, D) with digits label (N,), for all but the costly ones."""
    match model:
        case GMM() | LinearGaussian():
            measures = exact_measures(model, x)
        case VAE():
            measures = elbo_measures(model, x, label)
            same_density = of_linear_vae(model)
            if same_density is not None:
                measures["log_prob"] = Measure(same_density.log_prob(x).cpu(), "nats")
        case _:
            assert_never(model)
    return with_bits_per_dim(measures, transform, x)


def importance_weighted(
    model: VAE,
    x: Tensor,
    label: Tensor,
    transform: Transform,
    k: int,
    on_images: Callable[[int], None],
) -> dict[str, Measure]:
    """``iw_bound`` with K samples, and its bits per dimension where x has them."""
    bound = {"iw_bound": iw_bound(model, x, label, k=k, on_images=on_images)}
    return with_bits_per_dim(bound, transform, x)


def with_bits_per_dim(
    measures: dict[str, Measure], transform: Transform, x: Tensor
) -> dict[str, Measure]:
    """The measures, each likelihood also in bits per dimension where x has them."""
    if not transform.has_bits_per_dim:
        return measures
    likelihoods = [name for name in LIKELIHOODS if name in measures]
    bits = {
        f"{name}_bits_per_dim": _bits_per_dim(measures[name], transform, x) for name in likelihoods
    }
    return measures | bits


def _bits_per_dim(log_density: Measure, transform: Transform, x: Tensor) -> Measure:
    """Nats as bits per pixel of the 0..255 image; a lower bound becomes an upper one."""
    variance = log_density.monte_carlo_variance
    return Measure(
        transform.bits_per_dim(log_density.values.to(x.device), x).cpu(),
        "bits/dim",
        None if variance is None else variance / (x.shape[1] * math.log(2)) ** 2,
        facts=_of_upper_bound(log_density.facts),
    )


def _of_upper_bound(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a number that falls where theirs rises, without ``error``, which is in nats."""
    return {
        key: "upper_bound" if value == "lower_bound" else value
        for key, value in facts.items()
        if key != "error"
    }


def facts(config: Config, metric: str) -> dict[str, Any]:
    """What a likelihood must carry beside it so that it is not read as something else."""
    if not metric.startswith((*LIKELIHOODS, "distortion")):
        return {}
    if metric.startswith("log_prob"):
        kind = "exact"
    elif metric == "distortion":
        kind = "estimate" if isinstance(config.model, VAEConfig) else "exact"
    else:
        kind = "upper_bound" if metric.endswith("bits_per_dim") else "lower_bound"
    return likelihood_facts(config) | {"kind": kind}


def likelihood_facts(config: Config) -> dict[str, Any]:
    """What every likelihood of a model carries: of what it is, and the sigma or floor behind it."""
    model = config.model
    mass = isinstance(model, VAEConfig) and model.likelihood == "bernoulli"
    given_label = isinstance(model, VAEConfig) and model.conditional
    beside: dict[str, Any] = {
        "measure": "mass" if mass else "density",
        "of": "x given label" if given_label else "x",
    }
    if isinstance(model, GMMConfig):
        beside["covariance_floor"] = model.covariance_floor
    elif isinstance(model, FAConfig):
        beside["covariance_floor"] = model.noise_floor
    elif isinstance(model, VAEConfig) and model.likelihood == "gaussian":
        key = "sigma" if model.sigma_mode == "fixed" else "sigma_floor"
        beside[key] = getattr(model, key)
    return beside
