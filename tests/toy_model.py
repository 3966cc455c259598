"""An exact model that vaexp does not ship, written as a user would add one: three short files."""

from typing import Any, Literal, Self, final

import torch
from pydantic import Field
from torch import Tensor

from vaexp.config import LinearGaussianConfig, LinearGaussianExperiment
from vaexp.fitting.em import EMSteps
from vaexp.fitting.ppca import Expectations, e_step, elbo_after_m, start
from vaexp.models import LinearGaussian
from vaexp.models.moments import Moments, moments_of
from vaexp.models.ppca import PPCA
from vaexp.processes import Processes
from vaexp.seeding import seeded

# Its section


@final
class PinnedConfig(LinearGaussianConfig):
    """Probabilistic PCA whose sigma is a number of the config, and is not learned."""

    kind: Literal["pinned"]
    sigma: float = Field(0.25, gt=0)

    @property
    def implementation(self) -> str:
        return "toy_model:Pinned"

    def caption(self) -> list[str]:
        return [f"PCA with σ pinned at {self.sigma:g}, L = {self.latent_dim}"]

    @property
    def captioned(self) -> frozenset[str]:
        return frozenset({"kind", "latent_dim", "sigma"})

    @property
    def floor(self) -> float:
        return 0.0


@final
class PinnedExperiment(LinearGaussianExperiment):
    model: PinnedConfig

    @property
    def steps(self) -> str:
        return "toy_model:PinnedSteps"


# The model


@final
class Pinned(LinearGaussian):
    """x|z ~ N(W z + mu, sigma^2 I). Its formulas are those of probabilistic PCA."""

    def __init__(self, mean: Tensor, factors: Tensor, pinned: Tensor):
        super().__init__(mean, factors)
        self.register_buffer("pinned", pinned)
        self.pinned: Tensor

    @classmethod
    def empty(cls, config: LinearGaussianConfig, data_dim: int) -> Self:
        factors = torch.empty(data_dim, config.latent_dim, dtype=torch.float64)
        return cls(factors.new_empty(data_dim), factors, factors.new_empty(()))

    @property
    def same(self) -> PPCA:
        """The same density."""
        return PPCA(self.mean, self.factors, self.pinned)

    @property
    def noise(self) -> Tensor:
        return self.pinned

    def with_noise(self, noise: Tensor) -> "Pinned":
        return Pinned(self.mean, self.factors, noise)

    @property
    def posterior_root(self) -> Tensor:
        return self.same.posterior_root

    def posterior_mean(self, x: Tensor) -> Tensor:
        return self.same.posterior_mean(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.same.log_prob(x)

    def expected_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.same.expected_terms(x)


# Its steps


@final
class PinnedSteps(EMSteps[PinnedConfig, Pinned, Expectations]):
    """EM of W alone, which ends with latents that depend on each other given x."""

    def __init__(
        self, moments: Moments, held_out: Moments | None, latent_dim: int, sigma: float, seed: int
    ):
        self.moments, self.held_out, self.seed = moments, held_out, seed
        self.latent_dim, self.sigma = latent_dim, sigma

    @classmethod
    def from_config(
        cls,
        config: PinnedConfig,
        x: Tensor,
        label: Tensor,  # noqa: ARG003
        validation: Tensor | None,
        seed: int,
        processes: Processes,
    ) -> Self:
        return cls(*moments_of(x, validation, processes), config.latent_dim, config.sigma, seed)

    @classmethod
    def not_finite(cls) -> str:
        return "a larger model.sigma helps"

    def start(self, restart: int) -> Pinned:
        with seeded(self.seed, "initial parameters", restart):
            begin = start(self.moments, self.latent_dim)
            turned = torch.linalg.qr(torch.randn(2 * [self.latent_dim], dtype=torch.float64)).Q
        variance = torch.tensor(self.sigma**2, dtype=torch.float64)
        return Pinned(begin.mean, begin.factors @ turned, variance)

    def e_step(self, model: Pinned) -> Expectations:
        return e_step(model.same, self.moments)

    def m_step(self, expected: Expectations, model: Pinned) -> Pinned:
        factors = torch.linalg.solve(expected.latent, expected.cross, left=False)
        return Pinned(model.mean, factors, model.noise)

    def elbo_after_m(self, expected: Expectations, model: Pinned, updated: Pinned) -> float:  # noqa: ARG002
        return elbo_after_m(expected, updated.same)

    def validation(self, model: Pinned) -> float | None:
        return None if self.held_out is None else e_step(model.same, self.held_out).mean_log_prob

    def facts(self, model: Pinned) -> dict[str, Any]:
        return {"longest": model.factors.norm(dim=0).max().item()}
