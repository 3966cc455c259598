"""Sums over the images of an epoch, and the watch over the terms of its steps."""

import torch
from torch import Tensor

from vaexp.errors import RunError
from vaexp.models.absent import answered
from vaexp.models.likelihoods import Decoded
from vaexp.processes import ALONE, Processes

HELPS = "a lower train.learning_rate or a train.gradient_clip usually helps"
READ_EVERY = 100
"""Steps after which their terms are read. A GPU would have to wait for each reading."""


class Totals:
    """Sums over images, in float64, of what ``add`` is given step by step, over all processes."""

    def __init__(self, has_sigma: bool, processes: Processes = ALONE):
        self.processes = processes
        self.names = ["distortion", "rate", "objective"] + ["sigma"] * has_sigma
        self.sums: Tensor | float = 0.0
        """Those of the steps that ``check`` has seen."""
        self.count = 0
        self._unread: list[tuple[int, Tensor]] = []

    def add(
        self, count: int, distortion: Tensor, rate: Tensor, loss: Tensor, decoded: Decoded
    ) -> None:
        """Add the means of a batch of ``count`` images. sigma is the mean of sigma(z) over pixels.

        ``distortion``, ``rate`` and ``loss`` are (), this process's part of each mean, and
        ``decoded`` is p(x|z) of its images.
        """
        values = [distortion, rate, -loss]
        if "sigma" in self.names:
            values.append(self.processes.part_of_mean(answered(decoded.sigma), count))
        self._unread.append((count, torch.stack(values).detach().double()))
        self.count += count

    @property
    def unread(self) -> int:
        """The number of steps whose terms ``check`` has not seen."""
        return len(self._unread)

    def check(self, split: str, epoch: int, step: int, steps: bool = True) -> None:
        """Read the terms not seen yet. Raise RunError with the first that is no finite number.

        ``step`` is that of the last of them, or of all where the parts are no ``steps``.
        """
        if not self._unread:
            return
        values = self.processes.total(torch.stack([means for _, means in self._unread]))
        for (count, _), means in zip(self._unread, values, strict=True):
            self.sums = self.sums + count * means
        self._unread.clear()
        wrong = (~values.isfinite()).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            at = step - (len(values) - 1 - row if steps else 0)
            raise RunError(
                f"the {split} {self.names[column]} became {values[row, column].item()} in epoch "
                f"{epoch}, step {at}; {HELPS}"
            )

    def means(self) -> dict[str, float]:
        """The mean over all images of each number, and of the ELBO."""
        assert isinstance(self.sums, Tensor)
        means = dict(zip(self.names, (self.sums / self.count).tolist(), strict=True))
        return {"elbo": -means["distortion"] - means["rate"], **means}
