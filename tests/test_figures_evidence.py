"""Figures of what ``vaexp evaluate`` found, and how they are drawn from a run's files."""

from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
from matplotlib.colors import to_hex
from pages import assert_readable, pixels

from vaexp.config import load_config
from vaexp.experiment.draw.evidence import illustrate_evidence
from vaexp.figures.decoding import decoder_moments
from vaexp.figures.floor import near_the_floor
from vaexp.figures.induced import tilted_prior
from vaexp.figures.latent_use import latent_use
from vaexp.figures.mixture import clusters
from vaexp.figures.optimal_mean import optimal_means
from vaexp.figures.parzen import Window, parzen_windows
from vaexp.figures.prior import prior_and_codes
from vaexp.figures.quality import sample_quality
from vaexp.figures.style import TRAINING, save
from vaexp.runs.folder import RunFolder

SETTINGS = "VAE, L = 2, Gaussian, σ(z) per pixel (≥ 0.001), β = 4, given the label, test images"
EPSILON = np.logspace(-5, 2, 71)
SHAPE = (28, 28)
NOTE = "A note of the caller."


def latents(count: int, active: int) -> dict[str, Any]:
    kl = np.linspace(0.001, 2, count)[::-1]
    return {
        "kl": kl[np.random.default_rng(0).permutation(count)],
        "mean_variance": np.where(np.arange(count) < active, 1.0, 1e-4),
        "epsilon": EPSILON,
        "below": 1 / (1 + (kl / EPSILON[:, None]) ** 3),
        "active": 0.01,
        "collapsed": (0.01, 0.01),
    }


def maps(seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "sigma_map": generator.uniform(1e-3, 0.5, SHAPE),
        "floor_map": generator.uniform(0, 1, SHAPE),
        "log_prob_map": generator.normal(size=SHAPE),
    }


def flat(arrays: dict[str, Any]) -> dict[str, Any]:
    """Images as they are in the files of a run, (D,)."""
    return {name: array.reshape(-1) for name, array in arrays.items()}


def curve(of_variance: bool = False) -> dict[str, Any]:
    floors = 1e-3 * np.array([4, 2, 1, 0.5, 0.25])
    rise = np.arange(5) * (170 if of_variance else 50)
    return {
        "floor_curve_floors": floors,
        "floor_curve_test": 900.0 + rise,
        "floor_curve_train": 910.0 + rise,
    }


def components(count: int) -> dict[str, Any]:
    generator = np.random.default_rng(count)
    return {
        "smallest_sigma": np.maximum(1e-3**0.5, generator.uniform(0, 0.1, count)),
        "effective_count": 50_000 * generator.dirichlet(np.full(count, 0.1)),
    }


def floor(arrays: dict[str, Any], **how: Any) -> Any:
    return near_the_floor(arrays, SETTINGS, **{"floor": 1e-3, "near": 2.0, "note": NOTE} | how)


def plane(panels: int, low: tuple[float, float], high: tuple[float, float]) -> tuple[Any, Any]:
    grid = np.stack([np.linspace(a, b, 81) for a, b in zip(low, high, strict=True)])
    middle = np.array(low) + 0.2 * (np.array(high) - np.array(low))
    z = np.stack(np.meshgrid(*grid, indexing="ij"), -1)
    one = -0.5 * np.sum((z - middle) ** 2, -1) - np.log(2 * np.pi)
    return grid, np.repeat(one[None], panels, 0)


def line(curves: int) -> tuple[Any, Any]:
    grid = np.linspace(-20, 4, 401)
    centres = -np.linspace(1, 16, curves)[:, None]
    return grid[None], -0.5 * (grid - centres) ** 2 - 0.5 * np.log(2 * np.pi)


def variances() -> dict[str, Any]:
    generator = np.random.default_rng(1)
    names = ("variance_data", "variance_of_mean", "mean_of_variance")
    return {f"{name}_pixels": generator.uniform(0, 0.2, SHAPE) for name in names}


def strata(count: int) -> dict[str, Any]:
    return {
        "coverage_strata": np.linspace([0.6, 0.9, 0.98], [0.9, 0.97, 1], count),
        "coverage_strata_se": np.full((count, 3), 0.005),
        "sigma_strata": np.geomspace(1e-3, 0.5, count),
        "share_strata": np.full(count, 1 / count),
    }


def found(*names: str, rows: tuple[str, ...] = ("mean", "sample", "control")) -> Any:
    values = {"digit_fid": 50.0, "digit_kid": 2.0, "density": 1.4}
    return {
        name: {
            row: (v := values.get(name, 0.99) / 10**k, v - 0.03, v + 0.03)
            for k, row in enumerate(rows)
        }
        for name in names
    }


ALL = ("digit_fid", "digit_kid", "precision", "recall", "density", "coverage_real")


def table(clusters: int, digits: int) -> Any:
    return np.random.default_rng(clusters).integers(0, 900, (clusters, digits))


def tilted(panels: tuple[Any, Any], names: list[str]) -> Any:
    return tilted_prior(*panels, names, SETTINGS, NOTE)


def means(names: list[str], *, outside: bool) -> Any:
    generator = np.random.default_rng(1)
    optimal, learned = generator.uniform(size=(2, len(names), 5, 5, 28, 28))
    far = generator.uniform(size=(len(names), 5, 5)) < 0.3 if outside else None
    return optimal_means(optimal, learned, names, np.linspace(-1.5, 1.5, 5), far, SETTINGS, NOTE)


def margins(reach: float) -> Any:
    generator = np.random.default_rng(1)
    sources = ("codes", "prior", "mixture")
    found = {name: generator.normal(reach, reach, 300) for name in sources}
    rows = {name: generator.uniform(size=(10, 28, 28)) for name in sources[1:]}
    return prior_and_codes(found, rows, {name: f"draws of the {name}" for name in rows}, SETTINGS)


DIGITS = [f"digit {digit}" for digit in range(10)]
EVERY = {
    "latents, 1": lambda: latent_use(subtitle=SETTINGS, **latents(1, 1)),
    "latents, 16": lambda: latent_use(subtitle=SETTINGS, note=NOTE, **latents(16, 9)),
    "latents, 200": lambda: latent_use(subtitle=SETTINGS, **latents(200, 0)),
    "floor": lambda: floor(maps() | curve()),
    "floor, mixture": lambda: floor(maps() | curve(True) | components(250), of_variance=True),
    "floor, full": lambda: floor(
        {key: value for key, value in (maps() | components(1)).items() if key != "log_prob_map"},
        of_variance=True,
    ),
    "floor, no floor": lambda: floor({"sigma_map": maps()["sigma_map"], **components(3)}, floor=0),
    "floor, flat": lambda: floor(
        curve() | {"sigma_map": np.full(SHAPE, 0.2), "floor_map": np.zeros(SHAPE)}
    ),
    "floor, fixed": lambda: floor(
        {"sigma_map": np.ones(SHAPE), "log_prob_map": maps()["log_prob_map"]}
    ),
    "tilted, 1": lambda: tilted(plane(1, (-6, -14), (4, 4)), [""]),
    "tilted, wide": lambda: tilted(plane(1, (-60, -4), (4, 4)), [""]),
    "tilted, 2": lambda: tilted(plane(2, (-18, -4), (4, 16)), ["digit 3", "digit 8"]),
    "tilted, 10": lambda: tilted(plane(10, (-4, -4), (4, 4)), DIGITS),
    "tilted line": lambda: tilted(line(1), [""]),
    "tilted lines": lambda: tilted(line(10), DIGITS),
    "decoder": lambda: decoder_moments(variances() | strata(10), SETTINGS, NOTE),
    "decoder, narrow strata": lambda: decoder_moments(
        variances() | strata(4) | {"share_strata": np.array([0.9, 0.05, 0.02, 0.03])}, SETTINGS
    ),
    "decoder, one sigma": lambda: decoder_moments(variances() | strata(1), SETTINGS),
    "decoder, no sigma": lambda: decoder_moments(variances(), SETTINGS),
    "means": lambda: means([""], outside=False),
    "means, digits": lambda: means(["digit 0", "digit 8"], outside=True),
    "prior": lambda: margins(4.0),
    "prior, far": lambda: margins(3e5),
    "quality": lambda: sample_quality(found(*ALL), SETTINGS, NOTE),
    "quality, two": lambda: sample_quality(found("digit_fid", "recall"), SETTINGS),
    "quality, one row": lambda: sample_quality(found(*ALL, rows=("mean",)), SETTINGS),
    "parzen": lambda: parzen_windows(windows(), SETTINGS, NOTE),
    "clusters": lambda: clusters(table(10, 10), range(10), SETTINGS, NOTE),
    "clusters, 2": lambda: clusters(table(2, 2), [3, 8], SETTINGS),
}


def windows() -> list[Window]:
    images = np.random.default_rng(0).uniform(-0.2, 1.2, (10, 28, 28))
    names = ("centroids of real images, by k-means", "draws x ~ p(x|z) of the model, z ~ p(z)")
    return [
        Window(name, 10_000, 0.18, (-700.0 + 900 * place, 2.0), images, real=place == 0)
        for place, name in enumerate(names)
    ]


def texts(figure: Any) -> str:
    return "\n".join(pages.texts(figure))


@pytest.mark.parametrize("name", EVERY)
def test_no_text_is_off_the_page_or_over_other_text(name: str) -> None:
    figure = EVERY[name]()
    assert figure.texts[0].get_fontweight() == "bold"
    assert SETTINGS in texts(figure).replace("\n", " ")
    assert_readable(figure)


def test_latents_are_sorted_and_the_active_ones_are_in_colour() -> None:
    below = np.zeros((71, 3))
    below[EPSILON >= 0.009, 1] = 1.0  # 1: at once, at the limit of what counts as collapsed
    figure = latent_use(
        np.array([0.5, 0.002, 3.0]), np.array([0.4, 0.001, 0.005]), EPSILON, below, SETTINGS,
        active=0.01, collapsed=(0.01, 0.01),
    )  # fmt: skip
    bars, curves = figure.axes
    assert [bar.get_height() for bar in bars.patches] == [3.0, 0.5, 0.002]
    colours = [to_hex(bar.get_facecolor()) for bar in bars.patches]
    assert colours == ["#b5b5b5", TRAINING, "#b5b5b5"]
    assert [label.get_text() for label in bars.get_xticklabels()] == ["3", "1", "2"]
    assert "posterior mean is above 0.01, and collapsed where for at least 99%" in texts(
        figure
    ).replace("\n", " ")
    assert curves.get_xscale() == "log"


def test_each_of_few_latents_has_its_number_on_its_curve() -> None:
    given = latents(3, 3)
    axes = latent_use(subtitle=SETTINGS, **given).axes[1]
    for text in axes.texts:
        x, y = text.get_position()
        column = given["below"][:, int(text.get_text()) - 1]
        assert np.interp(np.log(x), np.log(EPSILON), column) == pytest.approx(y)
    assert {text.get_text() for text in axes.texts} == {"1", "2", "3"}
    assert not latent_use(subtitle=SETTINGS, **latents(17, 3)).axes[1].texts


def test_a_flat_map_becomes_a_sentence() -> None:
    arrays = maps() | {"sigma_map": np.full(SHAPE, 0.25)}
    assert len(floor(maps()).axes) == 6  # with their colour bars
    figure = floor(arrays)
    assert len(figure.axes) == 4
    assert (
        "There is no panel of what is the same everywhere: mean σ is 0.25 at every pixel."
        in texts(figure)
    )


def test_maps_are_images_the_first_pixel_at_the_top_left_and_sigma_on_a_log_scale() -> None:
    sigma = np.full(SHAPE, 0.01)
    sigma[0] = 1.0
    other = np.linspace(0, 1, sigma.size).reshape(SHAPE)
    picture = floor({"sigma_map": sigma, "floor_map": other}).axes[0].images[0]
    np.testing.assert_array_equal(picture.get_array()[0], 1.0)
    assert picture.norm(0.1) == pytest.approx(0.5)


def test_floors_fall_to_the_right() -> None:
    axes = floor(curve()).axes[0]
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    pixels(axes.figure)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0.00025", "0.0005", "0.001", "0.002", "0.004"]
    assert axes.get_xlabel() == "floor of σ, units of x"
    assert floor(curve(), of_variance=True).axes[0].get_ylabel().startswith("ln p(x),")


def test_the_floor_of_a_mixture_is_drawn_as_a_sigma() -> None:
    figure = floor(components(5), of_variance=True, floor=0.01)
    dashed, points = figure.axes[0].lines
    assert list(dashed.get_ydata()) == [0.1, 0.1]
    np.testing.assert_array_equal(points.get_ydata(), components(5)["smallest_sigma"])
    assert "floor, 0.1" in texts(figure)


def test_components_without_any_sigma_are_counted_instead() -> None:
    arrays = components(3) | {"smallest_sigma": np.array([0.0, 0.2, 0.0])}
    figure = floor(arrays, floor=0.0)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0.2])
    assert "2 of 3 components are not drawn: their smallest σ is 0." in texts(figure)
    figure = floor(maps() | arrays | {"smallest_sigma": np.zeros(3)}, floor=0.0)
    assert len(figure.axes) == 6  # the maps and their colour bars alone
    pixels(figure)


def test_the_tilted_prior_has_z_1_across_and_z_2_upwards() -> None:
    grid = np.stack([np.linspace(-4, 4, 81), np.linspace(-10, 10, 81)])
    density = np.full((1, 81, 81), -20.0)
    density[0, 70, 10] = -1.0  # z_1 = 3, z_2 = -7.5
    axes = tilted((grid, density), [""]).axes[0]
    picture = axes.images[0]
    row, column = np.unravel_index(picture.get_array().argmax(), (81, 81))
    left, right, bottom, top = picture.get_extent()
    assert left + (column + 0.5) * (right - left) / 81 == pytest.approx(3.0)
    assert bottom + (row + 0.5) * (top - bottom) / 81 == pytest.approx(-7.5)
    assert picture.origin == "lower"
    assert picture.get_clim() == (-14, 0)
    assert [patch.radius for patch in axes.patches] == [1, 2, 3]


def test_the_tilted_line_is_a_density_over_the_priors() -> None:
    grid, density = line(2)
    axes = tilted((grid, density), ["digit 4", "digit 9"]).axes[0]
    np.testing.assert_allclose(axes.lines[1].get_ydata(), np.exp(density[1]))
    assert {"N(0, 1)", "digit 4"} <= {text.get_text() for text in axes.get_legend().get_texts()}


def test_variances_have_one_scale_and_those_far_above_the_data_are_said() -> None:
    arrays = variances()
    largest = (arrays["variance_of_mean_pixels"] + arrays["mean_of_variance_pixels"]).max()
    figure = decoder_moments(arrays, SETTINGS)
    pictures = [axes.images[0] for axes in figure.axes if axes.images]
    assert {picture.get_clim() for picture in pictures} == {(0.0, largest)}
    np.testing.assert_allclose(
        pictures[1].get_array(), pictures[2].get_array() + pictures[3].get_array()
    )
    assert f"sum {arrays['variance_data_pixels'].sum():.4g}" in texts(figure)
    arrays["mean_of_variance_pixels"][5] = 40.0
    figure = decoder_moments(arrays, SETTINGS)
    most = 3 * arrays["variance_data_pixels"].max()
    assert figure.axes[0].images[0].get_clim() == (0.0, most)
    assert "have the last colour; the largest is 40" in texts(figure)


def test_variances_that_would_have_one_colour_are_sentences() -> None:
    """As at sigma = 1, where every pixel of a draw varies by more than the scale has."""
    arrays = variances()
    rounding = 1 + 1e-8 * np.arange(arrays["variance_data_pixels"].size)
    arrays["mean_of_variance_pixels"] = 40 * rounding.reshape(arrays["variance_data_pixels"].shape)
    figure = decoder_moments(arrays | strata(1), SETTINGS)
    assert len([axes for axes in figure.axes if axes.images]) == 2
    said = texts(figure).replace("\n", " ")
    assert "A map that would have one colour is left out: draws x ~ p(x|z) (from 40" in said
    assert "E σ²(z) (40, sum" in said  # to four digits
    assert "Var μ(z)" in said
    assert "of which" not in said
    assert "have the last colour" not in said


def test_the_line_of_the_codes_region_is_in_view() -> None:
    generator = np.random.default_rng(1)
    found = {name: 5 + generator.random(300) for name in ("codes", "prior", "mixture")}
    rows = {name: np.zeros((10, 28, 28)) for name in ("prior", "mixture")}
    axes = prior_and_codes(found, rows, {name: name for name in rows}, SETTINGS).axes[0]
    low, high = axes.get_xlim()
    assert low < 0 < high


def test_coverage_has_its_nominal_lines() -> None:
    figure = decoder_moments(variances() | strata(10), SETTINGS)
    axes = figure.axes[0]
    lines = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose([y[0] for y in lines], [0.6827, 0.9545, 0.9973], atol=1e-4)
    assert "1σ: 68.3%" in texts(figure)
    assert "above at 1σ and below at 3σ" in texts(figure).replace("\n", " ")


def test_strata_are_as_wide_as_their_share_of_the_pixels() -> None:
    given = strata(4) | {"share_strata": np.array([0.4, 0.3, 0.2, 0.1])}
    axes = decoder_moments(variances() | given, SETTINGS).axes[0]
    ends = np.array([segment[:, 0] for segment in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, [[0, 0.4], [0.4, 0.7], [0.7, 0.9], [0.9, 1]])
    assert axes.get_xticklabels()[0].get_text() == "0.001"


def test_one_stratum_is_a_table() -> None:
    figure = decoder_moments(variances() | strata(1), SETTINGS)
    assert len(figure.axes) == 5  # four maps and a colour bar
    assert {"60.00% ± 0.98", "68.27%", "90.00% ± 0.98"} <= set(texts(figure).split("\n"))
    assert "z ~ q(z|x), at σ = 0.001" in texts(figure)


def test_sample_quality_draws_what_there_is() -> None:
    assert len(sample_quality(found(*ALL), SETTINGS).axes) == 6
    figure = sample_quality(found("digit_fid", "precision", "ndb"), SETTINGS)
    assert [axes._left_title.get_text() for axes in figure.axes] == [
        "digit FID: lower is better",
        "precision",
    ]
    bars = figure.axes[0].patches
    assert [bar.get_height() for bar in bars] == [50.0, 5.0, 0.5]
    assert "50.00" in texts(figure)
    # the interval of a share ends at 100%
    ends = figure.axes[1].collections[0].get_segments()[0][:, 1]
    np.testing.assert_allclose(ends, [0.96, 1.0])


def test_clusters_are_sorted_by_their_majority_digit() -> None:
    counts = np.array([[1, 30], [0, 0], [9, 2], [40, 5], [3, 60]])
    figure = clusters(counts, [4, 9], SETTINGS)
    shares = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(
        shares[:4], [[40 / 45, 5 / 45], [9 / 11, 2 / 11], [3 / 63, 60 / 63], [1 / 31, 30 / 31]]
    )
    assert shares[4].mask.all()
    assert figure.axes[0].texts[0].get_text() == "89%"
    rows = [text for text in texts(figure).split("\n") if text.startswith("k = ")]
    assert rows == ["k = 3", "k = 2", "k = 4", "k = 0", "k = 1"]


# From a run's files


def entry(value: float, **facts: Any) -> dict[str, Any]:
    return {"value": value, "se": 0.01, "n": 50, "unit": "", "aggregate": "whole", **facts}


EVIDENCE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rate": (
        {
            "active_units": entry(1, threshold=0.01, of_latents=2),
            "collapsed_latents": entry(0, epsilon=0.01, delta=0.01),
            "rate_bits": entry(2 / np.log(2)),
            "mutual_information": entry(1.5),
            "marginal_kl": entry(0.5),
        },
        {
            "kl_per_latent": latents(2, 1)["kl"],
            "mean_variance_per_latent": latents(2, 1)["mean_variance"],
            "collapse_epsilon": EPSILON,
            "collapse_curve": latents(2, 1)["below"],
        },
    ),
    "singularities": (
        {
            "sigma_median": entry(0.1),
            "floor_slope": entry(-20.61, train=73.5, at_most=543.4),
            "pixels_at_floor": entry(0.313, near_floor=2.0),
            "log_prob_at_floor": entry(1354.4, near_floor=2.0, total=1986.6),
        },
        flat(maps()) | curve(),
    ),
    "induced": (
        {"log_c": entry(1139.2, method="quadrature")},
        {
            "labels": np.array([4, 9]),
            "log_c_per_label": np.ones(2),
            "grid": plane(2, (-18, -4), (4, 16))[0],
            "tilted_prior": plane(2, (-18, -4), (4, 16))[1],
        },
    ),
    "decoding": ({"variance_data": entry(52.0)}, flat(variances()) | strata(10)),
    "quality": (
        {
            "digit_fid_mean": entry(20.0, interval=[19.0, 21.0]),
            "digit_fid_control": entry(0.2, interval=[0.1, 0.3]),
            "recall_mean": entry(0.5),
        },
        {"ndb_share_train": np.ones(3)},
    ),
    "codes": (
        {"ari": entry(0.4), "nmi": entry(0.5)},
        {"contingency": np.pad(table(2, 1), ((0, 0), (4, 0)))},
    ),
    "parzen": (
        {
            f"parzen_{name}": entry(value, kernels=kernels, bandwidth=0.18)
            for name, value, kernels in (
                ("train", 243.8, 10_000),
                ("centroids", 284.6, 1_000),
                ("mean", 150.0, 10_000),
                ("sample", -100.0, 10_000),
            )
        },
        {
            f"images_{name}": np.full((10, 784), 0.5)
            for name in ("train", "centroids", "mean", "sample")
        },
    ),
    "rescoring": ({"elbo_as_trained": entry(1.0)}, {"best_sigma_pixel": np.ones(784)}),
}


def add(run: RunFolder, group: str, arrays: dict[str, Any] | None = None) -> None:
    entries = {name: one | {"group": group} for name, one in EVIDENCE[group][0].items()}
    run.add_evidence(group, entries, {}, EVIDENCE[group][1] if arrays is None else arrays, {})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(tmp_path, load_config("vae-pixel", ["model.beta=4"]))
    run.start()
    run.write_metrics({"test": {}}, {})
    for group in EVIDENCE:
        add(run, group)
    return run


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of each figure saved."""
    saved: list[str] = []
    monkeypatch.setattr(
        "vaexp.experiment.draw.evidence.save",
        lambda figure, path: (saved.append(texts(figure)), save(figure, path)),
    )
    return saved


def test_every_group_with_a_figure_has_it_drawn(run: RunFolder, said: list[str]) -> None:
    groups = [group for group in EVIDENCE if group != "rescoring"]
    paths = [run.path / "figures" / f"evidence-{group}.png" for group in groups]
    assert illustrate_evidence(run, [*EVIDENCE, "iw"]) == paths
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    by_group = {group: text.replace("\n", " ") for group, text in zip(groups, said, strict=True)}
    assert all("β = 4, given the label" in text for text in by_group.values())
    assert "Together 2 nats (2.89 bits) per image" in by_group["rate"]
    assert "1 of 2 latents are active, 0 collapsed" in by_group["rate"]
    assert "changes the log-likelihood by −20.61 nats per image" in by_group["singularities"]
    assert "share of images with σ < 0.002" in by_group["singularities"]
    assert "31.3% of the pixels have σ below 2 × floor" in by_group["singularities"]
    assert "ln C is 1,139 nats, averaged over the labels" in by_group["induced"]
    assert "digit 9" in by_group["induced"]
    assert "50 test images" in by_group["decoding"]
    assert "50 draws" in by_group["quality"]
    assert "Adjusted Rand index 0.400" in by_group["codes"]
    assert "yet averages of them score higher" in by_group["parzen"]
    order = [by_group["parzen"].index(name) for name in ("centroids", "training", "μ(z)", "draws")]
    assert order == sorted(order)  # the highest first


def test_a_floor_of_covariances_is_shown_as_a_sigma(tmp_path: Path, said: list[str]) -> None:
    run = RunFolder.create(tmp_path, load_config("gmm-diag", []))
    run.start()
    run.write_metrics({"test": {}}, {})
    entries, arrays = EVIDENCE["singularities"]
    beside = {"covariance_floor": 0.001, "group": "singularities"}
    of_a_mixture = {name: one | beside for name, one in entries.items()}
    run.add_evidence("singularities", of_a_mixture, {}, arrays, {})
    assert len(illustrate_evidence(run, ["singularities"])) == 1
    assert "share of images with σ < 0.0632" in said[0].replace("\n", " ")  # 2 sqrt(0.001)


def test_groups_without_arrays_are_skipped(run: RunFolder) -> None:
    add(run, "decoding", {})
    assert illustrate_evidence(run, ["decoding", "ais"]) == []
    assert not (run.path / "figures" / "evidence-decoding.png").exists()


def test_a_group_whose_numbers_were_not_written_is_skipped(run: RunFolder) -> None:
    run.write_metrics({"test": {}}, {})  # as a kill between the two writes leaves it
    assert illustrate_evidence(run, list(EVIDENCE)) == []
    add(run, "decoding")
    assert len(illustrate_evidence(run, list(EVIDENCE))) == 1


def test_quality_may_have_no_control_and_no_features(run: RunFolder, said: list[str]) -> None:
    arrays = EVIDENCE["quality"][1]
    of_draws = {"digit_fid_mean": entry(20.0, group="quality")}
    run.add_evidence("quality", of_draws, {}, arrays, {})
    assert len(illustrate_evidence(run, ["quality"])) == 1
    assert "control" not in said[0]
    run.add_evidence("quality", {"ndb_mean": entry(0.5, group="quality")}, {}, arrays, {})
    assert illustrate_evidence(run, ["quality"]) == []


def test_where_real_images_score_best_no_trap_is_named(run: RunFolder, said: list[str]) -> None:
    entries, arrays = EVIDENCE["parzen"]
    best = {"parzen_train": entry(300.0, kernels=10_000, bandwidth=0.18)}
    given = {name: one | {"group": "parzen"} for name, one in (entries | best).items()}
    run.add_evidence("parzen", given, {}, arrays, {})
    assert len(illustrate_evidence(run, ["parzen"])) == 1
    assert "score higher" not in said[0].replace("\n", " ")


def test_a_tilted_prior_that_is_the_prior_is_not_drawn(run: RunFolder) -> None:
    entries = {"log_c": entry(0.0, method="constant", group="induced")}
    run.add_evidence("induced", entries, {}, EVIDENCE["induced"][1], {})
    assert illustrate_evidence(run, ["induced"]) == []
    add(run, "induced", {"log_c_per_label": np.ones(1)})  # more than two latents
    assert illustrate_evidence(run, ["induced"]) == []


def test_a_mixtures_components_are_its_clusters(tmp_path: Path, said: list[str]) -> None:
    run = RunFolder.create(tmp_path, load_config("gmm-diag", []))
    run.start()
    run.write_metrics({"test": {}}, {})
    add(run, "codes")
    assert len(illustrate_evidence(run, ["codes"])) == 1
    assert said[0].startswith("Digits in each component")
    assert "k-means" not in said[0]
