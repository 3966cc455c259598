"""Sums over the images of an epoch, and the watch over the terms of its steps."""

import torch
from torch import Tensor

from vaexp.errors import RunError
from vaexp.models.absent import answered
from vaexp.models.likelihoods import Decoded

HELPS = "a lower train.learning_rate or a train.gradient_clip usually helps"
READ_EVERY = 100
"""Steps after which their terms are read. A GPU would have to wait for each reading."""


class Totals:
    """Sums over images, in float64, of what ``add`` is given step by step."""

    def __init__(self, has_sigma: bool):
        self.names = ["distortion", "rate", "objective"] + ["sigma"] * has_sigma
        self.sums: Tensor | float = 0.0
        self.count = 0
        self._unread: list[Tensor] = []

    def add(
        self, count: int, distortion: Tensor, rate: Tensor, loss: Tensor, decoded: Decoded
    ) -> None:
        """Add the means of a batch of ``count`` images. sigma is the mean of sigma(z) over pixels.

        ``distortion``, ``rate`` and ``loss`` are (), and ``decoded`` is p(x|z) of the batch.
        """
        values = [distortion, rate, -loss]
        if "sigma" in self.names:
            values.append(answered(decoded.sigma).mean())
        self._unread.append(torch.stack(values).detach().double())
        self.sums = self.sums + count * self._unread[-1]
        self.count += count

    @property
    def unread(self) -> int:
        """The number of steps whose terms ``check`` has not seen."""
        return len(self._unread)

    def check(self, split: str, epoch: int, step: int, steps: bool = True) -> None:
        """Raise RunError with the first term that is not a finite number of those not seen yet.

        ``step`` is that of the last of them, or of all where the parts are no ``steps``.
        """
        if not self._unread:
            return
        values = torch.stack(self._unread)
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
