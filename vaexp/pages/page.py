"""A page as data, and its HTML: one file that needs no network, and no script but a live part's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vaexp import __version__
from vaexp.pages.live import Live, policy
from vaexp.pages.pictures import Picture
from vaexp.tables import Table
from vaexp.visible import visible


@dataclass(frozen=True)
class Link:
    """A file beside the page."""

    text: str
    address: str
    """Relative to the page, and quoted."""


@dataclass(frozen=True)
class Explained:
    """Terms and what they mean, which the page shows on demand."""

    title: str
    terms: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of a page. What it has is shown in the order of the fields."""

    title: str
    pictures: Sequence[Picture] = ()
    sentences: Sequence[str] = ()
    table: Table | None = None
    """Its title is that of the section, and is not repeated."""
    explained: Sequence[Explained] = ()
    links: Sequence[Link] = ()
    small: str = ""
    """A sentence in small letters, such as where the section comes from."""
    parts: Sequence["Section"] = ()
    as_cards: bool = False
    """Whether its parts stand beside each other, as many as fit."""
    live: Live | None = None


@dataclass(frozen=True)
class Page:
    """A page: its title, the sentences below it, and its sections, which its contents list."""

    title: str
    sentences: Sequence[str]
    sections: Sequence[Section]

    def html(self) -> str:
        """The page as HTML. All text is escaped, and control characters are made visible."""
        (live, *_) = [*(section.live for section in self.sections if section.live), None]
        return rendered("page.html", page=self, live=live, policy=policy(live))


def of_table(table: Table, explained: Sequence[Explained] = ()) -> Section:
    """A table as a section of its own, below what stands above it."""
    above = [table.above] if table.above else []
    shown = table if table.headers else None
    return Section(table.title, sentences=above, table=shown, explained=explained)


def rendered(template: str, **values: Any) -> str:
    """A template with values. All text is escaped, and control characters are made visible."""
    environment = Environment(
        loader=PackageLoader("vaexp.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=__version__, **values)


def _printable(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
