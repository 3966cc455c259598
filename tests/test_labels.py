"""The label summed out: a bound on ln p(x), against the closed form, and the digits it reads."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from small_models import linear_gaussian, marginal, rough_vae

from vaexp.evaluation.labels import NAMES, labels_summed
from vaexp.evaluation.scope import Tightness

D, C = 6, 4
BY_LABEL = 0.7 * torch.randn(C, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
TRAIN = torch.tensor([0] * 50 + [1] * 30 + [3] * 20)  # label 2 does not occur
SHARES = {0: 0.5, 1: 0.3, 3: 0.2}


def model(**keys: float) -> Any:
    """p(x|y) = N(b + row y, W W^T + sigma^2 I); q(z|x, y) is exact unless ``keys`` move it."""
    return linear_gaussian(D, (1.5, 0.6), by_label=BY_LABEL, **keys)


def images(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    label = TRAIN[torch.randint(len(TRAIN), (n,))]
    with torch.no_grad():
        z = torch.randn(n, 2, dtype=torch.float64)
        return model().decode(z, label).sample(), label


def exact_joint(x: torch.Tensor) -> torch.Tensor:
    """ln p(y) + ln p(x|y), (N, 3)."""
    one = model()
    weight = one.likelihood.mean.weight[:, :2].detach()
    covariance = weight @ weight.T + 0.25 * torch.eye(D)
    columns = []
    for label, share in SHARES.items():
        mean = one.likelihood.mean.bias.detach() + BY_LABEL[label]
        gaussian = torch.distributions.MultivariateNormal(mean, covariance)
        columns.append(math.log(share) + gaussian.log_prob(x))
    return torch.stack(columns, 1)


def test_with_the_exact_posterior_it_is_ln_p():
    x, label = images(300)
    found = labels_summed(model(), x, label, TRAIN).entries
    joint = exact_joint(x)
    bound = found["elbo_labels_summed"]
    assert torch.allclose(bound.values, joint.logsumexp(1), rtol=0, atol=1e-8)
    read = torch.tensor(list(SHARES))[joint.argmax(1)]
    accuracy = found["generative_accuracy"].summary()
    assert accuracy["value"] == (read == label).double().mean().item()
    assert 0.8 < accuracy["value"] < 1
    assert accuracy["chance"] == (label == 0).double().mean().item()
    summary = bound.summary()
    assert (summary["of"], summary["labels"], summary["kind"]) == ("x", 3, "lower_bound")
    assert summary["tightness"] == Tightness.ELBO


def test_it_is_above_the_bound_with_the_true_label_and_its_share():
    x, label = images(300)
    joint = exact_joint(x)
    found = labels_summed(model(), x, label, TRAIN).entries["elbo_labels_summed"].values
    of_label = torch.tensor([list(SHARES).index(one) for one in label.tolist()])
    assert (found >= joint[torch.arange(300), of_label] - 1e-8).all()


def test_it_is_a_lower_bound_whose_monte_carlo_error_is_its_spread():
    x, label = images(200)
    exact = exact_joint(x).logsumexp(1).mean().item()
    away = model(shift=0.4, stretch=1.5)
    found = []
    for seed in range(60):
        torch.manual_seed(seed)
        found.append(labels_summed(away, x, label, TRAIN).entries["elbo_labels_summed"].summary())
    values = [one["value"] for one in found]
    assert np.mean(values) < exact - 0.1
    stated = math.sqrt(np.mean([one["mc_se"] ** 2 for one in found]))
    assert np.std(values, ddof=1) == pytest.approx(stated, rel=0.25)


def test_the_labels_of_the_images_do_not_matter_to_the_bound():
    x, label = images(20)
    values = []
    for one in (label, label.flip(0)):
        torch.manual_seed(1)
        values.append(labels_summed(model(stretch=1.3), x, one, TRAIN).entries)
    assert torch.equal(*(one["elbo_labels_summed"].values for one in values))


def test_a_model_that_is_given_no_label_has_neither():
    found = labels_summed(rough_vae(D, 0.1), *images(5), TRAIN)
    assert not found.entries
    assert set(found.absent) == set(NAMES)
    assert marginal(linear_gaussian(D, (1.0,))).mean.shape == (D,)


# Ranking

SUMMED = {"tightness": 1, "of": "x", "measure": "density", "kind": "lower_bound", "sigma": 1.0}
ELBO = np.random.default_rng(5).normal(-700, 5, 200)


def test_it_ranks_a_run_given_the_label_against_one_that_is_not(
    forge: Any, comparison: Any, invoke: Any
) -> None:
    given = forge(
        "given",
        values={"elbo": ELBO + 9, "elbo_labels_summed": ELBO + 5},
        facts={"elbo_labels_summed": SUMMED},
    )
    free = forge("free", "model.conditional=false", values={"elbo": ELBO}, facts={"elbo": SUMMED})
    better = forge(
        "better", "model.conditional=false", values={"elbo": ELBO + 7}, facts={"elbo": SUMMED}
    )
    for runs in ([given, free, better], [free, better, given]):
        answer = comparison(*runs)
        [ranking] = answer["rankings"]
        assert answer["unranked"] == {}
        assert [name.split("-")[0] for name in ranking["order"]] == ["better", "given", "free"]
        assert ranking["metric"] == "elbo"
        assert list(ranking["instead"].values()) == ["elbo_labels_summed"]
    text = invoke("compare", given, free, better).stdout
    assert "a lower bound on ln p(x), best first" in text
    assert "elbo_labels_summed takes its place for given" in text
    old = forge("old", values={"elbo": ELBO})
    reasons = comparison(old, free)["unranked"].values()
    assert len(reasons) == 2
    assert all("x given label" in reason for reason in reasons)


def test_a_density_that_nothing_bounds_is_not_ranked_without_a_word(
    forge: Any, invoke: Any
) -> None:
    """Also that of an old run, whose entries do not say it."""
    free = forge("free", "model.likelihood=continuous_bernoulli", values={"elbo": ELBO + 9})
    text = invoke("compare", free, forge("held", values={"elbo": ELBO})).stdout
    assert "best first: free" in text
    assert "Nothing bounds the density of free" in text
    assert "[σ = 1]" in text
