"""Generated images in every decode mode, from one model and one set of latents z ~ p(z).

Letters in shapes: n latents, L their dimensions, D pixels, N test images.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vaexp.models import Model

SHIFTS = {"plus1": 1, "minus1": -1, "plus2": 2, "minus2": -2}  # k of mu + k sigma


class Generated(NamedTuple):
    """p(x|z) at n latents z ~ p(z), from which all decode modes follow. Images are float32."""

    z: Tensor
    """(n, L), or the indices of components (n,)."""
    label: Tensor
    """Labels of test images, (n,). Only a conditional model uses them."""
    mean: Tensor
    """mu(z), (n, D)."""
    variance: Tensor
    """The variance of each pixel given z, (n, D): sigma^2(z), or p (1 - p) of a Bernoulli."""
    sample: Tensor
    """One draw of p(x|z) for each z, (n, D)."""


@torch.no_grad()
def generate(model: Model, label: Tensor, draws: int) -> Generated:
    """Draw ``draws`` latents from p(z) and decode them. label (N,) are those of the test images.

    A conditional model gets each of these labels once, in a random order, so it has N draws at
    most. Standard errors over draws then include what other test images would change: with labels
    drawn again and again, ten thousand draws would know no more digits than a few test images do.
    """
    if model.conditional:
        drawn = label[torch.randperm(len(label), device=label.device)[:draws]]
    else:
        drawn = label[torch.randint(len(label), (draws,), device=label.device)]
    z = model.prior().sample(drawn.shape)
    p = model.decode(z, drawn)
    return Generated(z, drawn, p.mean.float(), p.variance.float(), p.sample().float())


def modes(generated: Generated, *, sweep: bool) -> Iterator[tuple[str, Tensor]]:
    """The name of each decode mode and its images (n, D), one mode at a time to spare memory."""
    yield "mean", generated.mean
    yield "sample", generated.sample
    if sweep:
        for name, k in SHIFTS.items():
            yield name, generated.mean + k * generated.variance.sqrt()
