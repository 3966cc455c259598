"""The page of a reproduction: what it says, and how it is laid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaexp.errors import RunError
from vaexp.files import Folder
from vaexp.pages.page import Link, Page, Section, of_table
from vaexp.pages.pictures import MOST_BYTES, Drawn, Picture
from vaexp.reproduction.answers import Asked, also
from vaexp.tables import Table


@dataclass(frozen=True)
class Shown:
    """A figure of the report as the page shows it."""

    number: int
    title: str
    caption: str
    model: str
    """The settings of the run that is drawn, on one line."""
    run: str
    """The folder of that run."""
    numbers: Sequence[tuple[str, str]]
    """The measures of its runs: name and value."""
    pictures: Sequence[str]
    """The names of its PNG files."""


@dataclass(frozen=True)
class Content:
    """All that the page and findings.md say."""

    how: Sequence[str]
    """Sentences on what was trained, and how to read the numbers."""
    figures: Sequence[Shown]
    answers: Sequence[Asked]


def render(content: Content, pictures: Path) -> str:
    """The page as HTML, without any request to elsewhere. The PNG files are in ``pictures``."""
    figures = [_figure(shown, Folder(pictures)) for shown in content.figures]
    questions = [_question(asked, content.answers, Folder(pictures)) for asked in content.answers]
    return Page(
        "Theory and implementation of VAEs: the figures and the questions",
        content.how,
        [Section("Figures", parts=figures), Section("Questions", parts=questions)],
    ).html()


def _figure(shown: Shown, folder: Folder) -> Section:
    numbers = Table("", ["measure", "value"], [[name, value] for name, value in shown.numbers])
    return Section(
        f"Figure {shown.number}. {shown.title}",
        [_picture(folder, name, f"Figure {shown.number}: ") for name in shown.pictures],
        [shown.caption],
        numbers,
        small=f"{shown.model}. Run {shown.run}",
    )


def _picture(folder: Folder, name: str, of: str) -> Picture:
    """A picture that the reproduction drew. Raises RunError if it was damaged since."""
    with folder.open(name, MOST_BYTES) as file:
        drawn = Drawn.read(file, Path(name).stem.replace("-", " "), of)
    if drawn is None:
        raise RunError(f"{folder.path / name}: damaged; remove it and start the command again")
    return drawn.large()


def _question(asked: Asked, answers: Sequence[Asked], folder: Folder) -> Section:
    question, answer = asked.question, asked.answer
    shown = [
        Section(picture.title, [_picture(folder, name, "")])
        for name, picture in asked.files.items()
    ]
    links = [
        Link(
            f"See also: {other.files[name].title}, a picture of the question “"
            f"{other.question.title}”",
            _place(other, name, answers),
        )
        for other, name in also(asked, answers)
    ]
    return Section(
        question.title,
        sentences=[
            question.asked,
            f"In short: {' '.join(answer.short)}",
            *answer.details,
            f"What theory says: {question.theory}",
        ],
        links=links,
        parts=[*(of_table(table.with_notes_in_headers()) for table in answer.tables), *shown],
        small=f"These runs again: {asked.again}",
    )


def _place(asked: Asked, name: str, answers: Sequence[Asked]) -> str:
    """The address within the page of a picture of an answer, which stands below its tables."""
    number = len(asked.answer.tables) + list(asked.files).index(name)
    return f"#part-2-{list(answers).index(asked) + 1}-{number + 1}"
