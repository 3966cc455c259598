"""The group of sample quality on planted failures."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from vaexp.data import bundled
from vaexp.evaluation import quality as module
from vaexp.evaluation.quality import label_entries, quality

# Labels


def test_label_entropies_of_planted_predictions():
    """Half the draws are surely a 0, half are a 1 or a 2: mean entropy ln(2) / 2; the marginal is
    1/2, 1/4, 1/4."""
    prob = torch.zeros(1000, 10).double()
    prob[:500, 0] = 1
    prob[500:, 1:3] = 0.5
    entries = label_entries(prob.log())
    conditional, marginal = entries["label_entropy"], entries["label_marginal_entropy"]
    assert conditional.value == pytest.approx(math.log(2) / 2)
    assert conditional.se == pytest.approx(math.log(2) / 2 / math.sqrt(999))
    assert marginal.value == pytest.approx(1.5 * math.log(2))
    # d H / d share = -ln 2 / 2 ... : H = h(s) + (1 - s) ln 2, h'(1/2) = 0, so its se is ln 2 times
    # that of the share
    assert marginal.se == pytest.approx(math.log(2) * 0.5 / math.sqrt(1000), rel=0.2)
    low, high = marginal.interval
    assert low < marginal.value < high


# All of it


ROW_ENTRIES = {
    "digit_fid",
    "digit_kid",
    "two_sample_accuracy",
    "precision",
    "recall",
    "density",
    "coverage_real",
    "ndb",
    "js_divergence",
    "label_entropy",
    "label_marginal_entropy",
}


@pytest.fixture(scope="module")
def mnist():
    source = bundled.read()
    real = source.test.pixels[:1500] / 255, source.test.label[:1500]
    return source.train.pixels / 255, *real, source.train.label


ROWS = ("mean", "sample", "control")
LABEL_ENTRIES = {"label_accuracy_mean", "label_accuracy_sample", "label_accuracy_real"}
ALL_ENTRIES = {f"{name}_{row}" for name in ROW_ENTRIES for row in ROWS} | LABEL_ENTRIES


def no_label(real: Tensor) -> Tensor:
    return torch.zeros(len(real), dtype=torch.int64)


@pytest.fixture(scope="module")
def planted(mnist):
    """Draws that are real images under noise, and those that are all of one digit."""
    train, real, real_label, label = mnist
    torch.manual_seed(5)
    noisy = train[50_000:51_500] + 0.4 * torch.randn(1500, 784)
    ones = train[label == 1][:1500]
    return quality(
        {"mean": ones, "sample": noisy},
        real,
        train[55_000:57_000],
        train=train[:5000],
        digits=True,
        real_label=real_label,
        wanted_label=torch.ones(1500, dtype=torch.int64),
    )


def test_names_units_and_facts(planted):
    assert set(planted.entries) == ALL_ENTRIES
    assert planted.absent == {}
    units = {name: {planted.entries[f"{name}_{row}"].unit for row in ROWS} for name in ROW_ENTRIES}
    assert units == {
        "digit_fid": {""},
        "digit_kid": {""},
        "two_sample_accuracy": {"share"},
        "precision": {"share"},
        "recall": {"share"},
        "density": {""},
        "coverage_real": {"share"},
        "ndb": {"share"},
        "js_divergence": {"nats"},
        "label_entropy": {"nats"},
        "label_marginal_entropy": {"nats"},
    }
    for name, entry in planted.entries.items():
        summary = entry.summary()
        assert summary["kind"] == "estimate", name
        assert math.isfinite(summary["value"]), name
        assert math.isfinite(summary["se"]), name
        expected_n = 1500  # or both halves of 750 that the two-sample test reads
        assert summary["n"] == expected_n, name
        if name.startswith(("digit_", "precision", "recall", "density", "coverage")):
            assert "not Inception" in summary["features"]
            assert summary["against"] == 1500
    assert {name for name, e in planted.entries.items() if e.interval is not None} == {
        f"{name}_{row}"
        for name in ("digit_fid", "js_divergence", "label_marginal_entropy")
        for row in ROWS
    }


def test_real_images_are_the_best_row(planted):
    value = {name: entry.value for name, entry in planted.entries.items()}
    for name in ("digit_fid", "digit_kid", "ndb", "js_divergence"):
        assert value[f"{name}_mean"] > 2 * value[f"{name}_control"], name
    for name in ("digit_fid", "digit_kid"):  # noise moves few images to another bin
        assert value[f"{name}_sample"] > 2 * value[f"{name}_control"], name
    for row in ("mean", "sample"):
        assert value[f"coverage_real_{row}"] < value["coverage_real_control"] - 0.1
    assert value["precision_control"] > 0.8
    assert value["recall_control"] > 0.8
    assert 0.8 < value["density_control"] < 1.3
    assert value["coverage_real_control"] > 0.9
    assert value["label_entropy_control"] < 0.1
    assert value["label_marginal_entropy_control"] == pytest.approx(math.log(10), abs=0.02)


def test_one_digit_is_precise_and_covers_little(planted):
    value = {name: entry.value for name, entry in planted.entries.items()}
    assert value["precision_mean"] > 0.8
    assert value["recall_mean"] < 0.25
    assert value["coverage_real_mean"] < 0.2
    assert value["label_marginal_entropy_mean"] < 0.2
    assert value["label_accuracy_mean"] > 0.97
    assert value["label_accuracy_sample"] < 0.2
    assert 0.98 < value["label_accuracy_real"] < 1


def test_arrays(planted):
    shapes = {name: array.shape for name, array in planted.arrays.items()}
    assert shapes == {
        "ndb_centres": (100, 784),
        "ndb_share_train": (100,),
        **{f"ndb_share_{row}": (100,) for row in ROWS},
        **{f"label_share_{row}": (10,) for row in ROWS},
    }
    for name, array in planted.arrays.items():
        if "share" in name:
            assert array.sum() == pytest.approx(1), name
    assert planted.arrays["label_share_mean"][1] > 0.97


def test_images_are_clipped_and_cut_to_the_same_number(mnist):
    """Draws on 0..1 measure as those that lie beyond it by any amount."""
    train, real, real_label, _ = mnist
    x = train[50_000:50_400]
    beyond = torch.where(x == 0, -3.0, torch.where(x == 1, 7.0, x.double()))
    found = {}
    for name, images in (("on", x[:300]), ("beyond", beyond)):
        torch.manual_seed(1)
        found[name] = quality(
            {"mean": images},
            real[:200],
            train[:300],
            train=train[:2000],
            digits=True,
            real_label=real_label[:200],
        )
    assert found["on"].absent == {"label_accuracy_mean": "no digit was asked for"}
    assert "label_accuracy_mean" not in found["on"].entries
    for name, entry in found["on"].entries.items():
        assert entry.summary() == found["beyond"].entries[name].summary(), name
        of_200 = name.startswith(("label_accuracy_real", "two_sample"))
        assert entry.n == (200 if of_200 else 300)


def test_without_other_real_images_there_is_no_control(mnist):
    train, real, real_label, _ = mnist
    rows = {"mean": train[1000:1300], "sample": train[2000:2300]}
    found = {}
    for name, other in (("with", train[:300]), ("without", None)):
        torch.manual_seed(1)
        found[name] = quality(
            rows,
            real[:300],
            other,
            train=train[:1000],
            digits=True,
            real_label=real_label[:300],
            wanted_label=no_label(rows["mean"]),
        )
    assert set(found["with"].entries) == ALL_ENTRIES
    control = {name for name in ALL_ENTRIES if name.endswith("_control")}
    without = found["without"]
    assert set(without.entries) == ALL_ENTRIES - control
    assert without.absent == dict.fromkeys(control, module.NO_CONTROL)
    assert not any("control" in name for name in without.arrays)
    for name in ("precision_mean", "recall_sample", "label_accuracy_real"):
        assert without.entries[name].summary() == found["with"].entries[name].summary(), name


@pytest.mark.parametrize("control", [True, False])
def test_images_that_are_not_digits_have_bins_only(control):
    """Of any size; the classifier is not asked."""
    torch.manual_seed(1)
    x = torch.rand(5, 300, 9)
    found = quality(
        {"mean": x[0], "sample": x[1] ** 3},
        x[2],
        x[3] if control else None,
        train=x[4],
        digits=False,
        real_label=no_label(x[2]),
        wanted_label=no_label(x[0]),
    )
    rows = ROWS if control else ROWS[:2]
    assert set(found.entries) == {f"{m}_{row}" for m in ("ndb", "js_divergence") for row in rows}
    assert set(found.entries) | set(found.absent) == ALL_ENTRIES
    assert not set(found.entries) & set(found.absent)
    assert (
        found.absent["digit_fid_mean"] == found.absent["label_accuracy_real"] == module.NOT_DIGITS
    )
    assert found.entries["ndb_sample"].value > found.entries["ndb_mean"].value + 0.3
    assert set(found.arrays) == {
        *("ndb_centres", "ndb_share_train"),
        *(f"ndb_share_{row}" for row in rows),
    }


@pytest.mark.parametrize("short", ["generated", "real", "other", "train"])
def test_few_images_are_absent_not_wrong(short):
    sets = {
        name: torch.rand(99 if name == short else 100, 784)
        for name in ("generated", "real", "other", "train")
    }
    found = quality(
        {"mean": sets["generated"], "sample": sets["generated"]},
        sets["real"],
        sets["other"],
        train=sets["train"],
        digits=True,
        real_label=no_label(sets["real"]),
    )
    assert found.entries == {}
    assert found.absent == dict.fromkeys(ALL_ENTRIES, "it needs 100 images of every set")


def test_no_generator_but_torchs_and_no_gradients(mnist):
    train, real, real_label, _ = mnist
    values = []
    for seed in (1, 2):
        torch.manual_seed(3)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        x = train[1000:1200].clone().requires_grad_()
        found = quality(
            {"mean": x},
            real[:200],
            train[:200],
            train=train[:400],
            digits=True,
            real_label=real_label[:200],
        )
        values.append({name: entry.summary() for name, entry in found.entries.items()})
    assert values[0] == values[1]
    assert not any(math.isnan(entry["value"]) for entry in values[0].values())


def test_one_set_of_images_has_one_score_however_many_were_drawn_before(mnist):
    train, real, real_label, _ = mnist
    scores = []
    for draws in (0, 1_000, 7):
        torch.manual_seed(5)
        torch.randn(draws)
        found = quality(
            {"mean": train[6_000:7_000]},
            real,
            None,
            train=train[:3_000],
            digits=False,
            real_label=real_label,
        )
        scores.append([found.entries[f"{name}_mean"].value for name in ("ndb", "js_divergence")])
    assert scores[0] == scores[1] == scores[2]
