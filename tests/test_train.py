"""Training from the command line: what it prints and leaves behind, and how it ends."""

import json
import os
import pty
import re
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import (
    FILES,
    assert_left_behind,
    assert_same_results,
    files,
    logged,
    strict_json,
    timeless,
)

from vaexp.config import load_config
from vaexp.runs.folder import RunFolder

VAE_FILES = FILES | {
    "evidence/rate.npz",
    "figures/latent_plane.png",
    "figures/posterior.png",
    "figures/training_curves.png",
}


# A run that finishes


def test_stdout_is_the_run_folder(
    training: "subprocess.CompletedProcess[str]", fixed: Path
) -> None:
    assert re.fullmatch(r"runs/\d{8}-\d{6}-fixed-[0-9a-f]{4}\n", training.stdout)
    assert fixed.is_dir()


def test_a_pipe_gets_plain_lines_and_the_log_has_them_too(
    training: "subprocess.CompletedProcess[str]", fixed: Path
) -> None:
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", training.stderr) is None
    lines = training.stderr.splitlines()
    assert len([line for line in lines if line.startswith("epoch ")]) == 60
    assert any(re.match(r"epoch 60/60 .*elbo -\d+\.\d+", line) for line in lines)
    assert logged(fixed) == training.stderr
    times = [line[:19] for line in (fixed / "train.log").read_text().splitlines()]
    assert times == sorted(times)
    start, end = (json.loads((fixed / "run.json").read_text())[key] for key in ("start", "end"))
    assert start[:19] <= times[0].replace(" ", "T") <= times[-1].replace(" ", "T") <= end[:19]


def test_every_promised_file_is_there(fixed: Path) -> None:
    assert_left_behind(fixed, VAE_FILES)
    for figure in (fixed / "figures").iterdir():
        assert figure.read_bytes().startswith(b"\x89PNG")


def test_run_json(fixed: Path) -> None:
    info = strict_json((fixed / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["exit_code"] == 0
    assert info["error"] is None
    assert info["start"] <= info["end"]
    assert {"pid", "host"} < info.keys()


def test_environment_json(fixed: Path) -> None:
    environment = strict_json((fixed / "environment.json").read_text())
    assert environment["seed"] == 1
    assert environment["device"] == "cpu"
    assert environment["threads"] == 1
    assert environment["argv"][1:] == ["train", "tiny.yaml", "name=fixed"]
    assert {"python", "vaexp", "torch", "numpy"} <= environment["versions"].keys()
    assert all(
        re.fullmatch("[0-9a-f]{64}", environment[f"{of}_sha256"]) for of in ("config", "data")
    )
    git = environment["git"]
    known = isinstance(git, dict) and git.keys() == {"commit", "dirty"}
    assert known or git.startswith("unknown, because ")


def test_one_record_per_epoch(fixed: Path) -> None:
    lines = timeless(fixed)
    assert [line["epoch"] for line in lines] == list(range(1, 61))
    assert [line["step"] for line in lines] == list(range(8, 481, 8))
    for line in lines:
        for split in ("train", "validation"):
            terms = line[split]
            assert terms["elbo"] == pytest.approx(-terms["distortion"] - terms["rate"])
    assert lines[-1]["validation"]["elbo"] > lines[0]["validation"]["elbo"]


def test_every_number_carries_what_it_is(fixed: Path, learned: Path, bernoulli: Path) -> None:
    for run, measure, of, floor in [
        (fixed, "density", "x given label", {"sigma": 1.0}),
        (learned, "density", "x given label", {"sigma_floor": 0.001}),
        (bernoulli, "mass", "x", {}),
    ]:
        metrics = strict_json((run / "metrics.json").read_text())
        assert list(metrics) == ["train", "validation", "test"]
        assert metrics["train"]["elbo"]["n"] == 256
        assert metrics["test"]["elbo"]["n"] == 982 + 1009
        for split, entries in metrics.items():
            names = {"elbo", "rate", "distortion", "rmse_mean", "rmse_sample"}
            names |= {"sigma"} if floor else set()
            names |= {"iw_bound"} if split == "test" else set()
            further = {"mutual_information", "marginal_kl", "rate_bits"}
            further |= {"active_units", "collapsed_latents"}
            if of == "x given label":
                further |= {"mutual_information_given_label", "marginal_kl_given_label"}
            assert entries.keys() == names | (further if split == "test" else set())
            assert all(
                (entries[name].get("group") == "rate") == (name in further) for name in entries
            )
            entries = {name: entries[name] for name in names}
            for name, entry in entries.items():
                assert entry["unit"] == (
                    "units of x" if "rmse" in name or name == "sigma" else "nats"
                )
                assert entry["se"] >= 0
                assert ("mc_se" in entry) == (name != "rate")
                likelihood = name in ("elbo", "iw_bound", "distortion")
                assert (entry.get("measure") == measure) == likelihood
                assert (entry.get("of") == of) == likelihood
                assert (entry.get("kind") == "lower_bound") == (name in ("elbo", "iw_bound"))
                if likelihood:
                    assert floor.items() <= entry.items()
            values = {name: entry["value"] for name, entry in entries.items()}
            assert values["elbo"] == pytest.approx(-values["rate"] - values["distortion"])
        assert metrics["test"]["iw_bound"]["k"] == 5
        assert metrics["test"]["iw_bound"]["value"] > metrics["test"]["elbo"]["value"]


def test_a_unit_sigma_has_the_ceiling_of_its_density(fixed: Path) -> None:
    test = strict_json((fixed / "metrics.json").read_text())["test"]
    expected = 784 * (np.log(2 * np.pi) + test["rmse_mean"]["value"] ** 2) / 2
    assert test["distortion"]["value"] == pytest.approx(expected, abs=1e-3)
    assert test["elbo"]["value"] < -720.45


def test_per_example_values_are_behind_the_metrics(
    fixed: Path, learned: Path, bernoulli: Path
) -> None:
    for run in (fixed, learned, bernoulli):
        test = strict_json((run / "metrics.json").read_text())["test"]
        with np.load(run / "per_example.npz") as arrays:
            values_of = {key for key, entry in test.items() if entry["aggregate"] != "whole"}
            # where an image changes the mean by more than its own value
            parts = {name for name in values_of if re.match("mutual_info|marginal_kl", name)}
            assert set(arrays) == {*values_of, "label", *(f"{name}_influence" for name in parts)}
            assert set(arrays["label"]) == {4, 9}
            for name in values_of:
                entry = test[name]
                values = arrays[name]
                assert values.shape == (1991,)
                assert values.dtype == np.float64
                mean = values.mean()
                influence = arrays[f"{name}_influence"] if name in parts else values
                se = influence.std(ddof=1) / np.sqrt(1991)
                if name.startswith("rmse"):
                    mean = np.sqrt(mean)
                    se /= 2 * mean
                assert entry["value"] == pytest.approx(mean, rel=1e-12)
                assert entry["se"] == pytest.approx(se, rel=1e-9, abs=1e-12)


def test_the_config_in_the_folder_is_the_resolved_one(session_cli: Any, fixed: Path) -> None:
    expected = load_config(str(session_cli.cwd / "tiny.yaml"), ["name=fixed"])
    assert RunFolder.open(fixed).config() == expected


# The same again, on a terminal


@pytest.fixture(scope="module")
def again(session_cli: Any, fixed: Path) -> tuple[Path, str]:
    """The run made from fixed's config.yaml in another folder, and what its terminal showed."""
    from conftest import VAEXP

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [VAEXP, "train", f"{fixed}/config.yaml", "--runs-dir", "other runs/again"],
        cwd=session_cli.cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "120"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        encoding="utf-8",
    )
    os.close(theirs)
    shown = b""
    while True:
        if select.select([ours], [], [], 60)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # how Linux reports that the other end is closed
                chunk = b""
            shown += chunk
            if not chunk:
                break
        else:
            process.kill()
            break
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, shown
    lines = out.splitlines()
    assert len(lines) == 1
    return session_cli.cwd / lines[0], shown.decode()


def test_the_same_config_gives_the_same_bytes(fixed: Path, again: tuple[Path, str]) -> None:
    assert again[0].parent.name == "again"
    assert_same_results(fixed, again[0], VAE_FILES)


def test_a_terminal_gets_a_bar(again: tuple[Path, str]) -> None:
    run, shown = again
    assert "\x1b[" in shown
    assert "━" in shown
    assert "images/s" in shown
    assert "\x1b" not in (run / "train.log").read_text()
    assert "epoch 60/60" in (run / "train.log").read_text()


# Stopped and resumed


def test_killed_stopped_and_resumed_is_as_if_never_stopped(
    cli: Any, fixed: Path, wait_for_epochs: Any
) -> None:
    runs = cli.cwd / "runs"
    (cli.cwd / "tiny.yaml").write_bytes((fixed / "config.yaml").read_bytes())

    def status(run: Path) -> dict[str, Any]:
        [listed] = json.loads(cli.ok("runs", "--json"))
        assert listed["run"] == f"runs/{run.name}"
        return listed

    process = cli.start("train", "tiny.yaml")
    run = wait_for_epochs(runs, 3)
    process.send_signal(signal.SIGSTOP)
    refused = cli("train", "--resume", run)
    listed = status(run)
    process.kill()
    out, _ = process.communicate(timeout=60)
    assert out == ""
    assert listed["status"] == "running"
    assert refused.returncode == 2
    assert "still running" in refused.stderr
    assert status(run)["status"] == "dead"
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"epoch": 99, "tra')  # what a kill in the middle of a write leaves

    for number, code, epochs in [(signal.SIGTERM, 143, 15), (signal.SIGINT, 130, 30)]:
        process = cli.start("train", "--resume", run)
        wait_for_epochs(runs, epochs)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert out == ""
        assert "Traceback" not in err
        assert f"vaexp train --resume {run}" in err
        assert status(run)["status"] == "interrupted"
        info = strict_json((run / "run.json").read_text())
        assert info["exit_code"] == code

    out = cli.ok("train", "--resume", f"{run}/", "tiny.yaml")
    assert out == f"{run}\n"
    assert status(run)["status"] == "finished"
    assert len(strict_json((run / "run.json").read_text())["resumed"]) == 3
    resumptions = strict_json((run / "environment.json").read_text())["resumptions"]
    assert len(resumptions) == 3
    for resumption in resumptions:
        assert {"began", "versions", "threads", "host", "platform"} <= resumption.keys()
    assert_same_results(fixed, run, VAE_FILES)
    assert files(run) == VAE_FILES  # nothing half-written stays behind


@pytest.mark.slow
def test_only_one_of_two_resumes_goes_on(cli: Any, fixed: Path, wait_for_epochs: Any) -> None:
    process = cli.start("train", fixed, "--runs-dir", "runs")
    run = wait_for_epochs(cli.cwd / "runs", 3)
    process.kill()
    process.communicate(timeout=60)
    both = [cli.start("train", "--resume", run) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], errors
    assert_same_results(fixed, run, VAE_FILES)


def test_resuming_a_finished_run_prints_it_and_changes_nothing(cli: Any, fixed: Path) -> None:
    before = {name: (fixed / name).stat().st_mtime_ns for name in files(fixed)}
    done = cli("train", "--resume", fixed)
    assert done.returncode == 0
    assert done.stdout == f"{fixed}\n"
    assert "finished already" in done.stderr
    assert json.loads(cli.ok("train", "--resume", fixed, "--json")) == {"run": str(fixed)}
    assert {name: (fixed / name).stat().st_mtime_ns for name in files(fixed)} == before


def test_resume_refuses_another_config(invoke: Any, fixed: Path) -> None:
    config = fixed / "config.yaml"
    for arguments in (["quickstart"], [config, "model.beta=3"], [config, "seed=2"]):
        done = invoke("train", *arguments, "--resume", fixed)
        assert done.exit_code == 2
        assert "a resumed run keeps its config" in done.stderr
        assert done.stdout == ""
    assert invoke("train", config, "--resume", fixed).exit_code == 0


def test_resume_runs_no_code_from_the_folder(
    invoke: Any, fixed: Path, copy_of: Any, change_json: Any, tmp_path: Path
) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    run = copy_of(fixed)
    change_json(run / "run.json", status="interrupted")
    torch.save({"model": Evil(), "epoch": 1}, run / "checkpoints" / "state.pt")
    done = invoke("train", "--resume", run)
    assert done.exit_code == 1
    assert "state.pt: damaged" in done.stderr
    assert not (tmp_path / "owned").exists()


RESUMABLE = {
    "fresh pixels each epoch": (
        ["model.likelihood=bernoulli", "data.transform=binarize_stochastic"],
        ["train.epochs=40"],
    ),
    "schedules": (
        ["model.sigma_mode=pixel", "model.sigma=0.5", "model.beta_warmup=20"],
        ["train.schedule=cosine", "train.epochs=null", "train.steps=301", "train.gradient_clip=50"],
    ),
    "early stopping": (
        ["model.conditional=false", "data.transform=dequantize"],
        ["train.epochs=200", "train.patience=3", "train.learning_rate=0.01"],
    ),
    "sgd": (["model.beta=2"], ["train.optimizer=sgd", "train.learning_rate=1e-4"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMABLE)
def test_every_kind_of_training_resumes(
    cli: Any, session_cli: Any, wait_for_epochs: Any, name: str
) -> None:
    settings = [setting for group in RESUMABLE[name] for setting in group]
    config = session_cli.cwd / "tiny.yaml"
    whole = cli.cwd / cli.ok("train", config, *settings, "--runs-dir", "whole").strip()
    process = cli.start("train", config, *settings, "--runs-dir", "parts")
    run = wait_for_epochs(cli.cwd / "parts", 4)
    process.kill()
    process.communicate(timeout=60)
    cli.ok("train", "--resume", run)
    assert_same_results(whole, run, VAE_FILES)


# A run that fails


@pytest.mark.parametrize(
    "settings",
    [
        ["train.learning_rate=1e6"],
        # the factor of the KL term is 0 in the only step of epoch 1, and overflows in epoch 2
        ["model.beta=1e300", "model.beta_warmup=2", "train.batch_size=256"],
        [
            "model.beta=1e300",
            "model.beta_warmup=2",
            "train.batch_size=256",
            "data.validation_size=0",
        ],
        ["train.learning_rate=1e10", "train.batch_size=256", "train.epochs=1"],
        [
            "train.learning_rate=1e10",
            "train.batch_size=256",
            "train.epochs=1",
            "data.validation_size=0",
        ],
    ],
    ids=["at once", "later", "without validation", "in the last step", "unseen until the end"],
)
def test_divergence_is_said_and_leaves_the_last_good_epoch(
    invoke: Any, session_cli: Any, elsewhere: Path, settings: list[str]
) -> None:
    config = session_cli.cwd / "tiny.yaml"
    done = invoke("train", config, "train.optimizer=sgd", "train.momentum=0.9", *settings)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == 1
    assert done.stdout == ""
    [path] = (elsewhere / "runs").iterdir()
    run = RunFolder.open(path)
    info = run.info()
    assert (info["status"], info["exit_code"]) == ("failed", 1)
    assert re.search(r"distortion|rate|elbo|weights", info["error"])
    assert re.search(r"epoch \d+, step \d+|(train|validation|test) images", info["error"])
    assert f"runs/{path.name}" in done.stderr
    assert info["error"] in done.stderr
    assert not (path / "metrics.json").exists()
    kept = run.records()
    for record in kept:
        assert np.isfinite(record["train"]["elbo"])
    if "model.beta=1e300" in settings:
        assert [record["epoch"] for record in kept] == [1]
    if kept:
        weights, epoch = run.weights()
        assert epoch == kept[-1]["epoch"]
        assert all(tensor.isfinite().all() for tensor in weights.values())
        drawn = invoke("sample", path)
        assert drawn.exit_code == 0, drawn.stderr
        assert Path(drawn.stdout.strip()).is_file()
    else:
        drawn = invoke("sample", path)
        assert drawn.exit_code == 1
        assert "model.safetensors" in drawn.stderr
