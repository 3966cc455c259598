"""What a question of the report is, and the answer that numbers give it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot

from vaexp.reproduction.pictures import Picture
from vaexp.reproduction.size import Size
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
    also: Sequence[str] = ()
    """The titles of pictures of other answers that show something of this one too."""


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

    def again(self, size: Size, changes: Sequence[str], done: Done) -> str:
        """The commands that train and measure its runs again, and no others."""
        commands = "; ".join(
            study.command(size, changes, done.seeds(study)) for study in self.studies
        )
        groups = list(dict.fromkeys(group for study in self.studies for group in study.groups))
        images = f" --images {size.images}" if size.images else ""
        measured = f"; vaexp evaluate RUN --only {','.join(groups)}{images}" if groups else ""
        return f"{commands}{measured}"


Sign = int | None
"""1 if a number is above another one, -1 if below, 0 if neither is sure, None if one is missing."""


def compared(
    left: Repeated,
    measure: str,
    right: Repeated | None = None,
    other: str | None = None,
    key: str = "value",
) -> Sign:
    """Whether a measure of some runs is above that of others, or above another measure.

    Of several seeds all must agree, run by run with the same seed. A single run is held against
    every seed of the others. Of two single runs the difference must be above twice its standard
    error over images, as if both were independent. ``key`` is what is compared of the entries.
    """
    right, other = right or left, other or measure
    pairs = list(_paired(left.values(measure, key), right.values(other, key)))
    errors = [hypot(a, b) for a, b in _paired(left.errors(measure), right.errors(other))]
    return sign([a - b for a, b in pairs], errors)


def _paired(left: list[float], right: list[float]) -> Iterator[tuple[float, float]]:
    """The values with the same seed. A single one goes with every value of the other side."""
    count = max(len(left), len(right))
    left, right = (side * count if len(side) == 1 else side for side in (left, right))
    return zip(left, right, strict=False)


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


def in_mean_and_median(
    left: Repeated, measure: str, right: Repeated, above: str, below: str, level: str
) -> str:
    """The sentence that the means over images decide, and that of their medians if it is another.

    A few images far from all others can carry a mean, as where a floor holds the density up.
    """
    found = compared(left, measure, right)
    median = compared(left, measure, right, key="median")
    sentence = says(found, above, below, level)
    if found is None or median is None or median == found:
        return sentence
    otherwise = says(median, above, below, level)
    return f"By the mean over images, {_within(sentence)} By the median, {_within(otherwise)}"


def _within(sentence: str) -> str:
    """A sentence as the rest of another one."""
    return f"{sentence[0].lower()}{sentence[1:]}"


def by_runs(title: str, first: str, rows: Mapping[str, Repeated], measures: Sequence[str]) -> Table:
    """A table with a row for each group of runs and a column for each measure.

    ``first`` is the header of the column with the names of the rows. A floor that the name of a row
    says is not said again in its cells. If some runs have several seeds, a column says how many.
    """
    seeds = [[str(len(runs.entries))] for runs in rows.values()]
    if all(count == ["1"] for count in seeds):
        seeds = [[] for _ in rows]
    cells = [
        [name, *count, *(runs.cell(measure).replace(f" [{name}]", "") for measure in measures)]
        for count, (name, runs) in zip(seeds, rows.items(), strict=True)
    ]
    return Table(title, [first, *(["seeds"] if any(seeds) else []), *measures], cells)


@dataclass(frozen=True)
class Asked:
    """A question with its answer."""

    question: Question
    answer: Answer
    again: str
    """The commands that train and measure its runs again."""

    @property
    def files(self) -> dict[str, Picture]:
        """The pictures of its answer by the names of their PNG files."""
        return self.question.files(self.answer)


def also(asked: Asked, answers: Sequence[Asked]) -> list[tuple[Asked, str]]:
    """The pictures of other answers that an answer refers to: whose they are, and their files."""
    return [
        (other, name)
        for title in asked.answer.also
        for other in answers
        for name, picture in other.files.items()
        if picture.title == title
    ]


def findings(answers: Sequence[Asked], how: Sequence[str], pictures: str = ".") -> str:
    """The questions and answers as Markdown. ``how`` says what was trained.

    ``pictures`` is the folder of the PNG files, relative to that of the text.
    """
    parts = ["# Findings", *how]
    for asked in answers:
        question, answer = asked.question, asked.answer
        parts += [f"## {question.title}", f"*{question.asked}*", f"**{' '.join(answer.short)}**"]
        parts += ["\n".join(f"- {sentence}" for sentence in answer.details)]
        parts += [f"What theory says: {question.theory}"]
        parts += [markdown(table.with_notes_in_headers()).rstrip() for table in answer.tables]
        parts += [f"![{picture.title}]({pictures}/{name})" for name, picture in asked.files.items()]
        parts += [
            f"See also [{other.files[name].title}]({pictures}/{name}), a picture of the question "
            f"“{other.question.title}”"
            for other, name in also(asked, answers)
        ]
        parts += [f"These runs again: `{asked.again}`"]
    return "\n\n".join(parts) + "\n"
