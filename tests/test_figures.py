import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from pages import assert_readable, pixels, texts, tick_labels

import vaexp
from vaexp.errors import RunError
from vaexp.figures import mosaic as tiles
from vaexp.figures import style
from vaexp.figures.curves import _limits, training_curves
from vaexp.figures.images import decode_modes, reconstructions, samples
from vaexp.figures.style import save

SETTINGS = "VAE, L = 2, gaussian, sigma fixed at 1, beta = 1, given the label"


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.2, 1.2, (*shape, 28, 28)).astype(np.float32)


def history(epochs, beta=1.0, sigma=False, validation=True):
    records = []
    for epoch in range(1, epochs + 1):
        rate, distortion = 8 - 5 / epoch, 740 + 60 / epoch
        part = {"elbo": -rate - distortion, "rate": rate, "distortion": distortion}
        part |= {"sigma": 0.3 + 0.5 / epoch} if sigma else {}
        record = {"epoch": epoch, "beta": beta, "train": part | {"objective": -700.0}}
        records.append(record | ({"validation": part} if validation else {}))
    return records


EVERY = {
    "samples": lambda: samples(images(3, 4), ["0", "1", "2"], "Draws", SETTINGS),
    "samples, no names": lambda: samples(images(1, 1), None, "Draws", SETTINGS),
    "samples, many": lambda: samples(images(2, 60), None, "Draws", SETTINGS),
    "decode_modes": lambda: decode_modes(images(4), images(4), images(5, 4), SETTINGS),
    "decode_modes, no sigma": lambda: decode_modes(images(1), images(1), None, SETTINGS),
    "reconstructions": lambda: reconstructions(
        images(3), images(3), images(3), images(3) + 1, SETTINGS
    ),
    "curves": lambda: training_curves(history(20, beta=4.0, sigma=True), SETTINGS),
    "curves, one epoch": lambda: training_curves(history(1), SETTINGS),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_figure_has_title_settings_and_no_text_off_the_page_or_over_other_text(name):
    figure = EVERY[name]()
    assert figure.texts[0].get_fontweight() == "bold"
    assert SETTINGS in " ".join(texts(figure))
    assert_readable(figure, on_charts=False)  # codes of two digits may meet, and their names too


@pytest.mark.parametrize("name", ["samples", "curves", "decode_modes", "reconstructions"])
def test_saving_gives_the_same_bytes_for_the_same_input(name, tmp_path):
    save(EVERY[name](), tmp_path / "a.png")
    same = EVERY[name]()
    save(same, tmp_path / "b.png")
    save(same, tmp_path / "again.png")
    first = (tmp_path / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert b"matplotlib" not in first.lower()
    assert first == (tmp_path / "b.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "again.png", "b.png"]


def test_the_users_matplotlibrc_changes_nothing(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from vaexp.figures.images import samples; from vaexp.figures.style import save\n"
        "figure = samples(np.full((1, 2, 28, 28), 0.5), ['a'], 'T', 'S')\n"
        "save(figure, Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsavefig.dpi: 20\nimage.cmap: jet\n")
    written = []
    for name, folder in (("a.png", "/"), ("b.png", tmp_path)):
        environment = os.environ | {
            "MPLCONFIGDIR": str(tmp_path / "config"),
            "MATPLOTLIBRC": str(folder),
            "PYTHONPATH": str(Path(vaexp.__file__).parents[1]),
        }
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        subprocess.run(command, check=True, env=environment)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    class Broken(Figure):
        def savefig(self, path, **_):
            path.write_bytes(b"half a pict")
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"figure\.png: No space left on device"):
        save(Broken(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    save(EVERY["samples"](), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_into_no_folder_says_where(tmp_path):
    with pytest.raises(RunError, match="missing"):
        save(EVERY["samples"](), tmp_path / "missing" / "a.png")


def test_mosaic_places_each_image_and_leaves_gaps():
    values = np.arange(2 * 3 * 2 * 2, dtype=float).reshape(2, 3, 2, 2)
    n = np.nan
    expected = np.array(
        [
            [n, n, n, n, n, n, n, n, n, n],
            [n, 0, 1, n, 4, 5, n, 8, 9, n],
            [n, 2, 3, n, 6, 7, n, 10, 11, n],
            [n, n, n, n, n, n, n, n, n, n],
            [n, 12, 13, n, 16, 17, n, 20, 21, n],
            [n, 14, 15, n, 18, 19, n, 22, 23, n],
            [n, n, n, n, n, n, n, n, n, n],
        ]
    )
    np.testing.assert_array_equal(tiles.mosaic(values), expected)
    np.testing.assert_array_equal(
        tiles.mosaic(values, gap=0),
        [
            [0, 1, 4, 5, 8, 9],
            [2, 3, 6, 7, 10, 11],
            [12, 13, 16, 17, 20, 21],
            [14, 15, 18, 19, 22, 23],
        ],
    )


def test_one_image_pixel_is_a_whole_block_of_page_pixels():
    image = np.zeros((1, 1, 28, 28))
    image[0, 0, 0, 0] = 2.0  # clipped to black
    image[0, 0, 27, 27] = 1.0
    page = pixels(samples(image, None, "", SETTINGS))
    top = page.shape[0] - style.MARGIN - 30 * 5 - 20 - 2 * style.line_height(style.SMALL)
    left = style.MARGIN
    tile = page[top : top + 150, left : left + 150]
    assert (tile[:5] == tile[0, 0]).all()
    assert tile[0, 0].tolist() == [0xBC, 0xCB, 0xDC]
    assert (tile[5:10, 5:10] == 0).all()
    assert (tile[5:10, 10:145] == 255).all()
    assert (tile[140:145, 140:145] == 0).all()
    assert (tile[145:] == tile[0, 0]).all()


def test_figures_do_not_change_their_input():
    given = images(2, 3)
    kept = given.copy()
    samples(given, None, "Draws", SETTINGS)
    np.testing.assert_array_equal(given, kept)


def test_the_note_says_what_white_and_black_are_and_what_lies_outside():
    half = np.array([[-1.0, 0.5], [0.5, 2.0]])
    assert tiles.ink_note(half).startswith("White is 0 and black is 1. 50% of the pixel values lie")
    assert "25%" in tiles.ink_note(half, None, np.zeros((2, 2)))
    assert "Under 1%" in tiles.ink_note(np.append(np.zeros(999), 2.0))
    assert tiles.ink_note(np.array([0.0, 1.0, 1.0000001])) == "White is 0 and black is 1."


def sweep_of(mean, sigma):
    return mean + sigma * np.arange(-2, 3)[:, None, None, None]


def digits(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (*shape, 28, 28))


def drawn(figure):
    """The rows of images of a page, each (C * 28, ...), as the colours see them: 0 to 1."""
    return [
        np.asarray(axes.images[0].norm(axes.images[0].get_array()).filled(np.nan))
        for axes in figure.axes
        if not axes.axison and axes.images
    ]


@pytest.mark.parametrize("sigma", [0.02, 0.2, 1.0, 30.0])
def test_no_row_of_decode_modes_is_solid_or_drawn_twice(sigma):
    mean = digits(4)
    noise = np.random.default_rng(1).normal(size=mean.shape)
    figure = decode_modes(mean, mean + sigma * noise, sweep_of(mean, sigma), SETTINGS)
    single, draws, sweep = drawn(figure)
    rows = [row[1:29] for row in (single, draws, *np.split(sweep[:-1], 4))]
    for row in rows:
        assert np.nanstd(row) > 0.2 * np.nanstd(rows[0]) / (1 + 4 * sigma)
    for i, one in enumerate(rows):
        assert all(np.nanmax(np.abs(one - other)) > 1e-3 for other in rows[:i])


def test_a_wide_sweep_has_a_grey_scale_of_its_own_and_says_its_range():
    mean = digits(3)
    figure = decode_modes(mean, mean + 1, sweep_of(mean, 1.0), SETTINGS)
    picture = figure.axes[2].images[0]
    assert picture.get_clim() == pytest.approx((mean.min() - 2, mean.max() + 2))
    said = " ".join(texts(figure))
    assert "grey scale of the rows μ(z) + kσ(z), units of x" in said
    assert "from −2 to 3" in said.replace("−1.999", "−2").replace("2.999", "3").replace("\n", " ")
    narrow = decode_modes(mean, mean + 1, sweep_of(mean, 0.1), SETTINGS)
    assert narrow.axes[2].images[0].get_clim() == (0, 1)
    assert "grey scale" not in " ".join(texts(narrow))


def test_a_few_pixels_far_outside_do_not_hide_all_others():
    mean = digits(3)
    sweep = sweep_of(mean, 1.0)
    sweep[:, :, 0, 0] *= 50
    figure = decode_modes(mean, mean + 1, sweep, SETTINGS)
    low, high = figure.axes[2].images[0].get_clim()
    assert mean.min() - 2 <= low < high <= mean.max() + 2
    assert "Values outside of it are drawn as the nearer end." in " ".join(texts(figure))


def test_labels_of_decode_modes():
    figure = decode_modes(images(3), images(3, seed=1), images(5, 3, seed=2), SETTINGS)
    found = texts(figure)
    for label in (r"$x \sim p(x\,|\,z)$", r"$\mu(z) - 2\sigma(z)$"):
        assert label in found
    assert found.count(r"$\mu(z)$") == 1
    assert "Each column is one latent z, which every row decodes in its own way." in found
    assert len(figure.axes) == 3
    assert not any("sigma" in text for text in texts(EVERY["decode_modes, no sigma"]())[2:])


def test_rows_that_would_look_like_the_mean_are_left_out_and_said():
    mean = digits(2)
    figure = decode_modes(mean, mean + 1e-4, sweep_of(mean, 1e-4), SETTINGS)
    assert len(figure.axes) == 1
    said = texts(figure)
    assert "x ~ p(x|z) is not drawn: it differs from μ(z) by less than half a grey level." in said
    assert "μ(z) + kσ(z) is not drawn: it differs from μ(z) by less than half a grey level." in said


def test_draws_of_a_wide_sweep_have_a_wider_grey_scale_too():
    mean = digits(3)
    names = ["-2", "-1", "0", "1", "2"]
    figure = samples(sweep_of(mean, 1.0), names, "Draws", SETTINGS)
    assert figure.axes[0].images[0].get_clim() == pytest.approx((mean.min() - 2, mean.max() + 2))


def test_constant_sigma_is_a_number_and_varying_sigma_a_heat_map():
    x = images(2)
    constant = reconstructions(x, x, x, np.full_like(x, 0.25), SETTINGS)
    assert len(constant.axes) == 3
    assert "σ is 0.25, in units of x, for every pixel of every image." in texts(constant)
    varying = reconstructions(x, x, x, np.linspace(0, 1, x.size).reshape(x.shape), SETTINGS)
    assert len(varying.axes) == 5
    assert "σ(z), units of x" in texts(varying)
    heat = varying.axes[3].images[0]
    assert heat.get_clim() == (0.0, 1.0)
    assert heat.get_cmap().name == "viridis"


def test_a_sigma_that_the_pixels_of_an_image_share_is_a_number_under_it():
    x = images(3)
    figure = reconstructions(x, x, x, np.ones_like(x) * np.array([[[0.2]], [[0.31]], [[1]]]), "")
    assert len(figure.axes) == 3
    assert [text for text in texts(figure) if text.startswith(("0.", "1."))] == [
        "0.200", "0.310", "1.00",
    ]  # fmt: skip
    assert_readable(figure)


def test_a_sigma_that_all_images_share_is_drawn_once():
    x = images(3)
    sigma = np.broadcast_to(np.linspace(0.1, 1, 784).reshape(28, 28), x.shape)
    figure = reconstructions(x, x, x, sigma, SETTINGS)
    assert figure.axes[3].images[0].get_array().shape == (30, 30)
    assert "σ is the same for every image, and is drawn once." in " ".join(texts(figure))


def test_a_wide_range_of_sigma_is_drawn_on_a_log_scale():
    x = np.random.default_rng(1).random((3, 28, 28))
    sigma = np.full_like(x, 0.001)
    sigma[1, 3, 4] = 6.0
    figure = reconstructions(x, x, x, sigma, "settings")
    heat = figure.axes[3].images[0]
    assert heat.norm(0.001) == 0.0
    assert heat.norm(6.0) == 1.0
    assert heat.norm(np.sqrt(0.006)) == pytest.approx(0.5)
    assert "σ(z), units of x, log scale" in texts(figure)
    assert len(reconstructions(x, x, x, None, SETTINGS).axes) == 3


def test_every_label_has_its_own_colour():
    assert len(set(style.LABEL_COLOURS)) == 10


def test_one_epoch_is_drawn_as_points():
    figure = training_curves(history(1), SETTINGS)
    assert len(figure.axes) == 3  # no sigma, no panel for it
    training, *_ = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert training.get_marker() == "o"
    low, high = figure.axes[0].get_ylim()
    assert low < -803 < high
    pixels(figure)
    assert [text.get_text() for text in tick_labels(figure.axes[0])[0]] == ["1"]


def test_curves_show_the_objective_only_where_beta_is_not_one():
    def named(beta):
        return [text for text in texts(training_curves(history(9, beta), "")) if "β" in text]

    assert named(1.0) == []
    assert named(4.0) == ["training objective, β = 4"]
    warm = [record | {"beta": record["epoch"] / 10} for record in history(9)]
    assert "training objective, β = 0.1 to 0.9" in texts(training_curves(warm, ""))


def test_curves_name_units_and_what_they_show():
    found = texts(training_curves(history(20, sigma=True), SETTINGS))
    assert found.count("nats per image") == 3
    assert {"ELBO", "epoch", "units of x", "validation"} <= set(found)
    alone = texts(training_curves(history(9, validation=False), ""))
    assert not any("validation" in text for text in alone)
    sigma = training_curves(history(20, sigma=True), SETTINGS).axes[3]
    assert sigma.get_yscale() == "log"


def test_a_sigma_that_does_not_change_is_a_sentence():
    records = history(20, sigma=True)
    for record in records:
        record["train"]["sigma"] = record["validation"]["sigma"] = 1.0
    figure = training_curves(records, SETTINGS)
    assert len(figure.axes) == 3
    assert "σ of the decoder is 1, in units of x, in every epoch." in " ".join(texts(figure))


@pytest.mark.parametrize("epochs", [5, 50])
def test_an_outlier_does_not_squash_the_curve_and_is_said(epochs):
    records = history(epochs)
    records[0]["train"]["elbo"] = -1e6
    figure = training_curves(records, SETTINGS)
    low, high = figure.axes[0].get_ylim()
    assert -1000 < low < -760 < high < -700
    note = "Triangles mark what is out of view in ELBO: 1 value, the lowest −1,000,000 at epoch 1."
    assert note in texts(figure)
    assert not any("out of view" in text for text in texts(EVERY["curves"]()))


def test_values_that_are_not_finite_are_said():
    records = history(10)
    records[4]["train"]["rate"] = float("nan")
    found = texts(training_curves(records, SETTINGS))
    assert "1 of 10 training values of rate are not finite. " in found
    for record in records:
        record["train"] = dict.fromkeys(record["train"], float("nan"))
        record["validation"] = None
    pixels(training_curves(records, SETTINGS))


def test_limits_of_a_curve_that_does_not_move_have_height():
    low, high = _limits([np.full(10, -750.0)], "elbo")
    assert low < -750 < high
    low, high = _limits([np.full(10, 1e-3)], "sigma")
    assert 0 < low < 1e-3 < high


def test_wrap_keeps_every_character_within_the_width():
    text = "a few words and averyveryverylongwordwithoutanyplacetobreak"
    lines = style.wrap(text, 10, 150)
    assert all(style.text_width(line, 10) <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert style.wrap("short", 10, 500) == ["short"]


def test_places_without_an_image_are_blank_paper_and_not_counted():
    images = np.full((1, 3, 4, 4), 2.0)
    images[0, 2] = np.nan
    board = tiles.mosaic(images)
    assert (board[1:5, 11:15] == 0).all()
    assert (board[1:5, 1:5] == 2).all()
    assert "100% of the pixel values" in tiles.ink_note(images)
