"""Compare EM with scikit-learn on MNIST, and measure how its cost grows.

Prints the tables of README.md.

    python benchmarks/em.py [mixtures] [ppca] [growth]

Both programs start from the same parameters and take turns of a few iterations, after a pause in
which the threads of the other one fall asleep. Times are medians. An iteration of ours is all that
`vaexp train` does in one: M-step, ELBO, E-step and the smallest eigenvalues of the components. It
all takes half an hour on two cores.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from vaexp.config import DataConfig
from vaexp.data import load
from vaexp.fitting import gmm, ppca
from vaexp.models import GMM
from vaexp.models.moments import Moments
from vaexp.models.ppca import PPCA
from vaexp.seeding import seeded

FLOOR = 1e-3
PAUSE = 0.3  # seconds, as the threads of the other program go on spinning for a while
# Our covariance; that of scikit-learn, which lacks lowrank ones; K; N; turns; iterations per turn.
MIXTURES: list[tuple[str, str, int, int, int, int]] = [
    ("full", "full", 50, 60_000, 3, 1),
    ("full", "full", 10, 10_000, 5, 2),
    ("tied", "tied", 50, 60_000, 5, 1),
    ("tied", "tied", 10, 10_000, 5, 3),
    ("diag", "diag", 50, 60_000, 5, 5),
    ("diag", "diag", 10, 10_000, 10, 10),
    ("spherical", "spherical", 50, 60_000, 5, 5),
    ("spherical", "spherical", 10, 10_000, 10, 10),
    ("lowrank", "full", 50, 60_000, 1, 1),
    ("lowrank", "full", 10, 10_000, 4, 3),
]


def images(count: int) -> torch.Tensor:
    """The first training images, scaled to [0, 1], (count, D)."""
    return load(DataConfig(validation_size=0)).train.pixels[:count] / 255


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """The seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def our_steps(x: torch.Tensor, covariance: str, k: int) -> gmm.GMMSteps:
    """The steps of EM on images x (N, D) for K components."""
    return gmm.GMMSteps(
        x,
        torch.zeros(len(x), dtype=torch.int64),
        None,
        components=k,
        covariance=covariance,
        factors=6,
        covariance_floor=FLOOR,
        init="random",
        precision="float32",
        seed=1,
    )


def our_iteration(
    steps: gmm.GMMSteps, expected: gmm.Statistics, model: GMM
) -> tuple[gmm.Statistics, GMM]:
    """One iteration, as `vaexp train` does it: the next E-step and its model."""
    updated = steps.m_step(expected, model)
    steps.elbo_after_m(expected, model, updated)
    expected = steps.e_step(updated)
    steps.facts(updated)
    return expected, updated


def peer(x: np.ndarray, covariance: str, k: int) -> GaussianMixture:
    """scikit-learn's mixture with the parameters that ours starts from."""
    mixture = GaussianMixture(k, covariance_type=covariance, reg_covar=FLOOR)
    tensor = torch.from_numpy(x)
    with seeded(1, "initial parameters", 0):
        assigned = gmm.assign(tensor, torch.zeros(len(x)), k, "random")
    mixture._initialize(x, np.eye(k, dtype=np.float32)[assigned.numpy()])
    return mixture


def mixtures() -> None:
    """Print the table of mixtures."""
    print("| covariance | K | N | ours s | scikit-learn s | times faster | ln p(x) | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for covariance, their_covariance, k, n, turns, iterations in MIXTURES:
        x = images(n)
        array = x.numpy()
        steps, theirs = our_steps(x, covariance, k), peer(array, their_covariance, k)
        model = steps.start(0)
        expected = steps.e_step(model)
        ours, others = [], []
        for _ in range(turns):
            time.sleep(PAUSE)
            for _ in range(iterations):
                seconds, (expected, model) = timed(our_iteration, steps, expected, model)
                ours.append(seconds)
            time.sleep(PAUSE)
            for _ in range(iterations):
                first, (_, log_resp) = timed(theirs._e_step, array)
                second, _ = timed(theirs._m_step, array, log_resp)
                others.append(first + second)
        log_prob = expected.mean_log_prob
        difference = "another model"
        if covariance == their_covariance:
            difference = f"{abs(theirs.score(array) / log_prob - 1):.1e}"
        ratio = median(others) / median(ours)
        print(
            f"| {covariance} | {k} | {n:,} | {median(ours):.3f} | {median(others):.3f} | "
            f"{ratio:.1f} | {log_prob:,.2f} | {difference} |",
            flush=True,
        )
    memory = subprocess.run(
        [sys.executable, __file__, "memory"], capture_output=True, text=True, check=True
    )
    print(f"\nPeak memory of ours, full, K = 50, N = 60,000: {memory.stdout.strip()} GB\n")


def memory() -> None:
    """Print the peak memory of the largest fit with full covariances, in GB."""
    steps = our_steps(images(60_000), "full", 50)
    model = steps.start(0)
    expected = steps.e_step(model)
    for _ in range(2):
        expected, model = our_iteration(steps, expected, model)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f}")


def our_ppca(x: torch.Tensor, latent_dim: int, target: float, seed: int) -> tuple[PPCA, int]:
    """A model of images x (N, D) whose mean ln p(x) reaches ``target``, and its iterations."""
    steps = ppca.PPCASteps(Moments.of(x), None, latent_dim, closed=False, seed=seed)
    model = steps.start(0)
    iterations = 0
    while True:
        expected = steps.e_step(model)
        if expected.mean_log_prob >= target:
            return steps.finish(model), iterations
        updated = steps.m_step(expected, model)
        steps.elbo_after_m(expected, model, updated)
        model, iterations = updated, iterations + 1


def of_peer(pca: PCA, moments: Moments) -> PPCA:
    """The model that a PCA of scikit-learn stands for, whose covariance divides by N - 1."""
    eigenvalues = torch.from_numpy(pca.explained_variance_).double()
    eigenvalues *= (moments.count - 1) / moments.count
    axes = torch.from_numpy(pca.components_).double()
    noise = (moments.covariance.trace() - eigenvalues.sum()) / (axes.shape[1] - len(axes))
    factors = axes.T * (eigenvalues - noise).sqrt()
    return PPCA(torch.from_numpy(pca.mean_).double(), factors, noise)


def linear() -> None:
    """Print the tables of probabilistic PCA."""
    x = images(60_000)
    moments = Moments.of(x)
    best = ppca.e_step(ppca.closed_form(moments, 50), moments).mean_log_prob
    target = best - 1e-8 * abs(best)
    array, pca = x.numpy(), PCA(50, svd_solver="covariance_eigh")
    doubled = array.astype(np.float64)
    programs: dict[str, Callable[[int], Any]] = {
        "EM to 1e-8 of the maximum": lambda seed: our_ppca(x, 50, target, seed),
        "closed form": lambda _: ppca.closed_form(Moments.of(x), 50),
        "scikit-learn PCA in float64, from the same images": lambda _: pca.fit(
            array.astype(np.float64)
        ),
        "the same, images in float64 already": lambda _: pca.fit(doubled),
        "the same, in float32": lambda _: pca.fit(array),
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    below, iterations = {}, []
    for seed in range(9):
        for name, program in programs.items():
            time.sleep(PAUSE)
            seconds, model = timed(program, seed)
            times[name].append(seconds)
            if isinstance(model, tuple):
                model, count = model
                iterations.append(count)
            model = of_peer(model, moments) if isinstance(model, PCA) else model
            below[name] = 1 - ppca.e_step(model, moments).mean_log_prob / best
    theirs = median(times["scikit-learn PCA in float64, from the same images"])
    print("| pPCA, L = 50, N = 60,000 | s | of scikit-learn's | ln p(x) below the maximum |")
    print("|---|---|---|---|")
    for name, each in times.items():
        s = median(each)
        print(f"| {name} | {s:.2f} | {s / theirs:.2f} | {max(below[name], 0):.0e} |")
    print(f"\nEM's iterations, by seed: {', '.join(map(str, iterations))}")
    print("\n| N | moments, s | EM iteration, ms |\n|---|---|---|")
    for n in (10_000, 20_000, 40_000, 60_000):
        seconds, moments = timed(Moments.of, x[:n])
        steps = ppca.PPCASteps(moments, None, 50, closed=False, seed=1)
        model = steps.start(0)
        start = time.perf_counter()
        for _ in range(200):
            expected = steps.e_step(model)
            updated = steps.m_step(expected, model)
            steps.elbo_after_m(expected, model, updated)
            model = updated
        print(f"| {n:,} | {seconds:.2f} | {(time.perf_counter() - start) * 5:.2f} |")
    print()


def growth() -> None:
    """Print the seconds per iteration of full covariances, by N and K."""
    counts, sizes = (10, 20, 50, 100, 200), (10_000, 20_000, 40_000, 60_000)
    print("| N | " + " | ".join(f"K = {k}" for k in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for n in sizes:
        x = images(n)
        cells = []
        for k in counts:
            steps = our_steps(x, "full", k)
            model = steps.start(0)
            expected = steps.e_step(model)
            seconds = []
            for _ in range(3):
                once, (expected, model) = timed(our_iteration, steps, expected, model)
                seconds.append(once)
            cells.append(f"{median(seconds):.2f}")
        print(f"| {n:,} | " + " | ".join(cells) + " |", flush=True)
    print()


PARTS = {"mixtures": mixtures, "ppca": linear, "growth": growth}

if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        memory()
    else:
        print(f"{torch.get_num_threads()} threads\n")
        for part in sys.argv[1:] or PARTS:
            PARTS[part]()
