"""How well codes predict the digit: by a linear classifier, and by the nearest training codes.

Letters in shapes: N images, M training images, L latents, C classes.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaexp.evaluation.measure import Measure

RIDGE = 1.0  # the weight of the penalty of the linear probe
TOLERANCE = 1e-6  # the largest entry of the gradient of the mean loss at which L-BFGS stops
ITERATIONS = 1000  # of L-BFGS, at most
NEIGHBOURS = 10


@dataclass(frozen=True)
class Probe:
    """Multinomial logistic regression on standardised codes."""

    classifier: Any
    """A classifier of scikit-learn, which has no types."""
    converged: bool
    """Whether the optimiser reached its tolerance: no entry of the gradient of the mean loss over
    images is above TOLERANCE, or the loss no longer changes in float64."""

    def predict(self, z: Tensor) -> Tensor:
        """The most probable label of each code z (N, L), (N,)."""
        return torch.from_numpy(self.classifier.predict(z.double().numpy()))


def fit_probe(z: Tensor, label: Tensor) -> Probe:
    """Fit the probe that minimises -sum_i ln softmax(W s_i + b)[y_i] + RIDGE / 2 |W|^2, by L-BFGS.

    z (M, L), label (M,). s_i is a code minus the mean of all codes, divided by their standard
    deviation, or by 1 if they do not vary. The intercepts b are not penalised. The formula is that
    of Bishop 2006, section 4.3.4, with a Gaussian prior on W; linear probes are due to Alain and
    Bengio 2017. For two labels scikit-learn penalises the difference of the two rows of W instead.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    if len(label.unique()) == 1:
        classifier = DummyClassifier()
    else:
        regression = LogisticRegression(C=1 / RIDGE, tol=TOLERANCE, max_iter=ITERATIONS)
        classifier = make_pipeline(StandardScaler(), regression)
    # More than one thread takes longer, as each product is small and threads wait by spinning.
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(z.double().numpy(), label.numpy())
    stopped = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return Probe(classifier, converged=not stopped)


def vote_of_nearest(z: Tensor, z_train: Tensor, label_train: Tensor, k: int) -> Tensor:
    """The most frequent label among the k training codes nearest to each code, (N,).

    z (N, L), z_train (M, L), label_train (M,). Distances are Euclidean and exact. If several labels
    have the most votes, the smallest of them wins (Cover and Hart 1967).
    """
    from sklearn.neighbors import KNeighborsClassifier

    # Distances from matrix products lose fewer digits near the origin.
    centre = z_train.double().mean(0)
    classifier = KNeighborsClassifier(k)
    classifier.fit((z_train.double() - centre).numpy(), label_train.numpy())
    return torch.from_numpy(classifier.predict((z.double() - centre).numpy()))


def probed(
    z: Tensor, label: Tensor, z_train: Tensor, label_train: Tensor, facts: dict[str, Any]
) -> dict[str, Measure]:
    """``linear_probe_accuracy`` and ``knn_accuracy`` of codes z (N, L) with labels (N,).

    Both classifiers are fitted to the codes z_train (M, L) with labels (M,). ``facts`` go to both
    measures.
    """
    probe = fit_probe(z_train, label_train)
    k = min(NEIGHBOURS, len(z_train))
    common = facts | {
        "train": len(z_train),
        "chance": share_of_most_frequent(label, label_train),
    }
    linear = common | {"ridge": RIDGE, "converged": probe.converged}
    voted = vote_of_nearest(z, z_train, label_train, k)
    return {
        "linear_probe_accuracy": accuracy(probe.predict(z), label, linear),
        "knn_accuracy": accuracy(voted, label, common | {"k": k}),
    }


def accuracy(predicted: Tensor, label: Tensor, facts: dict[str, Any]) -> Measure:
    """The accuracy of predictions (N,): 1 for each image whose prediction is its label, else 0."""
    return Measure((predicted == label).double(), "share", facts=facts)


def share_of_most_frequent(label: Tensor, label_train: Tensor) -> float:
    """The accuracy of always predicting the most frequent training label; labels (N,) and (M,)."""
    return (label == label_train.bincount().argmax()).double().mean().item()
