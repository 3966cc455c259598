"""Groups of measures on a finished run: for ``vaexp evaluate``, and the cheap one for ``train``.

What each of them means is in docs/measures.md.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaexp.config import VAEExperiment
from vaexp.data import Transform
from vaexp.errors import RunError, UserError
from vaexp.evaluation import annealing, induced, rescoring
from vaexp.evaluation.bounds import iw_bound
from vaexp.evaluation.codes import codes
from vaexp.evaluation.covariance_collapse import covariance_collapse
from vaexp.evaluation.decoding import decoding
from vaexp.evaluation.latent_use import latent_use
from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.quadrature import quadrature
from vaexp.evaluation.quality import quality
from vaexp.evaluation.sigma_collapse import sigma_collapse
from vaexp.experiment.draw.evidence import illustrate_evidence
from vaexp.experiment.measure import facts, likelihood_facts, with_bits_per_dim
from vaexp.experiment.prepare import Experiment
from vaexp.models import VAE
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights
from vaexp.seeding import seeded
from vaexp.tables import show_entry

DRAWS = 10_000  # images drawn from the model to see what decoding loses
IMPORTANCE_SAMPLES = 1_000  # where neither the config nor the command says how many
DIGITS = ("mnist", "emnist_digits")  # data that the shipped classifier of digits can read
FEW_IMAGES = {"quadrature": 1_000, "ais": 100}  # measured where --images does not say how many


@dataclass(frozen=True)
class Subject:
    """A fitted model and the test images that it is measured on."""

    experiment: Experiment
    x: Tensor
    """(N, D), transformed."""
    label: Tensor
    """(N,)."""
    importance_samples: int
    on_images: Callable[[int], None]

    @property
    def model(self) -> Any:
        """The fitted model."""
        return self.experiment.model

    @property
    def config(self) -> Any:
        """The model's part of the config."""
        return self.experiment.config.model

    def train(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The training images and labels, in blocks."""
        return self.experiment.training_blocks()


def _only_vae(measure: Callable[[Subject], Evidence], *names: str) -> Callable[[Subject], Evidence]:
    """The group for VAEs; where ln p(x) and the posterior are exact, none of its measures is."""

    def measured(of: Subject) -> Evidence:
        if isinstance(of.model, VAE):
            return measure(of)
        reason = "ln p(x) and the posterior of this model are exact"
        return Evidence(absent=dict.fromkeys(names, reason))

    return measured


def _importance(of: Subject) -> Evidence:
    k = of.importance_samples
    return Evidence({"iw_bound": iw_bound(of.model, of.x, of.label, k=k, on_images=of.on_images)})


def _singularities(of: Subject) -> Evidence:
    measure: Any = sigma_collapse if isinstance(of.model, VAE) else covariance_collapse
    return measure(of.model, of.x, of.label, of.train(), floor=of.config.floor)


def _quality(of: Subject) -> Evidence:
    """Of as many draws as there are test images, with their labels where the model is given one."""
    transform = Transform(of.experiment.config.data.transform)

    def to_unit(images: Tensor) -> Tensor:
        return transform.to_unit(images.float()).cpu()

    drawn: dict[str, list[Tensor]] = {"mean": [], "sample": []}
    with torch.no_grad():
        for labels in of.label.split(1_000):
            z = of.model.prior().sample(labels.shape)
            p = of.model.decode(z, labels if of.model.conditional else None)
            drawn["mean"].append(to_unit(p.mean))
            drawn["sample"].append(to_unit(p.sample()))
    held_out = of.experiment.validation_images()
    return quality(
        {mode: torch.cat(images) for mode, images in drawn.items()},
        to_unit(of.x),
        None if held_out is None else to_unit(held_out[0]),
        train=to_unit(of.experiment.training_images()),
        digits=of.experiment.config.data.name in DIGITS,
        real_label=of.label.cpu(),
        wanted_label=of.label.cpu() if of.model.conditional else None,
    )


# What vaexp evaluate measures, in this order; the slow ones only when --only names them.
GROUPS: dict[str, Callable[[Subject], Evidence]] = {
    "rate": lambda of: latent_use(of.model, of.x, of.label, draws=2),
    "rescoring": _only_vae(
        lambda of: rescoring.rescored(
            of.model, of.x, of.label, of.train(), beta=of.config.beta, floor=of.config.floor
        ),
        *rescoring.NAMES,
    ),
    "induced": _only_vae(
        lambda of: induced.induced(of.model, of.x, of.label, beta=of.config.beta), *induced.NAMES
    ),
    "singularities": _singularities,
    "decoding": lambda of: decoding(
        of.model,
        of.x,
        of.label,
        draws=DRAWS,
        unit_interval=of.experiment.config.data.transform != "logit",
    ),
    "quality": _quality,
    "codes": lambda of: codes(of.model, of.x, of.label, of.train()),
    "iw": _only_vae(_importance, "iw_bound"),
    "quadrature": _only_vae(
        lambda of: quadrature(of.model, of.x, of.label, on_images=of.on_images),
        "log_prob_quadrature",
    ),
    "ais": _only_vae(
        lambda of: annealing.annealed(of.model, of.x, of.label, on_images=of.on_images),
        *annealing.NAMES,
    ),
}
SLOW = ("iw", "quadrature", "ais")


def evaluate(
    run: RunFolder,
    only: list[str] | None,
    reporter: Reporter,
    *,
    importance_samples: int | None = None,
    images: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure groups on the test split of a finished run, and keep each as soon as it is done.

    only: the groups, by default all but the slow ones. importance_samples: K of the importance-
    weighted bound, by default the config's. images: measure the first so many test images; by
    default all, or FEW_IMAGES. Returns the new entries of metrics.json. Raises UserError for a
    group there is not, RunError for a run that has not finished.
    """
    names = list(dict.fromkeys(only or [name for name in GROUPS if name not in SLOW]))
    for name in names:
        if name not in GROUPS:
            raise UserError(f"--only {name}: there is no such group; there are {', '.join(GROUPS)}")
    if not run.metrics():
        raise RunError(
            f"{run.path}: has no final metrics (status {run.status()}); "
            f"vaexp train --resume {run.path} finishes it"
        )
    found: dict[str, dict[str, Any]] = {}
    with run.locked(), reporter.logging_to(run.path / "train.log"):
        with reporter.waiting("loading the run and the data"):
            experiment = Experiment.prepare(run.config())
            load_weights(experiment.model, run, experiment.device)
            experiment.model.eval().requires_grad_(False)
            test = experiment.held_out_images(experiment.data.test, "test")
        for name in names:
            count = min(len(test), images or FEW_IMAGES.get(name, len(test)))
            found |= _measure_group(
                run, experiment, name, test[:count], importance_samples, reporter
            )
        for path in illustrate_evidence(run, names):
            reporter.say(f"figure {path}")
    return found


def measure_latent_use(
    run: RunFolder, experiment: Experiment, x: Tensor, reporter: Reporter
) -> None:
    """The group that is cheap enough for the end of every training, on the test images x."""
    _measure_group(run, experiment, "rate", x, None, reporter)


def _measure_group(
    run: RunFolder,
    experiment: Experiment,
    name: str,
    x: Tensor,
    importance_samples: int | None,
    reporter: Reporter,
) -> dict[str, dict[str, Any]]:
    """Measure a group on the first test images x and write what it found into the run folder.

    Returns its entries of metrics.json. Raises RunError where a measure is not finite.
    """
    label = experiment.data.test.label[: len(x)].to(experiment.device)
    k = importance_samples or _importance_samples(experiment)
    subject = Subject(experiment, x, label, k, reporter.advance)
    began = time.perf_counter()
    with reporter.bar(name, len(x), "images"), seeded(experiment.config.seed, "evaluate", name):
        evidence = GROUPS[name](subject)
    seconds = time.perf_counter() - began
    by_image = {
        metric: measure
        for metric, measure in evidence.entries.items()
        if isinstance(measure, Measure)
    }
    by_image = with_bits_per_dim(by_image, Transform(experiment.config.data.transform), x)
    entries = {
        metric: _entry(measure, metric, experiment) | ({} if name == "iw" else {"group": name})
        for metric, measure in (evidence.entries | by_image).items()
    }
    for metric, entry in entries.items():
        if not math.isfinite(entry["value"]):
            raise RunError(f"{run.path}: {metric} came out as {entry['value']}; please report it")
    per_example = {metric: measure.values.cpu().numpy() for metric, measure in by_image.items()}
    run.add_evidence(name, entries, per_example, evidence.arrays, {"absent": evidence.absent})
    reporter.say(f"{name}: {len(entries)} measures of {len(x):,} test images, {seconds:.1f} s")
    for reason in dict.fromkeys(evidence.absent.values()):
        names = [metric for metric, why in evidence.absent.items() if why == reason]
        reporter.say(f"  no {', '.join(names)}: {reason}")
    for metric, entry in entries.items():
        if entry.get("effective_samples", 10) < 10:
            reporter.say(f"  do not trust {metric}: {show_entry(entry)}")
    return entries


def _entry(measure: Measure | Estimate, metric: str, experiment: Experiment) -> dict[str, Any]:
    """Its summary; a likelihood's says of what it is, and the sigma or floor behind it."""
    if metric.startswith("iw_bound"):
        return facts(experiment.config, metric) | measure.summary()
    words = (
        "log_prob",
        "log_density",
        "elbo",
        "objective",
        "ais_",
        "train_test_gap",
        "floor_slope",
    )
    likelihood = any(word in metric for word in words)
    return (likelihood_facts(experiment.config) if likelihood else {}) | measure.summary()


def _importance_samples(experiment: Experiment) -> int:
    config = experiment.config
    configured = config.evaluate.importance_samples if isinstance(config, VAEExperiment) else 0
    return configured or IMPORTANCE_SAMPLES
