"""Expectation maximisation: the loop, for any model whose E-step is exact."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from vaexp.errors import RunError
from vaexp.fitting import FitStep
from vaexp.models.gaussians import SingularCovariance


class Expected(Protocol):
    """What an E-step returns; the M-step knows what else it holds."""

    @property
    def mean_log_prob(self) -> float:
        """Mean of ln p(x) over the training images, nats."""
        ...

    @property
    def mean_elbo(self) -> float:
        """Mean of the ELBO with the exact posterior: the same number, by another way."""
        ...


Model = TypeVar("Model", bound=nn.Module)
E = TypeVar("E", bound=Expected)


@dataclass(frozen=True)
class Steps(Generic[Model, E]):
    """EM for one kind of model and given images."""

    start: Callable[[int], Model]
    """The initial parameters of a restart, counted from 0."""
    e_step: Callable[[Model], E]
    m_step: Callable[[E, Model], Model]
    elbo_after_m: Callable[[E, Model, Model], float]
    """The mean ELBO with the posterior of the first model and the parameters of the second."""
    validation: Callable[[Model], float] | None
    """Mean of ln p(x) over images that are not trained on, if there are any."""
    facts: Callable[[Model], dict[str, Any]]
    """What else the record of an iteration holds."""
    explain: Callable[[SingularCovariance, Model, str], str] | None = None
    """What to tell of parameters in which a component has collapsed, and when it did."""
    finish: Callable[[Model], Model] = lambda model: model
    """The parameters to keep of a restart's last: the same density, in a form easier to read."""


@dataclass(frozen=True, kw_only=True)
class EMOptions:
    """When to stop; the meaning of each is documented at the config key of the same name."""

    max_iter: int
    tolerance: float
    restarts: int


def fit(
    steps: Steps[Model, E],
    options: EMOptions,
    *,
    state: dict[str, Any] | None = None,
    restore: Callable[[dict[str, Any]], Model],
) -> Iterator[FitStep]:
    """Alternate E-step and M-step, and yield after every iteration; iteration 0 is the start.

    A record's ``train.log_prob`` is the mean of ln p(x) for the parameters after that iteration,
    the ones that FitStep holds. ``elbo_after_m`` is the ELBO after the iteration's M-step, with the
    posterior of the parameters before it, and ``elbo_after_e`` that after the next E-step, which
    closes the gap: section 2.2 of the report this project follows. Parameters are to be kept as
    soon as they are better than all earlier restarts. The last record of a restart says why it
    ``stopped``: tolerance or max_iter. state: a FitStep's, to go on from there. restore: a model
    from the state dict in it. Raises RunError where a component collapses.
    """
    restart, best, model = 0, -math.inf, None
    if state is not None:
        try:
            restart, iteration, best = state["restart"], state["iteration"], state["best"]
            model, stopped, reached = restore(state["model"]), state["stopped"], state["log_prob"]
        except (RuntimeError, ValueError, KeyError, TypeError):
            raise RunError(
                "checkpoints/state.pt does not fit config.yaml; one of the two was changed or "
                "comes from another run"
            ) from None
        if stopped:
            restart, best, model = restart + 1, max(best, reached), None
        else:
            expected = steps.e_step(model)

    while restart < options.restarts:
        began = time.perf_counter()
        after_m = None
        before = -math.inf
        if model is None:
            iteration, model = 0, steps.start(restart)
        else:
            iteration, before, old = iteration + 1, expected.mean_log_prob, model
            model = steps.m_step(expected, old)
        try:
            if iteration:
                after_m = steps.elbo_after_m(expected, old, model)
                del expected, old  # before the next E-step makes room for its own
            expected = steps.e_step(model)
        except SingularCovariance as error:
            if steps.explain is None:
                raise
            when = (
                f"after iteration {iteration}"
                if iteration
                else "at its start, before any iteration"
            )
            when += f" of restart {restart + 1}" if options.restarts > 1 else ""
            kept = ""
            if restart:
                kept = "; the best parameters so far are kept"
            elif iteration:
                kept = f"; iteration {iteration - 1} is kept"
            raise RunError(steps.explain(error, model, when) + kept) from None
        log_prob = expected.mean_log_prob
        if not math.isfinite(log_prob):
            raise RunError(
                f"the mean of ln p(x) became {log_prob} in iteration {iteration}: a variance is "
                "too small for these numbers; a larger model.covariance_floor helps"
            )
        stopped = None
        if log_prob - before < options.tolerance:
            stopped = "tolerance"
        elif iteration >= options.max_iter:
            stopped = "max_iter"
        record: dict[str, Any] = {
            "iteration": iteration,
            "restart": restart,
            "train": {"log_prob": log_prob, "elbo_after_e": expected.mean_elbo}
            | ({} if after_m is None else {"elbo_after_m": after_m}),
        }
        if steps.validation is not None:
            record["validation"] = {"log_prob": steps.validation(model)}
        record |= steps.facts(model) | {
            "stopped": stopped,
            "seconds": time.perf_counter() - began,
        }
        if stopped:
            model = steps.finish(model)
        yield FitStep(
            iteration,
            record,
            {
                "model": model.state_dict(),
                "restart": restart,
                "iteration": iteration,
                "log_prob": log_prob,
                "best": best,
                "stopped": stopped,
            },
            keep=log_prob > best,
        )
        if stopped:
            restart, best, model = restart + 1, max(best, log_prob), None
