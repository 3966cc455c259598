"""What all commands share: how an error ends them, and the options that several of them have."""

import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vaexp import cli_completion, signals
from vaexp.errors import RunError, Terminated, UserError, in_a_line, is_out_of_memory
from vaexp.paths import expanded
from vaexp.processes import Processes
from vaexp.visible import visible_lines

if TYPE_CHECKING:
    from vaexp.config import Config
    from vaexp.runs.folder import RunFolder


class Commands(TyperGroup):
    """Turns errors into messages and exit codes, for all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command and print its answer. However it ends, it shows no traceback.

        The object of the context, if there is one, is called first, as the command begins.
        """
        _opened.clear()
        try:
            if ctx.obj is not None:
                ctx.obj()
            result = super().invoke(ctx)
            sys.stdout.flush()
        except UserError as error:
            _fail(str(error), 2)
        except RunError as error:
            _fail(str(error), 1)
        except KeyboardInterrupt:
            signals.ending()
            _fail("interrupted", 130)
        except Terminated:
            _fail("terminated", 143)
        except BrokenPipeError:  # the reader of the answer has gone; typer ends quietly
            raise
        except Exception as error:
            if isinstance(error, typer.Abort) or hasattr(error, "exit_code"):
                raise  # typer's own: a wrong option, or the end of the command
            if isinstance(signals.cause(error), KeyboardInterrupt):
                _fail("interrupted", 130)
            _fail(_unforeseen(error), 1)
        return result


def print_answer(text: str, nl: bool = True) -> None:
    """Print what a command answers to stdout.

    In a pipe it is the text as it is. On a terminal control characters are made visible, as those
    in the name of a folder would be obeyed.
    """
    text += "\n" if nl else ""
    sys.stdout.write(visible_lines(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


_opened: "list[RunFolder]" = []
"""The runs that the command works on, so that the line on an unforeseen error names the first."""


def opened(run: str, runs_dir: Path | None = None) -> "RunFolder":
    """Open the run that an argument means. Raises UserError or RunError as ``open_run``."""
    from vaexp.runs.find import RUNS, open_run

    folder = open_run(run, runs_dir or RUNS)
    _opened.append(folder)
    return folder


def found(runs: list[str]) -> "list[RunFolder]":
    """The runs that arguments mean, none of them read yet. Raises UserError as ``find_all``."""
    from vaexp.runs.find import find_all
    from vaexp.runs.folder import RunFolder

    folders = [RunFolder(path) for path in find_all(runs)]
    _opened.extend(folders)
    return folders


def _unforeseen(error: Exception) -> str:
    """A line on an error that no code foresaw. Python's development mode shows where it is.

    Where the command works on a run, the line names it, and its log has the traceback.
    """
    if sys.flags.dev_mode and not isinstance(error, OSError):
        return traceback.format_exc()
    if _opened:
        from vaexp.runs.unforeseen import fault

        return str(fault(_opened[0], error))
    if isinstance(error, OSError) or is_out_of_memory(error):
        return in_a_line(error)
    return (
        f"{in_a_line(error)}; this is a fault of vaexp, please report it with what "
        "PYTHONDEVMODE=1 shows in addition"
    )


def _fail(message: str, code: int) -> NoReturn:
    """Print a message to stderr and end with an exit code."""
    rank = Processes.of_torchrun().rank
    message = f"process {rank}: {message}" if rank else message
    typer.echo(visible_lines(message), err=True)
    raise typer.Exit(code)


def settings_of(config: str | None, overrides: list[str]) -> "Config":
    """The settings of a new run; says what the user should know of them."""
    from vaexp.config import read_config
    from vaexp.sweeps.file import sweep_file

    if config is None:
        raise UserError("which config? vaexp configs list shows some to begin with")
    if sweep_file(config):
        raise UserError(f"{config}: it describes a sweep; vaexp sweep {config} runs its trials")
    settings, notes = read_config(config, overrides)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    return settings


def train_here(
    settings: "Config",
    runs_dir: Path,
    run: "RunFolder | None",
    *,
    figures: bool = True,
    images: int | None = None,
) -> "RunFolder":
    """Train a new run in ``runs_dir``, or go on with ``run``; returns its folder.

    ``images`` is the largest number of images of a split that are measured, or None for all. Of
    several processes this is the first. Torch is imported here, as commands that train nothing do
    not need it.
    """
    from vaexp.progress import Reporter

    reporter, processes = Reporter(), Processes.of_torchrun()
    with reporter.waiting("loading torch and the data"):
        from vaexp.experiment import train as experiment
        from vaexp.experiment.fit import check_shares
        from vaexp.experiment.memory import check_memory
        from vaexp.experiment.prepare import Experiment

        check_memory(settings)
        prepared = Experiment.prepare(settings, run)
        check_shares(prepared, processes)
    return experiment.train(
        prepared,
        expanded(runs_dir),
        reporter,
        run,
        figures=figures,
        images=images,
        processes=processes,
    )


def follow_here(dry_run: bool) -> None:
    """Train with the first of several processes, which alone reads arguments and writes files.

    With ``dry_run`` that one trains nothing.
    """
    if dry_run:
        return
    from vaexp.experiment import fit

    fit.follow(Processes.of_torchrun())


def dismiss_others() -> None:
    """End the other processes, if there are any, as they wait for something to train."""
    processes = Processes.of_torchrun()
    if processes.count == 1:
        return
    from vaexp.experiment import fit

    fit.dismiss(processes)


class Format(StrEnum):
    """The ways to print a table."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings of the config to change, such as model.beta=4.",
        autocompletion=cli_completion.settings,
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The run folder that train printed, a unique beginning of the name of one in runs/, "
        "or latest.",
        autocompletion=cli_completion.runs,
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
