"""The jackknife-corrected importance bound, where ln p(x) is known and where one weight dominates.

Nowozin 2018, Debiasing evidence approximations.
"""

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import linear_gaussian, marginal, no_label
from torch import Tensor

from vaexp.evaluation import bounds
from vaexp.evaluation.bounds import iw_measures
from vaexp.evaluation.jackknife import jackknifed
from vaexp.models import VAE
from vaexp.runs.folder import RunFolder

D = 6
TWO = (1.5, 0.6)  # the lengths of W's columns


def images(model: VAE, n: int) -> Tensor:
    """From the model itself, a little too wide."""
    torch.manual_seed(2)
    with torch.no_grad():
        z = torch.randn(n, model.latent_dim, dtype=torch.float64)
        return 1.2 * model.decode(z).sample()


def written_out(w: Tensor) -> Tensor:
    """K L_K - (K-1) mean of L_(K-1), from weights (K, N), by leaving out one after the other."""
    k = len(w)
    left = [w[list(rows)].mean(0).log() for rows in combinations(range(k), k - 1)]
    return k * w.mean(0).log() - (k - 1) * torch.stack(left).mean(0)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_it_leaves_out_one_draw_after_the_other(k: int) -> None:
    torch.manual_seed(1)
    log_w = 2 * torch.randn(k, 50, dtype=torch.float64)
    assert torch.allclose(jackknifed(log_w), written_out(log_w.exp()), rtol=0, atol=1e-12)
    # a factor of all weights is a summand, and may be as small as a likelihood
    assert torch.allclose(jackknifed(log_w - 1e5) + 1e5, jackknifed(log_w), rtol=0, atol=1e-9)


def test_one_draw_cannot_be_corrected() -> None:
    log_w = torch.tensor([[-3.0, 7.0]]).double()
    assert torch.equal(jackknifed(log_w), log_w[0])


@pytest.mark.parametrize("gap", [10.0, 40.0, 1e3, 1e5])
def test_one_weight_may_dominate(gap: float) -> None:
    """The share of the others, K e^-gap, has no digits in 1 - p, and then not even a number.

    Of K equal weights and one that is e^gap as large, L_(K+1) = gap - ln(K+1) up to e^-gap; without
    the large one it is 0, and without one of the others gap - ln K.
    """
    k = 4
    log_w = torch.zeros(k + 1, 1, dtype=torch.float64)
    log_w[2] = gap
    whole = math.log1p((math.exp(gap) + k) / (k + 1) - 1) if gap < 50 else gap - math.log(k + 1)
    without = math.log(math.exp(gap) + k - 1) - math.log(k) if gap < 50 else gap - math.log(k)
    expected = (k + 1) * whole - k * (k * without + 0) / (k + 1)
    assert jackknifed(log_w).item() == pytest.approx(expected, rel=1e-13)


def test_equal_weights_need_no_correction() -> None:
    """With the exact posterior every weight is p(x), for any K."""
    model = linear_gaussian(D, TWO)
    x = images(model, 7)
    exact = marginal(model).log_prob(x)
    for k in (2, 7, 5000):
        found = iw_measures(model, x, no_label(x), k=k, jackknife=True)["iw_jackknife"]
        assert torch.allclose(found.values, exact, rtol=0, atol=1e-9)
        assert found.summary()["mc_se"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("k", "at_most"), [(2, 0.8), (5, 0.4), (20, 0.25)])
def test_its_bias_is_smaller_than_that_of_the_bound(k: int, at_most: float) -> None:
    """The encoder is wrong; over 100 sets of draws, where ln p(x) is known. Seeds are fixed.

    q is wide, so Var(w) is finite, and the error of the bound is of order 1/K with the known factor
    that the jackknife removes. The bound errs by 0.25 nats at K = 2 and by 0.02 at K = 20.
    """
    model = linear_gaussian(D, TWO, shift=0.0, stretch=1.6)
    x = images(model, 200)
    exact = marginal(model).log_prob(x).mean().item()
    found: dict[str, list[float]] = {"iw_bound": [], "iw_jackknife": []}
    for seed in range(100):
        torch.manual_seed(seed)
        for name, measure in iw_measures(model, x, no_label(x), k=k, jackknife=True).items():
            found[name].append(measure.values.mean().item() - exact)
    bias = {name: np.mean(values) for name, values in found.items()}
    error = {name: np.std(values, ddof=1) / 10 for name, values in found.items()}
    assert bias["iw_bound"] < -4 * error["iw_bound"]
    assert abs(bias["iw_jackknife"]) < at_most * abs(bias["iw_bound"])
    if k == 2:  # it is no lower bound
        assert bias["iw_jackknife"] > 4 * error["iw_jackknife"]


@pytest.mark.parametrize("k", [5, 40])
@pytest.mark.parametrize(
    ("columns", "sigma", "stretch"),
    [(TWO, 0.5, 1.6), (TWO, 0.5, 0.5), ((3.0, 2.0), 0.02, 0.3)],
    ids=["wide", "narrow", "narrowest"],
)
def test_the_monte_carlo_error_is_the_spread_of_repetitions(
    k: int, columns: tuple[float, ...], sigma: float, stretch: float
) -> None:
    """Tukey's error of the jackknife would be 0.7 of the spread where q misses much of p(z|x)."""
    model = linear_gaussian(D, columns, sigma, shift=0.0, stretch=stretch)
    x = images(model, 200)
    summaries = []
    for seed in range(40):
        torch.manual_seed(seed)
        summaries.append(
            iw_measures(model, x, no_label(x), k=k, jackknife=True)["iw_jackknife"].summary()
        )
    spread = np.std([one["value"] for one in summaries], ddof=1)
    stated = math.sqrt(np.mean([one["mc_se"] ** 2 for one in summaries]))
    assert 1 / 1.3 < stated / spread < 1.3


def test_it_is_an_estimate_of_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is ranked by it; many draws of many images are held for fewer images at once."""
    model = linear_gaussian(D, TWO, shift=0.3, stretch=1.6)
    x = images(model, 30)
    found = iw_measures(model, x, no_label(x), k=6, jackknife=True)
    assert found["iw_bound"].summary()["kind"] == "lower_bound"
    jackknife = found["iw_jackknife"].summary()
    assert jackknife["kind"] == "estimate"
    assert "tightness" not in jackknife
    assert not found["iw_jackknife"].headline
    for fact in ("k", "effective_samples", "share_below_10_effective_samples"):
        assert jackknife[fact] == found["iw_bound"].summary()[fact]

    monkeypatch.setattr(bounds, "WEIGHTS_PER_BLOCK", 6 * 7)
    seen: list[int] = []
    again = iw_measures(model, x, no_label(x), k=6, jackknife=True, on_images=seen.append)
    assert seen == [7, 7, 7, 7, 2]
    assert again["iw_jackknife"].values.shape == (30,)


def test_evaluate_measures_it_and_compare_shows_it(fixed: Path, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    done = invoke("evaluate", run, "--only", "iw", "-k", "8", "--images", "40", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    bound, jackknife = found["iw_bound"], found["iw_jackknife"]
    assert jackknife["value"] > bound["value"]
    assert (jackknife["kind"], jackknife["k"], jackknife["measure"]) == ("estimate", 8, "density")
    shown = invoke("compare", run, fixed).stdout
    assert "iw_jackknife (k = 8, nats, estimate)" in shown
    assert "Ranked by iw_jackknife" not in shown

    done = invoke("evaluate", run, "--only", "iw", "-k", "1", "--images", "40", "--json")
    assert json.loads(done.stdout)["iw_jackknife"] == {"value": None, "absent": bounds.ONE_DRAW}
    # the number of eight draws does not stand beside the reason why one draw has none
    assert "iw_jackknife" not in RunFolder(run).metrics()["test"]
    assert "iw_jackknife" not in RunFolder(run).per_example()
