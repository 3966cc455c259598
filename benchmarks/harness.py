"""Time programs in turn: ours, and those it is compared with. ``__main__`` is the command.

A case has ours and its rivals. In each round every program runs once, after a pause in which the
threads of the one before fall asleep, so that a slow moment of the machine affects all. The first
round only warms up. A ratio is taken within a round, and the median over rounds is what counts.
"""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

PAUSE = 0.3  # seconds
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "pythae")

Program = Callable[[], float | None]
"""Does the work once. It returns how many seconds of it count, or None: all that it took."""


@dataclass(frozen=True)
class Rival:
    """What ours is compared with, and how ours should do."""

    name: str
    program: Program
    aim: float
    """The ratio that ours should reach: at least, of a peer; at most, of a bound."""
    kind: Literal["peer", "bound"] = "peer"
    """A peer should take longer than ours. A bound is a part of the work, so ours takes longer."""


@dataclass(frozen=True)
class Case:
    """A piece of work that several programs do."""

    name: str
    work: str
    """What is timed, as a phrase for the table."""
    ours: Program
    rivals: list[Rival]
    rounds: int = 7


@dataclass(frozen=True)
class Comparison:
    """Ours beside a rival, over all rounds."""

    rival: str
    kind: Literal["peer", "bound"]
    aim: float
    seconds: list[float]
    ratios: list[float]
    """Its time by ours of a peer, and ours by its of a bound, round by round."""

    @property
    def ratio(self) -> float:
        """The median over rounds."""
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        """Whether ours does as it should."""
        return self.ratio >= self.aim if self.kind == "peer" else self.ratio <= self.aim


@dataclass(frozen=True)
class Measured:
    """What one case gave, and where."""

    name: str
    work: str
    seconds: list[float]
    comparisons: list[Comparison]
    machine: dict[str, Any] = field(default_factory=lambda: machine())

    @classmethod
    def load(cls, data: dict[str, Any]) -> "Measured":
        """The same from its JSON."""
        comparisons = [Comparison(**each) for each in data["comparisons"]]
        return cls(**data | {"comparisons": comparisons})

    def dump(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)


def measure(case: Case) -> Measured:
    """Run the programs of a case in turn."""
    programs = {"": case.ours} | {rival.name: rival.program for rival in case.rivals}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for round_ in range(case.rounds + 1):
        for name, program in programs.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            seconds = program()
            seconds = time.perf_counter() - start if seconds is None else seconds
            if round_:
                times[name].append(seconds)
    ours = times[""]
    comparisons = []
    for rival in case.rivals:
        theirs = times[rival.name]
        above, below = (theirs, ours) if rival.kind == "peer" else (ours, theirs)
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        comparisons.append(Comparison(rival.name, rival.kind, rival.aim, theirs, ratios))
    return Measured(case.name, case.work, ours, comparisons)


def machine() -> dict[str, Any]:
    """The processor, its threads, the versions and the day, as every number hangs on them."""
    packages = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "busy": round(os.getloadavg()[0], 1),
        "day": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "commit": commit or "unknown",
        **packages,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The name of the processor and whether it has AVX-512, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    of = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in of.items()}
    wide = "with" if "avx512f" in named.get("flags", "").split() else "without"
    return f"{named.get('model name', platform.machine())} {wide} AVX-512"


def table(measured: list[Measured]) -> str:
    """The cases as a Markdown table: medians, and the least and largest ratio of a round."""
    lines = [
        "| work | ours, s | beside | its s | ratio (all rounds) | aim | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        work, ours = one.work, f"{statistics.median(one.seconds):.3g}"
        for each in one.comparisons:
            what = "times faster" if each.kind == "peer" else "times as long"
            sign = "≥" if each.kind == "peer" else "≤"
            spread = f"{min(each.ratios):.2f} to {max(each.ratios):.2f}"
            cells = [
                work,
                ours,
                each.rival,
                f"{statistics.median(each.seconds):.3g}",
                f"{each.ratio:.2f} {what} ({spread})",
                f"{sign} {each.aim:g}",
                "yes" if each.reached else "no",
            ]
            lines.append("| " + " | ".join(cells) + " |")
            work = ours = ""
    return "\n".join(lines)
