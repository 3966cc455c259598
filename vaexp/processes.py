"""The processes that train one model together, each on a share of the images.

torchrun starts them. Everything here leaves a training by one process as it is, to the last bit.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from vaexp.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor, nn

ALL = slice(None)
_GONE = ("by peer", "Broken pipe", "remote process exited")
"""How gloo and NCCL say that another process has ended."""
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those of one training. By default it is alone.

    All methods but ``rows``, ``share`` and ``part_of_mean`` have to be called by all processes, in
    the same order, and inside of ``joined``.
    """

    rank: int = 0
    """The number of this process, from 0. The first one writes the run folder."""
    count: int = 1
    """How many processes there are."""
    local_rank: int = 0
    """The number of this process among those of this machine, and of its GPU."""
    local_count: int = 1
    """How many processes there are on this machine."""

    @classmethod
    def of_torchrun(cls) -> Self:
        """The processes that torchrun has started, or this one alone if it did not start it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*[int(os.environ[name]) for name in names])

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Meet the other processes, and work with them inside the block.

        Tensors of the CPU travel by gloo, those of a GPU by NCCL. An error inside the block ends
        the process, which the others then notice: they raise RunError.
        """
        if self.count == 1:
            yield
            return
        import torch

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend)
        try:
            yield
        except RuntimeError as error:
            if any(words in str(error) for words in _GONE):
                raise RunError(
                    f"another of the {self.count} processes has ended, and so does this one; "
                    "vaexp train --resume RUN goes on after the last checkpoint"
                ) from None
            raise
        torch.distributed.destroy_process_group()

    def rows(self, n: int) -> slice:
        """Those of ``n`` rows that this process works on. The shares differ by one row at most.

        Where there are fewer rows than processes, some get a row of another one, as no model takes
        none at all; ``part_of_mean`` leaves it out.
        """
        if self.count == 1:
            return ALL
        first, own = self._own(n)
        return slice(first, first + max(own, 1))

    def share(self, rows: "Tensor") -> "Tensor":
        """Those rows of a tensor (N, ...) that this process works on."""
        return rows if self.count == 1 else rows[self.rows(len(rows))]

    def part_of_mean(self, values: "Tensor", n: int) -> "Tensor":
        """What this process adds to the mean over n rows, from the ``values`` of its rows, ().

        ``values`` (m, ...) are those of ``rows(n)``. The parts of all processes add up to the mean
        over rows and over all other dimensions.
        """
        if self.count == 1:
            return values.mean()
        _, own = self._own(n)
        return values[:own].sum() / (n * values.shape[1:].numel())

    def total(self, value: "Tensor") -> "Tensor":
        """The sum of a tensor over the processes, which all of them get bit for bit."""
        if self.count == 1:
            return value
        import torch

        total = value.detach().clone().contiguous()
        torch.distributed.all_reduce(total)
        return total

    def of_first(self, value: T) -> T:
        """The value of the first process, in all of them. Its tensors have to be on the CPU."""
        if self.count == 1:
            return value
        import torch

        values: list[Any] = [value]
        torch.distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        first: T = values[0]
        return first

    def in_parallel(self, module: "nn.Module") -> "nn.Module":
        """The module, whose gradients become the mean over the processes."""
        if self.count == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module)

    def _own(self, n: int) -> tuple[int, int]:
        """The first of this process's rows among n, and how many there are."""
        first = n * self.rank // self.count
        return first, n * (self.rank + 1) // self.count - first


ALONE = Processes()
