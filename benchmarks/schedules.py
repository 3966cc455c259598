"""Measure in how many epochs other optimisers and schedules reach what constant Adam reaches in 20.

    python -m benchmarks.schedules [RESULTS] [--seeds 5] [--jobs 2]

Each of WAYS trains the VAE 784-400-20 with one learned sigma on the 60,000 images, five times. A
job has one thread. RESULTS, by default schedules.json beside this script, keeps what is finished:
the same command goes on. It prints a Markdown table of the test ELBO, its difference from constant
Adam with the same seed, and the epochs. schedulefree comes with the dependency group ``bench``.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.training import PLAIN
from vaexp.config import DataConfig, load_config
from vaexp.data import load
from vaexp.evaluation.bounds import elbo_measures
from vaexp.fitting import sgd
from vaexp.models import VAE
from vaexp.models.elbo import elbo_terms
from vaexp.seeding import seeded
from vaexp.shown import show_number

HERE = Path(__file__).parent
BATCH = 128
WARMUP = 200  # steps of the schedule-free optimiser


class Way(NamedTuple):
    """An optimiser with its learning rate, its schedule and the epochs that it gets."""

    optimizer: Literal["adam", "schedulefree"]
    learning_rate: float
    schedule: Literal["constant", "linear", "cosine"]
    epochs: int


BASELINE = "Adam 1e-3, constant"
WAYS = {
    "Adam 1e-3, constant": Way("adam", 1e-3, "constant", 20),
    "Adam 1e-3, linear": Way("adam", 1e-3, "linear", 20),
    "Adam 4e-3, linear": Way("adam", 4e-3, "linear", 10),
    "Adam 4e-3, cosine": Way("adam", 4e-3, "cosine", 10),
    "schedule-free AdamW 5e-3": Way("schedulefree", 5e-3, "constant", 10),
    "Adam 4e-3, linear, 8 epochs": Way("adam", 4e-3, "linear", 8),
}


def trained(way: Way, seed: int) -> VAE:
    """A model that was trained in this way on all training images."""
    with seeded(seed, "init"):
        config = load_config("vae-unconditional", PLAIN)
        model = VAE.from_config(config.model, 784, 10)
    split = load(DataConfig(validation_size=0)).train
    x = split.pixels / 255
    if way.optimizer == "schedulefree":
        return _schedule_free(model, x, way, seed)
    options = sgd.SGDOptions(
        epochs=way.epochs,
        steps=None,
        batch_size=BATCH,
        optimizer=way.optimizer,
        learning_rate=way.learning_rate,
        schedule=way.schedule,
        gradient_clip=None,
        patience=None,
        beta=1.0,
        beta_warmup=0.0,
    )
    for _ in sgd.fit(model, lambda rows: x[rows], split.label, None, options, seed=seed):
        pass
    return model


def _schedule_free(model: VAE, x: Tensor, way: Way, seed: int) -> VAE:
    """The same with AdamW of Defazio et al. 2024, The road less scheduled, which needs no end."""
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree(model.parameters(), lr=way.learning_rate, warmup_steps=WARMUP)
    optimizer.train()
    for epoch in range(way.epochs):
        with seeded(seed, "epoch", epoch):
            for rows in torch.randperm(len(x)).split(BATCH):
                terms = elbo_terms(model, x[rows], None)
                optimizer.zero_grad()
                (terms.distortion + terms.rate).mean().backward()
                optimizer.step()
    optimizer.eval()  # the averaged weights take the place of those of the last step
    return model


def test_elbo(model: VAE, seed: int) -> float:
    """The mean ELBO of the 10,000 test images, in nats per image, by eight draws of z each."""
    split = load(DataConfig()).test
    with seeded(seed, "test"):
        return elbo_measures(model, split.pixels / 255, split.label)["elbo"].values.mean().item()


def measured(name: str, seed: int) -> dict[str, Any]:
    """One training: its test ELBO, and how long it took with one thread."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    model = trained(WAYS[name], seed)
    seconds = time.perf_counter() - start
    return {"way": name, "seed": seed, "elbo": test_elbo(model, seed), "seconds": seconds}


def table(done: list[dict[str, Any]]) -> str:
    """The ways as a Markdown table: means and standard deviations over the seeds."""
    elbos = {(one["way"], one["seed"]): one["elbo"] for one in done}
    lines = [
        f"| optimiser | epochs | seeds | test ELBO | minus {BASELINE}, 20 epochs | s |",
        "|---|---|---|---|---|---|",
    ]
    for name, way in WAYS.items():
        runs = [one for one in done if one["way"] == name]
        gaps = [
            one["elbo"] - elbos[BASELINE, one["seed"]]
            for one in runs
            if (BASELINE, one["seed"]) in elbos
        ]
        if not runs:
            continue
        cells = [name, way.epochs, len(runs), shown([one["elbo"] for one in runs])]
        cells += [shown(gaps), f"{mean(one['seconds'] for one in runs):.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def shown(values: list[float]) -> str:
    """The mean ± standard deviation of numbers, or the only one."""
    if not values:
        return "–"
    return show_number(mean(values), stdev(values) if len(values) > 1 else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path, default=HERE / "schedules.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    path: Path = asked.results
    done = json.loads(path.read_text("utf-8")) if path.exists() else []
    known = {(one["way"], one["seed"]) for one in done}
    left = [(name, seed) for seed in range(1, asked.seeds + 1) for name in WAYS]
    with ProcessPoolExecutor(asked.jobs, get_context("spawn")) as pool:
        jobs = [pool.submit(measured, *one) for one in left if one not in known]
        for job in as_completed(jobs):
            done.append(job.result())
            path.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
    print(table(done))


if __name__ == "__main__":
    main()
