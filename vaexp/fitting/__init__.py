"""Fitting: each method yields one FitStep per iteration and writes nothing."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FitStep:
    """What one epoch, or one EM iteration, leaves behind."""

    at: int
    """The number of the epoch, or of the EM iteration."""
    record: dict[str, Any]
    """The line of metrics.jsonl."""
    state: dict[str, Any]
    """All that going on from here needs. Holds live tensors: save it before the next step."""
    keep: bool
    """Whether the model's weights now are the ones the run should keep."""
