"""The measures of every split of a fitted model, and their entries in metrics.json."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from torch import Tensor

from vaexp.config.likelihoods import GREY_LEVELS
from vaexp.data import Transform
from vaexp.evaluation.bounds import DRAWS, elbo_measures
from vaexp.evaluation.criteria import information_criteria
from vaexp.evaluation.exact import exact_log_prob, exact_measures
from vaexp.evaluation.measure import Estimate, Kind, Measure
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.ppca import of_linear_vae


def measure_split(
    model: Model, x: Tensor, label: Tensor, *, draws: int = DRAWS
) -> dict[str, Measure]:
    """The measures by name of images x (N, D) with labels (N,), except those that take long.

    ``draws`` is the number of draws of z for each image, where a measure needs them.
    """
    match model:
        case GMM() | LinearGaussian():
            return exact_measures(model, x)
        case VAE():
            measures = elbo_measures(model, x, label, draws=draws)
            same_density = of_linear_vae(model)
            if same_density is not None:
                measures["log_prob"] = exact_log_prob(same_density.log_prob(x))
            return measures
        case _:
            assert_never(model)


def of_all_training_images(model: Model, measures: Mapping[str, Measure]) -> dict[str, Estimate]:
    """What follows from the ``measures`` of all training images: AIC and BIC of an exact model."""
    match model:
        case GMM() | LinearGaussian():
            return information_criteria(model, measures["log_prob"].values)
        case VAE():  # its likelihood has no maximum at which its parameters could be counted
            return {}
        case _:
            assert_never(model)


def with_bits_per_dim(
    measures: Mapping[str, Measure], transform: Transform, x: Tensor, facts: Mapping[str, Any]
) -> dict[str, Measure]:
    """Add each ln p(x) among the measures in bits per dimension, if x has bits per dimension.

    x (N, D) are the measured images. ``facts`` are those of the model's likelihood.
    """
    bits = {
        f"{name}_bits_per_dim": converted
        for name, measure in measures.items()
        if measure.likelihood == "log_prob"
        and (converted := _bits_per_dim(measure, transform, x, facts)) is not None
    }
    return dict(measures) | bits


def _bits_per_dim(
    log_prob: Measure, transform: Transform, x: Tensor, facts: Mapping[str, Any]
) -> Measure | None:
    """A ln p(x) in bits per pixel of the image on 0..255, or None if x determines no such number.

    A density is converted with the Jacobian of the transform. A mass on the grey values themselves
    becomes -ln p / (D ln 2). A lower bound on ln p(x) becomes an upper bound on the bits. So does
    an exact density: its bits are at least those that the grey values need (Theis et al. 2016, A
    note on the evaluation of generative models).
    """
    nats = log_prob.values.to(x.device)
    per_bit = x.shape[1] * math.log(2)
    of = _facts_of(log_prob, facts) | log_prob.facts
    if of["measure"] == "density" and transform.has_bits_per_dim:
        values = transform.bits_per_dim(nats, x)
        kind: Kind | None = "upper_bound" if log_prob.kind == "exact" else _negated(log_prob.kind)
    elif of["measure"] == "mass" and of["on"] == GREY_LEVELS:
        values = -nats.double() / per_bit
        kind = _negated(log_prob.kind)
    else:
        return None
    variance = log_prob.monte_carlo_variance
    return replace(
        log_prob,
        values=values.cpu(),
        unit="bits/dim",
        monte_carlo_variance=None if variance is None else variance / per_bit**2,
        # the fact ``error`` is in nats
        facts={key: fact for key, fact in log_prob.facts.items() if key != "error"},
        kind=kind,
        likelihood="derived",
        tightness=None,
        scope="any_transform",
        headline=False,
    )


def _negated(kind: Kind | None) -> Kind | None:
    """The kind of the negative of a number: a lower bound becomes an upper bound."""
    match kind:
        case "lower_bound":
            return "upper_bound"
        case "upper_bound":
            return "lower_bound"
        case "exact" | "estimate" | None:
            return kind
    assert_never(kind)


def entry(
    measure: Measure | Estimate, facts: Mapping[str, Any], first: int | None = None
) -> dict[str, Any]:
    """The entry of a measure in metrics.json. A log-likelihood also gets the model's ``facts``.

    ``first`` is how many of the first images of the split were measured, None if all of them.
    """
    known = {} if measure.likelihood is None else _facts_of(measure, facts)
    return known | measure.summary() | ({} if first is None else {"first_images": first})


def _facts_of(measure: Measure | Estimate, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts on a model's likelihood that hold for a measure.

    A mass of what has a density is not the density: neither its sigma nor its floor is a fact of
    it. Only whether it is given the label is.
    """
    same = measure.facts.get("measure", facts["measure"]) == facts["measure"]
    return dict(facts) if same else {"of": facts["of"]}
