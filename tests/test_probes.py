"""Digits read from codes: the optimum of the probe written out, and votes counted by hand."""

import numpy as np
import pytest
import torch
from small_models import CLASSES, digits_apart
from torch import Tensor

from vaexp.evaluation import probes as module
from vaexp.evaluation.probes import accuracy, fit_probe, probed, vote_of_nearest


def weights(probe) -> tuple[Tensor, Tensor]:
    """W (CLASSES, L) and b (CLASSES,), of standardised codes."""
    regression = probe.classifier[-1]
    return torch.from_numpy(regression.coef_), torch.from_numpy(regression.intercept_)


# The linear probe


@pytest.mark.parametrize("ridge", [1.0, 0.01, 30.0])
def test_the_probe_is_at_its_optimum(ridge, monkeypatch):
    """The gradient of sum of losses + ridge/2 |W|^2, written out, is 0."""
    monkeypatch.setattr(module, "RIDGE", ridge)
    z, label = digits_apart(1200, 4, 1.0)
    z = z * torch.tensor([1.0, 30.0, 0.01, 5.0], dtype=torch.float64) + 7
    probe = fit_probe(z, label)
    assert probe.converged
    weight, bias = weights(probe)
    s = (z - z.mean(0)) / z.std(0, correction=0)
    p = (s @ weight.T + bias).softmax(1)
    residual = p - torch.nn.functional.one_hot(label, CLASSES)
    assert (residual.T @ s + ridge * weight).abs().max() < 1200 * 2e-6
    assert residual.sum(0).abs().max() < 1200 * 2e-6
    new, of_new = digits_apart(500, 4, 1.0, seed=5)
    new = new * torch.tensor([1.0, 30.0, 0.01, 5.0], dtype=torch.float64) + 7
    predicted = ((new - z.mean(0)) / z.std(0, correction=0) @ weight.T + bias).argmax(1)
    assert torch.equal(probe.predict(new), predicted)
    assert 0.3 < accuracy(predicted, of_new, {}).summary()["value"] < 0.95


def test_the_probe_does_not_depend_on_the_scale_of_a_code():
    z, label = digits_apart(300, 3, 1.0)
    scale = torch.tensor([1e-6, 1.0, 1e5], dtype=torch.float64)
    a, b = fit_probe(z, label), fit_probe(z * scale + 3 * scale, label)
    torch.testing.assert_close(weights(a)[0], weights(b)[0], rtol=0, atol=1e-3)
    assert torch.equal(a.predict(z), b.predict(z * scale + 3 * scale))


def test_a_code_that_does_not_vary_is_left_alone():
    z, label = digits_apart(300, 3, 3.0)
    z[:, 1] = 0.1
    probe = fit_probe(z.float(), label)
    others = fit_probe(z[:, [0, 2]].float(), label)
    torch.testing.assert_close(weights(probe)[0][:, [0, 2]], weights(others)[0], rtol=0, atol=1e-3)
    assert torch.equal(probe.predict(z), others.predict(z[:, [0, 2]]))


def test_the_probe_of_some_digits_only():
    z, label = digits_apart(500, 3, 5.0)
    some = (label == 3) | (label == 8) | (label == 5)
    probe = fit_probe(z[some], label[some])
    assert probe.predict(z).unique().tolist() == [3, 5, 8]
    assert (probe.predict(z[some]) == label[some]).double().mean() > 0.95
    only = label == 4
    single = fit_probe(z[only], label[only])
    assert single.converged
    assert single.predict(z).unique().tolist() == [4]


def test_a_probe_that_was_stopped_says_so(monkeypatch):
    """And prints no warning, which would be an error here."""
    monkeypatch.setattr(module, "ITERATIONS", 2)
    z, label = digits_apart(300, 3, 1.0)
    assert not fit_probe(z, label).converged
    found = probed(z, label, z, label, {})
    assert found["linear_probe_accuracy"].facts["converged"] is False


def test_the_probe_leaves_torchs_threads_alone():
    before = torch.get_num_threads()
    fit_probe(*digits_apart(100, 3, 1.0))
    assert torch.get_num_threads() == before


# Neighbours


@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("train", [10, 64, 1000])
def test_the_vote_is_that_of_all_distances_sorted(d, train):
    among, label = digits_apart(train, d, 1.0)
    z, _ = digits_apart(101, d, 1.0, seed=3)
    nearest = label[(z[:, None] - among).square().sum(2).argsort(1)[:, :10]]
    expected = [np.bincount(row).argmax() for row in nearest.numpy()]  # the smallest of equals
    assert vote_of_nearest(z, among, label, 10).tolist() == expected


def test_of_equally_frequent_labels_the_smallest_wins():
    among = torch.tensor([[0.0], [0.1], [0.2], [0.3], [9.0]])
    label = torch.tensor([8, 2, 8, 2, 1])
    assert vote_of_nearest(torch.tensor([[0.0]]), among, label, 4).tolist() == [2]
    assert vote_of_nearest(torch.tensor([[0.0]]), among, label, 3).tolist() == [8]


def test_neighbours_far_from_the_origin():
    """|a|^2 - 2 a b + |b|^2 would lose the distances to rounding if codes were not centred."""
    among, label = digits_apart(500, 20, 1.0)
    z, _ = digits_apart(50, 20, 1.0, seed=3)
    near, far = (vote_of_nearest(z + by, among + by, label, 5) for by in (0, 1e7))
    assert torch.equal(near, far)


def test_fewer_training_images_than_neighbours():
    z, label = digits_apart(6, 3, 1.0)
    found = probed(z, label, z, label, {"codes": "made up"})
    assert found["knn_accuracy"].facts == {
        "codes": "made up",
        "train": 6,
        "chance": 1 / 6,
        "k": 6,
    }
