"""The classifier of digits that ships with vaexp. Its features measure how digit-like images are.

It is a small convolutional network that scripts/train_digit_classifier.py trained on the first
50,000 training images of MNIST. It is not Inception. Distances between its features can be compared
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
from vaexp.evaluation.blocks import blocks

WEIGHTS = "digit_classifier.safetensors"  # beside the bundled MNIST, in vaexp/data
SIDE = 28  # pixels
CLASSES = 10
FEATURES = 64
TRAINED_ON = 50_000  # of the training images of MNIST, the first
IMAGES_PER_BLOCK = 250  # as many images as the processor caches can hold
WHOSE = {"features": "the shipped digit classifier, not Inception"}  # a fact of every number


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
        """The features (N, 64), none of them negative, and logits (N, C) for x (N, D) in 0..1."""
        h = x.reshape(-1, 1, SIDE, SIDE)
        for convolution in self.convolutions:
            h = nn.functional.max_pool2d(relu(convolution(h)), 2)
        h = relu(self.features(h.flatten(1)))
        return h, self.scores(h)


class Reading(NamedTuple):
    """The output of the classifier for N images."""

    features: Tensor
    """(N, 64) float32, none of them negative."""
    log_prob: Tensor
    """ln p(digit|image), (N, C) float64."""


def load_classifier() -> DigitClassifier:
    """Load the classifier with the weights that ship with vaexp.

    Raises RunError if the weights are damaged or missing.
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

    The caller clips values outside of 0..1. Raises ValueError if the shape of x is not (N, 784).
    """
    if x.ndim != 2 or x.shape[1] != SIDE**2:
        raise ValueError(f"x has the shape {tuple(x.shape)}, but must have (N, {SIDE**2})")
    read = [classifier(block.float()) for (block,) in blocks(x, rows=IMAGES_PER_BLOCK)]
    features = torch.cat([features for features, _ in read])
    scores = torch.cat([scores for _, scores in read]).double()
    return Reading(features, scores.log_softmax(1))
