"""The aggregated posterior of the training images, q(z) = (1/N) sum_n q(z|x_n), at any z.

A conditional model has one for each label, q(z|y), of the images with that label: that is what its
decoder sees together with y. Letters in shapes: N images, D pixels, L latents, S latents z at which
something is measured. All numbers are float64, and log densities are in nats.
"""

import math
from collections.abc import Callable, Iterable
from copy import copy
from typing import NamedTuple, Self, assert_never

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.log_sums import LEAST, log_sum_exp_
from vaexp.models import VAE, LinearGaussian

ROWS_PER_BLOCK = 64  # rows of the S x N densities; as many as the processor caches can hold

TrainingBlocks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Gives images (n, D) and labels (n,), block by block, the same ones at every call."""


class Posteriors:
    """q(z|x_n) = N(mean_n, diag scale_n^2) of N images, with mean and scale (N, L)."""

    def __init__(self, mean: Tensor, scale: Tensor):
        precision = scale**-2
        log_normaliser = scale.log().sum(1) + mean.shape[1] / 2 * math.log(2 * math.pi)
        self._constant = -0.5 * (mean.square() * precision).sum(1) - log_normaliser
        self._weights = torch.cat([-0.5 * precision, mean * precision], 1).T.contiguous()

    def log_prob(self, z: Tensor, images: slice = slice(None)) -> Tensor:
        """Ln q(z|x_n) of z (S, L) for each of the images, (S, N).

        This is one matrix product, as the sum over latents of (z - m)^2 / s^2 is that of
        z^2 / s^2 - 2 z m / s^2 + m^2 / s^2. It loses digits to cancellation if scales are tiny.
        """
        rows = torch.cat([z.square(), z], 1)
        return torch.addmm(self._constant[images], rows, self._weights[:, images])


class Average(NamedTuple):
    """The average of training images that belongs to each z."""

    mean: Tensor
    """mu*(z) = sum_n q(z|x_n) x_n / sum_n q(z|x_n), (S, D), in the type of the images."""
    images: Tensor
    """1 / sum_n w_n^2 with w_n the weights of the average: how many images it is of, (S,)."""


class Aggregate:
    """q(z), or q(z|y) for each label y of a conditional model.

    A method that takes z (S, L) takes the labels (S,) that z is decoded with, too. A model that is
    not conditional ignores them; else each must be the label of some image.
    """

    def __init__(self, model: VAE | LinearGaussian, train: TrainingBlocks):
        """Encode the training images, and keep their posteriors, but not the images."""
        parts = [(*encoded(model, x, label), label) for x, label in train()]
        mean, scale, self.label = (torch.cat(part) for part in zip(*parts, strict=True))
        self.conditional = model.conditional
        # z = root u turns the axes of u, on which posteriors are diagonal, to those of the model
        self.root = torch.eye(mean.shape[1]).to(mean)
        match model:
            case VAE():
                pass
            case LinearGaussian():
                self.root = model.posterior_root.double()
                mean, scale = self._diagonal(mean), torch.ones_like(mean)
            case _:
                assert_never(model)
        self._log_det = self.root.diagonal().log().sum()
        self._train = train
        group = self.group(self.label)
        self.images = {int(one): (group == one).nonzero()[:, 0] for one in group.unique()}
        """The numbers of the images (N_y,) of each label, or of all images as those of 0."""
        self._mean, self._scale = mean, scale
        self._posteriors = self._of_each_label(scale)

    def group(self, label: Tensor) -> Tensor:
        """The number (S,) of the aggregated posterior that z with these labels (S,) belongs to."""
        return label if self.conditional else torch.zeros_like(label)

    def _of_each_label(self, scale: Tensor) -> dict[int, Posteriors]:
        """The posteriors with standard deviations (N, L), by label, or all as those of 0."""
        return {one: Posteriors(self._mean[rows], scale[rows]) for one, rows in self.images.items()}

    def widened(self, width: float) -> Self:
        """The same with ``width`` squared added to the variance of every posterior on each axis.

        Its ``log_prob`` is that of a kernel density estimate from the codes.
        """
        other = copy(self)
        other._posteriors = self._of_each_label((self._scale.square() + width**2).sqrt())
        return other

    @property
    def spread(self) -> float:
        """The standard deviation of the posteriors' means within a label, over all axes."""
        parts = [self._mean[rows].var(0, correction=0) for rows in self.images.values()]
        return float(torch.stack(parts).mean().sqrt())

    def _diagonal(self, z: Tensor) -> Tensor:
        """Turn z (S, L) to the axes on which all posteriors are diagonal."""
        return torch.linalg.solve_triangular(self.root, z.double().T, upper=False).T

    def knows(self, label: Tensor) -> bool:
        """Whether there are images to aggregate for all of the labels (S,)."""
        return set(self.group(label).tolist()) <= self.images.keys()

    def codes(self, images: Tensor) -> Tensor:
        """One draw z ~ q(z|x_n) for each of the training images with these numbers, (S, L)."""
        mean, scale = self._mean[images], self._scale[images]
        return (mean + scale * torch.randn_like(mean)) @ self.root.T

    def log_prob(self, z: Tensor, label: Tensor) -> Tensor:
        """Ln q(z) at z (S, L), (S,)."""
        log_prob = torch.empty(len(z), dtype=torch.float64, device=z.device)
        for one, rows in self._of_groups(label):
            for some in rows.split(ROWS_PER_BLOCK):
                terms = self._posteriors[one].log_prob(self._diagonal(z[some]))
                log_prob[some] = log_sum_exp_(terms) - math.log(terms.shape[1])
        return log_prob - self._log_det

    def average(self, z: Tensor, label: Tensor, log_prob: Tensor) -> Average:
        """The average of images at z (S, L) with its ``log_prob`` (S,).

        The images are gone through once more, and one block of them is held at a time.
        """
        first = dict.fromkeys(self.images, 0)
        mean, weight = torch.zeros(()), torch.zeros_like(log_prob)
        squares = torch.zeros_like(log_prob)
        for x, labels in self._train():
            group = self.group(labels)
            mean = mean if mean.ndim else x.new_zeros(len(z), x.shape[1])
            for one, rows in self._of_groups(label):
                own = x[group == one]
                images = slice(first[one], first[one] + len(own))
                first[one] += len(own)
                for some in rows.split(8 * ROWS_PER_BLOCK):
                    terms = self._posteriors[one].log_prob(self._diagonal(z[some]), images)
                    total = log_prob[some] + self._log_det + math.log(len(self.images[one]))
                    share = terms.sub_(total[:, None]).clamp_(min=LEAST).exp_()
                    mean[some] += share.to(x) @ own
                    weight[some] += share.sum(1)
                    squares[some] += share.square().sum(1)
        # ``weight`` is 1 up to rounding, which is not small far from all codes
        return Average(mean / weight.to(mean)[:, None], weight.square() / squares)

    def _of_groups(self, label: Tensor) -> list[tuple[int, Tensor]]:
        """Each aggregated posterior that z with these labels (S,) need, and the rows of its z."""
        group = self.group(label)
        return [(int(one), (group == one).nonzero()[:, 0]) for one in group.unique()]


def encoded(model: VAE | LinearGaussian, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The means and standard deviations of q(z_l|x_n), (N, L) float64 each."""
    parts = [model.encode(xs, labels) for xs, labels in blocks(x, label)]
    return (
        torch.cat([part.mean for part in parts]).double(),
        torch.cat([part.stddev for part in parts]).double(),
    )
