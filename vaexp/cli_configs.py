"""Commands on configs, which need no run and no torch: validate, schema and configs ..."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaexp import cli_completion
from vaexp.cli_common import JsonFlag, print_answer
from vaexp.errors import RunError, UserError
from vaexp.paths import expanded

if TYPE_CHECKING:
    from vaexp.config import Config
    from vaexp.data import Dataset

configs_app = typer.Typer(
    no_args_is_help=True,
    help="List, show or copy the configs and sweeps that ship with vaexp.\n\n"
    "Example: [bold]vaexp configs list[/bold]",
)

ShippedName = Annotated[
    str,
    typer.Argument(
        help="The name of a shipped config or sweep.",
        autocompletion=cli_completion.configs_and_sweeps,
    ),
]


def validate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG... [KEY=VALUE]...",
            help="The configs and sweeps to check (- is stdin), and settings to change in each.",
            autocompletion=cli_completion.configs_or_settings,
        ),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Check configs, and files that describe sweeps, without running them.

    Prints what is wrong, and where: also what is missing on this machine, such as memory, a GPU
    that the config asks for, or its images.

    Example: [bold]vaexp validate experiments/*.yaml[/bold]
    """
    from vaexp.config import read_config
    from vaexp.sweeps.file import sweep_file

    overrides = [text for text in arguments if "=" in text and not os.path.exists(text)]
    problems: dict[str, str | None] = {}
    loaded: dict[str, Dataset] = {}
    for config in arguments:
        if config in overrides:
            continue
        try:
            file = sweep_file(str(expanded(config)))
            if file is not None:
                problems[config] = _wrong_trial(config, file, overrides, loaded)
                continue
            settings, notes = read_config(config, overrides)
            for note in notes:
                typer.echo(f"note: {note}", err=True)
            problems[config] = _refused(config, settings, loaded)
        except UserError as error:
            problems[config] = str(error)
    if as_json:
        print_answer(json.dumps(problems))
    for name, problem in problems.items():
        if problem is not None:
            typer.echo(problem, err=True)
        elif not as_json:
            print_answer(f"{name}: ok")
    if any(problems.values()):
        raise typer.Exit(2)


def _wrong_trial(
    name: str, file: Path, overrides: Sequence[str], loaded: "dict[str, Dataset]"
) -> str | None:
    """Why training would refuse a trial of a sweep; None if it would not.

    Raises UserError if there is anything else wrong with the sweep.
    """
    from vaexp.sweeps.request import Request
    from vaexp.sweeps.trials import check, config_of, numbered

    request = Request.of_file(file, overrides)
    trials = numbered([request.asked], request.base)
    check(request.base, trials)
    seen = set()
    for trial in trials:
        title = f"{name}, trial {trial.number} ({trial.title})"
        config = config_of(request.base, trial)
        asked = config.model_copy(update={"seed": 0, "name": ""}).model_dump_json()
        if asked in seen:  # the data suit every seed or none, and reading them takes time
            continue
        seen.add(asked)
        problem = _refused(title, config, loaded)
        if problem is not None:
            return problem
    return None


def _refused(name: str, config: "Config", loaded: "dict[str, Dataset]") -> str | None:
    """Why training would refuse to start with the config, on this machine; None if it would not."""
    try:
        check_trainable(config, loaded)
    except (UserError, RunError) as error:
        return f"{name}: {error}"
    return None


def check_trainable(config: "Config", loaded: "dict[str, Dataset]") -> None:
    """Raise UserError or RunError if training would refuse to start with the config, here and now.

    That is so where a package is not installed, there is no GPU, the memory cannot suffice, or the
    images are too few or do not suit the config. Torch is loaded only if the answer depends on it.
    ``loaded`` keeps the images that were read last, for the next config.
    """
    from vaexp.experiment.memory import certainly_suffices
    from vaexp.runs.tensorboard import check_installed

    check_installed(config)
    if config.device == "cuda":
        from vaexp.experiment.prepare import resolve_device

        resolve_device(config.device)
    if not certainly_suffices(config):
        from vaexp.experiment.memory import check_memory

        check_memory(config)
    _check_images(config, loaded)


def _check_images(config: "Config", loaded: "dict[str, Dataset]") -> None:
    """Raise UserError if the data have too few images for the config, or do not suit it.

    Own images are read, and so are those of other data sets than the bundled one that are there
    already: nothing is downloaded. Bundled ones are read where the answer depends on which digits
    they show.
    """
    from vaexp.config.data import BUNDLED

    data = config.data
    if data.name != BUNDLED:
        from vaexp.data import is_there

        if is_there(data):
            _read_images(config, loaded)
            return
    assert data.training_images is not None
    digits = set(data.labels or range(10))
    images = data.training_images - data.validation_size if data.limit is None else data.limit
    complaint = config.complaint_on_images(images, digits)
    if complaint is not None:
        raise UserError(complaint)
    some_digits = data.limit is not None and config.complaint_on_images(images, set()) is not None
    if data.name == BUNDLED and (data.labels is not None or some_digits):
        _read_images(config, loaded)


def _read_images(config: "Config", loaded: "dict[str, Dataset]") -> None:
    """Read the images, and raise UserError if they do not suit the config. This loads torch."""
    from vaexp.experiment.prepare import check_data

    check_data(config, loaded)


def schema(
    sweep: Annotated[
        bool, typer.Option("--sweep", help="That of a file that describes a sweep.")
    ] = False,
) -> None:
    """Print the JSON Schema of configs, with which editors complete and check them.

    Example: [bold]vaexp schema > vaexp.schema.json[/bold]
    """
    from vaexp.config import json_schema
    from vaexp.sweeps.schema import sweep_schema

    print_answer(json.dumps(sweep_schema() if sweep else json_schema(), indent=2))


@configs_app.command("list")
def configs_list(
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="List the shipped sweeps, which vaexp sweep takes.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the shipped configs, or the shipped sweeps, with what each of them shows.

    Example: [bold]vaexp configs list[/bold]
    """
    from vaexp.config import shipped_configs, shipped_sweeps, summary
    from vaexp.tables import EASY, fold, width_of_terminal

    shipped = shipped_sweeps() if sweeps else shipped_configs()
    summaries = {name: summary(path) for name, path in shipped.items()}
    if as_json:
        print_answer(json.dumps(summaries))
        return
    indent, width = max(map(len, summaries)) + 2, width_of_terminal()
    for name, text in summaries.items():
        lines = [text] if width is None else fold(text, max(EASY, width - indent))
        print_answer(f"{name:<{indent}}" + ("\n" + " " * indent).join(lines))
    if not sweeps:
        typer.echo("vaexp configs list --sweeps lists the sweeps", err=True)


@configs_app.command("show")
def configs_show(
    name: ShippedName,
) -> None:
    """Print a shipped config or sweep with its comments.

    Example: [bold]vaexp configs show quickstart[/bold]
    """
    print_answer(_shipped(name).read_text(encoding="utf-8"), nl=False)


@configs_app.command("copy")
def configs_copy(
    name: ShippedName,
    to: Annotated[Path, typer.Argument(help="The new file, or the folder it is put in.")] = Path(),
) -> None:
    """Copy a shipped config or sweep, so that it can be changed. Prints the path of the new file.

    A file that exists is never overwritten.

    Example: [bold]vaexp configs copy quickstart mine.yaml[/bold]
    """
    from vaexp.config.shipped import text_to_copy
    from vaexp.files import write_text

    source, to = _shipped(name), expanded(to)
    target = to / source.name if os.path.isdir(to) else to
    if os.path.lexists(target):
        raise UserError(f"{target}: exists already; choose another name")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent}: no such folder")
    try:
        write_text(target, text_to_copy(source))
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from None
    print_answer(str(target))


def _shipped(name: str) -> Path:
    """The file of a shipped config or sweep. Raises UserError if none has this name."""
    from vaexp.config import shipped_configs, shipped_sweeps

    shipped = shipped_configs() | shipped_sweeps()
    if name not in shipped:
        raise UserError(f"{name}: no such shipped config; there are {', '.join(shipped)}")
    return shipped[name]
