"""Every random draw follows from the config's seed, what it is for and when, and nothing else.

No generator runs on from one use to the next, so a run that is resumed, or evaluated between
epochs, draws just what it would have drawn otherwise.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Held-out images get the same noise in every run, whatever its seed, so that runs can be paired.
HELD_OUT_SEED = 0


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(seed, "shuffle", epoch)``."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Inside, torch's generators start from ``derive(seed, *purpose)``; outside, as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive(seed, *purpose))
        yield
