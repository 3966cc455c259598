"""Tables as text: nothing is cut in a pipe, and a terminal gets blocks of columns."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from terminals import on_terminal

from vaexp.pages.page import of_table
from vaexp.shown import show_entry, show_number, show_size
from vaexp.tables import Table, comma_separated, fold, markdown, text_table

TABLE = Table(
    "A title",
    ["run", "first", "second column", "third"],
    [
        ["one-1234", "1.25 ± 0.03", "a long remark in several words", "x"],
        ["two-5678", "-736.9 ± 1.2 [σ ≥ 0.001]", "–", "y"],
    ],
)


def cells(text: str) -> str:
    """A text without the white space between its words and lines."""
    return re.sub(r"\s+", "", text)


def test_a_pipe_has_one_line_for_each_row() -> None:
    lines = text_table(TABLE).splitlines()
    assert lines[0] == "A title"
    for row, line in zip([TABLE.headers, *TABLE.rows], [lines[2], *lines[4:6]], strict=True):
        assert re.split(r" {3,}", line.strip()) == row


@pytest.mark.parametrize("width", [20, 40, 60, 80, 140])
def test_a_terminal_shows_every_cell_within_its_width(width: int) -> None:
    text = text_table(TABLE, width)
    assert max(map(len, text.splitlines())) <= width
    for row in (TABLE.headers, *TABLE.rows):
        for cell in row:
            for word in cell.split():
                assert cells(word) in cells(text)
    blocks = text.count("─\n")
    said = " ".join(text.split())
    assert (f"In {blocks} blocks of columns" in said) == ("blocks of" in said) == (blocks > 1)
    if width >= 40:
        assert text.count("one-1234") == text.count("two-5678") == blocks
    assert (blocks == 1) == (width >= 80)


def test_a_single_row_that_does_not_fit_stands_upright() -> None:
    one = Table("A title", TABLE.headers, TABLE.rows[1:])
    assert text_table(one, 60).splitlines() == [
        "A title",
        "",
        "  run             two-5678",
        " " + "─" * (len("second column   -736.9 ± 1.2 [σ ≥ 0.001]") + 2),
        "  first           -736.9 ± 1.2 [σ ≥ 0.001]",
        "  second column   –",
        "  third           y",
    ]
    assert text_table(one, 100) == text_table(one)


def test_what_stands_in_brackets_is_not_torn() -> None:
    assert "[σ ≥ 0.001]" in text_table(TABLE, 40)


def test_a_name_cannot_draw_on_the_terminal() -> None:
    text = text_table(Table("", ["run"], [["\x1b[31mred\nnew line"]]))
    assert "\x1b" not in text
    assert "\\x1b[31mred\\nnew line" in text


def test_wide_characters_take_two_columns() -> None:
    lines = text_table(Table("", ["run", "x"], [["数字", "1"], ["ab", "2"]])).splitlines()
    assert lines[2:4] == ["  数字   1", "  ab     2"]


def test_what_all_rows_share_is_said_once() -> None:
    table = Table(
        "", ["run", "beta", "kind", "none"], [["a", "1", "vae", "–"], ["b", "2", "vae", "–"]]
    ).without_shared()
    assert table.headers == ["run", "beta"]
    assert table.rows == [["a", "1"], ["b", "2"]]
    assert table.above == "The same in all rows: kind vae."


def test_a_table_whose_rows_share_all_is_its_sentence() -> None:
    table = Table("Metrics", ["run", "beta"], [["a", "1"], ["b", "1"]]).without_shared()
    assert (table.headers, table.rows) == ([], [])
    assert text_table(table) == "Metrics\nThe same in all rows: beta 1.\n"
    assert text_table(table, 20) == "Metrics\nThe same in all\nrows: beta 1.\n"
    assert markdown(table).split() == [
        "###",
        "Metrics",
        "The",
        "same",
        "in",
        "all",
        "rows:",
        "beta",
        "1.",
    ]
    assert of_table(table).table is None
    names = Table("", ["run", "x"], [["a", "–"], ["b", "–"]]).without_shared()
    assert names.rows == [["a"], ["b"]]  # nothing is said in their place


def test_numbers_stay_numbers_in_csv_and_formulas_become_text() -> None:
    row = [-1.5, 2, None, True, [512, 256], "-3", "=1+1", "+x", "@x", "-x", "\tx", "plain"]
    text = comma_separated(["=header", *"abcdefghijk"], [row])
    header, cells = csv.reader(io.StringIO(text))
    assert header[0] == "'=header"
    assert cells == [
        *("-1.5", "2", "", "true", "[512, 256]", "-3"),
        *("'=1+1", "'+x", "'@x", "'-x", "'\tx", "plain"),
    ]


def test_a_measure_of_the_first_images_says_how_many() -> None:
    entry = {"value": 1.0, "se": 0.1, "n": 200}
    assert show_entry(entry) == "1.00 ± 0.10"
    assert show_entry(entry | {"first_images": 200}) == "1.00 ± 0.10 (n = 200)"


def test_sizes() -> None:
    shown = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 12_600_000: "13 MB", 3 * 10**9: "3.0 GB"}
    assert {count: show_size(count) for count in shown} == shown


# The real command on a real terminal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 runs that differ in beta, each with a value of its own."""
    from conftest import Forge

    forge = Forge(tmp_path_factory.mktemp("many"))
    elbo = np.random.default_rng(1).normal(-700, 5, 40)
    for i in range(200):
        forge(
            f"run{i:03d}",
            f"model.beta={1 + i}",
            values={"elbo": elbo + i, "rate": np.full(40, 2.5)},
        )
    (forge.folder / "forged.yaml").unlink()
    return forge.folder


def tables_of(text: str) -> list[str]:
    """The lines that belong to tables."""
    return [line for line in text.splitlines() if line.startswith("  ")]


@pytest.mark.parametrize("count", [2, 8, 200])
def test_no_value_is_lost_in_a_pipe(folder: Path, cli: Any, count: int) -> None:
    runs = sorted(folder.iterdir())[:count]
    text = cli.ok("compare", *runs, "--all")
    for i, run in enumerate(runs):
        short = run.name[16:]
        assert short in text
        assert f" {show_entry(_entry(run))}" in text
        if count > 3:
            [line, *_] = [line for line in tables_of(text) if line.split()[0] == short]
            rank, elbo, *_, beta, _folder = re.split(r" {3,}", line.strip())[1:]
            assert (rank.rstrip("="), beta) == (str(count - i), str(1 + i))
            assert elbo == show_entry(_entry(run))
            assert line.endswith(str(run))
    # rate is the same in all runs, and said once
    assert text.count("2.5") == (1 if count > 3 else count)


@pytest.mark.parametrize(("width", "count"), [(40, 8), (80, 200), (140, 2)])
def test_tables_fit_a_terminal_and_lose_nothing(folder: Path, width: int, count: int) -> None:
    runs = sorted(folder.iterdir())[:count]
    text = on_terminal(width, "compare", *runs)
    assert max(map(len, text.splitlines())) <= width  # the sentences below the tables as well
    joined = cells(text)
    for run in runs:
        assert cells(show_entry(_entry(run)).split(" [")[0]) in joined
        assert run.name[16:] in text


@pytest.mark.parametrize("width", [20, 80])
def test_the_list_fits_a_terminal(folder: Path, width: int) -> None:
    text = on_terminal(width, "runs", folder)
    assert max(map(len, tables_of(text))) <= width
    first = min(folder.iterdir())
    assert cells(first.name)[-8:] in cells(text)
    assert show_entry(_entry(first)).split()[0] in text
    if width == 80:
        heads = [line for line in text.splitlines() if line.startswith("  run ")]
        # One line for each run in each block, but two in the last, whose model is wider than the
        # 48 columns that are left beside the name: no layout of one line could show it whole.
        assert sum(line.startswith("  2026") for line in text.splitlines()) == 200 * len(heads)
        assert len(text.splitlines()) < 200 * (len(heads) + 1) + 10 * len(heads)


def test_a_long_word_is_folded_where_its_parts_meet() -> None:
    name = "20261130-101623-latent_dim-5-seed-1-6a04"
    assert fold(name, 37) == ["20261130-101623-latent_dim-5-seed-1-", "6a04"]
    assert fold("abcdefgh", 5) == ["abcde", "fgh"]
    assert fold("a-bcdefgh", 5) == ["a-bcd", "efgh"]  # a part of one letter would be wasteful
    assert fold("see runs/a-long-name/x", 9) == ["see", "runs/a-", "long-", "name/x"]


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    table = Table(
        "t", ["metric", "a", "b", "b minus a"], [["x", "1", "–", "–"], ["y", "", "–", ""]]
    )
    assert table.without_empty(3).headers == ["metric", "a", "b"]
    assert table.without_empty(1).rows == [["x", "1"], ["y", ""]]


def test_numbers_without_an_error_have_thousands_set_apart_as_those_with_one() -> None:
    assert show_number(2436.4, None) == "2,436.4"
    assert show_number(-2391.04, 7.1) == "-2,391.0 ± 7.1"


def _entry(run: Path) -> dict[str, Any]:
    from vaexp.runs.folder import RunFolder

    return RunFolder(run).metrics()["test"]["elbo"]


def test_notes_that_all_values_of_a_column_have_stand_in_its_header() -> None:
    rows = [
        ["a (x)", "1 [σ = 1] (n = 9)", "3 (n = 9)", "–", "1 [σ = 1]"],
        ["b (x)", "2 [σ = 1] (n = 9)", "–", "–", "2 [σ = 2]"],
    ]
    table = Table("", ["run (x)", "elbo", "fid", "none", "other"], rows).with_notes_in_headers()
    assert table.headers == ["run (x)", "elbo [σ = 1] (n = 9)", "fid (n = 9)", "none", "other"]
    assert table.rows == [
        ["a (x)", "1", "3", "–", "1 [σ = 1]"],
        ["b (x)", "2", "–", "–", rows[1][4]],
    ]
