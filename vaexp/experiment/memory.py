"""Whether the memory can suffice for an experiment, asked before anything large is allocated.

Linux lends memory that it does not have, and kills the process that uses it, without a word.
"""

import math
from pathlib import Path
from typing import assert_never

import psutil
import torch

from vaexp.config import Config, GMMExperiment, LinearGaussianExperiment, VAEExperiment
from vaexp.data import CLASSES, size
from vaexp.errors import RunError
from vaexp.models import build

FLOAT = 4  # bytes of a float32
LIMITS = (  # of a container in the two versions of cgroups: what it may use, uses and can give back
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def check_memory(config: Config) -> None:
    """Raise RunError if training needs more memory than there is, on the device of the config.

    Raises UserError if own images are not where the config says.
    """
    needed, there = needed_memory(config), free_memory(config.device)
    if needed > there:
        raise RunError(
            f"training this model takes at least {_gigabytes(needed)} of memory, and only "
            f"{_gigabytes(there)} are free; a smaller model, train.batch_size or data.limit needs "
            "less"
        )


def needed_memory(config: Config) -> int:
    """A lower bound on the bytes that training takes: what is held at the same time for sure."""
    total, pixels = size(config.data)
    with torch.device("meta"):  # which has shapes and no numbers
        model = build(config.model, data_dim=pixels, classes=CLASSES)
    parameters = sum(each.numel() * each.element_size() for each in model.state_dict().values())
    data = config.data
    images = max(total - data.validation_size, 0) if data.limit is None else data.limit
    if data.limit is None and data.labels is not None:
        images = 0  # as it is not known yet how many images a digit has
    match config:
        case VAEExperiment(train=train):
            # Weights, their gradients and one moment of the optimizer at least. For the gradients
            # each layer keeps the numbers that it gets from a batch.
            units = 2 * sum(config.model.hidden) + 2 * pixels
            return 3 * parameters + min(train.batch_size, images) * units * FLOAT
        case GMMExperiment(model=mixture):
            # Parameters and the statistics of the next ones, the images, and how they are shared
            # among the components.
            return 2 * parameters + images * (pixels + mixture.components) * FLOAT
        case LinearGaussianExperiment():
            return 2 * parameters + images * pixels * FLOAT
    assert_never(config)


def free_memory(device: str) -> float:
    """The bytes that this process can still get, without those on disk."""
    if device != "cpu" and torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    return min(float(psutil.virtual_memory().available), *map(_left_in_container, LIMITS))


def _left_in_container(
    files: tuple[str, str, str, str], root: Path = Path("/sys/fs/cgroup")
) -> float:
    """The bytes that the container leaves to its processes; infinity where nothing limits them.

    What it uses contains pages of files that it has read, which it gives back when they are needed.
    """
    *numbers, stat, given_back = files
    try:
        limit, used = (int((root / name).read_text()) for name in numbers)
        of_files = dict(line.split() for line in (root / stat).read_text().splitlines())
        return limit - used + int(of_files.get(given_back, 0))
    except (OSError, ValueError):  # no container, or the word max
        return math.inf


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
