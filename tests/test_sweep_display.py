"""What a person sees of a sweep while it works: a live table on a terminal."""

import re
from pathlib import Path

from rich.console import Console
from terminals import on_terminal, without_escapes

from vaexp.sweeps.display import Display, duration

CONFIG = """\
model: {kind: ppca, method: closed_form}
data: {validation_size: 50, labels: [4]}
"""


def test_the_time_left_is_that_of_those_before() -> None:
    display = Display(Console(), 10, jobs=2)
    assert display.time_left([1.0], 3) is None
    display.seconds += [10.0, 20.0]
    assert display.time_left([5.0, 40.0], 4) == (10.0 + 4 * 15.0) / 2


def test_durations_are_read_at_a_glance() -> None:
    shown = [duration(seconds) for seconds in (0.4, 59.4, 59.6, 185, 3599.7, 7380)]
    assert shown == ["0 s", "59 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 03 min"]


def test_a_terminal_shows_what_is_done_running_and_failed_and_the_time_left(
    elsewhere: Path,
) -> None:
    """Of three trials the last two ask for more images than there are."""
    (elsewhere / "tiny.yaml").write_text(CONFIG)
    given = ["--grid", "data.limit=20,20000,20001", "--no-figures", "--folder", "s"]
    shown = on_terminal(120, "sweep", "tiny.yaml", *given, cwd=elsewhere, code=1)
    assert "\x1b[" in shown
    text = without_escapes(shown)
    for number, counts in enumerate(
        (
            r"0 of 3 done  1 running  0 failed  2 waiting",
            r"1 of 3 done  1 running  0 failed  1 waiting  about .* left",
            r"1 of 3 done  1 running  1 failed  0 waiting  about .* left",
        ),
        start=1,
    ):
        assert re.search(counts, text), text
        assert re.search(rf"  trial {number} \(data\.limit=\d+\) +\d+ s", text), text
    lines = [line.strip() for line in text.splitlines()]
    for said in (
        r"trial 1 \(data\.limit=20\) finished in .* s  log_prob",
        r"trial 2 \(data\.limit=20000\) failed after .* s: ",
    ):
        assert any(re.match(said, line) for line in lines), text
    assert "3 trials: 2 failed, 1 finished" in lines
    assert not any(line.endswith("started") for line in lines)  # as the table shows it
    assert lines[-1] == "s"
