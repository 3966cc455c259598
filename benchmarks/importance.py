"""The case of the importance-weighted bound, beside a loop over its draws."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness import Case, Program, Rival
from benchmarks.training import images, new_model
from vaexp.evaluation.bounds import ROWS_PER_BLOCK, iw_measures
from vaexp.models import VAE

DRAWS, IMAGES = 1_000, 200


@torch.no_grad()
def loop(model: VAE, x: Tensor) -> Tensor:
    """ln (1/K) sum_k p(x, z_k) / q(z_k|x) of images x (N, D), (N,): one draw after the other."""
    q = model.encode(x)
    log_w = []
    for _ in range(DRAWS):
        z = q.sample()
        log_w.append(model.decode(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z))
    return torch.stack(log_w).logsumexp(0) - math.log(DRAWS)


def products(model: VAE) -> Program:
    """The matrix products of the decoding alone, as many rows at once as ours decodes."""
    layers = [*model.decoder.modules(), *model.likelihood.modules()]
    weights = [layer.weight.detach() for layer in layers if isinstance(layer, nn.Linear)]
    xs = [torch.randn(ROWS_PER_BLOCK, w.shape[1]) for w in weights]
    outputs = [torch.empty(ROWS_PER_BLOCK, w.shape[0]) for w in weights]

    def run() -> None:
        for _ in range(DRAWS * IMAGES // ROWS_PER_BLOCK):
            for x, w, output in zip(xs, weights, outputs, strict=True):
                torch.mm(x, w.T, out=output)

    return run


def importance(_: Path) -> Case:
    """K = 1,000 draws for each image."""
    model, x = new_model("model.sigma_mode=fixed"), images(IMAGES)
    label = torch.zeros(len(x), dtype=torch.int64)

    def ours() -> None:
        iw_measures(model, x, label, k=DRAWS)

    def theirs() -> None:
        loop(model, x)

    return Case(
        "importance",
        f"importance-weighted bound, K = {DRAWS:,}, {IMAGES} images",
        ours,
        [
            Rival("a loop over K", theirs, 2.0),
            Rival("its products alone", products(model), 1.3, "bound"),
        ],
    )


CASES = {"importance": importance}
