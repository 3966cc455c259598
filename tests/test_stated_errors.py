"""The benchmark that compares every stated error with the spread over repetitions."""

import math

import numpy as np
import pytest
import torch

from benchmarks.stated_errors import Found, Stated, differences, ratios, stated
from vaexp.evaluation.measure import Estimate, Measure

RNG = np.random.default_rng(1)


def test_all_errors_of_an_entry_are_found() -> None:
    entries = {
        "elbo": {"value": 5.0, "se": 0.2, "mc_se": 0.1, "gain": 3.0, "gain_se": 0.3},
        "nmi": {"value": 0.5, "se": None, "interval": [0.4, 0.6]},
        "log_c": {"value": 7.0, "se": 0.7, "over": "draws"},
        "induced_elbo": {"value": 1.0, "se": 0.4, "log_c_se": 0.7},
        "floor_slope": {"value": 1.0, "train": 2.0, "train_se": 0.5},
        "exact": {"value": 1.0, "gain": 2.0, "gain_se": None},
    }
    assert list(stated(Found(entries, {}))) == [
        Stated("elbo", "images", 5.0, 0.2),
        Stated("elbo", "draws", 5.0, 0.1),
        Stated("elbo: gain", "images", 3.0, 0.3),
        Stated("nmi: interval", "images", 0.5, pytest.approx(0.05, rel=0.03)),
        Stated("log_c", "draws", 7.0, 0.7),
        Stated("induced_elbo", "images", 1.0, 0.4),
        Stated("induced_elbo: log_c", "draws", 7.0, 0.7),
    ]


def repetition(scale: float) -> Found:
    """Two measures of 100 new images; the error of the first is stated ``scale`` times."""
    values = torch.from_numpy(RNG.normal(3, 2, 100))
    elbo = Measure(values, "nats", likelihood="log_prob")
    entry = elbo.summary() | {"measure": "density"}
    entry["se"] *= scale
    exact = Estimate(5.0, "", 100, 1e-15).summary()
    return Found({"elbo": entry, "constant": exact}, elbo.per_example("elbo"))


def test_the_ratio_is_that_of_the_spread_and_the_stated_error() -> None:
    for scale in (1.0, 0.5):
        found = dict.fromkeys(("elbo", "elbo: trimmed_mean_1_percent"), 0.0)
        for name, error, spread in ratios([repetition(scale) for _ in range(2000)], "images"):
            found[name] = spread / error
        assert found == {
            "elbo": pytest.approx(1 / scale, rel=0.06),
            "elbo: trimmed_mean_1_percent": pytest.approx(1, rel=0.06),
        }
    assert not list(ratios([repetition(1.0)] * 3, "draws"))


def test_differences_are_paired() -> None:
    one = repetition(1.0)
    shifted = Measure(torch.from_numpy(one.values["elbo"]) + 4, "nats", likelihood="log_prob")
    other = Found(
        {"elbo": shifted.summary() | {"measure": "density"}, "constant": one.entries["constant"]},
        shifted.per_example("elbo"),
    )
    found = differences(one, other, ("scale", "scale")).entries
    assert list(found) == ["elbo (paired)"]  # a number of a whole set has no difference per image
    assert found["elbo (paired)"]["value"] == pytest.approx(4)
    assert found["elbo (paired)"]["se"] == pytest.approx(0, abs=1e-12)
    assert math.isclose(found["elbo (paired)"]["trimmed_mean_1_percent"], 4)
    assert not differences(one, other, ("scale", "logit")).entries
