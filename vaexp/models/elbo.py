"""The two terms of the evidence lower bound (ELBO), for training and for measuring."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from vaexp.models.absent import answered
from vaexp.models.likelihoods import Decoded
from vaexp.models.vae import VAE
from vaexp.processes import ALL


class ElboTerms(NamedTuple):
    """ELBO = -distortion - rate, in nats per image."""

    distortion: Tensor
    """-ln p(x|z) at one draw z ~ q(z|x), (N,)."""
    rate: Tensor
    """KL(q(z|x) to p(z)), in closed form, (N,)."""
    decoded: Decoded
    """p(x|z) at that draw."""


def elbo_terms(model: VAE, x: Tensor, label: Tensor | None, rows: slice = ALL) -> ElboTerms:
    """Distortion and rate of each image of x (N, D), with one reparametrised draw of z.

    L(x) = E_q ln p(x|z) - KL(q(z|x) to p(z)): equation 7 of the report this project follows, and
    Kingma and Welling 2014, equation 3. Only the images ``rows`` are worked on, N of M, and they
    get the same z as they would get together with all others.
    """
    images = len(x)
    if rows != ALL:
        x, label = x[rows], None if label is None else label[rows]
    q = model.encode(x, label)
    z = q.rsample() if rows == ALL else _drawn(q, rows, images)
    decoded = model.decode(z, label)
    return ElboTerms(-decoded.log_prob(x), kl_divergence(q, model.prior()), decoded)


def _drawn(q: Distribution, rows: slice, images: int) -> Tensor:
    """z ~ q(z|x) of the ``rows`` of M images, (N, L), as ``rsample`` of all would draw it."""
    noise = q.mean.new_empty(images, *q.event_shape).normal_()
    return q.mean + noise[rows] * q.stddev


def weighted_log_prob(decoded: Decoded, x: Tensor, exponent: float) -> Tensor:
    """The sum over pixels of sigma_j(z)^(2 exponent) ln p(x_j|z) of x (N, D), (N,).

    No gradient flows through the weight. It is the beta-NLL of Seitzer et al. 2022, On the pitfalls
    of heteroscedastic uncertainty estimation with probabilistic neural networks, equation 5: of a
    Gaussian, the gradient by mu_j is (x_j - mu_j) sigma_j^(2 exponent - 2), so that at 1 no pixel
    counts more than another because its sigma is small.
    """
    weight = answered(decoded.sigma).detach().pow(2 * exponent)
    return (weight * answered(decoded.pixel_log_prob(x))).sum(-1)


class Terms(nn.Module):
    """``elbo_terms`` as a module, so that the gradients of several processes can be joined."""

    def __init__(self, model: VAE):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, label: Tensor, rows: slice) -> ElboTerms:
        """The terms of the images ``rows`` of x (B, D) with labels (B,)."""
        return elbo_terms(self.model, x, label, rows)
