"""What a run folder says of the images that its model was trained on: size, labels and origin.

It stands in environment.json, beside the hash of the data. It is a fact on their files and no
setting: the config names only where these lie, and a run is to be read where they are not. Runs of
earlier versions do not say it, as all of their images had the size and the labels of MNIST's.
"""

from typing import Any

from vaexp.config.data import CLASSES, IMAGE_SHAPE
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import ENVIRONMENT


def image_shape(run: RunFolder) -> tuple[int, int]:
    """The height and the width of an image."""
    height, width = _recorded(run).get("image_shape", IMAGE_SHAPE)
    return height, width


def image_labels(run: RunFolder) -> list[int]:
    """The digits of the training images before any were left out; none without labels."""
    return [*_recorded(run).get("image_labels", range(CLASSES))]


def are_known(run: RunFolder) -> bool:
    """Whether the hashes of published images were those that are published.

    Own images are what their files say, and earlier versions did not ask.
    """
    return bool(_recorded(run).get("data_known", True))


def _recorded(run: RunFolder) -> dict[str, Any]:
    """environment.json, or nothing of a run that has not begun."""
    return run.environment() if run.has(ENVIRONMENT) else {}
