"""The commands that write what a run holds into files for other tools."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vaexp.cli_common import JsonFlag, RunArgument
from vaexp.errors import UserError


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
            "needs the extra: pip install 'vaexp[parquet]'.",
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
    from vaexp.runs.find import open_run

    folder, chosen = open_run(run), _format(format_, out)
    reporter = Reporter()
    with reporter.waiting("loading torch"):
        from vaexp.experiment.encode import encode as write_codes
    path = write_codes(
        folder, split.value, chosen.value, reporter, out=out, overrides=overrides or []
    )
    typer.echo(json.dumps({"codes": str(path)}) if as_json else str(path))


def _format(chosen: Arrays | None, out: Path | None) -> Arrays:
    """The format that is asked for, by its name or by the ending of the file."""
    named = None if out is None else next((one for one in Arrays if out.suffix == f".{one}"), None)
    if chosen is not None and named is not None and chosen != named:
        raise UserError(f"--out {out}: ends with .{named}, but --format is {chosen}")
    return chosen or named or Arrays.npz
