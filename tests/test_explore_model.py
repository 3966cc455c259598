"""The inference in the browser against torch's. The script runs in node, as it does in a page."""

import json
import math
import re
import shutil
import subprocess
from typing import Any, cast

import pytest
import torch
from small_models import rough_vae
from torch import Tensor

from vaexp.config.likelihoods import LIKELIHOODS
from vaexp.config.sigma import SIGMA_MODES
from vaexp.data import Transform
from vaexp.explore.describe import described
from vaexp.explore.packing import Packing
from vaexp.explore.script import engine
from vaexp.models import Model
from vaexp.models.fa import FA
from vaexp.models.networks import ACTIVATIONS
from vaexp.models.ppca import PPCA
from vaexp.models.vae import VAE

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node, which runs the script, is not here")

PIXELS, LATENTS, IMAGES, DRAWS = 29, 3, 1_000, 4_000

DRIVER = """
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
unpack(given.model, given.text).then((model) => {
  const random = randomFrom(1);
  const flat = (values) => Array.from(values);
  const digit = (i) => (model.classes ? i % model.classes : null);
  const decoded = given.z.map((z, i) => decode(model, LIKELIHOODS, z, digit(i)));
  const coded = given.x.map((x, i) => encode(model, x, digit(i)));
  const near = given.z.map((z, i) => decoded[i].logProb(given.x[i]));
  const first = decoded[0];
  const other = first.withSigma && first.withSigma(0.3);
  console.log(JSON.stringify({
    mean: decoded.map((p) => flat(p.mean)),
    deviation: decoded.map((p) => flat(p.deviation)),
    logProb: near,
    draws: Array.from({ length: given.draws }, () => flat(first.draw(random))),
    atSigma: other && other.logProb(given.x[0]),
    posterior: coded.map((q) => flat(q.mean)),
    root: coded.map((q) => flat(q.root)),
    rate: coded.map(rate),
    latents: Array.from({ length: given.draws }, () => flat(drawLatent(coded[0], random))),
    spread: covariance(coded[0], 0, 1),
  }));
});
"""


NO_NUMBER = """
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
unpack(given.model, given.text).then((model) => {
  const p = decode(model, LIKELIHOODS, [NaN, 0, 0], null);
  console.log(JSON.stringify({ count: p.draw(randomFrom(1)).filter(Number.isNaN).length }));
});
"""


MEASURES = """
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
unpack(given.model, given.text).then((model) => {
  const images = given.pixels.map((pixels) => ({ pixels, digit: null }));
  const all = measured({ transform: "scale", model }, images, LIKELIHOODS);
  const one = elboOf({ model }, all[0].x, null, 0.3, LIKELIHOODS);
  console.log(JSON.stringify({
    own: meanElbo(all, null), byHand: meanElbo(all, 0.3), rmse: rootMeanSquare(all),
    rates: latentRates(all, model.latent), spread: spreadOfCodes(all, 1), one,
    outside: outside([-0.1, 0, 0.5, 1, 1.1]),
  }));
});
"""

STATIC = """
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const x = given.map((pixels) => Array.from(ofPixels("binarize_static", pixels, null)));
console.log(JSON.stringify(x));
"""


def run(model: Model, z: Tensor, x: Tensor, draws: int = 1) -> dict[str, Any]:
    """What the script says of a model: everything of decode(z) and encode(x), row by row."""
    answer = answered(model, DRIVER, z=z.tolist(), x=x.tolist(), draws=draws)
    return {
        key: None if value is None else torch.tensor(value, dtype=torch.float64)
        for key, value in answer.items()
    }


def answered(model: Model, driver: str, **given: Any) -> dict[str, Any]:
    """What a driver prints that is given a model and more."""
    packing = Packing()
    own = described(model, 1.0, packing.put)
    described_model = {"model": own, "text": packing.text()}
    answer: dict[str, Any] = said([own["head"]["family"]], driver, {**described_model, **given})
    return answer


def said(families: list[str], driver: str, given: Any) -> Any:
    """What a driver prints that is given something, behind the script with some likelihoods."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, "-e", engine(families) + driver],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def images(family: str, count: int) -> Tensor:
    """Images on which the likelihood is defined."""
    grey = torch.rand(count, PIXELS)
    return on_levels(family, grey) if LIKELIHOODS[family].measure == "mass" else grey


def on_levels(family: str, x: Tensor) -> Tensor:
    """Every pixel at the nearest value that has a mass."""
    top = 1 if LIKELIHOODS[family].on == "binary pixels" else 255
    return (x * top).round() / top


def close(found: Tensor, wanted: Tensor, relative: float = 1e-4, absolute: float = 1e-4) -> None:
    torch.testing.assert_close(found, wanted.double(), rtol=relative, atol=absolute)


CASES = [
    (name, mode)
    for name, family in LIKELIHOODS.items()
    for mode, shape in SIGMA_MODES.items()
    if (family.sigma or mode == "fixed") and (family.factors or not shape.factors)
]


@pytest.mark.parametrize(("family", "mode"), CASES)
@torch.no_grad()
def test_a_likelihood_is_that_of_torch(family: str, mode: str) -> None:
    noise = {"sigma_mode": mode, "sigma": 0.2} if LIKELIHOODS[family].sigma else {}
    factors = {"factors": 3} if SIGMA_MODES[mode].factors and noise else {}
    keys = {"likelihood": family, "latent_dim": LATENTS, "conditional": True, **noise, **factors}
    model = rough_vae(PIXELS, 0.5, **keys)
    z, x, label = torch.randn(IMAGES, LATENTS), images(family, IMAGES), torch.arange(IMAGES) % 10
    found = run(model, z, x, DRAWS)
    p, q = model.decode(z, label).double(), model.encode(x, label)
    assert (found["mean"] - p.mean).abs().max() < 1e-4
    close(found["deviation"], p.variance.sqrt())
    close(found["logProb"], p.log_prob(x.double()))
    close(found["posterior"], q.mean)
    close(found["root"], q.stddev)
    close(found["rate"], torch.distributions.kl_divergence(q, model.prior()))
    at = model.decode(z[:1], label[:1]).double()
    assert (found["atSigma"] is not None) == LIKELIHOODS[family].sigma
    if found["atSigma"] is not None:
        sigma = torch.full((1, PIXELS), 0.3)
        close(found["atSigma"], cast(Tensor, at.log_prob_at_sigmas(x[:1], sigma))[0, 0])
    assert_drawn_from(at.mean[0], at.variance[0].sqrt(), found["draws"])
    if LIKELIHOODS[family].on != "all numbers":
        assert found["draws"].min() >= 0
        assert found["draws"].max() <= 1
    if LIKELIHOODS[family].measure == "mass":
        close(found["draws"], on_levels(family, found["draws"]), absolute=1e-6)


def assert_drawn_from(mean: Tensor, deviation: Tensor, draws: Tensor) -> None:
    """The mean of n draws is within 5 of its standard errors, and their deviation is about right.

    A pixel that is nearly always the same has too few other draws to tell its deviation.
    """
    error = 5 * deviation / len(draws) ** 0.5
    assert ((draws.mean(0) - mean).abs() < error + 1e-3 * (deviation < 0.05)).all()
    seen = deviation > 0.05
    assert (draws.std(0)[seen] / deviation[seen] - 1).abs().max() < 0.15


@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_an_activation_is_that_of_torch(activation: str) -> None:
    model = rough_vae(PIXELS, 0.5, activation=activation, hidden=[11, 7], latent_dim=LATENTS)
    z, x = torch.randn(IMAGES, LATENTS), torch.rand(IMAGES, PIXELS)
    found = run(model, z, x)
    assert (found["mean"] - model.decode(z).mean).abs().max() < 1e-4
    close(found["posterior"], model.encode(x).mean)


def test_why_beta_is_no_choice_of_sigma_is_said_in_a_sentence_each() -> None:
    cases: list[tuple[dict[str, Any], float]] = [
        ({"likelihood": "bernoulli"}, 1),
        ({"sigma_mode": "pixel"}, 1),
        ({}, 0),
        ({"likelihood": "truncated_gaussian"}, 2),
    ]
    models = [
        described(rough_vae(PIXELS, 0.0, **keys), beta, Packing().put) for keys, beta in cases
    ]
    assert all(one["implied"] is None for one in models)
    reasons = [one["noImplied"] for one in models]
    assert len(set(reasons)) == len(cases)
    assert all(re.fullmatch(r"[A-Z][^:;_]+\.", reason) for reason in reasons)
    fixed = described(rough_vae(PIXELS, 0.0, sigma=0.2), 4, Packing().put)
    assert fixed["implied"] == pytest.approx(0.4)
    assert fixed["noImplied"] == ""


@torch.no_grad()
def test_means_far_outside_of_a_bounded_range_stay_in_it() -> None:
    for family in ("truncated_gaussian", "discretized_logistic", "continuous_bernoulli"):
        model = rough_vae(PIXELS, 5.0, likelihood=family, latent_dim=LATENTS)
        z = 4 * torch.randn(100, LATENTS)
        found = run(model, z, images(family, 100))
        assert found["mean"].min() >= 0
        assert found["mean"].max() <= 1
        close(found["mean"], model.decode(z).double().mean, absolute=1e-4)
        assert found["logProb"].isfinite().all()


@torch.no_grad()
def test_a_draw_ends_where_the_model_gives_no_number() -> None:
    """Draws by rejection would never be accepted, and the tab would hang."""
    model = rough_vae(PIXELS, 0.5, likelihood="truncated_gaussian", latent_dim=LATENTS)
    assert answered(model, NO_NUMBER) == {"count": PIXELS}


@pytest.mark.parametrize("kind", [PPCA, FA])
@torch.no_grad()
def test_a_linear_gaussian_model_is_that_of_torch(kind: type[PPCA] | type[FA]) -> None:
    factors = torch.randn(PIXELS, LATENTS, dtype=torch.float64)
    noise = 0.05 + torch.rand(PIXELS if kind is FA else 1, dtype=torch.float64)
    mean = torch.rand(PIXELS, dtype=torch.float64)
    model = kind(mean, factors, noise if kind is FA else noise[0])
    z, x = torch.randn(IMAGES, LATENTS), torch.rand(IMAGES, PIXELS)
    found = run(model, z, x, DRAWS)
    p, q = model.decode(z), model.encode(x)
    close(found["mean"], p.mean)
    close(found["deviation"], p.variance.sqrt())
    close(found["logProb"], p.log_prob(x.double()))
    close(found["posterior"], q.mean)
    close(found["root"][0].view(LATENTS, LATENTS), model.posterior_root)
    close(found["rate"], torch.distributions.kl_divergence(q, model.prior()))
    sample = torch.cov(found["latents"].T)
    exact = model.posterior_root @ model.posterior_root.T
    assert (sample - exact).abs().max() < 5 * exact.diagonal().max() / DRAWS**0.5
    close(found["spread"], exact[0, 1])


@torch.no_grad()
def test_a_network_of_the_size_of_the_quickstart_is_within_a_thousandth_of_torch() -> None:
    """Large tensors are rounded to float16, so this is the whole way from a run to a page."""
    torch.manual_seed(3)
    keys: dict[str, Any] = {"hidden": [512, 256], "activation": "gelu", "sigma_mode": "pixel"}
    model: VAE = rough_vae(784, 0.0, seed=3, conditional=True, sigma=0.3, **keys)
    z, x = torch.randn(IMAGES, 2), torch.rand(IMAGES, 784)
    found = run(model, z, x)
    p = model.decode(z, torch.arange(IMAGES) % 10)
    assert 0 < (found["mean"] - p.mean).abs().max() < 1e-3
    close(found["deviation"], p.variance.sqrt(), relative=1e-3, absolute=0)


def test_images_that_are_drawn_once_are_those_that_the_model_was_trained_on() -> None:
    """Each image has its own draws, and a page has the same as every other command."""
    pixels = torch.randint(0, 256, (200, 784), dtype=torch.uint8)
    pixels[:, ::3] = 0
    pixels[0] = 0
    drawn = torch.tensor(said([], STATIC, pixels.tolist()))
    assert torch.equal(drawn.float(), Transform("binarize_static")(pixels))


@torch.no_grad()
def test_the_measures_of_images_are_those_of_torch() -> None:
    """What has no draws is exact; the ELBO of a sigma by hand follows from the squared error."""
    model = rough_vae(PIXELS, 0.3, latent_dim=LATENTS, sigma_mode="global", sigma=0.4)
    pixels = torch.randint(0, 256, (50, PIXELS))
    found = answered(model, MEASURES, pixels=pixels.tolist())
    q = model.encode(pixels / 255)
    rates = torch.distributions.kl_divergence(q.base_dist, model.prior().base_dist).mean(0)
    assert found["rates"] == pytest.approx(rates.tolist(), rel=1e-4)
    assert found["own"]["rate"] == pytest.approx(float(rates.sum()), rel=1e-4)
    assert found["spread"] == pytest.approx(float(q.mean[:, 1].var(correction=0)), rel=1e-4)
    scales = {"own": float(model.likelihood.sigma_of(torch.empty(0))), "byHand": 0.3}
    for name, sigma in scales.items():
        log_prob = math.log(2 * math.pi * sigma**2) + (found["rmse"] / sigma) ** 2
        assert found[name]["distortion"] == pytest.approx(PIXELS / 2 * log_prob, rel=1e-4)
        terms = found[name]
        assert terms["elbo"] == pytest.approx(-terms["rate"] - terms["distortion"])
    first = torch.distributions.kl_divergence(q, model.prior())[0]
    assert found["one"]["rate"] == pytest.approx(float(first), rel=1e-4)
    assert found["one"]["distortion"] == pytest.approx(found["byHand"]["distortion"], rel=0.5)
    assert found["outside"] == pytest.approx(0.4)
