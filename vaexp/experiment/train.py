"""Training: an experiment is fitted, measured and drawn, and its run folder is written."""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, assert_never

from torch import Tensor

from vaexp import signals
from vaexp.config import Config, digest
from vaexp.data import Split, Transform
from vaexp.errors import RunError, Terminated, UserError, in_a_line
from vaexp.evaluation.bounds import DRAWS, iw_measures
from vaexp.evaluation.measure import Measure, join
from vaexp.evaluation.tails import disagreement
from vaexp.experiment.draw.run import illustrate
from vaexp.experiment.evaluate import evaluate_after_training
from vaexp.experiment.fit import fit, what_helps
from vaexp.experiment.measure import (
    entry,
    measure_split,
    of_all_training_images,
    with_bits_per_dim,
)
from vaexp.experiment.prepare import Experiment
from vaexp.experiment.reserve import reserved
from vaexp.models import GMM, VAE, LinearGaussian
from vaexp.models.moments import Moments
from vaexp.processes import ALONE, Processes
from vaexp.progress import Reporter
from vaexp.runs import environment
from vaexp.runs.continuing import extend
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import ENVIRONMENT, LOG
from vaexp.runs.heartbeat import beating
from vaexp.runs.tensorboard import add_test, check_installed
from vaexp.runs.trained import load_weights
from vaexp.runs.unforeseen import fault
from vaexp.seeding import seeded
from vaexp.shown import show_entry
from vaexp.visible import visible

FEW_DRAWS = 2
"""Draws of z for each training and validation image. Those of test images, whose numbers are cited
and compared image by image, are more."""


def train(
    experiment: Experiment,
    runs_dir: Path,
    reporter: Reporter,
    resume: RunFolder | None = None,
    *,
    figures: bool = True,
    images: int | None = None,
    processes: Processes = ALONE,
) -> RunFolder:
    """Fit, measure and draw an experiment in a new run folder, or continue the run ``resume``.

    Without ``figures`` nothing is drawn. ``images`` is how many of the first images of each split
    are measured at most; the default is all of them. Several ``processes`` fit the model together,
    of which this is the first; it alone writes, measures and draws.

    run.json says how the run ended: finished, failed (with the error) or interrupted. Every
    finished epoch is on disk before the next one starts. Raises UserError if another process is
    working on the same run, or if the config asks for what is not installed.
    """
    config = experiment.config
    check_installed(config)
    run = resume or RunFolder.create(runs_dir, config)
    with (
        run.locked(reporter.say),
        signals.stoppable(lambda: reporter.say(_terminal_lost())),
        run.files.append(LOG) as log,
        reporter.logging_to(log),
        reserved(run.path) as reserve,
        ExitStack() as beats,
    ):
        try:
            run.start()
            beats.enter_context(beating(run.files, run.info()))
            if resume is not None:
                extend(run, config)
            _note_environment(experiment, run, processes)
            reporter.say(f"run folder {run.path}")
            if experiment.data.doubt is not None:
                reporter.log(f"note: {experiment.data.doubt}")  # stderr has it already
            fit(experiment, run, reporter, processes, figures=figures)
            _measure(experiment, run, reporter, images)
            add_test(run)
            if figures:
                _draw(experiment, run, reporter)
            run.end("finished", 0)
        except BaseException as error:
            signals.ending()
            reserve.spend()
            raise _ended(run, reporter, signals.cause(error)) from None
    return run


def _ended(run: RunFolder, reporter: Reporter, error: BaseException) -> BaseException:
    """Say in run.json how the run ended. Returns the exception that ends the command."""
    match error:
        case KeyboardInterrupt():
            _stopped(run, reporter, 130, "Ctrl-C")
        case Terminated():
            _stopped(run, reporter, 143, "SIGTERM")
        case _:
            return _failed(run, reporter, error)
    return error


def _failed(run: RunFolder, reporter: Reporter, error: BaseException) -> RunError:
    """Mark the run as failed. Returns the error that says so, and how to go on."""
    foreseen = isinstance(error, RunError | UserError)
    what = str(error) if foreseen else in_a_line(error)
    with suppress(OSError):  # the first error counts
        run.end("failed", 1, what)
    if foreseen or not isinstance(error, Exception):
        reporter.log(what)
        return RunError(what if str(run.path) in what else f"{run.path}: {what}")
    go_on = f"vaexp train --resume {visible(str(run.path))} goes on after the last checkpoint"
    return fault(run, error, go_on)


def _note_environment(experiment: Experiment, run: RunFolder, processes: Processes) -> None:
    """Write environment.json, to which a resumption adds the environment that it runs in.

    A resumed run was held against its own hashes before.
    """
    hashes = {
        "config_sha256": digest(experiment.config),
        "data_sha256": experiment.data.sha256,
        "data_known": experiment.data.doubt is None,
        "image_shape": [*experiment.data.shape],
        "image_labels": experiment.data.labels,
    }
    now = environment.describe(seed=experiment.config.seed, device=experiment.device)
    now |= {"processes": processes.count}
    if not run.has(ENVIRONMENT):
        run.write_environment(now | hashes | {"resumptions": []})
        return
    known = run.environment()
    began = {"began": run.info()["resumed"][-1]}
    run.write_environment(known | {"resumptions": [*known.get("resumptions", []), began | now]})


def _measure(experiment: Experiment, run: RunFolder, reporter: Reporter, most: int | None) -> None:
    """Measure the kept weights on every split, and write metrics.json and per_example.npz.

    ``most`` is the largest number of images of a split that are measured, the first ones; None
    stands for all.
    """
    config, data, model = experiment.config, experiment.data, experiment.model
    load_weights(model, run, experiment.device)
    transform, facts = Transform(config.data.transform), config.likelihood_facts

    def measured(x: Tensor, label: Tensor, draws: int) -> dict[str, Measure]:
        found = measure_split(model, x, label, draws=draws)
        return with_bits_per_dim(found, transform, x, facts)

    splits: dict[str, dict[str, Measure]] = {}
    reporter.say(f"measuring on {_count(data.train, most)} training images")
    with seeded(config.seed, "elbo", "train"):
        blocks = _first(experiment.training_blocks(), most)
        splits["train"] = join([measured(*block, FEW_DRAWS) for block in blocks])

    def held_out(name: str, split: Split, draws: int) -> tuple[Tensor, Tensor]:
        reporter.say(f"measuring on {_count(split, most)} {name} images")
        x = experiment.held_out_images(split, name)[:most]
        label = split.label[:most].to(experiment.device)
        with seeded(config.seed, "elbo", name):
            splits[name] = measured(x, label, draws)
        return x, label

    if data.validation is not None:
        held_out("validation", data.validation, FEW_DRAWS)
    x, label = held_out("test", data.test, DRAWS)
    bound = _importance_weighted(experiment, x, label, reporter)
    splits["test"] |= with_bits_per_dim(bound, transform, x, facts)
    _check_finite(splits, config)
    first = {name: _first_of(getattr(data, name), most) for name in splits}
    metrics = {
        name: {metric: entry(one, facts, first[name]) for metric, one in measures.items()}
        for name, measures in splits.items()
    }
    if first["train"] is None:
        whole = of_all_training_images(model, splits["train"])
        metrics["train"] |= {name: entry(one, facts) for name, one in whole.items()}
    for line in _headlines(splits["test"], metrics):
        reporter.say(line)
    per_example = {metric: measure.values.numpy() for metric, measure in splits["test"].items()}
    run.write_metrics(metrics, {**per_example, "label": label.cpu().numpy()})
    evaluate_after_training(run, experiment, x, reporter)


def _check_finite(splits: dict[str, dict[str, Measure]], config: Config) -> None:
    """Raise RunError where a value is not finite, or so large that its error is not."""
    for name, measures in splits.items():
        for metric, measure in measures.items():
            squares = measure.values.double().square().sum().item()
            variance = measure.monte_carlo_variance
            known = 0.0 if variance is None else variance.sum().item()
            # a sum of squares that overflowed may be negative, as it is updated draw by draw
            if not (math.isfinite(squares) and 0 <= known < math.inf):
                what = f"the {metric} of some {name} images is not finite"
                raise RunError(f"{what}: {what_helps(config)}")


def _first_of(split: Split, most: int | None) -> int | None:
    """How many of the first images of a split are measured, or None if these are all."""
    return most if most is not None and most < len(split) else None


def _count(split: Split, most: int | None) -> str:
    """How many images of a split are measured, and of how many if these are not all."""
    first = _first_of(split, most)
    return f"{len(split):,}" if first is None else f"the first {first:,} of {len(split):,}"


def _first(
    blocks: Iterator[tuple[Tensor, Tensor]], most: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first images and labels of blocks of them, at most so many."""
    left = most
    for x, label in blocks:
        yield x[:left], label[:left]
        if left is not None:
            left -= len(x)
            if left <= 0:
                return


def _importance_weighted(
    experiment: Experiment, x: Tensor, label: Tensor, reporter: Reporter
) -> dict[str, Measure]:
    """The importance-weighted bound of test images x (N, D), if model and config have one."""
    model, k = experiment.model, experiment.config.importance_samples
    match model:
        case VAE():
            if k == 0:
                return {}
            title = f"importance-weighted bound, K = {k}"
            with reporter.bar(title, len(x), "images"), seeded(experiment.config.seed, "iw_bound"):
                return iw_measures(model, x, label, k=k, on_images=reporter.advance)
        case GMM() | LinearGaussian():
            return {}
        case _:
            assert_never(model)


def _headlines(measures: dict[str, Measure], metrics: dict[str, dict[str, Any]]) -> list[str]:
    """The lines that end training, from the ``measures`` of test images and all entries.

    The first has bounds on ln p(x), the tightest last, then other measures. Further lines say
    where a mean rests on few images, and which AIC and BIC the training images give.
    """
    entries, train = metrics["test"], metrics["train"]
    shown = [name for name, measure in measures.items() if measure.headline]
    shown.sort(key=lambda name: measures[name].tightness or math.inf)
    lines = ["test  " + "  ".join(f"{name} {show_entry(entries[name])}" for name in shown)]
    contradicted = {name: disagreement(entries[name]) for name in shown}
    lines += [f"  {name}: {how}" for name, how in contradicted.items() if how is not None]
    criteria = [name for name in ("aic", "bic") if name in train]
    if criteria:
        shown = [f"{name} {show_entry(train[name])}" for name in criteria]
        count = train[criteria[0]]["parameters"]
        lines.append(f"train  {'  '.join(shown)}  ({count:,} free parameters)")
    return lines


def _draw(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    """Draw the figures of the run, from its files and the test images."""
    reporter.say("drawing figures")
    test = experiment.data.test
    x = experiment.held_out_images(test, "test").cpu()
    left_out = illustrate(
        run, x, test.label, lambda: Moments.of(experiment.training_images()).covariance.cpu()
    )
    for line in left_out:
        reporter.say(f"  {line}")


def _stopped(run: RunFolder, reporter: Reporter, exit_code: int, how: str) -> None:
    """Mark the run as interrupted, and say how to continue it."""
    with suppress(OSError):  # as of a full disk, which changes nothing of how it ended
        run.end("interrupted", exit_code, how)
    after = ""
    with suppress(RunError, OSError):
        # the last line of metrics.jsonl may be of an epoch after the checkpoint
        state = run.state()
        after = f" after {state['at'] if state else 0} finished {run.config().model.unit}s"
    reporter.say(f"stopped by {how}{after}; to continue the run:")
    reporter.say(f"  vaexp train --resume {run.path}")


def _terminal_lost() -> str:
    return f"the terminal has gone; training goes on as process {os.getpid()}"
