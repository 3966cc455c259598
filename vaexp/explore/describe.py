"""A model as data, which ``model.js`` runs: its layers, its posterior and its likelihood."""

from typing import Any, assert_never

import torch
from torch import Tensor, nn

from vaexp.config.likelihoods import Family
from vaexp.data import CLASSES
from vaexp.errors import RunError, UserError
from vaexp.explore.mixture import mixture
from vaexp.explore.packing import Put
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.absent import Absent
from vaexp.models.likelihoods.gaussian import GaussianHead
from vaexp.models.likelihoods.interface import Likelihood
from vaexp.models.networks import ACTIVATIONS
from vaexp.models.vae import POSTERIOR_FLOOR

Data = dict[str, Any]

MOST_WEIGHTS = 2**23  # of a model
NAMES = {kind: name for name, kind in ACTIVATIONS.items()}


def described(model: Model, beta: float, put: Put) -> Data:
    """The model, trained at ``beta``, as data.

    ``put`` is given each of its tensors. ``rmseIsBest`` says whether the best single sigma is the
    root mean squared error of mu(z). ``implied`` is the sigma that training at beta amounts to, or
    null. Then ``noImplied`` is the reason as a sentence, or empty for a model that is not trained
    at a beta. Of these entries a mixture has none.

    Raises UserError for a model that is too large for a page, and RunError for a model whose sigma,
    noise or covariance is not above 0.
    """
    match model:
        case GMM():
            few = "fewer components, or diag, spherical or lowrank covariances"
            _check_count(model.free_parameters, few)
            return mixture(model, put)
        case VAE():
            _check_count(_count(model), "a smaller model.hidden")
            own = _vae(model, beta, put)
        case LinearGaussian():
            _check_count(_count(model), "a smaller model.latent_dim")
            own = _linear_gaussian(model, put)
        case _:
            assert_never(model)
    return {"latent": model.latent_dim, "classes": CLASSES if model.conditional else 0, **own}


def _count(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor in model.state_dict().values())


def _check_count(count: int, fewer: str) -> None:
    """Raise UserError for too many numbers. ``fewer`` is what a model has to have for fewer."""
    if count > MOST_WEIGHTS:
        raise UserError(
            f"the model has {count:,} weights, too many for a page, which takes {MOST_WEIGHTS:,}; "
            f"train one with {fewer}"
        )


def _vae(model: VAE, beta: float, put: Put) -> Data:
    weights, biases = model.posterior.weight.chunk(2), model.posterior.bias.chunk(2)
    mean, deviation = (_layer(*layer, put) for layer in zip(weights, biases, strict=True))
    hidden = _layers(model.encoder, put)
    scale = model.likelihood.scale
    if not isinstance(scale, Absent) and not scale.least > 0:
        raise RunError("sigma is not above 0; copy the run folder again")
    best = model.likelihood.best_sigma(torch.ones(()), 0.0)
    return {
        "encoder": {"hidden": hidden, "mean": mean, "scale": deviation, "floor": POSTERIOR_FLOOR},
        "decoder": _layers(model.decoder, put),
        "head": _head(model.likelihood, put),
        "rmseIsBest": not isinstance(best, Absent),
        **_measure(model.likelihood.family),
        **_implied(model.likelihood, beta),
    }


def _linear_gaussian(model: LinearGaussian, put: Put) -> Data:
    """The same without hidden layers: a Gaussian likelihood with a sigma that is not learned.

    Its posterior mean is a linear map of x too, and the root of the covariance is one for all x.
    """
    if not (model.noise > 0).all():
        raise RunError("the noise of some pixels is not above 0; copy the run folder again")
    try:
        root = model.posterior_root
    except RuntimeError:  # of torch.linalg, whose own class has no public name
        raise RunError(
            "the covariance of the posterior is singular; copy the run folder again"
        ) from None
    pixels = len(model.mean)
    origin = model.posterior_mean(torch.zeros(pixels))
    slope = model.posterior_mean(torch.eye(pixels)) - origin
    return {
        "encoder": {
            "hidden": [],
            "mean": _layer(slope.T, origin, put),
            "root": put(root),
        },
        "decoder": [],
        "head": {
            "family": script_of(GaussianHead),
            "maps": {"mean": _layer(model.factors, model.mean, put)},
            "own": {"sigma": put(model.noise.sqrt().reshape(-1))},
            "sigma": {"learned": False, "ofZ": False, "floor": 0.0},
        },
        "rmseIsBest": True,
        **_measure(GaussianHead.family),
        "implied": None,
        "noImplied": "",
    }


def _measure(family: Family) -> Data:
    """Whether p(x|z) is a density or a mass, and the values that have a mass."""
    return {"measure": family.measure, "on": family.on if family.measure == "mass" else None}


def _implied(head: Likelihood, beta: float) -> Data:
    sigma = head.implied_sigma(beta)
    if not isinstance(sigma, Absent):
        return {"implied": sigma, "noImplied": ""}
    if isinstance(head.scale, Absent):
        reason = "This likelihood has no σ, so β is no choice of one."
    elif head.scale.mode.learned:
        reason = "In this run σ is learned, so β is no choice of it."
    elif beta == 0:
        reason = "With β = 0 the rate costs nothing, and no σ amounts to that."
    else:
        reason = (
            "With this likelihood β is more than a choice of σ, as the normaliser of "
            "p(x|z)^(1/β) varies with z."
        )
    return {"implied": None, "noImplied": reason}


def _head(head: Likelihood, put: Put) -> Data:
    """A likelihood: its linear maps of the features, its other tensors, and what its sigma is."""
    linear = {name: _linear(part, put) for name, part in head.named_children()}
    own = [*head.named_parameters(recurse=False), *head.named_buffers(recurse=False)]
    scale, sigma = head.scale, None
    if not isinstance(scale, Absent):
        mode = scale.mode
        floor = scale.least if mode.learned else 0.0
        sigma = {"learned": mode.learned, "ofZ": mode.of_z, "floor": floor}
    return {
        "family": script_of(type(head)),
        "maps": linear,
        "own": {name: put(tensor) for name, tensor in own},
        "sigma": sigma,
    }


def script_of(head: type[Likelihood]) -> str:
    """The name of the script that runs a likelihood: that of the module which defines it."""
    return head.__module__.rpartition(".")[2]


def _layers(network: nn.Sequential, put: Put) -> list[Data]:
    """The linear layers of a network, each with the name of the activation behind it."""
    parts = [*network.children()]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [_linear(linear, put) | {"activation": NAMES[type(a)]} for linear, a in pairs]


def _linear(linear: nn.Module, put: Put) -> Data:
    return _layer(linear.get_parameter("weight"), linear.get_parameter("bias"), put)


def _layer(weight: Tensor, bias: Tensor, put: Put) -> Data:
    return {"weight": put(weight), "bias": put(bias)}
