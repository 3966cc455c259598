"""KEY=VALUE overrides: what they mean, what they clear away, and where complaints point."""

import json
import os
from typing import Any

import pytest
from config_files import DEFAULTS, Write, complaints, value

from vaexp.config import flatten, load_config
from vaexp.config.experiments import EXPERIMENTS
from vaexp.config.other_names import OTHER_NAMES
from vaexp.errors import UserError

# Overrides


@pytest.mark.parametrize(
    ("override", "key", "meaning"),
    [
        ("model.beta=4", "model.beta", 4.0),
        ("model.beta=1e-3", "model.beta", 0.001),
        ("model.sigma_mode=pixel", "model.sigma_mode", "pixel"),
        ("model.hidden=[64, 32]", "model.hidden", [64, 32]),
        ("model.hidden=[]", "model.hidden", []),
        ("data.labels=[4]", "data.labels", [4]),
        ("data.labels=null", "data.labels", None),
        ("data.labels=~", "data.labels", None),
        ("data.labels=", "data.labels", None),
        ("data.root=a=b", "data.root", os.path.abspath("a=b")),
        ("data.root='on'", "data.root", os.path.abspath("on")),
        ("data.root=on", "data.root", os.path.abspath("on")),
        ("name=run-7", "name", "run-7"),
        ("model.conditional=false", "model.conditional", False),
        ("train={steps: 3}", "train.steps", 3),
        ("train={steps: 3}", "train.batch_size", 256),
    ],
)
def test_overrides_are_yaml(write: Write, override: str, key: str, meaning: Any) -> None:
    path = write("model: {kind: vae}\ndata: {labels: [3]}\ntrain: {epochs: 2, batch_size: 7}\n")
    assert value(path, key, override) == meaning


def test_the_last_override_wins(write: Write) -> None:
    assert value(write("model: {kind: vae}"), "seed", "seed=2", "seed=3") == 3


# What other tools call a key

VAE, GMM, PPCA = "model: {kind: vae}", "model: {kind: gmm}", "model: {kind: ppca}"


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        (VAE, "lr=1", "lr: unknown key; did you mean train.learning_rate?"),
        (VAE, "train.lr=1", "train.lr: unknown key; did you mean learning_rate?"),
        (VAE, "model.lr=1", "model.lr: unknown key; did you mean train.learning_rate?"),
        (VAE, "model.z_dim=3", "model.z_dim: unknown key; did you mean latent_dim?"),
        (VAE, "train.seed=3", "train.seed: unknown key; did you mean seed, outside of train?"),
        (VAE, "random_state=3", "random_state: unknown key; did you mean seed?"),
        (VAE, "train.max_epochs=3", "train.max_epochs: unknown key; did you mean epochs?"),
        (VAE, "model.kld_weight=3", "model.kld_weight: unknown key; did you mean beta?"),
        (GMM, "tol=1", "tol: unknown key; did you mean train.tolerance?"),
        (GMM, "train.tol=1", "train.tol: unknown key; did you mean tolerance?"),
        (GMM, "model.n_init=1", "model.n_init: unknown key; did you mean train.restarts?"),
        (GMM, "model.reg_covar=1", "model.reg_covar: unknown key; did you mean covariance_floor?"),
        (GMM, "model.n_components=2", "unknown key; did you mean components?"),
        (GMM, "model.covariance_type=tied", "unknown key; did you mean covariance?"),
        (PPCA, "model.n_components=2", "unknown key; did you mean latent_dim?"),
        (
            PPCA,
            "train.lr=1",
            "unknown key; that is train.learning_rate, which does not apply when model.kind is "
            "ppca, only when it is vae",
        ),
        (
            VAE,
            "model.reg_covar=1",
            "unknown key; that is model.covariance_floor or model.noise_floor, which does not "
            "apply when model.kind is vae, only when it is gmm or fa",
        ),
    ],
)
def test_the_names_of_other_tools_are_understood(
    write: Write, text: str, override: str, message: str
) -> None:
    path = write(text)
    assert message in complaints(path, override)[0]
    key, value = override.split("=")
    *sections, last = key.split(".")
    config = load_config(str(path)).model_dump()
    section = config[sections[0]] if sections else config
    section[last] = value
    path.write_text(json.dumps(config))
    assert message.split(": ")[-1] in complaints(path)[-1]


def test_every_name_of_another_tool_leads_to_a_key_and_is_none_itself() -> None:
    keys = {key for experiment in EXPERIMENTS.values() for key in experiment.dotted_keys()}
    assert OTHER_NAMES.keys() <= keys
    known = {part for key in keys for part in key.split(".")}
    for key, names in OTHER_NAMES.items():
        assert known.isdisjoint(names), key
        assert len(set(names)) == len(names), key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.bta=4", "model.bta: unknown key; did you mean beta?"),
        ("model.beta=-1", "model.beta: should be greater than or equal to 0, got -1"),
        ("model.beta=x", 'model.beta: should be a valid number, got "x"'),
        ("model=3", "model: expected keys and values, got 3"),
        ("model.kind.x=3", "model.kind is a value, not a section"),
        ("data.labels=[4, 11]", "data.labels.1: should be less than or equal to 9, got 11"),
        ("data.labels=[4, 4]", "data.labels: names a digit twice"),
        ("train.momentum=0.5", "train.momentum: does not apply when optimizer is adam"),
        ("typo.key=1", "typo: unknown key"),
        ("model.beta.x=3", "model.beta: should be a valid number"),
    ],
)
def test_complaints_name_the_override(write: Write, override: str, message: str) -> None:
    [line] = complaints(write("model: {kind: vae}"), override)
    assert line.startswith(f"override {override}: {message}")


@pytest.mark.parametrize("override", ["model.beta", "=3", "model.=3", ".beta=3", "model..beta=3"])
def test_an_override_has_a_key_and_a_value(write: Write, override: str) -> None:
    [line] = complaints(write("model: {kind: vae}"), override)
    assert line == f"override {override}: write it as KEY=VALUE, such as model.beta=4"


@pytest.mark.parametrize("override", ["seed=[", "seed={a: 1, a: 2}", "seed=*x", "seed=a: b: c"])
def test_an_override_that_is_not_yaml(write: Write, override: str) -> None:
    assert complaints(write("model: {kind: vae}"), override)[0].startswith(f"override {override}:")


def test_an_override_replaces_what_was_wrong(write: Write) -> None:
    path = write("model: {kind: vae, beta: -1}\ntrain: 7\n")
    assert value(path, "model.beta", "model.beta=2", "train={epochs: 3}") == 2.0


# Overrides make way for themselves


def test_an_override_of_steps_replaces_the_files_epochs(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: {kind: vae}\ntrain: {epochs: 7}\n")
    train = load_config(str(path), ["train.steps=5"]).train
    assert (train.steps, train.epochs) == (5, None)
    path.write_text("model: {kind: vae}\ntrain: {steps: 7}\n")
    train = load_config(str(path), ["train.epochs=5"]).train
    assert (train.steps, train.epochs) == (None, 5)
    with pytest.raises(UserError, match="give epochs or steps, not both"):
        load_config(str(path), ["train.epochs=5", "train.steps=5"])
    path.write_text("model: {kind: vae}\ntrain: {epochs: 7}\n")
    assert load_config(str(path), ["train.steps=null"]).train.epochs == 7


def test_an_override_of_the_likelihood_drops_the_files_sigma():
    overrides = ["model.likelihood=bernoulli", "data.transform=binarize"]
    model = load_config("vae-pixel", overrides).model
    assert model.likelihood == "bernoulli"
    assert "sigma_mode" not in model.model_dump()
    with pytest.raises(UserError, match=r"override model\.sigma=2: model\.sigma: does not apply"):
        load_config("vae-pixel", [*overrides, "model.sigma=2"])


def test_a_name_in_an_override_is_text_whatever_it_looks_like():
    assert load_config("quickstart", ["name=4"]).name == "4"


def test_a_key_of_another_section_is_suggested():
    with pytest.raises(UserError, match=r"optimizer: unknown key; did you mean train\.optimizer\?"):
        load_config("quickstart", ["optimizer=sgd"])


def test_a_warmup_longer_than_training_is_refused():
    with pytest.raises(UserError, match="beta would still be rising"):
        load_config("quickstart", ["train.epochs=3", "model.beta_warmup=4"])


def test_a_linear_model_has_no_activation(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model:\n  kind: vae\n  hidden: []\n  activation: tanh\n")
    with pytest.raises(UserError, match=r"a\.yaml:4:15: model\.activation: does not apply"):
        load_config(str(path))
    linear = load_config("quickstart", ["model.hidden=[]"])
    assert "activation" not in linear.model_dump()["model"]
    with pytest.raises(UserError, match="does not apply to a linear model"):
        load_config("quickstart", ["model.hidden=[]", "model.activation=relu"])


FULL = """\
model: {kind: gmm, components: 4, covariance: lowrank, factors: 3, covariance_floor: 0}
train: {max_iter: 7, restarts: 3}
"""


def test_an_override_of_the_kind_drops_what_the_other_kind_has_not(write: Write) -> None:
    path = write("model: {kind: vae, latent_dim: 5, beta: 4, hidden: [3]}\nevaluate: {}\nseed: 3\n")
    ppca = flatten(load_config(str(path), ["model.kind=ppca"]).model_dump())
    changed = {"seed": 3, "model.latent_dim": 5}
    assert ppca == DEFAULTS["ppca"] | changed
    gmm = flatten(load_config(str(path), ["model.kind=gmm", "data.limit=9"]).model_dump())
    assert gmm == DEFAULTS["gmm"] | {"seed": 3, "data.limit": 9}
    vae = flatten(load_config(str(write(FULL)), ["model.kind=vae"]).model_dump())
    assert vae == DEFAULTS["vae"]
    ppca = flatten(load_config(str(write(FULL)), ["model.kind=ppca"]).model_dump())
    assert ppca == DEFAULTS["ppca"] | {"train.max_iter": 7, "train.restarts": 3}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.kind=ppca", "model.components=3"],
            "override model.components=3: model.components: does not apply when model.kind is ppca",
        ),
        (
            ["model.kind=vae", "train.max_iter=3"],
            "override train.max_iter=3: train.max_iter: does not apply when model.kind is vae",
        ),
        (
            ["evaluate.importance_samples=3"],
            "override evaluate.importance_samples=3: evaluate: does not apply when model.kind is",
        ),
        (
            ["model.covariance=full", "model.factors=3"],
            "override model.factors=3: model.factors: does not apply when covariance is full",
        ),
        (
            ["model.kind=ppca", "model.method=closed_form", "train.max_iter=3"],
            "override train.max_iter=3: train",
        ),
        (
            ["model.kind=ppca", "model.method=closed_form", "train={max_iter: 3}"],
            "override train={max_iter: 3}: train.max_iter: does not apply when model.method is",
        ),
        (
            ["model.kind=vae", "train={max_iter: 3}"],
            "override train={max_iter: 3}: train.max_iter: does not apply when model.kind is vae",
        ),
        (["model.kind=gan"], "override model.kind=gan: model.kind: should be 'vae' or 'gmm' or"),
    ],
)
def test_what_is_overridden_itself_is_complained_about(
    write: Write, overrides: list[str], message: str
) -> None:
    [line] = complaints(write(FULL), *overrides)
    assert line.startswith(message)


def test_an_override_drops_what_it_leaves_without_a_meaning(write: Write) -> None:
    full = flatten(load_config(str(write(FULL)), ["model.covariance=full"]).model_dump())
    assert "model.factors" not in full
    path = write("model: {kind: ppca}\ntrain: {max_iter: 7}\n")
    closed = flatten(load_config(str(path), ["model.method=closed_form"]).model_dump())
    assert not any(key.startswith("train.") for key in closed)
