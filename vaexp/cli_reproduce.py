"""``vaexp reproduce``: the figures and questions of the report. Prints where their page is."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaexp.cli_common import JsonFlag, Overrides, print_answer
from vaexp.paths import expanded
from vaexp.reproduction.size import SEEDS, Size

Seeds = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=SEEDS,
        help="Train N seeds at most. A later call with more adds to them, and seeds that are "
        f"there already count. The default is {SEEDS}, or 1 with --quick.",
    ),
]


def reproduce(
    overrides: Overrides = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Train one seed, on fewer images and for fewer epochs, and leave out the "
            "questions whose runs take longest.",
        ),
    ] = False,
    seeds: Seeds = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the page and the figures. The default is reproduction, or "
            "reproduction-quick."
        ),
    ] = None,
    runs_dir: Annotated[
        Path | None, typer.Option(help="The folder for the runs. The default is runs in --out.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "-j", "--jobs", min=1, help="Train so many runs at once, each with its share of cores."
        ),
    ] = 2,
    as_json: JsonFlag = False,
) -> None:
    """Draw the report's fourteen figures and answer its questions. Prints the path of the page.

    The same command again goes on: it trains what has not finished, and does nothing when all is
    there. KEY=VALUE changes all configs that have the key, as for a trial.

    Example: [bold]vaexp reproduce --quick[/bold]
    """
    from vaexp.progress import Reporter
    from vaexp.reproduction import reproduce as reproduction

    made = reproduction.reproduce(
        expanded(out or Path("reproduction-quick" if quick else "reproduction")),
        None if runs_dir is None else expanded(runs_dir),
        overrides or [],
        Reporter(),
        size=Size.asked(quick, seeds),
        jobs=jobs,
    )
    answer = {
        "page": str(made.page),
        "findings": str(made.findings),
        "figures": [str(path) for path in made.figures],
    }
    print_answer(json.dumps(answer) if as_json else str(made.page))
