"""Gaussian mixtures of the codes of the training images, one for each label where it is given."""

from collections.abc import Collection

import torch
from torch import Tensor

from vaexp.evaluation.aggregate import Aggregate, TrainingBlocks
from vaexp.fitting.codes import mixture_of_codes
from vaexp.models import VAE, LinearGaussian
from vaexp.seeding import HELD_OUT_SEED, seeded

MOST_CODES = 20_000  # of all labels together that EM sees, to spare time


class CodeMixture:
    """A mixture for z, or for z given each label, that is fitted to z ~ q(z|x_n).

    The codes that it is fitted to and where EM starts follow from the model and the images alone,
    so that it is the same mixture wherever it is needed. S latents z, with L numbers each.
    """

    def __init__(self, aggregate: Aggregate, labels: Collection[int] | None = None):
        """``labels`` are those that it is needed for; the default is all."""
        self._group = aggregate.group
        self.mixtures = {}
        most = max(1, MOST_CODES // len(aggregate.images))
        needed = set(aggregate.images)
        if labels is not None:
            needed = set(aggregate.group(torch.tensor(sorted(labels))).tolist())
        for one in sorted(needed):
            images = aggregate.images[one]
            with seeded(HELD_OUT_SEED, "codes", one):
                some = images[torch.randperm(len(images))[:most].to(images.device)]
                codes = aggregate.codes(some)
            self.mixtures[one] = mixture_of_codes(codes, HELD_OUT_SEED)

    @property
    def components(self) -> dict[int, int]:
        """The number of components of the mixture of each label, or of the one for all as 0."""
        return {one: len(mixture.weight) for one, mixture in self.mixtures.items()}

    def sample(self, label: Tensor) -> Tensor:
        """One draw z for each of the labels (S,), (S, L), from torch's global generator."""
        group = self._group(label)
        z: Tensor | None = None
        for one in group.unique():
            rows = (group == one).nonzero()[:, 0]
            mixture = self.mixtures[int(one)]
            drawn = mixture.decode(mixture.prior().sample(rows.shape)).sample()
            z = drawn.new_empty(len(label), drawn.shape[1]) if z is None else z
            z[rows] = drawn
        assert z is not None
        return z

    def log_prob(self, z: Tensor, label: Tensor) -> Tensor:
        """The log density at z (S, L), or that given the labels (S,), (S,), nats."""
        group = self._group(label)
        log_prob = torch.empty(len(z), dtype=torch.float64, device=z.device)
        for one in group.unique():
            rows = (group == one).nonzero()[:, 0]
            log_prob[rows] = self.mixtures[int(one)].log_prob(z[rows].double())
        return log_prob


class Codes:
    """The codes of the training images under a model, and the mixture that is fitted to them.

    Both take seconds, and several groups need them. They are made at the first call, whose model
    and images all later calls must have.
    """

    def __init__(self) -> None:
        self._aggregate: Aggregate | None = None
        self._mixture: CodeMixture | None = None

    def aggregate(self, model: VAE | LinearGaussian, train: TrainingBlocks) -> Aggregate:
        """The aggregated posterior of the training images."""
        if self._aggregate is None:
            self._aggregate = Aggregate(model, train)
        return self._aggregate

    def mixture(self, model: VAE | LinearGaussian, train: TrainingBlocks) -> CodeMixture:
        """The mixture. Only digits that ``aggregate`` knows can be drawn from it."""
        if self._mixture is None:
            self._mixture = CodeMixture(self.aggregate(model, train))
        return self._mixture
