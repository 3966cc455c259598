"""The table of groups: who reads it, and that a new group is its file and one entry."""

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from vaexp.evaluation.groups import GROUPS, Group, fast_groups, images_help
from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.subject import Subject
from vaexp.figures.evidence import About, Arrays, Entries
from vaexp.models import Model
from vaexp.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]
SAME = {"value": 0.0, "se": 0.0, "refused": None}  # of a difference
MIXTURE = "model: {kind: gmm, components: 2, covariance: diag}\ntrain: {max_iter: 1}\n"
TOY = Group(
    "toy",
    title="A toy of the tests",
    answers="how bright the images are",
    measure="test_groups:measure_toy",
    figure="test_groups:draw_toy",
)


def measure_toy(subject: Subject[Model]) -> Evidence:
    """A number for each image, one of all of them, and a log-likelihood."""
    values = subject.x.double().mean(1).cpu()
    return Evidence(
        entries={
            "brightness": Measure(values, "", kind="exact", scope="same_look", facts=look(subject)),
            "brightest": Estimate(values.max().item(), "", len(values), scope="any_transform"),
            "own": Estimate(values.max().item(), "", len(values), scope="own_draws"),
            "worth": Measure(values, "nats", kind="lower_bound", likelihood="derived"),
        },
        arrays={"brightness": values.numpy()},
        absent={"colour": "these images are grey"},
    )


def look(subject: Subject[Model]) -> dict[str, Any]:
    return {"look": subject.transform.look}


def draw_toy(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """Says what it was given."""
    figure = Figure()
    figure.text(0, 0, f"{about.images(entries['brightness'])}, {len(arrays['brightness'])} values")
    return figure


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUPS, "toy", TOY)


@pytest.mark.usefixtures("toy")
def test_a_new_group_is_measured_drawn_and_compared(
    fixed: Path, learned: Path, copy_of: Any, invoke: Any
) -> None:
    runs = [copy_of(fixed), copy_of(learned)]
    for run in runs:
        done = invoke("evaluate", run, "--only", "toy", "--images", "30", "--json")
        assert done.exit_code == 0, done.stderr
        assert "toy: 4 measures of 30 test images" in done.stderr
        assert "no colour: these images are grey" in done.stderr
        assert f"figure {run}/figures/evidence-toy.png" in done.stderr
        entries = json.loads(done.stdout)
        assert entries.pop("colour") == {"value": None, "absent": "these images are grey"}
        assert {entry["group"] for entry in entries.values()} == {"toy"}
        assert {entry["first_images"] for entry in entries.values()} == {30}
        assert entries["brightness"]["n"] == 30
        # a log-likelihood has the facts of the model's own beside it, and nothing else has
        assert entries["worth"]["measure"] == "density"
        assert entries["worth"]["of"] == "x given label"
        assert "measure" not in entries["brightness"]
        assert len(RunFolder(run).per_example()["brightness"]) == 30
    table = invoke("evaluate", runs[0], "--only", "toy", "--images", "30").stdout
    assert re.search(r"toy +brightness \(exact\)", table)

    shown = invoke("compare", *runs).stdout
    assert "A toy of the tests" in shown
    rows = shown[shown.index("A toy of the tests") :]
    for name in ("brightness (exact)", "brightest", "own", "worth (nats, lower bound)"):
        assert name in rows
    comparison = json.loads(invoke("compare", *runs, "--json").stdout)
    [difference] = comparison["differences"]["brightness"]
    assert {key: difference[key] for key in SAME} == SAME
    assert comparison["differences"]["own"][0]["refused"] == (
        "each is of images that its own model drew"
    )


@pytest.mark.usefixtures("toy")
def test_a_new_group_is_among_those_that_a_wrong_name_is_answered_with(
    fixed: Path, invoke: Any
) -> None:
    done = invoke("evaluate", fixed, "--only", "toys")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith(", gaps, toy")


def test_a_group_that_needs_a_bound_is_absent_where_ln_p_is_exact(
    tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = Group("toy", TOY.title, TOY.answers, TOY.measure, only_bounded="test_groups:NAMES")
    monkeypatch.setitem(GROUPS, "toy", bounded)
    (tmp_path / "exact.yaml").write_text(
        MIXTURE + "data: {limit: 200, validation_size: 500, labels: [4]}\n"
    )
    done = invoke("train", tmp_path / "exact.yaml", "--runs-dir", tmp_path)
    assert done.exit_code == 0, done.stderr
    run = Path(done.stdout.strip())
    done = invoke("evaluate", run, "--only", "toy", "--json")
    reason = "ln p(x) and the posterior of this model are exact"
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {key: {"value": None, "absent": reason} for key in NAMES}
    assert RunFolder(run).evaluation()["toy"]["absent"] == dict.fromkeys(NAMES, reason)
    done = invoke("evaluate", run, "--only", "toy")
    assert done.exit_code == 0
    for name in NAMES:
        [line] = [line for line in done.stdout.splitlines() if line.split()[:2] == ["toy", name]]
        assert reason in line


NAMES = ("brightness", "worth")


@pytest.mark.parametrize("name", GROUPS)
def test_every_entry_point_is_there(name: str) -> None:
    group = GROUPS[name]
    assert group.name == name
    assert group.measures().__name__ == ("measure_iw" if name == "iw_levels" else "measure")
    for point in filter(None, (group.figure, group.only_bounded)):
        assert pkgutil.resolve_name(point)
    assert all(isinstance(one, str) for one in group.bounded_names())
    # iw_levels is for exact models too, but for mixtures, to which it says so itself
    assert bool(group.needs) == (group.only_bounded is not None or name == "iw_levels")


def test_the_table_needs_no_torch() -> None:
    modules = "vaexp.evaluation.groups, vaexp.comparison.compare, vaexp.comparison.view"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_readme_has_the_table() -> None:
    """In the same order; the slow ones say so, and what they need of the model."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text[text.index("## The evidence") :]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", text, re.M)
    slow = {True: "slow", False: ""}
    assert rows[: len(GROUPS)] == [
        (name, group.answers, ", ".join(filter(None, (slow[group.slow], group.needs))))
        for name, group in GROUPS.items()
    ]


def test_the_help_says_which_groups_are_slow_and_whom_they_are_for(invoke: Any) -> None:
    text = " ".join(invoke("evaluate", "--help").stdout.replace("│", " ").split())
    assert "labels; by default all of these. Slow ones: iw (for a VAE), iw_levels (for" in text
    assert "by default all, but 1,000 for quadrature, 100 for ais and 100 for gaps." in text


def test_the_introduction_to_the_measures_has_the_table_too() -> None:
    text = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
    introduction = " ".join(text.split("\n## ")[0].split())
    slow = [name for name in GROUPS if name not in fast_groups()]
    assert ", ".join(f"`{name}`" for name in slow) in introduction
    for name, group in GROUPS.items():
        if group.images is not None:
            assert f"`{name}` measures the first {group.images:,}" in introduction
            assert f"{group.images:,} for {name}" in images_help()


# What may be compared


def add(run: Path, name: str, **entry: Any) -> Path:
    """Give a forged run a number of its test images as a whole."""
    common = {"value": 1.0, "se": 0.1, "aggregate": "whole", "unit": "", "n": 8, "group": "toy"}
    RunFolder(run).add_evidence("toy", {name: common | entry}, {}, {}, {})
    return run


@pytest.mark.parametrize(
    ("entries", "transforms", "reason"),
    [
        ([{"scope": "any_transform"}] * 2, ("scale", "logit"), None),
        ([{"scope": "same_x"}] * 2, ("scale", "scale"), None),
        ([{"scope": "same_x"}] * 2, ("scale", "logit"), "transforms differ (scale and logit)"),
        ([{"scope": "same_look", "look": "grey"}] * 2, ("scale", "logit"), None),
        (
            [{"scope": "same_look", "look": look} for look in ("grey", "black and white")],
            ("scale", "binarize"),
            "look different",
        ),
        ([{"scope": "own_draws"}] * 2, ("scale", "scale"), "its own model drew"),
        ([{"scope": "same_objective", "beta": 2.0}] * 2, ("scale", "scale"), None),
        ([{"scope": "same_objective", "beta": 2.0}] * 2, ("scale", "logit"), "transforms differ"),
        (
            [{"scope": "same_objective", "beta": beta} for beta in (1.0, 2.0)],
            ("scale", "scale"),
            "beta differs",
        ),
        ([{"scope": "same_x"}, {"scope": "any_transform"}], ("scale", "scale"), "versions"),
        ([{"scope": "of_tomorrow"}] * 2, ("scale", "scale"), "a later version"),
    ],
)
def test_a_number_says_what_it_may_be_subtracted_from(
    forge: Any,
    invoke: Any,
    entries: list[dict[str, Any]],
    transforms: tuple[str, str],
    reason: str | None,
) -> None:
    runs = [
        add(forge(name, f"data.transform={transform}"), "anything", **entry)
        for name, transform, entry in zip("ab", transforms, entries, strict=True)
    ]
    done = invoke("compare", *runs, "--json")
    [difference] = json.loads(done.stdout)["differences"]["anything"]
    if reason is None:
        assert difference["value"] == 0
    else:
        assert reason in difference["refused"]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ([{"measure": "mass", "on": "grey levels"}] * 2, None),
        (
            [{"measure": "mass", "on": on} for on in ("grey levels", "binary pixels")],
            "a mass on grey levels and a mass on binary pixels cannot be compared",
        ),
        (
            [{"measure": "mass", "on": "grey levels"}, {"measure": "density"}],
            "a mass and a density cannot be compared",
        ),
        # a version without `on` knew no other mass than that on binary pixels
        ([{"measure": "mass"}, {"measure": "mass", "on": "binary pixels"}], None),
        # densities are all with respect to the same volume, whatever values they allow
        ([{"measure": "density", "on": on} for on in ("all numbers", "[0, 1]")], None),
    ],
)
def test_masses_on_other_values_are_not_compared(
    forge: Any, invoke: Any, facts: list[dict[str, Any]], reason: str | None
) -> None:
    runs = [
        add(forge(name), "bits", scope="any_transform", **fact)
        for name, fact in zip("ab", facts, strict=True)
    ]
    [difference] = json.loads(invoke("compare", *runs, "--json").stdout)["differences"]["bits"]
    assert difference["refused"] == reason


def test_runs_are_ranked_by_the_tightest_likelihood_that_all_have(forge: Any, invoke: Any) -> None:
    """Whatever it is called."""
    values = {"loose": np.arange(8.0), "tight": -np.arange(8.0)}
    facts = {
        name: {"scope": "same_x", "tightness": tightness, "kind": "lower_bound", "of": "x"}
        for tightness, name in enumerate(values, start=1)
    }
    more = {name: one + 1 for name, one in values.items()}
    a, b = forge("a", values=values, facts=facts), forge("b", values=more, facts=facts)
    only_loose = forge("c", values={"loose": values["loose"] + 9}, facts=facts)
    [ranking] = json.loads(invoke("compare", a, b, "--json").stdout)["rankings"]
    assert ranking["metric"] == "tight"
    assert [name[0] for name in ranking["order"]] == ["b", "a"]
    [ranking] = json.loads(invoke("compare", a, b, only_loose, "--json").stdout)["rankings"]
    assert ranking["metric"] == "loose"
    assert [name[0] for name in ranking["order"]] == ["c", "b", "a"]


def test_runs_without_a_likelihood_are_not_ranked(forge: Any, invoke: Any) -> None:
    runs = [forge(name, values={"rate": np.arange(8.0)}) for name in "ab"]
    answer = json.loads(invoke("compare", *runs, "--json").stdout)
    assert answer["rankings"] == []
    assert set(answer["unranked"].values()) == {"no likelihood was measured on it"}
    assert invoke("compare", *runs).exit_code == 0


def test_an_old_run_is_compared_with_a_new_one(fixed: Path, copy_of: Any, invoke: Any) -> None:
    """A version before ``scope`` wrote the same entries without it."""
    old = copy_of(fixed)
    metrics = json.loads((old / "metrics.json").read_text())
    for entry in metrics["test"].values():
        for key in ("scope", "tightness", "look"):
            entry.pop(key, None)
    (old / "metrics.json").write_text(json.dumps(metrics))
    answer = json.loads(invoke("compare", old, fixed, "--json").stdout)
    [ranking] = answer["rankings"]
    assert ranking["metric"] == "iw_bound"
    assert ranking["tied"] == [answer["runs"]]
    for name, [difference] in answer["differences"].items():
        assert {key: difference[key] for key in SAME} == SAME, name


def test_the_simulated_of_an_old_run_are_not_compared(forge: Any, invoke: Any) -> None:
    runs = [add(forge(name), "ais_lower_simulated", unit="nats") for name in "ab"]
    answer = json.loads(invoke("compare", *runs, "--json").stdout)
    assert "own model drew" in answer["differences"]["ais_lower_simulated"][0]["refused"]
