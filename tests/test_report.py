"""The page of a comparison: what it says to those who do not see it, and where its files go."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page

from vaexp.comparison.compare import compare
from vaexp.comparison.page import page_of, stem_of
from vaexp.figures.images import samples
from vaexp.figures.mixture import confusion
from vaexp.figures.style import save
from vaexp.runs.folder import RunFolder

IMAGES = np.random.default_rng(0).uniform(size=(1, 2, 28, 28))


@pytest.fixture
def page(forge: Any, tmp_path: Path) -> Page:
    runs = [RunFolder(forge(name).rename(tmp_path / f"run-{name}")) for name in ("a", "b")]
    own = runs[0].path / "figures"
    own.mkdir(exist_ok=True)
    evil = '"<b>L = 2 & σ</b>"'
    save(samples(IMAGES, None, "Draws", evil), own / "samples.png")
    (own / "of_mine.png").write_bytes(b"no picture")
    (own / ".samples.png-x1.tmp.png").write_bytes(b"half a picture")
    return Page(page_of(compare(runs), [own / "samples.png"], tmp_path / "page.html").html())


def test_pictures_are_said_in_words(page: Page) -> None:
    words = 'Draws. "<b>L = 2 & σ</b>". White is 0 and black is 1.'
    assert page.of("img", "alt") == [words, f"run-a: {words}", f"run-a: {words}"]  # small and full
    assert "b" not in page.tags
    assert "Not shown, as they are no PNG files: figures/of_mine.png." in page.text


def test_wide_tables_can_be_scrolled_by_keyboard(page: Page) -> None:
    scrolled = [attrs for tag, attrs in page.found if attrs.get("class") == "scroll"]
    assert scrolled
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" for attrs in scrolled)
    assert all(attrs["aria-label"] for attrs in scrolled)


def test_the_words_of_a_figure_are_its_title_subtitle_and_note() -> None:
    figure = confusion(np.array([[0.2, 0.1], [3.0, 1.0]]), [4, 9], "Settings")
    label = str(figure.get_label())
    assert label.startswith("Digits in each component. Settings. A row's shares add up to 100%.")
    assert label.endswith("1 of 2 have less than half an image: no shares are shown.")
    assert "\n" not in label


def test_file_names_of_comparisons_are_short_and_differ() -> None:
    made = [f"20261123-00000{i}-quickstart-{i}f0a" for i in range(7)]
    assert stem_of(made[:2]) == "0f0a-1f0a"
    hashes = [
        stem_of(names)
        for names in (
            made,  # many
            [made[0], "other-0f0a"],  # with one end
            ["beta-small", "b"],  # renamed
            ["gamma-small", "b"],
        )
    ]
    assert len(set(hashes)) == 4
    assert {len(name) for name in hashes} == {8}
    assert stem_of(made * 60) == stem_of(made * 60)
