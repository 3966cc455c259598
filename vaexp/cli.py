"""The command line. Each command parses its arguments, calls one function and prints the answer.

Torch is imported inside the commands that need it, so that the others answer at once. Commands on
configs alone stand in ``cli_configs``, the one on sweeps in ``cli_sweep``, the one on the report in
``cli_reproduce``, and what all commands share in ``cli_common``.
"""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaexp import __version__, signals, streams
from vaexp.cli_common import (
    Commands,
    Format,
    FormatOption,
    JsonFlag,
    Overrides,
    RunArgument,
    train_here,
)
from vaexp.cli_configs import configs_app, schema, validate
from vaexp.cli_reproduce import reproduce
from vaexp.cli_sweep import sweep
from vaexp.config import dump, read_config
from vaexp.errors import UserError
from vaexp.evaluation.groups import images_help, only_help
from vaexp.paths import expanded

if TYPE_CHECKING:
    from vaexp.runs.folder import RunFolder


QUICK = 1_000  # images of each split that --quick measures


class Decode(StrEnum):
    """The ways to turn a latent into an image."""

    mean = "mean"
    sample = "sample"
    sweep = "sweep"


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(configs_app, name="configs")


def _version(wanted: bool) -> None:
    """Print the version and stop, before any command is looked for."""
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, sample and compare latent-variable models that YAML files describe.

    Example: [bold]vaexp train quickstart[/bold]
    """


@app.command()
def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG", help="A YAML file, the name of a shipped config, or a run folder."
        ),
    ] = None,
    overrides: Overrides = None,
    runs_dir: Annotated[
        Path, typer.Option(help="The folder in which the run folder is made.")
    ] = Path("runs"),
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run that was stopped early, or with a larger train.epochs.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the config with all settings; train nothing.")
    ] = False,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Draw no figures.")] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"For a trial: draw no figures, and measure only the first {QUICK:,} images of "
            "each split. What is trained stays the same.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fit a model, measure it and draw its figures. Prints the path of the run folder.

    Example: [bold]run=$(vaexp train quickstart model.beta=4)[/bold]
    """
    from vaexp.runs.continuing import continued, is_longer
    from vaexp.runs.folder import RunFolder

    run: RunFolder | None = None
    if resume is None:
        if config is None:
            raise UserError("which config? vaexp configs list shows some to begin with")
        settings, notes = read_config(config, overrides or [])
        for note in notes:
            typer.echo(f"note: {note}", err=True)
    else:
        run = RunFolder.open(expanded(resume))
        settings = continued(run, config, overrides or [])
    if dry_run:
        typer.echo(json.dumps(settings.model_dump()) if as_json else dump(settings), nl=as_json)
        return
    if run is None or _is_unfinished(run, is_longer(run, settings)):
        figures, images = not (no_figures or quick), QUICK if quick else None
        run = train_here(settings, runs_dir, run, figures=figures, images=images)
    typer.echo(json.dumps({"run": str(run.path)}) if as_json else str(run.path))


def _is_unfinished(run: "RunFolder", longer: bool) -> bool:
    """Whether there is something to resume, as there is if a finished run is made ``longer``.

    Raises UserError while the run is still going on.
    """
    match run.status():
        case "finished":
            if not longer:
                typer.echo(f"{run.path} is finished already", err=True)
            return longer
        case "running":
            raise UserError(f"{run.path} is still running, as process {run.info()['pid']}")
        case "unknown":
            host = run.info()["host"]
            typer.echo(f"note: it last ran on {host}; make sure that it has ended there", err=True)
    return True


DecodeOption = Annotated[
    Decode | None,
    typer.Option(
        help="mean draws mu(z), sample draws x from p(x|z), and sweep draws mu(z) + k sigma(z) for "
        "k = -2..2. The default is the config's decode_mode."
    ),
]


@app.command()
def sample(
    run: RunArgument,
    decode: DecodeOption = None,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, max=10_000, help="The number of draws. The default is 10."),
    ] = None,
    label: Annotated[
        int | None,
        typer.Option(help="The digit, for a model that is given it. The default is each in turn."),
    ] = None,
    component: Annotated[
        int | None, typer.Option(min=0, help="The component of a mixture, counted from 0.")
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Decode a grid over two latents, at quantiles of p(z).")
    ] = False,
    axes: Annotated[
        tuple[int, int] | None,
        typer.Option(help="The two latents of the grid, counted from 1. The default is 1 2."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The seed of the draws. The default is the config's.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw images from the model of a run. Prints the path of the picture.

    An npz file with the same images as arrays lies beside the picture.

    Example: [bold]vaexp sample runs/20261122-143015-quickstart-7f3a --decode sample[/bold]
    """
    from vaexp.runs.folder import RunFolder

    if grid and n is not None:
        raise UserError("-n: a grid has a number of images of its own; leave out -n or --grid")
    if axes is not None and not grid:
        raise UserError("--axes: only a grid has axes; add --grid")
    folder = RunFolder.open(expanded(run))
    from vaexp.experiment import sample as sampling

    drawn = sampling.sample(
        folder,
        mode=None if decode is None else decode.value,
        n=n or 10,
        label=label,
        component=component,
        grid=grid,
        axes=axes,
        seed=seed,
    )
    answer = {"image": str(drawn.image), "arrays": str(drawn.arrays)}
    typer.echo(json.dumps(answer) if as_json else answer["image"])


@app.command()
def evaluate(
    run: RunArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[data.root=DIR]", help="Where the data of the run lie now."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME,...", help=only_help())] = None,
    importance_samples: Annotated[
        int | None,
        typer.Option(
            "-k",
            "--importance-samples",
            min=1,
            help="K, the number of samples of iw. The default is the config's.",
        ),
    ] = None,
    images: Annotated[int | None, typer.Option(min=2, help=images_help())] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure more of a finished run, on its test images. Prints the numbers.

    They are also added to the run's metrics.json, where compare finds them. docs/measures.md
    explains each of them.

    Example: [bold]vaexp evaluate runs/20261122-143015-quickstart-7f3a --only quadrature[/bold]
    """
    from vaexp.progress import Reporter
    from vaexp.runs.folder import RunFolder

    folder = RunFolder.open(expanded(run))
    groups = [name.strip() for names in only or [] for name in names.split(",") if name.strip()]
    if only and not groups:
        raise UserError("--only: it names no group; vaexp evaluate --help lists the groups")
    reporter = Reporter()
    with reporter.waiting("loading torch"):
        from vaexp.experiment import evaluate as evaluating
    measured = evaluating.evaluate(
        folder,
        groups or None,
        reporter,
        importance_samples=importance_samples,
        images=images,
        overrides=overrides or [],
    )
    if as_json:
        typer.echo(
            json.dumps({name: one for part in measured.values() for name, one in part.items()})
        )
        return
    from vaexp.comparison.view import metric_name, tail_rows
    from vaexp.tables import print_table, show_entry

    rows = [
        [group, *row]
        for group, entries in measured.items()
        for name, entry in entries.items()
        for row in ([metric_name(name, [entry]), show_entry(entry)], *tail_rows([entry]))
    ]
    print_table(["group", "measure", "value"], rows)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="The folders of finished runs.")
    ],
    format_: FormatOption = Format.table,
    figure: Annotated[
        bool,
        typer.Option(
            "--figure",
            help="Also draw the runs side by side and in the rate-distortion plane, as pictures in "
            "figures/ of the first run.",
        ),
    ] = False,
    html: Annotated[
        bool,
        typer.Option(
            "--html", help="Also write a page with the tables and all figures, beside the pictures."
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show all measures in the table, as the other formats do.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print the settings in which runs differ, their test metrics, and paired differences.

    Each run is compared with the first one on the same test images. A difference has its standard
    error beside it.

    Example: [bold]vaexp compare runs/*-fixed-* runs/*-pixel-* --format md[/bold]
    """
    from vaexp.comparison.compare import compare as compare_runs
    from vaexp.comparison.view import render
    from vaexp.runs.folder import RunFolder

    folders = [RunFolder.open(expanded(run)) for run in runs]
    if len(folders) < 2:
        raise UserError("compare needs two runs or more")
    comparison = compare_runs(folders)
    text = render(comparison, "json" if as_json else format_.value, every=every)
    if text:
        typer.echo(text, nl=False)
    if figure or html:
        from vaexp.comparison.pictures import draw_comparison

        pictures = draw_comparison(folders, comparison)
        for path in pictures:
            typer.echo(f"figure {path}", err=True)
    if html:
        from vaexp.comparison.page import write_page

        page = pictures[0].with_suffix(".html")
        write_page(comparison, pictures, page)
        typer.echo(f"page {page}", err=True)


@app.command("runs")
def list_runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The folder that holds the runs.")
    ] = Path("runs"),
    format_: FormatOption = Format.table,
    as_json: JsonFlag = False,
) -> None:
    """List runs with their status, model, headline metrics and the settings in which they differ.

    Example: [bold]vaexp runs --format csv[/bold]
    """
    from vaexp.runs.listing import list_runs, render_runs

    folder = expanded(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")
    listed = list_runs(folder)
    if not listed:
        typer.echo(f"{folder}: this folder holds no runs", err=True)
    text = render_runs(listed, "json" if as_json else format_.value)
    if text:
        typer.echo(text, nl=False)


app.command()(sweep)
app.command()(reproduce)
app.command()(validate)
app.command()(schema)


def main() -> None:
    """Run the command line in this process, which ends with it."""
    signals.interrupts_raise_once()
    streams.guard()
    # A notebook exports the name of its own backend, with which matplotlib would not start here.
    os.environ.pop("MPLBACKEND", None)
    try:
        app()
    finally:
        signals.ignore_interrupts()
        exec("")  # Python notes a Ctrl-C in the middle of an exec, and would end by that signal
