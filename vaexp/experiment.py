"""Training an experiment from its config to a finished run folder: where the parts are wired up."""

import math
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from vaexp import environment
from vaexp.config import Config, digest
from vaexp.data import CLASSES, PIXELS, Dataset, Split, Transform, load
from vaexp.errors import RunError, Terminated, UserError
from vaexp.evaluation.bounds import elbo_measures, iw_bound
from vaexp.evaluation.measure import Measure, join
from vaexp.fitting.sgd import SGDOptions, fit
from vaexp.illustration import illustrate
from vaexp.models import VAE, build
from vaexp.progress import Reporter
from vaexp.run_folder import RunFolder
from vaexp.seeding import HELD_OUT_SEED, seeded
from vaexp.tables import show_entry
from vaexp.trained import load_weights

TRAINING_BLOCK = 5_000  # training images transformed at once for measuring


@dataclass(frozen=True)
class Experiment:
    """A config with everything it names at hand; nothing has been written yet."""

    config: Config
    data: Dataset
    model: VAE
    device: str

    @classmethod
    def prepare(cls, config: Config) -> "Experiment":
        """Load the data and draw the initial weights.

        Raises UserError or RunError for what only the data and the machine can tell.
        """
        device = _resolve_device(config.device)
        data = load(config.data)
        with seeded(config.seed, "weights"):
            model = build(config.model, data_dim=PIXELS, classes=CLASSES)
        return cls(config, data, model.to(device), device)

    def training_blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The transformed training images (n, D) and labels, block by block to spare memory."""
        pixels, label = self.data.train.pixels, self.data.train.label
        blocks = zip(pixels.split(TRAINING_BLOCK), label.split(TRAINING_BLOCK), strict=True)
        for i, (block, labels) in enumerate(blocks):
            with seeded(self.config.seed, "training images", i):
                x = Transform(self.config.data.transform)(block)
            yield x.to(self.device), labels.to(self.device)

    def held_out_images(self, split: Split, name: str) -> Tensor:
        """The transformed images (N, D) of validation or test: the same in every run."""
        with seeded(HELD_OUT_SEED, name):
            return Transform(self.config.data.transform)(split.pixels).to(self.device)


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
    config, data, model = experiment.config, experiment.data, experiment.model
    options = SGDOptions(**_sgd_settings(config))
    state = run.state()
    if state is None and len(run.records()) > 1:
        raise RunError("checkpoints/state.pt is missing; copy the run folder again")
    run.truncate_records(state["epoch"] if state else 0)
    if state is not None:
        reporter.say(f"resuming after epoch {state['epoch']}")

    transform = Transform(config.data.transform)
    pixels = data.train.pixels.to(experiment.device)
    validation = None
    if data.validation is not None:
        x = experiment.held_out_images(data.validation, "validation")
        validation = x, data.validation.label.to(experiment.device)

    n = len(data.train)
    steps = options.total_steps(n)
    steps_per_epoch = -(-n // options.batch_size)
    epochs = -(-steps // steps_per_epoch)
    images = n * (steps // steps_per_epoch) + options.batch_size * (steps % steps_per_epoch)
    with reporter.bar("training", images, done=n * state["epoch"] if state else 0):
        for step in fit(
            model,
            lambda rows: transform(pixels[rows]),
            data.train.label.to(experiment.device),
            validation,
            options,
            seed=config.seed,
            state=state,
            on_batch=reporter.advance,
        ):
            # In this order a kill at any point leaves something to resume from: the state is last,
            # and what was written before it is written again, the same, by the resumed epoch.
            run.append_record(step.record)
            if step.keep:
                run.save_weights(model.state_dict(), step.record["epoch"])
            run.save_state(step.state)
            reporter.epoch(step.record, epochs)
    if run.records()[-1]["step"] < steps:
        reporter.say(
            f"stopped early: no better validation ELBO for {config.train.patience} epochs; "
            f"keeping epoch {run.weights()[1]}"
        )


def _sgd_settings(config: Config) -> dict[str, Any]:
    model = config.model
    return config.train.model_dump() | {"beta": model.beta, "beta_warmup": model.beta_warmup}


def _measure(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    """Measure the kept weights on every split: metrics.json and per_example.npz."""
    config, data, model = experiment.config, experiment.data, experiment.model
    load_weights(model, run)
    transform = Transform(config.data.transform)

    def elbo(x: Tensor, label: Tensor) -> dict[str, Measure]:
        measures = elbo_measures(model, x, label)
        if transform.has_bits_per_dim:
            measures["elbo_bits_per_dim"] = _bits_per_dim(measures["elbo"], transform, x)
        return measures

    splits: dict[str, dict[str, Measure]] = {}
    reporter.say(f"measuring on {len(data.train):,} training images")
    with seeded(config.seed, "elbo", "train"):
        splits["train"] = join([elbo(x, label) for x, label in experiment.training_blocks()])
    for name, split in (("validation", data.validation), ("test", data.test)):
        if split is not None:
            reporter.say(f"measuring on {len(split):,} {name} images")
            x, label = experiment.held_out_images(split, name), split.label.to(experiment.device)
            with seeded(config.seed, "elbo", name):
                splits[name] = elbo(x, label)
    k = config.evaluate.importance_samples
    if k:  # x and label are now those of the test split
        title = f"importance-weighted bound, K = {k}"
        with reporter.bar(title, len(x)), seeded(config.seed, "iw_bound"):
            bound = iw_bound(model, x, label, k=k, on_images=reporter.advance)
        splits["test"]["iw_bound"] = bound
        if transform.has_bits_per_dim:
            splits["test"]["iw_bound_bits_per_dim"] = _bits_per_dim(bound, transform, x)

    for name, measures in splits.items():
        for metric, measure in measures.items():
            if not measure.values.isfinite().all():
                raise RunError(
                    f"the {metric} of some {name} images is not finite: training diverged in its "
                    "last steps; a lower train.learning_rate or a train.gradient_clip usually helps"
                )
    metrics = {
        name: {
            metric: measure.summary() | _facts(config, metric)
            for metric, measure in measures.items()
        }
        for name, measures in splits.items()
    }
    reporter.say(_headline(metrics["test"]))
    per_example = {metric: measure.values.numpy() for metric, measure in splits["test"].items()}
    run.write_metrics(metrics, {**per_example, "label": data.test.label.numpy()})


def _bits_per_dim(bound: Measure, transform: Transform, x: Tensor) -> Measure:
    """A lower bound on ln p(x) as an upper bound on the bits per pixel of the 0..255 image."""
    variance = bound.monte_carlo_variance
    return Measure(
        transform.bits_per_dim(bound.values.to(x.device), x).cpu(),
        "bits/dim",
        None if variance is None else variance / (x.shape[1] * math.log(2)) ** 2,
        facts=bound.facts,
    )


def _headline(test: dict[str, Any]) -> str:
    shown = [name for name in ("elbo", "iw_bound", "rate", "rmse_mean") if name in test]
    return "test  " + "  ".join(f"{name} {show_entry(test[name])}" for name in shown)


def _draw(experiment: Experiment, run: RunFolder, reporter: Reporter) -> None:
    reporter.say("drawing figures")
    test = experiment.data.test
    illustrate(run, experiment.held_out_images(test, "test").cpu(), test.label)


def _facts(config: Config, metric: str) -> dict[str, Any]:
    """What a likelihood must carry beside it so that it is not read as something else."""
    if not metric.startswith(("elbo", "iw_bound", "distortion")):
        return {}
    model = config.model
    facts: dict[str, Any] = {
        "measure": "mass" if model.likelihood == "bernoulli" else "density",
        "of": "x given label" if model.conditional else "x",
    }
    if metric == "distortion":
        facts["kind"] = "estimate"
    else:
        facts["kind"] = "upper_bound" if metric.endswith("bits_per_dim") else "lower_bound"
    if model.likelihood == "gaussian":
        key = "sigma" if model.sigma_mode == "fixed" else "sigma_floor"
        facts[key] = getattr(model, key)
    return facts


def _stopped(run: RunFolder, reporter: Reporter, exit_code: int, how: str) -> None:
    run.end("interrupted", exit_code, how)
    state = run.state()  # the last line of metrics.jsonl may be of an epoch after the checkpoint
    done = state["epoch"] if state else 0
    reporter.say(f"stopped by {how} after {done} finished epochs; go on with")
    reporter.say(f"  vaexp train --resume {run.path}")


def _resolve_device(name: str) -> str:
    """auto, cpu or cuda to cpu or cuda. Raises UserError when cuda is asked for and absent."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but torch sees no GPU; use auto or cpu")
    return name


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
