"""The families of p(x|z), one file each, and the head that a config asks for."""

import pkgutil
from collections.abc import Callable
from functools import partial

from vaexp.config import VAEConfig
from vaexp.config.likelihoods import GREY_LEVELS, LIKELIHOODS
from vaexp.models.likelihoods.interface import Decoded, Likelihood, Quadratic


def head_of(config: VAEConfig, data_dim: int) -> Callable[[int], Likelihood]:
    """A function from the number H of decoder features to the head that ``config`` describes."""
    head: type[Likelihood] = pkgutil.resolve_name(LIKELIHOODS[config.likelihood].head)
    return partial(head.from_config, config, data_dim=data_dim)


__all__ = ["GREY_LEVELS", "Decoded", "Likelihood", "Quadratic", "head_of"]
