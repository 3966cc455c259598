"""Median, trimmed mean and the share of the furthest 1 %, and what is said where they contradict
the mean."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from vaexp.evaluation.collapse import floor_slope, train_test_gap
from vaexp.evaluation.measure import Measure, average_log_likelihood
from vaexp.evaluation.tails import Tails, disagreement

RNG = np.random.default_rng(1)
BODY = RNG.normal(200, 10, 1000)
HEAVY = np.concatenate([BODY[:990], RNG.normal(-20_000, 100, 10)])


def test_one_percent_of_terrible_images_moves_the_mean_alone():
    found = Tails.of(HEAVY)
    assert found.median == np.median(HEAVY)
    assert found.trimmed_mean_1_percent == pytest.approx(np.sort(HEAVY)[10:-10].mean(), rel=1e-14)
    assert found.trimmed_mean_1_percent == pytest.approx(stats.trim_mean(HEAVY, 0.01), rel=1e-14)
    held = (HEAVY[-10:] - found.median).sum() / 1000
    assert found.extreme_1_percent == pytest.approx(held, rel=1e-12)
    others = (HEAVY[:-10] - found.median).sum() / 1000
    assert HEAVY.mean() - found.median == pytest.approx(held + others)


def test_the_error_of_a_trimmed_mean_is_its_spread():
    """Student's t with two degrees of freedom has no variance; its trimmed mean does."""
    samples = RNG.standard_t(2, (400, 500))
    found = [Tails.of(sample) for sample in samples]
    spread = np.std([one.trimmed_mean_1_percent for one in found], ddof=1)
    stated = np.mean([one.trimmed_mean_1_percent_se for one in found])
    assert stated == pytest.approx(spread, rel=0.15)


def test_a_hundredth_of_fewer_than_a_hundred_images_is_none_of_them():
    assert Tails.of(np.array([1.0, 2.0, 30.0])).facts("train_") == {"train_median": 2.0}
    assert Tails.of(np.arange(100.0)).extreme_1_percent == pytest.approx((0 - 49.5) / 100)


def test_independent_samples_differ_number_by_number():
    a, b = Tails.of(HEAVY), Tails.of(BODY)
    found = a.minus(b)
    assert found.median == a.median - b.median
    assert found.extreme_1_percent == a.extreme_1_percent - b.extreme_1_percent
    errors = a.trimmed_mean_1_percent_se, b.trimmed_mean_1_percent_se
    assert found.trimmed_mean_1_percent_se == math.hypot(*errors)
    assert a.minus(Tails.of(BODY[:9])).trimmed_mean_1_percent is None


KEYS = {"median", "trimmed_mean_1_percent", "trimmed_mean_1_percent_se", "extreme_1_percent"}


def test_densities_gaps_and_slopes_state_their_tails():
    values, body = torch.from_numpy(HEAVY), torch.from_numpy(BODY)
    for likelihood in ("log_prob", "derived"):
        entry = Measure(values, "nats", likelihood=likelihood).summary()
        assert Tails.of(HEAVY).facts().items() <= entry.items()
    assert not KEYS & Measure(values, "nats").summary().keys()
    generated = average_log_likelihood(values, {"draws": 1}, kind="exact").summary()
    assert KEYS | {"draws"} <= generated.keys()
    gap = train_test_gap(body, values, {}).summary()
    assert gap["value"] > 150
    assert gap["median"] == pytest.approx(np.median(BODY) - np.median(HEAVY))
    assert abs(gap["trimmed_mean_1_percent"]) < 5 < abs(gap["extreme_1_percent"])
    slope = floor_slope(values, body, {}, at_most=500.0, kind="estimate").summary()
    assert slope["median"] == np.median(HEAVY)
    assert slope["train_median"] == np.median(BODY)
    assert slope["train_extreme_1_percent"] == Tails.of(BODY).extreme_1_percent


def test_mean_and_median_contradict_each_other_by_sign_or_by_more_than_the_error():
    def entry(value: float, se: float | None, median: float | None) -> dict[str, Any]:
        return {"value": value, "se": se, "median": median, "extreme_1_percent": -127.0}

    assert disagreement(entry(10.0, 1.0, 10.5)) is None
    assert disagreement(entry(10.0, None, 30.0)) is None
    assert disagreement(entry(10.0, 1.0, None)) is None
    assert disagreement(entry(125.0, 24.0, -5.8)) == (
        "the mean 125 ± 24 and the median -5.8 have different signs; the 1 % of images furthest "
        "from the median hold -127 of mean − median"
    )
    assert "differ by more than its error" in str(disagreement(entry(100.0, 2.0, 228.0)))
    assert "different signs" in str(disagreement(entry(-20.6, 50.0, 203.0)))
    assert "different signs" in str(disagreement(entry(-0.007, 0.069, 0.06)))  # within the error


def test_compare_shows_and_says_it(forge: Any, comparison: Any, cli: Any) -> None:
    a = forge("a", values={"elbo": BODY}, facts={"elbo": Tails.of(BODY).facts()})
    b = forge("b", values={"elbo": HEAVY}, facts={"elbo": Tails.of(HEAVY).facts()})
    [difference] = comparison(a, b)["differences"]["elbo"]
    paired = HEAVY - BODY
    assert difference["value"] == pytest.approx(paired.mean())
    assert difference["tails"]["median"] == 0
    assert difference["tails"]["extreme_1_percent"] == pytest.approx(paired.mean())
    assert difference["tails"]["trimmed_mean_1_percent"] == pytest.approx(
        stats.trim_mean(paired, 0.01)
    )
    shown = cli("compare", a, b).stdout
    assert "median" in shown
    assert "mean without the lowest and the highest 1 %" in shown
    assert "part of mean − median that the furthest 1 % hold" in shown
    assert "Do not read elbo by its mean alone" in shown
    assert "minus" in shown.partition("Do not read elbo")[2]
    header = cli("compare", a, b, "--format", "csv").stdout.splitlines()[0].split(",")
    assert {*KEYS, *(f"difference_{key}" for key in KEYS)} <= set(header)


def test_of_many_contradictions_one_is_the_example(forge: Any, cli: Any) -> None:
    facts = {"elbo": Tails.of(HEAVY).facts()}
    runs = [forge(name, values={"elbo": HEAVY}, facts=facts) for name in "abcde"]
    (line,) = [
        line
        for line in cli("compare", *runs).stdout.splitlines()
        if line.startswith("Do not read elbo")
    ]
    assert line.count("furthest from the median") == 1
    assert line.endswith("The same holds to a smaller degree for 4 other numbers.")


def test_contradictions_are_said_once_for_each_kind(forge: Any, cli: Any) -> None:
    """The example is the number whose mean and median are furthest apart."""
    values = {"elbo": BODY, "distortion": BODY, "rate": BODY}  # the mean is 200, its error 0.3
    opposite, far, near = {"median": -1.0}, {"median": 190.0}, {"median": 199.0}
    a = forge("a", values=values, facts={"elbo": opposite, "distortion": far, "rate": near})
    b = forge("b", values=values, facts={"elbo": near})
    signs, errors = [
        line for line in cli("compare", a, b).stdout.splitlines() if line.startswith("Do not read")
    ]
    assert signs.startswith(f"Do not read elbo by its mean alone. elbo of {a.name[16:]}: the mean ")
    assert signs.endswith("have different signs.")
    assert errors.startswith("Do not read elbo, distortion, rate by their means alone. distortion ")
    assert errors.endswith(" The same holds to a smaller degree for 2 other numbers.")


def over_three_seeds(forge: Any, *betas: float) -> list[Any]:
    """Runs of three seeds for each beta. The values of images shift by seed and beta alone."""
    runs = []
    for beta in betas:
        for seed in (1, 2, 3):
            values = HEAVY + seed - 10 * (beta != 1)
            settings = (f"seed={seed}", f"model.beta={beta}")
            facts = {"elbo": Tails.of(values).facts()}
            name = f"r{beta}{seed}"
            runs.append(forge(name, *settings, values={"elbo": values}, facts=facts))
    return runs


def test_over_seeds_the_medians_of_runs_are_averaged(forge: Any, comparison: Any) -> None:
    """By hand: medians m + 1, m + 2 and m + 3, whose mean is m + 2 and standard deviation 1."""
    first, second = comparison(*over_three_seeds(forge, 1, 4))["over_seeds"]
    of_one = Tails.of(HEAVY)
    for group, shift in ((first, 2.0), (second, -8.0)):
        tails = group["metrics"]["elbo"]["tails"]
        assert tails["median"]["mean"] == pytest.approx(of_one.median + shift)
        trimmed = of_one.trimmed_mean_1_percent
        assert tails["trimmed_mean_1_percent"]["mean"] == pytest.approx(trimmed + shift)
        assert tails["extreme_1_percent"]["mean"] == pytest.approx(of_one.extreme_1_percent)
        assert tails["median"]["sd"] == pytest.approx(1)
        assert tails["extreme_1_percent"]["sd"] == pytest.approx(0, abs=1e-9)
    assert second["differences"]["elbo"]["tails"]["median"] == pytest.approx(-10)


def test_a_few_groups_over_seeds_have_the_medians_as_further_rows(forge: Any, cli: Any) -> None:
    text = cli("compare", *over_three_seeds(forge, 1, 4), "--format", "md").stdout
    table = text[text.index("### Over seeds") :]
    median = np.median(HEAVY)
    shown = f"| · median | {median + 2:.1f} ± 1.0 | {median - 8:.1f} ± 1.0 | -10 |"
    assert shown in table
    said = "Over seeds, do not read elbo by its mean alone. elbo of model.beta="
    assert said in table
    assert "to a smaller degree for 1 other number." in table
    in_a_terminal = cli("compare", *over_three_seeds(forge, 1, 4)).stdout
    assert "· median" in in_a_terminal[in_a_terminal.index("Over seeds: mean") :]


def test_many_groups_over_seeds_have_them_in_a_table_of_their_own(forge: Any, cli: Any) -> None:
    runs = over_three_seeds(forge, 1, 2, 3, 4)
    markdown = cli("compare", *runs, "--format", "md").stdout
    means, beside = markdown[markdown.index("### Over seeds") :].split(
        "### Over seeds, what stands beside the means of log-likelihoods"
    )
    assert "median" not in means
    assert "| runs | model.beta | elbo · median |" in beside
    assert f"| {np.median(HEAVY) + 2:.1f} ± 1.0 |" in beside
    assert "The same holds to a smaller degree for 3 other numbers." in beside
    assert "Over seeds, what stands beside" not in cli("compare", *runs).stdout  # but --all has it


def test_a_root_mean_has_no_tails(forge: Any, comparison: Any) -> None:
    a, b = (forge(name, values={"rmse_mean": BODY}) for name in "ab")
    assert set(comparison(a, b)["differences"]["rmse_mean"][0]["tails"].values()) == {None}


def test_runs_and_their_table_have_them(learned: Path, copy_of: Any, cli: Any) -> None:
    for split in json.loads((learned / "metrics.json").read_text()).values():
        for name in ("elbo", "distortion"):
            assert "median" in split[name]
    done = cli("evaluate", copy_of(learned), "--only", "singularities")
    assert "train_test_gap" in done.stdout
    assert "· median" in done.stdout
