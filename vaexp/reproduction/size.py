"""How much a reproduction trains. The command line reads this, so it imports next to nothing."""

from dataclasses import dataclass
from typing import Self

SEEDS = 5
QUICK = (
    "data.limit=10000",
    "data.validation_size=5000",
    "train.epochs=10",
    "train.max_iter=10",
    "evaluate.importance_samples=0",
)
"""What --quick changes in every config that has the key."""
QUICK_IMAGES = 2_000
"""The test images on which --quick measures groups such as the quality of samples."""


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    quick: bool = False
    seeds: int = SEEDS
    """The most seeds of any study."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What is changed in every config that has the key."""
        return QUICK if self.quick else ()

    @property
    def images(self) -> int | None:
        """On how many of the first test images groups are measured; None stands for all."""
        return QUICK_IMAGES if self.quick else None

    @classmethod
    def asked(cls, quick: bool, seeds: int | None) -> Self:
        """The size that the options of the command line ask for."""
        return cls(quick, seeds or cls.usual(quick))

    @staticmethod
    def usual(quick: bool) -> int:
        """The number of seeds if none is given."""
        return 1 if quick else SEEDS

    @property
    def options(self) -> list[str]:
        """The options of the command line that ask for it."""
        quick = ["--quick"] if self.quick else []
        return quick + ([] if self.seeds == self.usual(self.quick) else [f"--seeds {self.seeds}"])
