"""``vaexp report``: the models of a few runs run in its page, in a browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser, started
from pages import Page

pytestmark = [
    pytest.mark.xdist_group("explore"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not here"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def reported(invoke: Any, path: Path, *runs: Path) -> str:
    """The page of runs at ``path``, and what stderr said."""
    done = invoke("report", *runs, "--out", path)
    assert done.exit_code == 0, done.stderr
    return str(done.stderr)


@pytest.mark.parametrize("dark", [False, True])
def test_the_model_runs_in_the_page_of_its_numbers(
    browser: Browser, invoke: Any, fixed: Path, tmp_path: Path, dark: bool
) -> None:
    path = tmp_path / "report.html"
    assert reported(invoke, path, fixed) == ""
    page = Page(path.read_text("utf-8"))
    links = [address for address in page.of("a", "href") if address and address.startswith("#")]
    tab = browser.open(path, width=360, dark=dark, hash_=links[-1] or "")
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    assert tab.ask("location.hash") == links[-1]  # the place that was asked for
    mean = "document.querySelector('#mean').toDataURL()"
    before = tab.ask(mean)
    tab.drag("#plane", (0.5, 0.5), (0.8, 0.3))
    moved = tab.ask(mean)
    assert moved != before
    assert re.match("#z=", tab.ask("location.hash"))
    tab.ask(f"location.hash = {links[1]!r}")
    tab.rest()
    assert (tab.ask("location.hash"), tab.ask(mean)) == (links[1], moved)  # a link moves nothing
    assert tab.complaints == []
    assert [one for one in tab.requests if not one.startswith("data:")] == [path.as_uri()]


def test_mixtures_run_in_their_page_too(
    browser: Browser, invoke: Any, exact: Any, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    reported(invoke, path, exact("diag").path, exact("tied").path)
    tab = browser.open(path, width=360)
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    assert tab.ask("document.querySelectorAll('#components button').length") == 3
    name = "document.querySelector('#component-name').textContent"
    before = tab.ask(name)
    tab.click("#components button:nth-child(3)")
    assert tab.ask(name) != before
    assert tab.complaints == []


def test_a_page_that_runs_no_model_says_why_on_stderr(
    invoke: Any, fixed: Path, exact: Any, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    said = reported(invoke, path, fixed, exact("diag").path)
    assert "no model runs in the page: 1 of these 2 runs are mixtures" in said
    assert "script" not in Page(path.read_text("utf-8")).tags
