"""What codes are good for, against scikit-learn and on codes whose answers are known."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as TheirPCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from vaexp.config import VAEConfig
from vaexp.evaluation import codes as module
from vaexp.evaluation.codes import (
    PCA,
    accuracy,
    adjusted_rand_index,
    bootstrapped,
    clustering,
    codes,
    contingency,
    fit_probe,
    k_means,
    majority,
    most_probable_component,
    nearest_neighbours,
    normalised_mutual_information,
    posterior_means,
    squared_errors,
    vote,
)
from vaexp.evaluation.measure import Estimate, Measure
from vaexp.fitting.ppca import closed_form
from vaexp.models import GMM, VAE, build
from vaexp.models.covariances import Spherical
from vaexp.models.moments import Moments

C = 10
PROBED = {
    "linear_probe_accuracy",
    "linear_probe_accuracy_pca",
    "knn_accuracy",
    "knn_accuracy_pca",
    "rmse_code",
    "rmse_pca",
}
CLUSTERED = {"ari", "nmi", "cluster_accuracy"}


def labelled(n: int, d: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (n, d) round the centres of ten digits, a distance of order ``apart`` apart."""
    torch.manual_seed(0)
    centre = apart * torch.randn(C, d, dtype=torch.float64)
    torch.manual_seed(seed + 1)
    label = torch.arange(n) % C
    return centre[label] + torch.randn(n, d, dtype=torch.float64), label


def blocks(x: Tensor, label: Tensor, size: int = 70) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), label.split(size), strict=True))


def small_vae(d: int, **keys: object) -> VAE:
    torch.manual_seed(1)
    config = VAEConfig(**{"kind": "vae", "hidden": [8], "conditional": False, **keys})
    return build(config, data_dim=d, classes=C).requires_grad_(False)


def values(measure: Measure | Estimate) -> Tensor:
    assert isinstance(measure, Measure)
    return measure.values


# The linear probe


@pytest.mark.parametrize("ridge", [1.0, 0.01, 30.0])
def test_the_probe_is_scikit_learns(ridge):
    z, label = labelled(1200, 4, 1.0)
    z = z * torch.tensor([1.0, 30.0, 0.01, 5.0], dtype=torch.float64) + 7
    probe = fit_probe(z, label, ridge=ridge)
    assert probe.converged
    standardised = ((z - z.mean(0)) / z.std(0, correction=0)).numpy()
    theirs = LogisticRegression(C=1 / ridge, tol=1e-9, max_iter=5000)
    theirs.fit(standardised, label.numpy())
    np.testing.assert_allclose(probe.weight, theirs.coef_, rtol=0, atol=1e-4)
    bias = probe.bias - probe.bias.mean()  # only differences count
    expected = theirs.intercept_ - theirs.intercept_.mean()
    np.testing.assert_allclose(bias, expected, rtol=0, atol=1e-4)
    new, of_new = labelled(500, 4, 1.0, seed=5)
    new = new * torch.tensor([1.0, 30.0, 0.01, 5.0], dtype=torch.float64) + 7
    predicted = theirs.predict(((new - z.mean(0)) / z.std(0, correction=0)).numpy())
    assert (probe.predict(new).numpy() == predicted).mean() >= 0.998
    share = accuracy(probe.predict(new), of_new).summary()["value"]
    assert share == pytest.approx((predicted == of_new.numpy()).mean(), abs=0.002)
    assert 0.3 < share < 0.95


def test_the_probe_is_at_its_optimum():
    """The gradient of sum of losses + ridge/2 |W|^2, written out, is 0."""
    z, label = labelled(400, 3, 1.0)
    probe = fit_probe(z, label, ridge=2.0)
    s = (z - z.mean(0)) / z.std(0, correction=0)
    p = (s @ probe.weight.T + probe.bias).softmax(1)
    residual = p - torch.nn.functional.one_hot(label, C)
    assert (residual.T @ s + 2.0 * probe.weight).abs().max() < 400 * 1e-6
    assert residual.sum(0).abs().max() < 400 * 1e-6


def test_the_probe_does_not_depend_on_the_scale_of_a_code():
    z, label = labelled(300, 3, 1.0)
    scale = torch.tensor([1e-6, 1.0, 1e5], dtype=torch.float64)
    a, b = fit_probe(z, label), fit_probe(z * scale + 3 * scale, label)
    torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-4)
    assert torch.equal(a.predict(z), b.predict(z * scale + 3 * scale))


def test_a_code_that_does_not_vary_is_left_alone():
    z, label = labelled(300, 3, 3.0)
    z[:, 1] = 0.1
    probe = fit_probe(z.float(), label)
    assert probe.scale[1] == 1
    others = fit_probe(z[:, [0, 2]].float(), label)
    torch.testing.assert_close(probe.weight[:, [0, 2]], others.weight, rtol=0, atol=1e-4)
    assert torch.equal(probe.predict(z), others.predict(z[:, [0, 2]]))


def test_the_probe_of_some_digits_only():
    z, label = labelled(500, 3, 5.0)
    some = (label == 3) | (label == 8) | (label == 5)
    probe = fit_probe(z[some], label[some])
    assert probe.classes.tolist() == [3, 5, 8]
    assert (probe.predict(z[some]) == label[some]).double().mean() > 0.95
    only = label == 4
    assert fit_probe(z[only], label[only]).predict(z).unique().tolist() == [4]


def test_a_probe_that_was_stopped_says_so():
    z, label = labelled(300, 3, 1.0)
    assert not fit_probe(z, label, iterations=2).converged


# Neighbours


@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("train", [10, 63, 64, 65, 639, 641, 3000])
def test_neighbours_are_scikit_learns(d, train, monkeypatch):
    monkeypatch.setattr(module, "DISTANCES_AT_ONCE", 20_000)  # more than one block
    among, _ = labelled(train, d, 1.0)
    z, _ = labelled(101, d, 1.0, seed=3)
    theirs = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(among.numpy())
    expected = theirs.kneighbors(z.numpy(), return_distance=False)
    assert nearest_neighbours(z, among, 10).tolist() == expected.tolist()


def test_neighbours_far_from_the_origin():
    """|a|^2 - 2 a b + |b|^2 would lose the distances to rounding if codes were not centred."""
    among, _ = labelled(500, 2, 1.0)
    z, _ = labelled(50, 2, 1.0, seed=3)
    assert torch.equal(nearest_neighbours(z + 1e7, among + 1e7, 5), nearest_neighbours(z, among, 5))


def test_a_training_code_is_its_own_neighbour():
    z, _ = labelled(200, 3, 1.0)
    assert nearest_neighbours(z, z, 1)[:, 0].tolist() == list(range(200))
    assert nearest_neighbours(z[:1], z, 200).sort().values[0].tolist() == list(range(200))
    for k in (0, 201):
        with pytest.raises(ValueError, match=f"k = {k} neighbours among 200"):
            nearest_neighbours(z, z, k)


def test_the_vote_is_scikit_learns():
    among, label = labelled(800, 3, 1.0)
    z, _ = labelled(300, 3, 1.0, seed=3)
    theirs = KNeighborsClassifier(10, algorithm="brute").fit(among.numpy(), label.numpy())
    assert vote(label[nearest_neighbours(z, among, 10)]).tolist() == theirs.predict(z).tolist()


def test_the_most_frequent_label_wins_and_of_two_the_smaller():
    assert vote(torch.tensor([[7, 2, 7], [9, 9, 0], [5, 3, 1]])).tolist() == [7, 9, 1]
    assert vote(torch.tensor([[8, 2, 8, 2]])).tolist() == [2]


# Clusters


def test_a_table_counts_images():
    cluster, label = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([1, 1, 0, 1, 0])
    table = contingency(cluster, label, 4, 2)
    assert table.tolist() == [[0, 2], [0, 0], [2, 1], [0, 0]]
    assert majority(table).tolist() == [1, 1, 0, 1]  # an empty cluster is read as most images


@pytest.mark.parametrize("clusters", [1, 3, 10, 40])
@pytest.mark.parametrize("agreement", [0.0, 0.6, 1.0])
def test_agreement_is_scikit_learns(clusters, agreement):
    torch.manual_seed(clusters)
    label = torch.randint(C, (500,))
    kept = torch.rand(500) < agreement
    cluster = torch.where(kept, label % clusters, torch.randint(clusters, (500,)))
    table = contingency(cluster, label, clusters, C)
    ari = adjusted_rand_score(label.numpy(), cluster.numpy())
    nmi = normalized_mutual_info_score(label.numpy(), cluster.numpy())
    assert adjusted_rand_index(table).item() == pytest.approx(ari, abs=1e-12)
    assert normalised_mutual_information(table).item() == pytest.approx(nmi, abs=1e-12)


def test_agreement_of_equal_and_of_trivial_partitions():
    same = torch.diag(torch.tensor([5.0, 3.0, 8.0], dtype=torch.float64)).flip(0)
    all_one = torch.tensor([[7.0]], dtype=torch.float64)
    one_cluster = torch.tensor([[4.0, 4.0]], dtype=torch.float64)
    singles = torch.eye(4, dtype=torch.float64)
    single = torch.ones(1, 1, dtype=torch.float64)
    for statistic in (adjusted_rand_index, normalised_mutual_information):
        for table in (same, all_one, singles, single):
            assert statistic(table).item() == pytest.approx(1, abs=1e-12)
        assert statistic(one_cluster).item() == 0
    even = torch.full((3, 4), 6.0, dtype=torch.float64)
    assert normalised_mutual_information(even).item() == pytest.approx(0, abs=1e-12)
    assert adjusted_rand_index(even).item() < 0


def test_agreement_of_many_tables_at_once():
    torch.manual_seed(1)
    tables = torch.randint(20, (2, 3, 4, 5)).double()
    for statistic in (adjusted_rand_index, normalised_mutual_information):
        assert statistic(tables).shape == (2, 3)
        assert statistic(tables)[1, 2] == statistic(tables[1, 2])


@pytest.mark.parametrize("statistic", [adjusted_rand_index, normalised_mutual_information])
def test_the_bootstraps_error_is_that_over_new_images(statistic):
    """Within a third, of the standard deviation over 1,000 sets of images; the bootstrap's 100
    resamples know it to 7 %. Seed fixed."""
    torch.manual_seed(2)
    share = (torch.rand(6, C).double() ** 4).flatten()
    share = share / share.sum()

    def draw(n: int) -> Tensor:
        return torch.multinomial(share, n, replacement=True).bincount(minlength=60).view(6, C)

    true = statistic(share.view(6, C) * 1e7).item()
    values = torch.stack([statistic(draw(2000).double()) for _ in range(1000)])
    found = bootstrapped(draw(2000).double(), statistic)
    assert found.n == 2000
    assert found.facts == {"resamples": 100}
    assert found.se == pytest.approx(values.std().item(), rel=1 / 3)
    low, high = found.interval
    assert low < found.value < high
    assert high - low == pytest.approx(4 * found.se, rel=0.3)
    assert abs(found.value - true) < 4 * found.se


def test_the_bootstrap_resamples_images():
    """The mean count of a cell is its own, and its variance that of a multinomial."""
    table = torch.tensor([[30.0, 0.0], [50.0, 20.0]], dtype=torch.float64)
    torch.manual_seed(3)
    seen = []
    bootstrapped(table, lambda t: (seen.append(t), t.sum((-2, -1)) * 0)[1])
    drawn = seen[0]
    assert drawn.shape == (100, 2, 2)
    assert (drawn.sum((1, 2)) == 100).all()
    assert (drawn[:, 0, 1] == 0).all()
    assert drawn[:, 1, 0].mean().item() == pytest.approx(50, abs=4 * 5 / 10)
    assert drawn[:, 1, 0].std().item() == pytest.approx(5, rel=0.3)


def test_an_interval_ends_at_1():
    torch.manual_seed(4)
    table = torch.diag(torch.full((5,), 50.0, dtype=torch.float64))
    table[0, 1] = 1
    found = bootstrapped(table, adjusted_rand_index)
    assert found.interval[0] < found.value < found.interval[1] <= 1


def test_k_means_finds_planted_clusters():
    z, label = labelled(600, 5, 8.0)
    for seed in range(5):
        torch.manual_seed(seed)
        squares = (z[:, None] - k_means(z, C)).square().sum(2)
        table = contingency(squares.argmin(1), label, C, C)
        assert adjusted_rand_index(table).item() == pytest.approx(1)


def test_clusters_are_read_by_the_training_images():
    """Cluster 0 is mostly 3 in training, cluster 2 was empty there: read as 8, the most frequent"""
    cluster_train, label_train = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([3, 3, 8, 8, 8, 8])
    cluster, label = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([3, 5, 8, 9, 8, 3])
    found = clustering(cluster, label, cluster_train, label_train, 3)
    assert values(found.entries["cluster_accuracy"]).tolist() == [1, 0, 1, 0, 1, 0]
    assert found.entries["cluster_accuracy"].facts == {"chance": 2 / 6}
    assert found.arrays["contingency"].shape == (3, 10)
    assert found.arrays["contingency"].sum() == 6
    assert found.arrays["contingency"][2].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1, 0]


# PCA


def test_pca_has_no_more_components_than_the_images_vary_in():
    """The others would be rounding, and a probe that standardises them useless."""
    x, label = labelled(50, 100, 3.0)
    new, digits = labelled(200, 100, 3.0, seed=3)
    pca = PCA.of([x], 64)
    assert pca.basis.shape == (100, 49)
    probe = fit_probe(pca.encode(x), label)
    assert (probe.predict(pca.encode(new)) == digits).double().mean() > 0.95


@pytest.mark.parametrize("count", [1, 3, 7])
def test_pca_is_the_svd(count):
    """Of the centred training images, one of whose pixels is constant."""
    x, label = labelled(300, 8, 1.0)
    x[:, 2] = 0.5
    pca = PCA.of([xs for xs, _ in blocks(x, label)], count)
    centred = x.numpy() - x.numpy().mean(0)
    right = np.linalg.svd(centred, full_matrices=False)[2][:count]
    new = labelled(100, 8, 1.0, seed=3)[0].numpy()
    rebuilt = x.numpy().mean(0) + (new - x.numpy().mean(0)) @ right.T @ right
    found = pca.squared_errors(torch.from_numpy(new))
    np.testing.assert_allclose(found, np.square(new - rebuilt).mean(1), rtol=1e-9, atol=1e-12)
    theirs = TheirPCA(count, svd_solver="full").fit(x.numpy())
    scores = pca.encode(torch.from_numpy(new)).abs()
    np.testing.assert_allclose(scores, np.abs(theirs.transform(new)), rtol=1e-8, atol=1e-8)


def test_more_components_than_pixels_rebuild_everything():
    x, label = labelled(200, 4, 1.0)
    pca = PCA.of([x], 7)
    assert pca.basis.shape == (4, 4)
    assert pca.squared_errors(x).max() < 1e-24
    assert len(label) == len(pca.encode(x))


# The group


def test_the_group_of_ppca_is_scikit_learns_of_its_codes():
    x, label = labelled(700, 12, 1.2)
    test, of_test = labelled(300, 12, 1.2, seed=3)
    model = closed_form(Moments.of(x), 3)
    torch.manual_seed(5)
    found = codes(model, test, of_test, iter(blocks(x, label)))
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
    assert found.arrays["contingency"].shape == (C, C)
    entry = found.entries["linear_probe_accuracy"].summary()
    facts = {"unit": "share", "n": 300, "codes": "of p(z|x)", "train": 700, "ridge": 1.0}
    assert entry | facts | {"converged": True, "chance": 0.1} == entry
    assert entry["se"] == pytest.approx(
        math.sqrt(entry["value"] * (1 - entry["value"]) / 299), rel=1e-9
    )


def test_with_no_noise_ppca_rebuilds_as_pca_does():
    x, label = labelled(400, 8, 1.0)
    x = torch.cat([x[:, :2] @ torch.randn(2, 8, dtype=torch.float64)], 1)
    x = x + 1e-4 * torch.randn(400, 8, dtype=torch.float64)
    model = closed_form(Moments.of(x), 2)
    entries = codes(model, x, label, blocks(x, label)).entries
    assert entries["rmse_code"].summary()["value"] == pytest.approx(
        entries["rmse_pca"].summary()["value"], rel=1e-4
    )


@pytest.mark.parametrize("apart", [0.0, 8.0])
def test_codes_with_digits_planted_or_not(apart):
    """All accuracies and agreements are about 1 where the digits lie apart, chance where not."""
    x, label = labelled(2000, 6, apart)
    test, of_test = labelled(500, 6, apart, seed=3)
    model = closed_form(Moments.of(x), 5)
    torch.manual_seed(6)
    entries = codes(model, test, of_test, blocks(x, label, 900)).entries
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
    x, label = labelled(300, 6, 2.0)
    x, test, of_test = x.float(), *labelled(100, 6, 2.0, seed=3)
    test = test.float()
    model = small_vae(6, latent_dim=2)
    torch.manual_seed(7)
    found = codes(model, test, of_test, blocks(x, label))
    q = model.encode(test)
    rebuilt = model.decode(q.mean).mean
    expected = (test - rebuilt).square().mean(1).double()
    torch.testing.assert_close(values(found.entries["rmse_code"]), expected, rtol=1e-5, atol=1e-7)
    assert found.entries["knn_accuracy"].facts["codes"] == "of q(z|x)"
    assert found.entries["knn_accuracy"].facts["k"] == 10
    monkeypatch.setattr(module, "ROWS", 7)
    torch.manual_seed(7)
    in_blocks = codes(model, test, of_test, blocks(x, label))
    for name, entry in found.entries.items():
        assert in_blocks.entries[name].summary()["value"] == pytest.approx(
            entry.summary()["value"], abs=0.011
        )


def test_a_conditional_vaes_codes_are_given_the_label():
    model = small_vae(6, latent_dim=2, conditional=True)
    x, label = labelled(200, 6, 2.0)
    x = x.float()
    z = posterior_means(model, x, label)
    assert z.dtype == torch.float64
    torch.testing.assert_close(z, model.encode(x, label).mean.double(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(z, posterior_means(model, x, (label + 1) % C), atol=1e-3)
    rebuilt = model.decode(z.float(), label).mean
    torch.testing.assert_close(
        squared_errors(model, x, label, z),
        (x - rebuilt).square().mean(1).double(),
        rtol=1e-5,
        atol=1e-7,
    )
    entries = codes(model, x, label, blocks(x, label)).entries
    assert entries["linear_probe_accuracy"].facts["codes"] == "of q(z|x, label)"
    assert entries["ari"].facts["codes"] == "of q(z|x, label)"
    assert entries["linear_probe_accuracy_pca"].facts["codes"] == "PCA"


def test_collapsed_codes_are_measured_still():
    """q(z|x) = p(z) for every image: one point, which knows nothing."""
    model = small_vae(6, latent_dim=2)
    model.posterior.weight.zero_()
    x, label = labelled(300, 6, 2.0)
    entries = codes(model, x.float(), label, blocks(x.float(), label)).entries
    for name in ("linear_probe_accuracy", "knn_accuracy", "cluster_accuracy"):
        assert entries[name].summary()["value"] == pytest.approx(0.1, abs=0.06)
    for name in ("ari", "nmi"):
        assert entries[name].summary()["value"] == pytest.approx(0, abs=1e-9)
        assert entries[name].summary()["se"] == pytest.approx(0, abs=1e-9)


def test_the_group_of_a_mixture_is_of_its_components():
    x, label = labelled(400, 5, 8.0)
    test, of_test = labelled(100, 5, 8.0, seed=3)
    centre = torch.stack([x[label == digit].mean(0) for digit in range(C)])
    order = torch.randperm(C)
    weight = torch.full((C,), 0.1, dtype=torch.float64)
    model = GMM(weight, Spherical(centre[order], torch.ones(C, dtype=torch.float64)))
    assert torch.equal(order[most_probable_component(model, test)], of_test)
    found = codes(model, test, of_test, iter(blocks(x, label)), components=C)
    assert set(found.entries) == CLUSTERED
    assert set(found.absent) == PROBED
    for name in CLUSTERED:
        assert found.entries[name].summary()["value"] == pytest.approx(1)
        assert found.entries[name].facts["clusters"] == C
    assert found.arrays["contingency"].argmax(1).tolist() == order.tolist()


def test_two_components_hold_two_digits_at_most():
    x, label = labelled(400, 5, 8.0)
    centre = torch.stack([x[label == digit].mean(0) for digit in (2, 7)])
    model = GMM(torch.full((2,), 0.5).double(), Spherical(centre.float(), torch.full((2,), 0.01)))
    entries = codes(model, x.float(), label, blocks(x.float(), label)).entries
    assert entries["cluster_accuracy"].summary()["value"] == pytest.approx(0.2)
    assert 0 < entries["ari"].summary()["value"] < 0.5


def test_the_number_of_clusters():
    x, label = labelled(300, 6, 2.0)
    model = closed_form(Moments.of(x), 2)
    some = label < 4
    for components, data, expected in ((None, label >= 0, C), (None, some, 4), (7, some, 7)):
        found = codes(
            model, x[data], label[data], blocks(x[data], label[data]), components=components
        )
        assert len(found.arrays["contingency"]) == expected
        assert found.entries["ari"].facts["clusters"] == expected


def test_the_group_follows_torchs_generator():
    x, label = labelled(300, 6, 1.0)
    model = closed_form(Moments.of(x), 2)
    torch.manual_seed(8)
    a = codes(model, x, label, blocks(x, label))
    torch.manual_seed(8)
    b = codes(model, x, label, blocks(x, label))
    assert {name: entry.summary() for name, entry in a.entries.items()} == {
        name: entry.summary() for name, entry in b.entries.items()
    }
