"""Figures of the models with an exact likelihood: mixtures and probabilistic PCA."""

import copy

import numpy as np
import pytest
from pages import assert_readable, pixels, texts

from vaexp.experiment.draw.gmm import mixture_history
from vaexp.figures.charts import log_axis, number, percent, spread
from vaexp.figures.em import _gain, em_staircase
from vaexp.figures.images import samples
from vaexp.figures.linear import factors, noise, principal_axes, scaled_spectrum, spectrum
from vaexp.figures.mixture import components, confusion
from vaexp.figures.singularities import singularities
from vaexp.figures.style import save

SETTINGS = "Gaussian mixture, K = 10, diag, covariance floor 0.001, 50,000 training images"


def history(iterations=30, components=10, restarts=1, validation=True, scale=1.0, offset=0.0):
    """A run as EM writes it: in each iteration 80% of the rise is the M-step's."""
    generator = np.random.default_rng(components)
    share = generator.dirichlet(np.full(components, 2.0))
    records = []
    for restart in range(restarts):
        reached = 1000 + 10 * np.sin(restart + 1)
        curve = offset + scale * (reached - 500 * 0.6 ** np.arange(iterations + 1))
        for t, log_prob in enumerate(curve.tolist()):
            train = {"log_prob": log_prob, "elbo_after_e": log_prob}
            if t:
                train["elbo_after_m"] = curve[t - 1] + 0.8 * (log_prob - curve[t - 1])
            record = {
                "iteration": t,
                "restart": restart,
                "train": train,
                "smallest_eigenvalue": (0.001 + 0.1 * share * 0.7**t).tolist(),
                "effective_count": (50_000 * share).tolist(),
            }
            validated = {"validation": {"log_prob": log_prob - 20 * scale}} if validation else {}
            records.append(record | validated)
    return records


def fallen():
    """ln p(x) falls by 60 and 25 nats, in iterations 7 and 12 of 30."""
    records = history()
    for t, fall in ((7, 60), (12, 25)):
        level = records[t - 1]["train"]["log_prob"] - fall
        records[t]["train"] |= {"log_prob": level, "elbo_after_e": level}
    return records


def flat(iterations=5):
    records = history(iterations)
    for record in records:
        record["train"] = dict.fromkeys(record["train"], 700.0)
    return records


def mixture(components, shape=(28, 28)):
    generator = np.random.default_rng(components)
    mean = generator.random((components, *shape))
    return mean, 0.1 + 0.4 * mean, generator.dirichlet(np.full(components, 2.0))


def alike_in(components, what):
    """A mixture whose sigma is the same in all pixels of a component, or in all components."""
    mean, stddev, weight = mixture(components)
    if what == "pixels":
        return mean, np.broadcast_to(stddev[:, :1, :1], mean.shape), weight
    return mean, np.broadcast_to(stddev[:1], mean.shape), weight


def counts(components):
    generator = np.random.default_rng(components)
    majority = np.eye(10)[generator.integers(0, 10, components)]
    shares = 0.7 * majority + 0.3 * generator.dirichlet(np.ones(10), components)
    return 10_000 * generator.dirichlet(np.full(components, 2.0))[:, None] * shares


def axes_of(count):
    generator = np.random.default_rng(1)
    return (
        generator.random((28, 28)),
        generator.normal(size=(count, 28, 28)),
        np.linspace(3, 0.3, count),
    )


def small_axes(height, width):
    mean, axes, lengths = axes_of(6)
    rows, columns = np.arange(height)[:, None] % 28, np.arange(width) % 28
    return mean[rows, columns], axes[:, rows, columns], lengths


EIGENVALUES = np.append(5 / np.arange(1, 701) ** 1.5, np.zeros(84))

SHAPE = (28, 28)
NOISE = np.geomspace(0.1, 0.4, 784).reshape(SHAPE), np.linspace(0, 0.9, 784).reshape(SHAPE)

EVERY = {
    "staircase": lambda: em_staircase(history(), SETTINGS),
    "staircase, restarts": lambda: em_staircase(history(restarts=4), SETTINGS),
    "staircase, one": lambda: em_staircase(history(1, validation=False), SETTINGS),
    "staircase, 2000": lambda: em_staircase(history(2000), SETTINGS),
    "staircase, low": lambda: em_staircase(history(30, 10, 1, True, 1e3, -2e6), SETTINGS),
    "staircase, high": lambda: em_staircase(history(30, 10, 1, True, 1e3, 1e6), SETTINGS),
    "staircase, small": lambda: em_staircase(history(9, scale=1e-9), SETTINGS),
    "staircase, falls": lambda: em_staircase(fallen(), SETTINGS),
    "staircase, flat": lambda: em_staircase(flat(), SETTINGS),
    "singularities": lambda: singularities(history(), 1e-3, SETTINGS, 785),
    "singularities, 1": lambda: singularities(history(20, 1), 1e-3, SETTINGS, 785),
    "singularities, 200": lambda: singularities(history(20, 200), 0.0, SETTINGS),
    "components, 1": lambda: components(*mixture(1), SETTINGS),
    "components, 10": lambda: components(*mixture(10), SETTINGS),
    "components, 200": lambda: components(*mixture(200), SETTINGS),
    "components, narrow": lambda: components(*mixture(10, (12, 5)), SETTINGS),
    "components, large": lambda: components(*mixture(10, (96, 128)), SETTINGS),
    "components, means": lambda: components(mixture(50)[0], None, mixture(50)[2], SETTINGS),
    "components, alike": lambda: components(*alike_in(10, "pixels"), SETTINGS),
    "components, one of one": lambda: components(*alike_in(1, "components"), SETTINGS),
    "components, tied": lambda: components(*alike_in(10, "components"), SETTINGS),
    "confusion, 1": lambda: confusion(counts(1), range(10), SETTINGS),
    "confusion, 20": lambda: confusion(counts(20), range(10), SETTINGS),
    "confusion, 50": lambda: confusion(counts(50), range(10), SETTINGS),
    "confusion, 200": lambda: confusion(counts(200), range(10), SETTINGS),
    "confusion, none": lambda: confusion(np.zeros((3, 10)), range(10), SETTINGS),
    "confusion, two digits": lambda: confusion(counts(9)[:, :2], [4, 9], SETTINGS),
    "axes, 1": lambda: principal_axes(*axes_of(1), SETTINGS),
    "axes, 50": lambda: principal_axes(*axes_of(50), SETTINGS),
    "axes, small": lambda: principal_axes(*small_axes(12, 10), SETTINGS),
    "axes, narrow": lambda: principal_axes(*small_axes(28, 5), SETTINGS),
    "axes, large": lambda: principal_axes(*small_axes(96, 128), SETTINGS),
    "factors, 2": lambda: factors(*axes_of(2), SETTINGS),
    "noise": lambda: noise(*NOISE, 0.01, SETTINGS),
    "noise, narrow": lambda: noise(*(one[:12, :5] for one in NOISE), 0.01, SETTINGS),
    "noise, alike": lambda: noise(np.full(SHAPE, 0.1), NOISE[1], 0.01, SETTINGS),
    "scaled spectrum": lambda: scaled_spectrum(100 * EIGENVALUES, 10, SETTINGS),
    "spectrum": lambda: spectrum(EIGENVALUES, 10, EIGENVALUES[10:].mean(), SETTINGS),
    "spectrum, small": lambda: spectrum(np.array([3.0, 2, 1]), 1, 1.5, SETTINGS),
    "spectrum, all": lambda: spectrum(EIGENVALUES, 784, 0.0, SETTINGS),
}


def titled(figure, start):
    """The axes whose title starts so."""
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(start))


def note(figure):
    return " ".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize("name", EVERY)
def test_a_figure_has_title_settings_and_no_text_off_the_page_or_over_other_text(name):
    figure = EVERY[name]()
    assert figure.texts[0].get_fontweight() == "bold"
    assert SETTINGS in note(figure)
    assert_readable(figure)
    assert pixels(figure).shape[1] <= 1500


@pytest.mark.parametrize(
    "name",
    ["staircase", "singularities", "components, 10", "confusion, 20", "axes, 1",
     "spectrum"],
)  # fmt: skip
def test_saving_gives_the_same_bytes_for_the_same_input(name, tmp_path):
    save(EVERY[name](), tmp_path / "a.png")
    save(EVERY[name](), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_figures_do_not_change_their_input():
    given = history(3), *mixture(3), counts(3), *axes_of(3)
    kept = copy.deepcopy(given)
    em_staircase(given[0], SETTINGS)
    singularities(given[0], 0.001, SETTINGS)
    components(*given[1:4], SETTINGS)
    confusion(given[4], range(10), SETTINGS)
    principal_axes(*given[5:], SETTINGS)
    assert given[0] == kept[0]
    for array, before in zip(given[1:], kept[1:], strict=True):
        np.testing.assert_array_equal(array, before)


def test_the_stairs_rise_from_elbo_to_elbo_and_touch_ln_p_after_each_e_step():
    records = history(3)
    log_prob = [record["train"]["log_prob"] for record in records]
    after_m = [record["train"].get("elbo_after_m") for record in records]
    stairs = titled(em_staircase(records, SETTINGS), "steps of iterations 1 to 3")
    risers = {}
    for line in stairs.lines:
        if line.get_linewidth() == 4:
            (x, _), (low, high) = line.get_data()
            risers.setdefault(line.get_color(), []).append((x, low, high))
    m_steps, e_steps = risers.values()
    assert m_steps == [(t - 0.5, log_prob[t - 1], after_m[t]) for t in (1, 2, 3)]
    assert e_steps == [(t, after_m[t], log_prob[t]) for t in (1, 2, 3)]
    touching = next(line for line in stairs.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(touching.get_xdata(), [0, 1, 2, 3])
    np.testing.assert_array_equal(touching.get_ydata(), log_prob)


def test_what_each_step_gained_is_written_under_it():
    # ln p(x) is 500, 700, 820: it rises by 200, of which the M-step has 160, then 120.
    records = history(2)
    for record, log_prob in zip(records, (500.0, 700.0, 820.0), strict=True):
        record["train"] |= {"log_prob": log_prob, "elbo_after_e": log_prob}
    records[1]["train"]["elbo_after_m"] = 660.0
    records[2]["train"]["elbo_after_m"] = 830.0  # higher than ln p(x), as no ELBO can be
    found = texts(em_staircase(records, SETTINGS))
    start = found.index("M-step")
    assert found[start : start + 6] == ["M-step", "+160", "+130", "E-step", "+40", "−10"]


def test_the_stairs_begin_later_where_the_first_step_hides_all_others():
    records = history(30)
    records[0]["train"] |= {"log_prob": -1e6, "elbo_after_e": -1e6}
    figure = em_staircase(records, SETTINGS)
    first, later = titled(figure, "step of iteration 1"), titled(figure, "steps of iterations 2 to")
    dots = [line.get_xydata() for line in first.lines if line.get_marker() == "o"]
    assert dots[0].tolist() == [[0, -1e6], [1, records[1]["train"]["log_prob"]]]
    assert first.get_position().x1 < later.get_position().x0
    assert "The first step has an axis of its own" in note(figure)
    low, high = titled(figure, "ln p(x)").get_ylim()
    assert 400 < low < 1000 < high
    found = "Triangles mark what is out of view: 1 value, the lowest −1,000,000 at iteration 0."
    assert found in texts(figure)


def test_the_kept_restart_has_the_highest_final_training_likelihood():
    records = history(20, restarts=4)
    final = {record["restart"]: record["train"]["log_prob"] for record in records}
    kept = max(final, key=final.get)
    figure = em_staircase(records, SETTINGS)
    assert f"Thick lines and steps are those of restart {kept} of 0 to 3, whose" in note(figure)
    run = titled(figure, "ln p(x)")
    curves = [line for line in run.lines if len(line.get_xdata())]
    thick = [line for line in curves if line.get_linewidth() > 1]
    assert len(curves) == 8
    assert [line.get_ydata()[-1] for line in thick] == [final[kept] - 20, final[kept]]
    assert curves[-2:] == thick  # over the others
    assert f"This is restart {kept} of 0 to 3" in note(singularities(records, 0.001, SETTINGS))


def test_one_iteration_is_one_step_without_a_run_of_two_dots():
    figure = em_staircase(history(1), SETTINGS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["step of iteration 1"]
    assert "ln p(x) of the validation images went from" in note(figure)
    assert_readable(figure)


def test_without_an_iteration_there_are_no_figures_of_how_em_went():
    drawn = dict(mixture_history(history(0, restarts=3), 1e-3, 785, SETTINGS))
    assert drawn == {
        "em": "EM made no iteration, so there is no step to draw",
        "singularities": "EM made no iteration, so no component has moved",
    }


def test_steps_that_are_rounding_are_not_drawn():
    drawn = dict(mixture_history(history(9, scale=1e-9, offset=1000.0), 1e-3, 785, SETTINGS))
    assert drawn["em"] == (
        "ln p(x) is the same to seven digits in every iteration, so there is no step to draw"
    )
    assert not isinstance(dict(mixture_history(history(9), 1e-3, 785, SETTINGS))["em"], str)


def test_what_does_not_change_has_no_panel():
    records = history(9, 10)
    for t, record in enumerate(records):
        record["smallest_eigenvalue"] = [1e-3 * (1 + 1e-4 * ((t + k) % 3)) for k in range(10)]
    figure = singularities(records, 1e-3, SETTINGS, 785)
    assert [axes.get_title(loc="left")[:9] for axes in figure.axes] == ["effective"]
    said = (
        "the smallest eigenvalue of every covariance lies on the floor, 0.001, in every iteration"
    )
    assert said in note(figure)
    assert_readable(figure)
    for record in records:
        record["effective_count"] = [700.0] * 10
    reason = singularities(records, 1e-3, SETTINGS, 785)
    assert reason == f"{said}; every component has 700 images in every iteration"
    alone = history(9, 1)
    for record in alone:
        record["effective_count"] = [7000.0]
    assert [axes.get_title(loc="left")[:8] for axes in singularities(alone, 0, "").axes] == [
        "smallest"
    ]


def test_noise_that_is_the_same_everywhere_has_no_map():
    figure = EVERY["noise, alike"]()
    assert len(figure.axes) == 2  # one map and its colour bar
    assert "The σ of the noise is 0.1 at every pixel." in note(figure)
    assert "same noise" in noise(np.full(SHAPE, 0.1), np.zeros(SHAPE), 0.01, SETTINGS)


def test_validation_is_named_only_where_there_is_one():
    assert "validation" in texts(em_staircase(history(5), SETTINGS))
    alone = em_staircase(history(5, validation=False), SETTINGS)
    assert not any("validation" in text for text in texts(alone))


def test_falls_of_the_likelihood_are_counted_and_rounding_is_not():
    found = note(em_staircase(fallen(), SETTINGS))
    assert (
        "ln p(x) fell in 2 of 30 iterations (triangles), by at most 60 nats, in iteration 7."
        in (found)
    )
    records = history(3)
    records[3]["train"]["log_prob"] = records[2]["train"]["log_prob"] - 1e-10
    assert "ln p(x) never fell." in note(em_staircase(records, SETTINGS))


def test_the_increase_per_iteration_is_drawn_on_a_log_axis():
    figure = em_staircase(fallen(), SETTINGS)
    axes = titled(figure, "increase")
    assert axes.get_yscale() == "log"
    rises, falls = axes.lines
    assert rises.get_ydata()[0] == pytest.approx(200)
    assert np.flatnonzero(np.isnan(rises.get_ydata())).tolist() == [6, 11]
    assert falls.get_xdata().tolist() == [7, 12]


def test_how_far_elbo_and_likelihood_are_apart_after_e_steps_is_said():
    records = history(4)
    records[2]["train"]["elbo_after_e"] -= 3e-6
    assert "differ by 3e−06 nats at most" in note(em_staircase(records, SETTINGS))


def test_values_that_are_not_finite_are_said():
    records = history(8)
    records[3]["train"]["log_prob"] = float("nan")
    figure = em_staircase(records, SETTINGS)
    assert "Of the values 1 are not finite." in note(figure)
    pixels(figure)


def test_singularities_count_components_at_the_floor_and_name_the_lowest():
    records = history(2, 10)
    records[-1]["smallest_eigenvalue"] = [0.5] * 7 + [0.0015, 0.002, 0.0021]
    records[-1]["effective_count"] = [4000.0, 3.25, 800, 780, *[7000.0] * 6]
    figure = singularities(records, 0.001, SETTINGS, 785)
    found = texts(figure)
    assert "At the end 2 of 10 lie within a factor 2 of the floor, 0.001." in found
    wanted = "The smallest effective count at the end is 3.25 (k = 1); 2 of 10 end with fewer than"
    assert wanted + " 785 images." in found
    names = {text for text in found if text.startswith("k = ")}
    assert names == {"k = 7", "k = 8", "k = 9", "k = 1", "k = 3", "k = 2"}
    for start, level in (("smallest", 0.001), ("effective", 785)):
        axes = titled(figure, start)
        assert axes.get_yscale() == "log"
        assert [level, level] in [list(line.get_ydata()) for line in axes.lines]


def test_components_at_the_floor_are_named_by_the_fewest_images():
    records = history(2, 50)
    records[-1]["smallest_eigenvalue"] = [0.001 * (1 + 1e-12 * k) for k in range(50)]
    records[-1]["effective_count"] = [float(100 - k) for k in range(50)]
    names = {t for t in texts(singularities(records, 0.001, SETTINGS)) if "k = 4" in t[:6]}
    assert names == {"k = 49", "k = 48", "k = 47"}


def test_a_covariance_that_all_share_is_one_line():
    records = history(4, 10)
    for record in records:
        record["smallest_eigenvalue"] = [0.02 + 0.01 / (1 + record["iteration"])] * 10
    records[-1]["smallest_eigenvalue"] = [0.02] * 10
    figure = singularities(records, 0.0, SETTINGS)
    assert len(titled(figure, "smallest eigenvalue, the same for all k").lines) == 1
    assert "all k" in texts(figure)
    assert "There is no floor; the smallest eigenvalue ends at 0.02." in texts(figure)


def test_a_component_that_died_does_not_stretch_the_axis():
    records = history(3, 5)
    records[-1]["effective_count"][2] = 1e-40
    figure = singularities(records, 0.0, SETTINGS)
    assert titled(figure, "effective").get_ylim()[0] > 0.01
    assert "Counts below 0.1 are drawn as 0.1." in texts(figure)


def test_components_are_sorted_by_weight():
    mean = np.broadcast_to(np.array([0.2, 0.4, 0.6])[:, None, None], (3, 28, 28))
    stddev = mean / 2
    stddev[:, 0, 0] = 0.01
    weight = np.array([0.3, 0.004, 0.696])
    figure = components(mean, stddev, weight, SETTINGS)
    found = texts(figure)
    start = found.index("k")
    assert found[start : start + 8] == ["k", "2", "0", "1", "weight", "69.6%", "30.0%", "0.40%"]
    means, deviations, _ = figure.axes
    for axes, wanted in ((means, [0.6, 0.2, 0.4]), (deviations, [0.3, 0.1, 0.2])):
        board = axes.images[0].get_array()[14].filled(np.nan)
        inside = board[np.isfinite(board) & (board > 0)]
        np.testing.assert_array_equal(inside, np.repeat(wanted, 28))
    assert deviations.images[0].get_clim() == (0.0, 0.3)
    assert "standard deviation, units of x" in found


def test_a_sigma_of_all_pixels_of_a_component_is_a_number():
    figure = components(*alike_in(3, "pixels"), SETTINGS)
    assert len(figure.axes) == 1  # the means
    _, stddev, weight = alike_in(3, "pixels")
    found = texts(figure)
    start = found.index("σ") + 1
    wanted = [f"{stddev[k, 0, 0]:.3f}" for k in np.argsort(-weight)]
    assert found[start : start + 3] == wanted


def test_a_sigma_that_all_components_share_is_drawn_once():
    _means, deviation, _bar = components(*alike_in(3, "components"), SETTINGS).axes
    board = deviation.images[0].get_array().filled(np.nan)
    np.testing.assert_array_equal(board[1:-1, 1:-1], alike_in(3, "components")[1][0])


def test_what_a_step_gained_takes_seven_characters():
    values = [59.3, 0.0847, 0.00955, 0.00462, 1e-4, 123_456.0, 2345.6, -0.0123]
    written = [_gain(value) for value in values]
    assert written[:4] == ["+59.3", "+0.0847", "+0.0095", "+0.0046"]
    assert max(map(len, written)) <= 7


def test_the_heaviest_components_are_shown_and_their_weight_is_said():
    mean, stddev, _ = mixture(5)
    weight = np.array([0.1, 0.4, 0.05, 0.3, 0.15])
    figure = components(mean, stddev, weight, SETTINGS, limit=2)
    assert "The 2 heaviest of 5 are shown, which have 70.0% of the weight." in texts(figure)
    assert "The 100 heaviest of 200 are shown" in note(EVERY["components, 200"]())
    assert "heaviest" not in note(components(mean, stddev, weight, SETTINGS, limit=5))


def test_percents_keep_digits_that_matter():
    shares = [1, 0.99951, 0.1234, 0.05, 0.00996, 0.0099, 0.0001, 0.00001, 0]
    wanted = ["100%", "100%", "12.3%", "5.0%", "1.0%", "0.99%", "0.01%", "<0.01%", "0%"]
    assert [percent(share) for share in shares] == wanted


def test_confusion_is_sorted_by_majority_then_size_with_empty_ones_last():
    matrix = np.zeros((5, 3))
    matrix[0] = [0, 1, 9]  # mostly 2
    matrix[1] = [1e-9, 0, 0]  # empty
    matrix[2] = [30, 0, 10]  # mostly 0
    matrix[3] = [45, 5, 0]  # mostly 0, larger
    matrix[4] = [0, 20, 0]  # mostly 1
    figure = confusion(matrix, [0, 1, 2], SETTINGS)
    heat, _, bars = figure.axes
    names = [text for text in texts(figure) if text.startswith("k = ")]
    assert names == ["k = 3", "k = 2", "k = 4", "k = 0", "k = 1"]
    shares = heat.images[0].get_array().filled(np.nan)
    wanted = [[0.9, 0.1, 0], [0.75, 0, 0.25], [0, 1, 0], [0, 0.1, 0.9], [np.nan] * 3]
    np.testing.assert_allclose(shares, wanted)
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [50, 40, 20, 10, 1e-9])
    # 45 + 30 + 20 + 9 of 120; digit 0 alone has 75.
    assert "Purity is 86.7%: so many of the 120 test images" in note(figure)
    assert "A single component would have 62.5%." in note(figure)
    assert "1 of 5 have less than half an image: no shares are shown." in texts(figure)


@pytest.mark.parametrize(("components", "numbered"), [(20, True), (21, False)])
def test_cells_have_numbers_while_there_is_room(components, numbered):
    heat = confusion(counts(components), range(10), SETTINGS).axes[0]
    assert bool(heat.texts) == numbered


def test_many_components_are_named_by_their_majority():
    found = texts(EVERY["confusion, 200"]())
    assert {f"mostly {digit}" for digit in range(10)} <= set(found)
    assert not any(text.startswith("k = ") for text in found)


def test_axes_are_moved_along_by_standard_deviations():
    mean = np.full((28, 28), 0.5)
    axis = np.zeros((1, 28, 28))
    axis[0, 3, 4], axis[0, 5, 6] = 3.0, -4.0  # of length 5
    figure = principal_axes(mean, axis, np.array([0.25]), SETTINGS)
    board = figure.axes[-1].images[0].get_array()
    along = [board[4, 1 + 29 * step + 4] for step in range(4)]
    against = [board[6, 1 + 29 * step + 6] for step in range(4)]
    np.testing.assert_allclose(along, 0.5 + 0.25 * 0.6 * np.array([-2, -1, 1, 2]))
    np.testing.assert_allclose(against, 0.5 - 0.25 * 0.8 * np.array([-2, -1, 1, 2]))
    signed = figure.axes[1].images[0]
    assert signed.get_clim() == (-1.0, 1.0)
    assert signed.get_array()[6, 7] == -1
    assert signed.get_array()[4, 5] == pytest.approx(0.75)
    assert "1: sd 0.250" in texts(figure)


def test_axes_of_any_length_and_of_none_give_the_same_directions():
    mean, axes, stddev = axes_of(3)
    first = pixels(principal_axes(mean, axes, stddev, SETTINGS))
    np.testing.assert_array_equal(first, pixels(principal_axes(mean, 7 * axes, stddev, SETTINGS)))
    pixels(principal_axes(mean, 0 * axes, stddev, SETTINGS))


def test_at_most_24_axes_are_shown():
    found = texts(EVERY["axes, 50"]())
    assert "The first 24 of 50 axes are shown." in found
    assert sum(": sd " in text for text in found) == 24
    assert [text for text in found if text.startswith("axis ")] == [
        f"axis {i}" for i in range(1, 6)
    ]


def test_factors_are_moved_by_a_standard_deviation_of_z():
    found = texts(EVERY["factors, 2"]())
    assert [text for text in found if text.startswith("factor ")] == ["factor 1", "factor 2"]
    assert {"1: |w| 3.00", "2: |w| 0.300", "z = −2", "z = 2"} <= set(found)
    mean, columns = np.zeros((28, 28)), np.zeros((1, 28, 28))
    columns[0, 3, 4] = 7.0
    first = pixels(factors(mean, columns, np.array([0.3]), SETTINGS))
    assert np.array_equal(first, pixels(factors(mean, -2 * -columns, np.array([0.3]), SETTINGS)))


def test_the_noise_says_how_many_pixels_lie_at_its_floor():
    sigma = np.full(SHAPE, 0.3)
    sigma[:7] = 0.1
    figure = noise(sigma, np.zeros(SHAPE), 0.01, SETTINGS)
    assert "196 of 784 pixels (25.0%) lie at the floor, σ = 0.1" in note(figure)
    assert "The largest σ is 0.3." in note(figure)


def test_the_scaled_spectrum_has_noise_of_one():
    figure = scaled_spectrum(np.array([40.0, 3.0, 0.5]), 1, SETTINGS)
    assert "in their place: noise = 1" in texts(figure)
    assert "L = 1, and has 1 in place of the other 2." in note(figure)
    np.testing.assert_array_equal(figure.axes[0].lines[2].get_data(), [[2, 3], [1, 1]])


def test_images_that_do_not_vary_have_no_spectrum():
    for drawn in (spectrum(np.zeros(3), 1, 1.0, SETTINGS), scaled_spectrum(np.zeros(3), 1, "")):
        assert drawn == "all training images are the same, so every eigenvalue is 0"


def test_the_spectrum_says_what_the_model_keeps():
    eigenvalues = np.array([4.0, 3.0, 2.0, 1.0, 0.0])
    figure = spectrum(eigenvalues, 2, 1.0, SETTINGS)
    found = note(figure)
    assert "keeps the largest eigenvalues, L = 2, and has σ² in place of the other 3." in found
    assert "Their mean is 1: the σ² of the highest likelihood." in found
    assert "1 eigenvalue under a millionth of the largest is out of view." in found
    assert "the kept hold 70.0% of the variance" in texts(figure)
    assert "in their place: σ² = 1" in texts(figure)
    discarded, kept, level = figure.axes[0].lines
    np.testing.assert_array_equal(kept.get_data(), [[1, 2], [4, 3]])
    np.testing.assert_array_equal(discarded.get_ydata(), [2, 1, np.nan])
    np.testing.assert_array_equal(level.get_data(), [[3, 5], [1, 1]])
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [0.4, 0.7, 0.9, 1, 1])


def test_spread_moves_as_little_as_it_can():
    far = np.array([30.0, 0.0, 60.0])
    np.testing.assert_array_equal(spread(far, 10, (0, 100)), far)
    np.testing.assert_allclose(spread(np.array([50.0, 50, 50]), 10, (0, 100)), [40, 50, 60])
    np.testing.assert_allclose(spread(np.array([1.0, 0, 90]), 10, (0, 100)), [10, 0, 90])
    crowded = np.random.default_rng(0).normal(50, 5, 6)
    moved = spread(crowded, 10, (0, 100))
    assert (np.argsort(moved) == np.argsort(crowded)).all()
    assert np.diff(np.sort(moved)) == pytest.approx(10)
    assert moved.mean() == pytest.approx(crowded.mean())


def test_numbers_are_written_for_people():
    values = [-1234567.0, 12.34567, -0.5, 1e-8, 0.0]
    assert [number(value) for value in values] == ["−1,234,567", "12.35", "−0.5", "1e−08", "0"]


@pytest.mark.parametrize("limits", [(1e-3, 1e-3), (0.02, 0.3), (1e-12, 1e3), (45_000, 52_000)])
def test_a_log_axis_has_numbers(limits):
    axes = samples(np.zeros((1, 1, 28, 28)), None, "", "").add_axes((0.2, 0.2, 0.6, 0.6))
    log_axis(axes.yaxis, *limits)
    low, high = axes.get_ylim()
    assert low < limits[0] <= limits[1] < high
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2
