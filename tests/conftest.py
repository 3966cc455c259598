"""The command as users run it, and a few tiny runs that the tests share.

Training happens once per session and fixture: read these runs, change only copies of them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# One thread for torch in this process too, before anything imports it: tests run side by side
# (pytest -n auto), and threads that wait for each other slow all of them down many times over.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import numpy as np
import pytest
import torch
from config_files import Write
from exact_runs import RUNS, Trained
from exact_runs import train as train_exact
from typer.testing import CliRunner

from vaexp.cli import app
from vaexp.config import digest, load_config
from vaexp.runs.folder import RunFolder

VAEXP = Path(sys.executable).with_name("vaexp")

# Two digits, so that only a fifth of the test images must be measured and drawn.
TINY = """\
model: {kind: vae, hidden: [32]}
data: {limit: 256, validation_size: 500, labels: [4, 9]}
train: {epochs: 60, batch_size: 32}
evaluate: {importance_samples: 5}
"""


def _environment(**changes: str) -> dict[str, str]:
    # One thread: batches of 32 gain nothing from more, and tests run side by side.
    chosen = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "xterm"} | changes
    inherited = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    return inherited | chosen


class Cli:
    """Runs the console script in a folder of its own."""

    def __init__(self, cwd: Path):
        self.cwd = cwd

    def __call__(
        self, *arguments: str | Path, timeout: float = 180, **env: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [VAEXP, *arguments],
            cwd=self.cwd,
            env=_environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
        )

    def ok(self, *arguments: str | Path, **env: str) -> str:
        """What a command that must succeed prints to stdout."""
        done = self(*arguments, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        # a shell that starts pytest in the background makes its children ignore Ctrl-C
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [VAEXP, *arguments],
                cwd=self.cwd,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
        finally:
            signal.signal(signal.SIGINT, before)


@pytest.fixture
def without(cli: Cli) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs the command where a package cannot be imported."""

    def without(package: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        stub = cli.cwd / "stub"
        stub.mkdir()
        (stub / f"{package}.py").write_text("raise ImportError('not here')\n")
        path = os.pathsep.join([str(stub), os.environ.get("PYTHONPATH", "")])
        return cli(*arguments, PYTHONPATH=path)

    return without


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in each test, whichever ran before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of their own for all tests: their lists of runs do not belong into the user's.

    Matplotlib keeps its list of fonts, which takes up to a minute to make, where it was.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the text of a config into a file of its own."""

    def write(text: str) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def session_cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(TINY)
    return Cli(folder)


@pytest.fixture
def invoke() -> Callable[..., Any]:
    """The same commands inside this process: no 2 s for torch. Result: exit_code, stdout, stderr"""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def draw(invoke: Callable[..., Any]) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Run ``vaexp sample --json``: the image's path and the arrays."""

    def draw(run: Path, *arguments: str) -> tuple[Path, dict[str, Any]]:
        done = invoke("sample", run, *arguments, "--json")
        assert done.exit_code == 0, done.stderr or repr(done.exception)
        answer = json.loads(done.stdout)
        image = Path(answer["image"])
        assert image.parent == run / "samples"
        assert image.read_bytes().startswith(b"\x89PNG")
        assert Path(answer["arrays"]) == image.with_suffix(".npz")
        with np.load(answer["arrays"]) as arrays:
            return image, dict(arrays)

    return draw


@pytest.fixture
def comparison(invoke: Callable[..., Any]) -> Callable[..., Any]:
    """What ``vaexp compare`` says of some runs, as data."""

    def comparison(*runs: Path) -> Any:
        done = invoke("compare", *runs, "--format", "json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return comparison


@pytest.fixture(scope="session")
def training(session_cli: Cli) -> "subprocess.CompletedProcess[str]":
    """The finished process that trained ``fixed``."""
    done = session_cli("train", "tiny.yaml", "name=fixed")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def fixed(session_cli: Cli, training: "subprocess.CompletedProcess[str]") -> Path:
    """Given the label, sigma fixed at 1, L = 2, 60 epochs of 8 steps."""
    return session_cli.cwd / training.stdout.strip()


def _train(cli: Cli, *overrides: str) -> Path:
    folder = ["--json", "--runs-dir", str(cli.cwd / "runs")]
    done = CliRunner().invoke(app, ["train", str(cli.cwd / "tiny.yaml"), *overrides, *folder])
    assert done.exit_code == 0, done.stderr
    return Path(json.loads(done.stdout)["run"])


@pytest.fixture(scope="session")
def learned(session_cli: Cli) -> Path:
    """Given the label, sigma(z) per pixel, L = 3, draws sweeps."""
    settings = ["latent_dim=3", "sigma_mode=pixel", "sigma=0.5", "beta=2", "decode_mode=sweep"]
    model = [f"model.{setting}" for setting in settings]
    return _train(session_cli, "name=learned", "train.epochs=2", *model)


@pytest.fixture(scope="session")
def bernoulli(session_cli: Cli) -> Path:
    """Not given the label, a mass on binarised images, L = 1."""
    settings = ["latent_dim=1", "likelihood=bernoulli", "conditional=false", "decode_mode=sample"]
    model = [f"model.{setting}" for setting in settings]
    rest = ["name=bernoulli", "train.epochs=2", "data.transform=binarize"]
    return _train(session_cli, *rest, *model)


@pytest.fixture(scope="session")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A finished run of RUNS, by name."""
    folder = tmp_path_factory.mktemp("exact")
    made: dict[str, Trained] = {}

    def get(name: str) -> Trained:
        if name not in made:
            code, made[name] = train_exact(folder, *RUNS[name], name=name)
            assert code == 0, made[name].stderr
        return made[name]

    return get


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a run, to break the copy."""

    def copy(run: Path) -> Path:
        return Path(shutil.copytree(run, tmp_path / f"copy-{run.name}"))

    return copy


class Forge:
    """Writes finished run folders without training anything, and so without torch."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(
        self,
        name: str,
        *overrides: str,
        values: "dict[str, np.ndarray[Any, Any]] | None" = None,
        facts: dict[str, dict[str, Any]] | None = None,
        data: str = "same data",
    ) -> Path:
        """A run whose test metrics summarise per-image ``values`` as a real run's would.

        A name that starts with rmse is a root mean. facts: metric -> entries to change; None drops.
        """
        yaml = self.folder / "forged.yaml"
        yaml.write_text("model: {kind: vae}\n")
        config = load_config(str(yaml), [f"name={name}", *overrides])
        run = RunFolder.create(self.folder, config)
        run.start()
        run.write_environment({"config_sha256": digest(config), "data_sha256": data})
        values = {"elbo": np.arange(8.0) - 700} if values is None else values
        entries = {}
        for metric, array in values.items():
            root = metric.startswith("rmse")
            value = float(np.sqrt(array.mean()) if root else array.mean())
            slope = 1 / (2 * value) if root else 1.0
            entry: dict[str, Any] = {
                "value": value,
                "se": float(slope * array.std(ddof=1) / np.sqrt(len(array))),
                "n": len(array),
                "unit": "pixel" if root else "nats",
                "aggregate": "root_mean" if root else "mean",
            }
            if metric in ("elbo", "iw_bound"):
                entry |= {"measure": "density", "of": "x given label", "kind": "lower_bound"}
                entry |= {"sigma": 1.0} | ({"k": 100} if metric == "iw_bound" else {})
            changed = entry | (facts or {}).get(metric, {})
            entries[metric] = {key: fact for key, fact in changed.items() if fact is not None}
        run.write_metrics({"test": entries}, values)
        run.end("finished", 0)
        return run.path


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture
def wait_for_epochs() -> Callable[[Path, int], Path]:
    """Wait until a run below a folder has written so many epochs; its path."""

    def wait(folder: Path, epochs: int) -> Path:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for records in folder.glob("*/metrics.jsonl"):
                if len(records.read_text().splitlines()) >= epochs:
                    return records.parent
            time.sleep(0.002)
        raise AssertionError(f"no run in {folder} wrote {epochs} epochs within a minute")

    return wait


@pytest.fixture
def change_json() -> Callable[..., None]:
    def change(path: Path, **changes: Any) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """This process hears Ctrl-C, also where a shell has started it in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
