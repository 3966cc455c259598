"""``vaexp encode``, and reading a run folder without writing into it, through the command line."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_runs import Exact
from safetensors.torch import load_file

from vaexp.data import Transform, bundled, load
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What changes when anything in a folder is written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (path.stat().st_mtime_ns, content)
    return found


@pytest.fixture
def codes(invoke: Any, tmp_path: Path) -> Any:
    """Encode a run into a file outside of it; its arrays."""

    def codes(run: Path, *arguments: str) -> dict[str, np.ndarray]:
        before = snapshot(run)
        done = invoke("encode", run, "--out", tmp_path / "codes.npz", *arguments)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"{tmp_path / 'codes.npz'}\n"
        assert snapshot(run) == before
        with np.load(tmp_path / "codes.npz") as arrays:
            return dict(arrays)

    return codes


def test_the_codes_of_a_vae_are_the_means_and_deviations_of_its_encoder(
    codes: Any, learned: Path
) -> None:
    run = RunFolder(learned)
    found, data = codes(learned), load(run.config().data)
    trained = TrainedModel.read(run)
    q = trained.model.encode(Transform("scale")(data.test.pixels), data.test.label)
    np.testing.assert_allclose(found["mean"], q.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["sd"], q.stddev, rtol=1e-5)
    assert found["mean"].shape == (len(data.test), 3)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_image_and_label_say_which_image_of_the_source_has_a_code(
    codes: Any, learned: Path, split: str
) -> None:
    found, source = codes(learned, "--split", split), bundled.read()
    part = source.test if split == "test" else source.train
    at = torch.from_numpy(found["image"])
    assert torch.equal(part.label[at], torch.from_numpy(found["label"]))
    assert set(found["label"].tolist()) == {4, 9}
    assert torch.equal(
        part.pixels[at], getattr(load(RunFolder(learned).config().data), split).pixels
    )
    assert (at >= 59_500).all() if split == "validation" else (at < 59_500).all()


def test_the_codes_of_a_mixture_are_its_responsibilities(codes: Any, exact: Exact) -> None:
    trained = exact("full")
    x, _ = trained.images()
    expected = trained.log_joint(x).softmax(1).numpy()
    found = codes(trained.path)
    np.testing.assert_allclose(found["responsibilities"], expected, atol=1e-5)
    assert (found["component"] == expected.argmax(1)).mean() > 0.999
    np.testing.assert_allclose(found["responsibilities"].sum(1), 1, rtol=1e-12)
    assert {"mean", "sd"}.isdisjoint(found)


@pytest.mark.parametrize("name", ["closed", "fa"])
def test_the_codes_of_a_linear_model_are_those_of_bayes_rule(
    codes: Any, exact: Exact, name: str
) -> None:
    """By the joint Gaussian of x and z, with the D x D covariance written out."""
    trained = exact(name)
    w = {
        key: value.double()
        for key, value in load_file(trained.path / "checkpoints/model.safetensors").items()
    }
    noise = w["variances"] if "variances" in w else w["variance"].expand(784)
    gain = torch.linalg.solve(w["factors"] @ w["factors"].T + noise.diag(), w["factors"]).T
    x, _ = trained.images("validation")
    found = codes(trained.path, "--split", "validation")
    np.testing.assert_allclose(found["mean"], (x - w["mean"]) @ gain.T, atol=1e-7)
    variance = (torch.eye(3) - gain @ w["factors"]).diagonal()
    np.testing.assert_allclose(
        found["sd"], variance.sqrt().expand_as(torch.from_numpy(found["mean"])), rtol=1e-6
    )


def test_one_row_of_csv_for_each_image(codes: Any, invoke: Any, exact: Exact, copy_of: Any) -> None:
    for name, keys in [
        ("diag", [f"responsibilities_{k}" for k in range(3)] + ["component"]),
        ("closed", [f"{what}_{i}" for what in ("mean", "sd") for i in (1, 2, 3)]),
    ]:
        run = copy_of(exact(name).path)
        done = invoke("encode", run, "--format", "csv", "--json")
        assert done.exit_code == 0, done.stderr
        path = run / "codes" / "test.csv"
        assert json.loads(done.stdout) == {"codes": str(path)}
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["image", "label", *keys]
        arrays = codes(run)
        for key in rows[0]:
            base, _, number = key.rpartition("_")
            array = (
                arrays[key]
                if key in arrays
                else arrays[base][:, int(number) - (base != "responsibilities")]
            )
            np.testing.assert_array_equal([float(row[key]) for row in rows], array.astype(float))


@pytest.mark.parametrize("name", ["codes", "codes.of.test", "codes.NPZ"])
def test_a_file_of_any_name_holds_the_codes(
    codes: Any, invoke: Any, learned: Path, tmp_path: Path, name: str
) -> None:
    expected = codes(learned)
    for _ in range(2):  # the second time in place of the first
        done = invoke("encode", learned, "--out", tmp_path / name)
        assert (done.exit_code, done.stdout) == (0, f"{tmp_path / name}\n"), done.stderr
        with np.load(tmp_path / name) as arrays:
            assert arrays.keys() == expected.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(arrays[key], array)
    assert {path.name for path in tmp_path.iterdir()} == {"codes.npz", name}


def test_parquet(invoke: Any, codes: Any, learned: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    done = invoke("encode", learned, "--out", tmp_path / "codes.parquet")
    assert done.exit_code == 0, done.stderr
    table, arrays = parquet.read_table(tmp_path / "codes.parquet"), codes(learned)
    assert table.column_names == [
        "image",
        "label",
        *[f"{a}_{i}" for a in ("mean", "sd") for i in (1, 2, 3)],
    ]
    np.testing.assert_array_equal(table["mean_2"].to_numpy(), arrays["mean"][:, 1].astype(float))
    np.testing.assert_array_equal(table["image"].to_numpy(), arrays["image"])


def test_parquet_without_pyarrow_is_one_line(without: Any, learned: Path, tmp_path: Path) -> None:
    done = without("pyarrow", "encode", learned, "--out", tmp_path / "x.parquet")
    assert done.returncode == 2
    assert done.stderr == (
        "parquet needs the package pyarrow, which cannot be imported (not here); pip install "
        "'vaexp[parquet]' installs it, and csv needs nothing\n"
    )
    assert not (tmp_path / "x.parquet").exists()


def test_what_encode_refuses(invoke: Any, learned: Path, tmp_path: Path) -> None:
    for arguments, message in [
        ([learned, "--split", "validaton"], "--split"),
        ([learned, "--format", "xlsx"], "--format"),
        ([learned, "--format", "csv", "--out", tmp_path / "x.npz"], "ends with .npz, but --format"),
        ([learned, "--out", tmp_path / "no" / "x.npz"], f"there is no folder {tmp_path / 'no'}"),
        ([learned, "--out", tmp_path], "is a folder"),
        ([learned, "model.beta=2"], "a run keeps its config"),
        ([tmp_path / "nope"], "no such run folder"),
    ]:
        done = invoke("encode", *arguments)
        assert (done.exit_code, done.stdout) == (2, ""), done.stderr
        assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "name"), [("encode", "x.npz"), ("sample", "x.png")])
def test_a_folder_that_is_missing_is_named_before_any_work(
    invoke: Any, forge: Any, tmp_path: Path, command: str, name: str
) -> None:
    """A forged run has no weights, which would be missed next."""
    done = invoke(command, forge("a"), "--out", tmp_path / "no" / name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"there is no folder {tmp_path / 'no'}" in done.stderr


def test_a_split_that_a_run_does_not_have(invoke: Any, tmp_path: Path) -> None:
    settings = ["data.validation_size=0", "data.limit=20", "train.epochs=1", "model.hidden=[]"]
    done = invoke("train", "quickstart", *settings, "--quick", "--runs-dir", tmp_path)
    assert done.exit_code == 0, done.stderr
    done = invoke("encode", done.stdout.strip(), "--split", "validation")
    assert done.exit_code == 2
    assert "this run has none, as its data.validation_size is 0" in done.stderr


# A run folder that is only read


def test_sample_into_a_file_of_choice(invoke: Any, learned: Path, tmp_path: Path) -> None:
    before = snapshot(learned)
    here, there = tmp_path / "here.png", tmp_path / "there.png"
    for path in (here, there):
        done = invoke("sample", learned, "-n", 3, "--decode", "sample", "--out", path)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"{path}\n"
    assert snapshot(learned) == before
    assert here.read_bytes() == there.read_bytes()
    with np.load(tmp_path / "here.npz") as arrays:
        assert arrays["x"].shape == (3, 784)
    done = invoke("sample", learned, "--out", tmp_path / "x.jpg")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the name has to end with .png" in done.stderr


def test_compare_into_a_folder_of_choice(invoke: Any, exact: Exact, tmp_path: Path) -> None:
    runs = [exact("ppca").path, exact("fa").path]
    before = [snapshot(run) for run in runs]
    done = invoke("compare", *runs, "--html", "--out", tmp_path / "pages")
    assert done.exit_code == 0, done.stderr
    assert [snapshot(run) for run in runs] == before
    [page] = (tmp_path / "pages").glob("*.html")
    assert f"page {page}" in done.stderr
    pictures = sorted((tmp_path / "pages").glob("*.png"))
    assert [path.name for path in pictures] == [
        f"{page.stem}-rate-distortion.png",
        f"{page.stem}.png",
    ]
    done = invoke("compare", *runs, "--out", tmp_path / "pages")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "add --figure or --html" in done.stderr


def test_evaluate_into_a_copy(invoke: Any, exact: Exact, tmp_path: Path) -> None:
    run, out = exact("closed").path, tmp_path / "measured"
    before = snapshot(run)
    done = invoke("evaluate", run, "--only", "codes", "--images", 200, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert f"figure {out}/figures/evidence-codes.png" in done.stderr
    done = invoke("evaluate", run, "--only", "levels", "--images", 50, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert snapshot(run) == before

    old, copy = RunFolder(run), RunFolder.open(out)
    measured = copy.metrics()["test"]
    assert {"nmi", "linear_probe_accuracy", "elbo_levels"} <= measured.keys()
    assert "nmi" not in old.metrics()["test"]
    assert {key: measured[key] for key in old.metrics()["test"]} == old.metrics()["test"]
    assert not (out / "checkpoints" / "state.pt").exists()
    for name in ("config.yaml", "environment.json", "metrics.jsonl"):
        assert (out / name).read_bytes() == (run / name).read_bytes()
    # The copy is a run that everything reads, and that training does not go on with
    done = invoke("compare", run, out)
    assert done.exit_code == 0, done.stderr
    assert invoke("sample", out, "-n", 2).exit_code == 0
    done = invoke("train", "--resume", out)
    assert done.exit_code == 0
    assert "is finished already" in done.stderr


def test_evaluate_takes_no_other_folder(
    invoke: Any, exact: Exact, learned: Path, tmp_path: Path
) -> None:
    run = exact("closed").path
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = snapshot(learned)
    for out in (tmp_path / "full", learned, run):
        done = invoke("evaluate", run, "--only", "codes", "--out", out)
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"is there already and is no copy of {run}" in done.stderr
    assert snapshot(learned) == before
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]
    done = invoke("evaluate", run, "--out", tmp_path / "no" / "x")
    assert done.exit_code == 2
    assert "cannot be made: No such file" in done.stderr
