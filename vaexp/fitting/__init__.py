"""Fitting: each method yields one FitStep per iteration and writes nothing."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FitStep:
    """What one epoch of gradients, or one iteration of EM, yields."""

    at: int
    """The number of the epoch, or of the EM iteration."""
    record: dict[str, Any]
    """The line of metrics.jsonl."""
    state: dict[str, Any]
    """All that is needed to go on from here. The next step changes its tensors: save it before."""
    keep: bool
    """Whether the run should keep the weights that the model has now."""
