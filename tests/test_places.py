"""Where and how a command is started: notebooks, containers, odd paths, limits and no folder."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from own_images import write_own

from vaexp.paths import LINK_INSTEAD
from vaexp.runs.folder import RunFolder

MODELS = {
    "vae": "{kind: vae, hidden: [16], conditional: false}\ntrain: {epochs: 1, batch_size: 32}\n"
    "evaluate: {importance_samples: 5}",
    "ppca": "{kind: ppca, latent_dim: 2}\ntrain: {max_iter: 2}",
    "gmm": "{kind: gmm, components: 3, covariance: full}\ntrain: {max_iter: 3}",
}


def write_config(folder: Path, kind: str, own: Path) -> Path:
    path = folder / f"{kind}.yaml"
    data = f"data: {{name: own, root: '{own}', validation_size: 10}}"
    path.write_text(f"model: {MODELS[kind]}\n{data}\n")
    return path


def ok(done: Any) -> Any:
    assert done.exit_code == 0, done.stderr or repr(done.exception)
    return done


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config of a pPCA of small images."""
    write_own(tmp_path / "own")
    return write_config(tmp_path, "ppca", tmp_path / "own")


@pytest.fixture
def run(config: Path, tmp_path: Path, invoke: Any) -> Path:
    """A run of it without figures."""
    done = ok(invoke("train", config, "--runs-dir", tmp_path / "runs", "--no-figures"))
    return Path(done.stdout.strip())


def test_the_backend_of_a_notebook_is_not_that_of_a_command(run: Path, cli: Any) -> None:
    """Matplotlib refuses to be imported with the name of a backend that is none."""
    picture = Path(cli.ok("sample", run, MPLBACKEND="nonsense").strip())
    assert picture.read_bytes().startswith(b"\x89PNG")


AFTER_A_COMMAND = """
import sys
from vaexp.cli import main
sys.argv = ["vaexp", "--version"]
try:
    main()
except SystemExit:
    from matplotlib import pyplot
    pyplot.figure()
    print(pyplot.get_backend())
"""


def test_a_backend_that_is_not_installed_here_is_not_asked_for(tmp_path: Path) -> None:
    """It is the one that Jupyter exports. Where it is installed, it draws into a notebook."""
    done = subprocess.run(
        [sys.executable, "-c", AFTER_A_COMMAND],
        env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "inline" not in done.stdout


NOBODY = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""


def test_a_user_without_a_home_and_without_an_entry(config: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NOBODY)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    # matplotlib's list of fonts takes up to a minute to make
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    environment |= {"MPLCONFIGDIR": matplotlib.get_cachedir()}

    def started(*arguments: str | Path) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "vaexp", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    done = started("train", config, "--no-figures")
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / done.stdout.strip()).status() == "finished"
    listed = started("runs", "--json")
    assert len(json.loads(listed.stdout)) == 1
    refused = started("validate", "~/mine.yaml")
    assert refused.returncode == 2
    assert refused.stderr == "~/mine.yaml: the home folder ~ is not known; write the path out\n"


@contextmanager
def files_up_to(most: int) -> Iterator[None]:
    """Let this process write no file of more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_on_files_that_a_checkpoint_reaches(tmp_path: Path, invoke: Any) -> None:
    write_own(tmp_path / "own")
    config = write_config(tmp_path, "vae", tmp_path / "own")
    where = ("--runs-dir", tmp_path / "runs", "--no-figures")
    run = Path(ok(invoke("train", config, *where)).stdout.strip())
    whole = Path(ok(invoke("train", config, "train.epochs=3", *where)).stdout.strip())
    state, weights = (run / "checkpoints" / name for name in ("state.pt", "model.safetensors"))
    before, most = state.read_bytes(), weights.stat().st_size + 10_000
    assert most < len(before)
    with files_up_to(most):
        done = invoke("train", "--resume", run, "train.epochs=3", "--no-figures")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"{run}: File too large; vaexp train --resume {run} goes on after the last checkpoint "
        "(train.log has the traceback)"
    )
    assert "Traceback" not in done.stderr
    assert state.read_bytes() == before
    assert RunFolder(run).status() == "failed"
    ok(invoke("train", "--resume", run, "--no-figures"))
    assert RunFolder(run).status() == "finished"
    assert weights.read_bytes() == (whole / "checkpoints/model.safetensors").read_bytes()


def test_a_path_that_is_no_text(
    config: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Path(os.fsdecode(os.fsencode(tmp_path) + b"/not \xff utf-8"))
    for kind in ("ppca", "vae"):
        config = write_config(tmp_path, kind, tmp_path / "own")
        done = ok(invoke("train", config, "--runs-dir", runs, "--no-figures", "--json"))
        run = Path(json.loads(done.stdout)["run"])
        assert run.parent == runs
    ok(invoke("evaluate", run, "--only", "rate", "--images", "5", "--json"))
    ok(invoke("sample", run, "--json"))
    ok(invoke("runs", "show", run, "--json"))
    assert len(json.loads(ok(invoke("runs", runs, "--json")).stdout)) == 2
    shutil.move(tmp_path / "own", runs / "own")
    refused = invoke("encode", run, f"data.root={runs / 'own'}")
    assert refused.exit_code == 2
    [line] = refused.stderr.splitlines()
    assert line.endswith(f"the byte 0xFF is not UTF-8; {LINK_INSTEAD}")
    monkeypatch.chdir(runs)
    refused = invoke("train", config, "data.root=own")
    assert refused.exit_code == 2
    [line] = refused.stderr.splitlines()
    assert line.endswith(f"not \\udcff utf-8/own is not UTF-8, as a config is; {LINK_INSTEAD}")
    (tmp_path / "own").symlink_to(runs / "own")
    ok(invoke("encode", run, "--json"))
    ok(invoke("compare", runs, "--json"))
    ok(invoke("report", run, "--json"))
    for kind in ("csv", "parquet"):
        ok(invoke("export", kind, runs, "--out", tmp_path / "tables", "--json"))
    assert "not \\udcff utf-8" in (tmp_path / "tables" / "runs.csv").read_text()


def test_a_current_folder_that_was_removed(
    run: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in (
        ["validate", "fa"],
        ["runs", "show", run],
        ["runs", run.parent],
        ["sample", run, "-n", "2"],
        ["evaluate", run, "--only", "rate", "--images", "5"],
        ["train", config, "--runs-dir", run.parent, "--no-figures"],
    ):
        ok(invoke(*command))
    for command in (
        ["train", config, "--no-figures"],
        ["runs"],
        ["sample", "latest"],
        ["validate", "mine.yaml"],
        ["configs", "copy", "fa"],
        ["train", config, "data.root=own"],
        ["sweep", config, "--seeds", "2"],
    ):
        done = invoke(*command)
        assert done.exit_code in (1, 2), (command, done.output)
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, (command, done.stderr)
        assert "fault of vaexp" not in done.stderr, (command, done.stderr)


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("kind", MODELS)
def test_images_that_are_all_the_same(tmp_path: Path, invoke: Any, grey: int, kind: str) -> None:
    (tmp_path / "own").mkdir()
    for part, count in (("train", 60), ("test", 30)):
        images = np.full((count, 6, 5), grey, dtype=np.uint8)
        np.save(tmp_path / "own" / f"{part}-images.npy", images)
    config = write_config(tmp_path, kind, tmp_path / "own")
    done = invoke("train", config, "--runs-dir", tmp_path / "runs", "--no-figures")
    if kind == "ppca":
        assert done.exit_code == 1
        assert "explain the training images entirely, so that sigma is 0" in done.stderr
        return
    run = RunFolder(Path(ok(done).stdout.strip()))
    assert run.status() == "finished"
    if kind == "vae" and grey == 0:
        groups = "decoding,singularities,quality,prior,optimal_mean"
        ok(invoke("evaluate", run.path, "--only", groups, "--images", "20"))
        absent = run.evaluation()["decoding"]["absent"]
        assert {f"covariance_distance_{mode}" for mode in ("mean", "sample")} <= absent.keys()
        assert "all these test images are the same" in absent["covariance_distance_mean"]
    values = [entry["value"] for entry in run.metrics()["test"].values()]
    assert np.isfinite(values).all()
