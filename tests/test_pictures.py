"""The pictures of the answers: each question has some, and they say what the numbers do."""

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
from matplotlib.colors import to_hex
from pages import assert_readable
from PIL import Image
from test_questions import Known

from vaexp.figures.joint_curves import MOST, joint_curves
from vaexp.figures.over_seeds import COLOURS, Group, Panel, against, points
from vaexp.figures.style import DARK, TRAINING, save
from vaexp.reproduction.answers import Asked, Question, findings
from vaexp.reproduction.drawing import draw_answer
from vaexp.reproduction.page import Content, render
from vaexp.reproduction.pictures import Across, Against, BestMeans, Curves, Points, Strips
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
    panels = [panel for one in drawn for panel in one.panels]
    measures |= {measure for panel in panels for measure in panel.measures.values()}
    measures |= {measure for panel in panels for _, measure in panel.controls.values()}
    answer = question.answer(Varied({measure: {"": 1.0} for measure in measures}, seeds))
    assert answer.pictures
    assert len({one.title for one in answer.pictures}) == len(answer.pictures)
    for picture in answer.pictures:
        if isinstance(picture, Points | Against):
            figure = draw_answer(picture)
            assert_readable(figure)
            for panel in picture.panels:
                assert all(name in texts(figure) for name in (panel.title, *panel.controls))
            assert f"{seeds} seed{'s' if seeds > 1 else ''} of each" in texts(figure)


def test_the_pictures_of_all_questions_have_names_of_their_own_and_stand_in_the_findings() -> None:
    answers = [Asked(question, question.answer(Varied({})), "") for question in QUESTIONS]
    names = [name for asked in answers for name in asked.question.files(asked.answer)]
    assert len(set(names)) == len(names)
    text = findings(answers, [], "figures")
    assert all(f"](figures/{name})" in text for name in names)
    assert "![What μ(z) could draw at best, and what it draws](figures/question-sampling-1" in text
    assert (
        f"See also [{learned_sigma.STRIPS}](figures/question-learned_sigma-2.png), a picture of "
        f"the question “{learned_sigma.QUESTION.title}”" in text
    )


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
        [Panel("rate", "nats", {"": [group(1.0, 2.0, 6.0), group(5.0, error=0.5)]})],
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
        Panel(f"measure_{panel}_given_label", "nats", {"": [group(1e4 * row, 1e4 + row)] * rows})
        for panel in range(panels)
        for row in [panel]
    ]
    figure = points(names, shown, "Title", SETTINGS, NOTE)
    assert_readable(figure)
    assert len(figure.axes) == panels
    assert ("None of these measures was measured" in texts(figure)) == (panels == 0)


def test_a_panel_of_nothing_is_left_out_and_a_group_without_the_measure_has_no_mark() -> None:
    panels = [
        Panel("a", "", {"": [group(), group()]}, {"control": group(1.0)}),
        Panel("b", "", {"": [group(), group(1.0, 2.0)]}, {"control": group()}),
    ]
    (axes,) = points(["x", "y"], panels, "Title", SETTINGS).axes
    assert axes.get_title("left") == "b"
    assert len(axes.containers) == 1


def test_lines_go_through_the_means_in_the_order_of_their_places() -> None:
    places = {
        "one": [group(4.0), group(1.0), group(2.0)],
        "a single point": [group(1.0, 3.0)],
    }
    rate = {
        "one": [group(1.0, 3.0), group(5.0, 5.0), group()],
        "a single point": [group(7.0, 9.0)],
    }
    none = {name: [group() for _ in groups] for name, groups in places.items()}
    panels = [Panel("rate", "nats", rate), Panel("none", "", none)]
    figure = against(places, panels, "β", "Title", SETTINGS, log=True)
    assert_readable(figure)
    (axes,) = figure.axes  # the other measure was measured nowhere
    assert axes.get_xscale() == "log"
    line = next(line for line in axes.lines if line.get_linewidth() == 1.2)
    assert line.get_xydata().tolist() == [[1.0, 5.0], [4.0, 2.0]]
    assert to_hex(line.get_color()) == TRAINING
    last = axes.containers[-1].lines[0]
    assert last.get_xydata().tolist() == [[2.0, 8.0]]
    assert to_hex(last.get_color()) == COLOURS[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(places)


def dashed(axes: Any) -> list[Any]:
    """The lines of the controls of a panel."""
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def test_controls_of_rows_are_lines_across_them_with_a_name_and_no_marks() -> None:
    rows = {"μ(z)": [group(85.0), group(3.0)], "draws": [group(-70.0), group(1.0)]}
    controls = {"real images": group(1.0, 3.0), "averages": group(110.0, error=2.0)}
    shown = [Panel("score", "nats", rows, controls), Panel("other", "", rows)]
    figure = points(["one", "other"], shown, "Title", SETTINGS)
    assert_readable(figure)
    axes, without = figure.axes
    assert [list(line.get_xdata()) for line in dashed(axes)] == [[2.0, 2.0], [110.0, 110.0]]
    assert all(min(line.get_ydata()) == 0 and max(line.get_ydata()) > 1 for line in dashed(axes))
    assert len(axes.containers) == len(without.containers) == 4  # marks of the two series alone
    assert {text.get_text() for text in axes.texts} == set(controls)
    assert not dashed(without)
    assert axes.get_xlim()[1] > 112 > without.get_xlim()[1]  # the axis shows the control's error
    assert "A dashed line is a reference, with its error in grey." in texts(figure)
    assert "dashed" not in texts(points(["one", "other"], shown[1:], "Title", SETTINGS))


@pytest.mark.parametrize("level", [0.01, 0.5, 0.99])
def test_the_name_of_a_control_fits_wherever_its_line_is(level: float) -> None:
    rows = {"": [group(0.0), group(1.0)]}
    long = {"a rather long name of what is no model": group(level)}
    shown = [Panel(name, "", rows, long) for name in ("first", "second", "third")]
    assert_readable(points(["one", "other"], shown, "Title", SETTINGS))


def test_controls_of_curves_are_named_where_the_marks_are_far() -> None:
    places = {"one": [group(1.0), group(2.0)], "other": [group(1.0), group(2.0)]}
    values = {"one": [group(5.0), group(0.2)], "other": [group(4.0), group(3.0)]}
    panels = [Panel("rate", "nats", values, {"other real images": group(0.1)})]
    figure = against(places, panels, "β", "Title", SETTINGS)
    assert_readable(figure)
    (axes,) = figure.axes
    (line,) = dashed(axes)
    assert list(line.get_ydata()) == [0.1, 0.1]
    (name,) = axes.texts
    assert (name.get_text(), name.get_ha()) == ("other real images", "left")


def test_rings_are_open_and_hide_no_mark() -> None:
    places = {"trained": [group(1.0), group(2.0)], "law": [group(1.0), group(2.0)]}
    values = {"trained": [group(5.0), group(0.0)], "law": [group(5.0), group(1.0)]}
    panels = [Panel("active_units", "latents", values)]
    (axes,) = against(places, panels, "βσ²", "Title", SETTINGS, rings=["law"]).axes
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [line.get_xydata().tolist() for line in rings] == [[[1.0, 5.0]], [[2.0, 1.0]]]
    marks = [container.lines[0] for container in axes.containers]
    assert len(marks) == 2
    for ring in rings:
        assert to_hex(ring.get_markeredgecolor()) == DARK
        assert all(ring.get_markersize() > mark.get_markersize() + 3 for mark in marks)


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


def test_the_best_means_stand_over_the_learned_ones(
    fixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Repeated((RunFolder(fixed),))
    plane = np.zeros((2, 3, 3, 784))
    plane[1, 1] = [[0.25], [0.5], [0.75]]  # the middle row of the digit with the largest gap
    arrays = {
        "optimal": plane, "learned": plane / 2, "labels": np.array([4, 9]), "grid": np.zeros(3),
    }  # fmt: skip
    shown: list[Any] = []

    def samples(rows: Any, names: Any, *_words: str) -> Any:
        shown.extend([rows[:, :, 0, 0].tolist(), names])

    monkeypatch.setattr("vaexp.runs.folder.RunFolder.evidence", lambda *_: arrays)
    monkeypatch.setattr("vaexp.reproduction.drawing.samples", samples)
    draw_answer(BestMeans("Best means", {"σ fixed": runs}))
    assert shown == [
        [[0.25, 0.5, 0.75], [0.125, 0.25, 0.375]],
        ["σ fixed, best μ*(z) of digit 9", "σ fixed, learned μ(z)"],
    ]
    monkeypatch.setattr("vaexp.runs.folder.RunFolder.evidence", lambda *_: {})
    none = draw_answer(BestMeans("Best means", {"σ fixed": runs}))
    assert "None of these runs has a plane of two latents" in texts(none)


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


def test_a_link_of_the_page_leads_to_the_picture_that_it_names(tmp_path: Path) -> None:
    asked = [Asked(one, one.answer(Varied({"rate": {"": 1.0}})), "") for one in QUESTIONS]
    for name in (name for one in asked for name in one.files):
        Image.new("RGB", (1, 1)).save(tmp_path / name)
    text = render(Content([], [], asked), tmp_path)
    (address,) = re.findall(r'href="#([\w-]+)">See also: Means and draws', text)
    section = text.split(f'<section id="{address}">')[1]
    assert learned_sigma.STRIPS in section.split("</h4>")[0]


def test_the_names_of_pictures_follow_their_question() -> None:
    assert learned_sigma.QUESTION.name == "learned_sigma"
