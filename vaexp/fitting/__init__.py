"""Fitting: each method yields a FitStep per iteration, and within long ones, and writes nothing."""

from dataclasses import dataclass
from typing import Any

MISFIT = (
    "checkpoints/state.pt does not fit config.yaml; one of the two was changed or comes from "
    "another run"
)
"""What a user is told of a state that training cannot go on from."""


@dataclass(frozen=True)
class FitStep:
    """What one epoch of gradients, or one iteration of EM, yields."""

    at: int
    """The number of epochs, or of EM iterations, that are finished."""
    record: dict[str, Any] | None
    """The line of metrics.jsonl; None in the middle of an epoch, where only the state counts."""
    state: dict[str, Any]
    """All that is needed to go on from here. The next step changes its tensors: save it before."""
    keep: bool
    """Whether the run should keep the weights that the model has now."""
