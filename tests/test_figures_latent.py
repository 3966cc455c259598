"""The latent plane, and the posteriors over it."""

import numpy as np
import pytest
from matplotlib.patches import Ellipse
from pages import assert_readable, texts

from vaexp.errors import RunError
from vaexp.figures.charts import abreast
from vaexp.figures.latent import latent_plane, plane_board
from vaexp.figures.posterior import _aggregate, _Codes, _spread, posterior

SETTINGS = "VAE, L = 2, gaussian, sigma fixed at 1, beta = 1, given the label"
AXES = ("$z_1$", "$z_2$")
QUANTILES = np.array([-1.73, -1.15, -0.81, -0.55, -0.32, -0.1, 0.1, 0.32, 0.55, 0.81, 1.15, 1.73])


def images(*shape):
    return np.random.default_rng(0).uniform(-0.2, 1.2, (*shape, 28, 28)).astype(np.float32)


def codes(count=500, spread=1.0, dimensions=2, sigma=0.3):
    generator = np.random.default_rng(3)
    label = generator.integers(0, 10, count)
    mean = spread * generator.normal(size=(count, dimensions))
    scale = sigma * generator.uniform(0.5, 1.5, (count, dimensions))
    return mean, scale[..., None] ** 2 * np.eye(dimensions), label


def collapsed(count=500, dimensions=2):
    label = np.arange(count) % 10
    covariance = np.broadcast_to(np.eye(dimensions), (count, dimensions, dimensions))
    return np.zeros((count, dimensions)), covariance, label


def ellipses(axes):
    """The outlines of q, without the circles of the prior."""
    return [patch for patch in axes.patches if type(patch) is Ellipse]


EVERY = {
    "plane": lambda: latent_plane(
        [images(3, 4)], [""], np.linspace(-3, 3, 4), np.linspace(-2, 2, 3), AXES, SETTINGS
    ),
    "planes": lambda: latent_plane(
        [images(3, 3)] * 10, list("0123456789"), np.arange(3.0), np.arange(3.0), AXES, SETTINGS
    ),
    "planes, quantiles": lambda: latent_plane(
        [images(12, 12)] * 6, list("012345"), QUANTILES, QUANTILES, AXES, SETTINGS
    ),
    "strip": lambda: latent_plane(
        [images(1, 5)] * 2, ["4", "9"], np.arange(5.0), np.zeros(1), ("$z$", ""), SETTINGS
    ),
    "posterior": lambda: posterior(*codes(), AXES, SETTINGS),
    "posterior, far": lambda: posterior(*codes(spread=20), AXES, SETTINGS),
    "posterior, collapsed": lambda: posterior(*collapsed(), AXES, SETTINGS),
    "posterior, one latent": lambda: posterior(*codes(dimensions=1), AXES, SETTINGS),
    "posterior, one image": lambda: posterior(*codes(1), AXES, SETTINGS),
    "posterior, no labels": lambda: posterior(*codes()[:2], None, AXES, SETTINGS),
    "posteriors": lambda: posterior(*codes(), AXES, SETTINGS, given_label=True),
    "posteriors, collapsed": lambda: posterior(*collapsed(), AXES, SETTINGS, given_label=True),
    "posteriors, one latent": lambda: posterior(
        *collapsed(dimensions=1), AXES, SETTINGS, given_label=True
    ),
    "posteriors, one digit": lambda: posterior(*codes(1), AXES, SETTINGS, given_label=True),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_figure_has_title_settings_and_no_text_off_the_page_or_over_other_text(name):
    figure = EVERY[name]()
    assert figure.texts[0].get_fontweight() == "bold"
    assert SETTINGS in " ".join(texts(figure))
    assert_readable(figure, on_charts=False)  # codes of two digits may meet, and their names too


@pytest.mark.parametrize("dimensions", [1, 2])
def test_images_without_labels_have_no_numerals_and_no_legend_of_them(dimensions):
    mean, covariance, label = codes(dimensions=dimensions)
    named = " ".join(texts(posterior(mean, covariance, label, AXES, "VAE")))
    figure = posterior(mean, covariance, None, AXES, "VAE")
    assert "label" in named
    assert "label" not in " ".join(texts(figure))


@pytest.mark.parametrize("grid", [QUANTILES, np.array([5.0, 7.0]), np.linspace(-9, 9, 40)])
def test_ticks_of_the_plane_say_the_z_of_the_tiles_they_stand_at(grid):
    figure = latent_plane([images(len(grid), len(grid))], [""], grid, grid, AXES, SETTINGS)
    axes = figure.axes[0]
    sides = (
        (axes.get_xticklabels(), 0, grid),
        (axes.get_yticklabels(), 1, grid[::-1]),  # rows are counted from the top
    )
    for labels, side, values in sides:
        assert len(labels) >= 2
        for label in labels:
            tile = (label.get_position()[side] + 0.5) / 28 - 0.5
            assert tile == pytest.approx(round(tile))
            z = float(label.get_text().replace("−", "-"))
            assert z == pytest.approx(values[round(tile)], abs=0.0051)


def test_latent_plane_increases_upwards_and_to_the_right():
    plane = np.zeros((3, 2, 28, 28))
    plane += np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])[:, :, None, None]
    board = plane_board(plane)
    assert board.shape == (84, 56)
    assert board[83, 0] == 0.1  # smallest z_2 at the bottom, smallest z_1 on the left
    assert board[0, 55] == 0.6

    vertical, horizontal = np.array([-1.0, 0.0, 1.0]), np.array([5.0, 7.0])
    figure = latent_plane([plane], [""], horizontal, vertical, AXES, SETTINGS)
    axes = figure.axes[0]
    places = {text.get_text(): text.get_position()[1] for text in axes.get_yticklabels()}
    # The value -1 is at the centre of the bottom tile, rows 56 to 83 of the picture; 1 of the top.
    assert places == pytest.approx({"−1": 69.5, "0": 41.5, "1": 13.5})
    places = {text.get_text(): text.get_position()[0] for text in axes.get_xticklabels()}
    assert places == pytest.approx({"5": 13.5, "7": 41.5})
    assert (axes.get_xlabel(), axes.get_ylabel()) == AXES


def test_rows_of_panels_are_as_full_as_they_can_be():
    assert [abreast(count, 3) for count in (1, 2, 3, 4, 5, 6, 7)] == [
        (1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 2), (3, 3),
    ]  # fmt: skip
    for most in (3, 5):
        for count in range(1, 30):
            across, down = abreast(count, most)
            assert across <= most
            assert across * (down - 1) < count <= across * down


@pytest.mark.parametrize("given_label", [False, True])
def test_ellipses_have_the_standard_deviations_of_q(given_label):
    mean, covariance, label = codes(200)
    figure = posterior(mean, covariance, label, AXES, SETTINGS, given_label=given_label)
    panels = figure.axes
    assert len(panels) == (10 if given_label else 1)
    found = [ellipse for axes in panels for ellipse in ellipses(axes)]
    assert len({tuple(ellipse.get_center()) for ellipse in found}) == (
        10 * 12 if given_label else 10 * 3
    )
    for ellipse in found:
        index = int(np.argmin(np.abs(mean - ellipse.get_center()).sum(1)))
        assert ellipse.get_center() == pytest.approx(mean[index])
        angle = np.radians(ellipse.get_angle())
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        half = np.diag([ellipse.get_width() / 2, ellipse.get_height() / 2])
        np.testing.assert_allclose(turn @ half**2 @ turn.T, covariance[index], atol=1e-12)


def test_an_ellipse_of_correlated_latents_is_turned():
    covariance = np.array([[[1.0, 0.9], [0.9, 1.0]]])
    figure = posterior(np.zeros((1, 2)), covariance, np.zeros(1, int), AXES, SETTINGS)
    ellipse = ellipses(figure.axes[0])[0]
    sizes = sorted([ellipse.get_width() / 2, ellipse.get_height() / 2])
    assert sizes == pytest.approx([np.sqrt(0.1), np.sqrt(1.9)])
    long_side = ellipse.get_angle() + (90 if ellipse.get_height() > ellipse.get_width() else 0)
    assert long_side % 180 == pytest.approx(45)


def test_each_digit_has_a_panel_with_its_own_images_and_common_axes():
    mean, covariance, label = codes(300)
    figure = posterior(mean, covariance, label, AXES, SETTINGS, given_label=True)
    assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes}) == 1
    for digit, axes in enumerate(figure.axes):
        points = np.asarray(axes.collections[0].get_offsets())
        np.testing.assert_array_equal(points, mean[label == digit])
    assert [f"digit {digit}" in texts(figure) for digit in range(10)] == [True] * 10


def test_a_collapsed_posterior_is_the_circle_of_the_prior_and_said():
    figure = posterior(*collapsed(), AXES, SETTINGS, given_label=True)
    for axes in figure.axes:
        for ellipse in ellipses(axes):
            assert ellipse.get_center() == (0, 0)
            assert (ellipse.get_width(), ellipse.get_height()) == (2, 2)
    said = " ".join(texts(figure)).replace("\n", " ")
    assert "The median standard deviation of q(z|x) is 1 and 1, across and up" in said


def test_the_density_of_one_latent_is_that_of_the_mixture_of_posteriors():
    mean, covariance, label = codes(50, dimensions=1)
    grid = np.linspace(-8, 8, 4001)
    density = _aggregate(_Codes(mean, covariance, label, labelled=True), grid)
    step = grid[1] - grid[0]
    assert density.sum() * step == pytest.approx(1, abs=1e-6)
    assert (density * grid).sum() * step == pytest.approx(mean.mean())
    second = (density * grid**2).sum() * step
    assert second == pytest.approx((mean**2).mean() + covariance.mean())
    prior = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(_aggregate(_Codes(*collapsed(20, 1), labelled=True), grid), prior)


def test_prior_circles_say_the_share_of_mass_inside():
    assert {"39%", "86%", "99%"} <= set(texts(EVERY["posterior"]()))
    radius = np.hypot(*np.random.default_rng(1).normal(size=(2, 200_000)))
    shares = [np.mean(radius < r) for r in (1, 2, 3)]
    assert shares == pytest.approx([0.39, 0.86, 0.99], abs=0.01)


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 40.0])
def test_the_posterior_view_holds_three_deviations_and_the_codes(spread):
    mean, covariance, label = codes(2000, spread)
    axes = posterior(mean, covariance, label, AXES, SETTINGS).axes[0]
    limits = np.array([axes.get_xlim(), axes.get_ylim()])
    assert np.ptp(limits[0]) == pytest.approx(np.ptp(limits[1]))
    assert (limits[:, 0] <= np.minimum(-3, mean.min(axis=0))).all()
    assert (limits[:, 1] >= np.maximum(3, mean.max(axis=0))).all()
    box = axes.get_position()
    width, height = axes.figure.bbox.size
    assert box.width * width == pytest.approx(box.height * height)
    assert {str(digit) for digit in range(10)} <= set(texts(axes.figure))


def test_codes_to_one_side_of_the_prior_leave_no_empty_half():
    mean, covariance, label = codes(2000)
    axes = posterior(mean + np.array([20, 5]), covariance, label, AXES, SETTINGS).axes[0]
    low, high = axes.get_xlim()
    assert -4 < low < -3
    assert 20 < high < 27
    assert "out of view" not in " ".join(texts(axes.figure))
    alone = posterior(mean[:, :1] + 20, covariance[:, :1, :1], label, AXES, SETTINGS).axes[0]
    assert alone.get_xlim()[0] > -4


def test_stray_and_broken_codes_are_counted_not_drawn():
    mean, covariance, label = codes(200)
    mean[0], mean[1] = (1e4, 0), (np.nan, 0)
    figure = posterior(mean, covariance, label, AXES, SETTINGS)
    assert "2 of 200 codes lie out of view." in texts(figure)
    assert figure.axes[0].get_xlim()[1] < 6
    with pytest.raises(RunError, match="finite"):
        posterior(np.full((3, 2), np.nan), np.zeros((3, 2, 2)), np.arange(3), AXES, SETTINGS)


def test_numerals_stay_at_their_medians_unless_they_collide():
    apart = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    np.testing.assert_array_equal(_spread(apart, 1.0), apart)
    for crowd in (np.zeros((10, 2)), np.random.default_rng(0).normal(0, 0.1, (10, 2))):
        moved = _spread(crowd, 1.0)
        distance = np.hypot(*(moved[:, None] - moved[None]).T)
        assert distance[~np.eye(10, dtype=bool)].min() > 0.97
        assert np.abs(moved).max() < 3
