"""The pictures of the answers: each question has some, and they say what the numbers do."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
from matplotlib.colors import to_hex
from pages import assert_readable
from test_questions import Known

from vaexp.figures.joint_curves import MOST, joint_curves
from vaexp.figures.over_seeds import COLOURS, Group, Panel, Series, against, points
from vaexp.figures.style import TRAINING, save
from vaexp.reproduction.answers import Asked, Question, findings
from vaexp.reproduction.drawing import draw_answer
from vaexp.reproduction.page import Content, render
from vaexp.reproduction.pictures import Across, Against, Curves, OneScale, Points, Strips
from vaexp.reproduction.questions import QUESTIONS, collapse, learned_sigma
from vaexp.reproduction.studies import Repeated, Study
from vaexp.runs.folder import RunFolder

SETTINGS = "VAE, L = 2, β = 1"
NOTE = "A note of the caller."


def texts(figure: Any) -> str:
    return " ".join(" ".join(pages.texts(figure)).split())


class Varied(Known):
    """Runs with the given measures, whose values differ by run, measure and seed."""

    def of(self, study: Study, settings: Mapping[str, Any] | None = None) -> Repeated:
        runs = super().of(study, settings)
        name = f"{study}{settings}"
        for seed, entries in enumerate(runs.entries):
            for measure, entry in entries.items():
                level = zlib.crc32(f"{name}{measure}".encode()) % 1000
                entry |= {"value": level + 10.0 * seed, "unit": "nats"}
        return runs


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_every_question_has_pictures_that_can_be_read(question: Question) -> None:
    measures, seeds = {"rate", "rmse_mean", "sigma"}, 1 + 2 * question.heavy
    known = question.answer(Varied({measure: {"": 1.0} for measure in measures}))
    drawn = [one for one in known.pictures if isinstance(one, Points | Against)]
    measures |= {measure for one in drawn for measure in one.measures}
    scales = [one for one in known.pictures if isinstance(one, OneScale)]
    measures |= {measure for one in scales for _, measure in one.rows.values()}
    answer = question.answer(Varied({measure: {"": 1.0} for measure in measures}, seeds))
    assert answer.pictures
    assert len({one.title for one in answer.pictures}) == len(answer.pictures)
    for picture in answer.pictures:
        if isinstance(picture, OneScale):
            figure = draw_answer(picture)
            assert_readable(figure)
            assert all(name in texts(figure) for name in picture.rows)
        if isinstance(picture, Points | Against):
            figure = draw_answer(picture)
            assert_readable(figure)
            for measure in picture.measures:
                assert measure in texts(figure)
            assert f"{seeds} seed{'s' if seeds > 1 else ''} of each" in texts(figure)


def test_the_pictures_of_all_questions_have_names_of_their_own_and_stand_in_the_findings() -> None:
    answers = [Asked(question, question.answer(Varied({})), "") for question in QUESTIONS]
    names = [name for asked in answers for name in asked.question.files(asked.answer)]
    assert len(set(names)) == len(names)
    text = findings(answers, [], "figures")
    assert all(f"](figures/{name})" in text for name in names)
    assert "![Means μ(z) and draws of p(x|z)](figures/question-sampling-1.png)" in text


def test_the_page_shows_them_below_the_tables(tmp_path: Path) -> None:
    question = collapse.QUESTION
    answer = question.answer(Varied({"active_units": {"": 1.0}, "rate": {"": 1.0}}))
    for name, picture in question.files(answer).items():
        save(draw_answer(picture), tmp_path / name)
    text = render(Content(["How."], [], [Asked(question, answer, "")]), tmp_path)
    page = pages.Page(text)
    assert len(page.sources) == len(answer.pictures) + sum(s.startswith("#") for s in page.sources)
    (words,) = page.of("img", "alt")
    assert str(words).startswith("Active latents and rate against βσ². 2 seeds of each")
    assert text.index("<table") < text.index("<img")


# Their kinds


def group(*values: float, error: float = 0.0) -> Group:
    return Group(np.array(values), error)


def test_a_group_shows_its_mean_and_standard_deviation_over_seeds() -> None:
    assert group(1.0, 2.0, 3.0).reach == pytest.approx(1.0)
    assert group(4.0, error=0.25).reach == 0.25
    assert group().ends == []
    figure = points(
        ["one", "other"],
        [Panel("rate", "nats", [group(1.0, 2.0, 6.0), group(5.0, error=0.5)])],
        "Title", SETTINGS, NOTE,
    )  # fmt: skip
    (axes,) = figure.axes
    small, *_ = axes.lines
    assert small.get_xdata().tolist() == [1.0, 2.0, 6.0]
    assert small.get_ydata().tolist() == [0.0, 0.0, 0.0]
    means = [line.lines[0].get_xydata().tolist() for line in axes.containers]
    assert means == [[[3.0, 0.0]], [[5.0, 1.0]]]
    (bar,) = axes.containers[1].lines[2]
    assert bar.get_segments()[0].tolist() == [[4.5, 1.0], [5.5, 1.0]]
    assert "one standard deviation over seeds. Of one seed a mark is a run" in texts(figure)


@pytest.mark.parametrize(("rows", "panels"), [(1, 1), (2, 0), (2, 4), (9, 9)])
def test_points_can_be_read_however_many_there_are(rows: int, panels: int) -> None:
    names = [
        f"a rather long name of a group of runs that goes on, σ = {row}" for row in range(rows)
    ]
    shown = [
        Panel(f"measure_{panel}_given_label", "nats", [group(1e4 * row, 1e4 + row)] * rows)
        for panel in range(panels)
        for row in [panel]
    ]
    figure = points(names, shown, "Title", SETTINGS, NOTE)
    assert_readable(figure)
    assert len(figure.axes) == panels
    assert ("None of these measures was measured" in texts(figure)) == (panels == 0)


def test_a_panel_of_nothing_is_left_out_and_a_group_without_the_measure_has_no_mark() -> None:
    panels = [Panel("a", "", [group(), group()]), Panel("b", "", [group(), group(1.0, 2.0)])]
    (axes,) = points(["x", "y"], panels, "Title", SETTINGS).axes
    assert axes.get_title("left") == "b"
    assert len(axes.containers) == 1


def test_lines_go_through_the_means_in_the_order_of_their_places() -> None:
    series = {
        "one": Series(
            [group(4.0), group(1.0), group(2.0)],
            [[group(1.0, 3.0), group(5.0, 5.0), group()], [group(), group(), group()]],
        ),
        "a single point": Series([group(1.0, 3.0)], [[group(7.0, 9.0)], [group()]]),
    }
    figure = against(series, [("rate", "nats"), ("none", "")], "β", "Title", SETTINGS, log=True)
    assert_readable(figure)
    (axes,) = figure.axes  # the other measure was measured nowhere
    assert axes.get_xscale() == "log"
    line = next(line for line in axes.lines if line.get_linewidth() == 1.2)
    assert line.get_xydata().tolist() == [[1.0, 5.0], [4.0, 2.0]]
    assert to_hex(line.get_color()) == TRAINING
    last = axes.containers[-1].lines[0]
    assert last.get_xydata().tolist() == [[2.0, 8.0]]
    assert to_hex(last.get_color()) == COLOURS[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(series)


def test_a_setting_and_a_measure_may_be_the_axis() -> None:
    runs = Varied({"rate": {"": 1.0}}, seeds=2).of(Study("vae-fixed", ("model.beta=4",)))
    assert Across.setting("model.beta", "β").of(runs) == [4.0]
    assert list(Across.measure("rate", "").of(runs)) == runs.values("rate")


def lines(axes: Any) -> list[Any]:
    """The curves of a panel, without the triangles at its edges."""
    return [line for line in axes.lines if line.get_linestyle() != "None"]


def history(epochs: int, level: float, *, validated: bool = True) -> list[dict[str, Any]]:
    numbers = [{"elbo": level - 50 / epoch, "rate": 5.0} for epoch in range(1, epochs + 1)]
    return [
        {"epoch": epoch, "train": one} | ({"validation": one} if validated else {})
        for epoch, one in enumerate(numbers, start=1)
    ]


@pytest.mark.parametrize("names", [1, 3, MOST])
def test_joint_curves_can_be_read_and_told_apart(names: int) -> None:
    runs = {f"run {n}, one σ(z) per pixel": [history(20, 10.0 * n)] for n in range(names)}
    figure = joint_curves(runs, "Training curves", SETTINGS, NOTE)
    assert_readable(figure)
    elbo, rate = figure.axes
    looks = {(to_hex(line.get_color()), line.get_linestyle()) for line in lines(elbo)}
    assert len(looks) == len(lines(elbo)) == len(lines(rate)) == names
    assert lines(elbo)[0].get_ydata()[-1] == -50 / 20
    assert "validation images after each epoch." in texts(figure)


def test_seeds_share_a_colour_and_runs_without_validation_are_said_to_be_of_training() -> None:
    runs = {
        "a": [history(5, 0.0), history(8, 1.0)],
        "b": [history(5, 3.0, validated=False)],
    }
    figure = joint_curves(runs, "Training curves", SETTINGS)
    first, second, third = lines(figure.axes[0])
    assert to_hex(first.get_color()) == to_hex(second.get_color()) != to_hex(third.get_color())
    assert third.get_ydata()[-1] == 3.0 - 50 / 5
    assert "those of the validation and training images" in texts(figure)
    assert "a thin line for each seed" in texts(figure)


def test_strips_and_curves_are_drawn_from_runs(fixed: Path, learned: Path) -> None:
    rows = {"σ fixed": Repeated((RunFolder(fixed),)), "σ learned": Repeated((RunFolder(learned),))}
    figure = draw_answer(Strips("Means and draws", rows))
    assert_readable(figure)
    said = texts(figure)
    assert all(f"{name}, {mode}" in said for name in rows for mode in ("μ(z)", "x ~ p(x|z)"))
    assert "σ fixed, " not in texts(draw_answer(Strips("Means", rows, ["mean"])))
    curves = draw_answer(Curves("How training went", rows))
    assert_readable(curves)
    found = [line.get_ydata()[-1] for line in lines(curves.axes[0])]
    last = [RunFolder(run).records()[-1]["validation"]["elbo"] for run in (fixed, learned)]
    assert found == pytest.approx(last)


def test_the_names_of_pictures_follow_their_question() -> None:
    assert learned_sigma.QUESTION.name == "learned_sigma"
