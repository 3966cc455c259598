"""How well sigma(z) describes the errors of mu(z) on test images.

Letters in shapes: N images, D pixels, S strata of sigma.
"""

import math

import numpy as np
import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Arrays, Measure
from vaexp.models import Model

INTERVALS = (1, 2, 3)  # k of the intervals mu +- k sigma
STRATA = 10
NAMES = (*(f"coverage_{k}" for k in INTERVALS), "sigma_squared_bias", "standardised_error")


@torch.no_grad()
def calibration(model: Model, x: Tensor, label: Tensor) -> tuple[dict[str, Measure], Arrays]:
    """How sigma(z) compares with the errors of mu(z) on images x (N, D), with one z ~ q(z|x) each.

    label (N,). The model must have a sigma. ``coverage_k`` for k = 1, 2, 3 is the share of an
    image's pixels that lie within mu +- k sigma. Its fact ``nominal`` is the share for a Gaussian,
    erf(k / sqrt 2). ``sigma_squared_bias`` is the mean over pixels of sigma^2 - (x - mu)^2, and
    ``standardised_error`` the mean of (x - mu)^2 / sigma^2. The arrays hold the coverage by deciles
    of sigma; see ``coverage_by_sigma``.
    """
    covered, bias, standardised, sigmas, beyond = [], [], [], [], []
    for xs, labels in blocks(x, label):
        p = model.decode(model.encode(xs, labels).sample(), labels)
        variance = p.variance.double()
        squares = (xs.double() - p.mean.double()).square()
        ratio = squares / variance
        outside = torch.stack([ratio > k**2 for k in INTERVALS])
        covered.append(1 - outside.double().mean(2))
        bias.append((variance - squares).mean(1))
        standardised.append(ratio.mean(1))
        sigmas.append(variance.sqrt().float().cpu())
        beyond.append(outside.sum(0).to(torch.uint8).cpu())
    shares = torch.cat(covered, dim=1).cpu()
    measures = {
        f"coverage_{k}": Measure(
            share, "share", facts={"nominal": math.erf(k / math.sqrt(2)), "draws": 1}
        )
        for k, share in zip(INTERVALS, shares, strict=True)
    }
    facts = {"draws": 1}
    measures["sigma_squared_bias"] = Measure(
        torch.cat(bias).cpu(), "units of x squared", facts={**facts, "calibrated": 0}
    )
    measures["standardised_error"] = Measure(
        torch.cat(standardised).cpu(), "", facts={**facts, "calibrated": 1}
    )
    return measures, coverage_by_sigma(torch.cat(sigmas), torch.cat(beyond))


def coverage_by_sigma(sigma: Tensor, beyond: Tensor) -> Arrays:
    """The coverage in strata of sigma, which are the deciles of sigma over all pixels and images.

    sigma (N, D). beyond (N, D) uint8 says how many of the intervals mu +- k sigma, k = 1, 2, 3, do
    not contain the pixel. Equal sigmas are in the same stratum, so that S <= 10, and S = 1 if sigma
    is constant. Arrays: ``coverage_strata`` (S, 3) and its standard error over images,
    ``coverage_strata_se``, which is that of a ratio of sums (Cochran 1977, Sampling Techniques,
    section 2.11); the mean of sigma ``sigma_strata`` (S,) and the share of pixels ``share_strata``
    (S,) of each stratum.
    """
    levels = np.arange(1, STRATA) / STRATA
    edges = np.unique(np.quantile(sigma.numpy(), levels, method="inverted_cdf"))
    inner = torch.from_numpy(edges)
    strata = len(edges) + 1
    counts, sums = [], torch.zeros(strata, dtype=torch.float64)
    for s, missed in blocks(sigma, beyond):
        stratum = torch.bucketize(s, inner, right=True)
        sums += torch.bincount(stratum.flatten(), s.flatten().double(), minlength=strata)
        row = torch.arange(len(s))[:, None] * strata
        code = (row + stratum) * (len(INTERVALS) + 1) + missed
        shape = (len(s), strata, len(INTERVALS) + 1)
        counts.append(torch.bincount(code.flatten(), minlength=math.prod(shape)).view(shape))
    covered = torch.cat(counts).double().cumsum(2)  # (N, S, 4): missed by at most 0, 1, 2, 3
    pixels = covered[..., -1]
    filled = pixels.sum(0) > 0
    pixels, covered, sums = pixels[:, filled], covered[:, filled, :-1], sums[filled]
    size = pixels.sum(0)
    share = covered.sum(0) / size[:, None]
    n = len(sigma)
    rest = (covered - share * pixels[..., None]).square().sum(0) * n / max(n - 1, 1)
    arrays = {
        "coverage_strata": share,
        "coverage_strata_se": rest.sqrt() / size[:, None],
        "sigma_strata": sums / size,
        "share_strata": size / size.sum(),
    }
    return {name: array.numpy() for name, array in arrays.items()}
