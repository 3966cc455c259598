"""What is measured on a split once a model is fitted, and what must stand beside each number."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from vaexp.config import Config, VAEConfig
from vaexp.data import Transform
from vaexp.evaluation.bounds import elbo_measures, iw_bound
from vaexp.evaluation.exact import exact_measures
from vaexp.evaluation.measure import Measure
from vaexp.models import VAE, Model
from vaexp.models.ppca import of_linear_vae

LIKELIHOODS = ("log_prob", "elbo", "iw_bound", "log_prob_quadrature", "log_prob_ais")


def measure_split(
    model: Model, x: Tensor, label: Tensor, transform: Transform
) -> dict[str, Measure]:
    """Name -> measure of images x (N, D) with digits label (N,), for all but the costly ones."""
    if not isinstance(model, VAE):
        return with_bits_per_dim(exact_measures(model, x), transform, x)
    measures = elbo_measures(model, x, label)
    same_density = of_linear_vae(model)
    if same_density is not None:
        measures["log_prob"] = Measure(same_density.log_prob(x).cpu(), "nats")
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
    return config.model.likelihood_facts | {"kind": kind}
