"""What the codes are good for: how well digits are read from them, and images rebuilt.

The code of an image is the mean of its posterior; a mixture's is its most probable component.
Letters in shapes: N images, M training images, L latents, K clusters, C classes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.fitting.kmeans import lloyd, nearest_centre, seed_centres
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.moments import Moments

ROWS = 1_000  # images encoded or decoded at once
RIDGE = 1.0
NEIGHBOURS = 10
STARTS = 5  # of k-means
RESAMPLES = 100
DISTANCES_AT_ONCE = 2**20  # what fits into the processor's caches is fastest
GROUP = 64  # members of a group in the search for neighbours


@torch.no_grad()
def codes(
    model: Model,
    x: Tensor,
    label: Tensor,
    train: Iterable[tuple[Tensor, Tensor]],
    *,
    components: int | None = None,
) -> Evidence:
    """What the codes of images x (N, D) with their label (N,) tell of the digit and of the image.

    train: blocks of training images (n, D) and labels (n,), gone through once; they are held in
    memory. components: clusters of k-means, by default as many as there are digits; a
    mixture has its own.
    Entries: ``linear_probe_accuracy``, ``knn_accuracy``, ``rmse_code``, each also of the L
    principal components of the training images (``linear_probe_accuracy_pca``,
    ``knn_accuracy_pca``, ``rmse_pca``), and ``ari``, ``nmi`` and ``cluster_accuracy`` of clusters
    of the codes. A mixture has only the last three, of its components. Array: ``contingency``
    (K, C), the test images of each cluster and digit. k-means and the bootstrap draw from torch's
    global generator.
    """
    match model:
        case GMM():
            return _of_components(model, x, label, train)
        case VAE() | LinearGaussian():
            return _of_vectors(model, x, label, list(train), components)
        case _:
            assert_never(model)


def _of_vectors(
    model: VAE | LinearGaussian,
    x: Tensor,
    label: Tensor,
    blocks: list[tuple[Tensor, Tensor]],
    components: int | None,
) -> Evidence:
    z = posterior_means(model, x, label)
    z_train = torch.cat([posterior_means(model, xs, labels) for xs, labels in blocks])
    target, target_train = label.cpu(), torch.cat([labels for _, labels in blocks]).cpu()
    kind: dict[str, Any] = {"codes": _kind_of_codes(model)}
    probed = _probed(z, target, z_train, target_train, kind)

    pca = PCA.of([xs for xs, _ in blocks], model.latent_dim)
    pca_kind = {"codes": "PCA", "components": pca.basis.shape[1]}
    scores = pca.encode(x).cpu()
    scores_train = torch.cat([pca.encode(xs).cpu() for xs, _ in blocks])
    probed_pca = _probed(scores, target, scores_train, target_train, pca_kind)

    centres = k_means(z_train, components or len(target_train.unique()))
    cluster, cluster_train = nearest_centre(z, centres), nearest_centre(z_train, centres)
    clustered = clustering(cluster, target, cluster_train, target_train, len(centres))
    facts = kind | {"clusters": len(centres), "by": "k-means"}
    return Evidence(
        entries={
            **probed,
            **{f"{name}_pca": measure for name, measure in probed_pca.items()},
            "rmse_code": _root_mean(squared_errors(model, x, label, z), kind),
            "rmse_pca": _root_mean(pca.squared_errors(x), pca_kind),
            **_with_facts(clustered.entries, facts),
        },
        arrays=clustered.arrays,
    )


def _of_components(
    model: GMM, x: Tensor, label: Tensor, train: Iterable[tuple[Tensor, Tensor]]
) -> Evidence:
    found = [(most_probable_component(model, xs), labels.cpu()) for xs, labels in train]
    clustered = clustering(
        most_probable_component(model, x),
        label.cpu(),
        torch.cat([cluster for cluster, _ in found]),
        torch.cat([labels for _, labels in found]),
        len(model.weight),
    )
    facts = {"codes": "component of p(z|x)", "clusters": len(model.weight), "by": "the mixture"}
    reason = "z is the index of a component, not a vector"
    no_size = f"{reason}, so that no number of principal components is its equal"
    return Evidence(
        entries=_with_facts(clustered.entries, facts),
        arrays=clustered.arrays,
        absent=dict.fromkeys(("linear_probe_accuracy", "knn_accuracy", "rmse_code"), reason)
        | dict.fromkeys(("linear_probe_accuracy_pca", "knn_accuracy_pca", "rmse_pca"), no_size),
    )


def _kind_of_codes(model: VAE | LinearGaussian) -> str:
    match model:
        case LinearGaussian():
            return "of p(z|x)"
        case VAE():
            return "of q(z|x, label)" if model.conditional else "of q(z|x)"
    assert_never(model)


def _probed(
    z: Tensor, label: Tensor, z_train: Tensor, label_train: Tensor, facts: dict[str, Any]
) -> dict[str, Measure]:
    """``linear_probe_accuracy`` and ``knn_accuracy`` of codes (N, L), trained on others (M, L)."""
    probe = fit_probe(z_train, label_train)
    k = min(NEIGHBOURS, len(z_train))
    voted = vote(label_train[nearest_neighbours(z, z_train, k)])
    common = facts | {
        "train": len(z_train),
        "chance": _share_of_most_frequent(label, label_train),
    }
    linear = common | {"ridge": RIDGE, "converged": probe.converged}
    return {
        "linear_probe_accuracy": accuracy(probe.predict(z), label, linear),
        "knn_accuracy": accuracy(voted, label, common | {"k": k}),
    }


def accuracy(predicted: Tensor, label: Tensor, facts: dict[str, Any] | None = None) -> Measure:
    """1 for each image whose prediction (N,) is its label (N,), else 0."""
    return Measure((predicted == label).double(), "share", facts=facts or {})


def _share_of_most_frequent(label: Tensor, label_train: Tensor) -> float:
    """The accuracy of saying of every image the most frequent training label."""
    return (label == label_train.bincount().argmax()).double().mean().item()


def _root_mean(squares: Tensor, facts: dict[str, Any]) -> Measure:
    return Measure(squares, "units of x", aggregate="root_mean", facts=facts)


def _with_facts(
    entries: dict[str, Measure | Estimate], facts: dict[str, Any]
) -> dict[str, Measure | Estimate]:
    return {name: replace(entry, facts=facts | entry.facts) for name, entry in entries.items()}


# Codes


@torch.no_grad()
def posterior_means(model: VAE | LinearGaussian, x: Tensor, label: Tensor) -> Tensor:
    """E_q[z|x], or E_q[z|x, label] of a conditional model: (N, D) to (N, L) float64, on the CPU."""
    blocks = zip(x.split(ROWS), label.split(ROWS), strict=True)
    return torch.cat([model.encode(xs, labels).mean.double().cpu() for xs, labels in blocks])


@torch.no_grad()
def most_probable_component(model: GMM, x: Tensor) -> Tensor:
    """arg max_k p(z = k|x): (N, D) to (N,), on the CPU."""
    return torch.cat([model.log_joint(xs).argmax(1).cpu() for xs in x.split(ROWS)])


@torch.no_grad()
def squared_errors(model: VAE | LinearGaussian, x: Tensor, label: Tensor, z: Tensor) -> Tensor:
    """|x - mu(z)|^2 / D of images (N, D) and their codes (N, L), (N,) float64."""
    errors = []
    for xs, labels, zs in zip(x.split(ROWS), label.split(ROWS), z.split(ROWS), strict=True):
        rebuilt = model.decode(zs.to(xs), labels).mean
        errors.append((xs.double() - rebuilt.double()).square().mean(1).cpu())
    return torch.cat(errors)


@dataclass(frozen=True)
class PCA:
    """Principal components: the L-dimensional affine map that rebuilds its images best.

    Least in mean |x - m - U U^T (x - m)|^2, by the leading eigenvectors U of the images' covariance
    and their mean m (Pearson 1901; Bishop 2006, section 12.1).
    """

    mean: Tensor
    """m (D,), float64."""
    basis: Tensor
    """U (D, L), orthonormal columns, that of the largest variance first."""

    @classmethod
    def of(cls, blocks: Iterable[Tensor], count: int) -> "PCA":
        """The first ``count`` components of blocks of images (n, D), as far as these vary."""
        each = (Moments.of(block) for block in blocks)
        moments = next(each)
        for other in each:
            moments = moments + other
        values, vectors = torch.linalg.eigh(moments.covariance)
        varying = int((values > 1e-12 * values[-1]).sum())  # the others are rounding
        return cls(moments.mean, vectors.flip(1)[:, : max(1, min(count, varying))])

    def encode(self, x: Tensor) -> Tensor:
        """U^T (x - m), (N, D) to (N, L) float64."""
        return torch.cat([(xs.double() - self.mean) @ self.basis for xs in x.split(ROWS)])

    def squared_errors(self, x: Tensor) -> Tensor:
        """|x - m - U U^T (x - m)|^2 / D of images (N, D), (N,) float64, on the CPU."""
        errors = []
        for xs in x.split(ROWS):
            centred = xs.double() - self.mean
            rest = centred - centred @ self.basis @ self.basis.T
            errors.append(rest.square().mean(1).cpu())
        return torch.cat(errors)


# Labels from codes


@dataclass(frozen=True)
class Probe:
    """Multinomial logistic regression on standardised codes."""

    weight: Tensor
    """W (C, L), float64."""
    bias: Tensor
    """b (C,)."""
    classes: Tensor
    """The label that each row stands for, (C,)."""
    centre: Tensor
    """Mean of the training codes, (L,)."""
    scale: Tensor
    """Their standard deviation, (L,); 1 where they do not vary."""
    converged: bool
    """Whether no entry of the gradient, of the mean over images, is above 1e-5."""

    def predict(self, z: Tensor) -> Tensor:
        """The most probable label of codes (N, L), (N,)."""
        standardised = (z.double() - self.centre) / self.scale
        return self.classes[(standardised @ self.weight.T + self.bias).argmax(1)]


def fit_probe(z: Tensor, label: Tensor, *, ridge: float = RIDGE, iterations: int = 1000) -> Probe:
    """The probe that minimises -sum_i ln softmax(W s_i + b)[y_i] + ridge/2 |W|^2 (float64, L-BFGS).

    z (M, L), label (M,); s_i are the codes less their mean, by their standard deviation. The
    intercepts b are free, so ridge = 1 is scikit-learn's C = 1 (Bishop 2006, section 4.3.4, with a
    Gaussian prior on W; the idea of a linear probe: Alain and Bengio 2017).
    """
    z = z.double()
    centre, scale = z.mean(0), z.std(0, correction=0)
    scale = torch.where(scale > 1e-9 * centre.abs(), scale, 1.0)
    standardised = (z - centre) / scale
    classes, target = label.unique(return_inverse=True)
    weight = z.new_zeros(len(classes), z.shape[1]).requires_grad_()
    bias = z.new_zeros(len(classes)).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=1e-7,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.addmm(bias, standardised, weight.T)
        misfit = nn.functional.cross_entropy(logits, target, reduction="sum")
        mean: Tensor = (misfit + ridge / 2 * weight.square().sum()) / len(z)
        mean.backward()
        return mean

    optimizer.step(loss)
    with torch.enable_grad():
        loss()
    slope = max(p.grad.abs().max().item() for p in (weight, bias) if p.grad is not None)
    return Probe(weight.detach(), bias.detach(), classes, centre, scale, converged=slope <= 1e-5)


def nearest_neighbours(z: Tensor, among: Tensor, k: int) -> Tensor:
    """The indices (N, k) of the k codes among (M, L) nearest to each of z (N, L), nearest first.

    Euclidean and exact. Squared distances |a|^2 - 2 a b + |b|^2 come from matrix products in
    float64. ``among`` is parted into groups: the k nearest lie in those k groups whose nearest
    members are the nearest, so only these few are sorted.
    """
    if not 0 < k <= len(among):
        raise ValueError(f"k = {k} neighbours among {len(among)}")
    centre = among.double().mean(0)  # so that little cancels
    padding = -len(among) % GROUP
    others = nn.functional.pad(among.double() - centre, (0, 0, 0, padding))
    lengths = others.square().sum(1)
    lengths[len(among) :] = torch.inf
    groups = len(others) // GROUP
    rows = max(1, DISTANCES_AT_ONCE // len(others))
    found = torch.empty(len(z), k, dtype=torch.int64)
    # In one place for all blocks, as the memory of a new one for each is not all used again.
    distances = others.new_empty(rows, len(others))
    blocks = zip((z.double() - centre).split(rows), found.split(rows), strict=True)
    for block, neighbours in blocks:
        squares = distances[: len(block)]
        # less |a|^2, which is the same for all b
        torch.addmm(lengths, block, others.T, alpha=-2, out=squares)
        squares = squares.view(-1, GROUP, groups)  # a group is a column
        nearest = squares.amin(1).topk(min(k, groups), largest=False).indices
        columns = nearest[:, None].expand(-1, GROUP, -1)
        place = squares.gather(2, columns).flatten(1).topk(k, largest=False).indices
        row, column = place // nearest.shape[1], place % nearest.shape[1]
        neighbours.copy_(row * groups + nearest.gather(1, column))
    return found


def vote(label: Tensor) -> Tensor:
    """The most frequent label of each row (N, k), (N,); of equally frequent ones the smallest."""
    counts = torch.zeros(len(label), int(label.max()) + 1, dtype=torch.int64)
    return counts.scatter_add_(1, label, torch.ones_like(label)).argmax(1)


# Clusters


def k_means(z: Tensor, clusters: int) -> Tensor:
    """Centres (K, L) of codes (M, L): the least squared distance of STARTS runs of k-means++."""
    best, least = z[:clusters], torch.inf
    for _ in range(STARTS):
        centres = lloyd(z, seed_centres(z, clusters))
        inertia = (z - centres[nearest_centre(z, centres)]).square().sum().item()
        if inertia < least:
            best, least = centres, inertia
    return best


def clustering(
    cluster: Tensor, label: Tensor, cluster_train: Tensor, label_train: Tensor, clusters: int
) -> Evidence:
    """``ari``, ``nmi`` and ``cluster_accuracy`` of the images' clusters (N,) and labels (N,).

    The training images' (M,) say how each cluster is read. Array: ``contingency`` (K, C).
    """
    classes = int(torch.cat([label, label_train]).max()) + 1
    table = contingency(cluster, label, clusters, classes)
    reading = majority(contingency(cluster_train, label_train, clusters, classes))
    facts = {"chance": _share_of_most_frequent(label, label_train)}
    return Evidence(
        entries={
            "ari": bootstrapped(table, adjusted_rand_index),
            "nmi": bootstrapped(table, normalised_mutual_information),
            "cluster_accuracy": accuracy(reading[cluster], label, facts),
        },
        arrays={"contingency": table.long().numpy()},
    )


def contingency(cluster: Tensor, label: Tensor, clusters: int, classes: int) -> Tensor:
    """The number of images in each cluster and of each label, (K, C) float64."""
    cells = (cluster * classes + label).bincount(minlength=clusters * classes)
    return cells.view(clusters, classes).double()


def majority(table: Tensor) -> Tensor:
    """The most frequent label in each cluster of a table (K, C), (K,); if empty, that of all."""
    return torch.where(table.sum(1) > 0, table.argmax(1), table.sum(0).argmax())


def adjusted_rand_index(table: Tensor) -> Tensor:
    """Agreement of two partitions on pairs of images: 1 if they are the same, 0 as chance has it.

    (sum_ij C(n_ij, 2) - e) / ((sum_i C(a_i, 2) + sum_j C(b_j, 2)) / 2 - e), with the margins a, b
    of the table (..., K, C) and e = sum_i C(a_i, 2) sum_j C(b_j, 2) / C(n, 2) (Hubert and Arabie
    1985, equation 5). 1 where both partitions are all one cluster, or all single images.
    """

    def pairs(counts: Tensor) -> Tensor:
        return counts * (counts - 1) / 2

    both = pairs(table).sum((-2, -1))
    rows, columns = pairs(table.sum(-1)).sum(-1), pairs(table.sum(-2)).sum(-1)
    expected = rows * columns / pairs(table.sum((-2, -1))).clamp(min=1)
    most = (rows + columns) / 2
    trivial = most == expected
    return torch.where(trivial, 1.0, (both - expected) / torch.where(trivial, 1.0, most - expected))


def normalised_mutual_information(table: Tensor) -> Tensor:
    """I(cluster; label) / ((H(cluster) + H(label)) / 2) of a table (..., K, C), from 0 to 1.

    Of the table's frequencies, without a correction for chance (Vinh, Epps and Bailey 2010, table
    2, NMI_sum). 1 where both partitions are all one cluster.
    """

    def entropy(share: Tensor) -> Tensor:
        return -torch.xlogy(share, share).sum(-1)

    share = table / table.sum((-2, -1), keepdim=True)
    separate = entropy(share.sum(-1)) + entropy(share.sum(-2))
    shared = separate - entropy(share.flatten(-2))
    trivial = separate <= 0
    return torch.where(trivial, 1.0, 2 * shared.clamp(min=0) / torch.where(trivial, 1.0, separate))


def bootstrapped(table: Tensor, statistic: Callable[[Tensor], Tensor]) -> Estimate:
    """A statistic of a table (K, C), with its error over RESAMPLES bootstrap samples of the images.

    Images drawn with replacement have multinomial counts in the cells (Efron 1979). The interval's
    ends are the resampled 2.5 and 97.5 % quantiles, moved by the mean's distance from the value,
    since resampling biases an information upwards. The clusters are taken as given.
    """
    n = int(table.sum())
    drawn = torch.multinomial(table.flatten(), RESAMPLES * n, replacement=True).view(RESAMPLES, n)
    counts = torch.zeros(RESAMPLES, table.numel(), dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones((), dtype=torch.float64).expand(RESAMPLES, n))
    resampled = statistic(counts.view(RESAMPLES, *table.shape))
    value = statistic(table)
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = (value + (resampled - resampled.mean()).quantile(ends)).tolist()
    return Estimate(
        value.item(),
        "share",
        n,
        se=resampled.std().item(),
        interval=(low, min(high, 1.0)),
        facts={"resamples": RESAMPLES},
    )
