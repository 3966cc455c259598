"""The commands that write what a run holds into files for other tools."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaexp import cli_completion
from vaexp.cli_common import JsonFlag, RunArgument, found, opened, print_answer
from vaexp.errors import RunError, UserError
from vaexp.paths import folder_to_write
from vaexp.visible import visible_lines

if TYPE_CHECKING:
    from vaexp.runs.export import Content


class Part(StrEnum):
    """The splits of the data of a run."""

    train = "train"
    validation = "validation"
    test = "test"


class Arrays(StrEnum):
    """The formats of a file with numbers of each image."""

    npz = "npz"
    csv = "csv"
    parquet = "parquet"


class Kind(StrEnum):
    """Where runs are exported to."""

    csv = "csv"
    parquet = "parquet"
    mlflow = "mlflow"


def encode(
    run: RunArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[data.root=DIR]", help="Where the data of the run lie now."),
    ] = None,
    split: Annotated[Part, typer.Option(help="The images to encode.")] = Part.test,
    format_: Annotated[
        Arrays | None,
        typer.Option(
            "--format",
            help="The format of the file. The default is the ending of --out, or npz. parquet "
            "needs the extra: pip install 'vaexp\\[parquet]'.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The file. The default is codes/SPLIT.FORMAT of the run."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the code of each image of a split. Prints the path of the file.

    The code is the mean and the standard deviation (sd) of each latent given the image. For a
    mixture it is the responsibility of each component, and the component that has the largest.
    The columns image and label say where the image stands in the training or the test part of the
    data, counted from 0, and its digit. Latents are counted from 1, components from 0.

    Example: [bold]vaexp encode latest --split train --format csv[/bold]
    """
    from vaexp.progress import Reporter

    folder, chosen = opened(run), _format(format_, out)
    reporter = Reporter()
    with reporter.waiting("loading torch"):
        from vaexp.experiment.encode import encode as write_codes
    path = write_codes(
        folder, split.value, chosen.value, reporter, out=out, overrides=overrides or []
    )
    print_answer(json.dumps({"codes": str(path)}) if as_json else str(path))


def _format(chosen: Arrays | None, out: Path | None) -> Arrays:
    """The format that is asked for, by its name or by the ending of the file."""
    named = None if out is None else next((one for one in Arrays if out.suffix == f".{one}"), None)
    if chosen is not None and named is not None and chosen != named:
        raise UserError(f"--out {out}: ends with .{named}, but --format is {chosen}")
    return chosen or named or Arrays.npz


def export(
    kind: Annotated[Kind, typer.Argument(metavar="csv|parquet|mlflow", help="What to export to.")],
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, beginnings of their names, or folders of runs.",
            autocompletion=cli_completion.runs,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="csv, parquet: the folder of the tables, by default export. mlflow: the address "
            "of the tracking server, or a folder; by default what MLflow itself would take.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write runs into files or a tracking server of other tools. Prints what was written.

    csv and parquet are three tables, which their column run joins. runs has a row for each run: its
    status and all settings. metrics has one for each run, split and final metric: value, se and all
    other facts of metrics.json. history has one for each run and epoch or iteration. parquet needs
    an extra, pip install 'vaexp\\[parquet]', and mlflow another, 'vaexp\\[mlflow]'. MLflow gets all
    of it and the figures, and replaces what it had of these runs.

    Example: [bold]vaexp export csv runs --out tables[/bold]
    """
    from vaexp.runs.export import read_all

    contents, wrong = read_all(run.path for run in found(runs))
    if not contents:
        raise RunError("\n".join(wrong))
    for why in wrong:
        typer.echo(visible_lines(f"left out: {why}"), err=True)
    written = _exported(kind, contents, out)
    print_answer(json.dumps({"written": written}) if as_json else "\n".join(written))


def _exported(kind: Kind, runs: "list[Content]", out: str | None) -> list[str]:
    """Export what runs hold; returns the paths of the files, or the ids of the runs of MLflow."""
    from vaexp.columns import check_parquet, write_csv, write_parquet
    from vaexp.files import replacing
    from vaexp.runs.export import columns_of
    from vaexp.runs.tracking import log_runs

    if kind == Kind.mlflow:
        return log_runs(runs, out)
    if kind == Kind.parquet:
        check_parquet()
    tables = {
        "runs": [run.row for run in runs],
        "metrics": [row for run in runs for row in run.metrics],
        "history": [row for run in runs for row in run.history],
    }
    folder, written = folder_to_write(out or "export", "--out"), []
    for name, content in tables.items():
        path = folder / f"{name}.{kind}"
        with replacing(path) as temporary:
            write = write_csv if kind == Kind.csv else write_parquet
            write(temporary, columns_of(content))
        written.append(str(path))
    return written
