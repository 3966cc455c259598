"""``vaexp compare``: paired differences by hand, what it refuses, and what it prints."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaexp.runs.folder import RunFolder, short_names

RNG = np.random.default_rng(5)
N = 400
ELBO = RNG.normal(-700, 5, N)
VALUES = {
    "elbo": ELBO,
    "rate": RNG.gamma(5, 1, N),
    "rmse_mean": RNG.gamma(3, 0.02, N),
    "iw_bound": ELBO + RNG.exponential(1, N),
}
OTHER = {
    "elbo": ELBO + RNG.normal(3, 1, N),
    "rate": RNG.gamma(6, 1, N),
    "rmse_mean": VALUES["rmse_mean"] * RNG.uniform(0.7, 1.2, N),
    "iw_bound": VALUES["iw_bound"] + RNG.normal(2, 1, N),
}


# Differences


def test_a_difference_is_paired(forge: Any, comparison: Any) -> None:
    answer = comparison(forge("a", values=VALUES), forge("b", values=OTHER))
    for metric in ("elbo", "rate", "iw_bound"):
        paired = OTHER[metric] - VALUES[metric]
        [difference] = answer["differences"][metric]
        assert difference["value"] == pytest.approx(paired.mean(), rel=1e-9)
        assert difference["se"] == pytest.approx(paired.std(ddof=1) / np.sqrt(N), rel=1e-9)
        assert difference["refused"] is None
    unpaired = np.hypot(VALUES["elbo"].std(), OTHER["elbo"].std()) / np.sqrt(N)
    assert answer["differences"]["elbo"][0]["se"] < unpaired / 4


def test_a_root_mean_square_agrees_with_the_bootstrap(forge: Any, comparison: Any) -> None:
    a, b = VALUES["rmse_mean"], OTHER["rmse_mean"]
    answer = comparison(forge("a", values=VALUES), forge("b", values=OTHER))
    [difference] = answer["differences"]["rmse_mean"]
    assert difference["value"] == pytest.approx(np.sqrt(b.mean()) - np.sqrt(a.mean()), rel=1e-12)
    draws = np.random.default_rng(0).integers(0, N, (4000, N))
    bootstrap = np.sqrt(b[draws].mean(1)) - np.sqrt(a[draws].mean(1))
    # the standard error of a standard deviation of 4000 draws is 1.1 %
    assert difference["se"] == pytest.approx(bootstrap.std(), rel=0.05)


def test_real_runs(fixed: Path, learned: Path, comparison: Any) -> None:
    answer = comparison(fixed, learned)
    with np.load(fixed / "per_example.npz") as a, np.load(learned / "per_example.npz") as b:
        for metric in ("elbo", "rate", "distortion", "iw_bound"):
            paired = b[metric] - a[metric]
            [difference] = answer["differences"][metric]
            assert difference["value"] == pytest.approx(paired.mean(), rel=1e-9)
            assert difference["se"] == pytest.approx(
                paired.std(ddof=1) / np.sqrt(len(paired)), rel=1e-9
            )
    assert answer["settings"] == {
        "model.latent_dim": [2, 3],
        "model.sigma_mode": ["fixed", "pixel"],
        "model.sigma": [1.0, 0.5],
        "model.beta": [1.0, 2.0],
        "model.decode_mode": ["mean", "sweep"],
        "train.epochs": [60, 2],
    }
    assert answer["runs"] == short_names([RunFolder(fixed), RunFolder(learned)])
    assert answer["paths"] == [str(fixed), str(learned)]
    [ranking] = answer["rankings"]
    assert ranking["metric"] == "iw_bound"
    assert ranking["order"] == answer["runs"][::-1]


def test_three_runs_are_measured_against_the_first(forge: Any, comparison: Any) -> None:
    shifts = {"a": 0, "b": 4, "c": -2}
    runs = [forge(name, values={"elbo": ELBO + shift}) for name, shift in shifts.items()]
    answer = comparison(*runs)
    values = [difference["value"] for difference in answer["differences"]["elbo"]]
    assert values == pytest.approx([4, -2])
    errors = [difference["se"] for difference in answer["differences"]["elbo"]]
    assert errors == pytest.approx([0, 0], abs=1e-12)
    a, b, c = answer["runs"]
    assert answer["rankings"][0]["order"] == [b, a, c]


def test_the_same_run_twice(forge: Any, comparison: Any) -> None:
    run = forge("a", values=VALUES)
    answer = comparison(run, run)
    assert len(set(answer["runs"])) == 2
    for differences in answer["differences"].values():
        [difference] = differences
        assert set(difference.pop("tails").values()) <= {0.0, None}
        assert difference == {"value": 0.0, "se": 0.0, "refused": None, "se_images": None}
    assert answer["settings"] == {}


# What is not compared


@pytest.mark.parametrize(
    ("overrides", "facts", "reason"),
    [
        (["data.transform=dequantize"], {}, "transforms differ (scale and dequantize)"),
        (["data.labels=[4]"], {}, "the test images differ"),
        (["data.validation_size=10"], {"data": "others"}, "the test images differ"),
        (
            ["model.conditional=false"],
            {"facts": {"elbo": {"of": "x"}}},
            "one is of x given label, the other of x",
        ),
        ([], {"facts": {"elbo": {"measure": "mass"}}}, "a density and a mass"),
        ([], {"facts": {"elbo": {"kind": "exact"}}}, "lower bound"),
        ([], {"values": {"elbo": ELBO[:-1]}}, "one is of 400 images or draws, the other of 399"),
    ],
    ids=["transform", "digits", "data", "label", "measure", "kind", "fewer images"],
)
def test_unlike_numbers_are_neither_subtracted_nor_ranked(
    forge: Any, comparison: Any, overrides: list[str], facts: dict[str, Any], reason: str
) -> None:
    settings: dict[str, Any] = {"values": {"elbo": ELBO}} | facts
    runs = [forge("a", values={"elbo": ELBO}), forge("b", *overrides, **settings)]
    for pair in (runs, runs[::-1]):
        answer = comparison(*pair)
        [difference] = answer["differences"]["elbo"]
        assert difference["value"] is None
        assert difference["se"] is None
        assert difference["refused"]
        if pair is runs:
            assert reason in difference["refused"]
        assert answer["rankings"] == []
        assert list(answer["unranked"]) == answer["runs"]


def test_a_third_run_that_is_unlike_is_left_out_of_the_ranking(forge: Any, comparison: Any) -> None:
    same = {"values": {"elbo": ELBO}}
    better = {"values": {"elbo": ELBO + 1}}
    runs = [forge("a", **same), forge("b", **better), forge("c", "data.transform=logit", **same)]
    answer = comparison(*runs)
    refused = [difference["refused"] for difference in answer["differences"]["elbo"]]
    assert refused[0] is None
    assert "transforms differ" in refused[1]
    [ranking] = answer["rankings"]
    a, b, c = answer["runs"]
    assert ranking["order"] == [b, a]
    assert list(answer["unranked"]) == [c]
    assert "transforms differ" in answer["unranked"][c]


def test_neighbours_within_two_standard_errors_are_said_to_be(forge: Any, comparison: Any) -> None:
    """b is a plus noise of mean about 0, c is a plus exactly 1 nat."""
    noise = np.where(np.arange(len(ELBO)) % 2, 0.1, -0.1)
    runs = [
        forge(name, values={"elbo": ELBO + more})
        for name, more in (("a", 0), ("b", noise), ("c", 1))
    ]
    [ranking] = comparison(*runs)["rankings"]
    assert ranking["order"][0].startswith("c")
    [close] = ranking["close"]
    assert {name[0] for name in close} == {"a", "b"}
    assert ranking["tied"] == []


def test_bounds_with_another_k(forge: Any, comparison: Any) -> None:
    runs = [
        forge("a", values=VALUES),
        forge("b", values=OTHER, facts={"iw_bound": {"k": 10}}),
    ]
    answer = comparison(*runs)
    assert answer["differences"]["iw_bound"][0]["refused"] == "k differs (100 and 10)"
    [ranking] = answer["rankings"]
    assert ranking["metric"] == "elbo"
    assert ranking["order"] == answer["runs"][::-1]


def test_real_density_and_mass(fixed: Path, bernoulli: Path, comparison: Any) -> None:
    answer = comparison(fixed, bernoulli)
    for metric in ("elbo", "iw_bound", "distortion", "rmse_mean"):
        assert answer["differences"][metric][0]["refused"]
    assert answer["metrics"]["sigma"][1] is None
    assert answer["differences"]["sigma"][0]["refused"] == "not measured on both"
    assert answer["rankings"] == []


def test_fewer_than_two_runs(forge: Any, invoke: Any) -> None:
    done = invoke("compare", forge("a"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "two runs" in done.stderr


def test_an_unfinished_run(forge: Any, invoke: Any, change_json: Any) -> None:
    a, b = forge("a"), forge("b")
    (b / "metrics.json").unlink()
    change_json(b / "run.json", status="interrupted")
    done = invoke("compare", a, b)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "of these 2 it can compare 1" in done.stderr
    assert "interrupted" in done.stderr
    assert f"vaexp train --resume {b}" in done.stderr


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "{}", '{"test": 3}', '{"test": {"elbo": 3}}', '{"test": {"elbo": {}}}'],
)
def test_damaged_metrics(forge: Any, invoke: Any, damage: str) -> None:
    a, b = forge("a"), forge("b")
    (b / "metrics.json").write_text(damage)
    for pair in ((a, b), (b, a)):
        done = invoke("compare", *pair)
        assert isinstance(done.exception, SystemExit), repr(done.exception)
        assert (done.exit_code, done.stdout) == (1, "")
        assert str(b) in done.stderr


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "flipped", "pickled"])
def test_damaged_per_image_values(forge: Any, invoke: Any, damage: str, tmp_path: Path) -> None:
    a, b = forge("a", values=VALUES), forge("b", values=OTHER)
    path = b / "per_example.npz"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "pickled":

        class Evil:
            def __reduce__(self) -> Any:
                return Path.mkdir, (tmp_path / "owned",)

        np.savez(path, elbo=np.array([Evil()], dtype=object))
    else:
        flipped = content[:]
        for i in range(200, 1200, 50):
            flipped[i] ^= 0xFF
        damaged = {"empty": b"", "truncated": content[:-100], "text": b"nonsense" * 99}
        path.write_bytes(damaged.get(damage, flipped))
    done = invoke("compare", a, b)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert (done.exit_code, done.stdout) == (1, "")
    assert str(path) in done.stderr
    assert not (tmp_path / "owned").exists()


# What is printed


def test_csv_has_one_row_per_metric_and_run(forge: Any, invoke: Any) -> None:
    runs = [forge("a", values=VALUES), forge("b", "data.transform=logit", values=OTHER)]
    done = invoke("compare", *runs, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 2 * len(VALUES)
    first, second = [row for row in rows if row["metric"] == "elbo"]
    assert float(first["value"]) == pytest.approx(ELBO.mean())
    assert (first["difference"], first["not_compared"]) == ("", "")
    assert (first["kind"], first["measure"], first["sigma"]) == ("lower_bound", "density", "1.0")
    assert second["difference"] == ""
    assert "transforms differ" in second["not_compared"]
    rate = [row for row in rows if row["metric"] == "rate"][1]
    assert float(rate["difference"]) == pytest.approx((OTHER["rate"] - VALUES["rate"]).mean())


def test_markdown_tables_are_rectangular(fixed: Path, learned: Path, invoke: Any) -> None:
    text = invoke("compare", fixed, learned, fixed, "--format", "md").stdout
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4  # runs, settings, metrics, and the group that train measures
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1
        assert set(table[1]) == set("| -")


def test_every_density_stands_beside_its_sigma(fixed: Path, learned: Path, invoke: Any) -> None:
    for format_ in ("table", "md"):
        text = invoke("compare", fixed, learned, "--format", format_).stdout
        for metric in ("elbo", "distortion", "iw_bound"):
            [line] = [line for line in text.splitlines() if line.lstrip("| ").startswith(metric)]
            assert line.index("[σ = 1]") < line.index("[σ ≥ 0.001]")


def test_the_table_in_a_pipe_is_plain_and_complete(fixed: Path, learned: Path, cli: Any) -> None:
    text = cli.ok("compare", fixed, f"{learned}/")
    assert "\x1b" not in text
    assert "…" not in text
    for run in (fixed, learned):
        assert str(run) in text
        assert short_names([RunFolder(run)])[0] in text
    assert "Ranked by iw_bound" in text


def test_json_flag_is_the_json_format(fixed: Path, learned: Path, invoke: Any) -> None:
    long = invoke("compare", fixed, learned, "--format", "json").stdout
    assert invoke("compare", fixed, learned, "--json").stdout == long


def test_figure(fixed: Path, learned: Path, bernoulli: Path, copy_of: Any, invoke: Any) -> None:
    first = copy_of(fixed)
    done = invoke("compare", first, learned, bernoulli, "--figure", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["runs"]
    [path] = (first / "figures").glob("compare*.png")
    assert str(path) in done.stderr
    assert path.read_bytes().startswith(b"\x89PNG")
