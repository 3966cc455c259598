"""The answer to a question that has no meaning for a model or a family."""

from typing import NamedTuple, TypeVar

Answer = TypeVar("Answer")


class Absent(NamedTuple):
    """Stands in the place of an answer and says why there is none."""

    reason: str
    """A sentence without its full stop: "p(x|z) has no sigma"."""


def answered(answer: Answer | Absent) -> Answer:
    """The answer itself, where the caller has made sure that there is one.

    Raises TypeError, with the reason, where there is none.
    """
    if isinstance(answer, Absent):
        raise TypeError(answer.reason)
    return answer
