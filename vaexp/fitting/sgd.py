"""Stochastic gradient ascent on the beta-weighted evidence lower bound."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaexp.errors import RunError
from vaexp.fitting import FitStep
from vaexp.models.absent import answered
from vaexp.models.elbo import ElboTerms, elbo_terms
from vaexp.models.vae import VAE
from vaexp.seeding import seeded

VALIDATION_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class SGDOptions:
    """How to ascend; the meaning of each is documented at the config key of the same name."""

    epochs: int | None
    steps: int | None
    batch_size: int
    optimizer: str
    learning_rate: float
    schedule: str
    gradient_clip: float | None
    patience: int | None
    beta: float
    beta_warmup: float
    weight_decay: float = 0.0
    momentum: float = 0.0

    def beta_at(self, epoch: float) -> float:
        """The KL factor after ``epoch`` epochs, which may be a fraction."""
        if epoch >= self.beta_warmup:
            return self.beta
        return self.beta * epoch / self.beta_warmup

    def learning_rate_at(self, done: float) -> float:
        """The learning rate when the share ``done`` of training is over."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        return self.learning_rate

    def total_steps(self, images: int) -> int:
        """Optimizer steps in all, early stopping aside."""
        return self.steps or (self.epochs or 0) * math.ceil(images / self.batch_size)


def fit(
    model: VAE,
    images: Callable[[Tensor], Tensor],
    label: Tensor,
    validation: tuple[Tensor, Tensor] | None,
    options: SGDOptions,
    *,
    seed: int,
    state: dict[str, Any] | None = None,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Iterator[FitStep]:
    """Maximise E_q ln p(x|z) - beta KL(q(z|x) to p(z)), and yield after every epoch.

    images: row numbers (B,) -> those training images (B, D), transformed, with fresh noise from
    torch's generator where the transform is random. label: (N,). validation: images and labels on
    which the ELBO is measured after every epoch. state: a FitStep's, to go on from there. on_batch:
    told the number of images after every step.

    A record's training numbers are means over the epoch while the weights move, its validation
    numbers belong to the weights at its end; ``elbo`` is always at beta = 1. Raises RunError when a
    term, or a weight, is no longer finite.
    """
    optimizer = _optimizer(model, options)
    n = len(label)
    steps_per_epoch = math.ceil(n / options.batch_size)
    total_steps = options.total_steps(n)
    epoch = step = stale = 0
    best = -math.inf
    if state is not None:
        try:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            epoch, step = state["epoch"], state["step"]
            stale, best = state["stale"], state["best"]
        except (RuntimeError, ValueError, KeyError, TypeError):
            raise RunError(
                "checkpoints/state.pt does not fit config.yaml; one of the two was changed or "
                "comes from another run"
            ) from None

    while step < total_steps and not (options.patience and stale >= options.patience):
        start = time.perf_counter()
        totals = _Totals(model.has_sigma)
        with seeded(seed, "epoch", epoch):
            batches = torch.randperm(n, device=label.device).split(options.batch_size)
            for batch in batches[: total_steps - step]:
                beta = options.beta_at(step / steps_per_epoch)
                rate_now = options.learning_rate_at(step / total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate_now
                terms = elbo_terms(model, images(batch), label[batch])
                distortion, rate = terms.distortion.mean(), terms.rate.mean()
                _check_finite(distortion, rate, "training", epoch + 1, step + 1)
                loss = distortion + beta * rate
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if options.gradient_clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip)
                optimizer.step()
                step += 1
                sigma = _mean_sigma(terms) if model.has_sigma else None
                totals.add(len(batch), distortion, rate, loss, sigma)
                on_batch(len(batch))
        epoch += 1
        _check_weights(model, epoch, step)
        seconds = time.perf_counter() - start
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": step,
            "beta": beta,
            "learning_rate": rate_now,
            "train": totals.means(),
        }
        keep = True
        if validation is not None:
            with seeded(seed, "validation", epoch):
                record["validation"] = _measure(model, *validation, epoch, step)
            if options.patience:
                keep = record["validation"]["elbo"] > best
                best = max(best, record["validation"]["elbo"])
                stale = 0 if keep else stale + 1
        record |= {"seconds": seconds, "images_per_second": totals.count / seconds}
        yield FitStep(
            epoch,
            record,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
                "step": step,
                "stale": stale,
                "best": best,
            },
            keep,
        )


def _optimizer(model: VAE, options: SGDOptions) -> torch.optim.Optimizer:
    parameters, rate = model.parameters(), options.learning_rate
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=options.momentum)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=options.weight_decay, fused=True)
    return torch.optim.Adam(parameters, lr=rate, fused=True)


class _Totals:
    """Sums over an epoch's images, in float64."""

    def __init__(self, has_sigma: bool):
        self.names = ["distortion", "rate", "objective"] + ["sigma"] * has_sigma
        self.sums: Tensor | float = 0.0
        self.count = 0

    def add(
        self, count: int, distortion: Tensor, rate: Tensor, loss: Tensor, sigma: Tensor | None
    ) -> None:
        values = [distortion, rate, -loss] + ([] if sigma is None else [sigma])
        self.sums = self.sums + count * torch.stack(values).detach().double()
        self.count += count

    def means(self) -> dict[str, float]:
        assert isinstance(self.sums, Tensor)
        means = dict(zip(self.names, (self.sums / self.count).tolist(), strict=True))
        return {"elbo": -means["distortion"] - means["rate"], **means}


@torch.no_grad()
def _measure(model: VAE, x: Tensor, label: Tensor, epoch: int, step: int) -> dict[str, float]:
    """ELBO, rate, distortion (and sigma) of the validation images, one draw of z per image."""
    totals = _Totals(model.has_sigma)
    for xs, labels in zip(x.split(VALIDATION_BLOCK), label.split(VALIDATION_BLOCK), strict=True):
        terms = elbo_terms(model, xs, labels)
        distortion, rate = terms.distortion.mean(), terms.rate.mean()
        _check_finite(distortion, rate, "validation", epoch, step)
        sigma = _mean_sigma(terms) if model.has_sigma else None
        totals.add(len(xs), distortion, rate, distortion + rate, sigma)
    means = totals.means()
    del means["objective"]
    return means


def _mean_sigma(terms: ElboTerms) -> Tensor:
    """sigma(z), averaged over images and pixels: of a family that has one."""
    return answered(terms.decoded.sigma).mean()


def _check_finite(distortion: Tensor, rate: Tensor, split: str, epoch: int, step: int) -> None:
    for name, value in (("distortion", distortion), ("rate", rate)):
        if not math.isfinite(value.item()):
            raise RunError(
                f"the {split} {name} became {value.item()} in epoch {epoch}, step {step}; a lower "
                "train.learning_rate or a train.gradient_clip usually helps"
            )


def _check_weights(model: VAE, epoch: int, step: int) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise RunError(
                f"the weights {name} are no longer finite after epoch {epoch}, step {step}; a "
                "lower train.learning_rate or a train.gradient_clip usually helps"
            )
