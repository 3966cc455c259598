"""Random numbers that follow from the config's seed, their purpose, and nothing else.

Every use starts its own generator. A run that is resumed, or evaluated between two epochs,
therefore draws the same numbers as a run that is not.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Held-out images get the same noise in every run, whatever its seed, and so do the regions of pixel
# space that samples are counted in. Then the numbers of runs can be compared.
HELD_OUT_SEED = 0


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, such as ``derive(seed, "shuffle", epoch)``."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's generators with ``derive(seed, *purpose)`` inside the block.

    After the block they continue as if nothing had been drawn.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive(seed, *purpose))
        yield
