"""The Parzen trap: how much likelihood a window around images gives to test images.

Early papers on generative models gave the log-likelihood of a Parzen window, a Gaussian kernel on
each image that the model draws, as that of the model. Theis et al. 2016 showed that it is not: few
averages of real images score above many real images.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vaexp.evaluation.log_sums import log_sum_exp_
from vaexp.evaluation.measure import Evidence, Measure
from vaexp.evaluation.quality import DRAWN_AT_ONCE, drawn
from vaexp.evaluation.subject import Subject
from vaexp.fitting.kmeans import lloyd
from vaexp.models import Model
from vaexp.seeding import HELD_OUT_SEED, seeded

ROWS = 250  # images whose distances to all kernels are in memory at once
CHOOSING = 1_000  # validation images that choose the bandwidth
LEAST, MOST = 0.02, 2.0  # the bandwidths to choose from, in units of the display scale
STEPS = 9  # bandwidths that are tried at once, each time between the neighbours of the best
ROUNDS = 4
CENTROIDS_IN = 10  # there is a centroid for every so many draws
LLOYD_ITERATIONS = 15
SHOWN = 10  # images of each set that are kept for the figure
SETS = ("train", "centroids", "mean", "sample")
NO_VALIDATION = "there is no validation split to choose the bandwidth by"


def squared_distances(x: Tensor, kernels: Tensor) -> Tensor:
    """The squared Euclidean distance of each image of x (n, D) to each kernel (K, D), (n, K).

    In float64, as the difference of large squares would lose the digits that the exponential needs.
    """
    x, kernels = x.double(), kernels.double()
    squares = x.square().sum(1, keepdim=True) + kernels.square().sum(1)
    return torch.addmm(squares, x, kernels.T, alpha=-2).clamp(min=0)


def log_window(squares: Tensor, bandwidth: float, dim: int) -> Tensor:
    """ln p(x) = ln 1/K sum_k N(x; x_k, h^2 I) at squared distances (n, K) to the kernels, (n,).

    ``bandwidth`` is h, and ``dim`` is D. In nats per image (Parzen 1962; Breuleux et al. 2011).
    """
    constant = math.log(squares.shape[1]) + dim / 2 * math.log(2 * math.pi * bandwidth**2)
    return log_sum_exp_(squares / (-2 * bandwidth**2)) - constant


def parzen_log_prob(x: Tensor, kernels: Tensor, bandwidth: float) -> Tensor:
    """The log density of images x (N, D) by a Parzen window on kernels (K, D), (N,) float64."""
    kernels = kernels.double()
    return torch.cat([
        log_window(squared_distances(rows, kernels), bandwidth, x.shape[1])
        for rows in x.split(ROWS)
    ])  # fmt: skip


def best_bandwidth(x: Tensor, kernels: Tensor) -> float:
    """The bandwidth from LEAST to MOST with the highest mean log density of images x (M, D).

    STEPS bandwidths are tried, and then ROUNDS - 1 times as many between the neighbours of the best
    one, so that the last step is a hundredth of the bandwidth. Early papers tried ten or so in all
    (Goodfellow et al. 2014).
    """
    kernels = kernels.double()
    distances = [squared_distances(rows, kernels) for rows in x.split(ROWS)]
    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(ROUNDS):
        tried = torch.linspace(low, high, STEPS, dtype=torch.float64)
        scores = torch.zeros_like(tried)
        for squares in distances:
            for step, bandwidth in enumerate(tried.exp().tolist()):
                scores[step] += log_window(squares, bandwidth, x.shape[1]).sum().item()
        best = int(scores.argmax())
        low, high = tried[max(best - 1, 0)].item(), tried[min(best + 1, STEPS - 1)].item()
    return math.exp(tried[best].item())


def centroids(train: Tensor, count: int) -> Tensor:
    """``count`` centroids (count, D) of training images (M, D): k-means, from random ones.

    They are the same whatever was drawn before. LLOYD_ITERATIONS suffice, as any averages will do.
    """
    with seeded(HELD_OUT_SEED, "centroids"):
        return lloyd(train, train[torch.randperm(len(train))[:count]], LLOYD_ITERATIONS)


@torch.no_grad()
def parzen(real: Tensor, validation: Tensor, sets: Mapping[str, Tensor]) -> Evidence:
    """The log densities of images ``real`` (N, D) by a Parzen window on each of the ``sets``.

    Each set holds kernels (K, D), and gets the bandwidth that is best on the first CHOOSING images
    of ``validation`` (M, D). The entries are ``parzen_<name>`` (N,), in nats per image, with the
    number of kernels and the bandwidth as facts. The arrays ``images_<name>`` hold the first images
    of each set. All images are on the display scale, and values outside of 0..1 stay as they are.

    10,000 images and 10,000 kernels take about 15 s on one core, most of it for the bandwidth, and
    100 MB beside the images.
    """
    entries, arrays = {}, {}
    for name, kernels in sets.items():
        bandwidth = best_bandwidth(validation[:CHOOSING], kernels)
        values = parzen_log_prob(real, kernels, bandwidth)
        facts = {"kernels": len(kernels), "bandwidth": bandwidth}
        entries[f"parzen_{name}"] = Measure(values, "nats", facts=facts, kind="estimate")
        arrays[f"images_{name}"] = kernels[:SHOWN].float().numpy()
    return Evidence(dict(entries), arrays)


@torch.no_grad()
def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``parzen``, with as many draws and training images as test images.

    A model that is given the label gets the labels of the test images. There is a centroid for
    every CENTROIDS_IN draws, of all training images. All measures are absent without a validation
    split.
    """
    held_out = subject.validation()
    if held_out is None:
        return Evidence(absent={f"parzen_{name}": NO_VALIDATION for name in SETS})
    n = len(subject.label)

    def to_unit(x: Tensor) -> Tensor:
        return subject.transform.to_unit(x.float()).cpu()

    prior = (
        (subject.model.prior().sample(labels.shape), labels)
        for labels in subject.label.split(DRAWN_AT_ONCE)
    )
    draws = drawn(subject, prior)
    train = torch.cat([to_unit(images) for images, _ in subject.train()])
    sets = {
        "train": train[:n],
        "centroids": centroids(train, min(max(n // CENTROIDS_IN, 1), len(train))),
        **draws,
    }
    evidence = parzen(to_unit(subject.x), to_unit(held_out), {name: sets[name] for name in SETS})
    return evidence.with_scope("same_look", look=subject.transform.look)
