"""The best mean that any decoder could draw with this encoder, beside the mean that it learned.

mu*(z) = sum_n q(z|x_n) x_n / sum_n q(z|x_n) is an average of training images. For a given encoder
it has the least squared error sum_n E_q(z|x_n) |x_n - mu(z)|^2 of all functions mu, and so the
largest ELBO for a Gaussian p(x|z), whatever its sigma(z), and for (continuous) Bernoulli pixels.
That of a mixture is the M-step for its means (Bishop 2006, equation 9.17). Letters in shapes: N
training images, S draws of z, D pixels, K components, G points along an axis of a grid.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, assert_never

import torch
from torch import Tensor

from vaexp.evaluation.aggregate import Aggregate, Average, TrainingBlocks
from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Arrays, Estimate, Evidence, bootstrapped, root_average
from vaexp.evaluation.statistics import RESAMPLES, median
from vaexp.evaluation.subject import Subject
from vaexp.evaluation.support import Support
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.absent import Absent

DRAWS = 1_000  # z from the prior, and as many from the codes
SIDE = 13  # points along each axis of the picture's grid
EXTREMES = 2  # the labels in the picture: those with the smallest and the largest gap


class Found(NamedTuple):
    """What the training images say of each z."""

    average: Average
    """mu*(z), and of how many images it is."""
    outside: Tensor | None
    """Whether z lies outside of the codes' ``Support``, (S,). None where that has no answer."""


FindAt = Callable[[Tensor, Tensor], Found]
"""What they say at z (S, L) or component indices (S,), with labels (S,)."""


@torch.no_grad()
def averages_of_vectors(
    model: VAE | LinearGaussian, aggregate: Aggregate, x: Tensor, label: Tensor
) -> FindAt:
    """The averages of training images where z is a vector; ``x`` (R, D) are held-out images."""
    codes = [model.encode(xs, labels).sample() for xs, labels in blocks(x, label)]
    support = Support.of(aggregate, torch.cat(codes), label)

    def find(z: Tensor, label: Tensor) -> Found:
        log_prob = aggregate.log_prob(z, label)
        outside = None if isinstance(support, Absent) else support.lies_outside(z, label)
        return Found(aggregate.average(z, label, log_prob), outside)

    return find


@torch.no_grad()
def averages_of_components(model: GMM, train: TrainingBlocks) -> FindAt:
    """The averages of training images where z is the index of a component."""
    start = model.gaussians.mean.double()
    total, squares, sums = start.new_zeros(len(start)), start.new_zeros(len(start)), start * 0
    for block, _ in train():
        for (x,) in blocks(block):
            r = model.log_joint(x).softmax(1)
            total += r.sum(0)
            squares += r.square().sum(0)
            sums += r.T @ x.double()
    # a component without images keeps its mean, as no average says otherwise
    mean = torch.where(total[:, None] > 0, sums / total.clamp(min=1e-300)[:, None], start)
    images = total.square() / squares.clamp(min=1e-300)
    return lambda z, _: Found(Average(mean[z], images[z]), None)


@torch.no_grad()
def optimal_mean(
    model: Model, train: TrainingBlocks, find: FindAt
) -> tuple[dict[str, Estimate], dict[int, float]]:
    """The measures of z ~ p(z) and of z ~ q(z), and the mean squared gap of each label.

    The labels of a conditional model are as frequent as in the training images.
    """
    x, label = _some(train, DRAWS)
    codes = torch.cat([model.encode(xs, ls).sample() for xs, ls in blocks(x, label)])
    places = {"prior": model.prior().sample(label.shape).to(codes), "codes": codes}
    entries: dict[str, Estimate] = {}
    by_label: dict[int, float] = {}
    for place, z in places.items():
        best, outside = find(z, label)
        learned = torch.cat([model.decode(zs, ls).mean for zs, ls in blocks(z, label)])
        gap = (learned.double() - best.mean.double()).square().mean(1)
        facts: dict[str, Any] = {"over": "draws"}
        if outside is not None:
            facts["share_outside"] = outside.double().mean().item()
            if not outside.all():
                facts["inside"] = gap[~outside].mean().sqrt().item()
        entries[f"optimal_mean_gap_{place}"] = root_average(
            gap, "units of x", facts, kind="estimate"
        )
        entries[f"images_averaged_{place}"] = _median(best.images)
        if place == "prior":
            by_label = {int(one): gap[label == one].mean().item() for one in label.unique()}
        else:
            learned_error, best_error = (
                (x.double() - mean.double()).square().mean(1) for mean in (learned, best.mean)
            )
            facts = {"over": "draws", "rmse_of_learned_mean": learned_error.mean().sqrt().item()}
            entries["rmse_optimal_mean"] = root_average(
                best_error, "units of x", facts, kind="estimate"
            )
    return entries, by_label


def _some(train: TrainingBlocks, count: int) -> tuple[Tensor, Tensor]:
    """``count`` images (S, D) and their labels (S,), drawn at random with replacement."""
    chosen = torch.randint(sum(len(label) for _, label in train()), (count,))
    first, found = 0, []
    for x, label in train():
        own = chosen[(chosen >= first) & (chosen < first + len(x))] - first
        first += len(x)
        found.append((x[own], label[own]))
    images, labels = zip(*found, strict=True)
    return torch.cat(images), torch.cat(labels)


def _median(images: Tensor) -> Estimate:
    """The median of numbers of images (S,), with its error over the draws."""
    s = len(images)
    replicates = [median(images[torch.randint(s, (s,))]) for _ in range(RESAMPLES)]
    return bootstrapped(median(images), replicates, "images", s, {"over": "draws"}, kind="estimate")


@torch.no_grad()
def plane(subject: Subject[Model], find: FindAt, by_label: dict[int, float]) -> Arrays:
    """mu* and mu over a grid of both latents, for the figure.

    The points are quantiles of N(0, 1). ``by_label`` has the gap of each label.

    Arrays: ``grid`` (G,), ``optimal`` and ``learned`` (P, G, G, D) on the display scale, with
    [p, i, j] at z = (grid[j], grid[i]); ``outside`` (P, G, G) where it is known; ``labels`` (P,) if
    the model is given the label: the EXTREMES that have the smallest and the largest gap.
    """
    model, device = subject.model, subject.x.device
    levels = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE
    ticks = torch.special.ndtri(levels)
    z = torch.cartesian_prod(ticks, ticks).flip(1).to(subject.x)
    labels = sorted(by_label, key=lambda one: by_label[one])
    labels = [labels[0], labels[-1]][: min(EXTREMES, len(labels))] if model.conditional else [0]
    found: dict[str, list[Tensor]] = {"optimal": [], "learned": [], "outside": []}
    for one in labels:
        label = torch.full((len(z),), one, device=device)
        best, outside = find(z, label)
        images = {"optimal": best.mean, "learned": model.decode(z, label).mean}
        for name, x in images.items():
            shown = subject.transform.to_unit(x.float()).cpu()
            found[name].append(shown.reshape(SIDE, SIDE, -1))
        if outside is not None:
            found["outside"].append(outside.cpu().reshape(SIDE, SIDE))
    arrays = {name: torch.stack(parts).numpy() for name, parts in found.items() if parts}
    if model.conditional:
        arrays["labels"] = torch.tensor(labels).numpy()
    return {"grid": ticks.numpy(), **arrays}


@torch.no_grad()
def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``optimal_mean``. It has arrays for the figure if z has two dimensions."""
    model = subject.model
    match model:
        case GMM():
            find = averages_of_components(model, subject.train)
        case VAE() | LinearGaussian():
            find = averages_of_vectors(
                model, subject.codes.aggregate(model, subject.train), subject.x, subject.label
            )
        case _:
            assert_never(model)
    entries, by_label = optimal_mean(model, subject.train, find)
    arrays = plane(subject, find, by_label) if model.latent_dim == 2 else {}
    return Evidence({**entries}, arrays)
