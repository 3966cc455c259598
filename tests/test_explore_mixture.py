"""``vaexp explore`` of mixtures: the inference against torch's, and the page in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM, Browser, Tab, started
from exact_runs import MIXTURES
from pages import Page
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaexp.config.data import DataConfig
from vaexp.data import load
from vaexp.explore import describe
from vaexp.explore.describe import described
from vaexp.explore.mixture import root_of
from vaexp.explore.packing import Packing
from vaexp.explore.page import _images, explored, page_of
from vaexp.explore.script import mixture_engine, mixture_script
from vaexp.models import GMM
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node, which runs the script, is not here")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not here")
pytestmark = pytest.mark.xdist_group("explore")

IMAGES, DRAWS = 1_000, 1_000
MOST_CODE = 60_000  # bytes, of the script and the style

DRIVER = """
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
unpack({ model: given.model, x: given.x }, given.text).then(({ model, x }) => {
  const random = randomFrom(1);
  const flat = (values) => Array.from(values);
  const components = componentsOf(model);
  const pixels = components[0].mean.length;
  const images = Array.from({ length: x.length / pixels }, (_, i) => (
    x.subarray(i * pixels, (i + 1) * pixels)));
  const found = images.map((image) => posteriorOf(model, components, image));
  console.log(JSON.stringify({
    mean: components.map((p) => flat(p.mean)),
    deviation: components.map((p) => flat(p.deviation)),
    shares: found.map(({ shares }) => shares),
    logProb: found.map(({ logProb }) => logProb),
    rate: found.map(({ rate }) => rate),
    distortion: found.map(({ distortion }) => distortion),
    rebuilt: flat(meanOf(components, found[0].shares)),
    draws: Array.from({ length: given.draws }, () => flat(components[0].draw(random))),
    indices: Array.from({ length: given.draws }, () => drawComponent(model, random)),
    order: byWeight(model),
  }));
});
"""


def model_of(run: Path) -> GMM:
    model = TrainedModel.read(RunFolder(run)).model
    assert isinstance(model, GMM)
    return model


def of_all_digits() -> Tensor:
    """Test images (1000, 784) in [0, 1], most of digits that the small runs have never seen."""
    return load(DataConfig()).test.pixels[:IMAGES] / 255


def answered(model: GMM, x: Tensor, draws: int) -> dict[str, Tensor]:
    """What the script says of images (N, D)."""
    assert NODE is not None
    packing = Packing()
    given = {
        "model": described(model, 1.0, packing.put),
        "x": packing.put(x, exact=True),
        "text": packing.text(),
        "draws": draws,
    }
    done = subprocess.run(
        [NODE, "-e", mixture_engine() + DRIVER],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in answer.items()}


def close(found: Tensor, wanted: Tensor, absolute: float) -> None:
    torch.testing.assert_close(found, wanted.double(), rtol=1e-6, atol=absolute)


@needs_node
@pytest.mark.parametrize("name", MIXTURES)
@torch.no_grad()
def test_a_mixture_is_that_of_torch(exact: Any, name: str) -> None:
    """On 1,000 images; torch's own ln p(x) has a rounding error where its weights are float32."""
    model, x = model_of(exact(name).path), of_all_digits()
    found = answered(model, x, DRAWS)
    model = model.double()
    p = model.decode(torch.arange(len(model.weight)))
    close(found["mean"], p.mean, 1e-6)
    close(found["deviation"], p.variance.sqrt(), 1e-6)
    joint = model.log_joint(x.double())
    r = joint.softmax(1)
    close(found["shares"], r, 1e-3)
    close(found["logProb"], joint.logsumexp(1), 0.02)
    given = joint - model.weight.log()
    close(found["distortion"], -torch.where(r > 0, r * given, 0).sum(1), 0.02)
    kl = torch.distributions.kl_divergence(model.encode(x.double()), model.prior())
    close(found["rate"], kl, 0.02)
    close(found["rebuilt"], r[0] @ p.mean, 1e-3)
    assert found["order"].tolist() == model.weight.argsort(descending=True, stable=True).tolist()
    deviation = p.variance[0].sqrt()
    error = (found["draws"].mean(0) - p.mean[0]).abs() / deviation
    assert error.max() < 5 / DRAWS**0.5
    assert (found["draws"].std(0) / deviation - 1).abs().max() < 0.15
    counts = found["indices"].long().bincount(minlength=len(model.weight)) / DRAWS
    assert (counts - model.weight).abs().max() < 5 * 0.5 / DRAWS**0.5


@pytest.mark.parametrize("name", MIXTURES)
@torch.no_grad()
def test_a_covariance_of_any_family_has_a_root(exact: Any, name: str) -> None:
    """From its draws alone, so that a page runs families that are still to come."""
    model = model_of(exact(name).path).double()
    k, d = 1, model.gaussians.mean.shape[1]
    lower = torch.zeros(d, d, dtype=torch.float64)
    lower[tuple(torch.tril_indices(d, d))] = root_of(model.gaussians, k)
    p = MultivariateNormal(model.gaussians.mean[k], scale_tril=lower)
    x = of_all_digits()[:20].double()
    close(p.log_prob(x), model.decode(torch.full((20,), k)).log_prob(x), 1e-4)


# The page


def html(*runs: Path) -> str:
    """The page of runs, none of which is left out."""
    shown, left_out = explored([RunFolder(run) for run in runs])
    assert left_out == {}
    return page_of(shown)


@pytest.fixture(scope="module")
def page(exact: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Diagonal covariances, K = 3, two digits."""
    path = tmp_path_factory.mktemp("mixture") / "page.html"
    path.write_text(html(exact("diag").path), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def text(tab: Tab, selector: str) -> str:
    return str(tab.ask(f"document.querySelector({selector!r}).textContent"))


def number(tab: Tab, selector: str) -> float:
    return float(re.sub(r"[, %]", "", text(tab, selector)).replace("−", "-"))


def picture(tab: Tab, selector: str) -> str:
    return str(tab.ask(f"document.querySelector({selector!r}).toDataURL()"))


def pixels(tab: Tab, selector: str) -> Tensor:
    """The image on a canvas, (784,), from 0, white, to 1, black."""
    context = f"document.querySelector({selector!r}).getContext('2d')"
    data = tab.ask(f"[...{context}.getImageData(0, 0, 28, 28).data]")
    return 1 - torch.tensor(data, dtype=torch.float64).view(-1, 4)[:, 0] / 255


def of_page(run: Path) -> Tensor:
    images, _ = _images(explored([RunFolder(run)])[0])
    return images.pixels / 255


def test_the_page_is_one_file_that_asks_for_nothing(page: Path) -> None:
    written = page.read_text(encoding="utf-8")
    parsed = Page(written)
    assert parsed.tags.count("script") == 2
    assert parsed.sources == ["#main"]
    ids = [attrs["id"] for _, attrs in parsed.found if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert not re.search(r"url\(|@import|https?:|\beval\b", written)
    style = written.split("<style>")[1].split("</style>")[0]
    assert len(mixture_script().encode()) + len(style.encode()) < MOST_CODE
    assert "posterior.weight" not in written  # nothing of a latent plane
    assert 'id="plane"' not in written


def test_a_mixture_of_too_many_numbers_is_refused(
    exact: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = exact("full").path
    count = 2 + 3 * 784 + 3 * 784 * 785 // 2  # free parameters, as a covariance is symmetric
    monkeypatch.setattr(describe, "MOST_WEIGHTS", count)
    assert len(described(model_of(run), 1.0, Packing().put)["roots"]) == 3
    monkeypatch.setattr(describe, "MOST_WEIGHTS", count - 1)
    done = invoke("explore", run)
    assert done.exit_code == 2
    assert done.stderr == (
        f"{run}: the model has {count:,} weights, too many for a page, which takes {count - 1:,}; "
        "train one with fewer components, or diag, spherical or lowrank covariances\n"
    )


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical", "lowrank"])
def test_a_covariance_that_is_not_positive_definite_is_refused(
    exact: Any, copy_of: Any, invoke: Any, name: str
) -> None:
    run = copy_of(exact(name).path)
    path, at = run / "checkpoints" / "model.safetensors", TrainedModel.read(RunFolder(run)).at
    tensors = load_file(path)
    for kind in ("covariance", "variances"):
        if f"gaussians.{kind}" in tensors:
            tensors[f"gaussians.{kind}"].view(-1)[0] = -1.0
    save_file(tensors, path, {"at": str(at)})
    done = invoke("explore", run)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"{run}: the covariance of a component is not positive definite; copy the run folder "
        "again, or train with a larger model.covariance_floor\n"
    )


@needs_browser
@torch.no_grad()
def test_the_numbers_on_the_page_are_those_of_the_model(
    browser: Browser, page: Path, exact: Any
) -> None:
    run = exact("diag").path
    model, x = model_of(run), of_page(run)
    tab = browser.open(page)
    tab.ask("new Promise((done) => setTimeout(done, 500))")
    assert number(tab, "#mean-log-prob") == pytest.approx(float(model.log_prob(x).mean()), abs=0.1)
    order = model.weight.argsort(descending=True, stable=True)
    k = int(order[0])
    assert text(tab, "#component-name") == f"Component {k}"
    shown = tab.ask("[...document.querySelectorAll('#components button')].map((b) => b.ariaLabel)")
    weights = [float(label.split("weight ")[1].rstrip(" %")) / 100 for label in shown]
    assert weights == pytest.approx(model.weight[order].tolist(), abs=0.006)
    mean = model.gaussians.mean
    assert (pixels(tab, "#mean") - mean[k]).abs().max() < 0.5 / 255 + 1e-6
    assert (pixels(tab, "#components canvas") - mean[k]).abs().max() < 0.5 / 255 + 1e-6
    deviation = model.gaussians.variance().sqrt()
    assert number(tab, "#deviation-high") == pytest.approx(float(deviation[k].max()), rel=0.01)
    assert number(tab, "[data-number=least-sigma]") == pytest.approx(float(deviation.min()), 0.01)
    assert number(tab, "[data-number=floor]") == pytest.approx(0.1)  # the root of 0.01
    tab.click("#image-after")
    r = model.encode(x).probs
    words = text(tab, "#image-numbers").replace("−", "-").replace(",", "")
    found = re.fullmatch(r"ln p\(x\) (\S+) = -rate (\S+) - distortion (\S+) nats\.", words)
    assert found is not None
    log_prob, rate, distortion = map(float, found.groups())
    assert log_prob == pytest.approx(float(model.log_prob(x)[1]), abs=0.06)
    assert log_prob == pytest.approx(-rate - distortion, abs=0.16)
    best = int(r[1].argmax())
    assert text(tab, "#likely button") == f"Component {best}"
    assert number(tab, "#likely span") == pytest.approx(100 * float(r[1].max()), abs=0.6)
    assert (pixels(tab, "#nearest") - mean[best]).abs().max() < 0.5 / 255 + 1e-6
    assert (pixels(tab, "#rebuilt") - r[1].to(mean) @ mean).abs().max() < 0.5 / 255 + 1e-3
    assert tab.complaints == []


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_page_has_no_overflow_and_no_complaint(
    browser: Browser, page: Path, dark: bool
) -> None:
    tab = browser.open(page, width=360, dark=dark)
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    assert tab.complaints == []
    assert tab.requests == [page.as_uri()]


@needs_browser
def test_what_a_visitor_does_shows_at_once(browser: Browser, page: Path) -> None:
    tab = browser.open(page)
    first = text(tab, "#component-name")
    mean, draw = picture(tab, "#mean"), picture(tab, "#draw")
    tab.click("#redraw")
    assert picture(tab, "#mean") == mean
    assert picture(tab, "#draw") != draw
    tab.click("#components button:nth-child(2)")
    second = text(tab, "#component-name")
    assert second != first
    assert picture(tab, "#mean") != mean
    focused = "document.activeElement.ariaChecked"
    tab.press("Home", 36)
    assert (text(tab, "#component-name"), tab.ask(focused)) == (first, "true")
    tab.press("ArrowRight", 39)
    assert (text(tab, "#component-name"), tab.ask(focused)) == (second, "true")
    tab.press("ArrowRight", 39)
    tab.press("ArrowRight", 39)  # there are three, so the last one stays
    assert text(tab, "#component-name") not in {first, second}
    assert tab.ask("document.querySelectorAll('#components [tabindex=\"0\"]').length") == 1
    draw = picture(tab, "#draw")
    tab.press("r", 82)
    assert picture(tab, "#draw") != draw
    strip = picture(tab, "#draws canvas")
    tab.ask(
        "(() => { const one = document.querySelector('#means'); one.value = 'mean'; "
        "one.dispatchEvent(new Event('change')); })()"
    )
    tab.rest()
    assert picture(tab, "#draws canvas") != strip
    assert picture(tab, "#draws canvas") in [
        picture(tab, f"#components button:nth-child({i}) canvas") for i in (1, 2, 3)
    ]
    tab.click("#image-clear")
    assert text(tab, "#image-numbers") == "Draw a digit, or choose a test image."
    assert tab.ask("document.querySelector('#likely').hidden")
    tab.drag("#pad", (0.4, 0.2), (0.6, 0.2), (0.5, 0.8))
    words = text(tab, "#image-numbers")
    tab.drag("#pad", (0.2, 0.5), (0.8, 0.5))
    assert text(tab, "#image-numbers") != words
    best = text(tab, "#likely button")
    tab.click("#likely button")
    assert text(tab, "#component-name") == best
    hash_ = tab.ask("location.hash")
    again = browser.open(page, hash_=hash_)
    assert text(again, "#component-name") == best
    assert again.ask("document.querySelector('#means').value") == "mean"
    assert picture(again, "#draw") == picture(tab, "#draw")
    assert tab.complaints == again.complaints == []


@needs_browser
def test_a_bad_address_does_no_harm_and_that_of_a_part_changes_nothing(
    browser: Browser, page: Path
) -> None:
    tab = browser.open(page, hash_="#run=7&component=99&image=-5&draw=0.5")
    assert text(tab, "#pad-text").startswith("Test image 1 of")
    tab.click("#components button:nth-child(3)")
    name = text(tab, "#component-name")
    tab.ask("location.hash = '#main'")
    tab.rest()
    assert text(tab, "#component-name") == name
    assert tab.ask("location.hash") == "#main"
    tab.ask("location.hash = '#image=4'")
    tab.rest()
    assert text(tab, "#pad-text").startswith("Test image 5 of")
    assert tab.complaints == []


@needs_browser
@torch.no_grad()
def test_several_mixtures_are_one_slider(browser: Browser, exact: Any, tmp_path: Path) -> None:
    """By their number of components; another transform is another density."""
    path = tmp_path / "runs.html"
    path.write_text(html(*(exact(name).path for name in ("full", "labels", "lowrank"))), "utf-8")
    tab = browser.open(path, dark=True)
    seen = []
    for place in (0.01, 0.5, 0.99):
        tab.drag("#run", (place, 0.5))
        count = tab.ask("document.querySelectorAll('#components button').length")
        seen.append((text(tab, "#caption").split(", ")[1], count, text(tab, "#runs-caption")))
    one, two = (
        f"{count} of the 3 runs {has} another transform of x, so the densities cannot be compared."
        for count, has in ((1, "has"), (2, "have"))
    )
    assert seen == [("K = 2", 2, one), ("K = 3", 3, one), ("K = 3", 3, two)]
    saved = "HTMLAnchorElement.prototype.click = function () { window.saved = this.download; }"
    tab.ask(saved)
    tab.click("#save")
    assert str(tab.ask("window.saved")).endswith(".png")
    assert tab.complaints == []
