"""Cases of mixtures: an iteration of EM beside scikit-learn's, from the same parameters."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.em import images, our_iteration, our_steps, peer
from benchmarks.harness import Case, Rival

# covariance, K, N, the aim, rounds
SIZES = {
    "gmm-diag": ("diag", 50, 60_000, 2.0, 15),
    "gmm-spherical": ("spherical", 50, 60_000, 2.0, 15),
    "gmm-full": ("full", 20, 20_000, 6.0, 5),
    "gmm-full-large": ("full", 50, 60_000, 12.0, 2),
}


def mixture(covariance: str, k: int, n: int, aim: float, rounds: int) -> Callable[[Path], Case]:
    """The case of one kind and size of mixtures."""

    def case(_: Path) -> Case:
        x = images(n)
        array, steps = x.numpy(), our_steps(x, covariance, k)
        theirs = peer(array, covariance, k)
        model = steps.start(0)
        expected = steps.e_step(model)

        def ours() -> None:
            nonlocal expected, model
            expected, model = our_iteration(steps, expected, model)

        def other() -> None:
            theirs._m_step(array, theirs._e_step(array)[1])

        return Case(
            f"gmm-{covariance}-{k}",
            f"an iteration of EM, {covariance}, K = {k}, N = {n:,}",
            ours,
            [Rival("scikit-learn, float32", other, aim)],
            rounds,
        )

    return case


CASES = {name: mixture(*size) for name, size in SIZES.items()}
