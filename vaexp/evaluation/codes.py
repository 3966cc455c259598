"""How useful the codes are: how well they predict the digit and reconstruct the image.

The code of an image is the mean of its posterior, or its most probable component for a mixture.
Letters in shapes: N images, M training images, D pixels, L latents, K clusters, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, assert_never

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.clusters import clustering, k_means
from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.probes import probed
from vaexp.evaluation.subject import Subject
from vaexp.fitting.kmeans import nearest_centre
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.moments import Moments

ROWS = 1_000  # images that are encoded or decoded at once
OF_DIGITS = (
    "linear_probe_accuracy",
    "knn_accuracy",
    "linear_probe_accuracy_pca",
    "knn_accuracy_pca",
    "ari",
    "nmi",
    "cluster_accuracy",
)
ONE_DIGIT = "all images are of one digit, so there is nothing to tell apart"


@torch.no_grad()
def codes(
    model: Model, x: Tensor, label: Tensor, train: Iterable[tuple[Tensor, Tensor]]
) -> Evidence:
    """What the codes of images x (N, D) with labels (N,) say about the digit and the image.

    ``train`` gives blocks of training images (n, D) and labels (n,), and is gone through once. All
    of them are held in memory.

    Entries: ``linear_probe_accuracy``, ``knn_accuracy`` and ``rmse_code`` of the codes;
    ``linear_probe_accuracy_pca``, ``knn_accuracy_pca`` and ``rmse_pca`` of the first L principal
    components of the training images; ``ari``, ``nmi`` and ``cluster_accuracy`` of clusters of the
    codes, as many as there are digits. A mixture has only the last three, with its components as
    clusters. Array: ``contingency`` (K, C), the number of test images of each cluster and digit.
    k-means and the bootstrap draw from torch's global generator. Where all test images are of one
    digit, there is nothing to tell apart: all that is about digits is absent, and so is the array.
    """
    match model:
        case GMM():
            evidence = _component_codes(model, x, label, train)
        case VAE() | LinearGaussian():
            evidence = _vector_codes(model, x, label, train)
        case _:
            assert_never(model)
    if len(label.unique()) > 1:
        return evidence
    told = {name: entry for name, entry in evidence.entries.items() if name not in OF_DIGITS}
    return Evidence(told, absent=dict.fromkeys(OF_DIGITS, ONE_DIGIT) | evidence.absent)


def _vector_codes(
    model: VAE | LinearGaussian, x: Tensor, label: Tensor, train: Iterable[tuple[Tensor, Tensor]]
) -> Evidence:
    parts = list(train)
    z = posterior_means(model, x, label)
    z_train = torch.cat([posterior_means(model, *part) for part in parts])
    target, target_train = label.cpu(), torch.cat([labels for _, labels in parts]).cpu()
    facts: dict[str, Any] = {"codes": _origin(model)}
    of_codes = probed(z, target, z_train, target_train, facts)

    pca = PCA.of([images for images, _ in parts], model.latent_dim)
    pca_facts = {"codes": "PCA", "components": pca.basis.shape[1]}
    scores = pca.encode(x).cpu()
    scores_train = torch.cat([pca.encode(images).cpu() for images, _ in parts])
    of_pca = probed(scores, target, scores_train, target_train, pca_facts)

    centres = k_means(z_train, len(target_train.unique()))
    cluster, cluster_train = nearest_centre(z, centres), nearest_centre(z_train, centres)
    clustered = clustering(cluster, target, cluster_train, target_train, len(centres))
    cluster_facts = facts | {"clusters": len(centres), "by": "k-means"}
    return Evidence(
        entries={
            **of_codes,
            **{f"{name}_pca": measure for name, measure in of_pca.items()},
            "rmse_code": _root_mean(squared_errors(model, x, label, z), facts),
            "rmse_pca": _root_mean(pca.squared_errors(x), pca_facts),
            **_with_facts(clustered.entries, cluster_facts),
        },
        arrays=clustered.arrays,
    )


def _component_codes(
    model: GMM, x: Tensor, label: Tensor, train: Iterable[tuple[Tensor, Tensor]]
) -> Evidence:
    parts = [(most_probable_component(model, xs), labels.cpu()) for xs, labels in train]
    clustered = clustering(
        most_probable_component(model, x),
        label.cpu(),
        torch.cat([cluster for cluster, _ in parts]),
        torch.cat([labels for _, labels in parts]),
        len(model.weight),
    )
    facts = {"codes": "component of p(z|x)", "clusters": len(model.weight), "by": "the mixture"}
    reason = "z is the index of a component, not a vector"
    no_size = f"{reason}, so no number of principal components corresponds to it"
    return Evidence(
        entries=_with_facts(clustered.entries, facts),
        arrays=clustered.arrays,
        absent=dict.fromkeys(("linear_probe_accuracy", "knn_accuracy", "rmse_code"), reason)
        | dict.fromkeys(("linear_probe_accuracy_pca", "knn_accuracy_pca", "rmse_pca"), no_size),
    )


def _origin(model: VAE | LinearGaussian) -> str:
    """The distribution whose mean the codes are."""
    match model:
        case LinearGaussian():
            return "of p(z|x)"
        case VAE():
            return "of q(z|x, label)" if model.conditional else "of q(z|x)"
        case _:
            assert_never(model)


def _root_mean(squares: Tensor, facts: dict[str, Any]) -> Measure:
    return Measure(squares, "units of x", aggregate="root_mean", facts=facts)


def _with_facts(
    entries: dict[str, Measure | Estimate], facts: dict[str, Any]
) -> dict[str, Measure | Estimate]:
    return {name: replace(entry, facts=facts | entry.facts) for name, entry in entries.items()}


# Codes


@torch.no_grad()
def posterior_means(model: VAE | LinearGaussian, x: Tensor, label: Tensor) -> Tensor:
    """The means E_q[z|x] for images x (N, D) with labels (N,), (N, L) float64 on the CPU.

    A conditional model has E_q[z|x, label] instead.
    """
    means = [model.encode(xs, labels).mean for xs, labels in blocks(x, label, rows=ROWS)]
    return torch.cat([mean.double().cpu() for mean in means])


@torch.no_grad()
def most_probable_component(model: GMM, x: Tensor) -> Tensor:
    """The component arg max_k p(z = k|x) for images x (N, D), (N,) on the CPU."""
    return torch.cat([model.log_joint(xs).argmax(1).cpu() for xs in x.split(ROWS)])


@torch.no_grad()
def squared_errors(model: VAE | LinearGaussian, x: Tensor, label: Tensor, z: Tensor) -> Tensor:
    """|x - mu(z)|^2 / D for images x (N, D) and their codes z (N, L), (N,) float64 on the CPU."""
    errors = []
    for xs, labels, zs in blocks(x, label, z, rows=ROWS):
        rebuilt = model.decode(zs.to(xs), labels).mean
        errors.append((xs.double() - rebuilt.double()).square().mean(1).cpu())
    return torch.cat(errors)


@dataclass(frozen=True)
class PCA:
    """Principal components: the affine map to L numbers that reconstructs images best.

    The mean of |x - m - U U^T (x - m)|^2 is smallest for the mean m of the images and the leading
    eigenvectors U of their covariance (Pearson 1901; Bishop 2006, section 12.1).
    """

    mean: Tensor
    """m (D,), float64."""
    basis: Tensor
    """U (D, L). Its columns are orthonormal, in descending order of the variance."""

    @classmethod
    def of(cls, parts: Iterable[Tensor], count: int) -> "PCA":
        """The first ``count`` components of images that are given in blocks (n, D).

        There are fewer if the images vary in fewer directions, but at least one.
        """
        each = (Moments.of(part) for part in parts)
        moments = next(each)
        for other in each:
            moments = moments + other
        values, vectors = torch.linalg.eigh(moments.covariance)
        varying = int((values > 1e-12 * values[-1]).sum())  # the others are rounding errors
        return cls(moments.mean, vectors.flip(1)[:, : max(1, min(count, varying))])

    def encode(self, x: Tensor) -> Tensor:
        """U^T (x - m) for images x (N, D), (N, L) float64."""
        return torch.cat([(xs.double() - self.mean) @ self.basis for xs in x.split(ROWS)])

    def squared_errors(self, x: Tensor) -> Tensor:
        """|x - m - U U^T (x - m)|^2 / D for images x (N, D), (N,) float64 on the CPU."""
        errors = []
        for xs in x.split(ROWS):
            centred = xs.double() - self.mean
            rest = centred - centred @ self.basis @ self.basis.T
            errors.append(rest.square().mean(1).cpu())
        return torch.cat(errors)


def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``codes``. Only the errors of pixels depend on the scale of x."""
    evidence = codes(subject.model, subject.x, subject.label, subject.train())
    return evidence.with_scope("any_transform", but=("rmse_code", "rmse_pca"))
