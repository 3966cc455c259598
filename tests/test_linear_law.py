"""The law of the linear VAE: published numbers, a stationary point, and a maximum."""

import numpy as np
import pytest
import torch
from small_models import linear_vae, rough_vae, set_posterior
from torch import Tensor

from vaexp.config import DataConfig
from vaexp.data import Transform, load
from vaexp.evaluation.groups import GROUPS
from vaexp.evaluation.linear_law import NAMES, LinearLaw, measure
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE
from vaexp.models.moments import Moments

D, L = 6, 4


@pytest.fixture(scope="module")
def images() -> Tensor:
    """500 images (500, D) whose covariance has eigenvalues of about 4, 1, 0.5, 0.2, 0.1, 0.05."""
    generator = torch.Generator().manual_seed(3)
    spread = torch.tensor([4.0, 1, 0.5, 0.2, 0.1, 0.05], dtype=torch.float64).sqrt()
    turned, _ = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))
    return (torch.randn(500, D, generator=generator, dtype=torch.float64) * spread) @ turned.T + 2


def subject(model: VAE, x: Tensor, beta: float) -> Subject[VAE]:
    label = torch.zeros(len(x), dtype=torch.long)
    return Subject(
        model,
        x,
        label,
        lambda: iter([(x[:200], label[:200]), (x[200:], label[200:])]),
        lambda: None,
        Transform("scale"),
        shape=(1, x.shape[1]),
        digits=False,
        beta=beta,
        floor=0.0,
        unbounded=False,
        importance_samples=0,
        on_images=lambda _: None,
    )


def optimal_vae(x: Tensor, sigma: float, beta: float) -> VAE:
    """The linear VAE at the optimum of the law, in float64."""
    moments = Moments.of(x)
    eigenvalues, vectors = torch.linalg.eigh(moments.covariance)
    law = LinearLaw(eigenvalues.flip(0), sigma**2, beta, L)
    directions, lengths = vectors.flip(1)[:, :L], law.singular_values
    model = linear_vae(D, L, sigma).double()
    model.likelihood.mean.weight.data = directions * lengths
    model.likelihood.mean.bias.data = moments.mean.clone()
    weight = (directions * lengths / law.eigenvalues[:L]).T
    return set_posterior(model, weight, -weight @ moments.mean, law.posterior_sd.tolist())


@pytest.mark.parametrize(
    ("variance", "beta", "elbo", "rate", "objective"),
    [
        (1.0, 1.0, -743.219, 4.266, -743.219),
        (1.0, 0.03, -755.902, 21.798, -734.757),
        (0.03, 1.0, 177.147, 21.798, 177.147),
        (0.0348975, 1.0, 181.803, 21.042, 181.803),
        (0.0348975, 0.25, 178.622, None, None),
        (0.0348975, 4.0, 173.735, None, None),
    ],
)
def test_known_values_of_fifty_thousand_mnist_images(
    mnist_eigenvalues: Tensor,
    variance: float,
    beta: float,
    elbo: float,
    rate: float | None,
    objective: float | None,
) -> None:
    law = LinearLaw(mnist_eigenvalues, variance, beta, 10)
    assert law.elbo == pytest.approx(elbo, abs=6e-4)
    if rate is not None and objective is not None:
        assert law.rate == pytest.approx(rate, abs=6e-4)
        assert law.objective == pytest.approx(objective, abs=6e-4)


@pytest.fixture(scope="module")
def mnist_eigenvalues() -> Tensor:
    x = Transform("scale")(load(DataConfig(validation_size=10_000)).train.pixels)
    return torch.linalg.eigvalsh(Moments.of(x).covariance).flip(0)


def test_latents_that_a_threshold_allows_on_mnist(mnist_eigenvalues: Tensor) -> None:
    used = [len(LinearLaw(mnist_eigenvalues, t, 1.0, 784).used) for t in (1.0, 0.3, 0.1, 0.03)]
    assert used == [12, 35, 69, 136]
    assert LinearLaw(mnist_eigenvalues, 2.27**2, 1.0, 10).rate == 0  # all collapsed
    assert LinearLaw(mnist_eigenvalues, 2.26**2, 1.0, 10).rate > 0


# sigma is a float32 buffer of the model, so these are numbers that float32 holds exactly
@pytest.mark.parametrize(("sigma", "beta"), [(0.5, 1.0), (0.5, 0.2), (0.375, 3.0), (1.0, 5.0)])
def test_the_optimum_has_the_value_of_the_law_and_no_gradient(
    images: Tensor, sigma: float, beta: float
) -> None:
    model = optimal_vae(images, sigma, beta)
    found = measure(subject(model, images, beta)).entries
    assert found["law_gap"].value == pytest.approx(0, abs=1e-9)
    posterior = model.encode(images)
    residual = images - model.decode(posterior.mean).mean
    spread = posterior.variance @ model.likelihood.mean.weight.square().sum(0)
    distortion = (residual.square().sum(1) + spread) / (2 * sigma**2)
    kl = (posterior.mean.square() + posterior.variance - 1 - posterior.variance.log()).sum(1) / 2
    (distortion + beta * kl).mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() < 1e-7 for p in model.parameters())
    assert found["law_rate"].value == pytest.approx(kl.mean().item(), abs=1e-9)


def test_no_other_linear_vae_is_better(images: Tensor) -> None:
    for seed in range(40):
        model = optimal_vae(images, 0.5, 0.7)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        assert measure(subject(model, images, 0.7)).entries["law_gap"].value > 0


def test_gradients_come_within_a_tenth_of_a_nat(images: Tensor) -> None:
    torch.manual_seed(1)
    beta, sigma = 0.5, 0.4
    model = linear_vae(D, L, sigma).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        optimizer.zero_grad()
        posterior = model.encode(images)
        likelihood = model.decode(posterior.rsample()).log_prob(images)
        rate = torch.distributions.kl_divergence(posterior, model.prior())
        (beta * rate - likelihood).mean().backward()
        optimizer.step()
        falling.step()
    found = measure(subject(model, images, beta))
    assert 0 <= found.entries["law_gap"].value < 0.1
    np.testing.assert_allclose(
        found.arrays["singular_values"], found.arrays["law_singular_values"], atol=0.15
    )


def test_it_is_absent_for_every_other_model(images: Tensor) -> None:
    deep = rough_vae(D, 0.1, sigma_mode="fixed").double()
    for model, beta in ((deep, 1.0), (linear_vae(D, L).double(), 0.0)):
        found = measure(subject(model, images, beta))
        assert set(found.absent) == set(NAMES)
        assert not found.entries
    assert GROUPS["law"].bounded_names() == NAMES
