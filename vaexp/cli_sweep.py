"""``vaexp sweep``: many runs of one config. It parses what is asked for and says what became of it.

Torch is imported only where a trial is trained in this process.
"""

import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaexp import cli_completion
from vaexp.cli_common import JsonFlag, Overrides, print_answer, train_here
from vaexp.errors import RunError, Terminated, UserError
from vaexp.paths import expanded

if TYPE_CHECKING:
    from vaexp.sweeps.display import Display
    from vaexp.sweeps.folder import State, Sweep
    from vaexp.sweeps.jobs import Launch
    from vaexp.sweeps.request import Options, Request
    from vaexp.sweeps.trials import Trial

_RANGE = re.compile(r"[\w.]+=(\w+:)?[-+\d.e]+\.\.[-+\d.e]+")
SWEPT = "--grid KEY=A,B, --zip, --random N with --range KEY=LOW..HIGH, or --seeds N"
ConfigOrSweep = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A config as for train, a shipped sweep's name, a YAML file that describes a sweep, "
        "or a sweep's folder.",
        autocompletion=cli_completion.configs_and_sweeps,
    ),
]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        metavar="KEY=A,B,...",
        help="Try each value, in all combinations of keys.",
        autocompletion=cli_completion.varied_settings,
    ),
]
Zip = Annotated[
    list[str] | None,
    typer.Option(
        "--zip",
        metavar="KEY=A,B,...",
        help="Vary several such keys in step.",
        autocompletion=cli_completion.varied_settings,
    ),
]
Random = Annotated[
    int | None,
    typer.Option("--random", metavar="N", min=1, help="Draw N times from all --range."),
]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--range",
        metavar="KEY=LOW..HIGH",
        help="A range that --random draws from. KEY=log:LOW..HIGH is uniform in the logarithm.",
        autocompletion=cli_completion.varied_settings,
    ),
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", metavar="N", min=1, help="Repeat everything with N seeds.")
]
JobsOption = Annotated[
    int,
    typer.Option(
        "-j",
        "--jobs",
        min=1,
        help="Run so many trials at once, each with its share of the cores. With --cluster, hand "
        "out so many at once.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Run the trials on the Dask cluster with this scheduler, whose workers were started "
        "with --nthreads 1 for one trial at a time. local starts a worker here for each job.",
    ),
]
Resources = Annotated[
    str,
    typer.Option(
        metavar="NAME=X,...",
        help="What a trial takes of a worker: threads=2, and resources that workers declare.",
    ),
]
PrintCommands = Annotated[
    bool,
    typer.Option(
        "--print-commands",
        help="Print a command for each trial, to be run anywhere and in any order; run nothing.",
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop when a trial fails.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check and list the trials; run and write nothing.")
]
NoFigures = Annotated[
    bool, typer.Option("--no-figures", help="Draw no figures of the trials, only the comparison.")
]
TrialOption = Annotated[
    int | None,
    typer.Option("--trial", metavar="N", help="Work on trial N of a sweep's folder, right here."),
]


def sweep(
    config: ConfigOrSweep,
    overrides: Overrides = None,
    grid: Grid = None,
    zip_: Zip = None,
    random: Random = None,
    ranges: Ranges = None,
    seeds: Seeds = None,
    sweeps_dir: Annotated[
        Path, typer.Option(help="The folder in which the folder of the sweep is made.")
    ] = Path("sweeps"),
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of the sweep itself.")
    ] = None,
    jobs: JobsOption = 1,
    cluster: Cluster = None,
    resources: Resources = "",
    fail_fast: FailFast = False,
    dry_run: DryRun = False,
    print_commands: PrintCommands = False,
    no_figures: NoFigures = False,
    trial: TrialOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Train a config with many settings. Prints the path of the sweep's folder.

    The same command again goes on: it runs what has not finished, and adds what is new.

    Example: [bold]vaexp sweep vae-fixed --grid model.beta=0.1,1,10 --seeds 5 --jobs 2[/bold]
    """
    from vaexp.sweeps.request import Options

    options = Options(grid or [], zip_ or [], random, ranges or [], seeds)
    if trial is not None:
        more = bool(options or overrides)
        _one_trial(expanded(config), trial, more, figures=not no_figures, as_json=as_json)
        return
    path, request = _request(config, overrides or [], options, folder, sweeps_dir)
    if dry_run:
        _list(path, request, as_json)
    elif print_commands:
        _print_commands(path, request, figures=not no_figures, as_json=as_json)
    else:
        with _launcher(cluster, resources, jobs) as launch:
            _work(
                path,
                request,
                jobs,
                launch,
                fail_fast=fail_fast,
                figures=not no_figures,
                as_json=as_json,
            )


def _request(
    config: str, overrides: Sequence[str], options: "Options", folder: Path | None, sweeps_dir: Path
) -> tuple[Path, "Request | None"]:
    """The folder of the sweep, and what is asked of it; None stands for all that it has."""
    from vaexp.config.document import read_file
    from vaexp.config.load import find_config
    from vaexp.sweeps.file import sweep_file
    from vaexp.sweeps.record import NAME, Record
    from vaexp.sweeps.request import Request

    if config == "-":
        raise UserError("-: a sweep takes no config from stdin; write it into a file and name that")
    for given in filter(_RANGE.fullmatch, overrides):
        raise UserError(f"{given}: draw it at random with --random N --range {given}")
    config = str(expanded(config))
    path = Path(config)
    if path.name == NAME and os.path.isfile(path) and "asked" in read_file(path).data:
        path = path.parent
    if os.path.isfile(path / NAME):
        if folder is not None:
            raise UserError("--folder: CONFIG is the folder of a sweep already")
        if overrides:
            raise UserError(f"{overrides[0]}: a sweep keeps its settings; only options add trials")
        if not options:
            return path, None
        record = Record.read(path)
        return path, Request(record.config, record.base, options.asked(), path.name)
    file = sweep_file(config)
    if file is not None:
        if options:
            raise UserError(f"{config}: it says itself what is varied; add it there")
        request = Request.of_file(file, overrides)
    elif options:
        request = Request.of_config(config, overrides, options)
    else:
        find_config(config)
        raise UserError(f"{config}: what is to be varied? Add {SWEPT}")
    return expanded(folder or sweeps_dir / request.name), request


def _one_trial(path: Path, number: int, more: bool, *, figures: bool, as_json: bool) -> None:
    """Work on one trial in this process, unless it is finished or another process has it."""
    from vaexp.sweeps.folder import Sweep
    from vaexp.sweeps.summary import write_summary

    if more:
        raise UserError("--trial: it takes the folder of a sweep, and nothing to vary or change")
    sweep = Sweep.open(path)
    trial = sweep.trial(number)
    with sweep.claimed(trial, lambda line: typer.echo(line, err=True)) as mine:
        state = sweep.state(trial)
        run = state.run
        if mine and run is not None and state.status == "running":
            info = run.info()
            process = f"{info['pid']} on {info['host']}"
            typer.echo(f"trial {number} is with another process: {process}", err=True)
        elif mine and state.is_done:
            typer.echo(f"trial {number} is finished already", err=True)
        elif mine:
            settings = sweep.config(trial)
            if run is not None and run.config() != settings:
                raise RunError(
                    f"{run.path}: its config is not that of trial {number}; move it away"
                )
            run = train_here(settings, sweep.folder(trial), run, figures=figures)
    if mine and sweep.is_done():
        write_summary(sweep, sweep.write_table())
    if run is not None:
        print_answer(json.dumps({"run": str(run.path)}) if as_json else str(run.path))


def _list(path: Path, request: "Request | None", as_json: bool) -> None:
    """Print the trials that are asked for."""
    from vaexp.sweeps.folder import Sweep
    from vaexp.tables import Table, print_table

    sweep = Sweep.planned(path, request) if request else Sweep.open(path)
    trials = sweep.asked(request)
    states = [sweep.state(one) for one in trials]
    if as_json:
        print_answer(json.dumps(_answer(sweep, trials, states)))
        return
    rows = [
        [str(one.number), *sweep.record.values(one), state.status]
        for one, state in zip(trials, states, strict=True)
    ]
    print_table(Table(str(sweep.path), ["trial", *sweep.record.keys, "status"], rows))


def _print_commands(path: Path, request: "Request | None", *, figures: bool, as_json: bool) -> None:
    """Print a command for each trial that is asked for."""
    from vaexp.sweeps.folder import Sweep, Task
    from vaexp.sweeps.jobs import command

    sweep = Sweep.begin(path, request) if request else Sweep.open(path)
    sweep.write_table()
    lines = [command(Task(sweep, one, figures)) for one in sweep.asked(request)]
    print_answer(json.dumps(lines) if as_json else "\n".join(lines))


@contextmanager
def _launcher(cluster: str | None, resources: str, jobs: int) -> "Iterator[Launch]":
    """What starts the processes of trials: on this machine, or on a cluster.

    Raises UserError where the package for clusters is missing, or no scheduler answers.
    """
    from vaexp.sweeps.jobs import Here

    if cluster is None:
        if resources:
            raise UserError("--resources: it says what a trial takes of a worker; add --cluster")
        yield Here(jobs)
        return
    try:
        from vaexp.sweeps.cluster import Share, connected
    except ModuleNotFoundError as error:
        if error.name not in ("distributed", "dask"):
            raise
        raise UserError(
            "--cluster needs the package distributed: pip install 'vaexp[cluster]'"
        ) from None
    with connected(cluster, jobs, Share.parse(resources)) as launch:
        yield launch


def _work(
    path: Path,
    request: "Request | None",
    jobs: int,
    launch: "Launch",
    *,
    fail_fast: bool,
    figures: bool,
    as_json: bool,
) -> None:
    """Run the trials that have not finished, and say what became of all of them."""
    from vaexp.progress import Reporter
    from vaexp.sweeps.display import Display
    from vaexp.sweeps.folder import Sweep, Task
    from vaexp.sweeps.jobs import Jobs
    from vaexp.sweeps.summary import describe, write_summary

    sweep = Sweep.begin(path, request) if request else Sweep.open(path)
    trials, states = sweep.asked(request), sweep.write_table()
    known = {one.number: state for one, state in zip(sweep.trials, states, strict=True)}
    left = [one for one in trials if not known[one.number].is_done]
    display = Display(Reporter().console, len(trials), jobs, done=len(trials) - len(left))
    display.say(f"sweep {sweep.path}: {describe([known[one.number] for one in trials])}")
    worker = Jobs(jobs, fail_fast, display, launch)
    with display.shown():
        ended = worker.run([Task(sweep, one, figures) for one in left])
    states = sweep.write_table()
    known = {one.number: state for one, state in zip(sweep.trials, states, strict=True)}
    for task, state in ended.items():  # which knows more than the folder of the trial says
        if (state.has_failed or state.is_elsewhere) and not known[task.trial.number].is_done:
            known[task.trial.number] = state
    asked = [known[one.number] for one in trials]
    _say_the_end(sweep, trials, asked, display)
    summary = write_summary(sweep, states)
    if summary is not None:
        display.say(f"comparison {summary}")
    if worker.stopped_by is not None:
        raise KeyboardInterrupt if worker.stopped_by == signal.SIGINT else Terminated
    print_answer(json.dumps(_answer(sweep, trials, asked)) if as_json else str(sweep.path))
    if not all(state.is_done or state.is_elsewhere for state in asked):
        raise typer.Exit(1)


def _say_the_end(
    sweep: "Sweep", trials: "Sequence[Trial]", states: "Sequence[State]", display: "Display"
) -> None:
    """Say how many trials have finished, which failed, and how to go on."""
    from vaexp.sweeps.summary import describe

    display.say(describe(states))
    for trial, state in zip(trials, states, strict=True):
        if state.has_failed:
            display.say(f"  {state.status}: {sweep.folder(trial)}")
    if not all(state.is_done for state in states):
        display.say(f"to go on: vaexp sweep {sweep.path}")


def _answer(sweep: "Sweep", trials: "Sequence[Trial]", states: "Sequence[State]") -> dict[str, Any]:
    """The sweep as data."""
    return {
        "sweep": str(sweep.path),
        "trials": [
            {
                "trial": trial.number,
                "settings": trial.settings,
                "status": state.status,
                "run": None if state.run is None else str(state.run.path),
                "metrics": state.metrics,
                "error": state.error or None,
            }
            for trial, state in zip(trials, states, strict=True)
        ],
    }
