"""Whether the memory can suffice for an experiment, asked before anything large is allocated.

Linux lends memory that it does not have, and kills the process that uses it, without a word.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import assert_never

import psutil

from vaexp.config import Config, GMMExperiment, LinearGaussianExperiment, VAEExperiment
from vaexp.config.covariances import COVARIANCES
from vaexp.config.data import CLASSES
from vaexp.errors import RunError

FLOAT = 4  # bytes of a float32
SMALL_GPU = 1e9  # bytes: what needs fewer is taken to fit a GPU until torch is asked
LIMITS = (  # of a container in the two versions of cgroups: what it may use, uses and can give back
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def certainly_suffices(config: Config) -> bool:
    """Whether the memory suffices even for an upper bound of ``needed_memory``.

    This needs no torch, whose import takes seconds. Of own images it is never certain.
    """
    data = config.data
    if data.training_images is None or data.pixels is None:
        return False
    there = free_memory("cpu")
    if config.device != "cpu":
        there = min(there, SMALL_GPU)
    return _most_memory(config, data.training_images, data.pixels) < there


def _most_memory(config: Config, images: int, pixels: int) -> int:
    """No fewer bytes than ``needed_memory``, whatever the family of a likelihood or covariance."""
    match config:
        case VAEExperiment(model=model, train=train):
            factors = model.factors if model.shared_factors else 0
            widths = [
                (2 + factors) * pixels + CLASSES,
                *model.hidden,
                2 * model.latent_dim + CLASSES,
            ]
            layers = pairwise(widths)
            parameters = 2 * sum((n + 1) * (m + 1) for n, m in layers)
            units = 2 * sum(model.hidden) + 2 * pixels
            return (3 * parameters + min(train.batch_size, images) * units) * FLOAT
        case GMMExperiment(model=model):
            family = COVARIANCES[model.covariance]
            columns = pixels if family.matrices else model.factors if family.factors else 1
            parameters = model.components * (pixels + 2) * (columns + 2)
            return (2 * parameters + images * (pixels + model.components)) * FLOAT
        case LinearGaussianExperiment():
            return (2 * (pixels + 2) ** 2 + images * pixels) * FLOAT
    assert_never(config)


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
    import torch

    from vaexp.data import size
    from vaexp.models import build

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
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
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
