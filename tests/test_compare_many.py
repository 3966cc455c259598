"""``vaexp compare``: ranks within groups, the baseline, tidy CSV, and runs that are left out."""

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ELBO = np.random.default_rng(5).normal(-700, 5, 100)
EXACT = {"measure": "density", "of": "x", "kind": "exact", "sigma": None, "tightness": 3}
MASS = {"measure": "mass", "of": "x", "kind": "lower_bound", "sigma": None}


@pytest.fixture
def exact_run(forge: Any) -> Any:
    def make(name: str, shift: float) -> Path:
        values = {"log_prob": ELBO + shift}
        facts = {"log_prob": EXACT | {"scope": "same_x"}}
        run: Path = forge(name, "model.kind=ppca", values=values, facts=facts)
        return run

    return make


def test_one_run_of_another_kind_does_not_cancel_the_ranking(
    forge: Any, exact_run: Any, comparison: Any, invoke: Any
) -> None:
    runs = [
        exact_run("a", 0),
        forge("mass", "data.transform=binarize", values={"elbo": ELBO}, facts={"elbo": MASS}),
        exact_run("b", 5),
        exact_run("c", -5),
    ]
    answer = comparison(*runs)
    a, mass, b, c = answer["runs"]
    [ranking] = answer["rankings"]
    assert (ranking["metric"], ranking["order"]) == ("log_prob", [b, a, c])
    assert list(answer["unranked"]) == [mass]
    text = invoke("compare", *runs).stdout
    assert f"Ranked by log_prob, ln p(x), best first: {b}, {a}, {c}." in text
    assert f"Not ranked: {mass}. The reason: {answer['unranked'][mass]}." in text


def test_each_group_has_its_ranking(
    forge: Any, exact_run: Any, comparison: Any, invoke: Any
) -> None:
    given = {"a": 0.0, "b": 3.0, "c": 1.0}
    runs = [forge(name, values={"elbo": ELBO + shift}) for name, shift in given.items()]
    runs += [exact_run("p", 0), exact_run("q", 4)]
    answer = comparison(*runs)
    a, b, c, p, q = answer["runs"]
    assert [one["order"] for one in answer["rankings"]] == [[b, c, a], [q, p]]
    assert answer["unranked"] == {}
    text = invoke("compare", *runs).stdout
    assert f"Group 1. Ranked by elbo, a lower bound on ln p(x|label), best first: {b}, " in text
    assert f"Group 2. Ranked by log_prob, ln p(x), best first: {q}, {p}." in text
    [line, *_] = [line for line in text.splitlines() if line.split()[:1] == [c]]
    assert "2 in group 1" in line


def test_equal_runs_are_tied(forge: Any, comparison: Any, invoke: Any) -> None:
    runs = [forge(name, values={"elbo": ELBO + (name == "c")}) for name in "abcd"]
    answer = comparison(*runs)
    a, b, c, d = answer["runs"]
    [ranking] = answer["rankings"]
    assert ranking["order"] == [c, a, b, d]
    assert ranking["tied"] == [[a, b, d]]
    assert ranking["close"] == []
    text = invoke("compare", *runs, "--format", "md").stdout
    assert f"best first: {c}, {a} = {b} = {d}. Runs joined by = have exactly equal" in text
    first = text[: text.index("###", 3)]
    places = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1]
        for line in first.splitlines()
        if line.startswith("| ")
    }
    assert [places[run] for run in (a, b, c, d)] == ["2=", "2=", "1", "2="]


def test_means_that_agree_by_chance_are_no_tie(forge: Any, comparison: Any) -> None:
    other = ELBO + np.where(np.arange(len(ELBO)) % 2, 1.0, -1.0)
    runs = [forge("a", values={"elbo": ELBO}), forge("b", values={"elbo": other})]
    [ranking] = comparison(*runs)["rankings"]
    assert ranking["tied"] == []
    assert len(ranking["close"]) == 1


# The baseline


def test_the_baseline_is_any_of_the_runs(forge: Any, invoke: Any, cli: Any) -> None:
    shifts = {"a": 0.0, "b": 4.0, "c": -2.0}
    runs = [forge(name, values={"elbo": ELBO + shift}) for name, shift in shifts.items()]
    b = runs[1]
    for name in (b, f"{b}/", os.path.relpath(b), b.name, b.name[16:], "b"):
        answer = json.loads(invoke("compare", *runs, "--baseline", name, "--json").stdout)
        assert answer["baseline"] == b.name[16:]
        found = [one["value"] for one in answer["differences"]["elbo"]]
        assert found == pytest.approx([-4, -6])
        assert [run[0] for run in answer["runs"]] == ["a", "b", "c"]
    text = cli.ok("compare", *runs, "--baseline", b)
    a, _, c = answer["runs"]
    assert f"{a} minus {b.name[16:]}" in text
    assert f"{c} minus {b.name[16:]}" in text
    assert f"minus {a}" not in text


def test_a_baseline_that_is_none_of_the_runs(forge: Any, invoke: Any) -> None:
    runs = [forge("aa"), forge("ab")]
    failed = forge("zz")
    (failed / "metrics.json").unlink()
    for name, what in (
        ("nope", "names none of the runs"),
        ("a", "names several of the runs"),
        (failed, "it cannot be compared"),
    ):
        done = invoke("compare", *runs, failed, "--baseline", name)
        assert (done.exit_code, done.stdout) == (2, "")
        assert what in done.stderr
    assert runs[0].name[16:] in invoke("compare", *runs, "--baseline", "nope").stderr


# Runs that cannot be compared


def test_the_rest_is_compared(forge: Any, cli: Any, change_json: Any, tmp_path: Path) -> None:
    good = [forge(name, values={"elbo": ELBO}) for name in ("a", "b")]
    damaged, failed, unfinished, edited = (forge(name) for name in "cdef")
    (damaged / "metrics.json").write_text("{")
    for run, status in ((failed, "failed"), (unfinished, "interrupted")):
        (run / "metrics.json").unlink()
        change_json(run / "run.json", status=status, error="the loss became nan")
    config = edited / "config.yaml"
    config.write_text(config.read_text().replace("beta: 1.0", "beta: 9.0"))
    other = tmp_path / "notes"
    other.mkdir()
    bad = [damaged, failed, unfinished, edited, other]
    done = cli("compare", bad[0], *good, *bad[1:])
    assert done.returncode == 0
    assert all(run.name[16:] in done.stdout for run in good)
    assert not any(run.name[16:] in done.stdout for run in bad[:4])
    lines = done.stderr.splitlines()
    assert [line.startswith(f"left out: {run}") for line, run in zip(lines, bad, strict=True)] == [
        True
    ] * 5
    for line, reason in zip(
        lines,
        ("damaged", "the loss became nan", "vaexp train --resume", "changed since", "not a run"),
        strict=True,
    ):
        assert reason in line
    answer = json.loads(cli.ok("compare", *good, *bad, "--json"))
    assert list(answer["left_out"]) == [str(run) for run in bad]


def test_one_run_that_remains_is_not_compared(forge: Any, invoke: Any) -> None:
    good, bad = forge("a"), forge("b")
    (bad / "metrics.json").write_text("[]")
    done = invoke("compare", good, bad)
    assert (done.exit_code, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first == "compare needs two runs or more, and of these 2 it can compare 1"
    assert str(bad) in second


# CSV


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_runs_without_a_measure_are_counted_and_not_shown_as_empty_rows(
    forge: Any, invoke: Any
) -> None:
    runs = [forge(name, values={"elbo": ELBO}) for name in "abcd"]
    runs.append(forge("e", values={"elbo": ELBO, "sigma": ELBO + 701}))
    runs.append(forge("f", values={"elbo": ELBO, "sigma": ELBO + 702}))
    text = invoke("compare", *runs).stdout
    part = text[text.index("Test metrics, ± standard error over images") :].split("\n\n")
    assert part[0].splitlines()[1] == "4 of the runs have none of these."
    assert len(part[1].splitlines()) == 2 + 2
    assert re.search(r"Not compared with .*e-\w+, f-\w+: measures that one of two runs lacks", text)
    assert text.count("measures that one of two runs lacks.") == 1


def test_many_runs_fill_no_book(forge: Any, invoke: Any) -> None:
    """Of more than twelve runs a terminal shows the main table, and sentences name twelve."""
    runs = [
        forge(
            f"r{i:02d}",
            values={"elbo": ELBO + i, "distortion": ELBO} | ({"sigma": ELBO} if i else {}),
        )
        for i in range(40)
    ]
    text = invoke("compare", *runs).stdout
    assert "distortion" not in text
    assert "distortion" in invoke("compare", *runs[:12]).stdout
    assert "distortion" in invoke("compare", *runs, "--all").stdout
    assert "distortion" in invoke("compare", *runs, "--format", "md").stdout
    assert "2 more measures: --all" in text
    sentences = [line for line in text.splitlines() if ", and " in line and " more" in line]
    assert sentences
    assert max(line.count("r0") + line.count("r1") for line in text.splitlines()) <= 12
    assert len(text.splitlines()) < 2 * 40 + 20


def test_many_groups_of_seeds_are_named_after_a_run(forge: Any, invoke: Any) -> None:
    """Their settings are columns, and a kind has none of another's."""
    runs = [
        forge(f"{kind}{beta}{seed}", f"seed={seed}", *settings, values={"elbo": ELBO + seed})
        for kind, beta, settings in [
            ("vae", "1", ["model.beta=1"]),
            ("vae", "2", ["model.beta=2"]),
            ("vae", "4", ["model.beta=4"]),
            ("ppca", "", ["model.kind=ppca"]),
        ]
        for seed in (1, 2)
    ]
    text = invoke("compare", *runs).stdout
    table = text[text.index("Over seeds: mean ± standard deviation of 2 runs") :].split("\n\n")[1]
    head, _, *rows = [re.split(r" {3,}", line.strip()) for line in table.splitlines()]
    assert head[0] == "runs"
    first = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert [name.split("-")[0] for name in first] == ["vae11", "vae21", "vae41", "ppca1"]
    assert all(name.endswith(" and 1 more") for name in first)
    assert [row["model.beta"] for row in first.values()] == ["1", "2", "4", "–"]


def test_the_csv_of_runs_and_of_compare_join(forge: Any, invoke: Any) -> None:
    values = {"elbo": ELBO, "rate": np.full(100, 3.0)}
    runs = [forge("a", values=values), forge("b", "model.beta=4", values=values)]
    listed = {
        row["run"]: row for row in rows_of(invoke("runs", forge.folder, "--format", "csv").stdout)
    }
    compared = rows_of(invoke("compare", *runs, "--format", "csv").stdout)
    assert {row["run"] for row in compared} == set(listed) == {run.name for run in runs}
    assert len(compared) == 4
    settings = {key for key in compared[0] if "." in key}
    assert {"model.beta", "train.epochs", "data.transform"} <= settings
    for row in compared:
        same = listed[row["run"]]
        assert {key: row[key] for key in settings} == {key: same[key] for key in settings}
        assert row["folder"] == same["folder"]
        assert float(row["value"]) == float(same[row["metric"]])
        assert float(row["se"]) == float(same[f"{row['metric']}_se"])
    assert {row["model.beta"] for row in compared} == {"1.0", "4.0"}
    assert {row["aggregate"] for row in compared} == {"mean"}
    [first, second] = [row for row in compared if row["metric"] == "elbo"]
    assert (first["difference"], float(second["difference"])) == ("", 0.0)
