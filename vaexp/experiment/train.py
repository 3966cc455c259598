"""Training an experiment from its config to a finished run folder: where the parts are wired up."""

import math
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, assert_never

import torch
from torch import Tensor

from vaexp.config import GMMExperiment, PPCAExperiment, VAEExperiment, digest, unit
from vaexp.data import CLASSES, PIXELS, Transform
from vaexp.errors import RunError, Terminated
from vaexp.evaluation.measure import Measure, join
from vaexp.experiment.draw.run import illustrate, illustrate_history
from vaexp.experiment.evaluate import measure_latent_use
from vaexp.experiment.measure import facts, importance_weighted, measure_split
from vaexp.experiment.prepare import Experiment
from vaexp.fitting import FitStep, em, gmm, ppca, sgd
from vaexp.models import PPCA, VAE, Model, build
from vaexp.models.moments import Moments
from vaexp.progress import Reporter
from vaexp.runs import environment
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights
from vaexp.seeding import seeded
from vaexp.tables import show_entry

EM_WRITES_EVERY = 1.0  # seconds: an iteration may take a millisecond, and writing it far more


def train(
    experiment: Experiment, runs_dir: Path, reporter: Reporter, resume: RunFolder | None = None
) -> RunFolder:
    """Fit, measure and illustrate in a new run folder, or go on in ``resume``.

    However it ends, run.json says how: finished, failed (with the error) or interrupted. Every
    finished epoch is on disk before the next one starts. Raises UserError when another process is
    at work on the same run.
    """
    config = experiment.config
    run = resume or RunFolder.create(runs_dir, config)
    with run.locked(), _sigterm_raises(), reporter.logging_to(run.path / "train.log"):
        try:
            run.start()
            _note_environment(experiment, run)
            reporter.say(f"run folder {run.path}")
            _fit(experiment, run, reporter)
            _measure(experiment, run, reporter)
            _draw(experiment, run, reporter)
            run.end("finished", 0)
        except KeyboardInterrupt:
            _stopped(run, reporter, 130, "Ctrl-C")
            raise
        except Terminated:
            _stopped(run, reporter, 143, "SIGTERM")
            raise
        except RunError as error:
            run.end("failed", 1, str(error))
            reporter.log(str(error))
            place = "" if str(run.path) in str(error) else f"{run.path}: "
            raise RunError(f"{place}{error}") from None
        except BaseException as error:
            run.end("failed", 1, f"{type(error).__name__}: {error}")
            reporter.log(traceback.format_exc())
            raise
    return run


def _note_environment(experiment: Experiment, run: RunFolder) -> None:
    """Write environment.json; on resuming, insist that config and data are still those it names."""
    hashes = {
        "config_sha256": digest(experiment.config),
        "data_sha256": experiment.data.sha256,
    }
    if not (run.path / "environment.json").exists():
        seed, device = experiment.config.seed, experiment.device
        run.write_environment(environment.describe(seed=seed, device=device) | hashes)
    known = run.environment()
    for key, what in (("config_sha256", "config.yaml"), ("data_sha256", "the data")):
        if known.get(key) != hashes[key]:
            raise RunError(f"{what} changed since the run started; start a new run instead")


def _fit(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    """Fit the model, or go on from where the run stopped; each step is soon on disk."""
    state = run.state()
    if state is None and len(run.records()) > 1:
        raise RunError("checkpoints/state.pt is missing; copy the run folder again")
    if state is not None and not {"records", "at"} <= state.keys():
        raise RunError(
            "checkpoints/state.pt does not fit config.yaml; one of the two was changed or comes "
            "from another run"
        )
    run.truncate_records(state["records"] if state else 0)
    if state is not None:
        reporter.say(f"resuming after {unit(experiment.config)} {state['at']}")
    if isinstance(experiment.model, VAE):
        _fit_by_gradients(experiment, experiment.model, run, reporter, state)
    else:
        _fit_by_em(experiment, run, reporter, state)


def _fit_by_gradients(
    experiment: Experiment,
    model: VAE,
    run: RunFolder,
    reporter: Reporter,
    state: dict[str, Any] | None,
) -> None:
    config, data = experiment.config, experiment.data
    assert isinstance(config, VAEExperiment)
    objective = {"beta": config.model.beta, "beta_warmup": config.model.beta_warmup}
    options = sgd.SGDOptions(**config.train.model_dump() | objective)
    transform = Transform(config.data.transform)
    pixels = data.train.pixels.to(experiment.device)
    n = len(data.train)
    steps = options.total_steps(n)
    steps_per_epoch = -(-n // options.batch_size)
    epochs = -(-steps // steps_per_epoch)
    images = n * (steps // steps_per_epoch) + options.batch_size * (steps % steps_per_epoch)

    def show(record: dict[str, Any]) -> None:
        split = "validation" if "validation" in record else "train"
        numbers = [f"{key} {record[split][key]:,.2f}" for key in ("elbo", "rate", "distortion")]
        reporter.step(
            f"epoch {record['epoch']}/{epochs}",
            "  ".join([f"{split} {numbers[0]}", *numbers[1:]]),
            f"{record['images_per_second']:,.0f} images/s",
        )

    with reporter.bar("training", images, "images", done=n * state["at"] if state else 0):
        fitted = sgd.fit(
            model,
            lambda rows: transform(pixels[rows]),
            data.train.label.to(experiment.device),
            experiment.validation_images(),
            options,
            seed=config.seed,
            state=state,
            on_batch=reporter.advance,
        )
        _write_steps(run, fitted, show)
    if run.records()[-1]["step"] < steps:
        reporter.say(
            f"stopped early: no better validation ELBO for {config.train.patience} epochs; "
            f"keeping epoch {run.weights()[1]}"
        )


def _fit_by_em(
    experiment: Experiment, run: RunFolder, reporter: Reporter, state: dict[str, Any] | None
) -> None:
    config = experiment.config
    assert not isinstance(config, VAEExperiment)
    options = em.EMOptions(**config.train.model_dump())
    match config:
        case GMMExperiment():
            steps: em.EMSteps[Any, Any] = _gmm_steps(experiment, config)
            beside = f" [floor {config.model.covariance_floor:g}]"
        case PPCAExperiment():
            steps, beside = _ppca_steps(experiment, config), ""
            if config.model.method == "closed_form":
                options = replace(options, max_iter=0)
        case _:
            assert_never(config)

    def restore(parameters: dict[str, Tensor]) -> Model:
        model = build(config.model, data_dim=PIXELS, classes=CLASSES)
        model.load_state_dict(parameters, assign=True)
        return model.to(experiment.device)

    def show(record: dict[str, Any]) -> None:
        restart = f"restart {record['restart'] + 1}, " if options.restarts > 1 else ""
        numbers = [
            f"{split} log_prob {record[split]['log_prob']:,.3f}{beside}"
            for split in ("train", "validation")
            if split in record
        ]
        title = f"{restart}iteration {record['iteration']}"
        reporter.step(title, "  ".join(numbers), f"{record['seconds']:.3g} s")

    with reporter.bar("EM", options.max_iter * options.restarts, "iterations"):
        fitted = em.fit(
            steps,
            options,
            state=state,
            restore=restore,
        )
        try:
            _write_steps(run, fitted, show, EM_WRITES_EVERY, lambda: reporter.advance(1))
        except RunError:
            if run.records():
                illustrate_history(run)
            raise
    last = run.records()[-1]
    if last["stopped"] == "max_iter" and options.max_iter > 0:
        reporter.say(
            f"stopped at train.max_iter = {options.max_iter}, before an iteration added less than "
            f"train.tolerance = {options.tolerance:g} nats"
        )


def _gmm_steps(experiment: Experiment, config: GMMExperiment) -> gmm.GMMSteps:
    held_out, model = experiment.validation_images(), config.model
    return gmm.GMMSteps(
        experiment.training_images(),
        experiment.data.train.label.to(experiment.device),
        None if held_out is None else held_out[0],
        components=model.components,
        covariance=model.covariance,
        factors=model.factors,
        covariance_floor=model.covariance_floor,
        init=model.init,
        precision=model.precision,
        seed=config.seed,
    )


def _ppca_steps(experiment: Experiment, config: PPCAExperiment) -> ppca.PPCASteps:
    """The steps hold the moments of the images, and not the images."""
    held_out, model = experiment.validation_images(), config.model
    return ppca.PPCASteps(
        Moments.of(experiment.training_images()),
        None if held_out is None else Moments.of(held_out[0]),
        model.latent_dim,
        closed=model.method == "closed_form",
        seed=config.seed,
    )


def _write_steps(
    run: RunFolder,
    steps: Iterator[FitStep],
    show: Callable[[dict[str, Any]], None],
    every: float = 0.0,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Go through the steps of a fit and write them, those of ``every`` seconds together.

    However the fit ends, the steps that it finished are written.
    """
    done = len(run.records())
    pending: list[FitStep] = []
    written = -math.inf  # the first step is written at once

    def write() -> None:
        # In this order a kill at any point leaves something to resume from: the state is last, and
        # what was written before it is written again, the same, by the resumed step.
        run.append_records([step.record for step in pending])
        kept = [step for step in pending if step.keep]
        if kept:
            run.save_weights(kept[-1].state["model"], kept[-1].at)
        run.save_state(pending[-1].state | {"at": pending[-1].at, "records": done})
        show(pending[-1].record)
        pending.clear()

    try:
        for step in steps:
            pending.append(step)
            done += 1
            on_step()
            if time.monotonic() - written >= every:
                write()
                written = time.monotonic()
    finally:
        if pending:
            run.truncate_records(done - len(pending))  # a stop may have come in the midst of write
            write()


def _measure(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    """Measure the kept weights on every split: metrics.json and per_example.npz."""
    config, data, model = experiment.config, experiment.data, experiment.model
    load_weights(model, run, experiment.device)
    transform = Transform(config.data.transform)
    splits: dict[str, dict[str, Measure]] = {}
    reporter.say(f"measuring on {len(data.train):,} training images")
    with seeded(config.seed, "elbo", "train"):
        blocks = experiment.training_blocks()
        splits["train"] = join([measure_split(model, *block, transform) for block in blocks])
    for name, split in (("validation", data.validation), ("test", data.test)):
        if split is not None:
            reporter.say(f"measuring on {len(split):,} {name} images")
            x, label = experiment.held_out_images(split, name), split.label.to(experiment.device)
            with seeded(config.seed, "elbo", name):
                splits[name] = measure_split(model, x, label, transform)
    k = config.evaluate.importance_samples if isinstance(config, VAEExperiment) else 0
    if isinstance(model, VAE) and k:
        title = f"importance-weighted bound, K = {k}"
        with reporter.bar(title, len(x), "images"), seeded(config.seed, "iw_bound"):
            bound = importance_weighted(model, x, label, transform, k, reporter.advance)
        splits["test"] |= bound  # x and label are those of the test split

    metrics = {
        name: {
            metric: measure.summary() | facts(config, metric)
            for metric, measure in measures.items()
        }
        for name, measures in splits.items()
    }
    for name, entries in metrics.items():
        for metric, entry in entries.items():
            if not all(math.isfinite(entry[key] or 0.0) for key in ("value", "se")):
                raise RunError(f"the {metric} of some {name} images is not finite: " + _cure(model))
    reporter.say(_headline(metrics["test"]))
    per_example = {metric: measure.values.numpy() for metric, measure in splits["test"].items()}
    run.write_metrics(metrics, {**per_example, "label": data.test.label.numpy()})
    measure_latent_use(run, experiment, x, reporter)  # x is that of the test split


def _cure(model: Model) -> str:
    if isinstance(model, VAE):
        return (
            "training diverged in its last steps; a lower train.learning_rate or a "
            "train.gradient_clip usually helps"
        )
    return "a variance is too small for these numbers; a larger model.covariance_floor helps"


def _headline(test: dict[str, Any]) -> str:
    names = ("log_prob", "elbo", "iw_bound", "rate", "rmse_mean")
    exact = test["elbo"].get("draws") is None  # then the elbo is the log_prob
    shown = [name for name in names if name in test and not (exact and name == "elbo")]
    return "test  " + "  ".join(f"{name} {show_entry(test[name])}" for name in shown)


def _draw(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    reporter.say("drawing figures")
    spectrum = None
    if isinstance(experiment.model, PPCA):
        covariance = Moments.of(experiment.training_images()).covariance
        spectrum = torch.linalg.eigvalsh(covariance).flip(0).cpu()
    test = experiment.data.test
    x = experiment.held_out_images(test, "test").cpu()
    illustrate(run, x, test.label, spectrum)


def _stopped(run: RunFolder, reporter: Reporter, exit_code: int, how: str) -> None:
    run.end("interrupted", exit_code, how)
    state = run.state()  # the last line of metrics.jsonl may be of an epoch after the checkpoint
    done = state["at"] if state else 0
    reporter.say(f"stopped by {how} after {done} finished {unit(run.config())}s; go on with")
    reporter.say(f"  vaexp train --resume {run.path}")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that the run ends in order."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
