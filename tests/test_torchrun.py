"""One run over two processes: equal to one process but for rounding, and no process hangs."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_folders import assert_same_results, timeless
from safetensors.torch import load_file
from small_models import rough_vae
from torch import Tensor
from torch.testing import assert_close
from two_processes import fitted

import vaexp
from vaexp.config import load_config
from vaexp.errors import UserError
from vaexp.experiment.fit import check_shares
from vaexp.experiment.prepare import Experiment
from vaexp.models.elbo import elbo_terms
from vaexp.processes import Processes

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
DATA = "data: {limit: 321, validation_size: 203, labels: [4, 9]}\n"
# So large a floor that images belong to several components, and each iteration moves them.
MIXTURE = DATA + "train: {max_iter: 2, tolerance: 0}\n"
MIXTURE += "model: {kind: gmm, components: 3, init: random, covariance_floor: 0.5, "
LINEAR = DATA + "train: {max_iter: 5, tolerance: 0, restarts: 2}\nmodel: {latent_dim: 3, "
# The last batch of an epoch has one image, which only one of the processes works on.
VAE = DATA + "train: {epochs: 2, batch_size: 32, gradient_clip: 5}\n"
VAE += "model: {kind: vae, hidden: [9], "
CONFIGS = {
    "full": MIXTURE + "covariance: full, precision: float64}",
    "tied": MIXTURE + "covariance: tied, precision: float64}",
    "diag": MIXTURE + "covariance: diag, precision: float64}",
    "spherical": MIXTURE + "covariance: spherical, precision: float64}",
    "lowrank": MIXTURE + "covariance: lowrank, factors: 2, precision: float64}",
    "single": MIXTURE + "covariance: diag, precision: float32}",
    "ppca": LINEAR + "kind: ppca}",
    "fa": LINEAR + "kind: fa}",
    "vae": VAE + "sigma_mode: pixel}",
    "weighted": VAE.replace("gradient_clip: 5", "sigma_weighting: 0.5") + "sigma_mode: shared}",
    "noisy": VAE.replace("data: {", "data: {transform: dequantize, ") + "conditional: false}",
}
SINGLE = {"single", "vae", "weighted", "noisy"}
"""Those that are computed in float32."""
# 195 steps an epoch, with a checkpoint after 100 of them
LONG = """\
model: {kind: vae, hidden: [32], conditional: false}
data: {limit: 390, validation_size: 500, labels: [4]}
train: {epochs: 4, batch_size: 2, checkpoint_minutes: 1.0e-9}
evaluate: {importance_samples: 5}
"""


def by_two_processes(jobs: list[dict[str, Any]], cwd: Path) -> tuple[list[list[int]], str]:
    """The exit codes of both processes of each job, and what they say."""
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run(
        [sys.executable, script],
        input=json.dumps(jobs),
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of all configs, each fitted by two processes, in a folder of their names."""
    folder = tmp_path_factory.mktemp("together")
    for name, text in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "long.yaml").write_text(LONG)
    jobs = [{"fit": f"{name}.yaml", "runs": name} for name in CONFIGS]
    jobs += [
        {"train": ["long.yaml", "--quick", "--runs-dir", "whole"]},
        {"train": ["--resume", "latest", "--runs-dir", "whole"]},  # it is finished already
        {"train": ["long.yaml", "--quick", "--runs-dir", "killed"], "kill": "killed"},
    ]
    codes, said = by_two_processes(jobs, folder)
    assert codes[:-1] == [[0, 0]] * (len(jobs) - 1), said
    assert codes[-1] == [1, -signal.SIGKILL], said
    return folder


def only(runs: Path) -> Path:
    (run,) = runs.iterdir()
    return run


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / "model.safetensors")


def numbers(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without what is no number."""
    return [{k: v for k, v in line.items() if k != "stopped"} for line in timeless(run)]


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_fit_what_one_does(folder: Path, tmp_path: Path, name: str) -> None:
    one, two = fitted(str(folder / f"{name}.yaml"), tmp_path), only(folder / name)
    assert one is not None
    precise = {"rtol": 1e-4, "atol": 1e-5} if name in SINGLE else {"rtol": 1e-9, "atol": 1e-11}
    ours, theirs = weights(two), weights(one)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert_close(ours[key], value, **precise)
    assert_close(numbers(two), numbers(one), **precise)


def test_one_process_goes_on_where_the_second_was_killed(folder: Path, invoke: Any) -> None:
    run = only(folder / "killed")
    info = json.loads((run / "run.json").read_text())
    assert (info["status"], info["exit_code"]) == ("failed", 1)
    assert info["error"].startswith("another of the 2 processes has ended, and so does this one; ")
    assert len(timeless(run)) < 4
    done = invoke("train", "--resume", run, "--quick")
    assert done.exit_code == 0, done.stderr
    whole = only(folder / "whole")
    assert_close(weights(run), weights(whole), rtol=1e-3, atol=1e-4)
    assert json.loads((whole / "environment.json").read_text())["processes"] == 2
    resumption = json.loads((run / "environment.json").read_text())["resumptions"][0]
    assert resumption["processes"] == 1


# Shares


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_the_parts_of_a_mean_add_up(count: int, n: int) -> None:
    processes = [Processes(rank, count) for rank in range(count)]
    values = torch.randn(n, 3, dtype=torch.float64)
    parts = [each.part_of_mean(values[each.rows(n)], n) for each in processes]
    assert_close(torch.stack(parts).sum(), values.mean())
    if n >= count:  # each row is that of one process
        assert torch.equal(torch.cat([each.share(values) for each in processes]), values)


def test_a_share_of_a_batch_gets_the_noise_that_it_gets_in_the_whole() -> None:
    model = rough_vae(784, 0.1).double()
    x, label = torch.rand(11, 784, dtype=torch.float64), torch.arange(11) % 10
    torch.manual_seed(3)
    whole = elbo_terms(model, x, label)
    after = torch.rand(())
    for rank in range(3):
        rows = Processes(rank, 3).rows(11)
        torch.manual_seed(3)
        part = elbo_terms(model, x, label, rows)
        assert torch.rand(()) == after  # all processes go on with the same random numbers
        assert_close(part.distortion, whole.distortion[rows])
        assert_close(part.rate, whole.rate[rows])


# The command


def torchrun(cwd: Path, *arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*TORCHRUN, "-m", "vaexp", *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_torchrun_stopped_by_ctrl_c_and_resumed_is_as_if_never_stopped(
    folder: Path, wait_for_epochs: Any
) -> None:
    whole = only(folder / "whole")
    process = torchrun(folder, "train", "long.yaml", "--quick", "--runs-dir", "parts")
    run = wait_for_epochs(folder / "parts", 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    info = json.loads((run / "run.json").read_text())
    assert (info["status"], info["exit_code"]) == ("interrupted", 130), err
    assert process.returncode != 0
    assert out == ""
    assert len(timeless(run)) < 4

    process = torchrun(folder, "train", "--resume", run, "--quick")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == f"{run}\n"
    assert_same_results(whole, run)


@pytest.fixture
def one_of_two(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make this process the first or the second of two, as torchrun does."""

    def rank(rank: int) -> None:
        for name in ("RANK", "LOCAL_RANK"):
            monkeypatch.setenv(name, str(rank))
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            monkeypatch.setenv(name, "2")
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")

    return rank


def test_another_command_than_train_is_refused_once(one_of_two: Any, invoke: Any) -> None:
    said = []
    for rank in range(2):
        one_of_two(rank)
        done = invoke("configs", "list")
        assert (done.exit_code, done.stdout) == (2, "")
        said.append(done.stderr)
    assert said == ["torchrun: vaexp configs is no work for several processes; train is\n", ""]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("train.batch_size=1", "train.batch_size"),
        ("data.limit=1", "training images"),
        ("data.validation_size=1", "validation images"),
    ],
)
def test_what_two_processes_cannot_share_is_refused(
    one_of_two: Any, invoke: Any, tmp_path: Path, setting: str, name: str
) -> None:
    one_of_two(0)
    done = invoke("train", "quickstart", setting, "--runs-dir", tmp_path / "runs")
    assert done.exit_code == 2, done.stderr
    line = f"2 processes cannot share {name} = 1: each of them needs one image at least; "
    assert done.stderr.splitlines()[-1] == line + "start fewer processes"
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_prints_once(one_of_two: Any, invoke: Any) -> None:
    said = []
    for rank in range(2):
        one_of_two(rank)
        done = invoke("train", "quickstart", "--dry-run")
        assert (done.exit_code, done.stderr) == (0, "")
        said.append(done.stdout)
    assert said[0].startswith("name: quickstart")
    assert said[1] == ""


def test_the_python_api_refuses(one_of_two: Any) -> None:
    one_of_two(0)
    with pytest.raises(UserError, match="torchrun -m vaexp train CONFIG"):
        vaexp.train("quickstart")


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("quickstart", ["data.limit=10", "train.batch_size=10", "device=cpu"])
    experiment = replace(Experiment.prepare(config), device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError) as refused:
        check_shares(experiment, Processes(0, 4, 0, 2))
    said = "2 processes of this machine need a GPU each, and it has 1; start fewer, or give "
    assert str(refused.value) == said + "device=cpu"
    check_shares(experiment, Processes(0, 4, 0, 1))  # as on four machines
