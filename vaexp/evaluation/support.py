"""The region where the codes lie, and what share of other latents z lies outside of it.

Letters in shapes: R codes of held-out images, S latents z at which something is measured, L
latents.
"""

from typing import Any, Self

import torch
from torch import Tensor

from vaexp.evaluation.aggregate import Aggregate
from vaexp.evaluation.measure import Estimate
from vaexp.evaluation.statistics import RESAMPLES
from vaexp.models.absent import Absent

OUTSIDE = 0.01  # the share of the held-out codes that lies outside
LEAST_CODES = 100  # held-out ones of each label: fewer have no 1 % quantile
MOST_CODES = 2_000
WIDTHS = tuple(2.0**-i for i in range(9, 0, -1))
"""What posteriors may be widened by, in units of the spread of the codes."""
TOO_FEW = Absent(f"it needs {LEAST_CODES} test images, of each label where the model is given it")


class Support:
    """The region of z with 99 % of the codes of held-out images, for each label where it is given.

    It is where the aggregated posterior q(z) of the training images is at least as large as its 1 %
    quantile over the codes z ~ q(z|x) of held-out images x: a highest density region of q(z)
    (Hyndman 1996, Computing and graphing highest density regions).

    Where posteriors are so narrow that the codes of other images fall between them, as at a small
    beta, q(z) says only how far the nearest code is. So each posterior is widened by the one of
    WIDTHS, or by nothing, under which the held-out codes are likeliest.
    """

    def __init__(self, held_out: dict[int, Tensor], aggregate: Aggregate, width: float):
        """``held_out`` has ln q(z) of the held-out codes (R,) of each group of ``aggregate``.

        ``aggregate`` is widened by ``width``.
        """
        self.held_out = held_out
        self.aggregate = aggregate
        self.width = width
        self._least = {one: values.quantile(OUTSIDE) for one, values in held_out.items()}

    @classmethod
    def of(cls, aggregate: Aggregate, z: Tensor, label: Tensor) -> Self | Absent:
        """The region found from codes z (R, L) of held-out images with labels (R,).

        At most MOST_CODES of them are used, or of each label, to spare time. Absent where there are
        fewer than LEAST_CODES. Labels that no training image has are left out.
        """
        group = aggregate.group(label)
        rows = {}
        for one in aggregate.images:
            own = (group == one).nonzero()[:, 0]
            rows[one] = own[torch.randperm(len(own))[:MOST_CODES].to(own.device)]
            if len(own) < LEAST_CODES:
                return TOO_FEW
        some = torch.cat([own[:LEAST_CODES] for own in rows.values()])
        width = best_width(aggregate, z[some], label[some])
        wide = aggregate.widened(width) if width else aggregate
        held_out = {one: wide.log_prob(z[own], label[own]) for one, own in rows.items()}
        return cls(held_out, wide, width)

    def margin(self, log_prob: Tensor, label: Tensor) -> Tensor:
        """Ln q(z) (S,) minus its least value inside, (S,) nats. Below 0 z lies outside."""
        least = [self._least[one] for one in self.aggregate.group(label).tolist()]
        return log_prob - torch.stack(least)

    def lies_outside(self, z: Tensor, label: Tensor) -> Tensor:
        """Whether each of z (S, L), decoded with labels (S,), lies outside, (S,)."""
        return self.margin(self.aggregate.log_prob(z, label), label) < 0

    def margins_of_codes(self) -> Tensor:
        """The ``margin`` of the held-out codes of all labels, (R,)."""
        return torch.cat([values - self._least[one] for one, values in self.held_out.items()])

    def share_outside(self, log_prob: Tensor, label: Tensor) -> Estimate:
        """The share of z that lie outside, from ln q(z) (S,) and labels (S,).

        The standard error is that of the bootstrap over both the z and the held-out codes. OUTSIDE
        is the share of held-out codes.
        """
        group = self.aggregate.group(label)
        parts = [(log_prob[group == one], self.held_out[int(one)]) for one in group.unique()]
        outside = (self.margin(log_prob, label) < 0).double()
        replicates = []
        for _ in range(RESAMPLES):
            count = 0
            for ours, theirs in parts:
                count += int((_resampled(ours) < _resampled(theirs).quantile(OUTSIDE)).sum())
            replicates.append(count / len(log_prob))
        se = torch.tensor(replicates, dtype=torch.float64).std().item()
        facts: dict[str, Any] = {
            "share_of_codes": OUTSIDE,
            "codes": sum(map(len, self.held_out.values())),
            "width": self.width,
        }
        return Estimate(
            outside.mean().item(), "share", len(log_prob), se, facts=facts, kind="estimate"
        )


def best_width(aggregate: Aggregate, z: Tensor, label: Tensor) -> float:
    """The width under which codes z (R, L) of held-out images with labels (R,) are likeliest."""
    widths = [0.0, *(share * aggregate.spread for share in WIDTHS)]
    means = [aggregate.widened(width).log_prob(z, label).mean() for width in widths]
    return widths[int(torch.stack(means).argmax())]


def _resampled(values: Tensor) -> Tensor:
    """A bootstrap sample of values (n,), by torch's global generator."""
    return values[torch.randint(len(values), (len(values),)).to(values.device)]
