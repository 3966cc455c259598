"""The page of a reproduction: its content as data, and one HTML file that contains its pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from vaexp import __version__
from vaexp.comparison.page import embedded
from vaexp.reproduction.answers import Answer, Question


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
    answers: Sequence[tuple[Question, Answer]]


def render(content: Content, pictures: Path) -> str:
    """The page as HTML, without any request to elsewhere. The PNG files are in ``pictures``."""
    environment = Environment(
        loader=PackageLoader("vaexp.reproduction"), autoescape=True, undefined=StrictUndefined
    )
    figures = [
        (shown, [embedded(pictures / name, f"Figure {shown.number}: ") for name in shown.pictures])
        for shown in content.figures
    ]
    return environment.get_template("report.html").render(
        version=__version__, how=content.how, figures=figures, answers=content.answers
    )
