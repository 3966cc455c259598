"""Ranges from which a random search draws: ``LOW..HIGH``, or ``log:LOW..HIGH``."""

import math
import random
from dataclasses import dataclass

_NUMBER = r"\s*[-+]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*"
PATTERN = rf"^(log:)?{_NUMBER}\.\.{_NUMBER}$"
"""What a range looks like, for the schema of a sweep's file. ``Range.parse`` says what is wrong."""
DIGITS = 4  # that a drawn number has, so that it can be read and typed


@dataclass(frozen=True)
class Range:
    """The numbers from low to high, both of which may be drawn."""

    low: float
    high: float
    log: bool
    """Whether the logarithm is uniform, and not the number itself."""
    whole: bool
    """Whether only whole numbers are drawn, as both ends were written as such."""

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Read a range. Raises ValueError, which says what is wrong, if it is none."""
        log, ends = text.startswith("log:"), text.removeprefix("log:")
        low_text, dots, high_text = ends.partition("..")
        try:
            low, high = float(low_text), float(high_text)
        except ValueError:
            dots = ""
        if not dots or not math.isfinite(low) or not math.isfinite(high):
            raise ValueError("write it as LOW..HIGH or log:LOW..HIGH, such as log:1e-4..1e-2")
        if low >= high:
            raise ValueError(f"{low_text} is not below {high_text}")
        if log and low <= 0:
            raise ValueError("a logarithm needs numbers above 0")
        whole = _is_whole(low_text) and _is_whole(high_text)
        return cls(low, high, log, whole)

    def draw(self, generator: random.Random) -> int | float:
        """Draw one number. One draw takes one random number from the generator."""
        u = generator.random()  # the one method that is the same in every version of Python
        end = self.high + 1 if self.whole else self.high
        if self.log:
            number = math.exp(math.log(self.low) + u * math.log(end / self.low))
        else:
            number = self.low + u * (end - self.low)
        if not self.whole:
            number = float(f"{number:.{DIGITS}g}")
        number = min(max(number, self.low), self.high)
        return math.floor(number) if self.whole else number


def _is_whole(text: str) -> bool:
    return text.strip().lstrip("+-").replace("_", "").isdigit()
