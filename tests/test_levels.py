"""Masses of the 256 grey levels: 60 digits, integrals of the densities, and sums over z."""

import json
import math
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from scipy.integrate import quad
from small_models import iw_bound, linear_gaussian, no_label, orthogonal_ppca, rough_vae
from torch import Tensor

from vaexp.data import Transform
from vaexp.evaluation.levels import DRAWS, IW_NAME, NAMES, level_masses, measure_iw
from vaexp.evaluation.subject import Subject
from vaexp.models import GMM, VAE, Model
from vaexp.models.absent import Absent, answered
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.likelihoods import Decoded
from vaexp.models.likelihoods.continuous_bernoulli import IndependentContinuousBernoulli
from vaexp.models.likelihoods.diagonal import DiagonalGaussian, log_normal_mass
from vaexp.models.likelihoods.discretized_logistic import DiscretizedLogistic
from vaexp.models.likelihoods.truncated_gaussian import TruncatedGaussian

DOUBLE = torch.float64
SCALE = Transform("scale")
GREY = ("scale", "dequantize", "logit")
LEVELS = torch.arange(256)[:, None]
MEANS = (-50.0, -1.0, -1e-3, 0.0, 0.1, 0.5, 254 / 255, 1.0, 1.3, 60.0)
SIGMAS = (1e-3, 1 / 255, 0.03, 1.0, 100.0)


def exact(mean: float, sigma: float, lower: float, upper: float) -> float:
    """Ln [Phi(b) - Phi(a)] with the digits that cancel."""
    with mpmath.workdps(60):
        a, b = (
            (mpmath.mpf(edge) - mpmath.mpf(mean)) / mpmath.mpf(sigma) for edge in (lower, upper)
        )
        a, b = (-b, -a) if a > 0 else (a, b)
        half = mpmath.mpf(1) / 2
        below, above = (half * mpmath.erfc(-edge / mpmath.sqrt(2)) for edge in (a, b))
        return float(mpmath.log(above - below))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("mean", MEANS)
def test_the_mass_of_a_normal_has_all_its_digits(mean: float, sigma: float) -> None:
    lower, upper = SCALE.edges(LEVELS[:, 0])
    found = log_normal_mass(torch.tensor(mean), torch.tensor(sigma, dtype=DOUBLE), lower, upper)
    m = torch.tensor(mean).item()  # the float32 that it was given
    for level in (0, 1, 2, 127, 128, 254, 255):
        expected = exact(m, sigma, lower[level].item(), upper[level].item())
        assert found[level].item() == pytest.approx(expected, rel=1e-9, abs=1e-12), level


def families() -> dict[str, Decoded]:
    """Distributions of 16 pixels, all of their means in or near [0, 1]."""
    torch.manual_seed(1)
    mean, sigma = torch.rand(16, dtype=DOUBLE) * 1.4 - 0.2, torch.rand(16, dtype=DOUBLE) + 0.01
    return {
        "gaussian": DiagonalGaussian(mean, sigma),
        "truncated": TruncatedGaussian(mean, sigma),
        "logistic": DiscretizedLogistic(mean, sigma),
        "continuous": IndependentContinuousBernoulli(40 * torch.randn(16, dtype=DOUBLE)),
        "flat": IndependentContinuousBernoulli(torch.zeros(16, dtype=DOUBLE)),
    }


def mass_of(p: Decoded, x: Tensor) -> Tensor | Absent:
    return p.log_mass(*SCALE.edges(SCALE.levels(x)))


def of_pixels(p: Decoded, transform: Transform = SCALE) -> Tensor:
    """Ln of the mass of every level of every pixel, (256, D), one pixel at a time."""
    lower, upper = (edge.squeeze(1) for edge in transform.edges(LEVELS))
    columns = []
    for pixel in range(p.event_shape[0]):
        everywhere = (torch.full((256, p.event_shape[0]), -math.inf, dtype=DOUBLE), None)
        own_lower = everywhere[0].clone()
        own_upper = torch.full_like(own_lower, math.inf)
        own_lower[:, pixel], own_upper[:, pixel] = lower, upper
        columns.append(p.log_mass(own_lower, own_upper))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("name", [name for name in families() if name != "logistic"])
def test_the_masses_of_all_levels_sum_to_one(name: str) -> None:
    masses = of_pixels(families()[name])
    assert masses.max() <= 1e-12
    total = masses.exp().sum(0)
    assert torch.allclose(total, torch.ones_like(total), rtol=1e-11)


@pytest.mark.parametrize("name", ["gaussian", "truncated", "continuous", "flat"])
def test_a_mass_is_the_integral_of_the_density(name: str) -> None:
    p = families()[name]
    masses = of_pixels(p)
    lower, upper = (edge.squeeze(1) for edge in SCALE.edges(LEVELS))

    def density(x: float, pixel: int) -> float:
        at = p.mean.clone()
        at[pixel] = x
        return float(p.pixel_log_prob(at)[pixel].exp())

    for level in (1, 60, 128, 254):
        for pixel in range(0, 16, 3):
            ends = lower[level].item(), upper[level].item()
            area = quad(density, *ends, args=(pixel,), epsabs=0, epsrel=1e-10)[0]
            if area > 1e-250:
                assert masses[level, pixel].item() == pytest.approx(math.log(area), abs=1e-7)


def test_that_of_a_discretised_logistic_is_its_own() -> None:
    p = DiscretizedLogistic(torch.rand(5, 16, dtype=DOUBLE), torch.tensor(0.1, dtype=DOUBLE))
    x = torch.randint(256, (5, 16)).double() / 255
    x[:, 0], x[:, 1] = 0, 1
    assert torch.allclose(answered(mass_of(p, x)), p.log_prob(x), rtol=1e-12)


@pytest.mark.parametrize("floor", [1e-3, 1e-6])
def test_no_floor_drives_it_above_0(floor: float) -> None:
    """The density of the same images grows by ln 1000 for each pixel."""
    x = torch.randint(256, (3, 16)).double() / 255
    p = DiagonalGaussian(x, torch.tensor(floor, dtype=DOUBLE))
    assert p.log_prob(x).min() > 16 * 5
    found = answered(mass_of(p, x))
    assert -0.9 < found.min() <= found.max() <= 0


# The levels and their edges


@pytest.mark.parametrize("name", GREY)
def test_x_lies_between_the_edges_of_its_level(name: Any) -> None:
    transform, pixels = Transform(name), torch.arange(256, dtype=torch.uint8).repeat(400, 1)
    torch.manual_seed(1)
    x = transform(pixels)
    levels = transform.levels(x)
    assert torch.equal(levels, pixels.long())
    lower, upper = transform.edges(levels)
    assert (lower <= x + 1e-6).all()
    assert (x <= upper + 1e-6).all()
    assert torch.equal(upper[0, :-1], lower[0, 1:])
    assert lower[0, 0] == -math.inf
    assert upper[0, 255] == math.inf


def test_noise_of_0_stays_in_its_level() -> None:
    """The lowest x of each level, whose logit is rounded to either side of the edge."""
    lower = torch.arange(256) / 256
    x = Transform("logit")._of_unit(lower.double()).float()
    assert torch.equal(Transform("logit").levels(x), torch.arange(256))


@pytest.mark.parametrize("name", ["binarize", "binarize_stochastic"])
def test_black_and_white_images_have_none(name: Any) -> None:
    x = torch.zeros(3, 16)
    with pytest.raises(ValueError, match="no grey levels"):
        Transform(name).edges(torch.zeros(3))
    for model in (rough_vae(16, 0.1), orthogonal_ppca(16, (2.0,), 0.3)):
        found = level_masses(model, x, no_label(x), Transform(name))
        assert set(found.absent) == set(NAMES)
        assert "black and white" in found.absent["elbo_levels"]


# The bounds


def grey(n: int, d: int) -> Tensor:
    torch.manual_seed(4)
    return torch.randint(256, (n, d)).double() / 255


def subject(model: Model, x: Tensor, k: int, transform: Transform = SCALE) -> Subject[Model]:
    return Subject(
        model=model,
        x=x,
        label=no_label(x),
        train=lambda: iter([]),
        validation=lambda: None,
        transform=transform,
        shape=(1, x.shape[1]),
        digits=False,
        beta=1.0,
        floor=1e-3,
        unbounded=False,
        importance_samples=k,
        on_images=lambda _: None,
    )


def log_mass_by_summation(model: Model, x: Tensor) -> Tensor:
    """Ln of the integral over one latent of p(z) P(levels|z): a sum over a fine grid, (N,)."""
    z = torch.linspace(-9, 9, 4_001, dtype=DOUBLE)[:, None]
    p = model.decode(z)
    sigma = p.variance.sqrt()
    lower, upper = SCALE.edges(SCALE.levels(x))
    masses = [
        log_normal_mass(p.mean, sigma, *edges).sum(1) for edges in zip(lower, upper, strict=True)
    ]
    joint = torch.stack(masses) + torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0])
    return joint.logsumexp(1) + math.log(18 / 4_000)


@pytest.mark.parametrize("kind", ["vae", "ppca"])
@torch.no_grad()
def test_the_bounds_lie_below_the_mass_and_reach_it(kind: str) -> None:
    columns, sigma = (0.8,), 0.3
    model: Model = (
        linear_gaussian(6, columns, sigma) if kind == "vae" else orthogonal_ppca(6, columns, sigma)
    )
    x = grey(40, 6)
    expected = log_mass_by_summation(model, x).mean().item()
    torch.manual_seed(2)
    elbo = level_masses(model, x, no_label(x), SCALE).entries["elbo_levels"].summary()
    assert (elbo["kind"], elbo["measure"], elbo["on"]) == ("lower_bound", "mass", "grey levels")
    assert elbo["value"] < expected + 4 * elbo["mc_se"]
    # q is the posterior of the density, which is nearly that of the mass: sigma is 76 levels
    assert elbo["value"] == pytest.approx(expected, abs=4 * elbo["mc_se"] + 0.01)
    bound = measure_iw(subject(model, x, 2_000)).entries[IW_NAME].summary()
    assert bound["value"] == pytest.approx(expected, abs=0.002)
    assert bound["k"] == 2_000
    assert bound["scope"] == "any_transform"


@torch.no_grad()
def test_a_fine_sigma_has_another_posterior() -> None:
    """sigma = 1/1000: the ELBO of the mass is far below it, and many samples come nearer."""
    model = linear_gaussian(3, (0.8,), 1e-3)
    x = SCALE.levels(model.decode(torch.randn(60, 1, dtype=DOUBLE)).mean.clamp(0, 1)) / 255
    x = x.double()
    expected = log_mass_by_summation(model, x)
    bounds = [measure_iw(subject(model, x, k)).entries[IW_NAME].values for k in (2, 50, 1_000)]
    kept = expected > -500  # x outside of what the line of mu(z) can reach says nothing here
    assert kept.sum() > 5
    means = [bound[kept].mean() for bound in bounds]
    assert means[0] < means[1] < means[2] < expected[kept].mean() + 0.5


@pytest.mark.parametrize("transform", GREY)
@pytest.mark.parametrize("family", [Diag, Spherical])
@torch.no_grad()
def test_that_of_a_mixture_is_exact(family: Any, transform: Any) -> None:
    torch.manual_seed(1)
    variances = torch.rand(3, 5) + 0.01 if family is Diag else torch.rand(3) + 0.01
    model = GMM(torch.tensor([0.2, 0.3, 0.5]), family(torch.randn(3, 5), variances))
    of = Transform(transform)
    x = of(torch.randint(256, (700, 5), dtype=torch.uint8))
    lower, upper = of.edges(of.levels(x))
    parts = [
        model.weight[k].double().log()
        + log_normal_mass(
            model.gaussians.mean[k], model.gaussians.variance()[k].sqrt(), lower, upper
        ).sum(1)
        for k in range(3)
    ]
    found = level_masses(model, x, no_label(x), of).entries
    for name, kind in (("log_prob_levels", "exact"), ("elbo_levels", "lower_bound")):
        assert found[name].kind == kind
        assert torch.allclose(found[name].values, torch.stack(parts).logsumexp(0), rtol=1e-10)


def test_what_has_no_closed_form_is_absent() -> None:
    x = grey(4, 5)
    full = GMM(torch.ones(1), Full(torch.zeros(1, 5), torch.eye(5)[None]))
    lowrank = rough_vae(5, 0.1, sigma_mode="lowrank", factors=2, sigma=0.3)
    for model, reason in ((full, "given the component"), (lowrank, "factors")):
        found = level_masses(model, x.float(), no_label(x), SCALE)
        assert not found.entries
        assert all(reason in why for why in found.absent.values())
    assert "factors" in measure_iw(subject(lowrank, x.float(), 5)).absent[IW_NAME]
    assert "log_prob_levels" in measure_iw(subject(full, x.float(), 5)).absent[IW_NAME]
    bernoulli = rough_vae(5, 0.1, likelihood="bernoulli")
    p = bernoulli.decode(torch.zeros(4, 2))
    assert isinstance(mass_of(p, x.float()), Absent)


@torch.no_grad()
def test_the_errors_are_the_spread_over_draws() -> None:
    """The spread of 100 repetitions has a relative error of 7 %; it must agree within 25 %."""
    model, x = rough_vae(6, 0.3, sigma=0.3), grey(20, 6).float()
    found = []
    for seed in range(100):
        torch.manual_seed(seed)
        found.append(level_masses(model, x, no_label(x), SCALE).entries["elbo_levels"].summary())
    spread = torch.tensor([one["value"] for one in found], dtype=DOUBLE).std().item()
    stated = sum(one["mc_se"] ** 2 for one in found) / len(found)
    assert found[0]["draws"] == DRAWS
    assert spread == pytest.approx(math.sqrt(stated), rel=0.25)


def test_other_likelihoods_do_not_change_the_bound_itself() -> None:
    model, x = rough_vae(6, 0.3), grey(20, 6).float()
    assert isinstance(model, VAE)
    torch.manual_seed(3)
    own = iw_bound(model, x, no_label(x), k=7)
    torch.manual_seed(3)
    shifted = iw_bound(
        model, x, no_label(x), k=7, log_likelihood=lambda p, x: p.log_prob(x).double() - 5
    )
    assert torch.allclose(own.values - 5, shifted.values, atol=1e-4)


# On runs


def test_a_gaussian_is_ranked_with_a_discretised_logistic(
    invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        "model: {{kind: vae, hidden: [16], sigma: 0.3, sigma_mode: global, likelihood: {}}}\n"
        "data: {{limit: 256, validation_size: 500, labels: [4, 9]}}\n"
        "train: {{epochs: 1}}\nevaluate: {{importance_samples: 0}}\n"
    )
    runs = []
    for name in ("gaussian", "discretized_logistic"):
        Path(f"{name}.yaml").write_text(text.format(name))
        done = invoke("train", f"{name}.yaml")
        assert done.exit_code == 0, done.stderr
        runs.append(Path(done.stdout.strip()))
        done = invoke("evaluate", runs[-1], "--only", "levels", "--images", 200)
        assert done.exit_code == 0, done.stderr
    gaussian, logistic = (json.loads((run / "metrics.json").read_text())["test"] for run in runs)
    entry = gaussian["elbo_levels"]
    assert (entry["measure"], entry["of"], entry["on"]) == ("mass", "x given label", "grey levels")
    assert not {"sigma_floor", "sigma", "unbounded"} & entry.keys()
    bits = gaussian["elbo_levels_bits_per_dim"]
    assert bits["value"] == pytest.approx(-entry["value"] / 784 / math.log(2))
    assert bits["kind"] == "upper_bound"
    # the mass of a logistic is its ln p(x|z)
    own = logistic["elbo_levels"]
    assert own["tightness"] == logistic["elbo"]["tightness"] == 1
    compared = json.loads(invoke("compare", *runs, "--json").stdout)
    [ranking] = compared["rankings"]
    assert ranking["metric"] == "elbo_levels"
    assert len(ranking["order"]) == 2
    assert compared["differences"]["elbo"][0]["refused"] is not None
