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

STARTS = 5  # of k-means

Agreement = Callable[[Any, Any], float]
"""A function of scikit-learn of two labellings of the same images, arrays (n,) of integers."""


def k_means(z: Tensor, clusters: int) -> Tensor:
    """Centres (K, L) of codes (M, L): those with the least squared distance of STARTS runs.

    Runs start from k-means++ (Arthur and Vassilvitskii 2007), with a seed that is drawn from
    torch's global generator.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seed = int(torch.randint(2**31, ()))
    # Several threads would add up the codes of a cluster in an order that changes between runs.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different codes than clusters
        found = KMeans(clusters, n_init=STARTS, random_state=seed).fit(z.double().numpy())
    return torch.from_numpy(found.cluster_centers_)


def clustering(
    cluster: Tensor, label: Tensor, cluster_train: Tensor, label_train: Tensor, clusters: int
) -> Evidence:
    """``ari``, ``nmi`` and ``cluster_accuracy`` of the images' clusters (N,) and labels (N,).

    ``ari`` is the adjusted Rand index (Hubert and Arabie 1985, equation 5); ``nmi`` is the mutual
    information over the mean of both entropies, without a correction for chance (Vinh, Epps and
    Bailey 2010, table 2, NMI_sum). For the accuracy, a cluster is read as the most frequent label
    of its training images (M,). Array: ``contingency`` (K, C).
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    classes = int(torch.cat([label, label_train]).max()) + 1
    table = contingency(cluster, label, clusters, classes)
    reading = majority(contingency(cluster_train, label_train, clusters, classes))
    facts = {"chance": share_of_most_frequent(label, label_train)}
    return Evidence(
        entries={
            "ari": agreement(table, adjusted_rand_score),
            "nmi": agreement(table, normalized_mutual_info_score),
            "cluster_accuracy": accuracy(reading[cluster], label, facts),
        },
        arrays={"contingency": table.numpy()},
    )


def contingency(cluster: Tensor, label: Tensor, clusters: int, classes: int) -> Tensor:
    """The number of images in each cluster and of each label, (K, C) int64."""
    cells = (cluster * classes + label).bincount(minlength=clusters * classes)
    return cells.view(clusters, classes)


def majority(table: Tensor) -> Tensor:
    """The most frequent label in each cluster of a table (K, C), (K,).

    An empty cluster gets the most frequent label of all.
    """
    return torch.where(table.sum(1) > 0, table.argmax(1), table.sum(0).argmax())


def agreement(table: Tensor, statistic: Agreement) -> Estimate:
    """A statistic of a table (K, C) of clusters and labels, with its error by the bootstrap.

    The bootstrap draws images with replacement, so the counts in the cells are multinomial. It
    takes the clusters as given. No statistic is above 1, where its interval ends.
    """
    classes = table.shape[1]

    def of(cells: Tensor) -> float:
        return float(statistic((cells % classes).numpy(), (cells // classes).numpy()))

    n = int(table.sum())
    each = torch.arange(table.numel()).repeat_interleave(table.flatten())
    drawn = torch.multinomial(table.flatten().double(), RESAMPLES * n, replacement=True)
    with warnings.catch_warnings():  # scikit-learn takes many small clusters for a regression
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than")
        value, replicates = of(each), [of(cells) for cells in drawn.view(RESAMPLES, n)]
    found = bootstrapped(value, replicates, "share", n)
    assert found.interval is not None
    low, high = found.interval
    return replace(found, interval=(low, min(high, 1.0)))
