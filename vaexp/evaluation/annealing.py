"""ln p(x) by annealed importance sampling, and how far from the truth the result can be.

Letters in shapes: S chains, N images, L latents, K temperatures. Log quantities are in nats and
float64.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import interpolate

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import (
    Estimate,
    Evidence,
    Kind,
    Measure,
    average_log_likelihood,
    log_mean,
)
from vaexp.evaluation.monte_carlo import monte_carlo_variance, size_facts, spread
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE

NAMES = ("log_prob_ais", "ais_lower_simulated", "ais_upper_simulated", "ais_gap")
CHAINS = 16  # S
TEMPERATURES = 200  # K
SHARPNESS = 4.0  # how dense the schedule is at its ends
LEAPFROG_STEPS = 3  # of one Hamiltonian proposal
ROWS_PER_BLOCK = 2048  # chains x images that are decoded at once
SIMULATED = 100  # the images drawn from the model to bracket their ln p(x), at most
ACCEPTANCE = 0.65  # the target of the step sizes (Neal 2011, section 5.4.4)
JITTER = 0.2  # step sizes vary by 20 % at random, so that no trajectory ends where it began
# The pilot run finds the step sizes. It makes WARM_UP transitions at the first temperature, then
# visits one temperature in PILOT_SHARE.
PILOT_SHARE = 4
WARM_UP = 10
FIRST_STEP = 0.5  # the step size it begins with, in standard deviations of q(z|x)
GAIN = 0.5  # what it adds to the ln of a step size per unit of acceptance above ACCEPTANCE


class Point(NamedTuple):
    """The positions of chains, with the densities at both ends of a path there."""

    z: Tensor
    """(S, N, L)."""
    log_start: Tensor
    """ln q(z|x), (S, N)."""
    log_joint: Tensor
    """ln p(x, z), (S, N)."""
    grad_start: Tensor
    """d ln q(z|x) / dz, (S, N, L)."""
    grad_joint: Tensor
    """d ln p(x, z) / dz, (S, N, L)."""

    def log_density(self, t: float) -> Tensor:
        """The logarithm of f_t(z), (S, N)."""
        return (1 - t) * self.log_start + t * self.log_joint

    def gradient(self, t: float) -> Tensor:
        """The gradient d ln f_t(z) / dz, (S, N, L)."""
        return (1 - t) * self.grad_start + t * self.grad_joint

    def moved_to(self, other: "Point", where: Tensor) -> "Point":
        """This point, with ``other`` in its place where ``where`` (S, N) is true."""
        return Point(
            torch.where(where[..., None], other.z, self.z),
            torch.where(where, other.log_start, self.log_start),
            torch.where(where, other.log_joint, self.log_joint),
            torch.where(where[..., None], other.grad_start, self.grad_start),
            torch.where(where[..., None], other.grad_joint, self.grad_joint),
        )


@dataclass(frozen=True)
class Path:
    """The unnormalised densities f_t(z) = q(z|x)^(1-t) p(x, z)^t of N images, t from 0 to 1."""

    start: Distribution
    """q(z|x), batch (N,), event (L,). Any distribution that is nowhere 0 is valid."""
    log_joint: Callable[[Tensor], Tensor]
    """ln p(x, z) as a function of z (S, N, L), (S, N)."""

    def at(self, z: Tensor) -> Point:
        """Evaluate both ends of the path at z (S, N, L)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_start, log_joint = self.start.log_prob(z), self.log_joint(z)
            (grad_start,) = torch.autograd.grad(log_start.sum(), z)
            (grad_joint,) = torch.autograd.grad(log_joint.sum(), z)
        return Point(z.detach(), log_start.detach(), log_joint.detach(), grad_start, grad_joint)


def posterior_path(model: VAE, x: Tensor, label: Tensor) -> Path:
    """The path from the encoder's q(z|x) to p(z) p(x|z), for a float64 model and images x (N, D).

    A path from p(z) is valid as well, but its chains must find the few codes of the image and
    shorten their steps on the way. At equal cost, such a path left 4 of 16 chains effective and
    q(z|x) left 15, for a VAE with two latents and similar bounds. With one sigma per pixel its
    bound was 50 nats lower. Chains that start from q(z|x) rarely find codes that q(z|x) misses.
    That shows as a gap between the two bounds.
    """
    prior = model.prior()

    def log_joint(z: Tensor) -> Tensor:
        return model.decode(z, label).log_prob(x) + prior.log_prob(z)

    with torch.no_grad():
        return Path(model.encode(x, label), log_joint)


def sigmoid_schedule(temperatures: int) -> Tensor:
    """The schedule t_0 = 0 < t_1 < ... < t_K = 1, (K + 1,), which is dense at both ends.

    t_k = (s_k - s_0) / (s_K - s_0) with s_k = sigmoid(SHARPNESS (2 k / K - 1)) (Wu, Burda,
    Salakhutdinov and Grosse 2017, On the quantitative analysis of decoder-based generative models).
    """
    s = torch.linspace(-SHARPNESS, SHARPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    return (s - s[0]) / (s[-1] - s[0])


def leapfrog(
    path: Path, t: float, point: Point, momentum: Tensor, step: Tensor, steps: int
) -> tuple[Point, Tensor]:
    """The point and momentum after ``steps`` >= 1 leapfrog steps of size ``step`` (S, N).

    momentum (S, N, L). The energy is -ln f_t(z) + |momentum|^2 / 2, with z measured in standard
    deviations of q(z|x). The map is reversible and preserves volume, and the energy changes by
    O(step^2) (Neal 2011, MCMC using Hamiltonian dynamics, section 5.2.3).
    """
    scale, step = path.start.stddev, step[..., None]
    momentum = momentum + step / 2 * scale * point.gradient(t)
    for remaining in reversed(range(steps)):
        point = path.at(point.z + step * scale * momentum)
        momentum = momentum + (step if remaining else step / 2) * scale * point.gradient(t)
    return point, momentum


def transition(
    path: Path, t: float, point: Point, step: Tensor, steps: int
) -> tuple[Point, Tensor]:
    """One transition of Hamiltonian Monte Carlo, which leaves f_t invariant.

    It makes ``steps`` leapfrog steps of size ``step`` (N,). Returns the new point and the
    probability of acceptance (S, N), min(1, exp(-increase in energy)) (Duane et al. 1987), which is
    0 where the proposal's energy is not finite.
    """
    momentum = torch.randn_like(point.z)
    jittered = step * (1 + JITTER * (2 * torch.rand_like(point.log_joint) - 1))
    proposal, end = leapfrog(path, t, point, momentum, jittered, steps)
    gain = proposal.log_density(t) - point.log_density(t)
    gain = gain + (momentum.square() - end.square()).sum(-1) / 2
    probability = torch.where(gain.isfinite(), gain.clamp(max=0).exp(), 0)
    accepted = torch.rand_like(probability) < probability
    return point.moved_to(proposal, accepted), probability


def pilot_transitions(temperatures: int) -> int:
    """The number of transitions that ``step_sizes`` makes."""
    inner = temperatures - 1
    return WARM_UP + math.ceil(inner / PILOT_SHARE) if inner else 0


@torch.no_grad()
def step_sizes(
    path: Path,
    schedule: Tensor,
    chains: int,
    leapfrog_steps: int,
    on_transition: Callable[[], None] = lambda: None,
) -> Tensor:
    """The step sizes for t_1 ... t_(K-1), (K - 1, N), that give each image about ACCEPTANCE.

    A pilot run adapts the step sizes, and nothing else of it is kept. In the run that is weighed
    the step sizes are thus fixed beforehand. Each of its transitions leaves its f_t invariant, and
    the expectation of the mean weight is exactly p(x). If the step sizes were adapted in that run
    itself, as by Wu et al. 2017, a transition would depend on the past of the chains, and the
    expectation would only be close to p(x).
    """
    inner = schedule[1:-1]
    images = path.start.batch_shape[0]
    if len(inner) == 0:
        return schedule.new_empty(0, images)
    count = pilot_transitions(len(schedule) - 1) - WARM_UP
    visited = inner[torch.linspace(0, len(inner) - 1, count).round().long()].tolist()
    point = path.at(path.start.sample(torch.Size([chains])))
    step = torch.full((images,), FIRST_STEP, dtype=torch.float64, device=point.z.device)
    log_steps = []
    for t in visited[:1] * WARM_UP + visited:
        point, probability = transition(path, t, point, step, leapfrog_steps)
        step = step * (GAIN * (probability.mean(0) - ACCEPTANCE)).exp()
        log_steps.append(step.log())
        on_transition()
    of_visited = torch.stack(log_steps[WARM_UP:], dim=1)[None]
    of_all = interpolate(of_visited, size=len(inner), mode="linear", align_corners=True)
    return of_all[0].T.exp()


@torch.no_grad()
def anneal(
    path: Path,
    z: Tensor,
    schedule: Tensor,
    sizes: Tensor,
    leapfrog_steps: int,
    on_temperature: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Annealed importance sampling: ln weights (S, N), and the mean acceptance (N,).

    ln w = sum_k (t_k - t_(k-1)) [ln p(x, z_(k-1)) - ln q(z_(k-1)|x)]. Here z_0 is ``z`` (S, N, L),
    and a transition that leaves f_(t_k) invariant takes z_(k-1) to z_k (Neal 2001, section 2). If
    ``schedule`` (K + 1,) runs from 0 to 1 and z ~ q(z|x), then E w = p(x). If it runs from 1 to 0
    and z ~ p(z|x), then E w = 1 / p(x). ``sizes`` (K - 1, N) are the step sizes in the same order.
    K = 1 is simple importance sampling: it has no transitions, and its acceptance is NaN.
    """
    point = path.at(z)
    log_w = torch.zeros_like(point.log_joint)
    acceptance = torch.zeros_like(log_w[0])
    t = schedule.tolist()
    for k in range(1, len(t)):
        log_w += (t[k] - t[k - 1]) * (point.log_joint - point.log_start)
        if k < len(t) - 1:
            point, probability = transition(path, t[k], point, sizes[k - 1], leapfrog_steps)
            acceptance += probability.mean(0)
        on_temperature()
    return log_w, acceptance / len(sizes)


def in_double(model: VAE) -> VAE:
    """A copy of the model in float64 whose parameters have no gradients."""
    return deepcopy(model).double().requires_grad_(False)


@torch.no_grad()
def simulate(model: VAE, label: Tensor) -> tuple[Tensor, Tensor]:
    """Draw z ~ p(z) (N, L) and x ~ p(x|z) (N, D) for labels (N,), in float64."""
    z = model.prior().sample(label.shape).double()
    return z, model.decode(z, label).sample()


def annealed(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    chains: int = CHAINS,
    temperatures: int = TEMPERATURES,
    on_images: Callable[[int], None] = lambda _: None,
) -> Evidence:
    """``log_prob_ais`` of images x (N, D), and how tight it is on images that the model draws.

    label (N,). log_prob_ais is the logarithm of the mean weight of ``chains`` runs of annealed
    importance sampling (Neal 2001) from q(z|x) to p(z|x) over ``temperatures`` steps. In
    expectation it is a lower bound on ln p(x).

    Bidirectional Monte Carlo (Grosse, Ghahramani and Adams 2015) brackets the ln p(x) of min(N,
    SIMULATED) images that are drawn from the model, with the first labels. ``ais_lower_simulated``
    is the mean of the same lower bound for these images. ``ais_upper_simulated`` comes from chains
    that run from p(z|x) to q(z|x). They begin at the z that the image was drawn with, which is an
    exact draw of p(z|x), and so give an upper bound in expectation. ``ais_gap`` is the mean
    difference of the two. These three are Estimates, as none of them is of the test images.

    on_images is told of images in proportion to the work that is done.
    """
    model, x = in_double(model), x.double()
    z, drawn = simulate(model, label[:SIMULATED])
    pilot = pilot_transitions(temperatures)
    work = len(x) * (pilot + temperatures) + len(z) * (pilot + 2 * temperatures)
    run = _Run(model, sigmoid_schedule(temperatures), chains, _Work(on_images, len(x), work))
    of_images = run.lower_bound(*run.in_blocks(x, label))
    log_w, acceptance, log_inverse = run.in_blocks(drawn, label[:SIMULATED], z)
    lower, upper = run.lower_bound(log_w, acceptance), -log_mean(log_inverse)[0]
    measures = (
        of_images,
        _simulated(lower.values, "lower_bound", lower.facts),
        _simulated(upper, "upper_bound", run.facts),
        _simulated(upper - lower.values, "estimate", run.facts),
    )
    return Evidence(dict(zip(NAMES, measures, strict=True)))


@dataclass(frozen=True)
class _Run:
    """Annealed importance sampling of a float64 model with one schedule and number of chains."""

    model: VAE
    schedule: Tensor
    """(K + 1,), from 0 to 1."""
    chains: int
    work: "_Work"

    @property
    def facts(self) -> dict[str, Any]:
        """The settings, which every entry states."""
        temperatures = len(self.schedule) - 1
        return {
            "chains": self.chains,
            "temperatures": temperatures,
            "leapfrog_steps": LEAPFROG_STEPS,
        }

    def in_blocks(self, x: Tensor, label: Tensor, z: Tensor | None = None) -> list[Tensor]:
        """Ln weights (S, N) and mean acceptance (N,) of images x (N, D) with labels (N,).

        If z (N, L) is given, which must be exact draws of p(z|x), the chains are also run backwards
        from there. Their ln weights (S, N) come last.
        """
        rows = max(1, ROWS_PER_BLOCK // self.chains)
        if z is None:
            found = [self._block(xs, y, None) for xs, y in blocks(x, label, rows=rows)]
        else:
            found = [self._block(xs, y, zs) for xs, y, zs in blocks(x, label, z, rows=rows)]
        return [torch.cat(parts, dim=-1).cpu() for parts in zip(*found, strict=True)]

    def _block(self, x: Tensor, label: Tensor, z: Tensor | None) -> list[Tensor]:
        """The same for a block of images, whose chains run side by side."""
        path = posterior_path(self.model, x, label)

        def on_step() -> None:
            self.work.done(len(x))

        sizes = step_sizes(path, self.schedule, self.chains, LEAPFROG_STEPS, on_step)
        first = path.start.sample(torch.Size([self.chains]))
        found = [*anneal(path, first, self.schedule, sizes, LEAPFROG_STEPS, on_step)]
        if z is not None:
            last = z.expand(self.chains, *z.shape)
            backwards = self.schedule.flip(0), sizes.flip(0)
            found.append(anneal(path, last, *backwards, LEAPFROG_STEPS, on_step)[0])
        return found

    def lower_bound(self, log_w: Tensor, acceptance: Tensor) -> Measure:
        """The bound from ln weights (S, N); ``acceptance`` (N,) becomes a fact."""
        value, delta, size = log_mean(log_w)
        facts = {**self.facts, **size_facts(size)}
        if len(self.schedule) > 2:  # else there is no transition between the two ends
            facts["acceptance"] = acceptance.mean().item()
        return Measure(
            value,
            "nats",
            monte_carlo_variance(spread(log_w), delta, size) if self.chains > 1 else None,
            facts=facts,
            kind="lower_bound",
            likelihood="log_prob",
        )


def _simulated(values: Tensor, kind: Kind, facts: dict[str, Any]) -> Estimate:
    """The mean of values (n,) of images that the model drew."""
    return replace(average_log_likelihood(values, facts, kind=kind), scope="own_draws")


class _Work:
    """Reports ``total`` units of work to ``on_images`` as progress over ``images`` images."""

    def __init__(self, on_images: Callable[[int], None], images: int, total: int):
        self.on_images = on_images
        self.images = images
        self.total = total
        self.so_far = 0
        self.told = 0

    def done(self, work: int) -> None:
        """Count units of work, and report the images that are now due."""
        self.so_far += work
        due = self.images * self.so_far // self.total
        if due > self.told:
            self.on_images(due - self.told)
            self.told = due


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``ais``."""
    return annealed(subject.model, subject.x, subject.label, on_images=subject.on_images)
