"""The answer to a question that has no meaning for a model or a family."""

from typing import NamedTuple


class Absent(NamedTuple):
    """Stands where an answer would be, and says why there is none."""

    reason: str
    """A sentence without its full stop."""
