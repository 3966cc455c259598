"""docs/theory.md: each place in the code that it names is there, and so is each picture."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
PLACES = re.findall(r"`(vaexp/[\w/]+\.py): (\w+)`", TEXT)


def _names(path: Path) -> set[str]:
    """The functions, methods and classes of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_each_place_in_the_code_is_there() -> None:
    assert len(PLACES) > 20
    missing = [(file, name) for file, name in PLACES if name not in _names(ROOT / file)]
    assert missing == []


def test_each_equation_of_the_report_stands_there_once() -> None:
    for number in range(1, 10):
        assert f"({number})" in TEXT


def test_each_picture_and_page_that_it_names_is_there() -> None:
    linked = re.findall(r"\]\(([\w.]+)\)", TEXT)
    assert {"em.png", "measures.md"} <= set(linked)
    assert [name for name in linked if not (ROOT / "docs" / name).is_file()] == []
