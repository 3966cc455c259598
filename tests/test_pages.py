"""Pages of runs: ``vaexp report``, and the one maker that it shares with ``compare --html``.

A page is read by an HTML parser. No browser runs here.
"""

import base64
import io
import itertools
import json
import os
import re
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page
from PIL import Image, PngImagePlugin

from vaexp.comparison.compare import compare
from vaexp.comparison.page import MOST_EMBEDDED, MOST_SMALL, page_of
from vaexp.errors import RunError
from vaexp.evaluation.groups import GROUPS
from vaexp.pages import page as pages
from vaexp.pages.pictures import SMALL, Drawn
from vaexp.reproduction.answers import Answer, Asked, Question
from vaexp.reproduction.page import Content, Shown, render
from vaexp.runs.folder import RunFolder
from vaexp.tables import Table

EVIL = '"><script>alert(1)</script>\x1b[31m\n'
RNG = np.random.default_rng(5)
NOISE = RNG.integers(0, 256, (600, 800), dtype=np.uint8)


def png(pixels: np.ndarray, words: str = "Draws. Settings.") -> bytes:
    out, said = io.BytesIO(), PngImagePlugin.PngInfo()
    said.add_itxt("Description", words)
    Image.fromarray(pixels).save(out, "PNG", pnginfo=said)
    return out.getvalue()


def with_figures(run: Path, **figures: bytes) -> Path:
    (run / "figures").mkdir(exist_ok=True)
    for name, data in figures.items():
        (run / "figures" / f"{name}.png").write_bytes(data)
    return run


def written(runs: list[Path], path: Path) -> Page:
    """The page of runs as it is read by those who open ``path``."""
    comparison = compare([RunFolder(run) for run in runs], least=1)
    path.write_text(page_of(comparison, [], path).html(), encoding="utf-8")
    return Page(path.read_text(encoding="utf-8"))


def assert_sound(page: Page, path: Path, *, live: bool = False) -> None:
    """What every page has to be, whoever reads it, and wherever it is opened.

    The data and the script of a live part are the only scripts, and the policy names the script.
    """
    assert page.tags.count("script") == 2 * live
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    (policy,) = [words for words in page.of("meta", "content") if "default-src" in (words or "")]
    assert ("script-src 'sha256-" in (policy or "")) == live
    assert "script-src 'unsafe" not in (policy or "")
    assert not any(name.startswith("on") for _, attrs in page.found for name in attrs)
    assert not re.search(r"url\(|@import|https?:", path.read_text(encoding="utf-8"))
    assert [page.tags.count(name) for name in ("main", "header", "nav", "h1", "title")] == [1] * 5
    ids = [attrs["id"] for _, attrs in page.found if "id" in attrs]
    assert len(set(ids)) == len(ids)
    for tag, attrs in page.found:
        if tag == "img":
            assert attrs["alt"]
            assert (attrs["src"] or "").startswith("data:image/")
        if tag == "a":
            target = attrs["href"] or ""
            if target.startswith("#"):
                assert target[1:] in ids
            else:
                assert (path.parent / os.fsdecode(urllib.parse.unquote_to_bytes(target))).is_file()
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    scrolled = [attrs for _, attrs in page.found if attrs.get("class") == "scroll"]
    assert all((one["role"], one["tabindex"]) == ("region", "0") for one in scrolled)
    labels = [one["aria-label"] for one in scrolled]
    assert all(labels)
    assert len(set(labels)) == len(labels)


def test_the_page_of_a_single_run(forge: Any, invoke: Any, elsewhere: Path) -> None:
    values = {"elbo": np.arange(200.0), "rate": np.full(200, 3.0)}
    run = with_figures(forge("a", values=values), samples=png(NOISE), latent_plane=png(NOISE))
    done = invoke("report", run, "--out", "mine.html")
    assert (done.exit_code, done.stdout) == (0, "mine.html\n")
    weights = f"{run}/checkpoints/model.safetensors"
    assert done.stderr.startswith(f"no model runs in the page: {weights}")
    page = Page(Path("mine.html").read_text(encoding="utf-8"))
    assert_sound(page, elsewhere / "mine.html")
    assert [kind for kind in page.tags if kind == "img"] == ["img"] * 4  # small, and in full
    assert "Settings that differ" not in page.text
    # the mean of 0..199 is 99.5, and its standard error is the sd / √200 = 4.09
    assert "91.5 to 107.5" in page.text
    assert "It is a lower bound" in page.text
    assert "minus the sum of distortion and rate" in page.text
    assert "train.batch_size" in page.text


def test_the_page_of_several_runs(fixed: Path, learned: Path, invoke: Any, elsewhere: Path) -> None:
    before = sorted(learned.rglob("*"))
    done = invoke("report", learned, fixed, "--out", "both.html", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"page": "both.html"}
    assert sorted(learned.rglob("*")) == before
    page = Page(Path("both.html").read_text(encoding="utf-8"))
    assert_sound(page, elsewhere / "both.html", live=True)
    first = page.tags.index("img")
    assert first < page.tags.index("table")  # a picture stands first
    assert "Settings that differ" in page.text
    assert any("Rate and distortion" in (words or "") for words in page.of("img", "alt"))
    assert "model.sigma_mode" in page.text
    for group in {e["group"] for e in RunFolder(fixed).metrics()["test"].values() if "group" in e}:
        assert f"{GROUPS[group].answers}." in page.text


def test_where_the_page_goes(forge: Any, invoke: Any, elsewhere: Path) -> None:
    run = forge("a")
    done = invoke("report", run)
    assert done.stdout == f"{run}/figures/report.html\n"
    assert_sound(
        Page((run / "figures/report.html").read_text("utf-8")), run / "figures/report.html"
    )
    done = invoke("report", run, "--out", "no/page.html")
    assert done.exit_code == 2
    assert done.stderr == "--out no/page.html: there is no folder no; make it first\n"
    broken = forge("b")
    (broken / "metrics.json").unlink()
    done = invoke("report", run, broken, "--out", "page.html")
    assert done.exit_code == 0
    assert done.stderr.startswith(f"left out: {broken}: has no final metrics")
    done = invoke("report", broken)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"{broken}: has no final metrics")
    (run / "figures/report.html").unlink()
    (run / "figures/report.html").symlink_to(elsewhere / "page.html")
    assert invoke("report", run).exit_code == 1  # nothing is written through a link


def test_without_the_data_several_runs_are_reported(forge: Any, invoke: Any) -> None:
    runs = [forge(name) for name in "ab"]  # they have no weights
    done = invoke("report", *runs)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.startswith("not drawn side by side: ")
    assert_sound(Page(Path(done.stdout.strip()).read_text("utf-8")), Path(done.stdout.strip()))


def test_names_and_words_of_a_stranger_are_only_text(forge: Any, tmp_path: Path) -> None:
    run = with_figures(forge("a"), samples=png(NOISE, EVIL))
    (run / "figures" / f"{EVIL.replace('/', '')}.svg").write_text("<svg/>")
    (run / "figures" / os.fsdecode(b"\xff#?%.pdf")).write_text("%PDF")
    evil = run.rename(tmp_path / EVIL.replace("/", ""))
    page = written([evil], tmp_path / "page.html")
    assert_sound(page, tmp_path / "page.html")
    assert "\x1b" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert(1)</script>\\x1b[31m\\n" in (page.of("img", "alt")[0] or "")


def test_only_pictures_are_embedded(forge: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(NOISE))
    whole = png(NOISE)
    bomb = bytearray(whole)
    bomb[16:24] = b"\x00\x01\x00\x00" * 2  # 65,536 pixels each way
    jpeg = io.BytesIO()
    Image.fromarray(NOISE).save(jpeg, "JPEG")
    bad = {
        "text": b"no picture",
        "empty": b"",
        "header": whole[:20],
        "cut": whole[: len(whole) // 2],
        "bomb": bytes(bomb),
        "jpeg": jpeg.getvalue(),
    }
    run = with_figures(forge("a"), **bad, samples=whole + b"a secret behind the picture")
    (run / "figures" / "link.png").symlink_to(secret)
    page = written([run], tmp_path / "page.html")
    assert len(page.of("img", "src")) == 2
    for name in bad:
        assert f"figures/{name}.png" in page.text
    assert "figures/link.png" not in page.text
    full = base64.b64decode((page.of("img", "src")[1] or "").split(",")[1])
    assert b"a secret" not in full
    assert (np.asarray(Image.open(io.BytesIO(full)).convert("L")) == NOISE).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16"])
def test_a_picture_keeps_its_pixels(mode: str) -> None:
    """In full, whether it has few colours or many; what is transparent is white."""
    colours = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(colours)
    image = Image.new(mode, (50, 40)) if mode == "I;16" else image.convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG")
    drawn = Drawn.read(io.BytesIO(out.getvalue()), "a picture")
    assert drawn is not None
    assert drawn.words == "a picture"
    large = drawn.large()
    assert large.full is not None
    data = base64.b64decode(large.full.address.split(",")[1])
    with Image.open(io.BytesIO(data)) as shown:
        assert (np.asarray(shown.convert("RGB")) == np.asarray(image.convert("RGB"))).all()
    clear = io.BytesIO()
    Image.new("RGBA", (3, 3), (200, 0, 0, 0)).save(clear, "PNG")
    drawn = Drawn.read(io.BytesIO(clear.getvalue()), "nothing")
    assert drawn is not None
    assert drawn.pixels.getcolors() == [(9, (255, 255, 255))]


def test_two_hundred_runs_have_small_pictures_and_links(forge: Any, tmp_path: Path) -> None:
    """And the page stays below 15 MB, though noise is the largest of pictures."""
    figures = {name: png(NOISE) for name in ("samples", "reconstructions", "latent_plane")}
    runs = [with_figures(forge(f"r{i}", f"seed={i}"), **figures) for i in range(200)]
    page = written(runs, tmp_path / "page.html")
    assert_sound(page, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 15e6
    sizes = [int(width or 0) for width in page.of("img", "width")]
    assert len(sizes) == 200 <= MOST_SMALL
    assert max(sizes) == SMALL
    linked = [address for address in page.of("a", "href") if (address or "").endswith(".png")]
    assert len(set(linked)) == 200 * len(figures)
    assert all("samples" in (one or "") for one in linked[:: len(figures)])


def test_a_few_runs_have_their_figures_in_the_page(forge: Any, tmp_path: Path) -> None:
    runs = [with_figures(forge(name), samples=png(NOISE)) for name in "abcde"]
    few = written(runs[:MOST_EMBEDDED], tmp_path / "few.html")
    assert len(few.of("img", "src")) == 2 * MOST_EMBEDDED
    assert all((address or "").startswith("#") for address in few.of("a", "href"))
    many = written(runs, tmp_path / "many.html")
    assert len(many.of("img", "src")) == MOST_EMBEDDED + 1
    how = "vaexp explore RUN ... writes a page that runs some of these models in the browser."
    assert (how in few.text, how in many.text) == (False, True)


def test_figures_in_other_formats_are_links(forge: Any, tmp_path: Path) -> None:
    run = forge("a")
    (run / "figures").mkdir(exist_ok=True)
    for name in ("samples.svg", "samples.pdf", "page.html"):
        (run / "figures" / name).write_text("<svg/>")
    page = written([run], tmp_path / "page.html")
    links = [address for address in page.of("a", "href") if not (address or "").startswith("#")]
    assert links == [f"{run.name}/figures/samples.{kind}" for kind in ("svg", "pdf")]


def test_the_page_of_a_reproduction_is_as_sound(tmp_path: Path) -> None:
    for name in ("figure-01.png", "figure-09a.png"):
        (tmp_path / name).write_bytes(png(NOISE))
    figures = [
        Shown(number, "A plane", "A caption.", "A model", "runs/a", [("elbo", "1.5 ± 0.2")], [name])
        for number, name in ((1, "figure-01.png"), (9, "figure-09a.png"))
    ]
    table = Table("By sigma", ["sigma", "elbo"], [["0.1", "2.5"]])
    question = Question("Why?", "Section 1.", (), lambda _: Answer([], [], []), "Theory.")
    answer = Answer(["Because."], ["In detail."], [table])
    content = Content(["How."], figures, [Asked(question, answer, "vaexp sweep")])
    path = tmp_path / "index.html"
    path.write_text(render(content, tmp_path), encoding="utf-8")
    page = Page(path.read_text(encoding="utf-8"))
    assert_sound(page, path)
    assert all((source or "").startswith("data:image/png;") for source in page.of("img", "src"))
    assert page.of("img", "alt") == [f"Figure {n}: Draws. Settings." for n in (1, 9)]
    for words in (
        "Figure 9. A plane",
        "A caption.",
        "1.5 ± 0.2",
        "Why?",
        "In short: Because.",
        "In detail.",
        "2.5",
        "These runs again: vaexp sweep",
    ):
        assert words in page.text
    (tmp_path / "figure-01.png").write_bytes(b"no picture")
    with pytest.raises(RunError, match=r"figure-01\.png: damaged; remove it"):
        render(content, tmp_path)


def test_every_part_of_a_section_is_shown_in_order() -> None:
    section = pages.Section(
        "A title",
        sentences=["A sentence."],
        table=Table("not repeated", ["run", "elbo"], [["a", "1.5"]], "above"),
        explained=[pages.Explained("More", [("elbo", "A bound.")])],
        links=[pages.Link("a file", "a%20file.svg")],
        small="Small.",
        parts=[pages.Section("A part", parts=[pages.Section("Its part")])],
    )
    html = pages.Page("The page", ["Above."], [section, pages.Section("Another")]).html()
    page = Page(html)
    words = ["Above.", "A title", "A sentence.", "1.5", "More", "elbo", "A bound.", "a file",
             "Small.", "A part", "Its part", "Another"]  # fmt: skip
    found = [page.text.rindex(word) for word in words]
    assert found == sorted(found)
    assert "not repeated" not in page.text
    assert re.findall(r"<h(\d)", html) == ["1", "2", "3", "4", "2"]
