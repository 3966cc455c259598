"""Expectation maximisation: the loop, for any model whose E-step is exact."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from torch import Tensor, nn

from vaexp.errors import RunError
from vaexp.fitting import MISFIT, FitStep
from vaexp.processes import ALONE, Processes


class Expected(Protocol):
    """The result of an E-step. Each kind of model adds what its own M-step needs."""

    @property
    def mean_log_prob(self) -> float:
        """Mean of ln p(x) over the training images, nats."""
        ...

    @property
    def mean_elbo(self) -> float:
        """Mean of the ELBO with the exact posterior, nats: the same number, computed otherwise."""
        ...


Config = TypeVar("Config", contravariant=True)
"""The section ``model`` of the config."""
Model = TypeVar("Model", bound=nn.Module)
E = TypeVar("E", bound=Expected)


class Collapse(RunError):
    """The likelihood has become unbounded, as it does where a variance has fallen to 0.

    The steps of a model raise this error. ``fit`` reports it as "``what`` collapsed after iteration
    7: ``why``".
    """

    def __init__(self, what: str, why: str):
        super().__init__(f"{what} collapsed: {why}")
        self.what = what
        self.why = why


class EMSteps(ABC, Generic[Config, Model, E]):
    """The steps of EM for one kind of model and for the images that it is fitted to.

    The steps leave the models that they are given as they are and return new ones. ``start``,
    ``e_step``, ``m_step`` and ``elbo_after_m`` may raise Collapse, or RunError with a message that
    needs no iteration beside it. A concrete class is ``@final``, so that the type checker names
    what it leaves out.
    """

    @classmethod
    @abstractmethod
    def from_config(
        cls,
        config: Config,
        x: Tensor,
        label: Tensor,
        validation: Tensor | None,
        seed: int,
        processes: Processes,
    ) -> Self:
        """The steps for training images x (N, D) with digits (N,), as the section describes them.

        ``validation`` holds other images (M, D), if there are any. All random numbers follow from
        ``seed``. Several ``processes`` are given the same images, work on a share of them each, and
        add up what they need, so that all go on with the same numbers.
        """

    @classmethod
    @abstractmethod
    def not_finite(cls) -> str:
        """The cause and the cure that a user is told when ln p(x) is not a finite number."""

    @abstractmethod
    def start(self, restart: int) -> Model:
        """The initial parameters of a restart; restarts are counted from 0.

        Of several processes the first one makes them for all.
        """

    @abstractmethod
    def e_step(self, model: Model) -> E:
        """Expectations over the training images under the exact posterior of ``model``."""

    @abstractmethod
    def m_step(self, expected: E, model: Model) -> Model:
        """The parameters that maximise the ELBO, given the E-step of ``model``."""

    @abstractmethod
    def elbo_after_m(self, expected: E, model: Model, updated: Model) -> float:
        """The mean ELBO with the posterior of ``model`` and the parameters of ``updated``, nats.

        ``expected`` is the E-step of ``model``, and ``updated`` the M-step after it.
        """

    @abstractmethod
    def validation(self, model: Model) -> float | None:
        """Mean of ln p(x) over the validation images, nats; None where there are none."""

    @abstractmethod
    def facts(self, model: Model) -> dict[str, Any]:
        """The numbers that only this kind of model adds to the record of an iteration."""

    def finish(self, model: Model) -> Model:
        """The parameters that a restart ends with: the same density in the form to be kept."""
        return model


@dataclass(frozen=True, kw_only=True)
class EMOptions:
    """When to stop. The config key of the same name documents the meaning of each."""

    max_iter: int
    tolerance: float
    restarts: int

    def why_stop(self, iteration: int, gain: float) -> str | None:
        """The reason to stop after an iteration that added ``gain`` nats to ln p(x), or None."""
        if gain < self.tolerance:
            return "tolerance"
        return "max_iter" if iteration >= self.max_iter else None


def fit(
    steps: EMSteps[Config, Model, E],
    options: EMOptions,
    *,
    state: dict[str, Any] | None = None,
    restore: Callable[[dict[str, Any]], Model],
    processes: Processes = ALONE,
) -> Iterator[FitStep]:
    """Alternate M-step and E-step, and yield after every iteration; iteration 0 is the start.

    A record's ``train.log_prob`` is the mean of ln p(x) under the parameters after that iteration,
    which are those in the FitStep. ``elbo_after_m`` is the ELBO after the iteration's M-step, with
    the posterior of the parameters before it. ``elbo_after_e`` is the ELBO after the next E-step,
    which closes the gap (section 2.2 of the report this project follows). The last record of a
    restart says why it ``stopped``: tolerance or max_iter. A FitStep is to be kept when its
    parameters are better than the last ones of every earlier restart.

    ``state`` is that of an earlier FitStep, to go on from there, and ``restore`` makes a model of
    the state dict in it. A restart that had stopped goes on too, if these options would not have
    stopped it. Raises RunError where the likelihood becomes unbounded, where ln p(x) is
    not finite, and where ``state`` does not fit the model.
    """
    restart, best, iteration, model = _position(state, options, restore)
    expected = None if model is None else steps.e_step(model)
    while restart < options.restarts:
        began, before, after_m = time.perf_counter(), -math.inf, None
        try:
            if model is None or expected is None:
                iteration, model = 0, _start(steps, restart, restore, processes)
            else:
                iteration, before, old = iteration + 1, expected.mean_log_prob, model
                model = steps.m_step(expected, old)
                after_m = steps.elbo_after_m(expected, old, model)
                del old, expected  # before the next E-step needs the memory
            expected = steps.e_step(model)
        except Collapse as error:
            raise RunError(_report(error, iteration, restart, options.restarts)) from None
        log_prob = expected.mean_log_prob
        if not math.isfinite(log_prob):
            what = f"the mean of ln p(x) became {log_prob} in iteration {iteration}"
            raise RunError(f"{what}: {steps.not_finite()}")
        stopped = options.why_stop(iteration, log_prob - before)
        train = {"log_prob": log_prob, "elbo_after_e": expected.mean_elbo}
        train |= {} if after_m is None else {"elbo_after_m": after_m}
        record: dict[str, Any] = {"iteration": iteration, "restart": restart, "train": train}
        if (validation := steps.validation(model)) is not None:
            record["validation"] = {"log_prob": validation}
        record |= steps.facts(model) | {"stopped": stopped}
        record["seconds"] = time.perf_counter() - began
        model = steps.finish(model) if stopped else model
        at = {"restart": restart, "iteration": iteration, "log_prob": log_prob, "best": best}
        gain = log_prob - before
        resumable = {"model": model.state_dict(), **at, "stopped": stopped, "gain": gain}
        yield FitStep(iteration, record, resumable, keep=log_prob > best)
        if stopped:
            restart, best, model, expected = restart + 1, max(best, log_prob), None, None


def _start(
    steps: EMSteps[Config, Model, E],
    restart: int,
    restore: Callable[[dict[str, Any]], Model],
    processes: Processes,
) -> Model:
    """The parameters that a restart begins with: those of the first process."""
    if processes.count == 1:
        return steps.start(restart)
    made = steps.start(restart).cpu().state_dict() if processes.rank == 0 else {}
    return restore(processes.of_first(made))


def _position(
    state: dict[str, Any] | None,
    options: EMOptions,
    restore: Callable[[dict[str, Any]], Model],
) -> tuple[int, float, int, Model | None]:
    """Where to go on: the restart, the best ln p(x) of earlier restarts, the iteration, its model.

    The model is None where a restart begins. Raises RunError where ``state`` does not fit.
    """
    if state is None:
        return 0, -math.inf, 0, None
    try:
        restart, iteration, best = state["restart"], state["iteration"], state["best"]
        model, reached = restore(state["model"]), state["log_prob"]
        # A state of an older version has no gain, which was small if it was why the restart stopped
        gain = state.get("gain", math.inf if state["stopped"] == "max_iter" else -math.inf)
        numbers = (restart, iteration, best, reached, gain)
        if not all(isinstance(each, int | float) for each in numbers):
            raise TypeError("a number is of another type")
        stopped = state["stopped"] and options.why_stop(iteration, gain)
    except (RuntimeError, ValueError, KeyError, TypeError):
        raise RunError(MISFIT) from None
    return (
        (restart + 1, max(best, reached), 0, None) if stopped else (restart, best, iteration, model)
    )


def _report(error: Collapse, iteration: int, restart: int, restarts: int) -> str:
    """The message that says what collapsed, when and why, and which parameters are kept."""
    when = f"after iteration {iteration}" if iteration else "at its start, before any iteration"
    when += f" of restart {restart + 1}" if restarts > 1 else ""
    message = f"{error.what} collapsed {when}: {error.why}"
    if restart:
        return f"{message}; the best parameters so far are kept"
    return f"{message}; iteration {iteration - 1} is kept" if iteration else message
