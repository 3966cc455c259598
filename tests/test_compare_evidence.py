"""``vaexp compare`` on what ``vaexp evaluate`` measured, over seeds, and as a page."""

import base64
import io
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page
from PIL import Image

from vaexp.evaluation.groups import GROUPS
from vaexp.evaluation.tails import Tails
from vaexp.figures.rate_distortion import rate_distortion
from vaexp.runs.folder import RunFolder

N = 50
RNG = np.random.default_rng(3)
NO_TAILS = dict.fromkeys(field.name for field in fields(Tails))
UNPAIRED = {"refused": None, "tails": NO_TAILS, "se_images": None}
BASE = RNG.normal(-700, 5, N)


def add_whole(path: Path, **entries: dict[str, Any]) -> Path:
    """Give a forged run numbers of its test images as a whole."""
    common = {"aggregate": "whole", "unit": "", "n": N, "group": "quality"}
    RunFolder(path).add_evidence(
        "quality", {name: common | entry for name, entry in entries.items()}, {}, {}, {}
    )
    return path


def test_numbers_of_a_whole_set_differ_by_independent_errors(forge: Any, comparison: Any) -> None:
    a = add_whole(
        forge("a"),
        digit_kid_mean={"value": 1.0, "se": 0.3},
        digit_fid_mean={"value": 10.0, "se": None, "interval": [9.0, 11.0]},
        bare={"value": 1.0, "se": None},
    )
    b = add_whole(
        forge("b"),
        digit_kid_mean={"value": 3.0, "se": 0.4},
        digit_fid_mean={"value": 4.0, "se": None, "interval": [2.0, 6.0]},
        bare={"value": 2.5, "se": None},
    )
    differences = comparison(a, b)["differences"]
    assert differences["digit_kid_mean"] == [
        {
            "value": 2.0,
            "se": pytest.approx(0.5),
            "refused": None,
            "tails": NO_TAILS,
            "se_images": None,
        }
    ]
    [fid] = differences["digit_fid_mean"]
    # 95 % of a normal distribution lie within 1.96 standard deviations
    assert fid["value"] == -6.0
    assert fid["se"] == pytest.approx(np.hypot(1, 2) / 1.96)
    assert differences["bare"] == [{"value": 1.5, "se": None, **UNPAIRED}]


@pytest.mark.parametrize(
    ("name", "entry", "compared"),
    [
        ("digit_fid_mean", {"group": "quality", "unit": ""}, True),
        ("mutual_information", {"group": "rate", "unit": "nats"}, True),
        ("rmse_code", {"group": "codes", "unit": "units of x"}, False),
        ("variance_total", {"group": "decoding", "unit": "units of x squared"}, False),
    ],
)
def test_what_may_be_compared_across_transforms(
    forge: Any, comparison: Any, name: str, entry: dict[str, Any], compared: bool
) -> None:
    entry = {"value": 1.0, "se": 0.1} | entry
    a = add_whole(forge("a"), **{name: entry})
    b = add_whole(forge("b", "data.transform=dequantize"), **{name: entry})
    [difference] = comparison(a, b)["differences"][name]
    assert (difference["refused"] is None) == compared
    if not compared:
        assert "transforms differ" in difference["refused"]


@pytest.mark.parametrize(
    ("name", "a", "b", "reason"),
    [
        ("floor_slope", {"floor_of": "sigma"}, {"floor_of": "variance"}, "half the floor"),
        ("train_test_gap", {"difference_of": "elbo"}, {"difference_of": "log_prob"}, "difference"),
        ("nmi", {"clusters": 10}, {"clusters": 250}, "10 and 250 clusters"),
        ("covariance_distance_mean", {"against": 100}, {"against": 10_000}, "100 and 10000"),
        ("objective_over_beta", {"beta": 1.0}, {"beta": 4.0}, "beta differs"),
        ("induced_elbo", {"beta": 1.0}, {"beta": 4.0}, None),
    ],
)
def test_numbers_of_different_things_are_not_subtracted(
    forge: Any, comparison: Any, name: str, a: Any, b: Any, reason: str | None
) -> None:
    runs = [
        add_whole(forge(run), **{name: {"value": value, "se": 0.1} | facts})
        for run, value, facts in (("a", 1.0, a), ("b", 2.0, b))
    ]
    [difference] = comparison(*runs)["differences"][name]
    if reason is None:
        assert difference["value"] == 1
    else:
        assert reason in difference["refused"]


def test_samples_of_grey_and_of_black_and_white_digits_are_not_compared(
    forge: Any, comparison: Any
) -> None:
    entry = {"digit_fid_mean": {"value": 10.0, "se": 1.0}}
    runs = [
        add_whole(forge("a"), **entry),
        add_whole(forge("b", "data.transform=binarize"), **entry),
    ]
    [difference] = comparison(*runs)["differences"]["digit_fid_mean"]
    assert "transforms differ" in difference["refused"]


def test_the_same_control_differs_by_nothing(forge: Any, comparison: Any) -> None:
    runs = [
        add_whole(forge(name), digit_fid_control={"value": 0.2, "se": 0.04}) for name in ("a", "b")
    ]
    [difference] = comparison(*runs)["differences"]["digit_fid_control"]
    assert difference == {
        "value": 0.0,
        "se": 0.0,
        "refused": None,
        "tails": NO_TAILS,
        "se_images": None,
    }


def test_the_terminal_shows_headlines_unless_asked_for_all(forge: Any, invoke: Any) -> None:
    entries = {
        "digit_fid_mean": {"value": 10.0, "se": 1.0},
        "ndb_mean": {"value": 0.5, "se": 0.1},
    }
    runs = [add_whole(forge(name), **entries) for name in ("a", "b")]
    short = invoke("compare", *runs).stdout
    assert "digit_fid_mean" in short
    assert "ndb_mean" not in short
    assert "1 more measures: --all, or --format json." in short
    assert "elbo" in short
    for arguments in (("--all",), ("--format", "md"), ("--format", "csv")):
        everything = invoke("compare", *runs, *arguments).stdout
        assert "ndb_mean" in everything
        assert "more measures" not in everything


@pytest.mark.parametrize(
    "name", [name for group in GROUPS.values() for name in group.headlines or ()]
)
def test_every_headline_is_explained(name: str) -> None:
    text = (Path(__file__).parents[1] / "docs" / "measures.md").read_text()
    stem = re.sub("_(mean|sample|control)$", "", name)
    assert f"`{name}`" in text or f"`{stem}" in text


def test_a_kill_leaves_no_number_beside_arrays_that_it_is_not_of(
    forge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = add_whole(forge("a"), digit_fid_mean={"value": 10.0, "se": 1.0})

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", killed)
    run = RunFolder(path)
    with pytest.raises(KeyboardInterrupt):
        run.add_evidence("quality", {}, {}, {"digits": np.ones(3)}, {})
    assert "digit_fid_mean" not in run.metrics()["test"]
    assert "elbo" in run.metrics()["test"]


def test_each_group_has_its_table(forge: Any, invoke: Any) -> None:
    a = add_whole(forge("a"), digit_fid_mean={"value": 10.0, "se": 1.0})
    done = invoke("compare", a, forge("b"), "--format", "md")
    assert done.exit_code == 0, done.stderr
    first, second = done.stdout.split("### Sample quality, in the features of a digit classifier")
    assert "| elbo (nats, lower bound) |" in first
    assert "digit_fid_mean" not in first
    assert re.search(r"\| digit_fid_mean \| 10\.0 ± 1\.0 \| – \|", second)
    assert "whole sets of images" in second


# Over seeds


def test_runs_that_differ_by_their_seed_are_taken_together(forge: Any, comparison: Any) -> None:
    shifts = {("a", 1): 0.0, ("b", 2): 1.0, ("c", 3): 5.0}
    small = [forge(n, f"seed={s}", values={"elbo": BASE + d}) for (n, s), d in shifts.items()]
    large = [
        forge(f"{n}-4", f"seed={s}", "model.beta=4", values={"elbo": BASE + 10 + 2 * d})
        for (n, s), d in shifts.items()
    ]
    alone = forge("alone", "model.beta=9", values={"elbo": BASE})
    answer = comparison(*small, *large, alone)
    first, second = answer["over_seeds"]
    assert first["runs"] == answer["runs"][:3]
    assert second["runs"] == answer["runs"][3:6]
    assert first["settings"] == {"model.beta": 1.0}
    assert second["settings"] == {"model.beta": 4.0}
    means = BASE.mean() + np.array([0.0, 1.0, 5.0])
    spread = first["metrics"]["elbo"]
    assert spread == {
        "mean": pytest.approx(means.mean()),
        "sd": pytest.approx(np.std(means, ddof=1)),
        "n": 3,
        "se_images": pytest.approx(BASE.std(ddof=1) / np.sqrt(N)),
    }
    assert first["differences"] == {}
    difference = second["differences"]["elbo"]
    assert difference["value"] == pytest.approx(12)
    # the second group spreads twice as wide
    assert difference["se"] == pytest.approx(np.std(means, ddof=1) * np.sqrt((1 + 4) / 3))
    assert difference["se_images"] == pytest.approx(0, abs=1e-9)  # it is the same for all images


def test_the_error_of_the_test_images_stands_beside_that_of_the_seeds(
    forge: Any, comparison: Any, invoke: Any
) -> None:
    """Seeds that agree with each other say nothing of other test images."""
    gain = np.random.default_rng(4).normal(-42, 30, N)
    small = [forge(f"a{s}", f"seed={s}", values={"elbo": BASE + s / 100}) for s in (1, 2, 3)]
    large = [
        forge(f"b{s}", f"seed={s}", "model.beta=4", values={"elbo": BASE + gain + s / 100})
        for s in (1, 2, 3)
    ]
    second = comparison(*small, *large)["over_seeds"][1]
    difference = second["differences"]["elbo"]
    assert difference["value"] == pytest.approx(gain.mean())
    assert difference["se"] == pytest.approx(0.01 * np.sqrt(2 / 3), rel=1e-6)
    assert difference["se_images"] == pytest.approx(gain.std(ddof=1) / np.sqrt(N))
    assert difference["tails"]["median"] == pytest.approx(np.median(gain))
    text = invoke("compare", *small, *large, "--format", "md").stdout
    table = text[text.index("### Over seeds") :]
    assert "the test images, which all seeds share" in table
    shown = f"{gain.mean():.4f} ± 0.0082 ± {gain.std(ddof=1) / np.sqrt(N):.1f} |"
    assert shown in table


def test_the_same_seed_twice_is_no_spread(forge: Any, comparison: Any) -> None:
    assert comparison(forge("a"), forge("b"))["over_seeds"] == []


def test_a_seed_given_twice_counts_once(forge: Any, comparison: Any) -> None:
    a, b, again = forge("a"), forge("b", "seed=2"), forge("c", "seed=2")
    [found] = comparison(a, b, again)["over_seeds"]
    assert len(found["runs"]) == found["metrics"]["elbo"]["n"] == 2


def test_where_data_lie_and_what_is_written_when_keep_no_seeds_apart(
    forge: Any, comparison: Any
) -> None:
    """As of two hosts, which is no other setting either."""
    elsewhere = ("seed=2", "data.root=/there", "train.checkpoint_minutes=3")
    answer = comparison(forge("a"), forge("b", *elsewhere, "output.figure_format=svg"))
    assert len(answer["over_seeds"]) == 1
    assert set(answer["settings"]) == {"seed"}


def test_bounds_of_different_k_are_not_averaged(forge: Any, comparison: Any) -> None:
    a = forge("a")
    b = forge("b", "seed=2", facts={"iw_bound": {"k": 7}})
    [found] = comparison(a, b)["over_seeds"]
    assert "elbo" in found["metrics"]
    assert "iw_bound" not in found["metrics"]


def test_over_seeds_refuses_as_runs_do(forge: Any, comparison: Any) -> None:
    scale = [forge(f"s{s}", f"seed={s}") for s in (1, 2)]
    other = [forge(f"d{s}", f"seed={s}", "data.transform=dequantize") for s in (1, 2)]
    second = comparison(*scale, *other)["over_seeds"][1]
    assert second["differences"]["elbo"]["value"] is None
    assert "transforms differ" in second["differences"]["elbo"]["refused"]


def test_a_metric_of_the_second_group_only_is_in_the_table(forge: Any, invoke: Any) -> None:
    first = [forge(f"a{seed}", f"seed={seed}") for seed in (1, 2)]
    second = [forge(f"b{seed}", f"seed={seed}", "model.beta=4") for seed in (1, 2)]
    for run, value in zip(second, (1.0, 3.0), strict=True):
        add_whole(run, floor_slope={"value": value, "se": None})
    text = invoke("compare", *first, *second, "--format", "md").stdout
    table = text[text.index("### Over seeds") :]
    assert "| floor_slope | – | 2.0 ± 1.4 | – |" in table


def test_the_table_over_seeds(forge: Any, invoke: Any) -> None:
    runs = [
        forge(f"r{beta}{seed}", f"seed={seed}", f"model.beta={beta}", values={"elbo": BASE + seed})
        for beta in (1, 4)
        for seed in (1, 2)
    ]
    done = invoke("compare", *runs, "--format", "md")
    assert "### Over seeds: mean ± standard deviation of 2 runs" in done.stdout
    assert "| metric | model.beta=1 | model.beta=4 | minus model.beta=1 |" in done.stdout


# Pictures and the page


@pytest.fixture(scope="session")
def page_of(
    fixed: Path, learned: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Page, str]:
    import shutil

    from typer.testing import CliRunner

    from vaexp.cli import app

    fixed = Path(shutil.copytree(fixed, tmp_path_factory.mktemp("page") / fixed.name))
    done = CliRunner().invoke(app, ["compare", str(fixed), str(learned), "--html"])
    assert done.exit_code == 0, done.stderr
    [path] = re.findall(r"^page (.*)$", done.stderr, re.M)
    return Path(path), Page(Path(path).read_text(encoding="utf-8")), done.stderr


def test_the_page_needs_nothing_but_itself(page_of: Any) -> None:
    path, page, _ = page_of
    assert path.parent.name == "figures"
    assert page.sources
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?:", path.read_text(encoding="utf-8"))


def test_the_page_holds_the_pictures(page_of: Any, learned: Path) -> None:
    path, page, stderr = page_of
    full = [source for source in page.sources if source.startswith("data:image/png;base64,")]
    inside = {pixels_of(base64.b64decode(source.split(",")[1])) for source in full}
    named = [Path(path) for path in re.findall(r"^figure (.*)$", stderr, re.M)]
    assert [path.name.endswith("-rate-distortion.png") for path in named] == [False, True, False]
    assert named[2].name.endswith("-training-curves.png")
    own = [
        path
        for run in (path.parent.parent, learned)
        for path in (run / "figures").glob("*.png")
        if not path.name.startswith("compare-")
    ]
    assert {pixels_of(path.read_bytes()) for path in [*named, *own]} == inside


def pixels_of(png: bytes) -> tuple[tuple[int, int], bytes]:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size, picture.convert("RGB").tobytes()


def test_the_page_says_what_the_table_says(page_of: Any, invoke: Any, learned: Path) -> None:
    path, page, _ = page_of
    markdown = invoke("compare", path.parent.parent, learned, "--format", "md").stdout
    cells = {
        cell.strip()
        for line in markdown.splitlines()
        if line[:1] == "|"
        for cell in line.split("|")
    }
    for cell in cells - {"---", ""}:
        assert cell.replace("\\", "") in page.text, cell


def test_what_comes_from_a_run_is_escaped(forge: Any, tmp_path: Path) -> None:
    from vaexp.comparison.compare import compare
    from vaexp.comparison.page import page_of

    evil = "<script>alert(1)</script>"
    path = add_whole(forge("a"), **{evil: {"value": 1.0, "se": None, "unit": evil}})
    both = compare([RunFolder(path), RunFolder(forge("b"))])
    page = Page(page_of(both, [], tmp_path / "page.html").html())
    assert "script" not in page.tags
    assert evil in page.text


def test_the_rate_distortion_plane() -> None:
    """Its points are where they belong, and its dashed lines join points of equal ELBO."""
    rate, distortion = np.array([2.0, 7.0, 33.0]), np.array([734.0, 730.0, 728.0])
    figure = rate_distortion(["a", "b", "c"], rate, distortion, np.ones(3), "settings")
    [axes] = figure.axes
    points = np.asarray(axes.collections[0].get_offsets()).tolist()
    assert points == [[2, 734], [7, 730], [33, 728]]
    dashed = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2]
    assert len(dashed) >= 4
    for line in dashed:
        assert line.sum(1)[0] == pytest.approx(line.sum(1)[1])
    assert {"a", "b", "c"} <= {text.get_text() for text in axes.texts}
