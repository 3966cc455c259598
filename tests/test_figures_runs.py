"""Pictures of several runs: side by side, and in the rate-distortion plane."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from pages import assert_readable, pixels, texts

from vaexp.figures.rate_distortion import _BETAS, SIDE, rate_distortion
from vaexp.figures.side_by_side import RunImages, compare_runs

SETTINGS = "3 runs"


def images(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.2, 1.2, (count, 28, 28))


def run(
    name="vae-pixel-7f3a", details="VAE, L = 2, Gaussian, σ fixed at 1, β = 1", count=10, seed=0
):
    return RunImages(name, details, *(images(count, 4 * seed + i) for i in range(4)))


@pytest.mark.parametrize("count", [2, 8, 12, 50])
def test_every_run_has_the_same_rows(count):
    runs = [run(f"run-{i}", seed=i) for i in range(count)]
    figure = compare_runs(runs, images(10), SETTINGS, same_latents=True)
    if count < 50:
        assert_readable(figure)
    assert len(figure.axes) == 4 * count + 1
    shown = [axes.images[0].get_array() for axes in figure.axes]
    first, second = shown[: 2 * count], shown[2 * count + 1 :]
    for i, one in enumerate(runs):
        parts = (one.means, one.draws, one.reconstructed_means, one.reconstructed_draws)
        found = (*first[2 * i : 2 * i + 2], *second[2 * i : 2 * i + 2])
        for images_of, board in zip(parts, found, strict=True):
            np.testing.assert_array_equal(board[1:29, 1:29], np.clip(images_of[0], 0, 1))
    found = texts(figure)
    assert found.count(r"$\mu(z)$") == found.count(r"$x \sim p(x|z)$") == 2 * count


def test_images_of_few_runs_are_large_and_their_labels_short():
    long = "VAE, L = 20, Gaussian, " + "and so on and so forth, " * 12
    figure = compare_runs([run(details=long)] * 3, images(10), SETTINGS, same_latents=False)
    assert_readable(figure)
    width = figure.axes[0].get_position().width * figure.bbox.width
    assert width / 10 > 84  # pixels of the page for an image
    beside = [text for text in texts(figure) if text.startswith("VAE")]
    assert len(beside) == 3  # only once for each run, and cut where it does not fit
    assert any(text.endswith(" …") for text in texts(figure))
    assert "each run's own" in " ".join(texts(figure))


def test_names_are_plain_text():
    name = r"cost $5_ and $\frac 6"
    figure = compare_runs([run(name, name)], images(10), name, same_latents=True)
    pixels(figure)
    assert name in texts(figure)


def test_a_long_name_is_wrapped_and_whole():
    name = "20261122-143015-vae-pixel-sigma-with-a-name-that-goes-on-and-on-7f3a"
    figure = compare_runs([run(name), run("b")], images(10), SETTINGS, same_latents=True)
    assert_readable(figure)
    assert "".join(texts(figure)).replace("\n", "").count(name) == 2


def plane(count, beta, seed=0):
    generator = np.random.default_rng(seed)
    names = [f"vae-fixed-{i:04x}" for i in range(count)]
    rate, distortion = generator.normal(5, 1, count), generator.normal(700, 5, count)
    return rate_distortion(names, rate, distortion, beta, SETTINGS), rate, distortion


@pytest.mark.parametrize("count", [2, 10, 40])
def test_names_stand_beside_their_points_and_over_nothing(count):
    figure, rate, distortion = plane(count, np.ones(count))
    assert_readable(figure)
    axes = figure.axes[0]
    points = axes.transData.transform(np.stack([rate, distortion], 1))
    renderer = figure.canvas.get_renderer()
    named = {}
    for text in axes.texts:
        if not text.get_text().startswith("vae"):
            continue
        box = text.get_window_extent(renderer)
        away = np.hypot(*np.maximum(np.maximum(box.min - points, points - box.max), 0).T)
        index = int(text.get_text()[-4:], 16)
        named[index] = away[index]
        assert away.min() > 4  # pixels to the middle of the nearest point: none is hidden
    assert max(named.values()) < 100
    unnamed = f"{count - len(named)} of {count} points have no name"
    assert (unnamed in " ".join(texts(figure))) == (len(named) < count)
    assert len(named) >= min(count, 10)


def test_colours_follow_the_order_of_beta():
    beta = np.array([4.0, 0.1, 1.0, 0.25, 10.0])
    figure, *_ = plane(5, beta)
    colours = figure.axes[0].collections[0].get_facecolors()
    places = [int(np.argmin(np.abs(_BETAS(np.arange(256)) - colour).sum(1))) for colour in colours]
    assert np.argsort(places).tolist() == np.argsort(beta).tolist()
    assert (min(places), max(places)) == (0, 255)
    bar = figure.axes[1]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0.1", "0.25", "1", "4", "10"]
    assert_readable(figure)
    assert "The colour of a point is the β of its training objective." in texts(figure)


def test_beta_of_zero_has_a_colour_and_one_beta_has_no_scale():
    figure, *_ = plane(3, np.array([0.0, 1.0, 4.0]))
    assert_readable(figure)
    assert figure.axes[1].get_xlabel() == "β of the training objective"
    figure, *_ = plane(3, np.ones(3))
    assert len(figure.axes) == 1
    assert len({to_hex(c) for c in figure.axes[0].collections[0].get_facecolors()}) == 1


def test_one_place_for_all_runs_and_very_long_names():
    names = ["a" * 120, "b", "c"]
    figure = rate_distortion(names, np.ones(3), np.ones(3), np.ones(3), SETTINGS)
    assert_readable(figure)
    box = figure.axes[0].get_position()
    assert box.width * figure.bbox.width == pytest.approx(SIDE)
    assert "1 of 3 points have no name" in " ".join(texts(figure))
