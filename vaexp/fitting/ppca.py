"""Fitting probabilistic PCA: the E-step and M-step on moments of the images, and the closed form.

Letters in shapes: D pixels, L latents. S is the maximum-likelihood covariance of the images. EM and
the closed form need nothing of the images but their moments. The equations are those of Tipping and
Bishop 1999. The M-step printed in the report that this project follows lacks the inverse of the sum
of E[z z^T].
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import torch
from torch import Tensor

from vaexp.errors import RunError
from vaexp.fitting.em import EMSteps
from vaexp.models.moments import Moments, moments_of
from vaexp.models.ppca import PPCA
from vaexp.processes import Processes
from vaexp.seeding import seeded

if TYPE_CHECKING:
    from vaexp.config.models.ppca import PPCAConfig


@final
class PPCASteps(EMSteps["PPCAConfig", PPCA, "Expectations"]):
    """EM on the moments of the images, from a random start or from the maximum.

    ``validation`` holds the moments of other images. With ``closed`` EM starts at the closed form.
    The steps raise RunError where the latents explain the images entirely and leave no sigma^2.
    """

    def __init__(
        self,
        moments: Moments,
        validation: Moments | None,
        latent_dim: int,
        *,
        closed: bool,
        seed: int,
    ):
        self.moments = moments
        self.validation_moments = validation
        self.latent_dim = latent_dim
        self.closed = closed
        self.seed = seed

    @classmethod
    def from_config(
        cls,
        config: "PPCAConfig",
        x: Tensor,
        label: Tensor,  # noqa: ARG003
        validation: Tensor | None,
        seed: int,
        processes: Processes,
    ) -> Self:
        """The steps that the section describes, which keep only the moments of the images."""
        return cls(
            *moments_of(x, validation, processes),
            config.latent_dim,
            closed=config.method == "closed_form",
            seed=seed,
        )

    @classmethod
    def not_finite(cls) -> str:
        """A variance has become too small for the arithmetic."""
        return "sigma is too small for these numbers; fewer model.latent_dim help"

    def start(self, restart: int) -> PPCA:
        """The closed form, or parameters that depend on the seed and on the restart."""
        if self.closed:
            return closed_form(self.moments, self.latent_dim)
        with seeded(self.seed, "initial parameters", restart):
            return start(self.moments, self.latent_dim)

    def e_step(self, model: PPCA) -> "Expectations":
        """Expectations over the training images."""
        return e_step(model, self.moments)

    def m_step(self, expected: "Expectations", model: PPCA) -> PPCA:
        """W and sigma^2 that maximise the ELBO; see the function of this name."""
        return m_step(expected, model)

    def elbo_after_m(self, expected: "Expectations", model: PPCA, updated: PPCA) -> float:  # noqa: ARG002
        """The mean ELBO after the M-step, nats; see the function of this name."""
        return elbo_after_m(expected, updated)

    def validation(self, model: PPCA) -> float | None:
        """Mean of ln p(x) over the validation images, from their moments, nats."""
        if self.validation_moments is None:
            return None
        return e_step(model, self.validation_moments).mean_log_prob

    def facts(self, model: PPCA) -> dict[str, Any]:
        """The standard deviation sigma of the noise, in units of x."""
        return {"sigma": model.variance.sqrt().item()}

    def finish(self, model: PPCA) -> PPCA:
        """The same density with W rotated to principal axes."""
        return principal(model)


@dataclass(frozen=True)
class Expectations:
    """Expectations under the exact posterior, averaged over the images, which the M-step needs."""

    cross: Tensor
    """E[(x - mu) z^T] = S W M^-1, (D, L)."""
    latent: Tensor
    """E[z z^T] = sigma^2 M^-1 + M^-1 W^T S W M^-1, (L, L)."""
    trace: Tensor
    """tr S, ()."""
    entropy: Tensor
    """The entropy of the posterior N(., sigma^2 M^-1), which all images share, (), nats."""
    mean_log_prob: float
    """Mean of ln p(x), nats."""
    mean_elbo: float
    """Mean of E[ln p(x, z)] + entropy, nats: the same number, computed in another way."""


def e_step(model: PPCA, moments: Moments) -> Expectations:
    """Expectations under p(z|x) of the images that ``moments`` are of.

    The cost is O(D^2 L), whatever the number of images. M = W^T W + sigma^2 I.
    """
    d, q = model.factors.shape
    w, noise = model.factors, model.variance
    covariance = moments.covariance_about(model.mean)
    trace = covariance.trace()
    second = (w.T.contiguous() @ covariance).T  # S W; BLAS is faster at short, wide products
    inner_second = w.T @ second
    squares = w.T @ w
    root = torch.linalg.cholesky(squares + noise * torch.eye(q).to(w))
    inverse = torch.cholesky_inverse(root)
    explained = inner_second @ inverse  # W^T E[(x - mu) z^T]
    latent = noise * inverse + inverse @ explained
    log_det_inner = 2 * root.diagonal().log().sum()
    entropy = 0.5 * (q * (1 + math.log(2 * math.pi) + noise.log()) - log_det_inner)
    # With C = W W^T + sigma^2 I: tr(C^-1 S) = (tr S - tr(M^-1 W^T S W)) / sigma^2 and
    # ln|C| = (D - L) ln sigma^2 + ln|M|.
    distance = (trace - explained.trace()) / noise
    log_prob = -0.5 * (d * math.log(2 * math.pi) + (d - q) * noise.log() + log_det_inner + distance)
    error = trace - 2 * explained.trace() + (squares * latent).sum()
    elbo = _expected_log_joint(error, noise, d, latent) + entropy
    return Expectations(second @ inverse, latent, trace, entropy, log_prob.item(), elbo.item())


def m_step(expectations: Expectations, model: PPCA) -> PPCA:
    """The W and sigma^2 that maximise the expected complete-data log-likelihood.

    W = E[(x - mu) z^T] E[z z^T]^-1 and sigma^2 = (tr S - tr(W^T E[(x - mu) z^T])) / D. The mean mu
    of the images is the maximum already. Raises RunError where the latents explain the images
    entirely, so that sigma^2 is 0.
    """
    cross, trace = expectations.cross, expectations.trace
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(expectations.latent))
    factors = cross @ inverse
    variance = (trace - (factors * cross).sum()) / len(cross)
    if not variance > trace * torch.finfo(variance.dtype).eps:
        raise RunError(_no_noise_left(cross.shape[1]))
    return PPCA(model.mean, factors, variance)


def elbo_after_m(expectations: Expectations, updated: PPCA) -> float:
    """The mean ELBO with the E-step's posterior and the M-step's parameters, nats."""
    e, w = expectations, updated.factors
    error = e.trace - 2 * (w * e.cross).sum() + (w @ e.latent * w).sum()
    return (_expected_log_joint(error, updated.variance, len(w), e.latent) + e.entropy).item()


def _expected_log_joint(error: Tensor, variance: Tensor, d: int, latent: Tensor) -> Tensor:
    """E ln p(x, z) in nats, averaged over images.

    ``error`` is E|x - W z - mu|^2, ``variance`` sigma^2, d = D, and ``latent`` E[z z^T] (L, L).
    """
    of_x = d * (2 * math.pi * variance).log() + error / variance
    return -0.5 * (of_x + len(latent) * math.log(2 * math.pi) + latent.trace())


def start(moments: Moments, latent_dim: int, floor: float = 0.0) -> PPCA:
    """Parameters to start EM from: the best ones with W in a random subspace.

    The subspace is the span of S^3 times noise from torch's global generator, which is twice as
    wide as W (Halko, Martinsson and Tropp 2011, algorithm 4.4). EM turns W as the power method
    does. From a span no wider than W it would need hundreds of iterations more to exchange axes of
    nearly the same length. sigma^2 is at least ``floor``. Raises RunError where it would be 0.
    """
    covariance = moments.covariance
    d = len(covariance)
    basis = torch.randn(d, min(2 * latent_dim, d), dtype=torch.float64).to(covariance)
    for _ in range(3):
        basis = torch.linalg.qr(covariance @ basis).Q
    eigenvalues, vectors = torch.linalg.eigh(basis.T @ covariance @ basis)
    eigenvalues, vectors = eigenvalues[-latent_dim:], (basis @ vectors)[:, -latent_dim:]
    rest = covariance.trace() - eigenvalues.sum()
    # No column of W may be 0, since EM never moves it from there.
    return _from_eigen(moments, eigenvalues, vectors, rest, floor, shortest=0.1)


def closed_form(moments: Moments, latent_dim: int, floor: float = 0.0) -> PPCA:
    """The maximum of the likelihood (Tipping and Bishop 1999, equations 7 and 8).

    W = U (Lambda - sigma^2 I)^(1/2) with the L leading eigenvectors U of S, and sigma^2 the mean of
    its other eigenvalues, or ``floor`` if that is more. Raises RunError where both are zero.
    """
    eigenvalues, vectors = torch.linalg.eigh(moments.covariance)
    rest = eigenvalues[:-latent_dim].clamp(min=0).sum()
    return _from_eigen(moments, eigenvalues[-latent_dim:], vectors[:, -latent_dim:], rest, floor)


def _from_eigen(
    moments: Moments,
    eigenvalues: Tensor,
    vectors: Tensor,
    rest: Tensor,
    floor: float,
    shortest: float = 0.0,
) -> PPCA:
    """The parameters whose covariance has these eigenvalues, and sigma^2 for all others.

    ``eigenvalues`` (L,) are in increasing order, ``vectors`` (D, L) belong to them, and ``rest`` is
    the sum of the D - L other eigenvalues. The squared length of a column of W is its eigenvalue
    less sigma^2, but at least the share ``shortest`` of the eigenvalue. sigma^2 is at least
    ``floor``. Raises RunError where it would be 0.
    """
    d, q = vectors.shape
    variance = (rest / (d - q)).clamp(min=floor)
    if not variance > eigenvalues[-1] * d * torch.finfo(eigenvalues.dtype).eps:
        raise RunError(_no_noise_left(q))
    lengths = (eigenvalues - variance).clamp(min=shortest * eigenvalues.clamp(min=0)).sqrt()
    factors = vectors * lengths
    return PPCA(moments.mean, with_signs(factors.flip(1)), variance)


def principal(model: PPCA) -> PPCA:
    """The same density with W rotated to principal axes: orthogonal columns, the longest first."""
    _, rotation = torch.linalg.eigh(model.factors.T @ model.factors)
    return PPCA(model.mean, with_signs(model.factors @ rotation.flip(1)), model.variance)


def with_signs(factors: Tensor) -> Tensor:
    """The same columns, with signs that make the largest entry of each positive."""
    largest = factors.gather(0, factors.abs().argmax(0, keepdim=True))
    return factors * torch.where(largest < 0, -1.0, 1.0)


def _no_noise_left(latent_dim: int) -> str:
    """The message to a user where sigma^2 would be 0."""
    many = f"{latent_dim} latents explain" if latent_dim > 1 else "one latent explains"
    return (
        f"{many} the training images entirely, so that sigma is 0 and the likelihood unbounded; "
        "fewer model.latent_dim or more images are needed"
    )
