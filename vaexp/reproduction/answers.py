"""What a question of the report is, and the answer that numbers give it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot

from vaexp.reproduction.pictures import Picture
from vaexp.reproduction.studies import Done, Repeated, Study
from vaexp.tables import Table, markdown


@dataclass(frozen=True)
class Answer:
    """What the runs say to a question."""

    short: Sequence[str]
    """The answer itself, in one or two sentences that the numbers decide."""
    details: Sequence[str]
    """What it rests on, and what else the numbers say, in such sentences."""
    tables: Sequence[Table]
    """Numbers of the runs, all of them read from metrics.json."""
    pictures: Sequence[Picture] = ()
    """The same in pictures."""

    @property
    def sentences(self) -> list[str]:
        """All of its sentences, the short answer first."""
        return [*self.short, *self.details]


@dataclass(frozen=True)
class Question:
    """A question that the report leaves open, and how it is answered."""

    title: str
    asked: str
    """Where the report asks or supposes it, and in which words."""
    studies: Sequence[Study]
    """The runs that it needs."""
    answer: Callable[[Done], Answer]
    """The answer, from the finished runs. It imports no torch."""
    theory: str
    """What theory says, in a sentence or two."""
    heavy: bool = False
    """Whether --quick leaves it out, as its runs take too long."""

    @property
    def name(self) -> str:
        """What the names of its pictures begin with: that of the file which answers it."""
        return self.answer.__module__.rsplit(".", 1)[-1]

    def files(self, answer: Answer) -> dict[str, Picture]:
        """The pictures of its answer by the names of their PNG files."""
        return {
            f"question-{self.name}-{number}.png": picture
            for number, picture in enumerate(answer.pictures, start=1)
        }

    @property
    def again(self) -> str:
        """The commands that train and measure its runs again, and no others."""
        commands = "; ".join(study.command for study in self.studies)
        groups = list(dict.fromkeys(group for study in self.studies for group in study.groups))
        measured = f"; vaexp evaluate RUN --only {','.join(groups)}" if groups else ""
        return f"{commands}{measured}"


Sign = int | None
"""1 if a number is above another one, -1 if below, 0 if neither is sure, None if one is missing."""


def compared(
    left: Repeated, measure: str, right: Repeated | None = None, other: str | None = None
) -> Sign:
    """Whether a measure of some runs is above that of others, or above another measure.

    Of several seeds all must agree, run by run with the same seed. Of a single one the difference
    must be above twice its standard error over images, as if both were independent.
    """
    right, other = right or left, other or measure
    gaps = [a - b for a, b in zip(left.values(measure), right.values(other), strict=False)]
    errors = [hypot(a, b) for a, b in zip(left.errors(measure), right.errors(other), strict=False)]
    return sign(gaps, errors)


def sign(gaps: Sequence[float], errors: Sequence[float]) -> Sign:
    """The sign that all differences have, those of single seeds if they exceed twice their error.

    ``errors`` is looked at only where there is one difference.
    """
    if not gaps:
        return None
    if len(gaps) == 1 and abs(gaps[0]) <= 2 * errors[0]:
        return 0
    return 1 if min(gaps) > 0 else -1 if max(gaps) < 0 else 0


def says(found: Sign, above: str, below: str, level: str) -> str:
    """The sentence that a comparison decides."""
    if found is None:
        return "One of the numbers for this was not measured."
    return {1: above, -1: below, 0: level}[found]


def by_runs(title: str, first: str, rows: Mapping[str, Repeated], measures: Sequence[str]) -> Table:
    """A table with a row for each group of runs and a column for each measure.

    ``first`` is the header of the column with the names of the rows.
    """
    cells = [[name, *(runs[measure] for measure in measures)] for name, runs in rows.items()]
    return Table(title, [first, *measures], cells)


def findings(
    answers: Sequence[tuple[Question, Answer]], how: Sequence[str], pictures: str = "."
) -> str:
    """The questions and answers as Markdown. ``how`` says what was trained.

    ``pictures`` is the folder of the PNG files, relative to that of the text.
    """
    parts = ["# Findings", *how]
    for question, answer in answers:
        parts += [f"## {question.title}", f"*{question.asked}*", f"**{' '.join(answer.short)}**"]
        parts += ["\n".join(f"- {sentence}" for sentence in answer.details)]
        parts += [f"What theory says: {question.theory}"]
        parts += [markdown(table).rstrip() for table in answer.tables]
        parts += [
            f"![{picture.title}]({pictures}/{name})"
            for name, picture in question.files(answer).items()
        ]
        parts += [f"These runs again: `{question.again}`"]
    return "\n\n".join(parts) + "\n"
