"""Run folders: making them, listing them, drawing from them, and what damage does."""

import csv
import io
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from vaexp import files
from vaexp.config import VAEExperiment, dump
from vaexp.errors import RunError, UserError
from vaexp.runs.find import find_runs
from vaexp.runs.folder import RunFolder, short_names
from vaexp.runs.trained import TrainedModel

CONFIG = VAEExperiment.model_validate({"name": "x", "model": {"kind": "vae"}})


# Making


def test_a_new_folder(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "new" / "runs", CONFIG)
    assert re.fullmatch(r"\d{8}-\d{6}-x-[0-9a-f]{4}", run.path.name)
    assert (run.path / "config.yaml").read_text() == dump(CONFIG)
    assert {path.name for path in run.path.iterdir()} == {
        "config.yaml",
        "run.json",
        "checkpoints",
        "figures",
        "samples",
    }


def test_threads_get_different_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda _: RunFolder.create(tmp_path, CONFIG), range(200)))
    assert len({run.path for run in runs}) == len(list(tmp_path.iterdir())) == 200


def test_processes_get_different_folders(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom vaexp.runs.folder import RunFolder\n"
        "from vaexp.config import VAEExperiment\n"
        "config = VAEExperiment.model_validate({'name': 'x', 'model': {'kind': 'vae'}})\n"
        "for _ in range(20): print(RunFolder.create(Path(sys.argv[1]), config).path)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "runs")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [len(paths) for paths in printed] == [20] * 4
    assert len({path for paths in printed for path in paths}) == 80
    assert len(list((tmp_path / "runs").iterdir())) == 80


def test_a_name_that_is_taken_is_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("vaexp.runs.folder.secrets.token_hex", lambda _: next(digits))
    first, second = RunFolder.create(tmp_path, CONFIG), RunFolder.create(tmp_path, CONFIG)
    assert first.path != second.path
    assert (first.name[-4:], second.name[-4:]) in [("aaaa", "bbbb"), ("aaaa", "aaaa")]


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    # It is that of all threads, in one of which a heartbeat is written.
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("it changes the umask"))
    path = tmp_path / "metrics.json"
    files.write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"value": float("nan")})
    with pytest.raises(UnicodeEncodeError), files.replacing(path) as temporary:
        temporary.write_bytes(b"half" + "\udcff".encode())
    assert json.loads(path.read_text()) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_record_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    assert run.records() == []
    run.append_records([{"epoch": 1, "elbo": -1 / 3}])
    run.append_records([{"epoch": epoch, "elbo": -1 / 3} for epoch in (2, 3)])
    run.append_records([])
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "el')
    assert run.records() == [{"epoch": epoch, "elbo": -1 / 3} for epoch in (1, 2, 3)]
    run.truncate_records(2)
    assert run.records() == [{"epoch": epoch, "elbo": -1 / 3} for epoch in (1, 2)]
    with pytest.raises(ValueError, match="JSON"):
        run.append_records([{"elbo": 1.0}, {"elbo": float("inf")}])
    assert len(run.records()) == 2


def test_weights_survive(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(RunError, match=r"model.safetensors: missing"):
        run.weights()
    assert run.state() is None
    weights = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(2.0)}
    run.save_weights(weights, at=7)
    run.save_state({"model": weights, "epoch": 7, "best": float("-inf")})
    read, epoch = run.weights()
    assert epoch == 7
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    state = run.state()
    assert state is not None
    assert state["best"] == float("-inf")
    assert torch.equal(state["model"]["a"], weights["a"])


# Status


def test_status(tmp_path: Path, change_json: Any) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    run.start()
    assert run.status() == "running"
    info = run.path / "run.json"
    change_json(info, pid_started=psutil.Process().create_time() - 100)
    assert run.status() == "dead"  # another process has the number now
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    change_json(info, pid=gone.pid)
    assert run.status() == "dead"
    change_json(info, host="elsewhere")
    assert run.status() == "unknown"
    change_json(info, host=socket.gethostname())
    run.end("interrupted", 143, "SIGTERM")
    assert run.status() == "interrupted"
    run.start()
    assert run.status() == "running"
    assert len(run.info()["resumed"]) == 1
    assert run.info()["exit_code"] is None


# Listing


@pytest.fixture
def all_kinds(forge: Any, change_json: Any) -> Path:
    """A folder with a run in every state, and things that are no runs."""
    forge("finished", "model.beta=2")
    for name in ("dead", "failed", "elsewhere"):
        run = forge(name)
        (run / "metrics.json").unlink()
        changes = {
            "dead": {"status": "running", "pid_started": 0.0},
            "failed": {"status": "failed", "error": "the rate became nan"},
            "elsewhere": {"status": "running", "host": "another"},
        }[name]
        change_json(run / "run.json", **changes)
    with (forge("cut") / "metrics.jsonl").open("w") as file:
        file.write('{"epoch": 1}\n{"epo')
    damages = {
        "info-text": ("run.json", "{"),
        "info-list": ("run.json", "[]"),
        "info-empty": ("run.json", "{}"),
        "info-null": ("run.json", "null"),
        "info-gaps": ("run.json", '{"status": "running"}'),
        "config": ("config.yaml", "model: {kind: vae, old: 1}"),
        "metrics": ("metrics.json", "[1]"),
        "entries": ("metrics.json", '{"test": {"elbo": 3}}'),
        "records": ("metrics.jsonl", "nonsense\n"),
        "binary": ("metrics.jsonl", "\udcff\n"),
    }
    for name, (file_name, text) in damages.items():
        path = forge(f"damaged-{name}") / file_name
        path.write_text(text, errors="surrogateescape")
    (forge.folder / "a-file").write_text("")
    (forge.folder / "a-folder").mkdir()
    (forge.folder / "a-link").symlink_to("nowhere")
    return Path(forge.folder)


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere the start of a process never moves")
def test_a_run_lives_on_when_the_clock_is_set(
    fixed: Path, copy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.open(copy_of(fixed))
    run.start()
    assert run.status() == "running"
    boot = psutil.boot_time()  # which Linux computes from the clock
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot - 7200)
    assert run.status() == "running"


def test_every_run_is_listed_whatever_its_state(all_kinds: Path, cli: Any) -> None:
    listed = json.loads(cli.ok("runs", all_kinds, "--json"))
    status = {re.sub(r".*\d{6}-(.*)-....", r"\1", entry["run"]): entry for entry in listed}
    assert {name: entry["status"] for name, entry in status.items()} == {
        "finished": "finished",
        "dead": "dead",
        "failed": "failed",
        "elsewhere": "unknown",
        "cut": "finished",
        **{
            f"damaged-{name}": "damaged"
            for name in ("info-text", "info-list", "info-empty", "info-null", "info-gaps")
        },
        **{
            f"damaged-{name}": "damaged"
            for name in ("config", "metrics", "entries", "records", "binary")
        },
    }
    assert status["failed"]["error"] == "the rate became nan"
    assert status["cut"]["steps"] == 1
    assert status["finished"]["metrics"]["elbo"]["value"] == -696.5
    assert status["finished"]["settings"]["model.beta"] == 2.0
    for name, entry in status.items():
        if name.startswith("damaged"):
            assert len(entry["error"]) > 10, name


def test_one_damaged_run_does_not_hide_the_others(forge: Any, invoke: Any) -> None:
    forge("good")
    for name in ("run.json", "metrics.json"):
        run = forge("bad")
        (run / name).write_text("[]")
        done = invoke("runs", forge.folder)
        assert done.exit_code == 0, repr(done.exception)
        assert "good" in done.stdout
        shutil.rmtree(run)


def test_list_formats(forge: Any, invoke: Any) -> None:
    values = {"elbo": np.arange(8.0) - 700, "rmse_mean": np.full(8, 0.04)}
    first, second = forge("a", values=values), forge("b", "model.beta=4", values=values)
    folder = forge.folder
    rows = list(csv.DictReader(io.StringIO(invoke("runs", folder, "--format", "csv").stdout)))
    assert [row["run"] for row in rows] == [first.name, second.name]
    assert [row["folder"] for row in rows] == [str(first), str(second)]
    assert sorted(row["model.beta"] for row in rows) == ["1.0", "4.0"]
    assert {float(row["rmse_mean"]) for row in rows} == {0.2}
    assert "iw_bound" not in rows[0]
    assert {row["seed"] for row in rows} == {"1"}
    lines = invoke("runs", folder, "--format", "md").stdout.splitlines()
    assert len(lines) == 4
    assert len({line.count("|") - line.count("\\|") for line in lines}) == 1
    table = invoke("runs", folder).stdout
    assert "β = 4" in table
    assert "[σ = 1]" in table
    for run in (first, second):
        assert run.name in table
    listed = json.loads(invoke("runs", folder, "--format", "json").stdout)
    assert json.loads(invoke("runs", folder, "--json").stdout) == listed


def test_an_empty_list(tmp_path: Path, invoke: Any) -> None:
    assert json.loads(invoke("runs", tmp_path, "--json").stdout) == []
    for name in ("table", "csv", "md"):
        done = invoke("runs", tmp_path, "--format", name)
        assert done.exit_code == 0
    assert list(find_runs(tmp_path)) == []


def test_the_default_folder_is_runs(forge: Any, cli: Any) -> None:
    forge("a").rename(cli.cwd / "run")
    (cli.cwd / "runs").mkdir()
    (cli.cwd / "run").rename(cli.cwd / "runs" / "20200101-000000-a-0000")
    [entry] = json.loads(cli.ok("runs", "--json"))
    assert entry["run"] == "runs/20200101-000000-a-0000"
    assert short_names([RunFolder(Path(entry["run"]))]) == ["a-0000"]


# Drawing


def decoded(run: Path, arrays: dict[str, Any], label: Any = None) -> Any:
    """Mean and standard deviation of p(x|z) by the model itself."""
    model = TrainedModel.read(RunFolder.open(run)).model
    given = arrays.get("label", label)
    p = model.decode(torch.tensor(arrays["z"]), None if given is None else torch.tensor(given))
    return p.mean.numpy(), p.stddev.numpy()


def test_mean(fixed: Path, draw: Any) -> None:
    image, arrays = draw(fixed, "-n", "7")
    assert arrays["z"].shape == (7, 2)
    assert arrays["label"].tolist() == [4, 9, 4, 9, 4, 9, 4]
    assert arrays["x"].shape == (7, 784)
    np.testing.assert_allclose(arrays["x"], decoded(fixed, arrays)[0], atol=1e-5)
    np.testing.assert_array_equal(arrays["image"], arrays["x"].reshape(7, 28, 28))
    assert "mean" in image.name


def test_sample(learned: Path, draw: Any) -> None:
    _, arrays = draw(learned, "--decode", "sample", "-n", "50", "--label", "9")
    assert set(arrays["label"]) == {9}
    mean, sigma = decoded(learned, arrays)
    noise = (arrays["x"] - mean) / sigma
    # 39,200 standard normals: these are 5 and 7 standard errors
    assert abs(noise.mean()) < 0.025
    assert abs(noise.std() - 1) < 0.025
    rows = noise.reshape(50, -1)
    assert np.corrcoef(rows[0], rows[1])[0, 1] == pytest.approx(0, abs=0.15)


def test_sweep_is_this_runs_own_mode(learned: Path, draw: Any) -> None:
    image, arrays = draw(learned, "-n", "3")
    assert "sweep" in image.name
    assert arrays["x"].shape == (5, 3, 784)
    assert arrays["image"].shape == (5, 3, 28, 28)
    mean, sigma = decoded(learned, arrays)
    for row, k in enumerate((-2, -1, 0, 1, 2)):
        np.testing.assert_allclose(arrays["x"][row], mean + k * sigma, atol=1e-5)


def test_a_fixed_sigma_sweeps_by_that_sigma(fixed: Path, draw: Any) -> None:
    _, arrays = draw(fixed, "--decode", "sweep", "-n", "2")
    np.testing.assert_allclose(np.diff(arrays["x"], axis=0), 1, atol=1e-5)


def test_bernoulli_draws(bernoulli: Path, draw: Any) -> None:
    image, arrays = draw(bernoulli, "-n", "200")
    assert "sample" in image.name
    assert "label" not in arrays
    assert arrays["z"].shape == (200, 1)
    assert set(np.unique(arrays["x"])) == {0, 1}
    mean, _ = decoded(bernoulli, arrays)
    error = np.sqrt((mean * (1 - mean)).mean(0) / 200)
    assert (np.abs(arrays["x"].mean(0) - mean.mean(0)) < 6 * error + 0.01).all()


def quantiles(size: int) -> Any:
    return torch.special.ndtri((torch.arange(size, dtype=torch.float64) + 0.5) / size).numpy()


def test_grid_of_three_latents(learned: Path, draw: Any) -> None:
    _, arrays = draw(learned, "--grid", "--decode", "mean", "--axes", "3", "1")
    z, size = arrays["z"], arrays["z"].shape[0]
    assert z.shape == (size, size, 3)
    np.testing.assert_allclose(z[0, :, 2], quantiles(size), atol=1e-6)
    np.testing.assert_allclose(z[:, 0, 0], quantiles(size), atol=1e-6)
    assert (z[..., 1] == 0).all()
    assert arrays["label"].tolist() == [4, 9]
    assert arrays["x"].shape == (2, size, size, 784)
    assert arrays["image"].shape == (2, size, size, 28, 28)
    for i, digit in enumerate((4, 9)):
        mean, _ = decoded(learned, {"z": z}, digit)
        np.testing.assert_allclose(arrays["x"][i], mean, atol=1e-5)


def test_grid_of_one_digit(fixed: Path, draw: Any) -> None:
    image, arrays = draw(fixed, "--grid", "--label", "9")
    assert arrays["label"].tolist() == [9]
    assert "label9" in image.name


def test_grid_of_one_latent(bernoulli: Path, draw: Any) -> None:
    _, arrays = draw(bernoulli, "--grid", "--decode", "mean")
    size = arrays["z"].shape[1]
    assert arrays["z"].shape == (1, size, 1)
    np.testing.assert_allclose(arrays["z"][0, :, 0], quantiles(size), atol=1e-6)
    assert arrays["x"].shape == (1, 1, size, 784)


def test_draws_follow_from_the_seed(learned: Path, draw: Any, copy_of: Any) -> None:
    other = copy_of(learned)
    arguments = ["--decode", "sample", "-n", "3"]
    a, first = draw(learned, *arguments)
    b, _ = draw(other, *arguments, "--seed", "1")  # the config's own seed
    assert a.name == b.name
    assert a.read_bytes() == b.read_bytes()
    assert a.with_suffix(".npz").read_bytes() == b.with_suffix(".npz").read_bytes()
    c, second = draw(learned, *arguments, "--seed", "2")
    assert c != a
    assert not np.allclose(first["z"], second["z"])


@pytest.mark.parametrize(
    ("which", "arguments", "message"),
    [
        ("bernoulli", ["--label", "4"], "trained without labels"),
        ("bernoulli", ["--decode", "sweep"], "no sigma"),
        ("fixed", ["--label", "5"], "trained on the digits 4, 9"),
        ("fixed", ["--label", "11"], "trained on the digits 4, 9"),
        ("fixed", ["--grid", "--axes", "1", "3"], "between 1 and 2"),
        ("fixed", ["--grid", "--axes", "1", "1"], "different latents"),
        ("fixed", ["--grid", "--axes", "0", "1"], "between 1 and 2"),
        ("learned", ["--grid", "--decode", "sweep"], "--decode mean or sample"),
    ],
)
def test_what_cannot_be_drawn(
    request: pytest.FixtureRequest, invoke: Any, which: str, arguments: list[str], message: str
) -> None:
    run = request.getfixturevalue(which)
    before = sorted((run / "samples").iterdir())
    done = invoke("sample", run, *arguments)
    assert (done.exit_code, done.stdout) == (2, ""), repr(done.exception)
    assert message in done.stderr
    assert sorted((run / "samples").iterdir()) == before


def test_from_inside_the_folder_and_from_odd_places(
    fixed: Path, copy_of: Any, cli: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(fixed).rename(cli.cwd / "ein Lauf, später")
    shutil.rmtree(run / "samples")
    assert cli.ok("sample", f"{run.name}/") == f"{run.name}/samples/mean-n10-seed1.png\n"
    monkeypatch.chdir(run)
    done = invoke("sample", ".", "-n", "2")
    assert (done.exit_code, done.stdout) == (0, "samples/mean-n2-seed1.png\n")
    assert (run / "samples" / "mean-n2-seed1.npz").is_file()


# Damage


def damage(run: Path, what: str) -> None:
    weights = run / "checkpoints" / "model.safetensors"
    config = run / "config.yaml"
    if what == "no weights":
        weights.unlink()
    elif what == "truncated":
        weights.write_bytes(weights.read_bytes()[:3000])
    elif what == "empty":
        weights.write_bytes(b"")
    elif what in ("half", "nan"):
        tensors = load_file(weights)
        name, tensor = next(iter(tensors.items()))
        tensors[name] = tensor.half() if what == "half" else tensor * math.nan
        save_file(tensors, weights, {"at": "1"})
    elif what == "text":
        weights.write_text("version https://example.org/spec/v1\n" * 20)
    elif what == "latent size":
        config.write_text(config.read_text().replace("latent_dim: 2", "latent_dim: 3"))
    elif what == "layers":
        config.write_text(config.read_text().replace("hidden: [32]", "hidden: [32, 32]"))
    elif what == "sigma mode":
        config.write_text(config.read_text().replace("sigma_mode: fixed", "sigma_mode: pixel"))
    elif what == "config":
        config.write_text("model: {kind: vae, latent_dims: 2}\n")
    elif what in ("config.yaml", "run.json"):
        (run / what).unlink()


@pytest.mark.parametrize(
    ("what", "code", "names"),
    [
        ("no weights", 1, "checkpoints/model.safetensors: missing"),
        ("truncated", 1, "checkpoints/model.safetensors: damaged"),
        ("empty", 1, "checkpoints/model.safetensors: damaged"),
        ("text", 1, "checkpoints/model.safetensors: damaged"),
        ("half", 1, "holds torch.float16, and the model needs torch.float32; copy the run folder"),
        ("nan", 1, "holds numbers that are not finite; copy the run folder again"),
        ("latent size", 1, "config.yaml changed since the run started"),
        ("layers", 1, "config.yaml changed since the run started"),
        ("sigma mode", 1, "config.yaml changed since the run started"),
        ("config", 2, "config.yaml:1:20: model.latent_dims: unknown key; did you mean latent_dim?"),
        ("config.yaml", 2, "config.yaml is missing"),
        ("run.json", 2, "run.json is missing"),
    ],
)
def test_a_damaged_run_is_not_drawn_from(
    fixed: Path, copy_of: Any, invoke: Any, what: str, code: int, names: str
) -> None:
    run = copy_of(fixed)
    damage(run, what)
    done = invoke("sample", run)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert (done.exit_code, done.stdout) == (code, "")
    assert names in done.stderr
    assert str(run) in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_of_another_run_are_not_drawn_from(
    fixed: Path, learned: Path, copy_of: Any, invoke: Any
) -> None:
    run = copy_of(fixed)
    shutil.copy(learned / "checkpoints" / "model.safetensors", run / "checkpoints")
    done = invoke("sample", run)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "checkpoints/model.safetensors does not fit config.yaml" in done.stderr


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", '{"status": "running"}'),
        ("metrics.jsonl", "nonsense\n"),
        ("checkpoints/state.pt", "nonsense"),
    ],
)
def test_a_damaged_run_is_not_resumed(
    fixed: Path, copy_of: Any, invoke: Any, change_json: Any, file_name: str, text: str
) -> None:
    run = copy_of(fixed)
    change_json(run / "run.json", status="interrupted")
    (run / file_name).write_text(text)
    done = invoke("train", "--resume", run)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert (done.exit_code, done.stdout) == (1, "")
    assert file_name.split("/")[-1] in done.stderr


@pytest.mark.parametrize(
    ("old", "new"), [("hidden: [32]", "hidden: [16]"), ("beta: 1.0", "beta: 9.0")]
)
def test_a_run_whose_config_was_edited_is_not_resumed(
    fixed: Path, copy_of: Any, invoke: Any, change_json: Any, old: str, new: str
) -> None:
    run = copy_of(fixed)
    change_json(run / "run.json", status="interrupted")
    config = run / "config.yaml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    done = invoke("train", "--resume", run)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "config.yaml changed since the run started" in done.stderr
    # it says what went wrong and leaves the run as it was
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


def test_a_state_of_other_shapes_is_not_resumed(
    fixed: Path, copy_of: Any, invoke: Any, change_json: Any
) -> None:
    run = copy_of(fixed)
    change_json(run / "run.json", status="interrupted")
    state = torch.load(run / "checkpoints" / "state.pt", weights_only=True)
    state["model"].popitem()
    torch.save(state, run / "checkpoints" / "state.pt")
    done = invoke("train", "--resume", run)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "checkpoints/state.pt does not fit config.yaml" in done.stderr


def test_a_copy_without_its_state_does_not_start_over(
    fixed: Path, copy_of: Any, invoke: Any, change_json: Any
) -> None:
    run = copy_of(fixed)
    change_json(run / "run.json", status="interrupted")
    (run / "checkpoints" / "state.pt").unlink()
    records = (run / "metrics.jsonl").read_bytes()
    assert records.count(b"\n") > 1
    done = invoke("train", "--resume", run)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "checkpoints/state.pt is missing" in done.stderr
    assert (run / "metrics.jsonl").read_bytes() == records


def test_a_folder_that_cannot_be_written(fixed: Path, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    shutil.rmtree(run / "samples")
    (run / "samples").write_text("a file where the folder should be")  # root may write anywhere
    done = invoke("sample", run)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code in (1, 2)
    assert "samples" in done.stderr


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    for path, message in [(tmp_path / "nope", "no such run folder"), (tmp_path, "run.json")]:
        with pytest.raises(UserError, match=message):
            RunFolder.open(path)
