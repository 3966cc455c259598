"""What all commands share: how an error ends them, and the options that several of them have."""

import errno
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaexp.errors import RunError, Terminated, UserError
from vaexp.visible import visible_lines


class Commands(TyperGroup):
    """Turns errors into messages and exit codes, for all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. A user's mistake or a failed run ends without a traceback."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _fail(str(error), 2)
        except RunError as error:
            _fail(str(error), 1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has gone; typer ends quietly
                raise
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror or error}", 1)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except Terminated:
            _fail("terminated", 143)


def _fail(message: str, code: int) -> None:
    """Print a message to stderr and end with an exit code."""
    typer.echo(visible_lines(message), err=True)
    raise typer.Exit(code)


class Format(StrEnum):
    """The ways to print a table."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Settings of the config to change, such as model.beta=4."
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="The run folder that train printed.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
