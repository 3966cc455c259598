"""A measure of runs that differ in their seed, as tables and sentences of the answers show it."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

from vaexp.shown import show_entry
from vaexp.sweeps.summary import median_over_seeds, over_seeds

Entry = dict[str, Any]
"""An entry of metrics.json."""


def for_table(entries: Sequence[Entry]) -> str:
    """Its mean ± standard deviation over seeds; of one run its value ± standard error over images.

    Where a few images may carry the mean over images, their median stands beside it. A dash stands
    for no entries.
    """
    return show_entry(_pooled(entries), median_over_seeds(entries))


def for_sentence(entries: Sequence[Entry]) -> str:
    """The same without what a table says better: the median and the number of images."""
    return show_entry(
        _pooled(
            [{key: one for key, one in entry.items() if key != "first_images"} for entry in entries]
        )
    )


def _pooled(entries: Sequence[Entry]) -> Entry | None:
    """The entries as one, with every floor as one of sigma, in units of x.

    A number that is exact for all training images has no error: no others are meant. What runs of
    earlier versions state as its standard error is how much images differ, and is left out.
    """
    pooled = over_seeds(entries)
    if pooled is None:
        return None
    if (squared := pooled.get("covariance_floor")) is not None:
        pooled = pooled | {"sigma_floor": float(f"{sqrt(squared):.2g}")}
    is_exact = pooled.get("kind") == "exact" and pooled.get("split") == "train"
    return pooled | {"se": None} if is_exact and len(entries) == 1 else pooled
