"""``vaexp runs``: its list, ``show``, ``trim`` and ``rm``, and what a RUN argument may be."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaexp.runs import index
from vaexp.runs.folder import RunFolder
from vaexp.runs.listing import HEADLINE, list_runs, read_run
from vaexp.shown import show_number

ELBO = np.arange(8.0) - 700


@pytest.fixture
def three(forge: Any, change_json: Any) -> dict[str, Path]:
    """Finished runs a, b and c with beta 1, 2 and 4, of which a has the largest ELBO."""
    runs = {}
    for i, (name, beta) in enumerate({"a": 1, "b": 2, "c": 4}.items()):
        values = {"elbo": ELBO - i, "rate": np.full(8, 3.0 + i)}
        runs[name] = forge(name, f"model.beta={beta}", values=values)
        change_json(runs[name] / "run.json", start=f"2026-01-0{i + 1}T12:00:00+00:00")
    return runs


@pytest.fixture
def names(invoke: Any, forge: Any, three: Any) -> Any:  # noqa: ARG001
    """The names of the runs that the list shows with some options, without date and hex digits."""

    def names(*options: str) -> list[str]:
        done = invoke("runs", forge.folder, *options, "--json")
        assert done.exit_code == 0, done.stderr
        return [Path(one["run"]).name[16:-5] for one in json.loads(done.stdout)]

    return names


# The list


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["model.beta>1"], "bc"),
        (["model.beta >= 2", "model.beta<4"], "b"),
        (["model.beta!=2"], "ac"),
        (["model.beta=4.0"], "c"),
        (["test.elbo>-698"], "ab"),
        (["elbo<=-697.5"], "bc"),
        (["status=finished", "name!=nope"], "abc"),
        (["status=failed"], ""),
        (["model.conditional=true"], "abc"),
        (["data.root=null"], "abc"),
        (["data.root!=null"], ""),
        (["model.sigma_mode>1"], ""),
        (["steps<1"], "abc"),
    ],
)
def test_conditions(names: Any, conditions: list[str], found: str) -> None:
    options = [option for condition in conditions for option in ("--where", condition)]
    assert names(*options) == list(found)


def test_a_run_without_the_key_meets_no_condition(forge: Any, names: Any) -> None:
    forge("mix", "model.kind=gmm")
    for condition in ("model.beta!=1", "model.beta<100"):
        assert "mix" not in names("--where", condition)
    assert names("--where", "model.beta=null") == ["mix"]


def test_the_order(three: Any, names: Any, change_json: Any) -> None:
    assert names() == ["a", "b", "c"]
    assert names("--sort", "test.elbo") == ["c", "b", "a"]
    assert names("--sort", "model.beta") == ["a", "b", "c"]
    # an earlier time on a clock that is ahead: 2026-01-01 at 11:00 in UTC
    change_json(three["c"] / "run.json", start="2026-01-02T01:00:00+14:00")
    assert names() == ["c", "a", "b"]


def test_columns(three: Any, forge: Any, invoke: Any) -> None:
    keys = "model.beta,test.rate,status,size"
    done = invoke("runs", forge.folder, "--columns", keys, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["run", *keys.split(",")]
    assert [float(row["model.beta"]) for row in rows] == [1, 2, 4]
    assert [float(row["test.rate"]) for row in rows] == [3, 4, 5]
    size = sum(path.stat().st_size for path in three["a"].rglob("*") if path.is_file())
    assert rows[0]["size"] == str(size)
    text = invoke("runs", forge.folder, "--columns", "model.beta", "--columns", "elbo").stdout
    header, _, first = [line for line in text.splitlines() if line][:3]
    assert header.split() == ["run", "model.beta", "elbo"]
    assert first.split()[:4] == [three["a"].name, "1", "-696.50", "±"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--columns", "model.bta"], "--columns model.bta: no run has this"),
        (["--columns", "model.bta"], "did you mean model.beta?"),
        (["--columns", "test.elb"], "did you mean test.elbo?"),
        (["--sort", "stats"], "did you mean status?"),
        (["--where", "modl.beta>1"], "did you mean model.beta?"),
        (["--where", "lr<1"], "did you mean train.learning_rate?"),
        (["--where", "train.n_epochs>1"], "did you mean train.epochs?"),
        (["--sort", "z_dim"], "did you mean model.latent_dim?"),
        (["--sort", "beta"], "did you mean model.beta?"),
        (["--columns", "test.kl"], "did you mean test.rate?"),
        (["--columns", "status,kld"], "did you mean rate?"),
        (["--columns", "validation.elbo"], "did you mean test.elbo or elbo?"),
        (["--columns", "tol"], "such as model.beta, test.elbo, size"),  # no run has it
        (["--where", "model.beta"], "write KEY, one of = != < <= > >="),
        (["--where", "model.beta>[1"], "--where model.beta>[1"),
    ],
)
@pytest.mark.usefixtures("three")
def test_what_is_misspelt(forge: Any, invoke: Any, options: list[str], what: str) -> None:
    done = invoke("runs", forge.folder, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert what in done.stderr


def test_a_mean_that_few_images_carry_has_its_median_beside_it(forge: Any, invoke: Any) -> None:
    """Of 200 images two lose 10,000 nats, which are 100 of the mean, and its error is 71."""
    heavy = np.linspace(-1, 1, 200) - 50
    light = heavy.copy()
    heavy[:2] -= 1e4
    for name, values in (("heavy", heavy), ("light", light)):
        median = {"elbo": {"median": float(np.median(values))}}
        forge(name, values={"elbo": values, "rmse_mean": light**2}, facts=median)
    table = invoke("runs", forge.folder).stdout
    assert "-150 ± 71 (median -50) [σ = 1]" in table
    assert table.count("median") == 1
    assert "-150 ± 71 (median -50)" in invoke("runs", forge.folder, "--columns", "test.elbo").stdout
    header, *rows = csv.reader(invoke("runs", forge.folder, "--format", "csv").stdout.splitlines())
    assert "rmse_mean_median" not in header
    assert [float(row[header.index("elbo_median")]) for row in rows] == pytest.approx([-50, -50])
    found = json.loads(invoke("runs", forge.folder, "--json").stdout)
    assert [one["metrics"]["elbo"]["median"] for one in found] == pytest.approx([-50, -50])


# The index


def test_a_list_reads_only_the_runs_that_changed(
    forge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [forge(f"run{i}", f"model.beta={i + 1}") for i in range(index.WORTH_WRITING)]
    first = list_runs(forge.folder)
    read: list[Path] = []

    def counted(run: RunFolder) -> Any:
        read.append(run.path)
        return read_run(run)

    monkeypatch.setattr("vaexp.runs.listing.read_run", counted)
    assert list_runs(forge.folder) == first
    assert read == []
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    metrics["test"]["elbo"]["value"] = -1.5
    (runs[0] / "metrics.json").write_text(json.dumps(metrics))
    (runs[1] / "config.yaml").write_text("model: {kind: vae}\n")
    shutil.rmtree(runs[2])
    now = {Path(one.run): one for one in list_runs(forge.folder)}
    assert set(read) == {runs[0], runs[1]}
    assert now[runs[0]].metrics["elbo"]["value"] == -1.5
    assert now[runs[1]].error == "config.yaml changed since the run started"
    assert runs[2] not in now


def test_a_run_that_goes_on_is_read_each_time(forge: Any, change_json: Any) -> None:
    """Its status depends on its process."""
    runs = [forge(f"run{i}") for i in range(index.WORTH_WRITING + 1)]
    change_json(runs[0] / "run.json", status="running")
    assert [one.status for one in list_runs(forge.folder)].count("running") == 1
    change_json(runs[0] / "run.json", pid_started=0.0)
    assert [one.status for one in list_runs(forge.folder)].count("dead") == 1
    known = index.read_index(forge.folder, "everything")
    assert set(known) == {run.name for run in runs[1:]}


@pytest.mark.parametrize(
    "damage",
    [
        *("", "[]", '{"version": 1}', '{"runs": 3}', "{", "[" * 200_000),
        *(
            json.dumps({"version": index.VERSION, "keys": [["a", "b"]], "runs": runs})
            for runs in (
                *(3, {"x": 1}, {"x": ["a"]}, {"x": ["a", 2]}, {"x": ["a", {"settings": []}]}),
                {"x": ["a", {"settings": [7], "described": 0}]},
                {"x": ["a", {"settings": [0, 1], "described": 0}]},
                {"x": ["a", {"settings": [0, 1, 2], "described": 7}]},
            )
        ),
    ],
)
def test_a_damaged_index_is_no_index(forge: Any, damage: str) -> None:
    for i in range(index.WORTH_WRITING):
        forge(f"run{i}")
    for extent in index.EXTENTS:
        first = list_runs(forge.folder, extent)
        place = index._place(forge.folder, extent)
        assert place is not None
        place.write_text(damage)
        assert index.read_index(forge.folder, extent) == {}
        assert list_runs(forge.folder, extent) == first


def test_a_list_of_headlines_has_them_and_no_other_metrics(forge: Any) -> None:
    """Whether they were read or come from the index, which every list writes whole."""
    for i in range(index.WORTH_WRITING):
        metrics = forge(f"run{i}", f"model.beta={i + 1}") / "metrics.json"
        content = json.loads(metrics.read_text())
        content["test"]["rate"] = content["test"]["elbo"]
        content["train"] = content["test"]
        metrics.write_text(json.dumps(content))
    first = list_runs(forge.folder, "headlines")
    assert list_runs(forge.folder, "headlines") == first
    everything = list_runs(forge.folder)
    assert everything == [read_run(RunFolder(Path(one.run))) for one in everything]
    for short, whole in zip(first, everything, strict=True):
        assert short.settings == whole.settings
        assert short.described == whole.described
        assert set(short.splits) == {"test"}
        assert set(short.metrics) == set(whole.metrics) & set(HEADLINE)
        assert whole.splits.keys() > {"test"}
        assert "rate" in whole.metrics


def test_a_list_without_a_home_has_no_index(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(index.WORTH_WRITING):
        forge(f"run{i}")

    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert len(list_runs(forge.folder)) == index.WORTH_WRITING


TWICE = """
import sys, time
from pathlib import Path
from vaexp.runs.listing import list_runs

lists, seconds = [], []
for _ in range(2):
    before = time.process_time()
    lists.append(list_runs(Path(sys.argv[1])))
    seconds.append(time.process_time() - before)
assert lists[0] == lists[1]
print(len(lists[0]), *seconds)
"""


@pytest.mark.slow
def test_a_thousand_runs_are_listed_quickly(forge: Any) -> None:
    """In a small part of the time that reading them takes, in a process of its own as a command is.

    In this one the garbage collector would go through what all tests before have left.
    """
    forged = forge("run")
    for i in range(999):
        shutil.copytree(forged, forge.folder / f"20260101-000000-run-{i:04x}")
    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(forge.folder)], capture_output=True, text=True, check=True
    )
    count, reading, listing = map(float, done.stdout.split())
    assert count == 1000
    assert listing < min(1.0, reading / 10)


# What a RUN may be


def test_a_run_is_found_by_the_beginning_of_its_name(
    three: Any, forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = forge.folder / "home"
    home.mkdir()
    for run in three.values():
        run.rename(home / run.name)
    (forge.folder / "home").rename(forge.folder / "runs")
    monkeypatch.chdir(forge.folder)
    for given, name in {
        "latest": "c",
        "runs/latest": "c",
        three["b"].name: "b",
        three["b"].name[16:]: "b",
        "b": "b",
        "runs/b": "b",
        f"runs/{three['a'].name}": "a",
    }.items():
        done = invoke("runs", "show", given, "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["name"] == three[name].name
    done = invoke("runs", "show", three["a"].name[:8])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "several runs begin so" in done.stderr
    for run in three.values():
        assert f"  runs/{run.name}\n" in done.stderr
    done = invoke("runs", "show", "nope")
    assert done.exit_code == 2
    assert "nope: no such run folder, and no run in runs has a name that begins so" in done.stderr
    # one resolver for all commands
    answer = json.loads(invoke("compare", "a", "latest", "--json").stdout)
    assert [name[0] for name in answer["runs"]] == ["a", "c"]
    for command in (["sample", "nope"], ["evaluate", "nope"], ["train", "--resume", "nope"]):
        done = invoke(*command)
        assert done.exit_code == 2
        assert "no run in runs has a name that begins so" in done.stderr
    done = invoke("train", "--resume", "latest")
    assert done.stdout == f"runs/{three['c'].name}\n"


def test_no_run_is_the_latest_of_an_empty_folder(elsewhere: Path, invoke: Any) -> None:
    (elsewhere / "runs").mkdir()
    done = invoke("runs", "show", "latest")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "latest: runs holds no runs" in done.stderr


# Runs in folders below


@pytest.fixture
def nested(three: dict[str, Path], forge: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three runs, b and c in folders below runs/, beside folders that are not searched."""
    root = forge.folder / "runs"
    folders = {"a": root, "b": root / "digits", "c": root / "sweep" / "trials" / "1"}
    moved = {}
    for name, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        moved[name] = three[name].rename(folder / three[name].name)
    shutil.copytree(moved["a"], root / ".hidden" / "20260101-000000-hidden-0000")
    shutil.copytree(moved["a"], moved["a"] / "inside" / "20260101-000000-inside-0000")
    (root / "loop").symlink_to(root)
    monkeypatch.chdir(forge.folder)
    return moved


def test_runs_in_folders_below_are_listed(nested: dict[str, Path], invoke: Any) -> None:
    listed = json.loads(invoke("runs", "--json").stdout)
    assert sorted(run["run"] for run in listed) == sorted(
        str(path.relative_to(Path.cwd())) for path in nested.values()
    )
    [only] = json.loads(invoke("runs", "runs/digits", "--json").stdout)
    assert only["name"] == nested["b"].name


def test_a_run_in_a_folder_below_is_found_by_its_name(nested: dict[str, Path], invoke: Any) -> None:
    for given in (nested["c"].name, "c", nested["c"].name[:-2]):
        shown = json.loads(invoke("runs", "show", given, "--json").stdout)
        assert shown["name"] == nested["c"].name
    twin = shutil.copytree(nested["c"], Path("runs") / "copies" / nested["c"].name)
    done = invoke("runs", "show", "c")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "several runs begin so" in done.stderr
    assert str(twin) in done.stderr
    assert str(nested["c"].relative_to(Path.cwd())) in done.stderr


def test_a_run_in_a_folder_below_is_found_by_its_path(nested: dict[str, Path], invoke: Any) -> None:
    b, c = nested["b"].name, nested["c"].name
    for given, name in {
        f"runs/digits/{b}": b,
        f"runs/digits/{b[:-2]}": b,
        "runs/digits/b": b,
        "runs/digits/latest": b,
        f"digits/{b}": b,  # as seen from runs/
        "digits/b": b,
        "digits/latest": b,
        "sweep/c": c,
        f"runs/sweep/trials/1/{c}": c,
    }.items():
        done = invoke("runs", "show", given, "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["name"] == name, given
    Path("runs/c").mkdir()  # a folder does not hide the run whose name begins so
    assert json.loads(invoke("runs", "show", "c", "--json").stdout)["name"] == c
    for given, what in (
        ("digits/c", "no run in runs/digits has a name that begins so"),
        ("nowhere/b", "nowhere/b: no such run folder\n"),
        ("../runs/digits/b", "no such run folder"),
    ):
        done = invoke("runs", "show", given)
        assert (done.exit_code, done.stdout) == (2, "")
        assert what in done.stderr


def test_the_latest_run_may_lie_in_a_folder_below(
    nested: dict[str, Path], invoke: Any, change_json: Any
) -> None:
    change_json(nested["b"] / "run.json", start="2099-01-01T00:00:00+00:00")
    assert json.loads(invoke("runs", "show", "latest", "--json").stdout)["name"] == nested["b"].name


def test_a_folder_of_runs_is_compared_as_a_whole(nested: dict[str, Path], invoke: Any) -> None:
    for given in (["runs"], [nested["b"], "runs"], ["runs", "latest"]):
        done = invoke("compare", *given, "--format", "json")
        assert done.exit_code == 0, done.stderr
        paths = [Path(path).resolve() for path in json.loads(done.stdout)["paths"]]
        assert sorted(paths) == sorted(nested.values()), given
    done = invoke("compare", "runs/digits", "runs/sweep", "--format", "json")
    assert len(json.loads(done.stdout)["paths"]) == 2
    Path("empty").mkdir()
    done = invoke("compare", "empty", "runs/digits")
    assert done.exit_code == 1
    assert "empty: not a run folder" in done.stderr


def test_the_list_keeps_what_it_has_read_of_folders_below(
    nested: dict[str, Path], forge: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(12):
        path = forge(f"more{i}")
        path.rename(Path("runs/digits") / path.name)
    before = invoke("runs", "--json").stdout
    monkeypatch.setattr("vaexp.runs.listing.read_run", lambda run: pytest.fail(f"{run} again"))
    assert invoke("runs", "--json").stdout == before
    assert len(json.loads(before)) == 12 + len(nested)


# Show, trim and remove


def test_show(fixed: Path, invoke: Any) -> None:
    text = invoke("runs", "show", fixed).stdout
    for part in (
        *("model.beta", "test.elbo (nats, lower bound)", "validation.elbo", "train.rate (nats)"),
        *("Training metrics", "Validation metrics", "Test metrics", "[σ = 1]"),
    ):
        assert part in text
    for picture in fixed.glob("figures/*.png"):
        assert str(picture) in text
    answer = json.loads(invoke("runs", "show", fixed, "--json").stdout)
    assert answer["metrics"] == json.loads((fixed / "metrics.json").read_text())
    assert answer["settings"]["model.latent_dim"] == 2
    assert str(fixed / "figures" / "samples.png") in answer["pictures"]


def test_a_mean_is_shown_with_its_tails(learned: Path, invoke: Any) -> None:
    text = invoke("runs", "show", learned).stdout
    for split in ("train", "validation", "test"):
        entry = json.loads((learned / "metrics.json").read_text())[split]["elbo"]
        after = text[text.index(f"  {split}.elbo") :].splitlines()
        assert after[1].split() == ["·", "median", show_number(entry["median"], None)]


def test_the_metrics_that_most_runs_have_come_first(forge: Any, invoke: Any) -> None:
    """Exact models have log_prob and elbo, and the others only elbo."""
    forge("a")
    forge("b")
    exact = forge("c")
    path = exact / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["test"]["log_prob"] = metrics["test"]["elbo"]
    path.write_text(json.dumps(metrics))
    heads = invoke("runs", exact.parent).stdout.splitlines()[0]
    columns = [part.strip() for part in re.split(r" {3,}", heads.strip())]
    assert columns[:3] == ["run", "status", "elbo, test"]
    assert columns.index("log_prob, test") < columns.index("steps")


def test_a_damaged_run_is_shown_as_one(forge: Any, invoke: Any) -> None:
    run = forge("a")
    (run / "metrics.json").write_text("{")
    done = invoke("runs", "show", run)
    assert done.exit_code == 0
    assert "damaged" in done.stdout


def test_trim(fixed: Path, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    size = (run / "checkpoints" / "state.pt").stat().st_size
    before = {path for path in run.rglob("*") if path.is_file()}
    done = invoke("runs", "trim", run, "--json")
    assert done.exit_code == 0, done.stderr
    freed = json.loads(done.stdout)["bytes"]
    assert abs(freed - size) < 200  # run.json says that it was trimmed
    assert before - {path for path in run.rglob("*") if path.is_file()} == {
        run / "checkpoints" / "state.pt"
    }
    assert invoke("runs", "trim", run).stdout == f"{run}  0 bytes freed\n"
    assert invoke("sample", run, "-n", "2").exit_code == 0
    assert invoke("evaluate", run, "--only", "rate").exit_code == 0
    assert invoke("compare", run, fixed).exit_code == 0
    done = invoke("train", "--resume", run, "train.epochs=61")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "was trimmed at" in done.stderr
    assert len(RunFolder(run).records()) == 60
    assert "trimmed" in invoke("runs", "show", run).stdout


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_a_run_that_may_go_on_is_not_trimmed(
    forge: Any, invoke: Any, change_json: Any, status: str
) -> None:
    run = forge("a")
    (run / "checkpoints" / "state.pt").write_bytes(b"state")
    change_json(run / "run.json", status=status)
    done = invoke("runs", "trim", run)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "only a finished run is trimmed" in done.stderr
    assert (run / "checkpoints" / "state.pt").exists()


def test_rm_asks_first(three: dict[str, Path], forge: Any, cli: Any) -> None:
    import subprocess

    from conftest import VAEXP

    a, b, c = three.values()
    command = [VAEXP, "runs", "rm", a, b, "--runs-dir", forge.folder]
    for answer, code in (("n\n", 2), ("", 2), ("y\n", 0)):
        assert a.exists()
        assert b.exists()
        done = subprocess.run(command, input=answer, capture_output=True, text=True, timeout=600)
        assert done.returncode == code, done.stderr
        assert "Remove these 2 runs for good?" in done.stderr
        assert str(a) in done.stderr
    assert not a.exists()
    assert not b.exists()
    assert c.exists()
    assert done.stdout.count("bytes freed") == 3
    assert cli.ok("runs", "rm", c, "--yes", "--runs-dir", forge.folder).endswith("bytes freed\n")
    assert {path.name for path in forge.folder.iterdir()} == {"forged.yaml"}


def test_rm_removes_only_runs_of_the_folder(
    three: dict[str, Path], forge: Any, invoke: Any, tmp_path: Path, change_json: Any
) -> None:
    a, b, c = three.values()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "thesis.txt").write_text("text")
    link = forge.folder / "20260101-000000-link-0000"
    link.symlink_to(a)
    change_json(b / "run.json", status="running", pid=os.getpid())
    RunFolder(b).start()
    for given, what in (
        (folder, "not a run folder"),
        (forge.folder, "not a run folder"),
        (forge.folder / "forged.yaml", "not a run folder"),
        (link, "is a link"),
        (b, "still running"),
    ):
        done = invoke("runs", "rm", given, "--yes", "--runs-dir", forge.folder)
        assert (done.exit_code, done.stdout) == (2, ""), given
        assert what in done.stderr
    done = invoke("runs", "rm", c, "--yes", "--runs-dir", folder)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--runs-dir {forge.folder}" in done.stderr
    assert all(run.is_dir() for run in (a, b, c))
    assert (folder / "thesis.txt").read_text() == "text"


def test_rm_removes_runs_in_folders_below(nested: dict[str, Path], forge: Any) -> None:
    from conftest import VAEXP

    b, c = nested["b"], nested["c"]
    command = [VAEXP, "runs", "rm", "digits/b", c.name[16:-2]]
    for answer, code in (("n\n", 2), ("", 2), ("y\n", 0)):
        assert b.is_dir()
        assert c.is_dir()
        done = subprocess.run(
            command, input=answer, capture_output=True, text=True, cwd=forge.folder, timeout=600
        )
        assert done.returncode == code, done.stderr
        assert "Remove these 2 runs for good?" in done.stderr
        for run in (b, c):
            assert f"{run.relative_to(forge.folder)}  finished" in done.stderr
    assert done.stdout.count("bytes freed") == 3
    assert not b.exists()
    assert not c.exists()
    assert b.parent.is_dir()
    assert nested["a"].is_dir()
    assert list(b.parent.iterdir()) == []


def test_rm_follows_no_link_and_stays_in_the_folder(
    nested: dict[str, Path],
    invoke: Any,
    forge: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    b, outside = nested["b"], tmp_path / "outside"
    other = shutil.copytree(b, outside / b.name)
    (forge.folder / "runs" / "out").symlink_to(outside)
    (forge.folder / "runs" / "in").symlink_to(b.parent)
    (tmp_path / "way").symlink_to(b.parent)
    before = sorted(tmp_path.rglob("*"))
    for given, what in (
        (f"runs/out/{b.name}", "not in the folder runs"),
        (f"runs/digits/../../outside/{b.name}", "not in the folder runs"),
        (other, "not in the folder runs"),
        (f"runs/in/{b.name}", "runs/in is a link, which rm does not follow"),
        (tmp_path / "way" / b.name, "is a link, which rm does not follow"),
        ("runs", "not a run folder"),
        ("runs/digits", "not a run folder"),
    ):
        done = invoke("runs", "rm", given, "--yes")
        assert (done.exit_code, done.stdout) == (2, ""), given
        assert what in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    # links above the folder of the runs do not matter, nor where one stands
    (tmp_path / "home").symlink_to(forge.folder)
    monkeypatch.chdir(b.parent)
    done = invoke("runs", "rm", b.name, "--yes", "--runs-dir", tmp_path / "home" / "runs")
    assert done.exit_code == 0, done.stderr
    assert not b.exists()
    assert other.is_dir()
    c = nested["c"]
    way = tmp_path / "home" / c.relative_to(forge.folder)
    done = invoke("runs", "rm", way, "--yes", "--runs-dir", tmp_path / "home" / "runs")
    assert done.exit_code == 0, done.stderr
    assert not c.exists()


def test_rm_refuses_all_if_one_is_refused(three: dict[str, Path], forge: Any, invoke: Any) -> None:
    a, *_ = three.values()
    arguments = (a, forge.folder, "--yes", "--runs-dir", forge.folder)
    assert invoke("runs", "rm", *arguments).exit_code == 2
    assert a.is_dir()


def test_a_damaged_run_can_be_removed(forge: Any, invoke: Any, tmp_path: Path) -> None:
    run, outside = forge("a"), tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (run / "run.json").write_text("[]")
    (run / "evidence").symlink_to(outside)
    done = invoke("runs", "rm", run, "--yes", "--runs-dir", forge.folder)
    assert done.exit_code == 0, done.stderr
    assert not run.exists()
    assert (outside / "kept").read_text() == "kept"
