"""The first two moments of sets of images, and how far apart those of two sets are.

Standard errors are by the delta method: the standard error of a statistic is the standard deviation
of its influence function over sqrt(n) (van der Vaart 1998, Asymptotic Statistics, section 20.1). If
a statistic depends on two sets of images, the squares of both errors add up. Those of distances are
corrected for what the delta method leaves out near 0.

Letters in shapes: n images of a set, D pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Arrays, Estimate, average
from vaexp.evaluation.statistics import joint_standard_error, standard_error

OVERLAPPING = 500  # images of each set whose products give the error of a distance of covariances


class SetMoments(NamedTuple):
    """The mean and covariance of a set of n images, float64."""

    mean: Tensor
    """(D,)."""
    covariance: Tensor
    """(D, D), with the divisor n - 1."""
    centred: Tensor
    """The images minus their mean, (n, D), in the precision of the images."""

    def covariance_noise(self) -> float:
        """E |C - cov|_F^2: what the finite n adds to a squared distance between covariances.

        It is (mean |y|^4 - |C|_F^2) / n, the variance of the average of y y^T over the centred
        images y.
        """
        fourth = _squares(self.centred).square().mean()
        return ((fourth - self.covariance.square().sum()) / len(self.centred)).item()


def moments(x: Tensor) -> SetMoments:
    """The moments of images (n, D), n >= 2.

    A pixel that is the same in all images has a variance of exactly 0, without rounding errors.
    """
    varies = x.amax(0) > x.amin(0)
    mean = x.mean(0, dtype=torch.float64)
    centred = torch.empty_like(x)
    covariance = x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for block, out in blocks(x, centred):
        y = torch.where(varies, block.double() - mean, 0)
        covariance.addmm_(y.T, y)
        out.copy_(y)
    return SetMoments(mean, covariance / (len(x) - 1), centred)


def variance_split(
    of_mean: SetMoments, variance: Tensor, data: SetMoments
) -> tuple[dict[str, Estimate], Arrays]:
    """Split the variance of generated images by Var x = E Var(x|z) + Var E(x|z).

    This is the law of total variance (Blitzstein and Hwang 2019, Introduction to Probability,
    section 9.5). ``of_mean`` are the moments of mu(z) at n latents z, ``variance`` (n, D) is that
    of x given the same z, and ``data`` are the moments of the test images. Entries, summed over
    pixels: ``variance_total``, ``variance_of_mean`` = Var mu(z), ``mean_of_variance`` =
    E sigma^2(z), and ``variance_data`` of the test images. Arrays: the last three for each pixel
    (D,), with names that end in _pixels.
    """
    n = len(variance)
    spread = _squares(of_mean.centred) * n / (n - 1)
    noise = variance.sum(1, dtype=torch.float64)
    size = len(data.centred)
    own = _squares(data.centred) * size / (size - 1)
    unit = "units of x squared"
    entries = {
        "variance_total": average(spread + noise, unit),
        "variance_of_mean": average(spread, unit),
        "mean_of_variance": average(noise, unit),
        "variance_data": average(own, unit),
    }
    arrays = {
        "variance_of_mean_pixels": of_mean.covariance.diagonal(),
        "mean_of_variance_pixels": variance.mean(0, dtype=torch.float64),
        "variance_data_pixels": data.covariance.diagonal(),
    }
    return entries, {name: array.cpu().numpy() for name, array in arrays.items()}


def covariance_of_means(
    images: SetMoments, label: Tensor, data: SetMoments, label_of_data: Tensor
) -> Tensor:
    """The covariance (D, D) of the means m and m' of sets whose labels (n,) are in common.

    Each of the n ``images`` was drawn with the label of another one of the n' >= n images of
    ``data``, whose labels (n',) are ``label_of_data``. Given its label it is independent of that
    image. So the covariance of the two is that of the means of each label, and the one of m and m'
    is sum_y (n_y / n) (m_y - m) (m'_y - m')^T / n' (the law of total covariance).
    """
    covariance = torch.zeros_like(images.covariance)
    for one in label.unique():
        own = label == one
        mean = images.centred[own].mean(0, dtype=torch.float64)
        of_data = data.centred[label_of_data == one].mean(0, dtype=torch.float64)
        covariance += own.double().mean() * torch.outer(mean, of_data)
    return covariance / len(data.centred)


def mean_distance(
    images: SetMoments, data: SetMoments, in_common: Tensor | None = None
) -> Estimate:
    """|m - m'|, the Euclidean distance between the means of ``images`` and ``data``.

    ``in_common`` is the covariance (D, D) of m and m', None for independent sets. The fact
    ``sampling_noise`` is the root mean square that the distance would have if both sets came from
    distributions with the same mean: sqrt(tr S) with S = C / n + C' / n', less ``in_common`` and
    its transpose.
    """
    difference = images.mean - data.mean
    covariance = images.covariance / len(images.centred) + data.covariance / len(data.centred)
    if in_common is not None:
        covariance -= in_common + in_common.T
    distance = difference.norm().item()
    noise = math.sqrt(max(covariance.trace().item(), 0))
    direction = difference / distance if distance > 0 else difference
    delta = math.sqrt(max((direction @ covariance @ direction).item(), 0))
    se = _error_of_distance(distance, noise, delta=delta, overlap=covariance.square().sum().item())
    facts = {"against": len(data.centred), "sampling_noise": noise}
    return Estimate(distance, "units of x", len(images.centred), se, facts=facts)


def covariance_distance(images: SetMoments, data: SetMoments) -> Estimate | None:
    """|C - C'|_F / |C'|_F, where C is the covariance of ``images`` and C' that of ``data``.

    The fact ``sampling_noise`` is the root mean square that the distance would have if both sets
    came from distributions with the same covariance. The square of this noise adds to the square of
    the true distance. It is None if ``data`` do not vary, so that C' is 0.
    """
    scale = data.covariance.norm().item()
    if scale == 0:
        return None
    difference = images.covariance - data.covariance
    distance = difference.norm().item()
    direction = difference / distance if distance > 0 else difference
    value = distance / scale
    # d value = <direction, dC - dC'> / scale - value <C', dC'> / scale^2
    influence = _quadratic_forms(images.centred, direction) / scale
    own = _quadratic_forms(data.centred, direction + value / scale * data.covariance) / scale
    noise = math.sqrt(max(images.covariance_noise() + data.covariance_noise(), 0)) / scale
    overlap = _covariance_overlap(images.centred, data.centred) / scale**4
    delta = joint_standard_error(influence, own)
    se = _error_of_distance(value, noise, delta=delta, overlap=overlap)
    facts = {"against": len(data.centred), "sampling_noise": noise}
    return Estimate(value, "", len(influence), se, facts=facts)


def _error_of_distance(distance: float, noise: float, *, delta: float, overlap: float) -> float:
    """The standard error of a distance d = |v|, where v is estimated with the covariance S.

    noise = sqrt(tr S), overlap = tr S^2, and delta is the error of d by the delta method, which is
    right where d is far above the noise. For a v that is normal with the mean w = 0, E d^2 is tr S
    and Var d^2 is 2 tr S^2 (Mathai and Provost 1992, Quadratic Forms in Random Variables). The
    squared error of d is then tr S^2 / (2 tr S), half of what the delta method says. This smaller
    error counts where d^2 is at most one standard deviation above tr S, the delta method where it
    is four or more, and a mean of both squares in between. If nearly all the variance lies in one
    direction, the result is 1.2 times the spread where w = 0 and 0.9 times where w is twice as
    large as the noise.
    """
    if noise == 0 or overlap == 0:
        return delta
    above = (distance**2 - noise**2) / math.sqrt(2 * overlap)
    weight = min(max((above - 1) / 3, 0), 1)
    return math.sqrt(weight * delta**2 + (1 - weight) * overlap / (2 * noise**2))


def _covariance_overlap(a: Tensor, b: Tensor) -> float:
    """tr S^2, where S is the covariance of C - C' for sets of centred images (n, D) and (n', D).

    For sets A and B, tr S_A S_B is the mean square of <x x^T - C, y y^T - C'> over pairs of images
    x of A and y of B. The first OVERLAPPING images of each set stand for all.
    """
    total = 0.0
    for one in (a, b):
        for other in (a, b):
            x, y = one[:OVERLAPPING].double(), other[:OVERLAPPING].double()
            products = (x @ y.T).square()
            products += products.mean() - products.mean(0) - products.mean(1, keepdim=True)
            squares = products.square()
            if one is other:  # no image is paired with itself
                mean = (squares.sum() - squares.trace()) / (len(x) * max(len(x) - 1, 1))
            else:
                mean = squares.mean()
            total += mean.item() / (len(one) * len(other))
    return total


def neighbour_correlation(images: SetMoments, shape: tuple[int, int]) -> Estimate | None:
    """The correlation of pixels with their right and lower neighbours over images.

    It is sum_ij cov(x_i, x_j) / sum_ij sd(x_i) sd(x_j), summed over all pairs of neighbours i, j.
    Independent pixels have the correlation 0 whatever the average image looks like, since the mean
    of each pixel is removed first. Independent noise adds to the standard deviations and not to the
    covariances. ``shape`` is the height and the width of an image. Returns None if no pair of
    neighbours varies.
    """
    index = torch.arange(len(images.mean), device=images.mean.device).view(shape)
    first = torch.cat([index[:, :-1].flatten(), index[:-1].flatten()])
    second = torch.cat([index[:, 1:].flatten(), index[1:].flatten()])
    deviation = images.covariance.diagonal().sqrt()
    total = (deviation[first] * deviation[second]).sum().item()
    if total == 0:
        return None
    value = images.covariance[first, second].sum().item() / total
    # d sum sd_i sd_j = sum_i slope_i d var_i
    slope = torch.zeros_like(deviation).index_add(0, first, deviation[second])
    slope = slope.index_add(0, second, deviation[first])
    slope = torch.where(deviation > 0, slope / (2 * deviation), 0)
    # float32 cannot hold the slope of a pixel that varies by 1e-40 beside one that varies by 1
    slope = slope.clamp(max=torch.finfo(images.centred.dtype).max)
    influences = []
    for (y,) in blocks(images.centred):
        image = y.view(-1, *shape)
        products = (image[:, :, :-1] * image[:, :, 1:]).sum((1, 2), dtype=torch.float64)
        products += (image[:, :-1] * image[:, 1:]).sum((1, 2), dtype=torch.float64)
        influences.append(products - value * (y.square() @ slope.to(y)).double())
    influence = torch.cat(influences) / total
    return Estimate(value, "", len(influence), standard_error(influence))


def _squares(y: Tensor) -> Tensor:
    """|y|^2 of each row of y (n, D), (n,) float64."""
    return torch.cat([block.double().square().sum(1) for (block,) in blocks(y)])


def _quadratic_forms(y: Tensor, matrix: Tensor) -> Tensor:
    """y^T A y of each row of y (n, D), for a matrix A (D, D), (n,) float64."""
    matrix = matrix.to(y)
    return torch.cat([((block @ matrix) * block).sum(1) for (block,) in blocks(y)]).double()
