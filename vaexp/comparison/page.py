"""A comparison as one HTML page, which contains its pictures and needs no network or scripts."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, UnidentifiedImageError

from vaexp import __version__
from vaexp.comparison.compare import Comparison
from vaexp.comparison.notes import notes
from vaexp.comparison.view import tables
from vaexp.files import write_text
from vaexp.runs.folder import RunFolder


def write_page(comparison: Comparison, pictures: Sequence[Path], path: Path) -> None:
    """Write the page of a comparison: its tables, its ``pictures`` and the figures of each run.

    All text that comes from a run is escaped.
    """
    environment = Environment(
        loader=PackageLoader("vaexp.comparison"), autoescape=True, undefined=StrictUndefined
    )
    sections: list[dict[str, Any]] = [
        {"title": "Side by side", "pictures": [embedded(picture) for picture in pictures]}
    ]
    for name, folder in dict(zip(comparison.runs, comparison.paths, strict=True)).items():
        figures = [
            Path(folder) / figure
            for figure in RunFolder(Path(folder)).files.names("figures", ".png")
            if not figure.startswith("figures/compare-")
        ]
        own = [embedded(figure, f"{name}: ") for figure in figures]
        sections.append({"title": name, "pictures": own})
    page = environment.get_template("compare.html").render(
        title=" and ".join(comparison.runs)
        if len(comparison.runs) == 2
        else f"{len(comparison.runs)} runs compared",
        version=__version__,
        paths=comparison.paths,
        notes=notes(comparison),
        tables=tables(comparison),
        sections=[section for section in sections if section["pictures"]],
    )
    write_text(path, page)


def embedded(path: Path, of: str = "") -> dict[str, str]:
    """The name of a picture, what it shows in words, which begin with ``of``, and its bytes."""
    name = path.stem.replace("_", " ")
    data = path.read_bytes()
    words = name
    with suppress(UnidentifiedImageError), Image.open(BytesIO(data)) as picture:
        words = picture.info.get("Description", name)
    return {"name": name, "words": of + words, "data": base64.b64encode(data).decode("ascii")}
