"""What codes are good for: the group and its PCA, on codes whose answers are known."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as TheirPCA
from sklearn.neighbors import KNeighborsClassifier
from small_models import CLASSES, digits_apart, in_blocks, rough_vae
from torch import Tensor

from vaexp.evaluation import codes as module
from vaexp.evaluation.codes import (
    PCA,
    codes,
    most_probable_component,
    posterior_means,
    squared_errors,
)
from vaexp.evaluation.measure import Estimate, Measure
from vaexp.evaluation.probes import fit_probe
from vaexp.fitting.ppca import closed_form
from vaexp.models import GMM, VAE
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.moments import Moments

PROBED = {
    "linear_probe_accuracy",
    "linear_probe_accuracy_pca",
    "knn_accuracy",
    "knn_accuracy_pca",
    "rmse_code",
    "rmse_pca",
}
CLUSTERED = {"ari", "nmi", "cluster_accuracy"}


def small_vae(d: int, **keys: object) -> VAE:
    return rough_vae(d, 0.0, **keys).requires_grad_(False)


def values(measure: Measure | Estimate) -> Tensor:
    assert isinstance(measure, Measure)
    return measure.values


# PCA


def test_pca_has_no_more_components_than_the_images_vary_in():
    """The others would be rounding, and a probe that standardises them useless."""
    x, label = digits_apart(50, 100, 3.0)
    new, digits = digits_apart(200, 100, 3.0, seed=3)
    pca = PCA.of([x], 64)
    assert pca.basis.shape == (100, 49)
    probe = fit_probe(pca.encode(x), label)
    assert (probe.predict(pca.encode(new)) == digits).double().mean() > 0.95


@pytest.mark.parametrize("count", [1, 3, 7])
def test_pca_is_the_svd(count):
    """Of the centred training images, one of whose pixels is constant."""
    x, label = digits_apart(300, 8, 1.0)
    x[:, 2] = 0.5
    pca = PCA.of([xs for xs, _ in in_blocks(x, label)], count)
    centred = x.numpy() - x.numpy().mean(0)
    right = np.linalg.svd(centred, full_matrices=False)[2][:count]
    new = digits_apart(100, 8, 1.0, seed=3)[0].numpy()
    rebuilt = x.numpy().mean(0) + (new - x.numpy().mean(0)) @ right.T @ right
    found = pca.squared_errors(torch.from_numpy(new))
    np.testing.assert_allclose(found, np.square(new - rebuilt).mean(1), rtol=1e-9, atol=1e-12)
    theirs = TheirPCA(count, svd_solver="full").fit(x.numpy())
    scores = pca.encode(torch.from_numpy(new)).abs()
    np.testing.assert_allclose(scores, np.abs(theirs.transform(new)), rtol=1e-8, atol=1e-8)


def test_more_components_than_pixels_rebuild_everything():
    x, label = digits_apart(200, 4, 1.0)
    pca = PCA.of([x], 7)
    assert pca.basis.shape == (4, 4)
    assert pca.squared_errors(x).max() < 1e-24
    assert len(label) == len(pca.encode(x))


# The group


def test_the_group_of_ppca_is_scikit_learns_of_its_codes():
    x, label = digits_apart(700, 12, 1.2)
    test, of_test = digits_apart(300, 12, 1.2, seed=3)
    model = closed_form(Moments.of(x), 3)
    torch.manual_seed(5)
    found = codes(model, test, of_test, iter(in_blocks(x, label)))
    assert set(found.entries) == PROBED | CLUSTERED
    assert found.absent == {}
    z, z_train = model.encode(test).mean.numpy(), model.encode(x).mean.numpy()
    theirs = KNeighborsClassifier(10).fit(z_train, label.numpy())
    share = theirs.score(z, of_test.numpy())
    assert found.entries["knn_accuracy"].summary()["value"] == pytest.approx(share, abs=1e-12)
    # exact posterior means are the principal components, each shrunk
    linear, linear_pca = (
        values(found.entries[f"linear_probe_accuracy{pca}"]) for pca in ("", "_pca")
    )
    assert (linear == linear_pca).double().mean() > 0.99
    rebuilt = model.decode(model.encode(test).mean).mean
    expected = (test - rebuilt).square().mean(1)
    torch.testing.assert_close(values(found.entries["rmse_code"]), expected, rtol=1e-12, atol=0)
    pca = found.entries["rmse_pca"].summary()
    assert pca["aggregate"] == "root_mean"
    assert pca["unit"] == "units of x"
    assert pca["components"] == 3
    assert 0 < pca["value"] < found.entries["rmse_code"].summary()["value"] * 1.1
    assert found.arrays["contingency"].shape == (CLASSES, CLASSES)
    entry = found.entries["linear_probe_accuracy"].summary()
    facts = {"unit": "share", "n": 300, "codes": "of p(z|x)", "train": 700, "ridge": 1.0}
    assert entry | facts | {"converged": True, "chance": 0.1} == entry
    assert entry["se"] == pytest.approx(
        math.sqrt(entry["value"] * (1 - entry["value"]) / 299), rel=1e-9
    )


def test_with_no_noise_ppca_rebuilds_as_pca_does():
    x, label = digits_apart(400, 8, 1.0)
    x = torch.cat([x[:, :2] @ torch.randn(2, 8, dtype=torch.float64)], 1)
    x = x + 1e-4 * torch.randn(400, 8, dtype=torch.float64)
    model = closed_form(Moments.of(x), 2)
    entries = codes(model, x, label, in_blocks(x, label)).entries
    assert entries["rmse_code"].summary()["value"] == pytest.approx(
        entries["rmse_pca"].summary()["value"], rel=1e-4
    )


@pytest.mark.parametrize("apart", [0.0, 8.0])
def test_codes_with_digits_planted_or_not(apart):
    """All accuracies and agreements are about 1 where the digits lie apart, chance where not."""
    x, label = digits_apart(2000, 6, apart)
    test, of_test = digits_apart(500, 6, apart, seed=3)
    model = closed_form(Moments.of(x), 5)
    torch.manual_seed(6)
    entries = codes(model, test, of_test, in_blocks(x, label, 900)).entries
    for name in ("linear_probe_accuracy", "knn_accuracy", "cluster_accuracy", "ari", "nmi"):
        entry = entries[name].summary()
        if apart:
            assert entry["value"] > 0.99, name
        elif name in ("ari", "nmi"):
            assert abs(entry["value"]) < 0.06, name
        else:
            assert entry["chance"] == pytest.approx(0.1)
            assert abs(entry["value"] - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 500), name


def test_the_group_of_a_vae_in_float32(monkeypatch):
    x, label = digits_apart(300, 6, 2.0)
    x, test, of_test = x.float(), *digits_apart(100, 6, 2.0, seed=3)
    test = test.float()
    model = small_vae(6, latent_dim=2)
    torch.manual_seed(7)
    found = codes(model, test, of_test, in_blocks(x, label))
    q = model.encode(test)
    rebuilt = model.decode(q.mean).mean
    expected = (test - rebuilt).square().mean(1).double()
    torch.testing.assert_close(values(found.entries["rmse_code"]), expected, rtol=1e-5, atol=1e-7)
    assert found.entries["knn_accuracy"].facts["codes"] == "of q(z|x)"
    assert found.entries["knn_accuracy"].facts["k"] == 10
    monkeypatch.setattr(module, "ROWS", 7)
    torch.manual_seed(7)
    divided = codes(model, test, of_test, in_blocks(x, label))
    for name, entry in found.entries.items():
        assert divided.entries[name].summary()["value"] == pytest.approx(
            entry.summary()["value"], abs=0.011
        )


def test_a_conditional_vaes_codes_are_given_the_label():
    model = small_vae(6, latent_dim=2, conditional=True)
    x, label = digits_apart(200, 6, 2.0)
    x = x.float()
    z = posterior_means(model, x, label)
    assert z.dtype == torch.float64
    torch.testing.assert_close(z, model.encode(x, label).mean.double(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(z, posterior_means(model, x, (label + 1) % CLASSES), atol=1e-3)
    rebuilt = model.decode(z.float(), label).mean
    torch.testing.assert_close(
        squared_errors(model, x, label, z),
        (x - rebuilt).square().mean(1).double(),
        rtol=1e-5,
        atol=1e-7,
    )
    entries = codes(model, x, label, in_blocks(x, label)).entries
    assert entries["linear_probe_accuracy"].facts["codes"] == "of q(z|x, label)"
    assert entries["ari"].facts["codes"] == "of q(z|x, label)"
    assert entries["linear_probe_accuracy_pca"].facts["codes"] == "PCA"


def test_collapsed_codes_are_measured_still():
    """q(z|x) = p(z) for every image: one point, which knows nothing."""
    model = small_vae(6, latent_dim=2)
    model.posterior.weight.zero_()
    x, label = digits_apart(300, 6, 2.0)
    entries = codes(model, x.float(), label, in_blocks(x.float(), label)).entries
    for name in ("linear_probe_accuracy", "knn_accuracy", "cluster_accuracy"):
        assert entries[name].summary()["value"] == pytest.approx(0.1, abs=0.06)
    for name in ("ari", "nmi"):
        assert entries[name].summary()["value"] == pytest.approx(0, abs=1e-9)
        assert entries[name].summary()["se"] == pytest.approx(0, abs=1e-9)


def test_the_group_of_a_mixture_is_of_its_components():
    x, label = digits_apart(400, 5, 8.0)
    test, of_test = digits_apart(100, 5, 8.0, seed=3)
    centre = torch.stack([x[label == digit].mean(0) for digit in range(CLASSES)])
    order = torch.randperm(CLASSES)
    weight = torch.full((CLASSES,), 0.1, dtype=torch.float64)
    model = GMM(weight, Spherical(centre[order], torch.ones(CLASSES, dtype=torch.float64)))
    assert torch.equal(order[most_probable_component(model, test)], of_test)
    found = codes(model, test, of_test, iter(in_blocks(x, label)))
    assert set(found.entries) == CLUSTERED
    assert set(found.absent) == PROBED
    for name in CLUSTERED:
        assert found.entries[name].summary()["value"] == pytest.approx(1)
        assert found.entries[name].facts["clusters"] == CLASSES
    assert found.arrays["contingency"].argmax(1).tolist() == order.tolist()


def test_two_components_hold_two_digits_at_most():
    x, label = digits_apart(400, 5, 8.0)
    centre = torch.stack([x[label == digit].mean(0) for digit in (2, 7)])
    model = GMM(torch.full((2,), 0.5).double(), Spherical(centre.float(), torch.full((2,), 0.01)))
    entries = codes(model, x.float(), label, in_blocks(x.float(), label)).entries
    assert entries["cluster_accuracy"].summary()["value"] == pytest.approx(0.2)
    assert 0 < entries["ari"].summary()["value"] < 0.5


def test_there_are_as_many_clusters_as_digits():
    x, label = digits_apart(300, 6, 2.0)
    model = closed_form(Moments.of(x), 2)
    for some, expected in ((label >= 0, CLASSES), (label < 4, 4)):
        found = codes(model, x[some], label[some], in_blocks(x[some], label[some]))
        assert len(found.arrays["contingency"]) == expected
        assert found.entries["ari"].facts["clusters"] == expected


def test_the_group_follows_torchs_generator():
    x, label = digits_apart(300, 6, 1.0)
    model = closed_form(Moments.of(x), 2)
    torch.manual_seed(8)
    a = codes(model, x, label, in_blocks(x, label))
    torch.manual_seed(8)
    b = codes(model, x, label, in_blocks(x, label))
    assert {name: entry.summary() for name, entry in a.entries.items()} == {
        name: entry.summary() for name, entry in b.entries.items()
    }


def test_one_digit_alone_is_nothing_to_tell_apart():
    """An ARI or an accuracy of 1 would be of no digit at all."""
    x, _ = digits_apart(300, 8, 1.0)
    label = torch.full((300,), 4)
    model = rough_vae(8, 0.1, latent_dim=2)
    found = codes(model, x[:100].float(), label[:100], in_blocks(x[100:].float(), label[100:]))
    assert set(found.entries) == {"rmse_code", "rmse_pca"}
    assert not found.arrays  # and so nothing to be drawn
    assert set(found.absent.values()) == {
        "all images are of one digit, so there is nothing to tell apart"
    }
    assert {"ari", "knn_accuracy", "linear_probe_accuracy_pca"} <= set(found.absent)
