"""The report reproduced: fourteen figures, the answers, one page, and what a second call does."""

import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, Forge
from pages import Page, is_png
from run_folders import assert_same_results
from test_pictures import Varied

from vaexp.config import load_config, shipped_configs, summary
from vaexp.errors import RunError, UserError
from vaexp.progress import Reporter
from vaexp.reproduction import work
from vaexp.reproduction.answers import Answer, Asked, Question, findings
from vaexp.reproduction.figures import FIGURES, Plane
from vaexp.reproduction.questions import QUESTIONS, beta_and_sigma, learned_sigma
from vaexp.reproduction.reproduce import name_of, questions, studies
from vaexp.reproduction.size import SEEDS, Size
from vaexp.reproduction.studies import MEAN_ONLY, PER_IMAGE, Done, Study
from vaexp.runs.folder import RunFolder
from vaexp.sweeps.folder import State, Sweep
from vaexp.tables import Table

pytestmark = pytest.mark.xdist_group("reproduce")

TINY = (
    "data.labels=[4, 9]",
    "data.limit=200",
    "data.validation_size=1000",
    "train.epochs=30",
    "model.hidden=[8]",
    "evaluate.importance_samples=2",
)
FIXED, IMAGE, PIXEL = learned_sigma.MODES.values()
PICTURES = [name_of(figure, part) for figure in FIGURES for part in figure.pictures]
SOME = Varied({measure: {"": 1.0} for measure in ("rate", "rmse_mean", "sigma")})
OF_ANSWERS = [name for one in questions(quick=True) for name in one.files(one.answer(SOME))]
DRAWN = [*PICTURES, *OF_ANSWERS]
ONE = Size(seeds=1)


# The tables


def test_there_are_fourteen_figures_and_those_on_beta_have_two_pictures() -> None:
    assert [figure.number for figure in FIGURES] == list(range(1, 15))
    two = [figure.number for figure in FIGURES if len(figure.pictures) == 2]
    assert two == [9, 10, 11]
    assert len(set(PICTURES)) == len(PICTURES) == 17
    digits = {
        figure.number: picture.digit
        for figure in FIGURES
        for picture in figure.pictures.values()
        if isinstance(picture, Plane)
    }
    assert digits == {1: 4, 7: 4, 12: 4, 9: 9, 10: 9, 11: 9}  # as the report's captions say


def test_every_config_of_the_report_is_shipped_and_drawn() -> None:
    shipped = {name for name in shipped_configs() if name.startswith("report/")}
    assert shipped <= {study.config for study in studies(quick=True)}
    named = {
        int(number)
        for name in shipped
        for number in re.findall(r"\d+", summary(shipped_configs()[name]).split(":")[0])
    }
    assert named == set(range(1, 15))
    for name in shipped:
        config = load_config(name)
        assert config.model.kind == "vae"
        assert config.model.conditional  # the report gives the label to encoder and decoder
        assert config.data.labels is None


def test_what_is_trained_follows_from_the_figures_and_the_questions() -> None:
    needed = studies(quick=False)
    assert all(figure.study in needed for figure in FIGURES)
    assert all(study in needed for question in QUESTIONS for study in question.studies)
    assert MEAN_ONLY.request(Size(), []).asked.plan.seeds == SEEDS
    assert MEAN_ONLY.request(Size(seeds=1), []).asked.plan.seeds == 1
    assert replace(MEAN_ONLY, seeds=3).request(Size(seeds=4), []).asked.plan.seeds == 3


def test_the_shell_script_has_the_same_runs() -> None:
    script = (Path(__file__).parents[1] / "scripts" / "report.sh").read_text()
    lines = [line.split()[1:] for line in script.splitlines() if line.startswith("study ")]
    asked = [
        (
            int(seeds),
            config,
            tuple(value for option, value in pairwise(options) if option == "--grid"),
            tuple(value for option, value in pairwise(options) if option == "--zip"),
        )
        for seeds, config, *options in lines
    ]
    needed = [(study.seeds, study.config, study.grid, study.zip) for study in studies(quick=False)]
    assert asked == list(dict.fromkeys(needed))


def test_two_studies_of_a_config_share_their_runs(tmp_path: Path) -> None:
    """beta = 4 of the figures is one of the runs of the question on beta."""
    few = Study(PER_IMAGE.config, grid=("model.beta=1,4",))
    begun = work.begin([PER_IMAGE, few], tmp_path, ONE, [])
    paths = {sweep.path for sweep, _ in begun.values()}
    assert paths == {tmp_path / "report-sigma-per-image"}
    numbers = [[t.number for t in sweep.asked(asked)] for sweep, asked in begun.values()]
    assert sorted(numbers) == [[1], [1, 2]]


def test_other_settings_in_the_same_folder_are_refused_with_a_way_out(tmp_path: Path) -> None:
    work.begin([PER_IMAGE], tmp_path, ONE, [])
    with pytest.raises(UserError, match=r"(?s)model\.beta: 2, but .* choose another --out"):
        work.begin([PER_IMAGE], tmp_path, ONE, ["model.beta=2"])


def test_a_trial_that_another_process_has_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def run(_self: Any, tasks: Any) -> Any:
        looked.append(len(tasks))
        return {task: State("elsewhere" if len(looked) < 3 else "failed") for task in tasks}

    monkeypatch.setattr("vaexp.reproduction.work.WAIT", 0)
    monkeypatch.setattr("vaexp.sweeps.jobs.Jobs.run", run)
    begun = work.begin([PER_IMAGE], tmp_path, ONE, [])
    with pytest.raises(RunError, match="1 run has not finished; the same command goes on"):
        work.train(begun, 1, Reporter())
    assert looked == [1, 1, 1]


def test_the_first_seed_of_every_study_is_trained_before_the_second_of_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run(_self: Any, tasks: Any) -> Any:
        asked.extend((task.trial.settings["seed"], task.sweep.path.name) for task in tasks)
        return {task: State("failed") for task in tasks}

    monkeypatch.setattr("vaexp.sweeps.jobs.Jobs.run", run)
    with pytest.raises(RunError):
        work.train(work.begin([PER_IMAGE, MEAN_ONLY], tmp_path, ONE, []), 1, Reporter())
    assert [seed for seed, _ in asked] == [1, 1]
    del asked[:]  # more seeds are added to those that were asked for before
    with pytest.raises(RunError):
        work.train(work.begin([PER_IMAGE, MEAN_ONLY], tmp_path, Size(seeds=3), []), 1, Reporter())
    assert [seed for seed, _ in asked] == [1, 1, 2, 2, 3, 3]


def test_seeds_that_another_call_has_trained_count_as_far_as_all_their_runs_have_finished(
    tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = replace(PER_IMAGE, grid=("model.beta=1,4",))
    waiting = {(4, 3)}  # one of the runs of the third seed

    def state(_self: Any, trial: Any) -> State:
        beta, seed = trial.settings["model.beta"], trial.settings["seed"]
        if (beta, seed) in waiting:
            return State("waiting")
        name = f"run-{beta}-{seed}"
        path = tmp_path / name
        return State("finished", RunFolder(path if path.exists() else forge(name, f"seed={seed}")))

    monkeypatch.setattr(Sweep, "state", state)
    work.begin([study], tmp_path / "runs", Size(seeds=4), [])
    done = work.train(work.begin([study], tmp_path / "runs", ONE, []), 1, Reporter())
    assert done.seeds(study) == 2
    assert len(done.runs[study]) == 4
    waiting.clear()
    done = work.train(work.begin([study], tmp_path / "runs", ONE, []), 1, Reporter())
    assert done.seeds(study) == 4
    again = study.command(ONE, [], done.seeds(study))
    assert again.endswith("--seeds 4")


# The answers, from numbers that are known


@pytest.fixture
def modes(forge: Forge) -> Any:
    """Runs of each mode of sigma, with values of elbo and rmse_mean for each seed."""
    import numpy as np

    def modes(values: dict[Study, list[tuple[float, float]]]) -> Done:
        runs = {}
        for study, seeds in values.items():
            runs[study] = [
                RunFolder(
                    forge(
                        f"run{seed}",
                        f"seed={seed}",
                        values={"elbo": np.full(4, elbo), "rmse_mean": np.full(4, error**2)},
                    )
                )
                for seed, (elbo, error) in enumerate(seeds, start=1)
            ]
        return Done(runs)

    return modes


def test_an_order_is_stable_only_if_every_seed_has_it(modes: Any) -> None:
    done = modes(
        {
            FIXED: [(-700, 0.2), (-701, 0.3)],
            IMAGE: [(200, 0.3), (210, 0.2)],
            PIXEL: [(2000, 0.4), (2100, 0.4)],
        }
    )
    bound, error, *_ = learned_sigma.answer(done).details
    assert "best first, is one σ(z) per pixel, then one σ(z) per image, then σ fixed" in bound
    assert bound.endswith("in all 2 seeds.")
    assert "not stable: it is σ fixed at 1, then one σ(z) per image" in error
    assert "in 1 of 2 seeds" in error
    assert done.seeds(FIXED) == 2
    best = learned_sigma.answer(done).short[0]
    assert "(elbo), one σ(z) per pixel is best; " in best
    assert "(rmse_mean), none is best in all seeds; " in best
    assert best.endswith("(digit_fid_sample), it is not known.")
    (table,) = learned_sigma.answer(done).tables
    elbo = table.headers.index("elbo")
    assert table.rows[1][table.headers.index("seeds")] == "2"
    assert table.rows[1][elbo] == "205.0 ± 7.1 [σ = 1]"  # by hand: mean and sd of 200 and 210
    assert table.rows[1][table.headers.index("digit_fid_mean")] == "–"


def test_one_seed_is_not_called_stable(modes: Any) -> None:
    done = modes({study: [(1.0, 0.1)] for study in (FIXED, IMAGE, PIXEL)})
    answer = learned_sigma.answer(done)
    assert all("seeds" not in sentence for sentence in [*answer.short, *answer.details])
    assert "seeds" not in answer.tables[0].headers


def test_a_pair_of_beta_and_sigma_has_the_same_variance() -> None:
    """sigma^2 beta is the same on both sides of each pair, and no pair is trivial."""
    plan = beta_and_sigma.FIXED_SIGMA.request(ONE, []).asked.plan
    sigma, beta = plan.zip["model.sigma"], plan.zip["model.beta"]
    product = [s**2 * b for s, b in zip(sigma, beta, strict=True)]
    assert product[::2] == pytest.approx(product[1::2])
    assert all(s == 1 and b != 1 for s, b in list(zip(sigma, beta, strict=True))[::2])
    assert beta[1::2] == [1, 1]


def test_the_findings_are_markdown_with_the_answer_before_the_numbers() -> None:
    table = Table("Numbers", ["run", "elbo"], [["a|b", "1 (n = 9)"]])
    question = Question("Why?", "Section 1.", (), lambda _: Answer([], [], []), "So.")
    text = findings([Asked(question, Answer(["Because."], ["It is."], [table]), "")], ["How."])
    assert (
        text.index("## Why?")
        < text.index("**Because.**")
        < text.index("- It is.")
        < text.index("| run | elbo (n = 9) |")
    )
    assert "| a\\|b | 1 |" in text


# The command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole reproduction of the smallest size."""
    folder = tmp_path_factory.mktemp("reproduction")
    done = Cli(folder)("reproduce", "--quick", "--out", "made", *TINY, timeout=3000)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "made/index.html\n"
    return folder / "made"


@pytest.mark.slow
def test_it_draws_all_figures_and_writes_a_page_that_needs_no_network(made: Path) -> None:
    assert sorted(path.name for path in (made / "figures").iterdir()) == sorted(DRAWN)
    assert all(is_png(made / "figures" / name) for name in DRAWN)
    page = Page((made / "index.html").read_text(encoding="utf-8"))
    embedded = [source for source in page.sources if source.startswith("data:image/png;base64,")]
    assert len(embedded) == len(DRAWN)
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all(words for words in page.of("img", "alt"))
    for figure in FIGURES:
        assert f"Figure {figure.number}. {figure.title}" in page.text
    assert "{" not in page.text.split("Figures", 1)[1]  # every number of a caption is filled in
    text = (made / "findings.md").read_text(encoding="utf-8")
    for question in questions(quick=True):
        assert question.title in page.text
        assert f"## {question.title}" in text
    assert all(f"](figures/{name})" in text for name in OF_ANSWERS)


@pytest.mark.slow
def test_beta_is_a_variance_where_sigma_is_fixed(made: Path) -> None:
    """Adam takes the same steps for proportional gradients, up to its epsilon and rounding."""
    text = (made / "findings.md").read_text(encoding="utf-8")
    found = re.search(r"differ by at most (\S+) nats in their rate and (\S+) in the error", text)
    assert found is not None
    assert all(float(number) < 0.05 for number in found.groups())


@pytest.mark.slow
def test_a_second_call_does_nothing_and_says_so(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    again = Cli(made.parent)("reproduce", "--quick", "--out", "made", *TINY, "--json", timeout=300)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert len(json.loads(again.stdout)["figures"]) == len(DRAWN)
    after = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before.get(path)} <= {".lock"}


@pytest.mark.slow
def test_killed_at_any_point_and_called_again_it_gives_the_same_numbers(made: Path) -> None:
    folder = made.parent / "killed"
    shutil.copytree(made, folder)
    sweep = Sweep.open(folder / "runs" / "report-mean-only")
    lost = sweep.folder(sweep.trial(1))
    shutil.rmtree(lost)  # this trial is trained again, and killed
    (folder / "figures" / PICTURES[0]).unlink()
    call = ("reproduce", "--quick", "--out", "killed", *TINY)
    process = Cli(made.parent).start(*call)
    deadline = time.monotonic() + 300
    while not (found := list(lost.glob("*/checkpoints/state.pt"))):
        assert time.monotonic() < deadline, "the trial was not started"
        time.sleep(0.01)
    process.kill()
    run = found[0].parents[1]
    os.kill(json.loads((run / "run.json").read_text())["pid"], signal.SIGKILL)
    process.communicate()
    while RunFolder(run).status() != "dead":  # for a moment after the signal
        assert time.monotonic() < deadline, "the run is not dead"
        time.sleep(0.1)

    again = Cli(made.parent)(*call, timeout=600)
    assert again.returncode == 0, again.stderr
    assert list(lost.glob("*/run.json")) == [run / "run.json"]  # the same run went on
    (before,) = (made / lost.relative_to(folder)).glob("*/run.json")
    assert_same_results(before.parent, run)
    for name in ("findings.md", *(f"figures/{name}" for name in DRAWN)):
        mine, other = (path / name for path in (folder, made))
        assert mine.read_bytes().replace(b"killed", b"made") == other.read_bytes(), name


def test_a_wrong_override_is_answered_with_its_place(invoke: Any, elsewhere: Path) -> None:
    done = invoke("reproduce", "--quick", "model.bata=4")
    assert done.exit_code == 2
    assert "did you mean beta?" in done.stderr
    assert not list(elsewhere.rglob("*.yaml"))
