"""The command line. Each command parses its arguments, calls one function and prints the answer.

Torch is imported inside the commands that need it, so that the others answer at once. Commands on
configs alone stand in ``cli_configs``, those on the list of runs in ``cli_runs``, comparisons and
pages in ``cli_compare``, files for other tools in ``cli_export``, what commands share in
``cli_common``, and large commands in files of their own.
"""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaexp import __version__, cli_completion, signals, streams
from vaexp.cli_common import (
    Commands,
    JsonFlag,
    Overrides,
    RunArgument,
    dismiss_others,
    follow_here,
    opened,
    print_answer,
    settings_of,
    train_here,
)
from vaexp.cli_compare import compare, explore, report
from vaexp.cli_configs import check_trainable, configs_app, schema, validate
from vaexp.cli_export import encode, export
from vaexp.cli_reproduce import reproduce
from vaexp.cli_runs import runs_app
from vaexp.cli_sweep import sweep
from vaexp.errors import RunError, UserError
from vaexp.evaluation.groups import images_help, only_help
from vaexp.paths import expanded
from vaexp.processes import Processes

if TYPE_CHECKING:
    from vaexp.runs.folder import RunFolder


QUICK = 1_000  # images of each split that --quick measures


class Decode(StrEnum):
    """The ways to turn a latent into an image."""

    mean = "mean"
    sample = "sample"
    sweep = "sweep"


class Prior(StrEnum):
    """Where a latent is drawn from."""

    model = "model"
    gmm = "gmm"


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(configs_app, name="configs")
app.add_typer(runs_app, name="runs")


def _version(wanted: bool) -> None:
    """Print the version and stop, before any command is looked for."""
    if wanted:
        print_answer(__version__)
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, sample and compare latent-variable models that YAML files describe.

    Example: [bold]vaexp train quickstart[/bold]
    """
    processes, command = Processes.of_torchrun(), context.invoked_subcommand
    if processes.count > 1 and command != "train":
        if processes.rank > 0:
            raise typer.Exit(2)
        raise UserError(f"torchrun: vaexp {command} is no work for several processes; train is")


ResumeOption = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Go on with a run that was stopped early, or train a finished one for longer, as by "
        "train.epochs=40 or train.max_iter=900. latest is the last one in the folder of the runs.",
        autocompletion=cli_completion.runs,
    ),
]


@app.command()
def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML file, the name of a shipped config, a run folder, or - for stdin.",
            autocompletion=cli_completion.configs,
        ),
    ] = None,
    overrides: Overrides = None,
    runs_dir: Annotated[
        Path, typer.Option(help="The folder in which the run folder is made.")
    ] = Path("runs"),
    resume: ResumeOption = None,
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
    from vaexp.config import dump
    from vaexp.runs.continuing import check_can_go_on, continued, is_changed

    if Processes.of_torchrun().rank > 0:
        follow_here(dry_run)
        return
    run: RunFolder | None = None
    if resume is None:
        settings = settings_of(config, overrides or [])
    else:
        run = opened(resume, runs_dir)
        settings = continued(run, config, overrides or [])
    if dry_run:
        check_trainable(settings, {})
        print_answer(json.dumps(settings.model_dump()) if as_json else dump(settings), nl=as_json)
        return
    if run is None or _is_unfinished(run, is_changed(run, settings)):
        if run is not None:
            check_can_go_on(run)
        figures, images = not (no_figures or quick), QUICK if quick else None
        run = train_here(settings, runs_dir, run, figures=figures, images=images)
    else:
        dismiss_others()
    print_answer(json.dumps({"run": str(run.path)}) if as_json else str(run.path))


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
            info = run.info()
            where = f"as process {info['pid']} on {info['host']}"
            raise UserError(f"{run.path} is still running, {where}")
        case "unknown":
            host = run.info()["host"]
            typer.echo(f"note: it last ran on {host}; make sure that it has ended there", err=True)
    return True


PriorOption = Annotated[
    Prior,
    typer.Option(
        help="What z is drawn from: p(z) of the model, or gmm, a Gaussian mixture that EM fits to "
        "the codes of the training images, for each digit that the model is given."
    ),
]
DecodeOption = Annotated[
    Decode | None,
    typer.Option(
        help="mean draws mu(z), sample draws x from p(x|z), and sweep draws mu(z) + k sigma(z) for "
        "k = -2..2. The default is the config's decode_mode."
    ),
]
CountOption = Annotated[
    int | None,
    typer.Option("-n", min=1, max=10_000, help="The number of draws. The default is 10."),
]
LabelOption = Annotated[
    int | None,
    typer.Option(help="The digit, for a model that is given it. The default is each in turn."),
]


@app.command()
def sample(
    run: RunArgument,
    decode: DecodeOption = None,
    n: CountOption = None,
    label: LabelOption = None,
    prior: PriorOption = Prior.model,
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
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="The picture. The default is a file in samples/ of the run."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw images from the model of a run. Prints the path of the picture.

    An npz file with the same images as arrays lies beside the picture.

    Example: [bold]vaexp sample runs/20261122-143015-quickstart-7f3a --decode sample[/bold]
    """
    if grid and n is not None:
        raise UserError("-n: a grid has a number of images of its own; leave out -n or --grid")
    if axes is not None and not grid:
        raise UserError("--axes: only a grid has axes; add --grid")
    folder = opened(run)
    from vaexp.experiment import sample as sampling

    drawn = sampling.sample(
        folder,
        mode=None if decode is None else decode.value,
        n=n or 10,
        label=label,
        prior=prior.value,
        component=component,
        grid=grid,
        axes=axes,
        seed=seed,
        out=out,
    )
    answer = {"image": str(drawn.image), "arrays": str(drawn.arrays)}
    print_answer(json.dumps(answer) if as_json else answer["image"])


@app.command()
def evaluate(
    run: RunArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[data.root=DIR]", help="Where the data of the run lie now."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help=only_help(), autocompletion=cli_completion.groups),
    ] = None,
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
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Leave the run as it is: copy it into this new folder, without samples and "
            "checkpoints/state.pt, and write there. A copy of an earlier call is taken up again.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure more of a finished run, on its test images. Prints the numbers.

    They are also added to the run's metrics.json, where compare finds them. docs/measures.md
    explains each of them. What this model cannot have is absent, with the reason.

    Example: [bold]vaexp evaluate runs/20261122-143015-quickstart-7f3a --only quadrature[/bold]
    """
    from vaexp.progress import Reporter
    from vaexp.runs.copying import copy_to_measure

    folder = opened(run)
    groups = _groups(only or [])  # before a copy is made
    if out is not None:
        folder = copy_to_measure(folder, expanded(out))
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
    _print_measured(folder, measured, as_json)


def _groups(only: list[str]) -> list[str]:
    """The names of the groups that ``--only`` asks for. Raises UserError if there is no such."""
    from vaexp.evaluation.groups import find_groups

    groups = [name.strip() for names in only for name in names.split(",") if name.strip()]
    if only and not groups:
        raise UserError("--only: it names no group; vaexp evaluate --help lists the groups")
    find_groups(groups)
    return groups


def _print_measured(
    run: "RunFolder", measured: dict[str, dict[str, dict[str, Any]]], as_json: bool
) -> None:
    """Print the entries of each group that was measured, and why others of it are absent."""
    from vaexp.comparison.view import metric_name, tail_rows
    from vaexp.shown import ABSENT, show_entry
    from vaexp.tables import Table, print_table

    notes = run.evaluation()
    absent = {group: notes.get(group, {}).get("absent", {}) for group in measured}
    if as_json:
        answer = {name: one for part in measured.values() for name, one in part.items()}
        for reasons in absent.values():
            answer |= {name: {"value": None, "absent": why} for name, why in reasons.items()}
        print_answer(json.dumps(answer))
        return
    rows = [
        [group, *row]
        for group, entries in measured.items()
        for name, entry in entries.items()
        for row in ([metric_name(name, [entry]), show_entry(entry)], *tail_rows(entry))
    ]
    for group, reasons in absent.items():
        rows += [[group, name, f"{ABSENT} ({why})"] for name, why in reasons.items()]
    print_table(Table("", ["group", "measure", "value"], rows))


app.command()(encode)
app.command()(export)
app.command()(compare)
app.command()(report)
app.command()(explore)
app.command()(sweep)
app.command()(reproduce)
app.command()(validate)
app.command()(schema)


def main() -> None:
    """Run the command line in this process, which ends with it.

    Until the command itself begins, Ctrl-C ends the process on the spot, as ``__main__`` says.
    """
    streams.guard()
    # A notebook exports the name of its own backend, with which matplotlib would not start here.
    os.environ.pop("MPLBACKEND", None)
    try:
        app(obj=signals.interrupts_raise_once)
    except RunError as error:  # of --help and --version, which print before a command begins
        typer.echo(str(error), err=True)
        sys.exit(1)
    finally:
        signals.ignore_interrupts()
        exec("")  # Python notes a Ctrl-C in the middle of an exec, and would end by that signal
