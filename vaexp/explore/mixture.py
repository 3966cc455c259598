"""A Gaussian mixture as data, which ``mixtures.js`` runs."""

import copy

import torch
from torch import Tensor

from vaexp.errors import RunError
from vaexp.explore.packing import Put
from vaexp.models import GMM
from vaexp.models.covariances import Gaussians
from vaexp.models.covariances.independent import IndependentPixels
from vaexp.models.covariances.lowrank import LowRank
from vaexp.models.covariances.tied import Tied


def mixture(model: GMM, put: Put) -> dict[str, object]:
    """The weights, the means, and for each component what makes a draw of it from noise.

    All numbers stay float32. In float16 the ln p(x) of an image is off by up to 0.4 nats where the
    covariance floor is 0.001, and by more where it is smaller, as a density divides by deviations.

    Raises RunError where a covariance is not positive definite.
    """
    return {
        "components": len(model.weight),
        "logWeight": put(model.weight.double().log(), exact=True),
        "mean": put(model.gaussians.mean, exact=True),
        **_covariances(model.gaussians, put),
    }


def _covariances(gaussians: Gaussians, put: Put) -> dict[str, object]:
    """``sigma`` (K, D) where pixels are independent, perhaps with ``factors`` (K, q, D), or roots.

    Factors are in units of sigma. ``roots`` has a lower triangle for each component, row by row, or
    one that all of them share.
    """
    match gaussians:
        case IndependentPixels():
            sigma = gaussians.variance().sqrt()
            _check(sigma)
            return {"sigma": put(sigma, exact=True)}
        case LowRank():
            sigma = gaussians.variances.sqrt()[:, None].expand_as(gaussians.mean)
            _check(sigma)
            factors = gaussians.factors.mT / sigma[:, None]
            return {"sigma": put(sigma, exact=True), "factors": put(factors, exact=True)}
        case Tied():
            components = range(1)
        case _:
            components = range(len(gaussians.mean))
    precise = copy.deepcopy(gaussians).double()
    return {"roots": [put(root_of(precise, k), exact=True) for k in components]}


def root_of(gaussians: Gaussians, k: int) -> Tensor:
    """The lower triangle of L with L L^T = Sigma_k, row by row, (D (D + 1) / 2,).

    A draw of any family is mu_k + noise A, so that Sigma_k = A^T A, and A = Q L^T is known from the
    draws of unit noise.
    """
    unit = torch.eye(gaussians.noise_dim, dtype=torch.float64)
    try:
        upper = torch.linalg.qr(gaussians.draw(k, unit) - gaussians.mean[k]).R
    except RuntimeError:  # of torch.linalg, whose own class has no public name
        upper = torch.zeros(1, 1)
    signs = upper.diagonal().sign()
    _check(upper.diagonal() * signs)
    lower = (upper * signs[:, None]).mT
    return lower[tuple(torch.tril_indices(*lower.shape))]


def _check(deviations: Tensor) -> None:
    if not ((deviations > 0) & deviations.isfinite()).all():
        raise RunError(
            "the covariance of a component is not positive definite; copy the run folder again, "
            "or train with a larger model.covariance_floor"
        )
