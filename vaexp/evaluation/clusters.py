"""How well clusters of images agree with their digits.

Letters in shapes: N images, M training images, L latents, K clusters, C classes.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vaexp.evaluation.measure import Estimate, Evidence, bootstrapped
from vaexp.evaluation.probes import accuracy, share_of_most_frequent
from vaexp.evaluation.statistics import RESAMPLES

STARTS = 5  # runs of k-means, of which the best one is kept

Agreement = Callable[[Any, Any], float]
"""A function of two labellings of the same n images, such as scikit-learn's adjusted_rand_score.

Labellings are arrays (n,) of integers."""


def k_means(z: Tensor, clusters: int) -> Tensor:
    """The centres (K, L) of K clusters of codes z (M, L), float64.

    Of STARTS runs the one with the least sum of squared distances is taken. Every run starts from
    k-means++ (Arthur and Vassilvitskii 2007). The seed is drawn from torch's global generator.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seed = int(torch.randint(2**31, ()))
    # Several threads would add up the codes of a cluster in an order that changes between runs.
    with threadpool_limits(1), warnings.catch_warnings():
        # k-means warns if there are fewer different codes than clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = KMeans(clusters, n_init=STARTS, random_state=seed).fit(z.double().numpy())
    return torch.from_numpy(fitted.cluster_centers_)


def clustering(
    cluster: Tensor, label: Tensor, cluster_train: Tensor, label_train: Tensor, clusters: int
) -> Evidence:
    """``ari``, ``nmi`` and ``cluster_accuracy`` of the clusters (N,) and labels (N,) of images.

    ``ari`` is the adjusted Rand index (Hubert and Arabie 1985, equation 5). ``nmi`` is the mutual
    information divided by the mean of both entropies, without a correction for chance (Vinh, Epps
    and Bailey 2010, table 2, NMI_sum). For the accuracy, the label that a cluster predicts is the
    most frequent one of its training images, whose clusters and labels (M,) are ``cluster_train``
    and ``label_train``. Array: ``contingency`` (K, C).
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    classes = int(torch.cat([label, label_train]).max()) + 1
    table = contingency(cluster, label, clusters, classes)
    predicted = majority(contingency(cluster_train, label_train, clusters, classes))
    facts = {"chance": share_of_most_frequent(label, label_train)}
    return Evidence(
        entries={
            "ari": agreement(table, adjusted_rand_score),
            "nmi": agreement(table, normalized_mutual_info_score),
            "cluster_accuracy": accuracy(predicted[cluster], label, facts),
        },
        arrays={"contingency": table.numpy()},
    )


def contingency(cluster: Tensor, label: Tensor, clusters: int, classes: int) -> Tensor:
    """The number of images in each cluster and of each label, (K, C) int64."""
    cells = (cluster * classes + label).bincount(minlength=clusters * classes)
    return cells.view(clusters, classes)


def majority(table: Tensor) -> Tensor:
    """The most frequent label in each cluster of a contingency table (K, C), (K,).

    An empty cluster gets the most frequent label of all images.
    """
    return torch.where(table.sum(1) > 0, table.argmax(1), table.sum(0).argmax())


def agreement(table: Tensor, statistic: Agreement) -> Estimate:
    """A statistic of a contingency table (K, C) of clusters and labels, with its bootstrap error.

    The bootstrap draws images with replacement, so the counts in the cells are multinomial. The
    clusters themselves are held fixed. No statistic is above 1, so no interval ends above 1.
    """
    classes = table.shape[1]

    def statistic_of(cells: Tensor) -> float:
        """The statistic of images in these cells of the table (n,)."""
        return float(statistic((cells % classes).numpy(), (cells // classes).numpy()))

    n = int(table.sum())
    each = torch.arange(table.numel()).repeat_interleave(table.flatten())
    drawn = torch.multinomial(table.flatten().double(), RESAMPLES * n, replacement=True)
    with warnings.catch_warnings():  # scikit-learn mistakes many small clusters for a regression
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than")
        value = statistic_of(each)
        replicates = [statistic_of(cells) for cells in drawn.view(RESAMPLES, n)]
    estimate = bootstrapped(value, replicates, "share", n)
    assert estimate.interval is not None
    low, high = estimate.interval
    return replace(estimate, interval=(low, min(high, 1.0)))
