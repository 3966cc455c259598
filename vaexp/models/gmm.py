"""The Gaussian mixture: z is the index of a component."""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, constraints

from vaexp.models.covariances import Gaussians, Size, family

if TYPE_CHECKING:
    from vaexp.config import GMMConfig

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
"""The torch type of each value of ``model.precision``."""


class GMM(nn.Module):
    """p(z = k) = pi_k, p(x|z = k) = N(mu_k, Sigma_k); the posterior and ln p(x) are exact.

    ``weight`` holds the pi_k (K,), and ``gaussians`` the components. Methods that need a density
    raise SingularCovariance where a covariance is not positive definite.
    """

    latent_dim = 1
    conditional = False
    has_sigma = True
    no_sweep: str | None = None

    def __init__(self, weight: Tensor, gaussians: Gaussians):
        super().__init__()
        self.register_buffer("weight", weight)
        self.weight: Tensor
        self.gaussians = gaussians

    @classmethod
    def empty(cls, config: "GMMConfig", data_dim: int) -> Self:
        """A mixture in D = ``data_dim`` whose parameters mean nothing until they are loaded."""
        dtype = PRECISIONS[config.precision]
        size = Size(config.components, data_dim, config.factors)
        weight = torch.empty(size.components, dtype=dtype)
        return cls(weight, family(config.covariance).empty(size, dtype))

    @property
    def free_parameters(self) -> int:
        """Those of K weights that sum to 1, of the means and of the covariances."""
        k, d, _ = self.gaussians.size
        return k - 1 + k * d + self.gaussians.covariance_parameters

    def prior(self) -> Distribution:
        """p(z), a Categorical over the K components."""
        return Categorical(logits=self.weight.log(), validate_args=False)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Distribution:  # noqa: ARG002
        """p(z|x) of images (N, D), exact: their responsibilities, batch (N,)."""
        return Categorical(logits=self.log_joint(x), validate_args=False)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Distribution:  # noqa: ARG002
        """p(x|z) of component indices (...,): batch (...,), event (D,)."""
        return Component(self.gaussians, z)

    def log_joint(self, x: Tensor) -> Tensor:
        """Ln p(x, z = k) of images (N, D), (N, K) float64, nats; -inf where it is negligible."""
        mean = self.gaussians.mean
        return self.gaussians.log_joint(x.to(mean), self.weight.double().log())

    def log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x) of images (N, D), exact, (N,) float64, nats."""
        return self.log_joint(x).logsumexp(1)

    def with_floor(self, floor: float, other: float) -> "GMM":
        """The same mixture, had the last M-step had ``other`` as its covariance floor."""
        return GMM(self.weight, self.gaussians.with_floor(floor, other))


class Component(Distribution):
    """N(mu_z, Sigma_z) for indices z (...,), without a covariance in memory for each of them."""

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012

    def __init__(self, gaussians: Gaussians, z: Tensor):
        self.gaussians = gaussians
        self.z = z
        event = torch.Size(gaussians.mean.shape[1:])
        super().__init__(z.shape, event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """mu_z, (..., D)."""
        return self.gaussians.mean[self.z]

    @property
    def variance(self) -> Tensor:
        """The variance of each pixel, (..., D)."""
        return self.gaussians.variance()[self.z]

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws, sample_shape + (..., D)."""
        z = self.z.expand(torch.Size(sample_shape) + self.z.shape)
        noise = torch.randn(
            *z.shape, self.gaussians.noise_dim, dtype=self.mean.dtype, device=z.device
        )
        x = self.mean.new_empty(*z.shape, self.gaussians.mean.shape[1])
        for k in z.unique().tolist():
            chosen = z == k
            x[chosen] = self.gaussians.draw(k, noise[chosen])
        return x

    def log_prob(self, value: Tensor) -> Tensor:
        """Ln N(value; mu_z, Sigma_z) of value (N, D) and z (N,), (N,) float64, nats."""
        everyone = torch.zeros(len(self.gaussians.mean), device=value.device)
        result = value.new_empty(self.z.shape, dtype=torch.float64)
        for k in self.z.unique().tolist():
            chosen = self.z == k
            only = torch.full_like(everyone, -torch.inf)
            only[k] = 0
            joint = self.gaussians.log_joint(value[chosen].to(self.mean), only)
            result[chosen] = joint[:, k]
        return result
