"""Columns of numbers and texts as a file that other tools read, CSV or Parquet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaexp.errors import UserError
from vaexp.tables import comma_separated

CODES = "backslashreplace"
"""What becomes of the bytes of a path that are no text."""
Columns = Mapping[str, Sequence[Any]]
"""Lists of equal length by the name of their column. None is a value that is missing."""


def write_csv(path: Path, columns: Columns) -> None:
    """Write columns as CSV, with their names in the first line.

    The bytes of a path that are no text are written as codes, as other tools read UTF-8.
    """
    rows = list(zip(*columns.values(), strict=True))
    path.write_bytes(comma_separated([*columns], rows).encode("utf-8", CODES))


def write_parquet(path: Path, columns: Columns) -> None:
    """Write columns as Parquet. Raises UserError without pyarrow, as ``check_parquet`` does."""
    check_parquet()
    import pyarrow
    from pyarrow import parquet

    texts = {name: [_text(value) for value in column] for name, column in columns.items()}
    parquet.write_table(pyarrow.table(texts), path)


def _text(value: Any) -> Any:
    """A value as it is, but a text without what UTF-8 does not have."""
    return value.encode("utf-8", CODES).decode() if isinstance(value, str) else value


def check_parquet() -> None:
    """Raise UserError unless the package pyarrow is there, which Parquet needs."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"parquet needs the package pyarrow, which cannot be imported ({error}); pip install "
            "'vaexp[parquet]' installs it, and csv needs nothing"
        ) from None
