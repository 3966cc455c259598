"""The harness that times programs in turn, and the numbers that its page shows."""

from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.harness import Case, Measured, Program, Rival, measure, table

README = Path(__file__).parents[1] / "benchmarks" / "README.md"


def lasting(*seconds: float) -> Program:
    """A program that says that its turns last so long; the first is the one that warms up."""
    turns = iter([99.0, *seconds])
    return lambda: next(turns)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.setattr("benchmarks.harness.PAUSE", 0)
    rivals = [
        Rival("a peer", lasting(2, 9, 6), 2.0),
        Rival("a part of it", lasting(1, 1, 1), 1.5, "bound"),
    ]
    return measure(Case("case", "the work", lasting(1, 3, 2), rivals, rounds=3))


def test_a_ratio_is_taken_within_each_round(measured: Measured) -> None:
    peer, bound = measured.comparisons
    assert (peer.ratios, bound.ratios) == ([2, 3, 3], [1, 3, 2])
    assert (peer.ratio, peer.reached) == (3, True)
    assert (bound.ratio, bound.reached) == (2, False)


def test_the_table_says_which_aims_are_reached(measured: Measured) -> None:
    rows = table([measured]).splitlines()[2:]
    assert rows == [
        "| the work | 2 | a peer | 6 | 3.00 times faster (2.00 to 3.00) | ≥ 2 | yes |",
        "|  |  | a part of it | 1 | 2.00 times as long (1.00 to 3.00) | ≤ 1.5 | no |",
    ]


def test_measured_numbers_survive_their_file(measured: Measured) -> None:
    assert Measured.load(measured.dump()) == measured


def test_a_program_that_says_nothing_is_timed_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("benchmarks.harness.PAUSE", 0)
    monkeypatch.setattr("benchmarks.harness.time.perf_counter", lambda: next(clock))
    case = Case("case", "the work", lambda: None, [], rounds=2)
    assert measure(case).seconds == [1, 1]


def test_the_page_shows_the_numbers_of_its_file() -> None:
    shown = README.read_text(encoding="utf-8").split(command.BEGIN)[1].split(command.END)[0]
    assert shown == table([*command.kept().values()]) + "\n"
