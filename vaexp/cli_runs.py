"""The commands on the runs of a folder: list, show, trim and remove them."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaexp import cli_completion
from vaexp.cli_common import (
    Format,
    FormatOption,
    JsonFlag,
    RunArgument,
    opened,
    print_answer,
)
from vaexp.errors import UserError
from vaexp.paths import expanded
from vaexp.visible import visible

DEFAULT = "list"


class _ListedByDefault(TyperGroup):
    """``vaexp runs [DIR]`` is ``vaexp runs list [DIR]``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, after ``list`` if no command is named, unless one may be completed."""
        if not args and ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [DEFAULT, *args])


runs_app = typer.Typer(
    cls=_ListedByDefault,
    help="List, show, trim and remove runs. [bold]vaexp runs[/bold] alone lists those in runs/.\n\n"
    "Example: [bold]vaexp runs --where 'model.beta>1' --sort test.elbo[/bold]\n\n"
    "All options of the list: vaexp runs list --help",
)
RunsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Run folders, beginnings of their names, or latest.",
        autocompletion=cli_completion.runs,
    ),
]
RunsDir = Annotated[Path, typer.Option(help="The folder that holds the runs.")]


@runs_app.command(DEFAULT)
def list_command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The folder that holds the runs.")
    ] = Path("runs"),
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY,...",
            help="The columns: settings (model.beta), metrics (test.elbo, validation.elbo), and "
            "status, started, steps, size, model, error.",
            autocompletion=cli_completion.several_run_keys,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Only runs for which it holds, such as 'model.beta>1' or status=failed. The "
            "operators are = != < <= > >=. Several conditions must all hold.",
            autocompletion=cli_completion.run_keys,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Sort by this, the smallest value first.",
            autocompletion=cli_completion.run_keys,
        ),
    ] = None,
    format_: FormatOption = Format.table,
    as_json: JsonFlag = False,
) -> None:
    """List runs, the oldest first: status, headline metrics, size, and the settings that differ.

    Runs in folders below are listed too.

    The CSV has all settings and all test metrics. Its column run joins it with that of compare.

    Example: [bold]vaexp runs list --columns model.beta,test.elbo,size --sort test.elbo[/bold]
    """
    from vaexp.runs.keys import selected
    from vaexp.runs.listing import list_runs
    from vaexp.runs.overview import render_runs

    folder = expanded(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{visible(str(folder))}: no such folder")
    only_list = format_ in (Format.table, Format.md) and not (columns or where or sort or as_json)
    every = list_runs(folder, "headlines" if only_list else "everything")
    if not every:
        typer.echo(f"{folder}: this folder holds no runs", err=True)
    listed = selected(every, where or [], sort)
    if every and not listed:
        typer.echo(f"{folder}: none of its {len(every)} runs meets the conditions", err=True)
    keys = [key.strip() for given in columns or [] for key in given.split(",") if key.strip()]
    text = render_runs(listed, "json" if as_json else format_.value, keys)
    print_answer(text, nl=False)


@runs_app.command()
def show(run: RunArgument, as_json: JsonFlag = False) -> None:
    """Print the settings of a run, its metrics with their errors, and the paths of its pictures.

    Example: [bold]vaexp runs show latest[/bold]
    """
    from vaexp.comparison.one import render_run
    from vaexp.runs.listing import read_run

    folder = opened(run)
    print_answer(render_run(folder, read_run(folder), as_json), nl=False)


@runs_app.command()
def trim(runs: RunsArgument, runs_dir: RunsDir = Path("runs"), as_json: JsonFlag = False) -> None:
    """Remove what only a continuation of finished runs needs. Prints the bytes that this freed.

    That is checkpoints/state.pt. Everything that was measured and drawn stays, and so does the
    model: it can be sampled and evaluated. A trimmed run cannot be trained for more epochs.

    Example: [bold]vaexp runs trim runs/*-vae-fixed-*[/bold]
    """
    from vaexp.runs.tidy import trim as trim_run

    folders = [opened(run, runs_dir) for run in runs]
    freed = {str(folder.path): trim_run(folder, _say) for folder in folders}
    _print_freed(freed, as_json)


@runs_app.command()
def rm(
    runs: RunsArgument,
    runs_dir: RunsDir = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove run folders with everything in them, after asking. Prints the bytes that this freed.

    Only run folders in the folder of the runs, or in folders below it, are removed, and none that
    is running. No link is followed.

    Example: [bold]vaexp runs rm 20261122-143015-quickstart-7f3a[/bold]
    """
    from vaexp.runs.find import find_run
    from vaexp.runs.folder import RunFolder
    from vaexp.runs.listing import read_run, size_on_disk
    from vaexp.runs.tidy import check_removable, remove
    from vaexp.shown import show_size

    runs_dir = expanded(runs_dir)
    paths = list(dict.fromkeys(find_run(run, runs_dir) for run in runs))
    for path in paths:
        check_removable(path, runs_dir)
    if not yes:
        for path in paths:
            status = read_run(RunFolder(path)).status
            size = show_size(size_on_disk(path))
            typer.echo(f"{visible(str(path))}  {status}  {size}", err=True)
        what = "this run" if len(paths) == 1 else f"these {len(paths)} runs"
        typer.echo(f"Remove {what} for good? [y/N] ", nl=False, err=True)
        answer = sys.stdin.readline() if sys.stdin else ""
        if not answer:
            raise UserError("nothing was removed, as nobody answered; --yes does not ask")
        if answer.strip().lower() not in ("y", "yes"):
            raise UserError("nothing was removed")
    _print_freed({str(path): remove(path, runs_dir, _say) for path in paths}, as_json)


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _print_freed(freed: dict[str, int], as_json: bool) -> None:
    """Print how many bytes each run has freed, and all of them together."""
    if as_json:
        print_answer(json.dumps({"freed": freed, "bytes": sum(freed.values())}))
        return
    for path, count in freed.items():
        print_answer(f"{visible(path)}  {count:,} bytes freed")
    if len(freed) > 1:
        print_answer(f"{sum(freed.values()):,} bytes freed in total")
