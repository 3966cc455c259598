"""The tilted prior against p(z) and q(z), by sums over a fine grid and by the spread over draws."""

import math
from typing import Any

import pytest
import torch
from small_models import no_label, rough_vae
from test_induced import VARYING, digits, images, small_vae
from torch import Tensor
from torch.distributions import Normal

from vaexp.evaluation.induced import induced
from vaexp.evaluation.tilt import AGGREGATE, TILTED, Tilt, tilt, tilts
from vaexp.models import VAE
from vaexp.models.absent import answered

AXIS = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
STEP = (AXIS[1] - AXIS[0]).item()


@torch.no_grad()
def on_axis(model: VAE, beta: float, label: int = 0) -> tuple[Tensor, Tensor]:
    """ln p(z) and ln Z(z) on the axis of one latent."""
    log_z = answered(model.decode(AXIS[:, None], torch.tensor(label)).tempered(beta)).log_z
    return Normal(0.0, 1.0).log_prob(AXIS), log_z


def expected_tilt(model: VAE, beta: float, label: int = 0) -> tuple[float, float]:
    """KL(p~ to p) and ln C."""
    log_p, log_z = on_axis(model, beta, label)
    log_c = (log_p + log_z).logsumexp(0) + math.log(STEP)
    weight = (log_p + log_z - log_c).exp() * STEP
    return (weight * (log_z - log_c)).sum().item(), log_c.item()


@torch.no_grad()
def expected_aggregate(model: VAE, x: Tensor, beta: float, label: int = 0) -> float:
    """KL(q(z) to p~) of images that share a label."""
    log_p, log_z = on_axis(model, beta, label)
    q = model.encode(x, torch.full((len(x),), label))
    of_each = Normal(q.mean[:, 0, None], q.stddev[:, 0, None]).log_prob(AXIS)
    log_q = of_each.logsumexp(0) - math.log(len(x))
    log_tilted = log_p + log_z - expected_tilt(model, beta, label)[1]
    return float((log_q.exp() * (log_q - log_tilted)).sum() * STEP)


@pytest.mark.parametrize("beta", [0.5, 4.0])
@pytest.mark.parametrize("family", VARYING)
def test_it_is_the_integral_over_one_latent(family: Any, beta: float) -> None:
    model = small_vae(1, **family)
    found = tilt(model, torch.tensor(0), beta, 5)
    kl, log_c = expected_tilt(model, beta)
    assert found.normaliser.method == "quadrature"
    assert found.kl == pytest.approx(kl, abs=1e-4 + found.error)
    assert found.error < 1e-3
    assert found.normaliser.log_value == pytest.approx(log_c, abs=1e-5)
    assert kl > 1e-4


def test_two_latents_are_two_of_one() -> None:
    """A decoder whose second latent does nothing: the tilt is that of the first alone."""
    one, two = small_vae(1, sigma_mode="pixel"), small_vae(2, sigma_mode="pixel")
    with torch.no_grad():
        for (name, a), (_, b) in zip(one.named_parameters(), two.named_parameters(), strict=True):
            if name == "decoder.0.weight":
                b[:, 0], b[:, 1] = a[:, 0], 0
            elif name.startswith(("decoder", "likelihood")):
                b.copy_(a)
    a, b = (tilt(model, torch.tensor(0), 3.0, 5) for model in (one, two))
    assert b.kl == pytest.approx(a.kl, abs=1e-4 + a.error + b.error)


@pytest.mark.parametrize("beta", [0.5, 4.0])
def test_of_a_model_given_the_label_both_are_means_over_labels(beta: float) -> None:
    model = small_vae(1, sigma_mode="shared", conditional=True)
    x, label = images(300, model), digits(300)
    found = tilts(model, x, label, beta=beta)[0].entries
    each = [4, 5, 6]
    shares = [(label == y).double().mean().item() for y in each]
    kl = sum(s * expected_tilt(model, beta, y)[0] for s, y in zip(shares, each, strict=True))
    assert found[TILTED].summary()["value"] == pytest.approx(kl, abs=1e-3)
    aggregate = sum(
        s * expected_aggregate(model, x[label == y], beta, y)
        for s, y in zip(shares, each, strict=True)
    )
    entry = found[AGGREGATE].summary()
    assert entry["value"] == pytest.approx(aggregate, abs=4 * entry["mc_se"] + 1e-3)


def test_at_beta_1_there_is_no_tilt() -> None:
    model = small_vae(1, sigma_mode="pixel")
    x = images(200, model)
    found = tilts(model, x, no_label(x), beta=1.0)[0].entries
    assert found[TILTED].summary()["value"] == 0
    assert found[TILTED].kind == "exact"
    entry = found[AGGREGATE].summary()
    expected = expected_aggregate(model, x, 1.0)
    assert entry["value"] == pytest.approx(expected, abs=4 * entry["mc_se"])


def test_it_stands_beside_the_same_log_c() -> None:
    model = small_vae(1, sigma_mode="pixel")
    x = images(20, model)
    own = induced(model, x, no_label(x), beta=2.0).entries["log_c"].summary()["value"]
    assert tilt(model, torch.tensor(0), 2.0, 5).normaliser.log_value == pytest.approx(own, abs=1e-9)


def test_a_mass_or_beta_0_has_none() -> None:
    x = torch.zeros(4, 6)
    logistic = rough_vae(6, 0.1, likelihood="discretized_logistic", sigma=0.3)
    for model, beta in ((logistic, 2.0), (rough_vae(6, 0.1), 0.0)):
        assert set(tilts(model, x, no_label(x), beta=beta)[0].absent) == {TILTED, AGGREGATE}


def test_the_errors_are_the_spread_over_draws() -> None:
    """Of 100 repetitions, whose spread has a relative error of 7 %: within 25 %."""
    model = small_vae(3, sigma_mode="shared")
    x = images(60, model)
    found: list[Tilt] = []
    entries = []
    for seed in range(100):
        torch.manual_seed(seed)
        found.append(tilt(model, torch.tensor(0), 2.0, 5))
        entries.append(tilts(model, x, no_label(x), beta=2.0)[0].entries)
    assert found[0].normaliser.effective_samples > 1_000
    spread = torch.tensor([one.kl for one in found]).double().std().item()
    stated = math.sqrt(sum(one.variance for one in found) / len(found))
    assert spread == pytest.approx(stated, rel=0.25)
    assert entries[0][TILTED].summary()["se"] == pytest.approx(stated, rel=0.2)
    of_aggregate = [one[AGGREGATE].summary() for one in entries]
    spread = torch.tensor([one["value"] for one in of_aggregate]).double().std().item()
    # the draws of z ~ q, and ln C, which all images share
    squares = [one["mc_se"] ** 2 + one["log_c_se"] ** 2 for one in of_aggregate]
    assert spread == pytest.approx(math.sqrt(sum(squares) / len(squares)), rel=0.25)
