"""Runs as one HTML page: their pictures, settings and numbers, and what the numbers mean."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from vaexp.comparison.compare import Comparison
from vaexp.comparison.meanings import meanings
from vaexp.comparison.notes import notes
from vaexp.comparison.view import tables
from vaexp.errors import RunError
from vaexp.files import Folder
from vaexp.pages.live import Live
from vaexp.pages.page import Explained, Link, Page, Section, of_table
from vaexp.pages.pictures import MOST_BYTES, Drawn, Picture
from vaexp.runs.folder import RunFolder
from vaexp.shown import show_value

MOST_EMBEDDED = 4  # runs up to which the page holds their models and the full size of their figures
MOST_NAMED = 6  # with more runs the name of their files is a hash of their names
MOST_SMALL = 300  # thumbnails of a page, as far as each run has one
FIRST = ("samples", "reconstructions", "training_curves", "em")
"""The figures that say most of a run. A page of many runs shows those of them that it has room for,
and all others as links."""


def page_of(
    comparison: Comparison, pictures: Sequence[Path], path: Path, live: Live | None = None
) -> Page:
    """The page of one or more runs, which is to be written to ``path``: links are relative to it.

    ``pictures`` are the files of those of all runs together. They stand first. ``live`` are the
    models of a few runs.
    """
    runs = dict(zip(comparison.runs, comparison.paths, strict=True))
    figures = [
        _figures(RunFolder(Path(folder)), name, path.parent, len(runs))
        for name, folder in runs.items()
    ]
    settings = [
        Explained(f"All settings of {name}", [(key, show_value(one)) for key, one in flat.items()])
        for name, flat in zip(runs, comparison.all_settings, strict=True)
    ]
    shown = [drawn.large() for picture in pictures if (drawn := _drawn_here(picture))]
    together = [Section("Side by side", shown)] if shown else []
    numbers = [of_table(table) for table in tables(comparison)]
    each = (
        [Section("Figures of each run", parts=figures, as_cards=len(runs) > MOST_EMBEDDED)]
        if len(runs) > 1
        else [replace(figures[0], title="Figures")]
    )
    first, later = (together, each) if together else (each, [])
    sections = [
        *first,
        *_in_the_browser(live, len(runs)),
        Section("Numbers", sentences=notes(comparison), parts=numbers),
        Section("What the numbers mean", explained=meanings(comparison)),
        *later,
        Section("Settings", explained=settings),
    ]
    title = " and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs compared"
    return Page(title, comparison.descriptions if len(runs) == 1 else [], sections)


def _in_the_browser(live: Live | None, runs: int) -> list[Section]:
    """The live part of a page of so many runs, or how to get one where they are too many for it."""
    if live is None and runs <= MOST_EMBEDDED:
        return []
    how = f"Only a page of up to {MOST_EMBEDDED} runs has their models: vaexp explore RUN ... "
    how += "writes a page that runs some of these models in the browser."
    return [Section("In the browser", sentences=[] if live else [how], live=live)]


def _figures(run: RunFolder, name: str, beside: Path, runs: int) -> Section:
    """The figures of one of so many ``runs``, for a page in the folder ``beside``."""
    files = [file for file in run.files.names("figures", ".png") if "/compare-" not in file]
    files.sort(key=lambda file: (*(stem != Path(file).stem for stem in FIRST), file))
    most = len(files) if runs <= MOST_EMBEDDED else max(1, MOST_SMALL // runs)
    pictures: list[Picture] = []
    links, unread = [], []
    for file in files:
        address = _relative(run.path / file, beside)
        if len(pictures) == most:
            links.append(Link(file, address))
        elif (drawn := _read(run, file, name)) is None:
            unread.append(file)
        else:
            pictures.append(drawn.folded() if runs <= MOST_EMBEDDED else drawn.linked(address))
    for suffix in (".svg", ".pdf"):
        others = run.files.names("figures", suffix)
        links += [Link(file, _relative(run.path / file, beside)) for file in others]
    sentences = [f"Not shown, as they are no PNG files: {', '.join(unread)}."] if unread else []
    if not (files or links):
        sentences.append("This run has no figures.")
    return Section(name, pictures, sentences, links=links, small=str(run.path))


def _read(run: RunFolder, file: str, name: str) -> Drawn | None:
    """A figure of a run, or None if its file is none."""
    try:
        with run.files.open(file, MOST_BYTES) as opened:
            return Drawn.read(opened, _words(file), f"{name}: ")
    except RunError:
        return None


def _drawn_here(picture: Path) -> Drawn | None:
    """A picture of all runs together, which was drawn for the page."""
    with Folder(picture.parent).open(picture.name, MOST_BYTES) as file:
        return Drawn.read(file, _words(picture))


def _words(file: str | Path) -> str:
    return re.sub("[_-]", " ", Path(file).stem)


def stem_of(names: list[str]) -> str:
    """The name of the files of runs, without its end.

    It has the four hex digits at the end of their names if these tell few runs apart, else a hash.
    """
    ends = [name[-5:] for name in names]
    known = all(re.fullmatch("-[0-9a-f]{4}", end) for end in ends)
    if known and len(set(ends)) == len(ends) <= MOST_NAMED:
        return "".join(ends)[1:]
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:8]


def _relative(path: Path, beside: Path) -> str:
    """The address of a file on a page in the folder ``beside``."""
    return quote(os.fsencode(os.path.relpath(path, beside)))
