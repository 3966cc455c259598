"""The material that the figure of a group is drawn from."""

from dataclasses import dataclass
from typing import Any

from vaexp.figures.style import Array

Arrays = dict[str, Array]
"""The arrays that a group left for its figure, by name."""
Entries = dict[str, dict[str, Any]]
"""The group's entries of metrics.json, by name."""


@dataclass(frozen=True)
class About:
    """The facts that a figure needs on the run whose numbers it shows."""

    settings: str
    """The settings that matter, on one line."""
    floor: float
    """The floor of sigma in units of x, or of covariances in units of x squared."""
    mixture: bool
    """Whether z is the index of a mixture's component."""

    def images(self, entry: dict[str, Any]) -> str:
        """The settings, and the number of test images that a measure is of."""
        return f"{self.settings}, {entry['n']:,} test images"
