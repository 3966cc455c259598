"""A classifier two-sample test on known distributions, and draws from the aggregated posterior."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2, norm
from torch import Tensor

from vaexp.config import DataConfig, load_config
from vaexp.data import bundled, load
from vaexp.evaluation.digit_classifier import TRAINED_ON
from vaexp.evaluation.quality import quality
from vaexp.evaluation.two_sample import two_sample_accuracy
from vaexp.experiment.evaluate import subject_of
from vaexp.experiment.prepare import Experiment
from vaexp.progress import Reporter


def noise(n: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, 5, dtype=torch.float64)


def test_equal_distributions_cannot_be_told_apart() -> None:
    """Over 40 repetitions the accuracies are 1/2 on average, and spread as they state."""
    found = [two_sample_accuracy(noise(400, s), noise(700, 1_000 + s)) for s in range(40)]
    values = torch.tensor([one.value for one in found]).double()
    stated = math.sqrt(0.25 / 400)
    assert found[0].se == pytest.approx(stated, rel=0.01)
    assert values.mean().item() == pytest.approx(0.5, abs=4 * stated / math.sqrt(40))
    assert values.std().item() == pytest.approx(stated, rel=0.4)
    assert (found[0].n, found[0].facts["train"], found[0].facts["against"]) == (400, 400, 700)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_a_shift_is_found_as_well_as_it_can_be(shift: float) -> None:
    """The best classifier of N(0, I) and N(shift e, I) has the accuracy Phi(shift / 2)."""
    moved = noise(8_000, 1)
    moved[:, 0] += shift
    found = two_sample_accuracy(moved, noise(8_000, 2))
    assert found.value == pytest.approx(norm.cdf(shift / 2), abs=4 * found.se)


def test_another_variance_is_found_by_the_squares() -> None:
    wider = 2 * noise(4_000, 1)
    # 5 coordinates: chi-squared, cut where the densities are equal
    cut = 5 * math.log(4) / (1 - 1 / 4)
    best = (chi2.cdf(cut, 5) + chi2.sf(cut / 4, 5)) / 2
    found = two_sample_accuracy(wider, noise(4_000, 2))
    assert found.value == pytest.approx(best, abs=4 * found.se)


def test_it_does_not_depend_on_the_order_of_the_images() -> None:
    """MNIST's first test images are another half than the last."""
    ordered = noise(2_000, 1).sort(0).values
    found = two_sample_accuracy(ordered, noise(2_000, 2))
    assert found.value < 0.56


# Draws whose z comes from the aggregated posterior


def test_they_have_a_distance_of_their_own() -> None:
    source = bundled.read()
    real, train = (part.pixels[:400] / 255 for part in (source.test, source.train))
    torch.manual_seed(1)
    noisy = real + 0.3 * torch.randn_like(real)
    found = quality(
        {"mean": noisy},
        real,
        None,
        train=train,
        digits=True,
        real_label=source.test.label[:400],
        elsewhere={"mean_posterior": train},
    )
    distances = {name: entry for name, entry in found.entries.items() if "fid" in name}
    assert distances.keys() == {"digit_fid_mean", "digit_fid_mean_posterior"}
    assert distances["digit_fid_mean_posterior"].value < distances["digit_fid_mean"].value / 2
    few = quality(
        {"mean": noisy[:50]},
        real,
        None,
        train=train,
        digits=True,
        real_label=source.test.label[:400],
        elsewhere={"mean_posterior": train},
    )
    assert "digit_fid_mean_posterior" in few.absent


@pytest.mark.parametrize("model", ["vae, hidden: [16]", "gmm, components: 4", "ppca"])
def test_every_kind_of_model_has_them(
    invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    train = "epochs: 1" if model.startswith("vae") else "max_iter: 3"
    Path("run.yaml").write_text(
        f"model: {{kind: {model}}}\ntrain: {{{train}}}\n"
        "data: {limit: 600, validation_size: 11000, labels: [4, 9]}\n"
    )
    done = invoke("train", "run.yaml")
    assert done.exit_code == 0, done.stderr
    run = Path(done.stdout.strip())
    done = invoke("evaluate", run, "--only", "quality", "--images", 150)
    assert done.exit_code == 0, done.stderr
    test = json.loads((run / "metrics.json").read_text())["test"]
    for mode in ("mean", "sample"):
        assert test[f"digit_fid_{mode}_posterior"]["n"] == 150
        assert 0.4 < test[f"two_sample_accuracy_{mode}"]["value"] <= 1
    assert test["two_sample_accuracy_control"]["value"] < 0.75


# The control


def test_the_data_say_where_the_validation_images_stand() -> None:
    source = bundled.read()
    for labels in (None, [3, 8]):
        data = load(DataConfig(validation_size=12_000, labels=labels))
        assert data.validation is not None
        assert torch.equal(source.train.pixels[data.validation.at], data.validation.pixels)
        new = (data.validation.at >= TRAINED_ON).sum().item()
        assert new == (
            10_000
            if labels is None
            else torch.isin(source.train.label[TRAINED_ON:], torch.tensor(labels)).sum().item()
        )
    assert load(DataConfig(validation_size=0)).validation is None


def test_the_control_has_no_image_that_the_classifier_was_trained_on() -> None:
    config = load_config("quickstart", ["data.validation_size=12000", "model.hidden=[4]"])
    experiment = Experiment.prepare(config)
    x = experiment.held_out_images(experiment.data.test, "test")[:10]
    control = subject_of(experiment, x, None, Reporter()).validation()
    assert control is not None
    assert torch.equal(control, bundled.read().train.pixels[TRAINED_ON:] / 255)
