"""Which numbers of two runs may be subtracted or ranked. This module imports no torch."""

from enum import IntEnum
from typing import Literal

Scope = Literal["same_x", "same_objective", "same_look", "any_transform", "own_draws"]
"""How alike two runs must be so that the difference of their numbers has a meaning.

Every scope but ``own_draws`` requires that both runs were measured on the same test images.

same_x: both runs must also use the same transform, as a density of x depends on the scale of x.
same_objective: both must also have the same transform and the same beta, as every beta optimises
another distribution.
same_look: the images of both runs must look alike on the display scale. The entry's fact ``look``
says how they look.
any_transform: the transforms may differ, as the number does not depend on the scale of x. Examples
are what codes say about the digit, and bits per dimension of the grey values.
own_draws: every model is measured on images that it drew itself, so runs are never compared.
"""


class Tightness(IntEnum):
    """How close to ln p(x) a bound is. Runs are ranked by the tightest that all of them have."""

    ELBO = 1
    IMPORTANCE_WEIGHTED = 2
    EXACT = 3
