"""``vaexp explore``: the page as a file, and as a person finds it in a browser."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM, Browser, Tab, started
from pages import Page
from safetensors.torch import load_file, save_file
from small_models import rough_vae

from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.errors import UserError
from vaexp.explore import describe
from vaexp.explore import page as explore_page
from vaexp.explore.describe import described
from vaexp.explore.packing import Packing
from vaexp.explore.page import IMAGES, Explored, _images, explored, page_of
from vaexp.explore.script import engine, script
from vaexp.models.elbo import elbo_terms
from vaexp.models.linear_gaussian import LinearGaussian
from vaexp.models.vae import VAE
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel

NODE = shutil.which("node")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not here")
pytestmark = pytest.mark.xdist_group("explore")

MOST_CODE = 60_000  # bytes


@pytest.fixture(scope="module")
def page(fixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Given the label, sigma fixed at 1, L = 2."""
    path = tmp_path_factory.mktemp("explore") / "page.html"
    path.write_text(html(fixed), encoding="utf-8")
    return path


def html(*runs: Path) -> str:
    """The page of runs, none of which is left out."""
    shown, left_out = explored([RunFolder(run) for run in runs])
    assert left_out == {}
    assert [one.folder.path for one in shown] == [*runs]  # a page goes beside the first one
    return page_of(shown)


def script_of(text: str) -> str:
    return text.split('<script type="module">')[1].split("</script>")[0]


def data_of(text: str) -> Any:
    return json.loads(text.split('<script type="application/json" id="data">')[1].split("</")[0])


def test_the_page_is_one_file_that_asks_for_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.tags.count("script") == 2
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(parsed.tags)
    assert parsed.sources == ["#main"]
    assert not any(name.startswith("on") for _, attrs in parsed.found for name in attrs)
    assert not re.search(r"url\(|@import|https?:|\beval\b", text)
    digest = base64.b64encode(hashlib.sha256(script_of(text).encode()).digest()).decode()
    (policy,) = [p for p in parsed.of("meta", "content") if p and "default-src" in p]
    assert f"script-src 'sha256-{digest}';" in policy  # no other script runs, whatever a run holds
    style = text.split("<style>")[1].split("</style>")[0]
    assert len(script_of(text).encode()) + len(style.encode()) < MOST_CODE
    assert len(script(LIKELIHOODS).encode()) < MOST_CODE  # of runs with all likelihoods


@pytest.mark.usefixtures("elsewhere")
def test_the_command_says_where_the_page_is(
    fixed: Path, learned: Path, copy_of: Any, invoke: Any
) -> None:
    before = sorted(fixed.rglob("*"))
    done = invoke("explore", fixed, learned, "--out", "both.html", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"page": "both.html"}
    assert sorted(fixed.rglob("*")) == before
    text = Path("both.html").read_text(encoding="utf-8")
    ids = [attrs["id"] for _, attrs in Page(text).found if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'\b(?:element|click|say|on)\("([a-z0-9-]+)"', text)) <= set(ids)
    data = data_of(text)
    assert [run["beta"] for run in data["runs"]] == [1, 2]
    assert [run["model"]["latent"] for run in data["runs"]] == [2, 3]
    run = copy_of(fixed)
    done = invoke("explore", run)
    assert (done.exit_code, done.stdout) == (0, f"{run}/figures/explore.html\n")
    done = invoke("explore", run, "--out", "no/page.html")
    assert done.exit_code == 2
    assert done.stderr == "--out no/page.html: there is no folder no; make it first\n"


def test_what_has_no_page_is_refused_with_the_reason(
    fixed: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe, "MOST_WEIGHTS", 1_000)
    done = invoke("explore", fixed)
    assert done.exit_code == 2
    assert re.fullmatch(
        rf"{fixed}: the model has [\d,]+ weights, too many for a page, which takes 1,000; "
        "train one with a smaller model.hidden\n",
        done.stderr,
    )
    with pytest.raises(UserError, match="no script runs this likelihood in a page"):
        engine(["laplace"])


def test_runs_need_test_images_in_common(fixed: Path) -> None:
    one = with_data(fixed)
    images, digits = _images([one, with_data(fixed, labels=[9, 3])])
    assert digits == [9]
    assert images.label.unique().tolist() == [9]
    assert len(images) == IMAGES
    with pytest.raises(UserError, match="no digit in common"):
        _images([one, with_data(fixed, labels=[3])])
    with pytest.raises(UserError, match="different data"):
        _images([one, with_data(fixed, name="kmnist")])


def test_runs_that_are_too_large_together_are_refused(
    fixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown, _) = explored([RunFolder(fixed), RunFolder(fixed)])
    tensors = places(data_of(page_of(shown))["runs"])
    size = sum(place["length"] * place["bytes"] for place in tensors)
    monkeypatch.setattr(explore_page, "MOST_BYTES", size)
    page_of(shown)
    monkeypatch.setattr(explore_page, "MOST_BYTES", size - 1)
    with pytest.raises(UserError, match=f"2 runs take {size:,} .* takes {size - 1:,}; explore"):
        page_of(shown)


def places(value: Any) -> Iterator[Any]:
    """Where the page says that its tensors are."""
    if isinstance(value, dict) and "at" in value:
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from places(part)


@pytest.mark.usefixtures("elsewhere")
def test_of_several_runs_those_without_a_page_are_left_out(
    fixed: Path, copy_of: Any, invoke: Any
) -> None:
    folder = Path("all")
    unfinished = copy_of(fixed)
    for place in ("checkpoints/model.safetensors", "metrics.jsonl"):
        (unfinished / place).unlink()
    for run in (fixed, unfinished):
        shutil.copytree(run, folder / run.name)
    done = invoke("explore", folder, "--out", "page.html")
    assert (done.exit_code, done.stdout) == (0, "page.html\n")
    (line,) = done.stderr.splitlines()
    assert f"left out: {folder}/{unfinished.name}/checkpoints/model.safetensors" in line
    (run,) = data_of(Path("page.html").read_text("utf-8"))["runs"]
    assert run["model"]["latent"] == 2
    shutil.rmtree(folder / fixed.name)
    done = invoke("explore", folder, "--out", "none.html")
    assert done.exit_code == 1
    assert "checkpoints/model.safetensors" in done.stderr
    assert not Path("none.html").exists()


@pytest.mark.usefixtures("elsewhere")
def test_mixtures_and_other_models_have_pages_of_their_own(
    fixed: Path, exact: Any, invoke: Any
) -> None:
    done = invoke("explore", fixed, exact("diag").path, "--out", "page.html")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "1 of these 2 runs are mixtures, which have no latent plane, and a page holds mixtures or "
        "other models; explore them apart\n"
    )
    assert not Path("page.html").exists()


def test_a_run_of_a_stranger_is_only_text(fixed: Path, tmp_path: Path) -> None:
    evil = "x</script><b onclick=alert(1)>\x1b[31m\n"
    run = Path(shutil.copytree(fixed, tmp_path / evil.replace("/", "∕").strip()))
    weights = run / "checkpoints" / "model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.0.weight"] *= 1e30
    metadata = {"at": str(TrainedModel.read(RunFolder(fixed)).at)}
    save_file(tensors, weights, metadata)
    text = html(run)
    parsed = Page(text)
    assert "b" not in parsed.tags
    assert parsed.tags.count("script") == 2
    assert "\x1b" not in text
    assert "\\x1b[31m" in data_of(text)["runs"][0]["name"]


@pytest.mark.parametrize(
    ("tensor", "number"), [("decoder.0.weight", torch.nan), ("likelihood.sigma", torch.inf)]
)
def test_weights_that_are_no_numbers_are_refused(
    fixed: Path, copy_of: Any, invoke: Any, tensor: str, number: float
) -> None:
    run = copy_of(fixed)
    change_weights(run, **{tensor: number})
    done = invoke("explore", run)
    assert (done.exit_code, done.stdout) == (1, "")
    words = f"{run}/checkpoints/model.safetensors: {tensor} holds numbers that are not finite"
    assert words in done.stderr


@pytest.mark.parametrize("kind", ["ppca", "fa"])
def test_a_damaged_linear_model_is_not_a_fault_of_vaexp(
    exact: Any, copy_of: Any, invoke: Any, kind: str
) -> None:
    noise = {"ppca": "variance", "fa": "variances"}[kind]
    for damage, words in (
        ({noise: 0.0}, "the noise of some pixels is not above 0"),
        ({"factors": 1e200}, "the covariance of the posterior is singular"),
    ):
        run = copy_of(exact(kind).path)
        change_weights(run, **damage)
        done = invoke("explore", run)
        assert done.exit_code == 1
        assert f"{run}: {words}; copy the run folder again" in done.stderr
        shutil.rmtree(run)


def change_weights(run: Path, **numbers: float) -> None:
    """Put a number in place of the first one of each of these tensors."""
    path = run / "checkpoints" / "model.safetensors"
    tensors, at = load_file(path), str(TrainedModel.read(RunFolder(run)).at)
    for name, number in numbers.items():
        tensors[name].view(-1)[0] = number
    save_file(tensors, path, {"at": at})


# The script without a page

ROUND_TRIP = """
const start = { run: 0, z: [0, 0], digit: 4, axes: [0, 1], sigma: null, image: 0, seed: 1,
  plane: false, marked: false, from: [1, 0], to: [0, 1], along: 0 };
const runs = [{ latent: 2, digits: [4, 9] }, { latent: 3, digits: [4, 9] }];
const read = (hash) => fromHash(hash, start, runs, 300);
const state = { run: 1, z: [0.5, -1.25, 2], digit: 9, axes: [0, 2], sigma: 0.125, image: -1,
  seed: 7, plane: true, marked: true, from: [1, 2, 3], to: [-1, -2, -3], along: 0.5 };
const bad = ["#z=1e39,0&from=0,-101&to=1e999,0", "#sigma=1e-50", "#sigma=1e4", "#axes=1,1",
  "#run=9&z=1,2,x&digit=3&axes=0,7&sigma=-1&image=1e9&draw=0.5&from=1&along=NaN"];
const all = [state, read(toHash(state, start)), start, read(""), ...bad.map(read)];
console.log(JSON.stringify(all));
"""


@pytest.mark.skipif(NODE is None, reason="node, which runs the script, is not here")
def test_an_address_holds_the_state_and_a_bad_one_does_no_harm() -> None:
    assert NODE is not None
    text = subprocess.check_output([NODE, "-e", engine([]) + ROUND_TRIP], text=True)
    state, again, start, empty, *bad = json.loads(text)
    assert again == state
    assert empty == start
    assert bad == [start] * 5


# In a browser


def test_a_browser_that_says_nothing_ends_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("browser.PATIENCE", 0.05)
    (read_command, write_command), (read_answer, write_answer) = os.pipe(), os.pipe()
    browser = Browser(read_answer, write_command)
    with pytest.raises(AssertionError, match="the browser says nothing"):
        browser.call("Browser.getVersion")
    os.close(read_command)
    os.close(write_answer)
    browser.commands.close()
    browser.answers.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def number(tab: Tab, selector: str) -> float:
    text = tab.ask(f"document.querySelector({selector!r}).textContent")
    return float(re.sub(r"[, %]", "", text).replace("−", "-"))


def picture(tab: Tab, selector: str) -> str:
    return str(tab.ask(f"document.querySelector({selector!r}).toDataURL()"))


def latents(tab: Tab) -> list[float]:
    shown = "[...document.querySelectorAll('#latents span')].map((one) => one.textContent)"
    return [float(text.replace("−", "-")) for text in tab.ask(shown)]


def with_data(run: Path, **changes: Any) -> Explored:
    """A run as if it had been trained with other settings of its data."""
    ((one,), _) = explored([RunFolder(run)])
    config = one.trained.config
    data = config.data.model_copy(update=changes)
    changed = config.model_copy(update={"data": data})
    return replace(one, trained=replace(one.trained, config=changed))


def of_page(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images, _ = _images(explored([RunFolder(run)])[0])
    return images.pixels / 255, images.label


@needs_browser
def test_the_numbers_on_the_page_are_those_of_the_run(
    browser: Browser, page: Path, fixed: Path
) -> None:
    """The rate is exact, and the ELBO has other draws: 300 images bring it within half a nat."""
    tab = browser.open(page)
    trained = TrainedModel.read(RunFolder(fixed))
    assert isinstance(trained.model, VAE)
    x, label = of_page(fixed)
    terms = elbo_terms(trained.model, x, label)
    assert number(tab, "#rate") == pytest.approx(float(terms.rate.mean()), abs=0.06)
    elbo = -(terms.rate + terms.distortion)
    assert number(tab, "#own-elbo") == pytest.approx(float(elbo.mean()), abs=0.5)
    # at another sigma, from the mean squared error that the page shows: no draws are in it
    rmse = number(tab, "[data-number=rmse]")
    tab.drag("#sigma", (0.5, 0.5), (0.6, 0.5))
    sigma = 10 ** float(tab.ask("document.querySelector('#sigma').value"))
    log_prob = -392 * (torch.log(torch.tensor(2 * torch.pi * sigma**2)) + (rmse / sigma) ** 2)
    expected = float(log_prob) - number(tab, "#rate")
    assert number(tab, "#elbo") == pytest.approx(expected, rel=0.01)
    assert tab.complaints == []


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_page_has_no_overflow_and_no_complaint(
    browser: Browser, page: Path, dark: bool
) -> None:
    tab = browser.open(page, width=360, dark=dark)
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    paper = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(24, 24, 24)" if dark else "rgb(255, 255, 255)")
    assert tab.complaints == []
    assert tab.requests == [page.as_uri()]


@needs_browser
def test_what_a_visitor_does_shows_at_once(browser: Browser, page: Path) -> None:
    tab = browser.open(page)
    mean, draw = picture(tab, "#mean"), picture(tab, "#draw")
    tab.click("#redraw")
    assert picture(tab, "#mean") == mean
    assert picture(tab, "#draw") != draw
    tab.drag("#plane", (0.5, 0.5), (0.6, 0.4))
    assert picture(tab, "#mean") != mean
    moved = picture(tab, "#mean")
    tab.ask("document.querySelector('#plane').focus()")
    tab.press("Home", 36)
    assert latents(tab) == [0, 0]
    tab.press("ArrowUp", 38)
    assert picture(tab, "#mean") != moved
    tab.press("Enter", 13)
    assert "Test image" in tab.ask("document.querySelector('#pad-text').textContent")
    tab.click("#image-clear")
    tab.drag("#pad", (0.4, 0.2), (0.6, 0.2), (0.5, 0.8))
    words = "document.querySelector('#image-numbers').textContent"
    first = tab.ask(words)
    assert re.fullmatch(r"ELBO −[\d,.]+ = −rate [\d.]+ − distortion [\d,.]+ nats\.", first)
    tab.drag("#pad", (0.2, 0.5), (0.8, 0.5))
    assert tab.ask(words) != first
    tab.click("#plane-images")
    tab.click("#play")
    before = tab.ask("document.querySelector('#along').value")
    tab.rest()
    assert tab.ask("document.querySelector('#along').value") != before
    tab.click("#play")
    hash_ = tab.ask("location.hash")
    again = browser.open(page, hash_=hash_)
    assert again.ask("location.hash") == hash_
    assert latents(again) == pytest.approx(latents(tab), abs=0.011)  # of a last digit
    assert latents(again) != [0, 0]
    assert again.ask("document.querySelector('#plane-images').checked")
    assert tab.complaints == again.complaints == []


def text(tab: Tab, selector: str) -> str:
    return str(tab.ask(f"document.querySelector({selector!r}).textContent"))


def set_slider(tab: Tab, selector: str, value: float, *events: str) -> None:
    tab.ask(
        f"(() => {{ const one = document.querySelector({selector!r}); one.value = {value}; "
        f"for (const name of {list(events)}) one.dispatchEvent(new Event(name)); }})()"
    )
    tab.rest()


@needs_browser
def test_what_moves_the_point_ends_the_play(browser: Browser, page: Path) -> None:
    tab = browser.open(page, hash_="#from=-1,0&to=1,0")
    for move in (
        lambda: tab.drag("#plane", (0.5, 0.5), (0.6, 0.4)),
        lambda: tab.click("#image-after"),
        lambda: set_slider(tab, "#latents input", 0.7, "input"),
        lambda: set_slider(tab, "#along", 0.3, "input"),
        lambda: tab.click("#reset"),
        lambda: (tab.ask("location.hash = '#z=0.5,0.25'"), tab.rest()),
    ):
        tab.click("#play")
        assert text(tab, "#play") == "Stop"
        move()
        assert text(tab, "#play") == "Play"
        there = latents(tab)
        tab.rest()
        assert latents(tab) == there
    assert there == [0.5, 0.25]
    tab.click("#redraw")
    tab.click("#play")
    tab.click("#redraw")
    assert text(tab, "#play") == "Stop"  # what does not move the point does not end it
    assert tab.complaints == []


@needs_browser
def test_a_new_address_and_the_buttons_of_the_image(browser: Browser, page: Path) -> None:
    tab = browser.open(page)
    tab.drag("#pad", (0.4, 0.2), (0.6, 0.2))
    assert text(tab, "#pad-text") == "Drawn by hand."
    tab.ask("location.hash = '#image=4'")
    tab.rest()
    assert text(tab, "#pad-text").startswith(f"Test image 5 of {IMAGES}")
    tab.click("#image-clear")
    tab.click("#image-before")
    assert text(tab, "#pad-text").startswith(f"Test image {IMAGES} of {IMAGES}")
    there = latents(tab)
    tab.drag("#plane", (0.2, 0.2), (0.8, 0.8), pressed="#redraw")
    assert latents(tab) == there  # as the pointer was not pressed on the plane
    tab.drag("#pad", (0.2, 0.2), (0.8, 0.8), pressed="#redraw")
    assert text(tab, "#pad-text").startswith("Test image")


@needs_browser
def test_a_screen_reader_hears_the_point_and_keeps_its_slider(browser: Browser, page: Path) -> None:
    tab = browser.open(page)
    assert tab.ask("document.querySelector('#point-text').ariaLive") == "polite"
    tab.ask("document.querySelector('#plane').focus()")
    tab.press("Home", 36)
    assert re.fullmatch(r"z = \(0\.00, 0\.00\), nearest digit [49]", text(tab, "#point-text"))
    tab.ask("document.querySelector('#latents input').focus()")
    focused = "document.activeElement === document.querySelector('#latents input')"
    digit = "document.querySelector('#digit')"
    before = picture(tab, "#mean")
    other = f"{digit}.selectedIndex = 1 - {digit}.selectedIndex"
    tab.ask(f"{other}; {digit}.dispatchEvent(new Event('change'))")
    tab.rest()
    assert picture(tab, "#mean") != before
    assert tab.ask(focused)


@needs_browser
def test_a_sigma_that_is_dragged_is_measured_on_few_images(browser: Browser, page: Path) -> None:
    tab = browser.open(page)
    set_slider(tab, "#sigma", -0.6, "input")
    assert text(tab, "#elbo").startswith("≈ ")
    assert tab.ask("document.querySelector('#tried').hidden")
    set_slider(tab, "#sigma", -0.6, "change")
    assert text(tab, "#elbo") == text(tab, "#best-elbo") == text(tab, "[data-number=best-elbo]")
    assert not tab.ask("document.querySelector('#tried').hidden")


@needs_browser
def test_a_model_that_gives_no_numbers_has_a_page(
    browser: Browser, fixed: Path, copy_of: Any
) -> None:
    run = copy_of(fixed)
    weights = run / "checkpoints" / "model.safetensors"
    tensors, at = load_file(weights), str(TrainedModel.read(RunFolder(run)).at)
    for name in ("encoder.0", "posterior", "decoder.0", "likelihood.mean"):
        tensors[f"{name}.weight"].sign_().mul_(3e38)
    save_file(tensors, weights, {"at": at})
    path = run / "page.html"
    path.write_text(html(run), encoding="utf-8")
    tab = browser.open(path)
    colours = "document.querySelector('#mean').getContext('2d').getImageData(0, 0, 28, 28).data"
    pixels = torch.tensor(tab.ask(f"[...{colours}]")).view(-1, 4)
    assert (pixels == torch.tensor([255, 0, 255, 255])).all(1).any()
    assert text(tab, "#own-elbo") == "–"
    tab.ask("location.hash = '#z=0,0&image=3'")
    tab.rest()
    assert latents(tab) == [0, 0]
    assert tab.complaints == []


@needs_browser
def test_the_nearest_image_is_nearest_in_all_latents(
    browser: Browser, learned: Path, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(html(learned), encoding="utf-8")
    model = TrainedModel.read(RunFolder(learned)).model
    codes = model.encode(*of_page(learned)).mean
    z = codes[0] + torch.tensor([0, 0, 3.0])
    distances = (codes - z).square()
    nearest = int(distances.sum(1).argmin())
    assert nearest != int(distances[:, :2].sum(1).argmin())
    place = ",".join(f"{value:.6f}" for value in z.tolist())
    tab = browser.open(path, hash_=f"#axes=0,1&z={place}")
    tab.click("#image-near")
    assert text(tab, "#pad-text").startswith(f"Test image {nearest + 1} of")


@needs_browser
def test_the_texts_are_those_of_the_run(browser: Browser, fixed: Path, tmp_path: Path) -> None:
    """With the logit 0 and 1 are no ends of a pixel, and beta can be a large choice of sigma."""
    one = with_data(fixed, transform="logit")
    path = tmp_path / "page.html"
    path.write_text(page_of([replace(one, model={**one.model, "implied": 20.0})]), "utf-8")
    tab = browser.open(path)
    assert [text(tab, f"#outside-{what}") for what in ("mean", "draw")] == ["–", "–"]
    hidden = "[...document.querySelectorAll('[data-if=unit]')].every((one) => one.hidden)"
    assert tab.ask(hidden)
    of = "the log density of x given the label, where x has the transform logit"
    assert text(tab, "#elbo-of") == f"The ELBO is a lower bound of {of}."
    tab.click("#set-implied")
    assert text(tab, "#sigma-value") == "20"
    place = float(tab.ask("document.querySelector('#sigma').value"))
    assert 10**place == pytest.approx(20, rel=0.01)


@needs_browser
def test_an_image_that_is_drawn_at_random_is_drawn_once(
    browser: Browser, fixed: Path, tmp_path: Path
) -> None:
    """The image that is encoded is the one that the point is the code of."""
    path = tmp_path / "page.html"
    path.write_text(page_of([with_data(fixed, transform="binarize_stochastic")]), "utf-8")
    tab = browser.open(path)
    for _ in range(2):
        tab.click("#image-after")
        assert picture(tab, "#rebuilt") == picture(tab, "#mean")


@needs_browser
def test_a_number_that_is_not_shown_is_not_computed(
    browser: Browser, fixed: Path, tmp_path: Path
) -> None:
    """The mean of a discretised logistic takes seconds for all images."""
    ((one,), _) = explored([RunFolder(fixed)])
    keys: dict[str, Any] = {"likelihood": "discretized_logistic", "sigma": 0.2}
    model, packing = rough_vae(784, 0.1, latent_dim=2, **keys), Packing()
    run = replace(one, model=described(model, 1.0, packing.put), packing=packing)
    path = tmp_path / "page.html"
    path.write_text(page_of([run]), encoding="utf-8")
    tab = browser.open(path)
    assert text(tab, "[data-number=rmse]") == ""
    hidden = "[...document.querySelectorAll('[data-if=best]')].map((one) => one.hidden)"
    assert tab.ask(hidden) == [True, True]
    assert "the log mass on grey levels of x," in text(tab, "#elbo-of")
    assert tab.complaints == []


@needs_browser
@pytest.mark.parametrize("kind", ["ppca", "fa"])
@torch.no_grad()
def test_a_linear_model_in_the_browser(
    browser: Browser, exact: Any, tmp_path: Path, kind: str
) -> None:
    """The posterior is exact, so the ELBO is ln p(x), up to one draw of z for each image."""
    run = exact(kind).path
    path = tmp_path / "page.html"
    path.write_text(html(run), encoding="utf-8")
    tab = browser.open(path)
    model = TrainedModel.read(RunFolder(run)).model
    assert isinstance(model, LinearGaussian)
    x, _ = of_page(run)
    rate = torch.distributions.kl_divergence(model.encode(x), model.prior())
    assert number(tab, "#rate") == pytest.approx(float(rate.mean()), abs=0.06)
    assert number(tab, "#own-elbo") == pytest.approx(float(model.log_prob(x).mean()), abs=1)
    first = [float(value) for value in model.posterior_mean(x[0])]
    assert latents(tab) == pytest.approx(first, abs=0.011)
    assert tab.ask("document.querySelector('#guide-beta').hidden")
    assert text(tab, "#elbo-of").startswith("The ELBO is a lower bound of the log density of x,")
    before = picture(tab, "#mean")
    tab.drag("#plane", (0.5, 0.5), (0.7, 0.3))
    assert picture(tab, "#mean") != before
    assert tab.complaints == []


@needs_browser
def test_a_dot_shows_its_image_and_the_page_is_saved(browser: Browser, page: Path) -> None:
    tab = browser.open(page)
    hidden = "document.querySelector('#hover').hidden"
    assert tab.ask(hidden)
    # the point starts at the code of the first image, which is marked A too
    reach = "Number(document.querySelector('#latents input').max)"
    across, up = (value / tab.ask(reach) for value in latents(tab))
    tab.point("#plane", (1 + across) / 2, (1 - up) / 2)
    assert not tab.ask(hidden)
    assert tab.ask("document.querySelector('#hover-text').textContent").startswith("digit ")
    tab.ask(
        "HTMLAnchorElement.prototype.click = function () { window.saved = "
        "[this.download, this.href.slice(0, 5)]; }"
    )
    tab.click("#save")
    name = data_of(page.read_text("utf-8"))["runs"][0]["name"]
    assert tab.ask("window.saved") == [f"{name}.png", "blob:"]
    assert tab.complaints == []


@needs_browser
def test_several_runs_are_one_slider(
    browser: Browser, fixed: Path, learned: Path, bernoulli: Path, tmp_path: Path
) -> None:
    """With two, three and one latents, with and without sigma and labels."""
    path = tmp_path / "runs.html"
    path.write_text(html(learned, fixed, bernoulli), "utf-8")
    tab = browser.open(path)
    parts = ("#digit-part", "#axes-part", "#sigma-part", "#sweep-part", "[data-if=up]")
    seen, captions = set(), set()
    for place in (0.01, 0.5, 0.99):
        tab.drag("#run", (place, 0.5))
        count = tab.ask("document.querySelectorAll('#latents input').length")
        assert len(codes := latents(tab)) == count
        tab.click("#image-near")  # the point is the code of the same image in every run
        assert latents(tab) == codes
        caption = tab.ask("document.querySelector('#caption').textContent")
        hidden = [tab.ask(f"document.querySelector('{part}').hidden") for part in parts]
        captions.add(text(tab, "#runs-caption"))
        seen.add((caption.split(", ")[1], count, *hidden))
    assert seen == {
        ("L = 2", 2, False, True, False, False, False),
        ("L = 3", 3, False, False, False, False, False),
        ("L = 1", 1, True, True, True, True, True),
    }
    only = "and only runs with the same can be compared with it."
    density = "the log density of x given the label, where x has the transform scale"
    mass = "the log mass on binary pixels of x, where x has the transform binarize"
    bounds = "not drawn, as the ELBO of this run bounds"
    assert captions == {
        f"1 of the 3 runs is {bounds} {density}, {only}",
        f"2 of the 3 runs are {bounds} {mass}, {only}",
    }
    assert tab.complaints == []
