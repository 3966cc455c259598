"""The answer to a question that has no meaning for a model or a family."""

from typing import NamedTuple, TypeVar

Answer = TypeVar("Answer")


class Absent(NamedTuple):
    """Stands where an answer would be, and says why there is none."""

    reason: str
    """A sentence without its full stop: "p(x|z) has no sigma"."""


def answered(answer: Answer | Absent) -> Answer:
    """The answer to a question whose absence was ruled out before.

    Raises TypeError, with the reason, where it was not.
    """
    if isinstance(answer, Absent):
        raise TypeError(answer.reason)
    return answer
