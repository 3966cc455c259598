"""The commands that put runs side by side and write pages of them."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from vaexp import cli_completion
from vaexp.cli_common import Format, FormatOption, JsonFlag, found, print_answer
from vaexp.errors import RunError, UserError
from vaexp.paths import file_to_write, folder_to_write
from vaexp.visible import visible_lines

if TYPE_CHECKING:
    from vaexp.comparison.compare import Comparison
    from vaexp.pages.live import Live
    from vaexp.runs.folder import RunFolder

BaselineOption = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="The run from which differences are taken, by its path or name. The default is the "
        "first.",
        autocompletion=cli_completion.runs,
    ),
]

PicturesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder for the pictures and the page. The default is figures/ of the first run.",
    ),
]


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Folders of finished runs, beginnings of their names, latest, or folders of runs.",
            autocompletion=cli_completion.runs,
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
            "--html",
            help="Also write a page with the tables and all figures, beside the pictures. Unlike "
            "that of vaexp report, it does not run the models.",
        ),
    ] = False,
    out: PicturesOption = None,
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

    if out is not None and not (figure or html):
        raise UserError("--out: it is the folder for pictures and a page; add --figure or --html")
    comparison = compare_runs(found(runs), baseline)
    for why in comparison.left_out.values():
        typer.echo(visible_lines(f"left out: {why}"), err=True)
    print_answer(render(comparison, "json" if as_json else format_.value, every=every), nl=False)
    if figure or html:
        _draw(comparison, html, out)


def _draw(comparison: "Comparison", html: bool, out: Path | None) -> None:
    """Draw the pictures of a comparison, and write its page if that is wanted.

    They go into the folder ``out``, or into figures/ of the first run.
    """
    from vaexp.comparison.page import page_of, stem_of
    from vaexp.comparison.pictures import draw_comparison
    from vaexp.files import write_text
    from vaexp.runs.folder import RunFolder

    runs = [RunFolder(Path(path)) for path in comparison.paths]
    name = f"compare-{stem_of([run.name for run in runs])}"
    if out is None:
        side, page = (runs[0].files.place(f"figures/{name}{end}") for end in (".png", ".html"))
    else:
        side, page = (folder_to_write(out, "--out") / f"{name}{end}" for end in (".png", ".html"))
    pictures = draw_comparison(runs, comparison, side, _say)
    for path in pictures:
        typer.echo(f"figure {path}", err=True)
    if html:
        write_text(page, page_of(comparison, pictures, page).html())
        typer.echo(f"page {page}", err=True)


def _say(message: str) -> None:
    typer.echo(visible_lines(message), err=True)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders of finished runs, beginnings of their names, latest, or folders of runs.",
            autocompletion=cli_completion.runs,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file of the page. The default is report.html, or report-….html for several "
            "runs, in figures/ of the first run.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a page of one or more runs: figures, settings, numbers, and what the numbers mean.

    Prints the path of the page, which needs no network. Up to four runs have their figures in it in
    full size, and their models run in the page, as vaexp explore has them, where their data are
    there. Of more runs it has small figures, and links to their files beside it. Several runs are
    drawn side by side, as compare --figure does.

    Example: [bold]vaexp report latest --out report.html[/bold]
    """
    from vaexp.comparison.compare import compare as compare_runs
    from vaexp.comparison.page import page_of
    from vaexp.files import write_text
    from vaexp.runs.folder import RunFolder

    comparison = compare_runs(found(runs), least=1)
    for why in comparison.left_out.values():
        typer.echo(visible_lines(f"left out: {why}"), err=True)
    folders = [RunFolder(Path(path)) for path in comparison.paths]
    page = _place_of(folders, "report", out)
    with TemporaryDirectory() as drawn:
        pictures = _drawn_together(folders, comparison, Path(drawn) / "side by side.png")
        write_text(page, page_of(comparison, pictures, page, _live(folders)).html())
    print_answer(json.dumps({"page": str(page)}) if as_json else str(page))


def explore(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders of trained runs, beginnings of their names, latest, or folders of runs.",
            autocompletion=cli_completion.runs,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file of the page. The default is explore.html, or explore-….html for several "
            "runs, in figures/ of the first run.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a page that runs a model in the browser, with sigma and the decode mode as controls.

    Prints the path of the page, which is opened from disk and needs no network. It has the latent
    plane with the codes of 300 test images and a point to drag, mu(z), sigma(z) and draws at that
    point, and an image to choose or to draw, which is encoded. Where the likelihood has a sigma, a
    slider sets it and shows the ELBO. The page of mixtures has their components and weights in
    place of the plane, and the posterior of the image, which is exact. Several runs, such as a
    sweep over beta or over components, become a slider. A page holds mixtures or other models. Runs
    that are damaged or have no weights yet are left out, and stderr says so.

    Example: [bold]vaexp explore latest --out explore.html[/bold]
    """
    from vaexp.explore.page import explored, page_of
    from vaexp.files import write_text

    shown, left_out = explored(found(runs))
    for why in left_out.values():
        typer.echo(visible_lines(f"left out: {why}"), err=True)
    page = _place_of([one.folder for one in shown], "explore", out)
    write_text(page, page_of(shown))
    print_answer(json.dumps({"page": str(page)}) if as_json else str(page))


def _place_of(runs: "list[RunFolder]", kind: str, out: Path | None) -> Path:
    """Where a page of runs goes. Raises UserError if no file can be written at ``out``."""
    from vaexp.comparison.page import stem_of

    if out is None:
        names = [run.name for run in runs]
        name = kind if len(names) == 1 else f"{kind}-{stem_of(names)}"
        return runs[0].files.place(f"figures/{name}.html")
    return file_to_write(out, "--out")


def _live(runs: "list[RunFolder]") -> "Live | None":
    """The models of a few runs for their page, or say why it cannot have them."""
    from vaexp.comparison.page import MOST_EMBEDDED
    from vaexp.explore.page import explored, live_of

    if len(runs) > MOST_EMBEDDED:
        return None
    try:
        shown, left_out = explored(runs)
        live = live_of(shown)
    except (RunError, UserError) as error:
        typer.echo(visible_lines(f"no model runs in the page: {error}"), err=True)
        return None
    for why in left_out.values():
        typer.echo(visible_lines(f"does not run in the page: {why}"), err=True)
    return live


def _drawn_together(runs: "list[RunFolder]", comparison: "Comparison", path: Path) -> list[Path]:
    """Draw several runs together at ``path``, or say why that cannot be done."""
    if len(runs) < 2:
        return []
    from vaexp.comparison.pictures import draw_comparison

    try:
        return draw_comparison(runs, comparison, path, _say)
    except (RunError, UserError) as error:
        why = str(error).removeprefix("--figure: ")
        typer.echo(visible_lines(f"not drawn side by side: {why}"), err=True)
        return []
