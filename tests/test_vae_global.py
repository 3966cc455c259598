"""The shipped vae-global, trained whole, has the numbers that docs/results.md states."""

from pathlib import Path
from typing import Any

import pytest

from vaexp.config import load_config
from vaexp.evaluation.groups import GROUPS
from vaexp.evaluation.subject import measure_group
from vaexp.experiment.evaluate import subject_of
from vaexp.experiment.fit import fit
from vaexp.experiment.measure import measure_split
from vaexp.experiment.prepare import Experiment
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights
from vaexp.seeding import seeded


def entries_of_the_test_images(folder: Path) -> dict[str, dict[str, Any]]:
    """What the groups rate and labels, and training, measure of the 10,000 test images."""
    experiment = Experiment.prepare(load_config("vae-global"))
    run = RunFolder.create(folder, experiment.config)
    run.start()
    fit(experiment, run, Reporter())
    load_weights(experiment.model, run, experiment.device)
    experiment.model.eval().requires_grad_(False)
    x = experiment.held_out_images(experiment.data.test, "test")
    subject = subject_of(experiment, x, None, Reporter())
    with seeded(1, "the numbers of vae-global"):
        found: dict[str, Any] = dict(measure_split(experiment.model, x, subject.label))
        for group in ("rate", "labels"):
            found |= measure_group(GROUPS[group], subject).entries
    return {name: one.summary() for name, one in found.items()}


@pytest.mark.slow
def test_vae_global_has_the_numbers_of_an_audit(tmp_path: Path) -> None:
    """An audit had 228.9 nats and a KL given the label of 1.08; the docs have 228.2 and 1.073.

    The tolerances are several times those differences; other seeds were not trained. Each is far
    less than what a fault would change: pooled digits have a KL of 0.44, and without ln p(y) the
    label summed out has 2.3 nats more.
    """
    test = entries_of_the_test_images(tmp_path)

    def value(name: str) -> float:
        return float(test[name]["value"])

    assert value("elbo") == pytest.approx(228.5, abs=4)
    assert value("marginal_kl") == pytest.approx(0.45, abs=0.05)
    assert value("marginal_kl_given_label") == pytest.approx(1.08, abs=0.08)
    assert value("mutual_information") == pytest.approx(6.43, abs=0.08)
    assert value("mutual_information_given_label") == pytest.approx(5.80, abs=0.08)
    assert value("generative_accuracy") == pytest.approx(0.933, abs=0.01)
    assert value("elbo_labels_summed") - value("elbo") == pytest.approx(4.8, abs=1.1)
    for given in ("", "_given_label"):
        parts = value(f"mutual_information{given}") + value(f"marginal_kl{given}")
        assert parts == pytest.approx(value("rate"), abs=0.02)
