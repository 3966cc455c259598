"""Fitting factor analysis: the E-step and the M-step on the moments of the images.

Letters in shapes: D pixels, L latents. S is the maximum-likelihood covariance of the images, and EM
needs nothing else of them. An iteration costs O(D^2 L). The equations are those of Rubin and Thayer
1982, EM algorithms for ML factor analysis, and of Bishop 2006, 12.66 to 12.69. The floor of the
noise is added here.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import torch
from torch import Tensor

from vaexp.fitting import ppca
from vaexp.fitting.em import EMSteps
from vaexp.models.fa import FA
from vaexp.models.moments import Moments, moments_of
from vaexp.processes import Processes
from vaexp.seeding import seeded

if TYPE_CHECKING:
    from vaexp.config.models.fa import FAConfig


@final
class FASteps(EMSteps["FAConfig", FA, "Expectations"]):
    """EM on the moments of the images. No noise variance falls below ``noise_floor``.

    ``validation`` holds the moments of other images.
    """

    def __init__(
        self,
        moments: Moments,
        validation: Moments | None,
        latent_dim: int,
        *,
        noise_floor: float,
        seed: int,
    ):
        self.moments = moments
        self.validation_moments = validation
        self.latent_dim = latent_dim
        self.noise_floor = noise_floor
        self.seed = seed

    @classmethod
    def from_config(
        cls,
        config: "FAConfig",
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
            noise_floor=config.noise_floor,
            seed=seed,
        )

    @classmethod
    def not_finite(cls) -> str:
        """A variance has become too small for the arithmetic."""
        return "a noise variance is too small for these numbers; a larger model.noise_floor helps"

    def start(self, restart: int) -> FA:
        """The maximum of probabilistic PCA, or in later restarts one within a random subspace.

        Probabilistic PCA is factor analysis with the same noise in every pixel. As EM never lowers
        the likelihood, the first restart ends at least as high as probabilistic PCA, if its sigma^2
        is not below the floor.
        """
        if restart == 0:
            begin = ppca.closed_form(self.moments, self.latent_dim, self.noise_floor)
        else:
            with seeded(self.seed, "initial parameters", restart):
                begin = ppca.start(self.moments, self.latent_dim, self.noise_floor)
        return FA(begin.mean, begin.factors, begin.variance.repeat(len(begin.mean)))

    def e_step(self, model: FA) -> "Expectations":
        """Expectations over the training images; see the function of this name."""
        return e_step(model, self.moments)

    def m_step(self, expected: "Expectations", model: FA) -> FA:
        """W and Psi that maximise the ELBO; see the function of this name."""
        return m_step(expected, model, self.noise_floor)

    def elbo_after_m(self, expected: "Expectations", model: FA, updated: FA) -> float:  # noqa: ARG002
        """The mean ELBO after the M-step, nats; see the function of this name."""
        return elbo_after_m(expected, updated)

    def validation(self, model: FA) -> float | None:
        """Mean of ln p(x) over the validation images, from their moments, nats."""
        if self.validation_moments is None:
            return None
        return e_step(model, self.validation_moments).mean_log_prob

    def facts(self, model: FA) -> dict[str, Any]:
        """The smallest sigma of the noise, in units of x, and how many pixels lie at the floor."""
        return {
            "smallest_sigma": model.noise.min().sqrt().item(),
            "pixels_at_floor": int((model.noise <= self.noise_floor).sum()),
        }

    def finish(self, model: FA) -> FA:
        """The same density with latents that are independent given x; see ``principal``."""
        return principal(model)


@dataclass(frozen=True)
class Expectations:
    """Expectations under the exact posterior, averaged over the images, which the M-step needs."""

    cross: Tensor
    """E[(x - mu) z^T] = S Psi^-1 W B^-1, (D, L), with B = I + W^T Psi^-1 W."""
    latent: Tensor
    """E[z z^T] = B^-1 + A, with A = B^-1 W^T Psi^-1 S Psi^-1 W B^-1, (L, L)."""
    variance: Tensor
    """The diagonal of S, (D,)."""
    entropy: Tensor
    """The entropy of the posterior N(., B^-1), (), nats."""
    mean_log_prob: float
    """Mean of ln p(x), nats."""
    mean_elbo: float
    """Mean of E[ln p(x, z)] + entropy, nats: the same number, computed in another way."""


def e_step(model: FA, moments: Moments) -> Expectations:
    """Expectations under p(z|x) of the images that ``moments`` are of.

    The cost is O(D^2 L), whatever the number of images.
    """
    q = model.latent_dim
    w, noise = model.factors, model.noise
    covariance = moments.covariance_about(model.mean)
    weighted = w / noise[:, None]
    second = (weighted.T.contiguous() @ covariance).T  # S Psi^-1 W, as BLAS is fastest at it
    root = torch.linalg.cholesky(torch.eye(q).to(w) + w.T @ weighted)
    inverse = torch.cholesky_inverse(root)
    cross = second @ inverse
    of_means = inverse @ (weighted.T @ cross)  # A, the mean of E[z|x] E[z|x]^T
    latent = inverse + of_means
    log_det = 2 * root.diagonal().log().sum()
    entropy = 0.5 * (q * (1 + math.log(2 * math.pi)) - log_det)
    # With C = W W^T + Psi: ln|C| = ln|Psi| + ln|B|, and tr(C^-1 S) is the mean over images of
    # r^T Psi^-1 r + |m|^2, where m = E[z|x] and r = x - W m - mu.
    error = _squared_errors(covariance.diagonal(), w, cross, of_means)
    distance = (error / noise).sum() + of_means.trace()
    log_prob = -0.5 * ((2 * math.pi * noise).log().sum() + log_det + distance)
    error = _squared_errors(covariance.diagonal(), w, cross, latent)
    elbo = _expected_log_joint(error, noise, latent) + entropy
    return Expectations(cross, latent, covariance.diagonal(), entropy, log_prob.item(), elbo.item())


def m_step(expectations: Expectations, model: FA, floor: float) -> FA:
    """The W and the Psi, with no entry below ``floor``, that maximise the expected ln p(x, z).

    W = E[(x - mu) z^T] E[z z^T]^-1, whatever Psi is. Psi_jj = S_jj - (W E[z (x - mu)^T])_jj, or the
    floor where that is less, since for each pixel ln p falls on both sides of its maximum. The mean
    mu of the images is the maximum already.
    """
    cross = expectations.cross
    factors = torch.cholesky_solve(cross.T, torch.linalg.cholesky(expectations.latent)).T
    noise = expectations.variance - (factors * cross).sum(1)
    return FA(model.mean, factors.contiguous(), noise.clamp(min=floor))


def elbo_after_m(expectations: Expectations, updated: FA) -> float:
    """The mean ELBO with the E-step's posterior and the M-step's parameters, nats."""
    e, w = expectations, updated.factors
    error = _squared_errors(e.variance, w, e.cross, e.latent)
    return (_expected_log_joint(error, updated.noise, e.latent) + e.entropy).item()


def _squared_errors(variance: Tensor, w: Tensor, cross: Tensor, latent: Tensor) -> Tensor:
    """E (x - W z - mu)_j^2 of each pixel j, (D,).

    ``variance`` is the diagonal of S, ``cross`` E[(x - mu) z^T] and ``latent`` E[z z^T].
    """
    return variance - 2 * (w * cross).sum(1) + (w @ latent * w).sum(1)


def _expected_log_joint(error: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
    """E ln p(x, z) in nats, averaged over images.

    ``error`` is that of ``_squared_errors``, ``noise`` the diagonal of Psi, ``latent`` E[z z^T].
    """
    of_x = ((2 * math.pi * noise).log() + error / noise).sum()
    return -0.5 * (of_x + len(latent) * math.log(2 * math.pi) + latent.trace())


def principal(model: FA) -> FA:
    """The same density with W^T Psi^-1 W diagonal, its largest entry first.

    Then the latents are independent given x, and the variance of each is smaller than that of the
    next (Lawley and Maxwell 1971, section 2.3). The columns of Psi^-1/2 W are orthogonal, while
    those of W are not.
    """
    scaled = model.factors / model.noise.sqrt()[:, None]
    _, rotation = torch.linalg.eigh(scaled.T @ scaled)
    return FA(model.mean, ppca.with_signs(model.factors @ rotation.flip(1)), model.noise)
