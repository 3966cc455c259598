"""Measuring groups on a run, for ``vaexp evaluate`` and at the end of training.

``evaluation.groups`` is the table of the groups; docs/measures.md says what each number means.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vaexp.data import Transform
from vaexp.errors import RunError
from vaexp.evaluation.digit_classifier import TRAINED_ON
from vaexp.evaluation.groups import (
    GROUPS,
    Group,
    fast_groups,
    find_groups,
    shown_by_default,
)
from vaexp.evaluation.measure import Measure
from vaexp.evaluation.subject import Subject, measure_group
from vaexp.evaluation.tails import disagreement
from vaexp.experiment.draw.evidence import illustrate_evidence
from vaexp.experiment.measure import entry, with_bits_per_dim
from vaexp.experiment.prepare import Experiment
from vaexp.models import Model
from vaexp.progress import Reporter
from vaexp.runs.continuing import moved
from vaexp.runs.copying import check_measured
from vaexp.runs.environment import versions
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import LOG
from vaexp.runs.process import now
from vaexp.runs.trained import load_weights
from vaexp.runs.unforeseen import last_catch
from vaexp.seeding import seeded
from vaexp.shown import is_unreliable, show_entry

IMPORTANCE_SAMPLES = 1_000  # if neither the config nor the command gives a number
CLASSIFIER_DATA = "mnist"  # whose first training images the shipped classifier was trained on
DIGITS = (CLASSIFIER_DATA, "emnist_digits")  # data whose images the shipped classifier can read

Entries = dict[str, dict[str, Any]]
"""The entries of metrics.json, by name."""


def evaluate(
    run: RunFolder,
    only: list[str] | None,
    reporter: Reporter,
    *,
    importance_samples: int | None = None,
    images: int | None = None,
    overrides: Sequence[str] = (),
    figures: bool = True,
) -> dict[str, Entries]:
    """Measure groups on the test split of a finished run, and save each as soon as it is done.

    ``only`` names the groups; the default is all but the slow ones. ``importance_samples`` is K of
    the importance-weighted bound; the default is that of the config. ``images`` is how many of the
    first test images are measured; the default is in the table of groups. ``overrides`` may say
    where the data lie now. Without ``figures`` none is drawn. Returns the new entries of
    metrics.json by group. Raises UserError for an unknown group, and RunError for a run that has
    not finished, whose config was edited since, or whose data are other images now.
    """
    groups = find_groups(only or fast_groups())
    check_measured(run)
    measured: dict[str, Entries] = {}
    with (
        last_catch(run, "the groups that were measured before are kept"),
        run.locked(reporter.say),
        run.files.append(LOG) as log,
        reporter.logging_to(log),
    ):
        with reporter.waiting("loading the run and the data"):
            experiment = Experiment.prepare(moved(run, overrides), run)
            load_weights(experiment.model, run, experiment.device)
            experiment.model.eval().requires_grad_(False)
            test = experiment.held_out_images(experiment.data.test, "test")
        whole = subject_of(experiment, test, importance_samples, reporter)
        for group in groups:
            subject = whole.first(images or group.images)
            measured[group.name] = _measure(run, experiment, group, subject, reporter)
        names = [group.name for group in groups] if figures else []
        for path in illustrate_evidence(run, names):
            reporter.say(f"figure {path}")
    return measured


def evaluate_after_training(
    run: RunFolder, experiment: Experiment, x: Tensor, reporter: Reporter
) -> None:
    """Measure the groups that belong to every training, on the test images x (N, D)."""
    subject = subject_of(experiment, x, None, reporter)
    for group in GROUPS.values():
        if group.after_training:
            _measure(run, experiment, group, subject, reporter)


def subject_of(
    experiment: Experiment, x: Tensor, importance_samples: int | None, reporter: Reporter
) -> Subject[Model]:
    """The fitted model and the first test images x (N, D), with what the groups need to know."""
    config = experiment.config

    def validation() -> Tensor | None:
        split = experiment.data.validation
        if split is None:
            return None
        x = experiment.held_out_images(split, "validation")
        seen = TRAINED_ON if config.data.name == CLASSIFIER_DATA else 0
        return x[(split.at >= seen).to(x.device)]

    return Subject(
        experiment.model,
        x,
        experiment.data.test.label[: len(x)].to(experiment.device),
        train=experiment.training_blocks,
        validation=validation,
        transform=Transform(config.data.transform),
        shape=experiment.data.shape,
        digits=config.data.name in DIGITS,
        beta=config.model.kl_factor,
        floor=config.model.floor,
        unbounded="unbounded" in config.likelihood_facts,
        importance_samples=importance_samples or config.importance_samples or IMPORTANCE_SAMPLES,
        on_images=reporter.advance,
    )


def _measure(
    run: RunFolder,
    experiment: Experiment,
    group: Group,
    subject: Subject[Model],
    reporter: Reporter,
) -> Entries:
    """Measure a group and write its evidence into the run folder.

    Returns its entries of metrics.json. Raises RunError if a measure is not finite.
    """
    n, seed = len(subject.x), experiment.config.seed
    began = time.perf_counter()
    with reporter.bar(group.name, n, "images"), seeded(seed, "evaluate", group.name):
        evidence = measure_group(group, subject)
    seconds = time.perf_counter() - began
    by_image = {
        name: measure for name, measure in evidence.entries.items() if isinstance(measure, Measure)
    }
    facts = experiment.config.likelihood_facts
    by_image = with_bits_per_dim(by_image, subject.transform, subject.x, facts)
    membership = {} if group.ungrouped else {"group": group.name}
    first = n if n < len(experiment.data.test) else None
    entries = {
        name: entry(measure, facts, first) | membership
        for name, measure in (evidence.entries | by_image).items()
    }
    for name, one in entries.items():
        if not math.isfinite(one["value"]):
            raise RunError(
                f"{run.path}: the measure {name} is {one['value']}, which is a fault of vaexp; "
                "please report it"
            )
    per_example = {
        key: array
        for name, measure in by_image.items()
        for key, array in measure.per_example(name).items()
    }
    notes = {"absent": evidence.absent, "measured": now(), "device": experiment.device}
    notes["versions"] = versions()  # which may be others than those that trained the run
    run.add_evidence(group.name, entries, per_example, evidence.arrays, notes)
    reporter.say(f"{group.name}: {len(entries)} measures of {n:,} test images, {seconds:.1f} s")
    _say_absent_and_unreliable(entries, evidence.absent, reporter)
    return entries


def _say_absent_and_unreliable(
    entries: Entries, absent: dict[str, str], reporter: Reporter
) -> None:
    """Say which measures the model does not have, and which rest on too few samples or images."""
    for reason in dict.fromkeys(absent.values()):
        names = [name for name, why in absent.items() if why == reason]
        reporter.say(f"  no {', '.join(names)}: {reason}")
    for name, one in entries.items():
        if is_unreliable(one):
            reporter.say(f"  {name} is not reliable: {show_entry(one)}; more samples may help")
        if shown_by_default(name, one.get("group")) and (how := disagreement(one)) is not None:
            reporter.say(f"  {name}: {how}")
