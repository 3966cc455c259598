"""What a question of the report is, and the answer that numbers give it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vaexp.reproduction.studies import Done, Repeated, Study
from vaexp.tables import Table, markdown


@dataclass(frozen=True)
class Answer:
    """What the runs say to a question."""

    sentences: Sequence[str]
    """The answer first, in whole sentences that the numbers decide."""
    tables: Sequence[Table]
    """Numbers of the runs, all of them read from metrics.json."""


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


def by_runs(title: str, first: str, rows: Mapping[str, Repeated], measures: Sequence[str]) -> Table:
    """A table with a row for each group of runs and a column for each measure.

    ``first`` is the header of the column with the names of the rows.
    """
    cells = [[name, *(runs[measure] for measure in measures)] for name, runs in rows.items()]
    return Table(title, [first, *measures], cells)


def findings(answers: Sequence[tuple[Question, Answer]], how: Sequence[str]) -> str:
    """The questions and answers as Markdown. ``how`` says what was trained."""
    parts = ["# Findings", *how]
    for question, answer in answers:
        parts += [f"## {question.title}", f"*{question.asked}*", " ".join(answer.sentences)]
        parts += [markdown(table).rstrip() for table in answer.tables]
    return "\n\n".join(parts) + "\n"
