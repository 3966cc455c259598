"""What every model offers, whatever its family and however it was fitted.

There are three families, and code that treats them differently matches all of them. A ``VAE`` has
only bounds of ln p(x). In a ``GMM`` z is an index, and in a ``LinearGaussian`` model z is a vector;
ln p(x) of both is exact.
"""

from typing import Protocol

from torch import Tensor
from torch.distributions import Distribution


class LatentVariableModel(Protocol):
    """p(x, z) = p(z) p(x|z) with an exact or approximate posterior q(z|x).

    Models of p(x, z | label) take ``label`` (N,) int64; the others ignore it.
    """

    latent_dim: int
    """L, or 1 for a component index."""
    conditional: bool
    """Whether ``encode`` and ``decode`` need the label."""
    has_sigma: bool
    """Whether p(x|z) has a standard deviation to draw."""
    no_sweep: str | None
    """Why mu(z) + k sigma(z) is no image of the model; None where it is."""

    def prior(self) -> Distribution:
        """p(z), event shape (L,)."""
        ...

    def encode(self, x: Tensor, label: Tensor | None = None) -> Distribution:
        """q(z|x) of images (..., D): batch shape (...), event shape (L,)."""
        ...

    def decode(self, z: Tensor, label: Tensor | None = None) -> Distribution:
        """p(x|z) of latents (..., L): batch shape (...), event shape (D,)."""
        ...


class ExactModel(LatentVariableModel, Protocol):
    """A model whose ``encode`` is the posterior p(z|x) itself and whose ln p(x) is known."""

    @property
    def free_parameters(self) -> int:
        """How many numbers determine p(x): those of all parameters less what leaves p(x) as it is,
        such as a rotation of the latents."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Ln p(x) of images (N, D), (N,) float64, nats."""
        ...
