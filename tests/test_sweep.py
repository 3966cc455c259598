"""The trials of a sweep at work: each exactly once, taken up again, and stopped."""

import csv
import errno
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import VAEXP, Cli
from filelock import FileLock
from run_folders import assert_same_results
from typer.testing import CliRunner

from vaexp.cli import app
from vaexp.errors import RunError
from vaexp.evaluation.tails import Tails
from vaexp.experiment import train as training
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import HEARTBEAT
from vaexp.sweeps.folder import State, Sweep, Task
from vaexp.sweeps.jobs import Child, Here, Jobs, environment
from vaexp.sweeps.request import Options, Request
from vaexp.sweeps.summary import write_summary

CONFIG = """\
model: {kind: vae, hidden: [8]}
data: {limit: 256, validation_size: 500, labels: [4, 9]}
train: {epochs: 1, batch_size: 64}
evaluate: {importance_samples: 0}
"""


@pytest.fixture
def tiny(elsewhere: Path) -> Path:
    (elsewhere / "tiny.yaml").write_text(CONFIG)
    return elsewhere


def begun(folder: Path, *grid: str, seeds: int | None = None) -> Sweep:
    """A sweep that has been asked for and not begun to work."""
    request = Request.of_config("tiny.yaml", [], Options(grid=grid, seeds=seeds))
    sweep = Sweep.begin(folder, request)
    sweep.write_table()
    return sweep


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(folder: Path) -> list[str]:
    return [row["status"] for row in table(folder)]


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def runs_of(folder: Path) -> list[Path]:
    """The run folders of all trials."""
    return sorted(path.parent for path in folder.glob("trials/*/*/run.json"))


# The folder of a sweep


def test_the_same_command_again_finds_the_same_folder_and_adds_what_is_new(tiny: Path) -> None:
    command = ["sweep", "tiny.yaml", "--print-commands"]
    first = invoke(*command, "--grid", "model.beta=1,4", "--grid", "seed=1,2")
    assert first.exit_code == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines == [f"vaexp sweep sweeps/tiny-beta --trial {i}" for i in range(1, 5)]
    record = (tiny / "sweeps/tiny-beta/sweep.yaml").read_text()
    assert invoke(*command, "--grid", "model.beta=1,4", "--grid", "seed=1,2").stdout == first.stdout
    assert (tiny / "sweeps/tiny-beta/sweep.yaml").read_text() == record

    more = invoke(*command, "--grid", "model.beta=0,1,4", "--seeds", 3)
    numbers = [int(line.split()[-1]) for line in more.stdout.splitlines()]
    assert numbers == list(range(1, 10))
    rows = table(tiny / "sweeps/tiny-beta")
    settings = [(row["model.beta"], row["seed"]) for row in rows]
    assert settings[:4] == [("1", "1"), ("1", "2"), ("4", "1"), ("4", "2")]
    assert sorted(settings) == [(beta, seed) for beta in "014" for seed in "123"]

    fewer = invoke(*command, "--grid", "model.beta=4", "--grid", "seed=2")
    assert fewer.stdout == "vaexp sweep sweeps/tiny-beta --trial 4\n"
    by_folder = invoke("sweep", "sweeps/tiny-beta", "--print-commands")
    assert by_folder.stdout == more.stdout
    added = invoke("sweep", "sweeps/tiny-beta/sweep.yaml", "--grid", "model.beta=9", "--dry-run")
    assert " 10 " in added.stdout


def test_repeating_a_sweep_with_seeds_keeps_its_trials(tiny: Path) -> None:
    begun(tiny / "s", "model.beta=1,4")
    sweep = begun(tiny / "s", "model.beta=1,4", seeds=2)
    assert [trial.settings for trial in sweep.trials] == [
        {"model.beta": 1},
        {"model.beta": 4},
        {"model.beta": 1, "seed": 2},
        {"model.beta": 4, "seed": 2},
    ]
    assert [row["seed"] for row in table(tiny / "s")] == ["1", "1", "2", "2"]


def test_other_settings_are_refused_with_what_changed_and_where(tiny: Path) -> None:
    grid = ["--grid", "model.beta=1,4", "--print-commands"]
    assert invoke("sweep", "tiny.yaml", *grid).exit_code == 0
    record = tiny / "sweeps/tiny-beta/sweep.yaml"
    before = record.read_text()
    line = before.splitlines().index("    epochs: 1") + 1
    (tiny / "tiny.yaml").write_text(CONFIG.replace("hidden: [8]", "hidden: [9]"))
    done = invoke("sweep", "tiny.yaml", "train.epochs=3", *grid)
    assert (done.exit_code, done.stdout) == (2, "")
    hidden, epochs, way_on = done.stderr.splitlines()
    assert hidden.startswith(
        "tiny.yaml:1:28: model.hidden: [9], but the sweep was begun with [8] ("
    )
    place = f"sweeps/tiny-beta/sweep.yaml:{line}:13"
    assert epochs.startswith("override train.epochs=3: train.epochs: 3, but the sweep was begun")
    assert epochs.endswith(f"with 1 ({place})")
    assert "--folder DIR or name=NAME begins another sweep" in way_on
    assert record.read_text() == before
    # the base value of what every trial sets itself does not count, nor does another folder
    (tiny / "tiny.yaml").write_text(CONFIG.replace("kind: vae", "kind: vae, beta: 7"))
    assert invoke("sweep", "tiny.yaml", *grid).exit_code == 0
    assert invoke("sweep", "tiny.yaml", "seed=3", "name=other", *grid).exit_code == 0
    assert (tiny / "sweeps/other-beta").is_dir()


def test_a_folder_that_is_not_a_sweep_is_left_alone(tiny: Path) -> None:
    (tiny / "mine").mkdir()
    (tiny / "mine/thesis.txt").write_text("")
    done = invoke("sweep", "tiny.yaml", "--seeds", 2, "--folder", "mine")
    assert done.exit_code == 2
    assert "mine: not the folder of a sweep, and not empty" in done.stderr
    assert [path.name for path in (tiny / "mine").iterdir()] == ["thesis.txt"]
    sweep = begun(tiny / "s", "seed=1,2")
    (sweep.path / "sweep.yaml").write_text("config: tiny\nbase: {model: {kind: vae}}\nasked: []\n")
    done = invoke("sweep", "s", "--trial", 1)
    assert done.exit_code == 2
    assert "sweep.yaml:3:8: asked: " in done.stderr


# One trial


def test_a_trial_is_trained_as_train_would_and_only_once(tiny: Path) -> None:
    sweep = begun(tiny / "s", "model.beta=1,4")
    done = invoke("sweep", "s", "--trial", 2)
    assert done.exit_code == 0, done.stderr
    run = Path(done.stdout.strip())
    assert run.parent == Path("s/trials/002-beta-4")
    assert statuses(sweep.path) == ["waiting", "finished"]
    row = table(sweep.path)[1]
    assert row["run"] == f"trials/002-beta-4/{run.name}"
    metrics = RunFolder.open(run).metrics()["test"]
    assert float(row["elbo"]) == metrics["elbo"]["value"]
    assert float(row["elbo_se"]) == metrics["elbo"]["se"]

    again = invoke("sweep", "s", "--trial", 2)
    assert (again.exit_code, again.stdout) == (0, done.stdout)
    assert "trial 2 is finished already" in again.stderr
    alone = invoke("train", "tiny.yaml", "model.beta=4", "name=beta-4")
    assert alone.exit_code == 0, alone.stderr
    assert_same_results(run, Path(alone.stdout.strip()))
    assert invoke("sweep", "s", "--trial", 3).exit_code == 2
    assert not (sweep.path / "comparison.md").exists()


def test_a_trial_that_another_process_holds_is_left_to_it(tiny: Path) -> None:
    sweep = begun(tiny / "s", "model.beta=1,4")
    folder = sweep.folder(sweep.trial(1))
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        done = invoke("sweep", "s", "--trial", 1)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "trial 1 is with another process" in done.stderr
    assert f"{folder.name}/.lock is held by" in done.stderr
    assert runs_of(sweep.path) == []


def test_a_trial_that_another_host_trains_is_left_to_it(tiny: Path, change_json: Any) -> None:
    sweep = begun(tiny / "s", "model.beta=1,4")
    trial = sweep.trial(1)
    run = RunFolder.create(sweep.folder(trial), sweep.config(trial))
    owner = {"host": "another", "pid": 17, "pid_started": 3.5}
    change_json(run.path / "run.json", status="running", **owner)
    (run.path / HEARTBEAT).write_text(json.dumps({"at": time.time(), **owner}))
    done = invoke("sweep", "s", "--trial", 1)
    assert done.exit_code == 0
    assert "trial 1 is with another process: 17 on another\n" in done.stderr


def test_a_sweep_without_figures(tiny: Path) -> None:
    command = ["sweep", "tiny.yaml", "--grid", "model.beta=1", "--no-figures"]
    line = invoke(*command, "--print-commands").stdout
    assert line == "vaexp sweep sweeps/tiny-beta --trial 1 --no-figures\n"
    done = invoke(*command)
    assert done.exit_code == 0, done.stderr
    (run,) = runs_of(tiny / "sweeps/tiny-beta")
    assert RunFolder(run).status() == "finished"
    assert not list(run.glob("figures/*"))


def test_a_sweep_on_a_disk_without_locks(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    sweep = begun(tiny / "s", "model.beta=1,4")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    done = invoke("sweep", "s", "--trial", 1)
    assert done.exit_code == 0, done.stderr
    assert "this disk has no locks (No locks available)" in done.stderr
    assert statuses(sweep.path) == ["finished", "waiting"]


def test_a_trial_that_failed_goes_on_in_its_run(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begun(tiny / "s", "model.beta=1,4")
    with monkeypatch.context() as patch:

        def fails(*_: Any) -> None:
            raise RunError("the disk\nis full")

        patch.setattr(training, "_measure", fails)
        done = invoke("sweep", "s", "--trial", 1)
    assert (done.exit_code, done.stdout) == (1, "")
    assert statuses(sweep.path) == ["failed", "waiting"]
    assert "is full" in table(sweep.path)[0]["error"]
    [run] = runs_of(sweep.path)
    done = invoke("sweep", "s", "--trial", 1)
    assert done.exit_code == 0, done.stderr
    assert runs_of(sweep.path) == [run]
    assert "resuming after epoch 1" in (run / "train.log").read_text()
    assert statuses(sweep.path) == ["finished", "waiting"]


def test_a_trial_that_could_not_start_says_why(tiny: Path) -> None:
    """Only the data show that there are too few images; nothing that could fail has begun."""
    sweep = begun(tiny / "s", "data.limit=256,20000")
    done = invoke("sweep", "s", "--trial", 2)
    assert done.exit_code == 2
    assert statuses(sweep.path) == ["waiting", "failed"]
    assert table(sweep.path)[1]["error"] in done.stderr
    assert runs_of(sweep.path) == []


# Several at once. Most tests here take a short script in the place of vaexp.

SCRIPT = """\
import os, signal, sys, time
folder, number = sys.argv[2], int(sys.argv[4])
print("trial", number, os.environ.get("OMP_NUM_THREADS"), os.getsid(0) == os.getpid(),
      time.monotonic(), file=sys.stderr, flush=True)
"""


class Recorder:
    """Notes what the jobs tell."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.most = 0

    def started(self, child: Child) -> None:
        self.events.append(("started", child.task.trial.number))

    def ended(self, child: Child, state: State) -> None:
        self.events.append((state.status, child.task.trial.number))
        if state.error:
            self.events.append(("error", state.error))

    def stopping(self, why: str) -> None:
        self.events.append(("stopping", why))

    def tick(self, running: Any, _waiting: int) -> None:
        self.most = max(self.most, len(running))


@pytest.fixture
def work(tiny: Path) -> Callable[..., tuple[Jobs, Recorder, dict[int, State]]]:
    """Run four trials by a script; ``stop`` are the seconds after which Ctrl-C is pressed."""

    def work(
        script: str, jobs: int = 1, fail_fast: bool = False, stop: tuple[float, ...] = ()
    ) -> tuple[Jobs, Recorder, dict[int, State]]:
        sweep = begun(tiny / "s", "seed=1,2,3,4")
        recorder = Recorder()
        program = (sys.executable, "-c", SCRIPT + script)
        worker = Jobs(jobs, fail_fast, recorder, Here(jobs, program))
        timers = [threading.Timer(t, os.kill, (os.getpid(), signal.SIGINT)) for t in stop]
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        for timer in timers:
            timer.start()
        try:
            ended = worker.run([Task(sweep, trial) for trial in sweep.trials])
        finally:
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            signal.signal(signal.SIGINT, before)
            for timer in timers:
                timer.cancel()
        return worker, recorder, {task.trial.number: state for task, state in ended.items()}

    return work


def test_jobs_share_the_cores_and_run_in_sessions_of_their_own(
    work: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("vaexp.sweeps.jobs.cores", lambda: 7)
    _, recorder, _ = work("time.sleep(0.3)", jobs=3)
    assert recorder.most == 3
    logs = [path.read_text().split() for path in sorted(tiny.glob("s/trials/*/log.txt"))]
    assert [words[:4] for words in logs] == [["trial", str(i), "2", "True"] for i in range(1, 5)]


def test_what_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-1f")
    slots = [environment(slot, 3) for slot in range(3)]
    assert slots == [{"CUDA_VISIBLE_DEVICES": name} for name in ("3", "GPU-1f", "3")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environment(0, 3) == {}


def test_a_failure_is_told_at_once_with_its_last_line_and_the_others_go_on(work: Any) -> None:
    fails = 'if number == 2: print("Error: no\\nthe end\\n", file=sys.stderr); sys.exit(1)'
    _, recorder, ended = work(fails)
    assert [state.status for state in ended.values()] == ["elsewhere", "failed", *["elsewhere"] * 2]
    told = recorder.events
    assert told[told.index(("failed", 2)) + 1 :][:2] == [("error", "the end"), ("started", 3)]


def test_a_killed_process_is_told(work: Any) -> None:
    _, recorder, ended = work("os.kill(os.getpid(), signal.SIGKILL)" + " if number == 3 else 0")
    assert ended[3].status == "killed"
    assert ("error", "the process was killed by SIGKILL") in recorder.events
    assert len(ended) == 4


def test_fail_fast_stops_what_is_running_and_starts_nothing_more(work: Any) -> None:
    fails = "if number == 1: time.sleep(0.2); sys.exit(1)\ntime.sleep(60)"
    began = time.monotonic()
    _, recorder, ended = work(fails, jobs=2, fail_fast=True)
    assert time.monotonic() - began < 20
    assert {number: state.status for number, state in ended.items()} == {1: "failed", 2: "killed"}
    assert ("stopping", "--fail-fast") in recorder.events


ON_CTRL_C = """
def note(*_):
    print("asked to stop", file=sys.stderr, flush=True)
    if {stops}: sys.exit(130)
signal.signal(signal.SIGINT, note)
time.sleep(60)
time.sleep(60)
"""


def test_ctrl_c_asks_the_running_ones_to_stop_and_starts_nothing_more(
    work: Any, tiny: Path
) -> None:
    began = time.monotonic()
    worker, recorder, ended = work(ON_CTRL_C.format(stops=True), jobs=2, stop=(1.5,))
    assert time.monotonic() - began < 20
    assert worker.stopped_by == signal.SIGINT
    assert sorted(ended) == [1, 2]
    assert recorder.events.count(("stopping", "Ctrl-C")) == 1
    for log in tiny.glob("s/trials/*/log.txt"):
        assert log.read_text().count("asked to stop") == 1


def test_a_second_ctrl_c_kills(work: Any) -> None:
    began = time.monotonic()
    _, _, ended = work(ON_CTRL_C.format(stops=False), jobs=2, stop=(1.5, 2.0))
    assert time.monotonic() - began < 20
    assert [state.status for state in ended.values()] == ["killed", "killed"]


class Distant:
    """A process on another machine, which hears of a signal after a while. It presses Ctrl-C."""

    def __init__(self) -> None:
        self.pressed = False
        self.sent: dict[int, float] = {}

    def poll(self) -> int | None:
        if not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            assert self.sent == {}, "the work passes a signal on, and not what notes it"
        return 130 if self.sent and time.monotonic() - min(self.sent.values()) > 0.3 else None

    def send_signal(self, number: int, /) -> None:
        self.sent[number] = time.monotonic()


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("fails", [False, True])
def test_distant_processes_are_waited_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Also after an error of this process, as its end would take the workers with it."""
    sweep, distant, recorder = begun(tiny / "s", "seed=1,2"), Distant(), Recorder()

    def tick(*_: Any) -> None:
        if fails:
            raise ArithmeticError

    monkeypatch.setattr(recorder, "tick", tick)
    worker = Jobs(1, False, recorder, lambda *_: distant)
    with pytest.raises(ArithmeticError) if fails else nullcontext():
        worker.run([Task(sweep, trial) for trial in sweep.trials])
    assert distant.poll() == 130
    assert signal.SIGINT in distant.sent


def test_starting_a_trial_costs_little(work: Any) -> None:
    """What is beyond the process of a trial itself, here that of an empty script."""
    began = time.monotonic()
    for _ in range(4):
        subprocess.run([sys.executable, "-c", SCRIPT, "sweep", "s", "--trial", "1"], check=True)
    alone = time.monotonic() - began
    began = time.monotonic()
    work("")
    assert (time.monotonic() - began - alone) / 4 < 0.1 + alone / 4  # as the machine may be busy


# What it says in the end


def test_the_summary_has_mean_and_spread_over_seeds(tiny: Path, forge: Any) -> None:
    """By hand: 3 +- sqrt(2) over the seeds of beta 1, and one run of beta 4."""
    sweep = begun(tiny / "s", "model.beta=1,4", seeds=2)
    for number, elbo in ((1, 2.0), (2, 7.0), (3, 4.0)):
        folder = sweep.folder(sweep.trial(number))
        folder.mkdir(parents=True)
        values = {"elbo": np.array([elbo - 1, elbo + 1])}
        settings = [f"{key}={value}" for key, value in sweep.trial(number).settings.items()]
        forge("trial", *settings, values=values).rename(folder / "run")
    path = write_summary(sweep, sweep.write_table())
    assert path is not None
    text = path.read_text()
    assert "4 trials: 3 finished, 1 waiting" in text
    rows = [line for line in text.splitlines() if line.startswith(("| 1 |", "| 4 |"))]
    assert rows == ["| 1 | 2 | 3.0 ± 1.4 [σ = 1] |", "| 4 | 1 | 7.0 ± 1.0 [σ = 1] |"]
    title = (
        "mean ± standard deviation over seeds; of one run the value ± standard error over images"
    )
    assert f"## Test metrics by settings: {title}" in text
    assert "## Run by run" in text
    before = path.stat().st_mtime_ns
    write_summary(sweep, sweep.write_table())
    assert path.stat().st_mtime_ns == before  # nothing has changed


def test_a_larger_sweep_is_compared_by_its_settings_only(tiny: Path, forge: Any) -> None:
    sweep = begun(tiny / "s", "model.beta=1,2,4", seeds=3)
    for trial in sweep.trials:
        folder = sweep.folder(trial)
        folder.mkdir(parents=True)
        beta, seed = trial.settings["model.beta"], trial.settings["seed"]
        values = {"elbo": np.array([0.0, 2.0]) + seed - 10 * beta}
        settings = [f"{key}={value}" for key, value in trial.settings.items()]
        forge("trial", *settings, values=values).rename(folder / "run")
    path = write_summary(sweep, sweep.write_table())
    assert path is not None
    text = path.read_text()
    assert "## Over seeds: mean ± standard deviation of 3 runs" in text
    # means of 3 runs with standard deviation 1, so that a difference has the error sqrt(2/3)
    # the last error of a mean is that of the two test images, which all seeds share
    first, second, third = (f"{mean} ± 1.0 ± 1.0" for mean in ("-7.0", "-17.0", "-37.0"))
    assert f"| {first} | {second} | -10.00 ± 0.82 | {third} | -30.00 ± 0.82 |" in text
    assert "Run by run" not in text


def test_the_summary_says_where_the_median_contradicts_the_mean(tiny: Path, forge: Any) -> None:
    """Of 200 images two lose 10,000 nats, which are 100 of the mean, and its error is 71."""
    sweep = begun(tiny / "s", "model.beta=1,2,3,4", seeds=3)
    for trial in sweep.trials:
        folder = sweep.folder(trial)
        folder.mkdir(parents=True)
        beta, seed = trial.settings["model.beta"], trial.settings["seed"]
        values = np.linspace(-1, 1, 200) + seed - 10 * beta
        values[:2] -= 1e4 * (beta == 4)
        settings = [f"{key}={value}" for key, value in trial.settings.items()]
        facts = {"elbo": Tails.of(values).facts()}
        forge("trial", *settings, values={"elbo": values}, facts=facts).rename(folder / "run")
    path = write_summary(sweep, sweep.write_table())
    assert path is not None
    text = path.read_text()
    assert "| 1 | 3 | -8.0 ± 1.0 [σ = 1] |" in text
    assert "| 4 | 3 | -138.0 ± 1.0 (median -38.0) [σ = 1] |" in text
    assert "Over seeds, do not read elbo by its mean alone. elbo of model.beta=4" in text
    assert "-38.0 ± 1.0 |" in text[text.index("what stands beside the means") :]


def test_a_finished_trial_with_damaged_numbers_is_damaged_everywhere(
    tiny: Path, forge: Any, change_json: Any
) -> None:
    sweep = begun(tiny / "s", "model.beta=1,4")
    for trial in sweep.trials:
        sweep.folder(trial).mkdir(parents=True)
        forge("trial", f"model.beta={trial.settings['model.beta']}").rename(
            sweep.folder(trial) / "run"
        )
    change_json(sweep.folder(sweep.trial(2)) / "run" / "metrics.json", test=[])
    states = sweep.write_table()
    assert [state.status for state in states] == statuses(sweep.path) == ["finished", "damaged"]
    assert [bool(state.metrics) for state in states] == [True, False]
    path = write_summary(sweep, states)
    assert path is not None
    assert "2 trials: 1 finished, 1 damaged" in path.read_text()


def test_a_trial_that_cannot_be_read_is_damaged_and_its_error_is_no_formula(
    tiny: Path, forge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begun(tiny / "s", "model.beta=1,4")
    first, second = (sweep.folder(trial) for trial in sweep.trials)
    for folder in (first, second):
        folder.mkdir(parents=True)
    (first / "error.txt").write_text('=HYPERLINK("http://x")\n')
    forge("trial").rename(second / "run")

    def unreadable(_run: RunFolder) -> Any:
        raise PermissionError(13, "Permission denied", "metrics.json")

    monkeypatch.setattr(RunFolder, "metrics", unreadable)
    for _ in range(2):  # the second time from the table that is there
        states = sweep.write_table()
        assert [state.status for state in states] == ["failed", "damaged"]
        assert "Permission denied" in states[1].error
        sweep.update(sweep.trial(1))
        with (sweep.path / "trials.csv").open(newline="") as file:
            assert [row["error"] for row in csv.DictReader(file)] == [
                '\'=HYPERLINK("http://x")',
                states[1].error,
            ]


def test_runs_that_cannot_be_compared_are_no_end(tiny: Path, forge: Any, change_json: Any) -> None:
    sweep = begun(tiny / "s", "model.beta=1,4")
    for trial in sweep.trials:
        sweep.folder(trial).mkdir(parents=True)
        run = forge("trial", f"model.beta={trial.settings['model.beta']}")
        change_json(run / "environment.json", config_sha256="of another config")
        run.rename(sweep.folder(trial) / "run")
    path = write_summary(sweep, sweep.write_table())
    assert path is not None
    assert "The runs could not be compared: " in path.read_text()


def test_paths_of_a_sweep_are_expanded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS", str(tiny / "there"))
    monkeypatch.setenv("HOME", str(tiny))
    done = invoke("sweep", "~/tiny.yaml", "--seeds", "2", "--folder", "$SWEEPS", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert str(tiny / "there") in done.stdout.replace("\n", "")
    done = invoke("sweep", "tiny.yaml", "--seeds", "2", "--sweeps-dir", "$NOWHERE", "--dry-run")
    assert "the variable $NOWHERE is not set" in done.stderr


# All of it, by the command itself


def test_a_sweep_from_end_to_end_with_a_trial_that_fails(tiny: Path) -> None:
    grid = ["--zip", "data.limit=256,20000", "--zip", "model.beta=1,2"]
    done = invoke("sweep", "tiny.yaml", *grid, "--jobs", 2)
    folder = tiny / "sweeps/tiny-limit-beta"
    assert (done.exit_code, done.stdout) == (1, "sweeps/tiny-limit-beta\n")
    assert statuses(folder) == ["finished", "failed"]
    lines = done.stderr.splitlines()
    failed = next(
        i for i, line in enumerate(lines) if line.startswith("trial 2 (") and "failed" in line
    )
    assert "data.limit" in lines[failed]
    assert lines[failed + 1] == "  see sweeps/tiny-limit-beta/trials/002-limit-20000-beta-2"
    assert "2 trials: 1 finished, 1 failed" in lines
    for number in (1, 2):  # no table in a pipe
        assert sum(line.startswith(f"trial {number} (") for line in lines) == 2
    assert not any("running" in line or "waiting" in line for line in lines[1:])
    assert "\x1b" not in done.stderr
    assert "to go on: vaexp sweep sweeps/tiny-limit-beta" in lines
    text = (folder / "comparison.md").read_text()
    assert "| data.limit | model.beta | runs | elbo" in text
    assert "| 256 | 1 | 1 | -7" in text

    again = invoke("sweep", folder, "--json")
    assert again.exit_code == 1
    answer = json.loads(again.stdout)
    assert [one["status"] for one in answer["trials"]] == ["finished", "failed"]
    assert "trial 1 (" not in again.stderr  # what has finished is kept


def test_what_another_process_works_on_is_no_failure(tiny: Path) -> None:
    sweep = begun(tiny / "s", "seed=1")
    folder = sweep.folder(sweep.trial(1))
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        done = invoke("sweep", "s")
    assert (done.exit_code, done.stdout) == (0, "s\n")
    assert "trial 1 (seed=1) is with another process" in done.stderr
    assert "1 trial: 1 elsewhere" in done.stderr
    assert statuses(sweep.path) == ["waiting"]


def two_shells(cli: Cli) -> list["subprocess.Popen[bytes]"]:
    path = f"{VAEXP.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(["sh", "-e"], stdin=subprocess.PIPE, cwd=cli.cwd, env=environment)
        for _ in range(2)
    ]


@pytest.mark.slow
def test_two_shells_and_two_jobs_do_every_trial_once_with_equal_numbers(cli: Cli) -> None:
    (cli.cwd / "tiny.yaml").write_text(CONFIG)
    ask = ["sweep", "tiny.yaml", "--grid", "model.beta=1,4", "--seeds", "2"]
    commands = cli.ok(*ask, "--print-commands", "--folder", "shells")
    assert [shlex.split(line)[0] for line in commands.splitlines()] == ["vaexp"] * 4
    shells = two_shells(cli)
    for shell in shells:
        shell.communicate(commands.encode())
    assert [shell.returncode for shell in shells] == [0, 0]
    cli.ok(*ask, "--folder", "jobs", "--jobs", "2")

    one, other = (runs_of(cli.cwd / name) for name in ("shells", "jobs"))
    assert [run.parent.name for run in one] == [run.parent.name for run in other]
    assert len(one) == 4  # one run for each trial
    for mine, theirs in zip(one, other, strict=True):
        assert_same_results(mine, theirs)
        assert [RunFolder.open(run).info()["resumed"] for run in (mine, theirs)] == [[], []]
    for name in ("shells", "jobs"):
        assert statuses(cli.cwd / name) == ["finished"] * 4
        text = (cli.cwd / name / "comparison.md").read_text()
        assert "mean ± standard deviation over seeds" in text
        assert "| 1 | 2 | -7" in text
        assert "Run by run" in text


@pytest.mark.slow
def test_ctrl_c_saves_checkpoints_and_the_sweep_goes_on(cli: Cli, wait_for_epochs: Any) -> None:
    (cli.cwd / "tiny.yaml").write_text(CONFIG.replace("epochs: 1", "epochs: 3000"))
    process = cli.start("sweep", "tiny.yaml", "--grid", "model.beta=1,4", "-j", "2")
    folder = cli.cwd / "sweeps/tiny-beta"
    runs = [wait_for_epochs(folder / "trials" / name, 1) for name in ("001-beta-1", "002-beta-4")]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.count("its checkpoint is saved") == 2
    assert [RunFolder.open(run).status() for run in runs] == ["interrupted"] * 2
    assert statuses(folder) == ["interrupted"] * 2

    process = cli.start("sweep", folder, "-j", "2")
    before = len(RunFolder.open(runs[0]).records())
    wait_for_epochs(folder / "trials" / "001-beta-1", before + 1)
    os.kill(RunFolder.open(runs[0]).info()["pid"], signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert statuses(folder)[0] == "dead"
    assert runs_of(folder) == runs
