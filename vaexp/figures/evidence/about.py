"""The material that the figure of a group is drawn from."""

from dataclasses import dataclass
from typing import Any, Literal

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
    shape: tuple[int, int]
    """The height and the width of an image."""
    shared_factors: bool = False
    """Whether p(x|z) has factors that pixels share beside sigma."""

    def pictures(self, arrays: Arrays, *names: str) -> Arrays:
        """The arrays, of which those with these ``names``, (..., D), become (..., H, W)."""
        shaped = {
            name: arrays[name].reshape(*arrays[name].shape[:-1], *self.shape)
            for name in names
            if name in arrays
        }
        return {**arrays, **shaped}

    def images(
        self, entry: dict[str, Any], factors: Literal["with", "without"] | None = None
    ) -> str:
        """The settings, and the number of test images that a measure is of.

        ``factors`` says of a figure that shows sigma(z) whether it contains the shared factors.
        """
        words = f"{self.settings}, {entry['n']:,} test images"
        shown = factors is not None and self.shared_factors
        return words + (f", σ(z) {factors} the factors" if shown else "")
