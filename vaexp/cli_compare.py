"""The command that puts runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaexp.cli_common import Format, FormatOption, JsonFlag
from vaexp.visible import visible_lines

if TYPE_CHECKING:
    from vaexp.comparison.compare import Comparison

BaselineOption = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="The run from which differences are taken, by its path or name. The default is the "
        "first.",
    ),
]


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Folders of finished runs, beginnings of their names, or latest.",
        ),
    ],
    baseline: BaselineOption = None,
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

    Each run is compared with the baseline on the same test images. A difference has its standard
    error beside it. Runs are ranked within each group whose likelihoods may be compared. Runs that
    are damaged or have not finished are left out, and stderr says so.

    The CSV has a row for each run and metric: run, the name of the folder, which joins it with the
    CSV of vaexp runs; folder; metric; value, se and all other facts of metrics.json; difference,
    difference_se and the tails of the difference from the baseline; not_compared, the reason why
    there is none; and all settings of the run.

    Example: [bold]vaexp compare runs/*-fixed-* runs/*-pixel-* --format md[/bold]
    """
    from vaexp.comparison.compare import compare as compare_runs
    from vaexp.comparison.render import render
    from vaexp.runs.find import find_run
    from vaexp.runs.folder import RunFolder

    comparison = compare_runs([RunFolder(find_run(run)) for run in runs], baseline)
    for why in comparison.left_out.values():
        typer.echo(visible_lines(f"left out: {why}"), err=True)
    typer.echo(render(comparison, "json" if as_json else format_.value, every=every), nl=False)
    if figure or html:
        _draw(comparison, html)


def _draw(comparison: "Comparison", html: bool) -> None:
    """Draw the pictures of a comparison, and write its page if that is wanted."""
    from vaexp.comparison.pictures import draw_comparison
    from vaexp.runs.folder import RunFolder

    pictures = draw_comparison([RunFolder(Path(path)) for path in comparison.paths], comparison)
    for path in pictures:
        typer.echo(f"figure {path}", err=True)
    if html:
        from vaexp.comparison.page import write_page

        page = pictures[0].with_suffix(".html")
        write_page(comparison, pictures, page)
        typer.echo(f"page {page}", err=True)
