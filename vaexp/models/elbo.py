"""The two terms of the evidence lower bound (ELBO), for training and for measuring."""

from typing import NamedTuple

from torch import Tensor
from torch.distributions import kl_divergence

from vaexp.models.likelihoods import Decoded
from vaexp.models.vae import VAE


class ElboTerms(NamedTuple):
    """ELBO = -distortion - rate, in nats per image."""

    distortion: Tensor
    """-ln p(x|z) at one draw z ~ q(z|x), (N,)."""
    rate: Tensor
    """KL(q(z|x) to p(z)), in closed form, (N,)."""
    decoded: Decoded
    """p(x|z) at that draw."""


def elbo_terms(model: VAE, x: Tensor, label: Tensor | None) -> ElboTerms:
    """Distortion and rate of each image of x (N, D), with one reparametrised draw of z.

    L(x) = E_q ln p(x|z) - KL(q(z|x) to p(z)): equation 7 of the report this project follows, and
    Kingma and Welling 2014, equation 3.
    """
    q = model.encode(x, label)
    decoded = model.decode(q.rsample(), label)
    return ElboTerms(-decoded.log_prob(x), kl_divergence(q, model.prior()), decoded)
