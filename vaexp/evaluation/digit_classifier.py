"""The shipped classifier of digits, whose features measure how digit-like images are.

It is a small convolutional network that scripts/train_digit_classifier.py trained on the first
50,000 training images of MNIST. It is not Inception: distances between its features can be compared
with one another, but not with a published FID.
"""

from importlib.resources import as_file, files
from itertools import pairwise
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import relu

from vaexp.errors import RunError

WEIGHTS = "digit_classifier.safetensors"  # beside the bundled MNIST, in vaexp/data
SIDE = 28  # pixels
CLASSES = 10
FEATURES = 64
IMAGES_PER_BLOCK = 250  # what the processor caches hold is fastest
WHOSE = {"features": "the shipped digit classifier, not Inception"}  # beside every number of them


class DigitClassifier(nn.Module):
    """Three convolutions, each followed by max-pooling, then the features and one score per digit.

    Its weights were scaled after training, so that the features have a mean variance of 1 over the
    images that it was trained on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*channels, 3, padding=1) for channels in pairwise((1, 16, 32, 64))
        )
        self.features = nn.Linear(64 * 3 * 3, FEATURES)
        self.scores = nn.Linear(FEATURES, CLASSES)
        self.to(memory_format=torch.channels_last)  # nearly twice as fast

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features (N, 64), none of them negative, and logits (N, C) of x (N, D) in 0..1."""
        h = x.reshape(-1, 1, SIDE, SIDE)
        for convolution in self.convolutions:
            h = nn.functional.max_pool2d(relu(convolution(h)), 2)
        h = relu(self.features(h.flatten(1)))
        return h, self.scores(h)


class Reading(NamedTuple):
    """What the classifier makes of a set of images."""

    features: Tensor
    """(N, 64) float32, not negative."""
    log_prob: Tensor
    """(N, C) float64: ln p(digit|image)."""


def load_classifier() -> DigitClassifier:
    """The classifier with the weights that ship with vaexp.

    Raises RunError if they are damaged or missing.
    """
    classifier = DigitClassifier()
    try:
        with as_file(files("vaexp.data") / WEIGHTS) as path, safe_open(path, "pt") as stored:
            classifier.load_state_dict(
                {name: stored.get_tensor(name) for name in classifier.state_dict()}
            )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(
            f"vaexp/data/{WEIGHTS}: the classifier of digits that ships with vaexp is damaged or "
            f"missing ({' '.join(str(error).split())}). "
            f"Install vaexp again: pip install --force-reinstall --no-deps vaexp"
        ) from error
    return classifier.eval().requires_grad_(False)


@torch.no_grad()
def read_digits(classifier: DigitClassifier, x: Tensor) -> Reading:
    """The features and predictions for images x (N, D) on the display scale, 0 black to 1 white.

    The caller clips values outside of 0..1. Raises ValueError where x is not (N, 784).
    """
    if x.ndim != 2 or x.shape[1] != SIDE**2:
        raise ValueError(f"images of shape {tuple(x.shape)}, where (N, {SIDE**2}) belongs")
    blocks = [classifier(block.float()) for block in x.split(IMAGES_PER_BLOCK)]
    features = torch.cat([block[0] for block in blocks])
    scores = torch.cat([block[1] for block in blocks]).double()
    return Reading(features, scores.log_softmax(1))
