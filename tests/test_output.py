"""The formats of figures: png, svg and pdf, with the same bytes for the same input."""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaexp.config import digest
from vaexp.config.output import FIGURE_SUFFIXES
from vaexp.figures.images import samples
from vaexp.figures.style import save
from vaexp.runs.folder import RunFolder

BEGINS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
IMAGES = np.random.default_rng(0).uniform(size=(1, 2, 28, 28))
WORDS = "Draws x ~ p(x|z). σ = 1 & <β>. White is 0 and black is 1."


def in_format(run: Path, name: str) -> RunFolder:
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "figure_format: png" in text
    config.write_text(text.replace("figure_format: png", f"figure_format: {name}"))
    return RunFolder(run)


@pytest.mark.parametrize("suffix", FIGURE_SUFFIXES)
def test_each_format_has_the_same_bytes_each_time_and_says_what_it_shows(
    suffix: str, tmp_path: Path
) -> None:
    written = []
    for name in "ab":
        figure = samples(IMAGES, None, "Draws x ~ p(x|z)", "σ = 1 & <β>")
        path = tmp_path / f"{name}{suffix}"
        save(figure, path)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(BEGINS[suffix])
    plain = written[0]
    if suffix == ".pdf":
        packed = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", plain, re.S)
        plain += b"".join(zlib.decompressobj().decompress(one) for one in packed if one[:1] == b"x")
    assert not re.search(rb"matplotlib|20\d\d-\d\d-\d\d|D:20\d\d", plain, re.I)
    if suffix == ".png":
        with Image.open(path) as picture:
            assert picture.info["Description"] == WORDS
    elif suffix == ".svg":
        escaped = WORDS.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert f"<dc:description>{escaped}</dc:description>" in plain.decode()
    else:
        assert b"/Subject" in plain


def test_the_format_is_no_part_of_what_a_run_is(
    fixed: Path, copy_of: Any, comparison: Any, invoke: Any
) -> None:
    path = copy_of(fixed)
    before = digest(RunFolder(path).config())
    run = in_format(path, "svg")
    assert run.config().output.figure_format == "svg"
    assert digest(run.config()) == before
    assert comparison(path, fixed)["settings"] == {}
    done = invoke("validate", path / "config.yaml")
    assert done.exit_code == 0
    done = invoke("train", "quickstart", "output.figure_format=jpg", "--dry-run")
    assert done.exit_code == 2
    assert "output.figure_format: " in done.stderr


def test_a_run_without_png_is_evaluated_and_compared(
    fixed: Path, learned: Path, copy_of: Any, invoke: Any
) -> None:
    path = copy_of(fixed)
    in_format(path, "pdf")
    for figure in (path / "figures").iterdir():
        figure.unlink()
    done = invoke("evaluate", path, "--only", "rate")
    assert done.exit_code == 0, done.stderr
    drawn = path / "figures" / "evidence-rate.pdf"
    assert f"figure {drawn}" in done.stderr
    assert [figure.name for figure in (path / "figures").iterdir()] == [drawn.name]
    assert drawn.read_bytes().startswith(b"%PDF")
    done = invoke("compare", path, learned, "--html")
    assert done.exit_code == 0, done.stderr
    [page] = path.rglob("*.html")
    assert "data:image/png" in page.read_text(encoding="utf-8")  # those of the other run


def test_the_figures_of_a_run_have_its_format(fixed: Path, copy_of: Any) -> None:
    from vaexp.data import Transform, load
    from vaexp.experiment.draw.run import illustrate

    run = in_format(copy_of(fixed), "svg")
    there = {figure.stem for figure in (run.path / "figures").iterdir()}
    test = load(run.config().data, download=False).test
    x = Transform("scale")(test.pixels)
    assert illustrate(run, x, test.label, lambda: pytest.fail("not needed")) == []
    for stem in ("samples", "decode_modes", "latent_plane", "posterior", "training_curves"):
        assert stem in there
        text = (run.path / "figures" / f"{stem}.svg").read_text(encoding="utf-8")
        assert text.startswith("<?xml")
