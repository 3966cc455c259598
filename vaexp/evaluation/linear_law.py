"""What theory says of a linear VAE, and how near training came to it.

A VAE whose decoder is N(W z + b, sigma^2 I) with a given sigma, and whose encoder is linear, has a
global optimum in closed form for every beta (Ziyin and Wang 2022, Posterior collapse of a linear
latent variable model, theorem 2; Lucas et al. 2019 for beta = 1). Let lambda_1 >= lambda_2 ... be
the eigenvalues of the covariance of the training images. Latent i is used if lambda_i > beta
sigma^2, and collapses otherwise.
"""

import math
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.moments import Moments
from vaexp.models.ppca import PPCA, of_linear_vae

NAMES = ("law_elbo", "law_rate", "law_objective", "law_gap", "law_active_units")


@dataclass(frozen=True)
class LinearLaw:
    """The global optimum of -distortion - beta rate over linear encoders and decoders."""

    eigenvalues: Tensor
    """lambda (D,), the eigenvalues of the covariance of the images, from the largest on."""
    variance: float
    """sigma^2, which is given."""
    beta: float
    """The factor of the rate, above 0."""
    latent_dim: int
    """L."""

    @property
    def threshold(self) -> float:
        """Beta sigma^2, above which an eigenvalue is worth a latent."""
        return self.beta * self.variance

    @property
    def used(self) -> Tensor:
        """The eigenvalues of the latents that are used, (A,) with A at most L."""
        first = self.eigenvalues[: self.latent_dim]
        return first[first > self.threshold]

    @property
    def singular_values(self) -> Tensor:
        """The singular values of W, sqrt(max(0, lambda_i - beta sigma^2)), (L,)."""
        return (self.eigenvalues[: self.latent_dim] - self.threshold).clamp(min=0).sqrt()

    @property
    def posterior_sd(self) -> Tensor:
        """The standard deviations of q(z|x), sqrt(beta) sigma / sqrt(lambda_i) or 1, (L,)."""
        return (self.threshold / self.eigenvalues[: self.latent_dim]).clamp(max=1).sqrt()

    @property
    def rate(self) -> float:
        """The mean KL(q(z|x) to p(z)), the sum of ln(lambda_i / (beta sigma^2)) / 2, in nats."""
        return 0.5 * (self.used / self.threshold).log().sum().item()

    @property
    def distortion(self) -> float:
        """The mean -E ln p(x|z), in nats: a used direction keeps the squared error beta sigma^2."""
        error = self.eigenvalues.sum() - self.used.sum() + len(self.used) * self.threshold
        constant = len(self.eigenvalues) * math.log(2 * math.pi * self.variance)
        return 0.5 * (constant + error.item() / self.variance)

    @property
    def elbo(self) -> float:
        """The mean ELBO at the optimum of the objective, in nats."""
        return -self.distortion - self.rate

    @property
    def objective(self) -> float:
        """The maximum of -distortion - beta rate, in nats."""
        return -self.distortion - self.beta * self.rate


@torch.no_grad()
def measure(subject: Subject[VAE]) -> Evidence:
    """The optimum that theory gives for the model's sigma and beta, and the distance from it.

    All is of the training images, in nats per image. ``law_elbo``, ``law_rate`` and
    ``law_objective`` are those of the optimum, and ``law_active_units`` the number of latents that
    it uses. ``law_gap`` is how far the objective of the model, which has a closed form too, stays
    below the maximum. It is never below 0, but for rounding. None has an error, as the law is of
    these training images. Absent for every model that is not a
    linear VAE of images alone with one sigma, and for beta = 0, where no optimum exists.
    """
    model = subject.model
    linear = of_linear_vae(model)
    if linear is None:
        reason = "the law is of a linear VAE that sees no label and has one sigma for all pixels"
        return Evidence(absent=dict.fromkeys(NAMES, reason))
    if subject.beta == 0:
        reason = "at beta = 0 no posterior is the best one: q(z|x) shrinks to a point"
        return Evidence(absent=dict.fromkeys(NAMES, reason))
    moments, objectives = [], []
    for x, _ in subject.train():
        moments.append(Moments.of(x))
        objectives.append(_objectives(model, linear, x, subject.beta))
    whole, values = reduce(add, moments), torch.cat(objectives)
    law = LinearLaw(
        torch.linalg.eigvalsh(whole.covariance).flip(0),
        linear.variance.item(),
        subject.beta,
        model.latent_dim,
    )
    facts = {"split": "train", "sigma": math.sqrt(law.variance), "beta": law.beta}
    allowed = {"allowed": int((law.eigenvalues > law.threshold).sum())}

    def at_optimum(value: float, unit: str = "nats", **more: int) -> Estimate:
        return Estimate(value, unit, whole.count, facts=facts | more, kind="exact")

    entries: dict[str, Measure | Estimate] = {
        "law_elbo": at_optimum(law.elbo),
        "law_rate": at_optimum(law.rate),
        "law_objective": at_optimum(law.objective),
        "law_gap": at_optimum(law.objective - values.mean().item()),
        "law_active_units": at_optimum(float(len(law.used)), "latents", **allowed),
    }
    arrays = {
        "eigenvalues": law.eigenvalues,
        "law_singular_values": law.singular_values,
        "law_posterior_sd": law.posterior_sd,
        "singular_values": torch.linalg.svdvals(linear.factors.double()),
    }
    return Evidence(entries, {name: array.cpu().numpy() for name, array in arrays.items()})


def _objectives(model: VAE, linear: PPCA, x: Tensor, beta: float) -> Tensor:
    """-distortion - beta rate of images x (N, D), exact, (N,).

    E_q |x - W z - b|^2 = |x - W m - b|^2 + sum_l s_l^2 |w_l|^2 for q(z|x) = N(m, diag s^2).
    """
    posterior = model.encode(x)
    mean, variance = posterior.mean.double(), posterior.variance.double()
    weight, noise = linear.factors.double(), linear.variance.double()
    residual = x.double() - linear.mean.double() - mean @ weight.T
    squares = residual.square().sum(1) + variance @ weight.square().sum(0)
    distortion = 0.5 * (x.shape[1] * (2 * math.pi * noise).log() + squares / noise)
    rate = 0.5 * (mean.square() + variance - 1 - variance.log()).sum(1)
    return -distortion - beta * rate
