"""Tables as text for the terminal, as Markdown or CSV."""

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from unicodedata import combining, east_asian_width

from vaexp.shown import ABSENT
from vaexp.visible import visible

LAST_NOTE = re.compile(r" (\([^()]*\)|\[[^][]*\])$")
GAP, INDENT = 3, 2
BEYOND_LATIN = re.compile("[^\u0000-\u02ff]")  # the others are not wide, and none joins another
LEAST = 8  # characters of a column that is folded
JOINTS = "-/_,=+"  # where a name or a path may be folded
EASY = 24  # characters, which hold a density, its error and its floor; remarks may be folded


@dataclass(frozen=True)
class Table:
    """A titled table. Its first column names the rows."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    above: str = ""
    """A sentence for above the table, such as what all rows have in common."""

    def transposed(self, corner: str) -> "Table":
        """The table with its rows as columns, with ``corner`` as the header of the first."""
        columns = [
            [header, *(row[i] for row in self.rows)]
            for i, header in enumerate(self.headers[1:], start=1)
        ]
        headers = [corner, *(row[0] for row in self.rows)] if self.headers else []
        return Table(self.title, headers, columns, self.above)

    def with_notes_in_headers(self) -> "Table":
        """The table with what stands in brackets behind all values of a column in its header."""
        headers, rows = list(self.headers), [list(row) for row in self.rows]
        for i in range(1, len(headers)):
            notes = ""
            while note := _shared_note([row[i] for row in rows]):
                notes = note + notes
                for row in rows:
                    row[i] = row[i].removesuffix(note)
            headers[i] += notes
        return Table(self.title, headers, rows, self.above)

    def without_shared(self) -> "Table":
        """The table without columns that have one value in all rows, which is said once above.

        A column in which nothing stands is left out. If the first column alone is left, the table
        has no columns: what stands above it says all.
        """
        if len(self.rows) < 2:
            return self
        values = [{row[i] for row in self.rows} for i in range(len(self.headers))]
        kept = [i for i, found in enumerate(values) if i == 0 or len(found) > 1]
        said = [
            f"{header} {one}"
            for header, found in zip(self.headers[1:], values[1:], strict=True)
            if len(found) == 1 and (one := next(iter(found))) not in (ABSENT, "")
        ]
        shared = f"The same in all rows: {'; '.join(said)}." if said else ""
        kept = kept if kept[1:] or not said else []
        return Table(
            self.title,
            [self.headers[i] for i in kept],
            [[row[i] for i in kept] for row in self.rows] if kept else [],
            " ".join(part for part in (self.above, shared) if part),
        )

    def without_empty(self, first: int) -> "Table":
        """The table without columns, from the one at ``first`` on, in which nothing stands."""
        every = range(len(self.headers))
        kept = [i for i in every if i < first or {row[i] for row in self.rows} - {ABSENT, ""}]
        headers, *rows = ([row[i] for i in kept] for row in (self.headers, *self.rows))
        return Table(self.title, headers, rows, self.above)


def _shared_note(cells: Sequence[str]) -> str:
    """The last note in brackets that all values of a column have, with the space before it."""
    notes = {found[0] if (found := LAST_NOTE.search(c)) else "" for c in cells if c != ABSENT}
    return notes.pop() if len(notes) == 1 else ""


def print_table(table: Table) -> None:
    """Print a table to stdout: as wide as it needs in a pipe, within the width of a terminal."""
    print(text_table(table, width_of_terminal()))


def on_lines(sentences: Sequence[str]) -> str:
    """Sentences for stdout, each on a line of its own. A terminal has them folded at spaces."""
    width, gap = width_of_terminal(), "\n" + " " * INDENT
    if width is None:
        return "\n".join(sentences)
    room = max(LEAST, width - INDENT)
    return "\n".join(gap.join(fold(visible(sentence), room)) for sentence in sentences)


def width_of_terminal() -> int | None:
    """The columns of the terminal that stdout is, or None if it is a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def text_table(table: Table, width: int | None = None) -> str:
    """A table as plain text, of which nothing is cut. None is any width.

    What does not fit the width goes into further blocks of columns, each of which begins with the
    first column. Where that takes more lines than the table with its rows as columns, as of a
    single run, that is shown. A cell that alone is too wide is folded.
    """
    lines, blocks = _lines(table, width)
    if blocks > 1:
        turned, of_turned = _lines(table.transposed(table.headers[0]), width)
        if of_turned == 1 and len(turned) < len(lines):
            lines = turned
    return "\n".join([*lines, ""])


def _lines(table: Table, width: int | None) -> tuple[list[str], int]:
    """The lines of a table, and the number of blocks of columns."""
    above = [part for part in (visible(table.title), visible(table.above)) if part]
    above = [line for part in above for line in fold(part, width or len(part))]
    if not table.headers:
        return above, 0
    cells = [[visible(cell) for cell in row] for row in (table.headers, *table.rows)]
    columns = [list(column) for column in zip(*cells, strict=True)]
    natural = [max(map(_width, column)) for column in columns]
    if width is None:
        blocks, widths = [list(range(len(columns)))], natural
    else:
        widths = _fitted(columns, natural, width)
        blocks = _blocks(widths, width)
        for block in blocks:  # what is left of the width goes to the columns that are folded
            left = max(0, width - INDENT - sum(widths[i] + GAP for i in block) + GAP)
            for i in (*block[1:], *block[: len(blocks) == 1]):
                more = min(left, natural[i] - widths[i])
                widths[i], left = widths[i] + more, left - more
    if len(blocks) > 1:
        why = f"In {len(blocks)} blocks of columns, as they do not fit into {width} characters:"
        above += fold(why, width or 0)
    lines = above
    for block in blocks:
        lines += [*([""] if lines else []), *_block(columns, widths, block, width)]
    return lines, len(blocks)


def _fitted(columns: list[list[str]], natural: list[int], width: int) -> list[int]:
    """The width of each column, where headers and wide cells are folded, at spaces if possible."""
    whole = width - INDENT
    if len(columns) == 1 or sum(natural) + GAP * (len(natural) - 1) <= whole:
        return [min(needed, whole) for needed in natural]
    half = max(LEAST, (whole - GAP) // 2)
    first = min(natural[0], max(whole * 27 // 100, _longest_word(columns[0])), half)
    room = max(LEAST // 2, whole - GAP - first)
    return [
        first,
        *(
            min(needed, max(EASY, _longest_word(column)), room)
            for needed, column in zip(natural[1:], columns[1:], strict=True)
        ),
    ]


def _longest_word(cells: Sequence[str]) -> int:
    return max(_width(word) for cell in cells for word in _words(cell))


def _words(text: str) -> list[str]:
    """The parts between which a text is folded. What stands in square brackets is one of them."""
    return re.split(r" (?![^\[\]]*\])", text)


def _blocks(widths: list[int], width: int) -> list[list[int]]:
    """The columns of each block that fits the width. All blocks begin with the first column."""
    blocks, room = [[0]], width - INDENT - widths[0]
    left = room
    for i, needed in enumerate(widths[1:], start=1):
        if needed + GAP > left and len(blocks[-1]) > 1:
            blocks.append([0])
            left = room
        blocks[-1].append(i)
        left -= needed + GAP
    return blocks


def _block(
    columns: list[list[str]], widths: list[int], block: list[int], width: int | None
) -> list[str]:
    """The lines of some of the columns: headers, a rule and rows."""
    lines = []
    for number in range(len(columns[0])):
        folded = [fold(columns[i][number], widths[i]) for i in block]
        for level in range(max(map(len, folded))):
            texts = [
                _padded(lines_of[level] if level < len(lines_of) else "", widths[i])
                for i, lines_of in zip(block, folded, strict=True)
            ]
            lines.append((" " * INDENT + (" " * GAP).join(texts)).rstrip())
        if number == 0:
            rule = " " + "─" * (sum(widths[i] + GAP for i in block) - GAP + 2)
            lines.append(rule[:width])
    return lines


def fold(text: str, width: int) -> list[str]:
    """The text in lines of at most this width, folded at spaces where there are some.

    A word that alone is too wide, such as a path, is folded behind one of JOINTS if it can be.
    """
    if _width(text) <= width:
        return [text]
    lines, line = [], ""
    for word in _words(text):
        joined = f"{line} {word}" if line else word
        if _width(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = _broken(word, width)
        lines += full
    return [*lines, line]


def _broken(word: str, width: int) -> list[str]:
    """A word in parts of at most this width."""
    parts, part = [], ""
    for character in word:
        if part and _width(part + character) > width:
            joint = max(part.rfind(one) for one in JOINTS) + 1
            end = joint if joint > len(part) // 2 else len(part)
            parts.append(part[:end])
            part = part[end:]
        part += character
    return [*parts, part]


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) + sum(map(_more_than_one, BEYOND_LATIN.findall(text)))


@cache
def _more_than_one(character: str) -> int:
    """How many columns more than one a character takes: 1 if it is wide, -1 if it joins another."""
    return -1 if combining(character) else 1 if east_asian_width(character) in "WF" else 0


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def markdown(table: Table) -> str:
    """The table as Markdown, below its title and what stands above it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(visible(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = ["---"] * len(table.headers)
    lines = [line(table.headers), line(rule), *map(line, table.rows)] if table.headers else []
    above = f"### {visible(table.title)}\n\n" if table.title else ""
    above += f"{visible(table.above)}\n\n" if table.above else ""
    return above + "\n".join(lines) + "\n"


def comma_separated(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The rows as CSV. Numbers stay numbers, None is an empty cell, and a list is JSON.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, headers))
    writer.writerows([map(_cell, row) for row in rows])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A value as a cell of a CSV file."""
    if isinstance(value, bool | list | dict):
        value = json.dumps(value)
    if not isinstance(value, str) or not value.startswith(tuple("=+-@\t\r\n")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
