"""The posterior-weighted mean of training images, where it has a closed form."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import (
    digits_apart,
    in_blocks,
    initial_gmm,
    linear_gaussian,
    linear_vae,
    no_label,
    orthogonal_ppca,
    set_posterior,
)
from small_models import e_step as e_step_of
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from vaexp.evaluation import aggregate as module
from vaexp.evaluation import optimal_mean as group
from vaexp.evaluation.aggregate import Aggregate, Average, Posteriors
from vaexp.evaluation.optimal_mean import averages_of_components, averages_of_vectors, optimal_mean
from vaexp.figures.evidence import About
from vaexp.figures.evidence.optimal_mean import draw
from vaexp.fitting.gmm import m_step
from vaexp.models import VAE
from vaexp.runs.folder import RunFolder

D = 6
COLUMNS = (1.5, 0.6)


def two_images(scale: float, apart: float = 2.0) -> tuple[VAE, Tensor]:
    """Two images whose posteriors are N(-+apart / 2, scale^2)."""
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    model = linear_vae(2, 1).double()
    weight = torch.tensor([[apart, 0.0]], dtype=torch.float64)
    bias = torch.tensor([-apart / 2], dtype=torch.float64)
    return set_posterior(model, weight, bias, [scale]), x


def at(aggregate: Aggregate, z: Tensor, label: Tensor | None = None) -> Average:
    label = no_label(z) if label is None else label
    with torch.no_grad():
        return aggregate.average(z, label, aggregate.log_prob(z, label))


# The aggregated posterior


def test_posteriors_are_torchs() -> None:
    torch.manual_seed(1)
    mean, scale = torch.randn(7, 3).double(), torch.rand(7, 3).double() + 0.1
    z = torch.randn(4, 3).double()
    expected = Normal(mean, scale).log_prob(z[:, None]).sum(-1)
    assert torch.allclose(Posteriors(mean, scale).log_prob(z), expected, rtol=0, atol=1e-11)
    assert torch.allclose(Posteriors(mean, scale).log_prob(z, slice(2, 5)), expected[:, 2:5])


@pytest.mark.parametrize("kind", ["vae", "ppca"])
def test_the_density_is_that_of_the_mixture_of_posteriors(kind: str, monkeypatch: Any) -> None:
    """pPCA with factors that are not orthogonal has a posterior with correlations."""
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 3)
    torch.manual_seed(1)
    x, z = torch.randn(150, D).double(), torch.randn(8, 2).double()
    if kind == "vae":
        model: Any = linear_gaussian(D, COLUMNS, stretch=1.3).requires_grad_(False)
        q = model.encode(x)
        each = Normal(q.mean, q.stddev).log_prob(z[:, None]).sum(-1)
    else:
        model = orthogonal_ppca(D, COLUMNS, 0.7)
        model.factors.copy_(model.factors @ torch.tensor([[1.0, 0.8], [0.0, 1.0]]).double())
        assert not model.independent_latents
        q = model.encode(x)
        each = MultivariateNormal(q.mean, q.covariance_matrix).log_prob(z[:, None])
    aggregate = Aggregate(model, lambda: in_blocks(x))
    expected = each.logsumexp(1) - math.log(150)
    assert torch.allclose(aggregate.log_prob(z, no_label(z)), expected, rtol=0, atol=1e-10)
    share, found = each.softmax(1), at(aggregate, z)
    assert torch.allclose(found.images, 1 / share.square().sum(1), rtol=1e-9)
    assert torch.allclose(found.mean, share @ x, rtol=0, atol=1e-10)


def test_codes_are_draws_of_their_own_posterior() -> None:
    model = orthogonal_ppca(D, COLUMNS, 0.7)
    model.factors.copy_(model.factors @ torch.tensor([[1.0, 0.8], [0.0, 1.0]]).double())
    x = torch.randn(3, D).double()
    torch.manual_seed(2)
    z = Aggregate(model, lambda: in_blocks(x)).codes(torch.ones(40_000, dtype=torch.int64))
    q = model.encode(x[1])
    assert torch.allclose(z.mean(0), q.mean, atol=4 * 0.005)
    assert torch.allclose(z.T.cov(), q.covariance_matrix, atol=0.02)


# mu*(z)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_two_images_are_mixed_by_a_logistic_function(scale: float) -> None:
    """w_2 / (w_1 + w_2) = 1 / (1 + exp(-apart z / scale^2))."""
    model, x = two_images(scale)
    aggregate = Aggregate(model, lambda: in_blocks(x))
    z = torch.linspace(-3, 3, 13).double()[:, None]
    share = torch.sigmoid(2 * z / scale**2)
    found = at(aggregate, z)
    assert torch.allclose(found.mean, (1 - share) * x[0] + share * x[1], atol=1e-12)
    assert torch.allclose(
        found.images, 1 / (share.square() + (1 - share).square())[:, 0], rtol=1e-9
    )


def test_far_from_all_codes_it_is_the_nearest_image() -> None:
    """There q(z|x) is e^-(10^12) of every image, and no sum of such numbers is one."""
    model, x = two_images(1e-4)
    aggregate = Aggregate(model, lambda: in_blocks(x))
    z = torch.tensor([[-200.0], [200.0]]).double()
    assert torch.allclose(at(aggregate, z).mean, x, rtol=0, atol=1e-12)
    assert at(aggregate, z).images.tolist() == pytest.approx([1, 1])


def test_blocks_of_images_and_of_z_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = linear_gaussian(D, COLUMNS)
    x, z = torch.randn(100, D).double(), torch.randn(50, 2).double()
    whole = at(Aggregate(model, lambda: in_blocks(x, size=100)), z).mean
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 2)
    parts = at(Aggregate(model, lambda: in_blocks(x, size=7)), z).mean
    assert torch.allclose(whole, parts, rtol=0, atol=1e-12)


def test_of_a_conditional_model_it_is_of_the_images_with_that_label() -> None:
    torch.manual_seed(1)
    model = linear_gaussian(D, COLUMNS, by_label=torch.randn(3, D))
    x, label = torch.randn(90, D).double(), torch.arange(90) % 2
    together = Aggregate(model, lambda: in_blocks(x, label))
    z = torch.randn(20, 2).double()
    asked = torch.arange(20) % 2
    found, log_prob = at(together, z, asked).mean, together.log_prob(z, asked)
    for one in (0, 1):
        own = label == one
        alone = Aggregate(model, lambda own=own: in_blocks(x[own], label[own]))  # type: ignore[misc]
        rows = asked == one
        assert torch.allclose(found[rows], at(alone, z[rows], asked[rows]).mean, atol=1e-12)
        expected = alone.log_prob(z[rows], asked[rows])
        assert torch.allclose(log_prob[rows], expected, atol=1e-12)


def test_of_images_from_a_linear_model_it_is_the_mean_of_that_model() -> None:
    """sum p(z|x) x / sum p(z|x) over x ~ p(x) is E[x|z] = W z + b. The average is of so many
    images that its error follows from the noise sigma and the spread of the other codes."""
    model = linear_gaussian(D, COLUMNS)
    gaps = []
    for n in (500, 20_000):
        torch.manual_seed(3)
        with torch.no_grad():
            x = model.decode(torch.randn(n, 2).double()).sample()
        torch.manual_seed(4)
        average = averages_of_vectors(
            model, Aggregate(model, lambda x=x: in_blocks(x)), x[:500], no_label(x[:500])
        )
        found, _ = optimal_mean(model, lambda x=x: in_blocks(x), average)
        gaps.append(found["optimal_mean_gap_codes"].value)
    assert gaps[1] < 0.06 < gaps[0] < 0.3
    assert gaps[1] < gaps[0] / 3  # by chance alone it falls as 1 / sqrt(n): by 6.3


@pytest.mark.parametrize("conditional", [False, True])
def test_no_decoder_is_better_and_the_error_of_another_is_larger_by_the_gap(
    conditional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E |x - mu(z)|^2 = E |x - mu*(z)|^2 + E |mu(z) - mu*(z)|^2 over n and z ~ q(z|x_n)."""
    monkeypatch.setattr(group, "DRAWS", 20_000)
    x, label = digits_apart(300, D, 1.0)
    by_label = torch.randn(10, D) if conditional else None
    model = linear_gaussian(D, COLUMNS, stretch=2.0, by_label=by_label)
    torch.manual_seed(5)
    train = lambda: in_blocks(x, label)  # noqa: E731
    found, by_digit = optimal_mean(
        model, train, averages_of_vectors(model, Aggregate(model, train), x, label)
    )
    best, gap = found["rmse_optimal_mean"], found["optimal_mean_gap_codes"]
    learned = best.facts["rmse_of_learned_mean"]
    assert learned > best.value
    assert learned**2 == pytest.approx(best.value**2 + gap.value**2, rel=0.03)
    assert len(by_digit) == 10
    together = np.mean([*by_digit.values()])
    assert math.sqrt(together) == pytest.approx(found["optimal_mean_gap_prior"].value, rel=0.05)


def test_the_errors_are_the_spread_of_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "DRAWS", 200)
    x, label = digits_apart(300, D, 1.0)
    model = linear_gaussian(D, COLUMNS, stretch=2.0)
    train = lambda: in_blocks(x, label)  # noqa: E731
    average = averages_of_vectors(model, Aggregate(model, train), x, label)
    each = []
    for seed in range(40):
        torch.manual_seed(seed)
        each.append(optimal_mean(model, train, average)[0])
    for name in each[0]:
        spread = np.std([one[name].value for one in each], ddof=1)
        stated = math.sqrt(np.mean([(one[name].se or 0) ** 2 for one in each]))
        assert 1 / 1.35 < stated / spread < 1.35, name


# Mixtures


def test_of_a_mixture_it_is_the_m_step() -> None:
    x, label = digits_apart(300, D, 1.0)
    model = initial_gmm(x, label % 4, 4, "diag", factors=0, floor=1e-3)
    updated = m_step(e_step_of(model, x), model, 1e-3)
    average = averages_of_components(model, lambda: in_blocks(x, label))
    found, outside = average(torch.arange(4), torch.zeros(4))
    assert torch.allclose(found.mean, updated.gaussians.mean.double(), rtol=0, atol=1e-9)
    r = model.encode(x).probs
    assert torch.allclose(found.images, r.sum(0).square() / r.square().sum(0), rtol=1e-9)
    assert outside is None


def test_where_em_has_converged_there_is_no_gap() -> None:
    x, label = digits_apart(300, D, 4.0)
    model = initial_gmm(x, label, 10, "diag", factors=0, floor=1e-3)
    gaps = []
    for steps in (0, 200):
        for _ in range(steps):
            model = m_step(e_step_of(model, x), model, 1e-3)
        train = lambda: in_blocks(x, label)  # noqa: E731
        found, _ = optimal_mean(model, train, averages_of_components(model, train))
        gaps.append(found["optimal_mean_gap_codes"].value)
    assert gaps[1] < 1e-6 < gaps[0]


# The command and the picture


def test_evaluate_measures_and_draws_it(fixed: Path, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    done = invoke("evaluate", run, "--only", "optimal_mean", "--json")
    assert done.exit_code == 0, done.stderr
    assert f"figure {run}/figures/evidence-optimal_mean.png" in done.stderr
    found = json.loads(done.stdout)
    assert found["optimal_mean_gap_prior"]["n"] == group.DRAWS
    assert found["images_averaged_codes"]["value"] >= 1
    # no mean has a smaller error with this encoder
    best = found["rmse_optimal_mean"]
    assert best["value"] < best["rmse_of_learned_mean"]
    arrays = RunFolder(run).evidence("optimal_mean")
    assert arrays["optimal"].shape == arrays["learned"].shape == (2, 13, 13, 784)
    assert len(set(arrays["labels"])) == 2
    assert 0 <= arrays["optimal"].min() < arrays["optimal"].max() <= 1 + 1e-6
    shown = invoke("compare", run, fixed).stdout
    assert "The learned mean and the best one" in shown


def entries(**more: float) -> dict[str, dict[str, Any]]:
    gap = {"value": 0.11, "n": 1000, **more}
    return {
        "optimal_mean_gap_prior": gap,
        "optimal_mean_gap_codes": gap,
        "images_averaged_codes": {"value": 31.4, "n": 1000},
    }


def test_the_picture_has_z_1_across_and_z_2_upwards_and_a_line_around_the_codes() -> None:
    grid = np.linspace(-1.5, 1.5, 4)
    optimal = np.zeros((1, 4, 4, 16))
    optimal[0, 0, 3] = 1.0  # z_1 = 1.5, z_2 = -1.5: the tile at the bottom right
    outside = np.ones((1, 4, 4), dtype=bool)
    outside[0, 0, 3] = False
    arrays = {
        "grid": grid, "optimal": optimal, "learned": np.zeros_like(optimal), "outside": outside
    }  # fmt: skip
    figure = draw(arrays, entries(share_outside=0.94), About("settings", 0.0, False, (4, 4)))
    best, learned, difference = figure.axes
    picture = np.asarray(best.images[0].get_array())
    assert picture[-4:, -4:].min() == 1
    assert picture.sum() == 16
    assert np.asarray(learned.images[0].get_array()).sum() == 0
    assert np.asarray(difference.images[0].get_array())[-1, -1] == -1
    (line,) = best.collections
    corners = {tuple(point) for segment in line.get_segments() for point in segment}
    assert corners == {(11.5, 11.5), (11.5, 15.5), (15.5, 11.5), (15.5, 15.5)}
    words = str(figure.get_label())
    assert "94.0% of z ~ p(z) lie outside of the region with 99 % of the codes" in words
    assert "an average of 31 images" in words


def test_the_picture_names_the_digits_and_needs_no_region() -> None:
    planes = np.random.default_rng(1).uniform(size=(2, 13, 13, 784))
    arrays = {
        "grid": np.linspace(-1.8, 1.8, 13), "optimal": planes, "learned": planes[::-1],
        "labels": np.array([4, 9]),
    }  # fmt: skip
    figure = draw(arrays, entries(), About("settings", 0.0, False, (28, 28)))
    assert len(figure.axes) == 6
    assert not any(axes.collections for axes in figure.axes)
    assert "digit 9: μ(z) − μ*(z)" in [text.get_text() for text in figure.texts]
    assert "lie outside of the region" not in str(figure.get_label())
