"""The variational autoencoder (Kingma and Welling 2014; Rezende et al. 2014)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import one_hot

from vaexp.models.absent import Absent
from vaexp.models.likelihoods import head_of
from vaexp.models.likelihoods.interface import Decoded, Likelihood
from vaexp.models.likelihoods.location_scale import scale_above
from vaexp.models.networks import mlp

if TYPE_CHECKING:
    from vaexp.config import VAEConfig

# Keeps q(z|x) proper where beta = 0 lets it shrink to a point; no trained posterior comes near.
POSTERIOR_FLOOR = 1e-6


class VAE(nn.Module):
    """p(z) = N(0, I), q(z|x) a diagonal Gaussian and p(x|z) a likelihood, both given by MLPs.

    ``hidden`` holds the widths of the encoder, which the decoder mirrors; [] makes both linear.
    ``head`` maps the number of decoder features to the module that turns features into p(x|z). With
    ``classes`` > 0 the model is conditional: both networks also see the label, one-hot.
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: Sequence[int],
        activation: str,
        head: Callable[[int], Likelihood],
        classes: int = 0,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.classes = classes
        self.conditional = classes > 0
        self.encoder = mlp(data_dim + classes, hidden, activation)
        self.posterior = nn.Linear([data_dim + classes, *hidden][-1], 2 * latent_dim)
        self.decoder = mlp(latent_dim + classes, hidden[::-1], activation)
        self.likelihood = head([latent_dim + classes, *hidden[::-1]][-1])
        self.has_sigma = self.likelihood.family.sigma
        self.no_sweep = self.likelihood.family.no_sweep

    @classmethod
    def from_config(cls, config: "VAEConfig", data_dim: int, classes: int) -> Self:
        """The VAE that a config describes, its weights drawn from torch's global generator.

        ``data_dim`` is D. ``classes``, the number of labels, counts only where it is conditional.
        """
        return cls(
            data_dim,
            config.latent_dim,
            config.hidden,
            config.activation,
            head_of(config, data_dim),
            classes if config.conditional else 0,
        )

    def prior(self) -> Distribution:
        """p(z) = N(0, I), event shape (L,)."""
        zeros = torch.zeros(self.latent_dim, device=self.posterior.weight.device)
        return Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Distribution:
        """q(z|x) of images (..., D) and, if conditional, labels (...): batch (...), event (L,)."""
        mean, raw = self.posterior(self.encoder(self._with_label(x, label))).chunk(2, dim=-1)
        scale = scale_above(POSTERIOR_FLOOR, raw)
        return Independent(Normal(mean, scale, validate_args=False), 1)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Decoded:
        """p(x|z) of latents (..., L) and, if conditional, labels: batch (...), event (D,).

        Labels have the shape of z without its last axis, or one that broadcasts to it.
        """
        decoded: Decoded = self.likelihood(self.decoder(self._with_label(z, label)))
        return decoded

    def log_z(self, z: Tensor, label: Tensor | None, beta: float) -> Tensor | Absent:
        """ln Z(z) of p(x|z)^(1/beta) at latents z (..., L) with labels as for ``decode``, (...)."""
        return self.likelihood.log_z(self.decoder(self._with_label(z, label)), beta)

    def _with_label(self, inputs: Tensor, label: Tensor | None) -> Tensor:
        """The inputs (..., F), with the one-hot label behind them if the model is conditional."""
        if not self.conditional:
            return inputs
        if label is None:
            raise ValueError("a conditional model needs the label")
        code = one_hot(label, self.classes).to(inputs.dtype)
        return torch.cat([inputs, code.expand(*inputs.shape[:-1], self.classes)], dim=-1)
