"""Fitting probabilistic PCA: the E-step and M-step on the images' moments, and the closed form.

Letters in shapes: D pixels, L latents. S is the maximum-likelihood covariance of the images. Both
ways need nothing of the images but their moments. Tipping and Bishop 1999; the M-step printed in
the report this project follows lacks the inverse of the sum of E[z z^T].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaexp.errors import RunError
from vaexp.fitting.moments import Moments
from vaexp.models.ppca import PPCA


@dataclass(frozen=True)
class Expectations:
    """What the M-step needs: expectations under the posterior, averaged over the images."""

    cross: Tensor
    """E[(x - mu) z^T] = S W M^-1, (D, L)."""
    latent: Tensor
    """E[z z^T] = sigma^2 M^-1 + M^-1 W^T S W M^-1, (L, L)."""
    trace: Tensor
    """tr S, ()."""
    entropy: Tensor
    """Of the posterior N(., sigma^2 M^-1), (), nats."""
    log_prob: Tensor
    """Mean of ln p(x), (), nats."""
    elbo: Tensor
    """Mean of E[ln p(x, z)] + entropy, which is the same, by another way."""


def e_step(model: PPCA, moments: Moments) -> Expectations:
    """Expectations under p(z|x) of all images, in O(D^2 L)."""
    d, q = model.factors.shape
    w, noise = model.factors, model.variance
    inner = w.T @ w
    inner.diagonal().add_(noise)
    root = torch.linalg.cholesky(inner)
    inverse = torch.cholesky_inverse(root)
    covariance = moments.covariance
    second = covariance @ w
    cross = second @ inverse
    latent = noise * inverse + inverse @ (w.T @ cross)
    trace = covariance.trace()
    log_det_inner = 2 * root.diagonal().log().sum()
    entropy = 0.5 * (q * (1 + math.log(2 * math.pi) + noise.log()) - log_det_inner)
    # tr(C^-1 S) = (tr S - tr(M^-1 W^T S W)) / sigma^2, ln|C| = (D - L) ln sigma^2 + ln|M|
    squares = (trace - (w * cross).sum()) / noise
    log_prob = -0.5 * (d * math.log(2 * math.pi) + (d - q) * noise.log() + log_det_inner + squares)
    elbo = _expected_log_joint(model, cross, latent, trace) + entropy
    return Expectations(cross, latent, trace, entropy, log_prob, elbo)


def m_step(expectations: Expectations, model: PPCA) -> PPCA:
    """The W and sigma^2 that maximise the expected complete-data log-likelihood.

    W = E[(x - mu) z^T] E[z z^T]^-1, sigma^2 = (tr S - tr(W^T E[(x - mu) z^T])) / D; mu, the mean of
    the images, is the maximum already.
    """
    factors = torch.linalg.solve(expectations.latent, expectations.cross, left=False)
    variance = (expectations.trace - (factors * expectations.cross).sum()) / len(factors)
    if not variance > expectations.trace * torch.finfo(variance.dtype).eps:
        raise RunError(_no_noise_left(factors.shape[1]))
    return PPCA(model.mean, factors, variance)


def elbo_after_m(expectations: Expectations, updated: PPCA) -> Tensor:
    """The mean ELBO with the E-step's posterior and the M-step's parameters, (), nats."""
    e = expectations
    return _expected_log_joint(updated, e.cross, e.latent, e.trace) + e.entropy


def _expected_log_joint(model: PPCA, cross: Tensor, latent: Tensor, trace: Tensor) -> Tensor:
    d, q = model.factors.shape
    w = model.factors
    error = trace - 2 * (w * cross).sum() + (w.T @ w * latent).sum()
    of_x = d * (2 * math.pi * model.variance).log() + error / model.variance
    return -0.5 * (of_x + q * math.log(2 * math.pi) + latent.trace())


def start(moments: Moments, latent_dim: int) -> PPCA:
    """Parameters to start EM from: W at random, from torch's global generator.

    W is S times noise, so that it lies where the images vary, and sigma^2 their mean variance.
    """
    variance = moments.covariance.trace() / len(moments.mean)
    noise = torch.randn(len(moments.mean), latent_dim, dtype=torch.float64).to(moments.mean.device)
    factors = torch.linalg.qr(moments.covariance @ noise).Q * variance.sqrt()
    return PPCA(moments.mean, factors, variance)


def closed_form(moments: Moments, latent_dim: int) -> PPCA:
    """The maximum of the likelihood (Tipping and Bishop 1999, equations 7 and 8).

    W = U (Lambda - sigma^2 I)^(1/2) with the L leading eigenvectors U of S, and sigma^2 the mean of
    its other eigenvalues. Raises RunError where these are zero.
    """
    eigenvalues, vectors = torch.linalg.eigh(moments.covariance)
    discarded = eigenvalues[:-latent_dim]
    variance = discarded.clamp(min=0).sum() / max(len(discarded), 1)
    if not variance > eigenvalues[-1] * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps:
        raise RunError(_no_noise_left(latent_dim))
    scale = (eigenvalues[-latent_dim:] - variance).clamp(min=0).sqrt()
    factors = (vectors[:, -latent_dim:] * scale).flip(1)
    return PPCA(moments.mean, _with_signs(factors), variance)


def principal(model: PPCA) -> PPCA:
    """The same density with W rotated to principal axes: orthogonal columns, longest first."""
    vectors, lengths, _ = torch.linalg.svd(model.factors, full_matrices=False)
    return PPCA(model.mean, _with_signs(vectors * lengths), model.variance)


def _with_signs(factors: Tensor) -> Tensor:
    """Each column with its largest entry positive, as the sign is arbitrary."""
    largest = factors.gather(0, factors.abs().argmax(0, keepdim=True))
    return factors * torch.where(largest < 0, -1.0, 1.0)


def _no_noise_left(latent_dim: int) -> str:
    return (
        f"{latent_dim} latents explain the training images entirely, so that sigma is 0 and the "
        "likelihood unbounded; fewer model.latent_dim or more images are needed"
    )
