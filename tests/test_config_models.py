"""What a model's section says of itself: caption, unit, floor and its likelihoods' facts."""

from typing import Any

import pytest

from vaexp.config import flatten, load_config
from vaexp.config.likelihoods import LIKELIHOODS

DENSITY = {"measure": "density", "of": "x"}
GIVEN_LABEL = {"measure": "density", "of": "x given label"}
MASS = GIVEN_LABEL | {"measure": "mass", "on": "binary pixels"}
VAE = "VAE, L = 2, Gaussian, "
END = "β = 1, given the label"


FLOOR = {"sigma_floor": 0.01}


@pytest.mark.parametrize(
    ("overrides", "title", "facts"),
    [
        ([], f"{VAE}σ fixed at 0.3, {END}", {"sigma": 0.3}),
        (["model.sigma_mode=global"], f"{VAE}one learned σ (≥ 0.01), {END}", FLOOR),
        (["model.sigma_mode=shared"], f"{VAE}σ(z) per image (≥ 0.01), {END}", FLOOR),
        (["model.sigma_mode=pixel"], f"{VAE}σ(z) per pixel (≥ 0.01), {END}", FLOOR),
        (["model.hidden=[]"], f"linear {VAE}σ fixed at 0.3, {END}", {"sigma": 0.3}),
        (["model.beta=4e-5"], f"{VAE}σ fixed at 0.3, β = 4e-05, given the label", {"sigma": 0.3}),
        (
            ["model.conditional=false", "data.labels=[4, 9]", "data.name=kmnist"],
            f"{VAE}σ fixed at 0.3, β = 1, digits 4 9, kmnist",
            DENSITY | {"sigma": 0.3},
        ),
    ],
)
def test_a_vae_with_sigma(overrides: list[str], title: str, facts: dict[str, Any]) -> None:
    fixed = ["model.sigma_mode=fixed", "model.sigma=0.3", "model.sigma_floor=0.01"]
    config = load_config("quickstart", [*fixed, *overrides])
    assert config.describe() == title
    assert config.model.likelihood_facts == GIVEN_LABEL | facts
    assert config.model.unit == "epoch"
    assert config.model.floor == 0.01


@pytest.mark.parametrize(
    ("likelihood", "transform", "title", "facts"),
    [
        ("bernoulli", "binarize", f"VAE, L = 2, Bernoulli, {END}, binarize", MASS),
        (
            "continuous_bernoulli",
            "scale",
            f"VAE, L = 2, continuous Bernoulli, {END}",
            GIVEN_LABEL | {"unbounded": LIKELIHOODS["continuous_bernoulli"].unbounded},
        ),
    ],
)
def test_a_vae_without_sigma(
    likelihood: str, transform: str, title: str, facts: dict[str, Any]
) -> None:
    overrides = [f"model.likelihood={likelihood}", f"data.transform={transform}"]
    config = load_config("quickstart", overrides)
    assert config.describe() == title
    assert config.model.likelihood_facts == facts


def test_a_mixture_without_a_floor_is_unbounded_but_for_noise() -> None:
    floored = load_config("gmm-diag", ["data.transform=scale"])
    assert "unbounded" not in floored.likelihood_facts
    free = load_config("gmm-diag", ["data.transform=scale", "model.covariance_floor=0"])
    assert "without limit" in str(free.likelihood_facts["unbounded"])
    assert "unbounded" not in load_config("gaussian-logit").likelihood_facts


@pytest.mark.parametrize("likelihood", ["continuous_bernoulli", "truncated_gaussian"])
def test_noise_as_wide_as_a_grey_level_bounds_a_density(likelihood: str) -> None:
    overrides = [f"model.likelihood={likelihood}"]
    config = load_config("quickstart", [*overrides, "data.transform=scale"])
    reason = LIKELIHOODS[likelihood].unbounded
    assert reason is not None
    assert config.likelihood_facts["unbounded"] == reason
    noisy = load_config("quickstart", [*overrides, "data.transform=dequantize"])
    assert "unbounded" not in noisy.likelihood_facts


@pytest.mark.parametrize(
    ("overrides", "title"),
    [
        ([], "Gaussian mixture, K = 50, full, covariance floor 0.1, from kmeans"),
        (
            ["model.covariance=lowrank", "model.factors=3", "model.init=random"],
            "Gaussian mixture, K = 50, rank 3 + σ²I, covariance floor 0.1, from random",
        ),
        (
            ["model.init=labels", "model.components=10", "train.max_iter=0"],
            "Gaussian mixture, K = 10, full, covariance floor 0.1, one per digit, as initialised",
        ),
        (
            ["data.transform=logit"],
            "Gaussian mixture, K = 50, full, covariance floor 0.1, from kmeans, logit",
        ),
    ],
)
def test_a_mixture(overrides: list[str], title: str) -> None:
    config = load_config("gmm-full", ["model.covariance_floor=0.1", *overrides])
    assert config.describe() == title
    assert config.model.likelihood_facts == DENSITY | {"covariance_floor": 0.1}
    assert config.model.unit == "iteration"
    assert config.model.floor == 0.1


@pytest.mark.parametrize(("method", "words"), [("em", "EM"), ("closed_form", "closed form")])
def test_probabilistic_pca(method: str, words: str) -> None:
    config = load_config("ppca", [f"model.method={method}", "model.latent_dim=3"])
    assert config.describe() == f"probabilistic PCA, L = 3, {words}"
    assert config.model.likelihood_facts == DENSITY
    assert config.model.unit == "iteration"
    assert config.model.floor == 0.0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vae-fixed", {"model.sigma": 0.2, "model.latent_dim": 3, "model.beta": 2.0}),
        ("vae-pixel", {"model.sigma_floor": 0.02, "model.conditional": False}),
        ("vae-lowrank", {"model.factors": 3, "data.transform": "dequantize"}),
        ("gmm-lowrank", {"model.factors": 3, "model.components": 7, "data.labels": "[4]"}),
        ("gmm-full", {"model.covariance_floor": 0.5, "model.init": "random"}),
        ("ppca", {"model.method": "closed_form", "model.latent_dim": 9}),
        ("fa", {"model.noise_floor": 0.5, "data.name": "kmnist"}),
    ],
)
def test_the_title_says_what_it_claims_to_say(name: str, changes: dict[str, Any]) -> None:
    """So that ``vaexp runs`` may leave these settings out beside it, and no other."""
    config = load_config(name)
    for key, value in changes.items():
        changed = load_config(name, [f"{key}={value}".replace("False", "false")])
        assert key in config.described()
        assert changed.describe() != config.describe()
    assert config.described() <= {"name", *flatten(config.model_dump())}
    for key in ("seed", "train.restarts", "model.decode_mode", "model.hidden"):
        assert key not in config.described()


def test_beta_must_have_risen_when_training_by_steps_ends() -> None:
    settings = ["train.steps=390", "train.batch_size=100", "model.beta_warmup=4", "model.beta=10"]
    config = load_config("quickstart", settings)
    complaint = config.complaint_on_images(10_000, set(range(10)))
    assert complaint is not None
    assert "390 steps are 3.9 epochs of 10,000 images, less than 4" in complaint
    assert config.complaint_on_images(9_700, set(range(10))) is None
    assert load_config("quickstart").complaint_on_images(10_000, set()) is None
