"""Stochastic gradient ascent: what it ascends, what it records, and that it can be resumed."""

import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from vaexp.config import DataConfig, SGDConfig, VAEConfig
from vaexp.config.data import PIXELS
from vaexp.data import Transform, load
from vaexp.errors import RunError
from vaexp.evaluation.bounds import elbo_measures
from vaexp.fitting import FitStep, sgd
from vaexp.fitting.sgd import SGDOptions, fit
from vaexp.models import VAE, build

D, N, C = 5, 10, 3

OPTIONS = SGDOptions(
    epochs=3,
    steps=None,
    batch_size=4,
    optimizer="adam",
    learning_rate=1e-2,
    schedule="constant",
    gradient_clip=None,
    patience=None,
    beta=1.0,
    beta_warmup=0.0,
)


def vae(seed: int = 1, **keys: object) -> VAE:
    torch.manual_seed(seed)
    config = VAEConfig(**{"kind": "vae", "latent_dim": 2, "hidden": [6], **keys})
    return build(config, data_dim=D, classes=C)


def problem(n: int = N, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Images near one of C centres, which the label names."""
    torch.manual_seed(seed)
    label = torch.arange(n) % C
    return 3 * torch.eye(D)[label] + 0.3 * torch.randn(n, D), label


def run(model: VAE, options: SGDOptions = OPTIONS, **keys: Any) -> list[FitStep]:
    x, label = problem()
    return list(
        fit(model, lambda rows: x[rows], label, problem(7, 3), options, **{"seed": 1, **keys})
    )


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("seconds", "images_per_second")}


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file, as a run folder keeps it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def weights(model: VAE) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Recorder:
    """Every step of the optimizers: its learning rate, gradients and what it did."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.rates: list[float] = []
        self.gradients: list[Tensor] = []
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []

    def before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        (group,) = optimizer.param_groups
        self.kinds.append(type(optimizer).__name__)
        self.rates.append(group["lr"])
        self.gradients.append(torch.cat([p.grad.flatten() for p in group["params"]]))
        self.before.append(torch.cat([p.detach().flatten() for p in group["params"]]))

    def after_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        (group,) = optimizer.param_groups
        self.after.append(torch.cat([p.detach().flatten() for p in group["params"]]))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    found = Recorder()
    hooks = (
        register_optimizer_step_pre_hook(found.before_step),
        register_optimizer_step_post_hook(found.after_step),
    )
    yield found
    for hook in hooks:
        hook.remove()


# What it yields


def test_one_step_per_epoch():
    seen: list[int] = []
    model = vae()
    steps = run(model, on_batch=seen.append)
    assert [s.record["epoch"] for s in steps] == [1, 2, 3]
    assert [s.record["step"] for s in steps] == [3, 6, 9]
    assert [s.at for s in steps] == [1, 2, 3]
    assert [(s.state["epoch"], s.state["step"]) for s in steps] == [(1, 3), (2, 6), (3, 9)]
    assert seen == [4, 4, 2] * 3
    assert all(s.keep for s in steps)
    for s in steps:
        assert s.record["seconds"] > 0
        assert s.record["images_per_second"] == pytest.approx(N / s.record["seconds"])
        assert set(s.record["train"]) == {"elbo", "distortion", "rate", "objective", "sigma"}
        assert set(s.record["validation"]) == {"elbo", "distortion", "rate", "sigma"}


def test_a_likelihood_without_sigma_records_none():
    record = run(vae(likelihood="continuous_bernoulli"))[0].record
    assert set(record["train"]) == {"elbo", "distortion", "rate", "objective"}
    assert set(record["validation"]) == {"elbo", "distortion", "rate"}


def test_without_validation():
    x, label = problem()
    steps = list(fit(vae(), lambda rows: x[rows], label, None, OPTIONS, seed=1))
    assert len(steps) == 3
    assert all("validation" not in s.record and s.keep for s in steps)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_the_elbo_improves(optimizer):
    model = vae(sigma_mode="global")
    x, label = problem()
    options = replace(OPTIONS, epochs=150, optimizer=optimizer, momentum=0.9)
    if optimizer == "sgd":
        options = replace(options, learning_rate=1e-3)
    before = elbo_measures(model, x, label, draws=64)["elbo"].summary()["value"]
    records = [s.record for s in run(model, options)]
    after = elbo_measures(model, x, label, draws=64)["elbo"].summary()["value"]
    assert after > before + 3
    assert records[-1]["train"]["elbo"] > records[0]["train"]["elbo"] + 3
    assert records[-1]["validation"]["elbo"] > records[0]["validation"]["elbo"] + 2


def test_every_image_once_an_epoch_in_another_order():
    """Images that name themselves, seen through a model that remembers them."""
    x = torch.arange(N).float()[:, None].expand(N, D)
    label = torch.arange(N) % C
    model, batches = vae(), []
    encode = model.encode

    def remember(x: Tensor, label: Tensor) -> object:
        assert torch.equal(x[:, 0].long() % C, label)
        batches.append(x[:, 0].int().tolist())
        return encode(x, label)

    model.encode = remember
    list(fit(model, lambda rows: x[rows], label, None, OPTIONS, seed=1))
    epochs = [list(itertools.chain(*batches[i : i + 3])) for i in (0, 3, 6)]
    assert all(sorted(order) == list(range(N)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3


def test_every_image_is_asked_for_once_an_epoch_in_an_order_of_its_own():
    x, label = problem()
    asked: list[list[int]] = [[]]

    def images(rows: Tensor) -> Tensor:
        asked[-1] += rows.tolist()
        return x[rows]

    steps = fit(vae(), images, label, None, OPTIONS, seed=1)
    asked.extend([] for _ in steps)
    assert all(sorted(rows) == list(range(N)) for rows in asked[:-1])
    assert len({tuple(rows) for rows in asked}) == OPTIONS.epochs + 1


# What it records


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_elbo_is_at_beta_1_and_objective_is_not(beta):
    for step in run(vae(), replace(OPTIONS, beta=beta)):
        train, validation = step.record["train"], step.record["validation"]
        assert step.record["beta"] == beta
        for record in (train, validation):
            assert record["elbo"] == pytest.approx(-record["distortion"] - record["rate"])
        assert train["objective"] == pytest.approx(
            train["elbo"] - (beta - 1) * train["rate"], rel=1e-6
        )


def test_records_are_means_over_images_of_the_measured_terms():
    """With weights that do not move, within 4 standard errors of what evaluation says; sigma and
    rate, which have no noise here, to rounding."""
    model = vae(sigma_mode="global", sigma=0.7)
    x, label = problem(9, 5)  # batches of 4, 4 and 1: a mean of means would be another
    validation = problem(7, 3)
    options = replace(OPTIONS, epochs=400, learning_rate=1e-30)
    records = [
        s.record for s in fit(model, lambda rows: x[rows], label, validation, options, seed=1)
    ]
    for part, (images, labels) in (("train", (x, label)), ("validation", validation)):
        torch.manual_seed(6)
        measured = elbo_measures(model, images, labels, draws=400)
        for name in ("elbo", "distortion"):
            values = torch.tensor([r[part][name] for r in records], dtype=torch.float64)
            summary = measured[name].summary()
            error = math.hypot(values.std().item() / math.sqrt(len(values)), summary["mc_se"])
            assert abs(values.mean().item() - summary["value"]) < 4 * error
        for name in ("rate", "sigma"):
            exact = measured[name].summary()["value"]
            assert all(r[part][name] == pytest.approx(exact, rel=1e-6) for r in records)


def test_validation_in_blocks_is_a_mean_over_images(monkeypatch):
    """A posterior without width makes the ELBO the same whatever the block."""
    model = vae()
    with torch.no_grad():
        model.posterior.weight[2:] = 0
        model.posterior.bias[2:] = -50
    x, label = problem(7, 3)
    whole = sgd._measure(model, x, label, 1, 1)
    monkeypatch.setattr(sgd, "VALIDATION_BLOCK", 3)
    blocks = sgd._measure(model, x, label, 1, 1)
    assert blocks == pytest.approx(whole, rel=1e-4)
    assert "objective" not in whole


# Steps, schedules, clipping, optimizers


def test_steps_stop_in_the_middle_of_an_epoch(recorder):
    seen: list[int] = []
    steps = run(vae(), replace(OPTIONS, epochs=None, steps=7), on_batch=seen.append)
    assert len(recorder.rates) == 7
    assert [s.record["step"] for s in steps] == [3, 6, 7]
    assert [s.record["epoch"] for s in steps] == [1, 2, 3]
    assert seen == [4, 4, 2, 4, 4, 2, 4]
    assert OPTIONS.total_steps(N) == 9
    assert replace(OPTIONS, epochs=None, steps=7).total_steps(N) == 7
    assert replace(OPTIONS, batch_size=5).total_steps(N) == 6


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_exactly_that_many_steps(recorder, steps):
    found = run(vae(), replace(OPTIONS, epochs=None, steps=steps))
    assert len(recorder.rates) == found[-1].record["step"] == steps
    assert len(found) == math.ceil(steps / 3)


def test_beta_warms_up_linearly_from_zero():
    options = replace(OPTIONS, beta=4.0, beta_warmup=2.0)
    assert [options.beta_at(e) for e in (0, 0.25, 1, 1.5, 2, 2.5)] == [0, 0.5, 2, 3, 4, 4]
    assert replace(OPTIONS, beta=4.0).beta_at(0) == 4

    # a whole epoch in one step: each record has one beta
    steps = run(vae(), replace(options, epochs=4, batch_size=N))
    for step, beta in zip(steps, (0, 2, 4, 4), strict=True):
        assert step.record["beta"] == beta
        train = step.record["train"]
        assert train["objective"] == pytest.approx(
            -train["distortion"] - beta * train["rate"], rel=1e-6
        )
    # in three steps: the epoch's last one, at 2/3, 5/3 and 8/3 epochs
    betas = [s.record["beta"] for s in run(vae(), options)]
    assert betas == pytest.approx([4 / 3, 10 / 3, 4])


def test_the_gradient_has_the_warmed_up_beta(recorder):
    """At beta = 0 the rate has no gradient: the first step is that of beta = 0 throughout."""
    for beta, warmup in ((4.0, 2.0), (0.0, 0.0), (2.0, 0.0)):
        options = replace(OPTIONS, beta=beta, beta_warmup=warmup, epochs=None, steps=1)
        run(vae(), options)
    warm, zero, two = recorder.gradients
    assert torch.equal(warm, zero)
    assert not torch.allclose(zero, two)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_cosine_schedule(recorder, optimizer):
    options = replace(OPTIONS, schedule="cosine", optimizer=optimizer, learning_rate=1e-3)
    steps = run(vae(), options)
    expected = [1e-3 * (1 + math.cos(math.pi * t / 9)) / 2 for t in range(9)]
    assert recorder.rates == pytest.approx(expected, rel=1e-12)
    assert recorder.rates[0] == 1e-3
    assert [s.record["learning_rate"] for s in steps] == pytest.approx(expected[2::3])
    assert {k.lower() for k in recorder.kinds} == {optimizer}


def test_linear_schedule(recorder):
    run(vae(), replace(OPTIONS, schedule="linear", learning_rate=1e-3))
    assert recorder.rates == pytest.approx([1e-3 * (1 - t / 9) for t in range(9)], rel=1e-12)


def test_constant_schedule(recorder):
    run(vae())
    assert recorder.rates == [1e-2] * 9


def test_gradient_clipping(recorder):
    free = replace(OPTIONS, optimizer="sgd", epochs=None, steps=1, learning_rate=1e-3)
    run(vae(), free)
    run(vae(), replace(free, gradient_clip=0.5))
    run(vae(), replace(free, gradient_clip=1e6))
    free_gradient, clipped, loose = recorder.gradients
    assert free_gradient.norm() > 1
    assert clipped.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(clipped, free_gradient * 0.5 / free_gradient.norm(), rtol=1e-4)
    assert torch.equal(loose, free_gradient)


def test_the_gradient_is_of_the_mean_over_the_batch(recorder):
    """Twice the same images in one batch: the same gradient, up to the noise's other draws."""
    x, label = problem()
    model = vae()
    with torch.no_grad():  # no noise
        model.posterior.weight[2:] = 0
        model.posterior.bias[2:] = -50
    options = replace(OPTIONS, batch_size=100, epochs=None, steps=1, beta=0.0)
    for copies in (1, 2):
        fresh = vae()
        fresh.load_state_dict(model.state_dict())
        xs, labels = x.repeat(copies, 1), label.repeat(copies)
        list(fit(fresh, lambda rows, xs=xs: xs[rows], labels, None, options, seed=1))
    assert torch.allclose(*recorder.gradients, rtol=1e-3, atol=1e-4)


def test_sgd_with_momentum(recorder):
    run(vae(), replace(OPTIONS, optimizer="sgd", momentum=0.9, learning_rate=1e-3, epochs=2))
    velocity = torch.zeros_like(recorder.gradients[0])
    for gradient, before, after in zip(
        recorder.gradients, recorder.before, recorder.after, strict=True
    ):
        velocity = 0.9 * velocity + gradient
        assert torch.allclose(after, before - 1e-3 * velocity, rtol=1e-5, atol=1e-7)


def test_adam_and_adamw_differ_by_decoupled_weight_decay(recorder):
    for optimizer, decay in (("adam", 0.0), ("adamw", 0.0), ("adamw", 0.5)):
        options = replace(OPTIONS, optimizer=optimizer, weight_decay=decay, epochs=None, steps=1)
        run(vae(), options)
    assert recorder.kinds == ["Adam", "AdamW", "AdamW"]
    adam, undecayed, decayed = recorder.after
    assert torch.equal(adam, undecayed)
    # the first step of Adam is lr times the gradient's sign
    gradient = recorder.gradients[0]
    step = -1e-2 * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(adam, recorder.before[0] + step, atol=1e-6)
    assert torch.allclose(decayed, (1 - 1e-2 * 0.5) * recorder.before[0] + step, atol=1e-6)


def test_options_come_from_the_config():
    keys = SGDConfig(optimizer="sgd", epochs=2).model_dump()
    options = SGDOptions(**keys, beta=1.0, beta_warmup=0.0)
    assert options.momentum == 0.9
    assert set(asdict(options)) >= set(keys)


@pytest.mark.parametrize("beta", [4.0, 0.25])
def test_beta_is_a_choice_of_variance_along_the_whole_path(beta):
    """Fixed sigma: beta with sigma^2 at learning rate r, and beta = 1 with beta sigma^2 at r beta,
    take the same path (in float64, by SGD with momentum)."""
    sigma = 0.5
    a, b = vae(sigma=sigma).double(), vae(sigma=sigma * math.sqrt(beta)).double()
    x, label = problem()
    options = replace(OPTIONS, optimizer="sgd", momentum=0.9, learning_rate=1e-3, epochs=5)
    tempered = replace(options, beta=beta)
    plain = replace(options, learning_rate=1e-3 * beta)
    start = weights(a)
    for model, chosen in ((a, tempered), (b, plain)):
        list(fit(model, lambda rows: x.double()[rows], label, None, chosen, seed=1))
    assert (a.posterior.weight - start["posterior.weight"]).abs().max() > 1e-2
    for (name, left), right in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.allclose(left, right, rtol=1e-9, atol=1e-11), name


# Reproduction and resuming


def test_the_seed_decides():
    models = [vae() for _ in range(3)]
    records = [
        [timeless(s.record) for s in run(model, seed=seed)]
        for model, seed in zip(models, (1, 1, 2), strict=True)
    ]
    assert records[0] == records[1]
    assert same(weights(models[0]), weights(models[1]))
    assert records[0] != records[2]


def test_the_callers_generator_is_left_alone():
    x, label = problem()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for _ in fit(vae_built_aside(), lambda rows: x[rows], label, problem_aside(), OPTIONS, seed=1):
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def vae_built_aside() -> VAE:
    with torch.random.fork_rng():
        return vae()


def problem_aside() -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng():
        return problem(7, 3)


def test_the_callers_draws_between_epochs_change_nothing():
    quiet, disturbed = vae(), vae()
    run(quiet)
    x, label = problem()
    for _ in fit(disturbed, lambda rows: x[rows], label, problem(7, 3), OPTIONS, seed=1):
        torch.manual_seed(99)
        torch.rand(3)
    assert same(weights(quiet), weights(disturbed))


def test_validation_does_not_change_the_training():
    with_validation, without = vae(), vae()
    run(with_validation)
    x, label = problem()
    list(fit(without, lambda rows: x[rows], label, None, OPTIONS, seed=1))
    assert same(weights(with_validation), weights(without))


CLEAN = problem()[0]


def noisy(rows: Tensor) -> Tensor:
    """A transform that draws afresh each time."""
    return CLEAN[rows] + 0.1 * torch.randn(len(rows), D)


RESUMABLE = {
    "adam": replace(
        OPTIONS, epochs=6, schedule="cosine", beta=2.0, beta_warmup=2.5, patience=5,
        gradient_clip=5.0
    ),
    "adamw": replace(OPTIONS, optimizer="adamw", weight_decay=0.1, epochs=4),
    "sgd": replace(OPTIONS, optimizer="sgd", momentum=0.9, learning_rate=1e-3, epochs=4),
    "rmsprop": replace(OPTIONS, optimizer="rmsprop", learning_rate=1e-3, epochs=4),
    "steps": replace(OPTIONS, epochs=None, steps=8, schedule="cosine"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMABLE)
def test_resuming_at_any_epoch_is_bit_identical(name):
    options = RESUMABLE[name]
    label = problem()[1]

    def steps(model: VAE, state: dict[str, Any] | None = None) -> Iterator[FitStep]:
        validation = problem(7, 3)
        return fit(model, noisy, label, validation, options, seed=1, state=state)

    whole = vae(sigma_mode="pixel")
    uninterrupted = [
        (timeless(s.record), s.keep, saved(s.state), weights(whole)) for s in steps(whole)
    ]
    assert len(uninterrupted) == {"adam": 6, "adamw": 4, "sgd": 4, "rmsprop": 4, "steps": 3}[name]
    for done, (_, _, state, _) in enumerate(uninterrupted, 1):
        model = vae(seed=77, sigma_mode="pixel")
        resumed = [
            (timeless(s.record), s.keep, saved(s.state), weights(model))
            for s in steps(model, state)
        ]
        rest = uninterrupted[done:]
        assert [r[:2] for r in resumed] == [r[:2] for r in rest]
        for found, expected in zip(resumed, rest, strict=True):
            assert same(found[3], expected[3])
            assert found[2]["best"] == expected[2]["best"]
            assert found[2]["stale"] == expected[2]["stale"]
        assert same(weights(model), weights(whole))


# Early stopping


def overfitting(patience: int | None, **keys: Any) -> list[FitStep]:
    """Training images and validation images that have nothing in common."""
    x, label = problem()
    torch.manual_seed(4)
    validation = (torch.randn(50, D), torch.arange(50) % C)
    options = replace(OPTIONS, epochs=60, learning_rate=2e-2, patience=patience)
    return list(fit(vae(), lambda rows: x[rows], label, validation, options, seed=1, **keys))


@pytest.mark.parametrize("patience", [1, 3, 8])
def test_patience_stops_and_keep_marks_the_best(patience):
    free = [s.record["validation"]["elbo"] for s in overfitting(None)]
    steps = overfitting(patience)
    elbos = [s.record["validation"]["elbo"] for s in steps]
    assert elbos == free[: len(elbos)]  # it only stops, it changes nothing

    best = stale = 0
    for epoch, elbo in enumerate(free):
        improved = epoch == 0 or elbo > free[best]
        assert steps[epoch].keep == improved
        best, stale = (epoch, 0) if improved else (best, stale + 1)
        assert (steps[epoch].state["best"], steps[epoch].state["stale"]) == (free[best], stale)
        if stale == patience:
            break
    assert stale == patience
    assert len(steps) == epoch + 1 < 60
    kept = [i for i, s in enumerate(steps) if s.keep]
    assert kept[-1] == best == elbos.index(max(elbos))


def test_a_stopped_run_does_not_go_on_when_resumed():
    assert overfitting(3, state=saved(overfitting(3)[-1].state)) == []


def test_a_finished_run_does_not_go_on_when_resumed():
    state = saved(run(vae())[-1].state)
    assert run(vae(), state=state) == []


# Failures


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_huge_learning_rate_is_a_run_error(optimizer):
    options = replace(OPTIONS, optimizer=optimizer, learning_rate=1e25)
    with pytest.raises(
        RunError, match=r"the training (distortion|rate) became (nan|inf) in epoch 1, step 2"
    ):
        run(vae(), options)


def test_a_nan_image_is_a_run_error_that_names_term_epoch_and_step():
    x, label = problem()
    steps = fit(vae(), lambda rows: x[rows], label, None, replace(OPTIONS, batch_size=N), seed=1)
    assert next(steps).record["epoch"] == 1
    x[3, 2] = math.nan
    with pytest.raises(RunError, match="the training distortion became nan in epoch 2, step 2"):
        next(steps)


@pytest.mark.parametrize("patience", [None, 2])
def test_a_validation_elbo_that_is_not_finite_is_a_run_error(patience):
    """Early stopping would otherwise compare with nan, and keep no epoch's weights at all."""
    x, label = problem()
    bad = x.clone()
    bad[0, 0] = math.nan
    options = replace(OPTIONS, patience=patience)
    with pytest.raises(RunError, match="epoch 1"):
        list(fit(vae(), lambda rows: x[rows], label, (bad, label), options, seed=1))


def test_an_infinite_rate_is_named():
    model = vae()
    with torch.no_grad():
        model.posterior.bias[:2] = 1e25
        model.decoder[0].weight[:, :2] = 0
    with pytest.raises(
        RunError, match=r"the training rate became inf in epoch 1, step 1.*learning_rate"
    ):
        run(model)


def test_weights_that_overflow_in_the_last_step_are_a_run_error():
    """The terms were finite, the weights after the epoch's only step are not."""
    options = replace(OPTIONS, optimizer="sgd", learning_rate=1e38, batch_size=N, epochs=1)
    message = r"the weights \S+ are no longer finite after epoch 1, step 1; "
    with pytest.raises(RunError, match=message):
        run(vae(sigma=0.1), options)


def test_a_failure_leaves_the_callers_generator_alone():
    model = vae()
    with torch.no_grad():
        model.posterior.bias[:2] = math.nan
    validation = problem(7, 3)
    x, label = problem()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with pytest.raises(RunError):
        list(fit(model, lambda rows: x[rows], label, validation, OPTIONS, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


# Against probabilistic PCA


def ppca_log_prob(x: Tensor, latent_dim: int) -> float:
    """The highest mean ln p(x) of any x ~ N(b, W W^T + sigma^2 I) (Tipping and Bishop 1999).

    With the eigenvalues of the covariance of maximum likelihood, sigma^2 is the mean of those
    left out and ln p = -1/2 (D ln 2 pi + sum ln kept + (D - L) ln sigma^2 + D).
    """
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.double().T, correction=0)).flip(0)
    kept, left = eigenvalues[:latent_dim], eigenvalues[latent_dim:].mean()
    d = x.shape[1]
    logs = kept.log().sum() + (d - latent_dim) * left.log()
    return (-0.5 * (d * math.log(2 * math.pi) + logs + d)).item()


@torch.no_grad()
def marginal_log_prob(model: VAE, x: Tensor) -> float:
    """Mean ln p(x) of a linear VAE: N(b, W W^T + sigma^2 I), by the matrix determinant lemma."""
    model = model.double()
    weight, bias = model.likelihood.mean.weight, model.likelihood.mean.bias
    sigma = model.likelihood(torch.zeros(1, weight.shape[1]).double()).stddev[0, 0]
    centred = x.double() - bias
    d, k = weight.shape
    inner = torch.eye(k).double() + weight.T @ weight / sigma**2
    projected = centred @ weight / sigma**2
    quadratic = centred.square().sum(1) / sigma**2 - (
        projected * torch.linalg.solve(inner, projected.T).T
    ).sum(1)
    log_det = torch.logdet(inner) + 2 * d * sigma.log()
    return (-0.5 * (d * math.log(2 * math.pi) + log_det + quadratic)).mean().item()


def linear_fit(x: Tensor, options: SGDOptions) -> tuple[VAE, float]:
    """A linear VAE fitted to x, and the mean of its ELBO less 4 Monte Carlo errors."""
    torch.manual_seed(1)
    config = VAEConfig(kind="vae", hidden=[], conditional=False, sigma_mode="global", sigma=0.5)
    model = build(config, data_dim=x.shape[1], classes=10)
    label = torch.zeros(len(x), dtype=torch.int64)
    for _ in fit(model, lambda rows: x[rows], label, None, options, seed=1):
        pass
    torch.manual_seed(2)
    elbo = elbo_measures(model, x, label, draws=8)["elbo"].summary()
    return model, elbo["value"], elbo["mc_se"]


def test_a_linear_vae_reaches_ppca_on_a_small_problem():
    torch.manual_seed(3)
    x = torch.randn(400, 2) @ torch.tensor([[2.0, 0, 1, 0, 1], [0, 1, 0, 1, 0]])
    x = x + 0.5 * torch.randn(400, D) + 1
    options = replace(OPTIONS, epochs=300, batch_size=100, learning_rate=2e-2, schedule="cosine")
    model, elbo, mc_se = linear_fit(x, options)
    best = ppca_log_prob(x, 2)
    exact = marginal_log_prob(model, x)
    assert best - 0.02 < exact < best
    assert best - 0.05 < elbo < exact + 4 * mc_se


@pytest.mark.slow
def test_a_linear_vae_reaches_ppca_on_mnist():
    """30 epochs come within 0.01 nats in ln p(x), and within 0.04 in the ELBO, of 11.64 nats."""
    x = Transform("scale")(load(DataConfig()).train.pixels)
    assert x.shape == (50_000, PIXELS)
    options = replace(OPTIONS, epochs=30, batch_size=256, learning_rate=2e-2, schedule="cosine")
    model, elbo, mc_se = linear_fit(x, options)
    best = ppca_log_prob(x, 2)
    exact = marginal_log_prob(model, x)
    assert best - 0.1 < exact < best
    assert best - 0.3 < elbo < exact + 4 * mc_se
