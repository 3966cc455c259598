"""Which numbers of two runs may be subtracted or ranked. Imports no torch."""

from typing import Literal

Scope = Literal["same_x", "same_objective", "same_look", "any_transform", "own_draws"]
"""How alike two runs must be so that the difference of their numbers means something.

All but the last ask for the same test images.

same_x: the images must also have gone through the same transform, as for a density of x.
same_objective: beta must be the same too, as each beta optimises another distribution.
same_look: the images must look alike on the display scale, which their fact ``look`` says.
any_transform: the number does not depend on the scale of x, such as one of codes, or bits per
dimension of the grey values.
own_draws: each number is of images that its own model drew, so two of them are never compared.
"""
