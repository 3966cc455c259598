"""The command line: parse, call, print, exit code. Only commands that need torch import it."""

import errno
import io
import json
import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vaexp import __version__
from vaexp.config import Config, dump, load_config, shipped_configs, summary
from vaexp.errors import RunError, Terminated, UserError
from vaexp.evaluation.groups import images_help, only_help

if TYPE_CHECKING:
    from vaexp.runs.folder import RunFolder


class Commands(TyperGroup):
    """The one place where errors become messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a user's mistake or a failed run ends without a traceback."""
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
    typer.echo(message, err=True)
    raise typer.Exit(code)


class Format(StrEnum):
    """How tables are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


class Decode(StrEnum):
    """How a latent becomes an image."""

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
configs_app = typer.Typer(no_args_is_help=True, help="List, show or copy the shipped configs.")
app.add_typer(configs_app, name="configs")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings to change, such as model.beta=4."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, sample and compare latent-variable models described by a YAML file."""


@app.command()
def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG", help="A YAML file, a shipped config's name or a run folder."
        ),
    ] = None,
    overrides: Overrides = None,
    runs_dir: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved config and stop.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fit a model, measure it, draw figures; prints the run folder.

    Example: [bold]run=$(vaexp train quickstart model.beta=4)[/bold]
    """
    from vaexp.runs.folder import RunFolder

    run = None if resume is None else RunFolder.open(resume)
    if run is not None:
        settings = run.config()
        if config is not None and (
            "=" in config or load_config(config, overrides or []) != settings
        ):
            raise UserError(f"{config}: a resumed run keeps the config of {resume}; leave it out")
    elif config is None:
        raise UserError(
            "which config? Such as vaexp train quickstart; vaexp configs list shows more"
        )
    else:
        settings = load_config(config, overrides or [])
    if dry_run:
        typer.echo(json.dumps(settings.model_dump()) if as_json else dump(settings), nl=as_json)
        return
    if run is not None and run.status() == "finished":
        typer.echo(f"{run.path} is finished already", err=True)
    elif run is not None and run.status() == "running":
        raise UserError(f"{run.path} is still running, as process {run.info()['pid']}")
    else:
        if run is not None and run.status() == "unknown":
            host = run.info()["host"]
            typer.echo(f"note: last running on {host}; it must not be running there now", err=True)
        run = _train(settings, runs_dir, run)
    typer.echo(json.dumps({"run": str(run.path)}) if as_json else str(run.path))


def _train(settings: Config, runs_dir: Path, run: "RunFolder | None") -> "RunFolder":
    from vaexp.progress import Reporter

    reporter = Reporter()
    with reporter.waiting("loading torch and the data"):
        from vaexp.experiment import train as experiment
        from vaexp.experiment.prepare import Experiment

        prepared = Experiment.prepare(settings)
    return experiment.train(prepared, runs_dir, reporter, run)


@app.command()
def sample(
    run: RunArgument,
    decode: Annotated[
        Decode | None,
        typer.Option(
            help="mean: mu(z). sample: a draw of p(x|z). sweep: mu(z) + k sigma(z), k = -2..2. "
            "By default the config's decode_mode."
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", min=1, max=10_000, help="How many draws; 10 by default.")
    ] = None,
    label: Annotated[
        int | None,
        typer.Option(help="The digit, for a model given the label. By default each in turn."),
    ] = None,
    component: Annotated[
        int | None,
        typer.Option(min=0, help="The component of a Gaussian mixture, counted from 0."),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Draw the latent plane instead, at quantiles of p(z).")
    ] = False,
    axes: Annotated[
        tuple[int, int] | None,
        typer.Option(help="The two latents of the grid, counted from 1; 1 2 by default."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="By default the config's seed.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw from a run's model; prints the image's path. The arrays lie beside it as npz.

    Example: [bold]vaexp sample runs/20261122-143015-quickstart-7f3a --decode sample[/bold]
    """
    from vaexp.runs.folder import RunFolder

    if grid and n is not None:
        raise UserError("-n: a grid has its own number of images; leave out -n or --grid")
    if axes is not None and not grid:
        raise UserError("--axes: only a grid has axes; add --grid")
    folder = RunFolder.open(run)
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
    if as_json:
        typer.echo(json.dumps({"image": str(drawn.image), "arrays": str(drawn.arrays)}))
    else:
        typer.echo(str(drawn.image))


@app.command()
def evaluate(
    run: RunArgument,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help=only_help(),
        ),
    ] = None,
    importance_samples: Annotated[
        int | None,
        typer.Option("-k", "--importance-samples", min=1, help="K of iw; by default the config's."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=2,
            help=images_help(),
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure a finished run further, on its test images; prints the numbers.

    They are added to its metrics.json, where compare finds them. docs/measures.md says what each
    one means.

    Example: [bold]vaexp evaluate runs/20261122-143015-quickstart-7f3a --only quadrature[/bold]
    """
    from vaexp.progress import Reporter
    from vaexp.runs.folder import RunFolder

    folder = RunFolder.open(run)
    groups = [name.strip() for names in only or [] for name in names.split(",") if name.strip()]
    if only and not groups:
        raise UserError("--only: names no group; vaexp evaluate --help lists them")
    reporter = Reporter()
    with reporter.waiting("loading torch"):
        from vaexp.experiment import evaluate as evaluating
    found = evaluating.evaluate(
        folder, groups or None, reporter, importance_samples=importance_samples, images=images
    )
    if as_json:
        typer.echo(json.dumps({name: one for part in found.values() for name, one in part.items()}))
        return
    from vaexp.comparison.view import metric_name
    from vaexp.tables import print_table, show_entry

    rows = [
        [group, metric_name(name, [entry]), show_entry(entry)]
        for group, entries in found.items()
        for name, entry in entries.items()
    ]
    print_table(["group", "measure", "value"], rows)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Finished runs.")],
    format_: FormatOption = Format.table,
    figure: Annotated[
        bool,
        typer.Option(
            "--figure",
            help="Also draw the runs side by side and in the rate-distortion plane, in the first "
            "one's figures/.",
        ),
    ] = False,
    html: Annotated[
        bool,
        typer.Option(
            "--html", help="Also write one page with the tables and all figures, beside them."
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show every measure in the table, as other formats do.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Set runs side by side: settings that differ, test metrics, paired differences.

    Differences are against the first run, on the same test images, with their standard error.

    Example: [bold]vaexp compare runs/*-fixed-* runs/*-pixel-* --format md[/bold]
    """
    from vaexp.comparison.compare import compare as compare_runs
    from vaexp.comparison.view import render
    from vaexp.runs.folder import RunFolder

    folders = [RunFolder.open(run) for run in runs]
    if len(folders) < 2:
        raise UserError("compare needs at least two runs")
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
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the runs are.")] = Path(
        "runs"
    ),
    format_: FormatOption = Format.table,
    as_json: JsonFlag = False,
) -> None:
    """List runs: status, model, the settings that differ, headline metrics.

    Example: [bold]vaexp runs --format csv[/bold]
    """
    from vaexp.runs.listing import list_runs, render_runs

    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")
    listed = list_runs(folder)
    if not listed:
        typer.echo(f"{folder}: holds no runs", err=True)
    text = render_runs(listed, "json" if as_json else format_.value)
    if text:
        typer.echo(text, nl=False)


@app.command()
def validate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG... [KEY=VALUE]...", help="Configs to check, and settings to change."
        ),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Check configs without running them.

    Example: [bold]vaexp validate experiments/*.yaml[/bold]
    """
    overrides = [text for text in arguments if "=" in text and not Path(text).exists()]
    problems: dict[str, str | None] = {}
    for config in arguments:
        if config in overrides:
            continue
        try:
            load_config(config, overrides)
            problems[config] = None
        except UserError as error:
            problems[config] = str(error)
    if as_json:
        typer.echo(json.dumps(problems))
    for name, problem in problems.items():
        if problem is not None:
            typer.echo(problem, err=True)
        elif not as_json:
            typer.echo(f"{name}: ok")
    if any(problems.values()):
        raise typer.Exit(2)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors.

    Example: [bold]vaexp schema > vaexp.schema.json[/bold]
    """
    from pydantic import TypeAdapter

    typer.echo(json.dumps(TypeAdapter(Config).json_schema(), indent=2))


@configs_app.command("list")
def configs_list(as_json: JsonFlag = False) -> None:
    """List the shipped configs and what each one shows.

    Example: [bold]vaexp configs list[/bold]
    """
    summaries = {name: summary(path) for name, path in shipped_configs().items()}
    if as_json:
        typer.echo(json.dumps(summaries))
        return
    width = max(map(len, summaries))
    for name, text in summaries.items():
        typer.echo(f"{name:<{width}}  {text}")


@configs_app.command("show")
def configs_show(name: Annotated[str, typer.Argument(help="A shipped config.")]) -> None:
    """Print a shipped config, comments and all.

    Example: [bold]vaexp configs show quickstart[/bold]
    """
    typer.echo(_shipped(name).read_text(encoding="utf-8"), nl=False)


@configs_app.command("copy")
def configs_copy(
    name: Annotated[str, typer.Argument(help="A shipped config.")],
    to: Annotated[Path, typer.Argument(help="A file or a folder.")] = Path(),
) -> None:
    """Copy a shipped config, to change it; prints the new file. Never overwrites.

    Example: [bold]vaexp configs copy quickstart mine.yaml[/bold]
    """
    source = _shipped(name)
    target = to / source.name if os.path.isdir(to) else to
    if os.path.lexists(target):
        raise UserError(f"{target}: exists already; choose another name")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent}: no such folder")
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from None
    typer.echo(str(target))


def _shipped(name: str) -> Path:
    shipped = shipped_configs()
    if name not in shipped:
        raise UserError(f"{name}: no such shipped config; there are {', '.join(shipped)}")
    return shipped[name]


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that lack σ
    app()
