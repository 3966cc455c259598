"""Ln p(x) by annealed importance sampling, and how far from the truth that can be.

Letters in shapes: S chains, N images, L latents, K temperatures. Nats, float64.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import interpolate

from vaexp.evaluation.measure import Estimate, Evidence, Kind, Measure, log_mean
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE

NAMES = ("log_prob_ais", "ais_lower_simulated", "ais_upper_simulated", "ais_gap")
ROWS_PER_BLOCK = 2048  # chains x images decoded at once
SIMULATED = 100  # images drawn from the model to bracket their ln p(x), at most
ACCEPTANCE = 0.65  # of Hamiltonian proposals, aimed at (Neal 2011, section 5.4.4)
JITTER = 0.2  # step sizes are drawn within 20 %, so that no trajectory ends where it began
# The pilot run, which finds the step sizes:
PILOT_SHARE = 4  # visits one temperature in four,
WARM_UP = 10  # after so many transitions at the first,
FIRST_STEP = 0.5  # from this step size, in standard deviations of q(z|x),
GAIN = 0.5  # and adds so much to its logarithm per unit of acceptance above ACCEPTANCE.


class Point(NamedTuple):
    """Where chains are, with what either end of a path says there."""

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
        """Ln f_t(z), (S, N)."""
        return (1 - t) * self.log_start + t * self.log_joint

    def gradient(self, t: float) -> Tensor:
        """d ln f_t(z) / dz, (S, N, L)."""
        return (1 - t) * self.grad_start + t * self.grad_joint

    def moved_to(self, other: "Point", where: Tensor) -> "Point":
        """``other`` for the chains that ``where`` (S, N) names, and this point for the rest."""
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
    """q(z|x), batch (N,), event (L,): any distribution that is nowhere 0 is valid."""
    log_joint: Callable[[Tensor], Tensor]
    """ln p(x, z) of z (S, N, L): (S, N)."""

    def at(self, z: Tensor) -> Point:
        """Both ends of the path at z (S, N, L)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_start, log_joint = self.start.log_prob(z), self.log_joint(z)
            (grad_start,) = torch.autograd.grad(log_start.sum(), z)
            (grad_joint,) = torch.autograd.grad(log_joint.sum(), z)
        return Point(z.detach(), log_start.detach(), log_joint.detach(), grad_start, grad_joint)


def posterior_path(model: VAE, x: Tensor, label: Tensor) -> Path:
    """From q(z|x), the encoder's, to p(z) p(x|z), for a float64 model and images x (N, D).

    A path from p(z) is as valid, but a chain must find the image's few codes and shrink its steps
    on the way. At equal cost it left 4 effective chains of 16 where q(z|x) left 15 (a VAE with two
    latents; bounds alike), and ended 50 nats lower with one sigma per pixel. What q(z|x) misses,
    chains from it rarely find either: that shows in the gap between the two bounds.
    """
    prior = model.prior()

    def log_joint(z: Tensor) -> Tensor:
        return model.decode(z, label).log_prob(x) + prior.log_prob(z)

    with torch.no_grad():
        return Path(model.encode(x, label), log_joint)


def sigmoid_schedule(temperatures: int, sharpness: float = 4.0) -> Tensor:
    """t_0 = 0 < t_1 < ... < t_K = 1, dense at both ends: (K + 1,).

    t_k = (s_k - s_0) / (s_K - s_0) with s_k = sigmoid(sharpness (2 k / K - 1)) (Wu, Burda,
    Salakhutdinov and Grosse 2017, On the quantitative analysis of decoder-based generative models).
    """
    s = torch.linspace(-sharpness, sharpness, temperatures + 1, dtype=torch.float64).sigmoid()
    return (s - s[0]) / (s[-1] - s[0])


def leapfrog(
    path: Path, t: float, point: Point, momentum: Tensor, step: Tensor, steps: int
) -> tuple[Point, Tensor]:
    """Where ``steps`` >= 1 leapfrog steps of size ``step`` (S, N) lead, and the momentum there.

    The energy is -ln f_t(z) + |momentum|^2 / 2, with z in standard deviations of q(z|x). Reversible
    and keeps volume; the energy errs by O(step^2) (Neal 2011, MCMC using Hamiltonian dynamics,
    section 5.2.3).
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
    """One step of Hamiltonian Monte Carlo, which leaves f_t invariant; step (N,).

    Also returns the probability of acceptance, (S, N), min(1, exp(-increase in energy)) (Duane et
    al. 1987); it is 0 where the proposal's energy is not finite.
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
    """How many transitions ``step_sizes`` makes."""
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
    """Step sizes for t_1 ... t_(K-1) that accept about ACCEPTANCE per image, (K - 1, N).

    A pilot run adapts them, of which nothing else is kept: the run that is weighed has step sizes
    fixed beforehand, so each of its transitions leaves its f_t invariant and its mean weight has
    exactly the expectation p(x). To adapt in that run itself (Wu et al. 2017) makes a transition
    depend on the past of the chains, and the expectation is then only nearly p(x).
    """
    inner = schedule[1:-1]
    images = path.start.batch_shape[0]
    if len(inner) == 0:
        return schedule.new_empty(0, images)
    count = pilot_transitions(len(schedule) - 1) - WARM_UP
    visited = inner[torch.linspace(0, len(inner) - 1, count).round().long()].tolist()
    point = path.at(path.start.sample(torch.Size([chains])))
    step = torch.full((images,), FIRST_STEP, dtype=torch.float64, device=point.z.device)
    found = []
    for t in visited[:1] * WARM_UP + visited:
        point, probability = transition(path, t, point, step, leapfrog_steps)
        step = step * (GAIN * (probability.mean(0) - ACCEPTANCE)).exp()
        found.append(step.log())
        on_transition()
    log_steps = torch.stack(found[WARM_UP:], dim=1)[None]
    between = interpolate(log_steps, size=len(inner), mode="linear", align_corners=True)
    return between[0].T.exp()


@torch.no_grad()
def anneal(
    path: Path,
    z: Tensor,
    schedule: Tensor,
    sizes: Tensor,
    leapfrog_steps: int,
    on_temperature: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Annealed importance sampling: ln weights (S, N), and mean acceptance (N,), NaN without any.

    ln w = sum_k (t_k - t_(k-1)) [ln p(x, z_(k-1)) - ln q(z_(k-1)|x)], where z_0 = ``z`` (S, N, L)
    and a transition that leaves f_(t_k) invariant takes z_(k-1) to z_k (Neal 2001,
    section 2). ``schedule`` (K + 1,) runs from 0 to 1, with z ~ q(z|x): E w = p(x). Or it runs from
    1 to 0, with z ~ p(z|x): E w = 1 / p(x). ``sizes`` (K - 1, N) are the step sizes, in the same
    order. At K = 1 this is simple importance sampling.
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
    """A copy in float64 without gradients of its parameters."""
    return deepcopy(model).double().requires_grad_(False)


@torch.no_grad()
def simulate(model: VAE, label: Tensor) -> tuple[Tensor, Tensor]:
    """z ~ p(z) (N, L) and x ~ p(x|z) (N, D) for labels (N,), float64."""
    z = model.prior().sample(label.shape).double()
    return z, model.decode(z, label).sample()


def annealed(
    model: VAE,
    x: Tensor,
    label: Tensor,
    *,
    chains: int = 16,
    temperatures: int = 200,
    leapfrog_steps: int = 3,
    on_images: Callable[[int], None] = lambda _: None,
) -> Evidence:
    """``log_prob_ais`` of images x (N, D), and how close that is on images the model draws.

    label (N,). log_prob_ais is ln of the mean weight of ``chains`` runs of annealed importance
    sampling (Neal 2001) from q(z|x) to p(z|x): a lower bound on ln p(x) in expectation.
    Bidirectional Monte Carlo (Grosse, Ghahramani and Adams 2015) brackets the ln p(x) of min(N,
    SIMULATED) images drawn from the model, with the first labels. ``ais_lower_simulated`` is the
    mean of the same measure of them. ``ais_upper_simulated`` runs from p(z|x) to q(z|x) and begins
    at the z that the image was drawn with, an exact draw of p(z|x): an upper bound in expectation.
    ``ais_gap`` is the mean difference. These three are Estimates, as no test image has a value.

    on_images hears of images as their share of the whole work gets done.
    """
    model, x = in_double(model), x.double()
    schedule = sigmoid_schedule(temperatures)
    z, drawn = simulate(model, label[:SIMULATED])
    pilot, run = pilot_transitions(temperatures), temperatures
    work = _Work(on_images, len(x), len(x) * (pilot + run) + len(z) * (pilot + 2 * run))

    def both_ways(x: Tensor, label: Tensor, exact: Tensor | None) -> list[Tensor]:
        """Ln weights (S, n) of a block and acceptance (n,); with exact z (n, L), also backwards."""
        path = posterior_path(model, x, label)

        def told() -> None:
            work.done(len(x))

        sizes = step_sizes(path, schedule, chains, leapfrog_steps, told)
        first = path.start.sample(torch.Size([chains]))
        found = [*anneal(path, first, schedule, sizes, leapfrog_steps, told)]
        if exact is not None:
            last = exact.expand(chains, *exact.shape)
            back = (schedule.flip(0), sizes.flip(0))
            found.append(anneal(path, last, *back, leapfrog_steps, told)[0])
        return found

    def in_blocks(x: Tensor, label: Tensor, exact: Tensor | None) -> list[Tensor]:
        at_once = max(1, ROWS_PER_BLOCK // chains)
        starts = range(0, len(x), at_once)
        blocks = [slice(start, start + at_once) for start in starts]
        found = [both_ways(x[b], label[b], None if exact is None else exact[b]) for b in blocks]
        return [torch.cat(parts, dim=-1).cpu() for parts in zip(*found, strict=True)]

    how = {"chains": chains, "temperatures": temperatures, "leapfrog_steps": leapfrog_steps}

    def lower_bound(log_w: Tensor, acceptance: Tensor) -> Measure:
        value, variance, size = log_mean(log_w)
        facts = {**how, "effective_samples": size.median().item()}
        if temperatures > 1:
            facts["acceptance"] = acceptance.mean().item()
        return Measure(
            value,
            "nats",
            variance if chains > 1 else None,
            facts=facts,
            kind="lower_bound",
            likelihood="log_prob",
        )

    def of_simulated(values: Tensor, kind: Kind, facts: dict[str, Any]) -> Estimate:
        n = len(values)
        return Estimate(
            values.mean().item(),
            "nats",
            n,
            values.std().item() / math.sqrt(n) if n > 1 else None,
            facts=facts,
            kind=kind,
            likelihood="derived",
            scope="own_draws",
        )

    given = lower_bound(*in_blocks(x, label, None))
    log_w, acceptance, log_inverse = in_blocks(drawn, label[:SIMULATED], z)
    lower, upper = lower_bound(log_w, acceptance), -log_mean(log_inverse)[0]
    found = (
        given,
        of_simulated(lower.values, "lower_bound", lower.facts),
        of_simulated(upper, "upper_bound", how),
        of_simulated(upper - lower.values, "estimate", how),
    )
    return Evidence(dict(zip(NAMES, found, strict=True)))


class _Work:
    """Tells ``on_images`` of ``images`` images, in whole ones, while ``total`` work gets done."""

    def __init__(self, on_images: Callable[[int], None], images: int, total: int):
        self.on_images = on_images
        self.images = images
        self.total = total
        self.so_far = 0
        self.told = 0

    def done(self, work: int) -> None:
        self.so_far += work
        due = self.images * self.so_far // self.total
        if due > self.told:
            self.on_images(due - self.told)
            self.told = due


def measure(subject: Subject[VAE]) -> Evidence:
    """The group ``ais``."""
    return annealed(subject.model, subject.x, subject.label, on_images=subject.on_images)
