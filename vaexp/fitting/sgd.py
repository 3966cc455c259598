"""Stochastic gradient ascent on the beta-weighted evidence lower bound."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn

from vaexp.errors import RunError
from vaexp.fitting import MISFIT, FitStep
from vaexp.fitting.totals import HELPS, READ_EVERY, Totals
from vaexp.models.elbo import ElboTerms, Terms, elbo_terms, weighted_log_prob
from vaexp.models.vae import VAE
from vaexp.processes import ALONE, Processes
from vaexp.seeding import seeded

VALIDATION_BLOCK = 500
NOT_FINITE = f"training diverged in its last steps; {HELPS}"
"""The cause and the cure that a user is told when a number of the trained model is not finite."""


@dataclass(frozen=True, kw_only=True)
class SGDOptions:
    """How to ascend. The config key of the same name documents the meaning of each."""

    epochs: int | None
    steps: int | None
    batch_size: int
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"]
    learning_rate: float
    schedule: Literal["constant", "cosine", "linear"]
    gradient_clip: float | None
    patience: int | None
    checkpoint_minutes: float | None = None
    beta: float
    beta_warmup: float
    sigma_weighting: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.0

    def beta_at(self, epoch: float) -> float:
        """The factor of the KL term after ``epoch`` epochs, a number that may have a fraction."""
        if epoch >= self.beta_warmup:
            return self.beta
        return self.beta * epoch / self.beta_warmup

    def learning_rate_at(self, done: float) -> float:
        """The learning rate when the share ``done`` of training, 0 to 1, is over."""
        match self.schedule:
            case "constant":
                return self.learning_rate
            case "cosine":
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            case "linear":
                return self.learning_rate * (1 - done)
        assert_never(self.schedule)

    def is_due(self, seconds: float) -> bool:
        """Whether a checkpoint is due so many seconds after the last one."""
        return self.checkpoint_minutes is not None and seconds >= 60 * self.checkpoint_minutes

    def total_steps(self, images: int) -> int:
        """The number of optimizer steps on so many ``images``, without early stopping."""
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
    processes: Processes = ALONE,
) -> Iterator[FitStep]:
    """Maximise E_q ln p(x|z) - beta KL(q(z|x) to p(z)), and yield after every epoch.

    With ``options.checkpoint_minutes`` it also yields, without a record, whenever so many minutes
    have passed within an epoch, between two steps. With ``options.sigma_weighting`` the first term
    is ``weighted_log_prob`` in its place.

    ``images`` maps row numbers (B,) to those training images (B, D), with fresh noise from torch's
    generator where the transform is random. ``label`` is (N,). ``validation`` holds images and
    labels on which the ELBO is measured after every epoch. ``state`` is that of an earlier FitStep,
    to go on from there. ``on_batch`` is told the number of images after every step.

    Several ``processes`` call it with the same arguments. Each works on a share of every batch, and
    all make the same steps, those of one process but for rounding: the order of the images and the
    noise of each of them follow from the seed alone.

    A record's training numbers are means over the epoch while the weights move. Its validation
    numbers belong to the weights at the end of the epoch. ``elbo`` is always at beta = 1. Raises
    RunError when a term or a weight is no longer finite.
    """
    optimizer = _optimizer(model, options)
    at = _Position() if state is None else _restore(state, model, optimizer)
    part = None if state is None else part_of(state, model, label, options)
    terms = processes.in_parallel(Terms(model))
    ascent = _Ascent(model, terms, optimizer, images, label, options, on_batch, processes, at, part)
    total_steps = options.total_steps(len(label))
    while at.step < total_steps and not (options.patience and at.stale >= options.patience):
        with seeded(seed, "epoch", at.epoch):
            try:
                record = yield from ascent.epoch()
            except RuntimeError:  # as of weights that a step before has spoiled
                if processes.count == 1:  # another one, which may have ended, would not answer
                    ascent.check()
                raise
        _check_weights(model, at.epoch, at.step)
        keep = True
        if validation is not None:
            with seeded(seed, "validation", at.epoch):
                measured = _measure(model, *validation, at.epoch, at.step, processes)
                record["validation"] = measured
            if options.patience:
                keep = at.improves(record["validation"]["elbo"])
        ascent.saved = time.monotonic()
        yield FitStep(at.epoch, record, ascent.state(), keep)


@dataclass
class _Ascent:
    """The steps on the training images, epoch by epoch. ``fit`` documents its parts."""

    model: VAE
    terms: nn.Module
    """``Terms`` of the model."""
    optimizer: torch.optim.Optimizer
    images: Callable[[Tensor], Tensor]
    label: Tensor
    options: SGDOptions
    on_batch: Callable[[int], None]
    processes: Processes
    at: "_Position"
    part: "Part | None"
    """The part of the next epoch that was over when training stopped, if it stopped within one."""
    saved: float = field(default_factory=lambda: time.monotonic())
    """When the last checkpoint was due."""
    totals: Totals = field(init=False)
    """Those of the epoch that is under way."""

    def state(self, inside: "Part | None" = None) -> dict[str, Any]:
        """All that is needed to go on; ``inside`` is the part of an epoch that is over."""
        weights = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return weights | asdict(self.at) | ({} if inside is None else {"inside": asdict(inside)})

    def check(self) -> None:
        """Raise RunError if a term of the steps since the last check is no finite number."""
        self.totals.check("training", self.at.epoch + 1, self.at.step)

    def is_due(self) -> bool:
        """Whether a checkpoint is due now, in the middle of an epoch.

        Several processes agree on it, by the clock of the first one, and only where they have just
        read their terms.
        """
        due = self.options.is_due(time.monotonic() - self.saved)
        if self.processes.count == 1:
            return due
        return not self.totals.unread and self.processes.of_first(due)

    def epoch(self) -> Generator[FitStep, None, dict[str, Any]]:
        """Make the steps of an epoch, or the rest of them; returns its record.

        Yields where a checkpoint is due in between.
        """
        options, at, device = self.options, self.at, self.label.device
        start, processes, done = time.perf_counter(), self.processes, 0
        self.totals = totals = Totals(self.model.has_sigma, processes)
        batches = torch.randperm(len(self.label), device=device).split(options.batch_size)
        total_steps = options.total_steps(len(self.label))
        if self.part is not None:
            start -= self.part.seconds
            done, self.part = self.part.resume(totals, device), None
        left = batches[done : done + total_steps - at.step]
        for i, batch in enumerate(left, start=1):
            beta = options.beta_at(at.step / len(batches))
            learning_rate = options.learning_rate_at(at.step / total_steps)
            x, rows = self.images(batch), processes.rows(len(batch))
            mean = partial(processes.part_of_mean, n=len(batch))
            terms = self.terms(x, self.label[batch], rows)
            distortion, rate = mean(terms.distortion), mean(terms.rate)
            loss = mean(_distortion(terms, x[rows], options.sigma_weighting)) + beta * rate
            # the gradient becomes the mean over the processes, and the loss is a sum over them
            total = loss if processes.count == 1 else processes.count * loss
            _descend(total, self.model, self.optimizer, learning_rate, options.gradient_clip)
            at.step += 1
            totals.add(len(batch), distortion, rate, loss, terms.decoded)
            if totals.unread == READ_EVERY:
                self.check()
            self.on_batch(len(batch))
            if i < len(left) and self.is_due():
                self.saved = time.monotonic()
                self.check()
                part = Part.of(done + i, totals, time.perf_counter() - start, device)
                yield FitStep(at.epoch, None, self.state(part), keep=False)
        self.check()
        at.epoch += 1
        seconds = time.perf_counter() - start
        return {
            "epoch": at.epoch,
            "step": at.step,
            "beta": beta,
            "learning_rate": learning_rate,
            "train": totals.means(),
            "seconds": seconds,
            "images_per_second": totals.count / seconds,
        }


def _distortion(terms: ElboTerms, x: Tensor, weighting: float) -> Tensor:
    """The distortion of each image of x (N, D) in the objective, (N,); weighted where asked."""
    if not weighting:
        return terms.distortion
    return -weighted_log_prob(terms.decoded, x, weighting)


@dataclass
class _Position:
    """How far the training has come."""

    epoch: int = 0
    step: int = 0
    stale: int = 0
    """Epochs since the validation ELBO was last better than ever before."""
    best: float = -math.inf
    """The best validation ELBO so far, in nats; only early stopping keeps it."""

    def improves(self, elbo: float) -> bool:
        """Take note of an epoch's validation ELBO; returns whether it is better than any before."""
        better = elbo > self.best
        self.best = max(self.best, elbo)
        self.stale = 0 if better else self.stale + 1
        return better


@dataclass(frozen=True)
class Part:
    """A part of an epoch, up to a checkpoint in its middle."""

    batches: int
    """How many of its batches are over."""
    sums: Tensor
    """Those of ``Totals``."""
    count: int
    seconds: float
    """How long it took."""
    random: list[Tensor]
    """The states of torch's generators: that of the CPU, and that of the GPU if one is used."""

    @classmethod
    def of(cls, batches: int, totals: Totals, seconds: float, device: torch.device) -> "Part":
        """The part of an epoch that is over now."""
        random = [torch.get_rng_state()]
        if device.type == "cuda":
            random.append(torch.cuda.get_rng_state(device))
        assert isinstance(totals.sums, Tensor)
        return cls(batches, totals.sums, totals.count, seconds, random)

    def is_of(self, device: torch.device) -> bool:
        """Whether it was trained on such a device, so that the rest is as if never stopped.

        Elsewhere the rest has another order of the images and other random numbers.
        """
        return len(self.random) == 1 + (device.type == "cuda")

    def resume(self, totals: Totals, device: torch.device) -> int:
        """Go on from here with the epoch's sums and random numbers; returns the batches before."""
        totals.sums, totals.count = self.sums.to(device), self.count
        self.restore_random(device)
        return self.batches

    def restore_random(self, device: torch.device) -> None:
        """Restore the states of those generators that there are here."""
        torch.set_rng_state(self.random[0])
        if device.type == "cuda" and self.is_of(device):
            torch.cuda.set_rng_state(self.random[1], device)


def part_of(state: dict[str, Any], model: VAE, label: Tensor, options: SGDOptions) -> Part | None:
    """The part of an epoch in a state, or None if that is of an epoch's end.

    Raises RunError where it does not fit the model, the labels (N,) of its images or the options.
    """
    if "inside" not in state:
        return None
    device, size = label.device, options.batch_size
    batches = math.ceil(len(label) / size)
    try:
        part = Part(**state["inside"])
        numbers = [type(number) for number in (part.batches, part.count, part.seconds)]
        if numbers != [int, int, float] or len(part.random) not in (1, 2):
            raise TypeError("a number is of another type")
        if not 0 < part.batches < batches or part.count != part.batches * size:
            raise ValueError("it is no part of an epoch")
        if state["step"] != state["epoch"] * batches + part.batches:
            raise ValueError("it is a part of another epoch")
        sums = torch.zeros(len(Totals(model.has_sigma).names), dtype=torch.float64)
        if (part.sums.dtype, part.sums.shape) != (sums.dtype, sums.shape):
            raise ValueError("a tensor is of another type")
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            part.restore_random(device)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(MISFIT) from None
    return part


def _restore(state: dict[str, Any], model: VAE, optimizer: torch.optim.Optimizer) -> _Position:
    """Give model and optimizer the values in ``state``; returns where training stood then.

    Raises RunError where ``state`` does not fit the model.
    """
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        stored = {each.name: state[each.name] for each in fields(_Position)}
        if any(type(stored[each.name]) is not type(each.default) for each in fields(_Position)):
            raise TypeError("a number is of another type")
        return _Position(**stored)
    except (RuntimeError, ValueError, KeyError, TypeError):
        raise RunError(MISFIT) from None


def _descend(
    loss: Tensor,
    model: VAE,
    optimizer: torch.optim.Optimizer,
    learning_rate: float,
    gradient_clip: float | None,
) -> None:
    """One step of the optimizer down the gradient of the loss, whose norm may be clipped."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clip)
    optimizer.step()


def _optimizer(model: VAE, options: SGDOptions) -> torch.optim.Optimizer:
    """The optimizer that the config names, on all weights of the model."""
    parameters, rate = model.parameters(), options.learning_rate
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=options.momentum)
        case "adamw":
            decay = options.weight_decay
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate, centered=True)
    assert_never(options.optimizer)


@torch.no_grad()
def _measure(
    model: VAE, x: Tensor, label: Tensor, epoch: int, step: int, processes: Processes = ALONE
) -> dict[str, float]:
    """ELBO, rate, distortion (and sigma) of the validation images, one draw of z per image."""
    totals = Totals(model.has_sigma, processes)
    for xs, labels in zip(x.split(VALIDATION_BLOCK), label.split(VALIDATION_BLOCK), strict=True):
        terms = elbo_terms(model, xs, labels, processes.rows(len(xs)))
        mean = partial(processes.part_of_mean, n=len(xs))
        distortion, rate = mean(terms.distortion), mean(terms.rate)
        totals.add(len(xs), distortion, rate, distortion + rate, terms.decoded)
    totals.check("validation", epoch, step, steps=False)
    means = totals.means()
    del means["objective"]
    return means


def _check_weights(model: VAE, epoch: int, step: int) -> None:
    """Raise RunError where a weight is not a finite number."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise RunError(
                f"the weights {name} are no longer finite after epoch {epoch}, step {step}; {HELPS}"
            )
