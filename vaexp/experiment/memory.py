"""Whether the memory can suffice for an experiment, asked before anything large is allocated.

Linux lends memory that it does not have, and kills the process that uses it, without a word.
"""

import math
from pathlib import Path
from typing import assert_never

import psutil
import torch

from vaexp.config import Config, GMMExperiment, LinearGaussianExperiment, VAEExperiment
from vaexp.config.data import TRAINING_IMAGES
from vaexp.data import CLASSES, PIXELS
from vaexp.errors import RunError
from vaexp.models import build

FLOAT = 4  # bytes of a float32
LIMITS = (  # the memory that a container may use, and what it uses, in the two versions of cgroups
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def check_memory(config: Config) -> None:
    """Raise RunError if training needs more memory than there is, on the device of the config."""
    needed, there = needed_memory(config), free_memory(config.device)
    if needed > there:
        raise RunError(
            f"training this model takes at least {_gigabytes(needed)} of memory, and only "
            f"{_gigabytes(there)} are free; a smaller model, train.batch_size or data.limit needs "
            "less"
        )


def needed_memory(config: Config) -> int:
    """A lower bound on the bytes that training takes: what is held at the same time for sure."""
    with torch.device("meta"):  # which has shapes and no numbers
        model = build(config.model, data_dim=PIXELS, classes=CLASSES)
    parameters = sum(each.numel() * each.element_size() for each in model.state_dict().values())
    total = TRAINING_IMAGES[config.data.name] - config.data.validation_size
    images = total if config.data.limit is None else config.data.limit
    match config:
        case VAEExperiment(train=train):
            # Weights, their gradients and one moment of the optimizer at least. For the gradients
            # each layer keeps the numbers that it gets from a batch.
            units = 2 * sum(config.model.hidden) + 2 * PIXELS
            return 3 * parameters + min(train.batch_size, images) * units * FLOAT
        case GMMExperiment(model=mixture):
            # Parameters and the statistics of the next ones, the images, and how they are shared
            # among the components.
            return 2 * parameters + images * (PIXELS + mixture.components) * FLOAT
        case LinearGaussianExperiment():
            return 2 * parameters + images * PIXELS * FLOAT
    assert_never(config)


def free_memory(device: str) -> float:
    """The bytes that this process can still get, without those on disk."""
    if device != "cpu" and torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    return min(float(psutil.virtual_memory().available), *map(_left_in_container, LIMITS))


def _left_in_container(files: tuple[str, str], root: Path = Path("/sys/fs/cgroup")) -> float:
    """The bytes that the container leaves to its processes; infinity where nothing limits them."""
    try:
        limit, used = (int((root / name).read_text()) for name in files)
    except (OSError, ValueError):  # no container, or the word max
        return math.inf
    return limit - used


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
