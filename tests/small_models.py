"""Small models whose answers are known or whose functions are rough, and images for them.

Every function that draws says from which seed: equal arguments give equal models and images.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaexp.config import VAEConfig
from vaexp.config.covariances import COVARIANCES
from vaexp.evaluation.bounds import iw_measures
from vaexp.evaluation.measure import Measure
from vaexp.fitting import gmm
from vaexp.models import GMM, VAE, build
from vaexp.models.covariances import Gaussians
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.covariances.lowrank import LowRank
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.covariances.statistics import Statistics
from vaexp.models.covariances.tied import Tied
from vaexp.models.likelihoods.gaussian import GaussianHead
from vaexp.models.likelihoods.location_scale import raw_for
from vaexp.models.moments import Images
from vaexp.models.ppca import PPCA
from vaexp.models.vae import POSTERIOR_FLOOR

CLASSES = 10

# VAEs


def rough_vae(data_dim: int, roughness: float, *, seed: int = 1, **keys: object) -> VAE:
    """An untrained VAE, each weight moved by ``roughness`` times a standard normal number.

    ``keys`` are those of the config's model section: 8 hidden units and no label unless they say
    otherwise.
    """
    torch.manual_seed(seed)
    config = VAEConfig(**{"kind": "vae", "hidden": [8], "conditional": False, **keys})
    model = build(config, data_dim=data_dim, classes=CLASSES)
    assert isinstance(model, VAE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(roughness * torch.randn_like(parameter))
    return model


def linear_vae(
    data_dim: int,
    latent_dim: int,
    sigma: float = 1.0,
    *,
    sigma_mode: str = "fixed",
    floor: float = 1e-3,
    classes: int = 0,
) -> VAE:
    """A Gaussian VAE without hidden layers and with fresh weights: mu(z) = W z + b."""
    head = partial(GaussianHead, data_dim=data_dim, sigma_mode=sigma_mode, sigma=sigma, floor=floor)
    return VAE(data_dim, latent_dim, [], "relu", head, classes=classes)


@torch.no_grad()
def set_posterior(model: VAE, weight: Tensor, bias: Tensor, scale: Tensor | Sequence[float]) -> VAE:
    """Make q(z|x) = N(weight x + bias, diag scale^2) for every x; weight is (L, D), or (L, D + C)
    where the label is given, too."""
    latents = len(weight)
    raw = [raw_for(float(one), POSTERIOR_FLOOR) for one in scale]
    model.posterior.weight[:latents] = weight
    model.posterior.weight[latents:] = 0
    model.posterior.bias[:latents] = bias
    model.posterior.bias[latents:] = torch.tensor(raw, dtype=torch.float64)
    return model


def orthogonal_ppca(data_dim: int, columns: Sequence[float], sigma: float) -> PPCA:
    """Float64. W has orthogonal columns of these lengths, so the latents are independent given x.

    p(z|x) = N(S W^T (x - b) / sigma^2, S), and S = (I + W^T W / sigma^2)^-1 is diagonal.
    """
    torch.manual_seed(1)
    lengths = torch.tensor(columns, dtype=torch.float64)
    directions = torch.linalg.qr(torch.randn(data_dim, len(columns), dtype=torch.float64)).Q
    variance = torch.tensor(sigma**2, dtype=torch.float64)
    return PPCA(torch.randn(data_dim).double(), directions * lengths, variance)


@torch.no_grad()
def linear_gaussian(
    data_dim: int,
    columns: Sequence[float],
    sigma: float = 0.5,
    *,
    sigma_mode: str = "fixed",
    shift: float = 0.0,
    stretch: float = 1.0,
    by_label: Tensor | None = None,
) -> VAE:
    """The VAE with the p(x, z) of ``orthogonal_ppca``, whose q(z|x) is the exact posterior.

    Its means are then moved by ``shift`` and its standard deviations multiplied by ``stretch``.
    ``by_label`` (C, D) adds a row to mu(z) where the label is given.
    """
    by_label = torch.empty(0, data_dim) if by_label is None else by_label
    size = {"sigma_mode": sigma_mode, "classes": len(by_label)}
    model = linear_vae(data_dim, len(columns), sigma, **size).double()
    features = torch.zeros(len(columns) + len(by_label), dtype=torch.float64)
    # a learned sigma is that of the head, which rounds it
    exact = orthogonal_ppca(data_dim, columns, model.likelihood(features).stddev[0].item())
    model.likelihood.mean.weight.copy_(torch.cat([exact.factors, by_label.T], 1))
    model.likelihood.mean.bias.copy_(exact.mean)
    zero = exact.encode(torch.zeros(1, data_dim))
    towards = exact.encode(torch.eye(data_dim)).mean - zero.mean  # (D, L)
    weight = torch.cat([towards, -by_label.to(towards) @ towards]).T
    return set_posterior(model, weight, zero.mean[0] + shift, stretch * zero.stddev[0])


def marginal(model: VAE) -> MultivariateNormal:
    """p(x) of a float64 linear VAE with one sigma: N(b, W W^T + sigma^2 I), dense."""
    weight, bias = model.likelihood.mean.weight, model.likelihood.mean.bias
    sigma = model.likelihood(weight.new_zeros(weight.shape[1])).stddev[0]
    eye = torch.eye(len(bias), dtype=torch.float64)
    return MultivariateNormal(bias, weight @ weight.T + sigma**2 * eye)


def iw_bound(*given: Any, **how: Any) -> Measure:
    """The importance-weighted bound alone, of what ``iw_measures`` is given."""
    return iw_measures(*given, **how)["iw_bound"]


# Mixtures

KINDS = list(COVARIANCES)


def e_step(model: GMM, x: Tensor) -> Statistics:
    return gmm.e_step(model, Images(x))


def initial_gmm(x: Tensor, *settings: Any, **more: Any) -> GMM:
    return gmm.initial_gmm(Images(x), *settings, **more)


def written_out(gaussians: Gaussians) -> Tensor:
    """The covariances in full, (K, D, D), float64."""
    k, d = gaussians.mean.shape
    eye = torch.eye(d, dtype=torch.float64)
    match gaussians:
        case Full():
            return gaussians.covariance.double()
        case Tied():
            return gaussians.covariance.double().expand(k, d, d)
        case Diag():
            return gaussians.variances.double().diag_embed()
        case Spherical():
            return gaussians.variances.double()[:, None, None] * eye
        case LowRank():
            w = gaussians.factors.double()
            return w @ w.mT + gaussians.variances.double()[:, None, None] * eye
    raise AssertionError(f"a family that the tests do not know: {type(gaussians)}")


# Images and labels


def no_label(x: Tensor) -> Tensor:
    """Zeros (N,), where the model is not given the label."""
    return torch.zeros(len(x), dtype=torch.int64)


def in_blocks(
    x: Tensor, label: Tensor | None = None, size: int = 70
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels ``size`` at a time, which can be gone through once."""
    label = no_label(x) if label is None else label
    yield from zip(x.split(size), label.split(size), strict=True)


def digits_apart(n: int, d: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (n, d) round the centres of ten digits, a distance of order ``apart`` apart."""
    torch.manual_seed(0)
    centre = apart * torch.randn(CLASSES, d, dtype=torch.float64)
    torch.manual_seed(seed + 1)
    label = torch.arange(n) % CLASSES
    return centre[label] + torch.randn(n, d, dtype=torch.float64), label


def gaussian_noise(n: int, seed: int, shift: float = 0.0, size: int = 5) -> Tensor:
    """Standard normal numbers (n, size), float64, moved by ``shift``."""
    torch.manual_seed(seed)
    return torch.randn(n, size, dtype=torch.float64) + shift
