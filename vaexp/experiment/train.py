"""Training: an experiment is fitted, measured and drawn, and its run folder is written."""

import math
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, assert_never

from torch import Tensor

from vaexp.config import digest
from vaexp.data import Transform
from vaexp.errors import RunError, Terminated
from vaexp.evaluation.measure import Measure, join
from vaexp.evaluation.tails import disagreement
from vaexp.experiment.draw.run import illustrate
from vaexp.experiment.evaluate import evaluate_after_training
from vaexp.experiment.fit import fit, what_helps
from vaexp.experiment.measure import (
    entry,
    importance_weighted,
    measure_split,
    with_bits_per_dim,
)
from vaexp.experiment.prepare import Experiment
from vaexp.models import GMM, VAE, LinearGaussian
from vaexp.models.moments import Moments
from vaexp.progress import Reporter
from vaexp.runs import environment
from vaexp.runs.continuing import extend
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import ENVIRONMENT, LOG
from vaexp.runs.trained import load_weights
from vaexp.seeding import seeded
from vaexp.tables import show_entry


def train(
    experiment: Experiment, runs_dir: Path, reporter: Reporter, resume: RunFolder | None = None
) -> RunFolder:
    """Fit, measure and draw an experiment in a new run folder, or continue the run ``resume``.

    run.json says how the run ended: finished, failed (with the error) or interrupted. Every
    finished epoch is on disk before the next one starts. Raises UserError if another process is
    working on the same run.
    """
    config = experiment.config
    run = resume or RunFolder.create(runs_dir, config)
    with (
        run.locked(reporter.say),
        _sigterm_raises(),
        run.files.append(LOG) as log,
        reporter.logging_to(log),
    ):
        try:
            run.start()
            if resume is not None:
                extend(run, config)
            _note_environment(experiment, run)
            reporter.say(f"run folder {run.path}")
            if experiment.data.doubt is not None:
                reporter.say(f"note: {experiment.data.doubt}")
            fit(experiment, run, reporter)
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
    """Write environment.json of a run that begins. A resumed run was held against its own."""
    hashes = {
        "config_sha256": digest(experiment.config),
        "data_sha256": experiment.data.sha256,
        "data_known": experiment.data.doubt is None,
    }
    if not run.has(ENVIRONMENT):
        seed, device = experiment.config.seed, experiment.device
        run.write_environment(environment.describe(seed=seed, device=device) | hashes)


def _measure(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    """Measure the kept weights on every split, and write metrics.json and per_example.npz."""
    config, data, model = experiment.config, experiment.data, experiment.model
    load_weights(model, run, experiment.device)
    transform, facts = Transform(config.data.transform), config.model.likelihood_facts

    def measured(x: Tensor, label: Tensor) -> dict[str, Measure]:
        return with_bits_per_dim(measure_split(model, x, label), transform, x, facts)

    splits: dict[str, dict[str, Measure]] = {}
    reporter.say(f"measuring on {len(data.train):,} training images")
    with seeded(config.seed, "elbo", "train"):
        blocks = experiment.training_blocks()
        splits["train"] = join([measured(*block) for block in blocks])
    for name, split in (("validation", data.validation), ("test", data.test)):
        if split is not None:
            reporter.say(f"measuring on {len(split):,} {name} images")
            x, label = experiment.held_out_images(split, name), split.label.to(experiment.device)
            with seeded(config.seed, "elbo", name):
                splits[name] = measured(x, label)
    # the test split came last, so x and label are its images and labels from here on
    bound = _importance_weighted(experiment, x, label, reporter)
    splits["test"] |= with_bits_per_dim(bound, transform, x, facts)
    metrics = {
        name: {metric: entry(measure, facts) for metric, measure in measures.items()}
        for name, measures in splits.items()
    }
    for name, entries in metrics.items():
        for metric, one in entries.items():
            if not all(math.isfinite(one[key] or 0.0) for key in ("value", "se")):
                what = f"the {metric} of some {name} images is not finite"
                raise RunError(f"{what}: {what_helps(config)}")
    for line in _headlines(splits["test"], metrics["test"]):
        reporter.say(line)
    per_example = {metric: measure.values.numpy() for metric, measure in splits["test"].items()}
    run.write_metrics(metrics, {**per_example, "label": data.test.label.numpy()})
    evaluate_after_training(run, experiment, x, reporter)


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
                return importance_weighted(model, x, label, k, reporter.advance)
        case GMM() | LinearGaussian():
            return {}
        case _:
            assert_never(model)


def _headlines(measures: dict[str, Measure], entries: dict[str, Any]) -> list[str]:
    """The line that ends training: bounds on ln p(x), the tightest last, then other measures.

    Further lines say where a mean rests on few images.
    """
    shown = [name for name, measure in measures.items() if measure.headline]
    shown.sort(key=lambda name: measures[name].tightness or math.inf)
    lines = ["test  " + "  ".join(f"{name} {show_entry(entries[name])}" for name in shown)]
    contradicted = {name: disagreement(entries[name]) for name in shown}
    return lines + [f"  {name}: {how}" for name, how in contradicted.items() if how is not None]


def _draw(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    """Draw the figures of the run, from its files and the test images."""
    reporter.say("drawing figures")
    test = experiment.data.test
    x = experiment.held_out_images(test, "test").cpu()
    illustrate(
        run, x, test.label, lambda: Moments.of(experiment.training_images()).covariance.cpu()
    )


def _stopped(run: RunFolder, reporter: Reporter, exit_code: int, how: str) -> None:
    """Mark the run as interrupted, and say how to continue it."""
    run.end("interrupted", exit_code, how)
    state = run.state()  # the last line of metrics.jsonl may be of an epoch after the checkpoint
    done = state["at"] if state else 0
    unit = run.config().model.unit
    reporter.say(f"stopped by {how} after {done} finished {unit}s; to continue the run:")
    reporter.say(f"  vaexp train --resume {run.path}")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into the exception Terminated, so that the run can end properly."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
