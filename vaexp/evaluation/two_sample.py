"""Can a classifier tell drawn images from real ones?"""

import torch
from torch import Tensor

from vaexp.evaluation.digit_classifier import WHOSE
from vaexp.evaluation.measure import Estimate, average
from vaexp.evaluation.probes import RIDGE, fit_probe


def two_sample_accuracy(features: Tensor, real: Tensor) -> Estimate:
    """The accuracy with which a classifier tells features (n, F) from real (m, F).

    The classifier two-sample test of Lopez-Paz and Oquab 2017, Revisiting classifier two-sample
    tests, section 3. As many of either set, chosen at random, are labelled 1 and 0. A random half
    of each trains a logistic regression on the features and their squares, ``fit_probe``, and the
    value is its accuracy on the other half, so that it is 1/2 in expectation where both sets have
    the same distribution. The standard error is the binomial one of the images that were read.
    """
    n = min(len(features), len(real))
    halves = [one[torch.randperm(len(one))[:n]].double() for one in (features, real)]
    pairs = [torch.cat([half, half.square()], 1).split([n // 2, n - n // 2]) for half in halves]
    train, test = (torch.cat(part) for part in zip(*pairs, strict=True))
    label = [torch.arange(2).repeat_interleave(len(part) // 2) for part in (train, test)]
    probe = fit_probe(train, label[0])
    facts = {**WHOSE, "against": len(real), "train": len(train), "ridge": RIDGE, "chance": 0.5}
    return average(probe.predict(test) == label[1], "share", facts, kind="estimate")
