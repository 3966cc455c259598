"""Fitting a model by gradients or by EM. Each step is written to disk soon after it is done."""

import math
import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from vaexp.config import (
    Config,
    EMExperiment,
    GMMConfig,
    GMMExperiment,
    LinearGaussianConfig,
    LinearGaussianExperiment,
    VAEExperiment,
)
from vaexp.data import CLASSES
from vaexp.errors import RunError, UserError
from vaexp.experiment.draw.run import illustrate_history
from vaexp.experiment.prepare import Experiment
from vaexp.fitting import MISFIT, FitStep, em, sgd
from vaexp.models import VAE, build
from vaexp.processes import ALONE, Processes
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder
from vaexp.runs.tensorboard import events

EM_WRITES_EVERY = 1.0  # seconds, as an iteration may take far less time than writing it

Steps = em.EMSteps[GMMConfig | LinearGaussianConfig, nn.Module, em.Expected]
"""The steps of a model that is fitted by EM. They see only its own section and its own models."""


@dataclass(frozen=True)
class Work:
    """What the first of several processes tells the others to fit with it."""

    config: Config
    data_sha256: str
    state: dict[str, Any] | None
    """The state of the checkpoint to go on from, if there is one."""


def fit(
    experiment: Experiment,
    run: RunFolder,
    reporter: Reporter,
    processes: Processes = ALONE,
    *,
    figures: bool = True,
) -> None:
    """Fit the model, or continue from where the run stopped.

    Without ``figures`` the steps of an EM that fails are not drawn. Of several ``processes`` this
    is the first, and the others ``follow``. Raises RunError if the checkpoint is missing or belongs
    to another config.
    """
    state = run.state()
    if state is None and len(run.records()) > 1:
        raise RunError("checkpoints/state.pt is missing; copy the whole run folder again")
    counts = ("records", "at", *(["step"] if state is not None and "inside" in state else []))
    if state is not None and not all(type(state.get(key)) is int for key in counts):
        raise RunError(MISFIT)
    run.truncate_records(state["records"] if state else 0)
    if state is not None:
        inside = f", step {state['step']}" if "inside" in state else ""
        reporter.say(f"resuming after {experiment.config.model.unit} {state['at']}{inside}")
    with processes.joined():
        processes.of_first(Work(experiment.config, experiment.data.sha256, state))
        match experiment.config:
            case VAEExperiment() as config:
                _fit_by_gradients(experiment, config, run, reporter, state, processes)
            case GMMExperiment() | LinearGaussianExperiment() as config:
                try:
                    _fit_by_em(experiment, config, run, reporter, state, processes)
                except RunError:
                    if figures and run.records():
                        with suppress(RunError, OSError):  # the first error counts
                            illustrate_history(run, config)
                    raise
            case _:
                assert_never(experiment.config)


def check_shares(experiment: Experiment, processes: Processes) -> None:
    """Raise UserError where several processes cannot share the work on an experiment."""
    if processes.count == 1:
        return
    data = experiment.data
    shared = {"training images": len(data.train)}
    shared |= {} if data.validation is None else {"validation images": len(data.validation)}
    match experiment.config:
        case VAEExperiment(train=train):
            shared["train.batch_size"] = train.batch_size
        case GMMExperiment() | LinearGaussianExperiment():
            pass
        case _:
            assert_never(experiment.config)
    for name, images in shared.items():
        if images < processes.count:
            raise UserError(
                f"{processes.count} processes cannot share {name} = {images}: each of them needs "
                "one image at least; start fewer processes"
            )
    if experiment.device == "cuda" and processes.local_count > torch.cuda.device_count():
        raise UserError(
            f"{processes.local_count} processes of this machine need a GPU each, and it has "
            f"{torch.cuda.device_count()}; start fewer, or give device=cpu"
        )


def dismiss(processes: Processes) -> None:
    """Tell the processes that ``follow`` that there is nothing to fit."""
    with processes.joined():
        processes.of_first(None)


def follow(processes: Processes) -> None:
    """Fit with the first process what it fits, which alone writes. Not to be called by that one.

    Raises UserError or RunError for problems that only the data or the machine of this process can
    show, and RunError where the fit fails, which it does in all processes alike.
    """
    with processes.joined():
        work: Work | None = processes.of_first(None)
        if work is None:
            return
        if work.config.device != "cpu" and torch.cuda.is_available():
            torch.cuda.set_device(processes.local_rank)
        experiment = Experiment.prepare(work.config)
        if experiment.data.sha256 != work.data_sha256:
            raise UserError(f"process {processes.rank} has other data than the first process")
        match work.config:
            case VAEExperiment() as config:
                _, steps = _ascent(experiment, config, work.state, processes)
            case GMMExperiment() | LinearGaussianExperiment() as config:
                _, steps = _em(experiment, config, work.state, processes)
            case _:
                assert_never(work.config)
        for _ in steps:
            pass


def _fit_by_gradients(
    experiment: Experiment,
    config: VAEExperiment,
    run: RunFolder,
    reporter: Reporter,
    state: dict[str, Any] | None,
    processes: Processes,
) -> None:
    options, fitted = _ascent(experiment, config, state, processes, reporter.advance)
    data, model = experiment.data, experiment.model
    assert isinstance(model, VAE)
    n = len(data.train)
    steps = options.total_steps(n)
    steps_per_epoch = -(-n // options.batch_size)
    epochs = -(-steps // steps_per_epoch)
    images = n * (steps // steps_per_epoch) + options.batch_size * (steps % steps_per_epoch)
    done = n * state["at"] if state else 0
    label = data.train.label.to(experiment.device)
    part = None if state is None else sgd.part_of(state, model, label, options)
    if part is not None:
        done += part.count
        if not part.is_of(label.device):
            reporter.say(
                "note: this epoch was begun on another kind of device, so its rest has another "
                "order of the images and other random numbers than it would have had there"
            )
    with reporter.bar("training", images, "images", done=done):
        write_steps(run, fitted, lambda record: _show_epoch(record, epochs, reporter))
    if run.records()[-1]["step"] < steps:
        reporter.say(
            f"stopped early, as the validation ELBO did not rise for {config.train.patience} "
            f"epochs; the weights of epoch {run.weights()[1]} are kept"
        )


def _ascent(
    experiment: Experiment,
    config: VAEExperiment,
    state: dict[str, Any] | None,
    processes: Processes,
    on_batch: Callable[[int], None] = lambda _: None,
) -> tuple[sgd.SGDOptions, Iterator[FitStep]]:
    """How the VAE of the config is trained, and the steps of that."""
    model = experiment.model
    assert isinstance(model, VAE)
    objective = {"beta": config.model.beta, "beta_warmup": config.model.beta_warmup}
    options = sgd.SGDOptions(**config.train.model_dump() | objective)
    fitted = sgd.fit(
        model,
        experiment.training_batches(),
        experiment.data.train.label.to(experiment.device),
        experiment.validation_images(),
        options,
        seed=config.seed,
        state=state,
        on_batch=on_batch,
        processes=processes,
    )
    return options, fitted


def _show_epoch(record: dict[str, Any], epochs: int, reporter: Reporter) -> None:
    """Show the ELBO, rate and distortion of an epoch, on validation images if there are any."""
    split = "validation" if "validation" in record else "train"
    numbers = [f"{key} {record[split][key]:,.2f}" for key in ("elbo", "rate", "distortion")]
    reporter.step(
        f"epoch {record['epoch']}/{epochs}",
        "  ".join([f"{split} {numbers[0]}", *numbers[1:]]),
        f"{record['images_per_second']:,.0f} images/s",
    )


def _fit_by_em(
    experiment: Experiment,
    config: GMMExperiment | LinearGaussianExperiment,
    run: RunFolder,
    reporter: Reporter,
    state: dict[str, Any] | None,
    processes: Processes,
) -> None:
    options, fitted = _em(experiment, config, state, processes)
    floor = config.model.likelihood_facts.get("covariance_floor")
    beside = "" if floor is None else f" [floor {floor:g}]"
    with reporter.bar("EM", options.max_iter * options.restarts, "iterations"):
        write_steps(
            run,
            fitted,
            lambda record: _show_iteration(record, options.restarts, beside, reporter),
            EM_WRITES_EVERY,
            lambda: reporter.advance(1),
        )
    last = run.records()[-1]
    if last["stopped"] == "max_iter" and options.max_iter > 0:
        reporter.say(
            f"stopped at train.max_iter = {options.max_iter} before EM converged: the last "
            f"iteration still added at least train.tolerance = {options.tolerance:g} nats per image"
        )


def _em(
    experiment: Experiment,
    config: GMMExperiment | LinearGaussianExperiment,
    state: dict[str, Any] | None,
    processes: Processes,
) -> tuple[em.EMOptions, Iterator[FitStep]]:
    """When EM stops, and its iterations for the model that the config names, on its images.

    The images are freed here, unless the steps keep them.
    """
    held_out = experiment.validation_images()
    validation = None if held_out is None else held_out[0]
    x = experiment.training_images()
    label = experiment.data.train.label.to(experiment.device)
    steps = steps_of(config).from_config(config.model, x, label, validation, config.seed, processes)
    options = em.EMOptions(**config.train.model_dump())
    options = replace(options, max_iter=0) if config.closed_form else options

    def restore(parameters: dict[str, Tensor]) -> nn.Module:
        model = build(config.model, data_dim=experiment.data.pixels, classes=CLASSES)
        model.load_state_dict(parameters, assign=True)
        return model.to(experiment.device)

    return options, em.fit(steps, options, state=state, restore=restore, processes=processes)


def steps_of(config: EMExperiment) -> type[Steps]:
    """The class of the steps that the config's model is fitted by."""
    steps: type[Steps] = pkgutil.resolve_name(config.steps)
    return steps


def what_helps(config: Config) -> str:
    """What a user is told if a number is not finite: the probable cause, and what helps."""
    match config:
        case VAEExperiment():
            return sgd.NOT_FINITE
        case GMMExperiment() | LinearGaussianExperiment():
            return steps_of(config).not_finite()
    assert_never(config)


def _show_iteration(record: dict[str, Any], restarts: int, floor: str, reporter: Reporter) -> None:
    """Show the mean ln p(x) of an iteration; ``floor`` is the text that is shown after it."""
    restart = f"restart {record['restart'] + 1}, " if restarts > 1 else ""
    numbers = [
        f"{split} log_prob {record[split]['log_prob']:,.3f}{floor}"
        for split in ("train", "validation")
        if split in record
    ]
    title = f"{restart}iteration {record['iteration']}"
    reporter.step(title, "  ".join(numbers), f"{record['seconds']:.3g} s")


def write_steps(
    run: RunFolder,
    steps: Iterator[FitStep],
    show: Callable[[dict[str, Any]], None],
    every: float = 0.0,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Write the steps of a fit to the run folder, at most once in ``every`` seconds.

    Every finished step is written, however the fit ends. ``show`` gets the last record of each
    write, and ``on_step`` is called after each step.
    """
    done = len(run.records())
    pending: list[FitStep] = []
    written = -math.inf  # the first step is written at once

    def write() -> None:
        # The run can be resumed after a kill at any point: the state is written last, and the
        # resumed step writes again, with the same values, what was written before the state.
        records = [step.record for step in pending if step.record is not None]
        run.append_records(records)
        kept = [step for step in pending if step.keep]
        if kept:
            run.save_weights(kept[-1].state["model"], kept[-1].at)
        run.save_state(pending[-1].state | {"at": pending[-1].at, "records": done})
        for number, record in enumerate(records, start=done - len(records) + 1):
            add(number, record)
        if records:
            show(records[-1])
        pending.clear()

    with events(run) as add:
        try:
            for step in steps:
                pending.append(step)
                done += step.record is not None
                on_step()
                if time.monotonic() - written >= every:
                    write()
                    written = time.monotonic()
        finally:
            if pending:
                # The stop may have come in the middle of a write.
                run.truncate_records(done - sum(step.record is not None for step in pending))
                write()
