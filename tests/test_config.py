"""What YAML means, where complaints point, and that a config survives being written and read."""

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from vaexp.config import (
    Config,
    VAEExperiment,
    differing,
    digest,
    dump,
    flatten,
    load_config,
    shipped_configs,
    summary,
)
from vaexp.errors import UserError

COMMON = {
    "name": "experiment",
    "seed": 1,
    "device": "auto",
    "data.name": "mnist",
    "data.root": None,
    "data.transform": "scale",
    "data.labels": None,
    "data.limit": None,
    "data.validation_size": 10_000,
}
VAE_DEFAULTS = COMMON | {
    "model.kind": "vae",
    "model.latent_dim": 2,
    "model.hidden": [512, 256],
    "model.activation": "relu",
    "model.conditional": True,
    "model.likelihood": "gaussian",
    "model.sigma_mode": "fixed",
    "model.sigma": 1.0,
    "model.sigma_floor": 1e-3,
    "model.beta": 1.0,
    "model.beta_warmup": 0.0,
    "model.decode_mode": "mean",
    "train.epochs": 30,
    "train.steps": None,
    "train.batch_size": 256,
    "train.optimizer": "adam",
    "train.learning_rate": 1e-3,
    "train.schedule": "constant",
    "train.gradient_clip": None,
    "train.patience": None,
    "evaluate.importance_samples": 1000,
}
EM = {"train.max_iter": 500, "train.tolerance": 1e-3, "train.restarts": 1}
GMM_DEFAULTS = {
    "model.kind": "gmm",
    "model.components": 10,
    "model.covariance": "full",
    "model.covariance_floor": 1e-3,
    "model.init": "kmeans",
    "model.precision": "float32",
    "model.decode_mode": "sample",
}
PPCA_DEFAULTS = {
    "model.kind": "ppca",
    "model.latent_dim": 2,
    "model.method": "em",
    "model.decode_mode": "mean",
}
FA_DEFAULTS = {
    "model.kind": "fa",
    "model.latent_dim": 2,
    "model.noise_floor": 0.001,
    "model.decode_mode": "mean",
}
DEFAULTS = {
    "vae": VAE_DEFAULTS,
    "gmm": COMMON | GMM_DEFAULTS | EM,
    "ppca": COMMON | PPCA_DEFAULTS | EM,
    "fa": COMMON | FA_DEFAULTS | EM | {"train.max_iter": 5000, "train.tolerance": 1e-7},
}

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def complaints(path: Path, *overrides: str) -> list[str]:
    """The lines of the error, with the folder left out of the places."""
    with pytest.raises(UserError) as caught:
        load_config(str(path), overrides)
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def value(path: Path, key: str, *overrides: str) -> Any:
    return flatten(load_config(str(path), overrides).model_dump())[key]


# Values


@pytest.mark.parametrize("kind", ["vae", "gmm", "ppca", "fa"])
def test_every_default(write: Write, kind: str) -> None:
    config = load_config(str(write(f"model: {{kind: {kind}}}")))
    assert flatten(config.model_dump()) == DEFAULTS[kind]


def test_a_full_file_means_what_it_says(write: Write) -> None:
    path = write(
        """\
name: full
seed: 7
device: cpu
data: {name: kmnist, root: /data, transform: logit, labels: [4, 9], limit: 10, validation_size: 0}
model:
  kind: vae
  latent_dim: 5
  hidden: [64]
  activation: tanh
  conditional: false
  sigma_mode: pixel
  sigma: 0.5
  sigma_floor: 0.1
  beta: 0
  beta_warmup: 2.5
  decode_mode: sweep
train:
  steps: 7
  batch_size: 3
  optimizer: sgd
  momentum: 0.5
  learning_rate: 1e-2
  schedule: cosine
  gradient_clip: 10
evaluate: {importance_samples: 0}
"""
    )
    full = flatten(load_config(str(path)).model_dump())
    assert full == VAE_DEFAULTS | {
        "name": "full",
        "seed": 7,
        "device": "cpu",
        "data.name": "kmnist",
        "data.root": "/data",
        "data.transform": "logit",
        "data.labels": [4, 9],
        "data.limit": 10,
        "data.validation_size": 0,
        "model.latent_dim": 5,
        "model.hidden": [64],
        "model.activation": "tanh",
        "model.conditional": False,
        "model.sigma_mode": "pixel",
        "model.sigma": 0.5,
        "model.sigma_floor": 0.1,
        "model.beta": 0.0,
        "model.beta_warmup": 2.5,
        "model.decode_mode": "sweep",
        "train.epochs": None,
        "train.steps": 7,
        "train.batch_size": 3,
        "train.optimizer": "sgd",
        "train.momentum": 0.5,
        "train.learning_rate": 0.01,
        "train.schedule": "cosine",
        "train.gradient_clip": 10.0,
        "evaluate.importance_samples": 0,
    }


@pytest.mark.parametrize(
    ("scalar", "meaning"),
    [("1e-3", 0.001), ("1E3", 1000), ("+.5", 0.5), ("3", 3.0), ("-0.0", 0.0), ("0o17", 15)],
)
def test_numbers_are_those_of_yaml_1_2(write: Write, scalar: str, meaning: float) -> None:
    assert value(write(f"model: {{kind: vae, beta: {scalar}}}"), "model.beta") == meaning


@pytest.mark.parametrize(("scalar", "meaning"), [("0o17", 15), ("0x1F", 31), ("010", 10), ("0", 0)])
def test_integers_are_those_of_yaml_1_2(write: Write, scalar: str, meaning: int) -> None:
    assert value(write(f"model: {{kind: vae}}\nseed: {scalar}\n"), "seed") == meaning


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "y", "n", "On", "NO"])
def test_words_of_yaml_1_1_are_strings(write: Write, word: str) -> None:
    path = write(f"model: {{kind: vae}}\nname: {word}\n")
    assert load_config(str(path)).name == word
    [line] = complaints(write(f"model: {{kind: vae, conditional: {word}}}"))
    assert line == (
        f'experiment.yaml:1:33: model.conditional: should be a valid boolean, got "{word}"'
    )


@pytest.mark.parametrize("scalar", ["12:30", "2026-11-22"])
def test_times_and_dates_are_strings(write: Write, scalar: str) -> None:
    path = write(f"model: {{kind: vae}}\ndata: {{root: {scalar}}}\n")
    assert load_config(str(path)).data.root == scalar


def test_the_name_comes_from_the_file(tmp_path: Path) -> None:
    for stem, name in [
        ("my config (2)", "my-config-2"),
        ("日本", "run"),
        (".hidden", "hidden"),
        ("x" * 100, "x" * 64),
        ("-a-", "a"),
    ]:
        path = tmp_path / f"{stem}.yaml"
        path.write_text("model: {kind: vae}")
        assert load_config(str(path)).name == name


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffmodel: {kind: vae}\n",
        "model: {kind: vae}\r\nseed: 1\r\n",
        "---\nmodel:\n  kind: vae\n...\n",
        '{"model": {"kind": "vae"}}',
        "model: {kind: &x vae}\n# café\n",
    ],
    ids=["byte order mark", "CRLF", "document markers", "JSON", "anchor"],
)
def test_other_ways_to_write_the_smallest_config(write: Write, text: str) -> None:
    assert flatten(load_config(str(write(text))).model_dump()) == VAE_DEFAULTS


def test_an_alias_repeats_a_value(write: Write) -> None:
    path = write("seed: &n 3\nmodel: {kind: vae, latent_dim: *n}\n")
    assert value(path, "model.latent_dim") == 3


# Complaints: the place, the key and what to do


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model: {kind: vae, bta: 4}", "1:20: model.bta: unknown key; did you mean beta?"),
        ("model: {kind: vae}\nsed: 4", "2:1: sed: unknown key; did you mean seed?"),
        ("model: {kind: vae}\ntrain:\n  - 1", "3:3: train: expected keys and values, got [1]"),
        ("model: vae", '1:8: model: expected keys and values, got "vae"'),
        ("seed: 1", "1:1: model: this key is required"),
        ("seed: 1\nmodel: {beta: 1}", "2:1: model.kind: this key is required"),
        ("model: {kind: gmmm}", "1:15: model.kind: should be"),
        ("model: {kind: vae, beta: true}", "1:26: model.beta: should be a valid number, got true"),
        ("model: {kind: vae}\nseed: true", "2:7: seed: should be a valid integer, got true"),
        ('model: {kind: vae, beta: "4"}', '1:26: model.beta: should be a valid number, got "4"'),
        ("model: {kind: vae}\nseed: 1.0", "2:7: seed: should be a valid integer, got 1.0"),
        ("model: {kind: vae}\nname: 3", "2:7: name: should be a valid string, got 3"),
        ("model: {kind: vae, hidden: 3}", "1:28: model.hidden: should be a valid list, got 3"),
        ("model: {kind: vae, hidden: [3, x]}", "1:32: model.hidden.1: should be a valid integer"),
        ("model: {kind: vae, hidden: [3, 0]}", "1:32: model.hidden.1: should be greater than"),
        ("model: {kind: vae, latent_dim: 0}", "1:32: model.latent_dim: should be greater than"),
        ("model: {kind: vae, latent_dim: -1}", "1:32: model.latent_dim: should be greater than"),
        ("model: {kind: vae, latent_dim: 1000000000}", "1:32: model.latent_dim: should be less"),
        ("model: {kind: vae, sigma: 0}", "1:27: model.sigma: should be greater than 0, got 0"),
        ("model: {kind: vae, beta: -1}", "1:26: model.beta: should be greater than or equal to 0"),
        ("model: {kind: vae, beta: .nan}", "1:26: model.beta: should be a finite number, got NaN"),
        ("model: {kind: vae, beta: .inf}", "1:26: model.beta: should be a finite number"),
        ("model: {kind: vae, sigma: 1e999}", "1:27: model.sigma: should be a finite number"),
        ("model: {kind: vae}\nseed: -1", "2:7: seed: should be greater than or equal to 0"),
        ("model: {kind: vae}\nseed: 9223372036854775808", "2:7: seed: should be less than"),
        ("model: {kind: vae}\ndata: {labels: [11]}", "2:17: data.labels.0: should be less than"),
        ("model: {kind: vae}\ndata: {labels: []}", "2:16: data.labels: "),
        ("model: {kind: vae}\ndata: {labels: [4, 4]}", "2:16: data.labels: names a digit twice"),
        ("model: {kind: vae}\ndata: {limit: 50001}", "2:15: data.limit: 50,001 is larger than"),
        ("model: {kind: vae}\ndata: {limit: 0}", "2:15: data.limit: should be greater than"),
        (
            "model: {kind: vae}\ndata: {validation_size: 60000}",
            "2:25: data.validation_size: 60,000 leaves no training image",
        ),
        ("model: {kind: vae}\ndevice: gpu", "2:9: device: should be 'auto', 'cpu' or 'cuda'"),
        ("model: {kind: vae}\nname: a/b", "2:7: name: 'a/b' cannot be part of a folder's name"),
        ("model: {kind: vae}\nname: ..", "2:7: name: '..' cannot be part"),
        ("model: {kind: vae}\ntrain: {epochs: 1, steps: 2}", "2:27: train.steps: give epochs or"),
        ("model: {kind: vae}\ntrain: {epochs: null}", "2:17: train.epochs: give epochs or steps"),
        (
            "model: {kind: vae, sigma_mode: global, sigma: 0.001}",
            "1:47: model.sigma: a learned sigma starts at 0.001",
        ),
        (
            "model: {kind: vae, likelihood: bernoulli}",
            "1:32: model.likelihood: bernoulli is a mass on 0 and 1",
        ),
        (
            "model: {kind: vae, likelihood: continuous_bernoulli}\ndata: {transform: logit}",
            "1:32: model.likelihood: continuous_bernoulli is a density on [0, 1]",
        ),
        (
            "model: {kind: vae, likelihood: bernoulli, decode_mode: sweep}\n"
            "data: {transform: binarize}",
            "1:56: model.decode_mode: sweep draws mu + k sigma",
        ),
        (
            "model: {kind: vae}\ntrain: {patience: 3}\ndata: {validation_size: 0}",
            "2:19: train.patience: early stopping watches the validation ELBO",
        ),
        ("- model", "1:1: expected keys and values, such as model: {kind: vae}"),
        ("vae", "1:1: expected keys and values"),
        ("", "1:1: the file is empty"),
        ("# nothing\n\n# here\n", "1:1: the file is empty"),
        ("model: {kind: vae}\n---\nmodel: {kind: vae}", "2:1: not valid YAML"),
        ("model: {kind: vae", "1:18: not valid YAML"),
        ("model:\n  kind: vae\n\tbeta: 1\n", "3:1: not valid YAML: found character '\\t'"),
        ("model: {kind: vae}\nseed: *n", "2:7: not valid YAML: found undefined alias"),
        ("model: {kind: vae}\nseed: \x00", "1:1: not valid YAML: "),
        ("? [a, b]\n: 3\nmodel: {kind: vae}", "1:3: a key must be a word"),
        ("model: {kind: vae}\nseed: !mine 3", "2:7: "),
        ("base: &b {beta: 2}\nmodel: {kind: vae, <<: *b}", "2:20: model.<<: unknown key"),
    ],
)
def test_a_complaint_has_its_place(write: Write, text: str, line: str) -> None:
    assert any(found.startswith(f"experiment.yaml:{line}") for found in complaints(write(text)))


def test_an_empty_section_is_complained_about_where_its_key_stands(write: Write) -> None:
    [line] = complaints(write("data:\n  # limit: 100\nmodel: {kind: vae}\n"))
    assert line.startswith("experiment.yaml:1:")


def test_duplicate_keys_are_shown_at_both_places(write: Write) -> None:
    [line] = complaints(write("model:\n  kind: vae\n  beta: 1\n  seed: 1\n  'beta': 2\n"))
    assert line == ("experiment.yaml:5:3: duplicate key 'beta', first at experiment.yaml:3:3")


@pytest.mark.parametrize(
    ("text", "key", "decider", "applies"),
    [
        (
            "model: {kind: vae, likelihood: bernoulli, sigma: 1.0}\ndata: {transform: binarize}",
            "1: model.sigma:",
            "likelihood is bernoulli",
            "decode_mode",
        ),
        (
            "model: {kind: vae, likelihood: continuous_bernoulli, sigma_mode: fixed}",
            "1: model.sigma_mode:",
            "likelihood is continuous_bernoulli",
            "latent_dim",
        ),
        (
            "model: {kind: vae}\ntrain: {momentum: 0.9}",
            "2: train.momentum:",
            "optimizer is adam",
            "gradient_clip",
        ),
        (
            "model: {kind: vae}\ntrain: {optimizer: sgd, weight_decay: 0.1}",
            "2: train.weight_decay:",
            "optimizer is sgd",
            "momentum",
        ),
    ],
)
def test_an_inapplicable_key_says_which_apply(
    write: Write, text: str, key: str, decider: str, applies: str
) -> None:
    [line] = complaints(write(text))
    place, name, message = line.split(" ", 2)
    row, expected = key.split(" ")
    assert place.startswith(f"experiment.yaml:{row}")
    assert name == expected
    assert message.startswith(f"does not apply when {decider}, only when it is ")
    assert applies in message.split("the keys that apply here: ")[1].split(", ")
    assert name.split(".")[1].rstrip(":") not in message.split("apply here: ")[1].split(", ")


def test_everything_wrong_is_said_at_once(write: Write) -> None:
    lines = complaints(
        write("model: {kind: vae, sigma: 0, bta: 1}\ndata:\n  limit: 0\n  labels: [3, 11]\n"),
        "train.epochs=1.5",
    )
    places = {line.split(": ")[0]: line.split(": ")[1] for line in lines}
    assert places == {
        "experiment.yaml:1:27": "model.sigma",
        "experiment.yaml:1:30": "model.bta",
        "experiment.yaml:3:10": "data.limit",
        "experiment.yaml:4:15": "data.labels.1",
        "override train.epochs=1.5": "train.epochs",
    }


@pytest.mark.parametrize(
    "text",
    [
        "model: &m\n  kind: vae\n  self: *m\n",
        "seed: &s [*s]\nmodel: {kind: vae}\n",
        "seed: " + "[" * 40 + "]" * 40,
        "seed: " + "[" * 20_000 + "]" * 20_000,
    ],
    ids=["mapping in itself", "list in itself", "deep", "very deep"],
)
def test_documents_without_a_bottom(write: Write, text: str) -> None:
    [line] = complaints(write(text))
    assert line.startswith("experiment.yaml:")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir [{}]",
        "!!python/object/new:os.mkdir [{}]",
        '!!python/object/apply:os.system ["mkdir {}"]',
        "!!python/name:os.mkdir {}",
    ],
)
def test_no_tag_runs_code(write: Write, tmp_path: Path, tag: str) -> None:
    path = write("model: {kind: vae}\ndata: {root: " + tag.format(tmp_path / "owned") + "}\n")
    assert complaints(path)[0].startswith("experiment.yaml:2:14: ")
    assert complaints(write("model: {kind: vae}"), "seed=" + tag.format(tmp_path / "owned"))
    assert not (tmp_path / "owned").exists()


def test_files_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(random.Random(1).randbytes(300))
    assert complaints(path)[0].startswith("binary.yaml:1:1: ")
    path.write_bytes("name: café\n".encode("latin-1"))
    assert "UTF-8" in complaints(path)[0]


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no such file" in complaints(Path("nope.yaml"))[0]
    [line] = complaints(Path("quickstrat"))
    assert "did you mean the shipped config quickstart?" in line
    [line] = complaints(tmp_path)
    assert "without a config.yaml" in line


def test_a_name_longer_than_any_file(tmp_path: Path) -> None:
    [line] = complaints(tmp_path / ("x" * 300))
    assert line.startswith("x" * 300 + ": ")


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
        ("data.root=a=b", "data.root", "a=b"),
        ("data.root='on'", "data.root", "on"),
        ("data.root=on", "data.root", "on"),
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


# Writing and reading back

GAUSSIAN = [
    ["model.likelihood=gaussian", f"model.sigma_mode={mode}"]
    for mode in ("fixed", "global", "shared", "pixel")
]
OTHERS = [
    ["model.likelihood=bernoulli", "data.transform=binarize"],
    ["model.likelihood=bernoulli", "data.transform=binarize_stochastic"],
    ["model.likelihood=continuous_bernoulli", "data.transform=dequantize"],
]
OPTIMIZERS = [
    ["train.optimizer=adam"],
    ["train.optimizer=adamw", "train.weight_decay=0.1"],
    ["train.optimizer=sgd", "train.momentum=0", "train={steps: 5, optimizer: sgd}"],
]


@pytest.mark.parametrize(
    ("model", "optimizer"), list(itertools.product(GAUSSIAN + OTHERS, OPTIMIZERS))
)
def test_dump_and_load(write: Write, model: list[str], optimizer: list[str]) -> None:
    config = load_config(str(write("model: {kind: vae}")), model + optimizer)
    text = dump(config)
    again = load_config(str(write(text)))
    assert again == config
    assert dump(again) == text
    assert digest(again) == digest(config)
    written = flatten(config.model_dump())
    assert ("model.sigma" in written) == (model in GAUSSIAN)
    assert ("train.momentum" in written) == ("train.optimizer=sgd" in optimizer)
    assert ("train.weight_decay" in written) == ("train.optimizer=adamw" in optimizer)


@pytest.mark.parametrize(
    "text",
    ["on", "1e-3", "0x10", "1_000", "null", "true", "2026-11-22", "12", "1.", "0o17", "NaN"],
)
def test_names_that_look_like_something_else(write: Write, text: str) -> None:
    config = VAEExperiment.model_validate({"name": text, "model": {"kind": "vae"}})
    assert load_config(str(write(dump(config)))).name == text


ROOTS = ["", " ", "~", "~/data", "C:\\data", "a: b", "#no", "- x", "*x", "é/日本", "a\nb\n", "'"]
ROOTS += ['"', "%x", "long folder " * 20, "[a]", "{a}", "yes", "!!str", "\t", "null", "\u2028"]


@pytest.mark.parametrize("root", ROOTS)
def test_strings_survive_yaml(write: Write, root: str) -> None:
    settings = {"name": "x", "model": {"kind": "vae"}, "data": {"root": root}}
    config = VAEExperiment.model_validate(settings)
    assert load_config(str(write(dump(config)))) == config


@pytest.mark.parametrize("number", [1e-300, 5e-324, 1e22, 0.1, 1e16, 123456789.123456789, 1e5])
def test_numbers_survive_yaml(write: Write, number: float) -> None:
    settings = {"name": "x", "model": {"kind": "vae", "beta": number, "hidden": [999] * 32}}
    config = VAEExperiment.model_validate(settings)
    assert load_config(str(write(dump(config)))) == config


def test_the_digest_is_of_the_meaning(write: Write) -> None:
    texts = [
        "model: {kind: vae, beta: 2, sigma: 0.5}\nname: x\nseed: 1\n",
        "# a comment\nseed: 0x1\nname: 'x'\nmodel:\n  sigma: 5e-1\n  beta: 2.0\n  kind: vae\n",
        "name: x\nmodel: {beta: 2, kind: vae, sigma: .5, latent_dim: 2}\ntrain: {epochs: 30}\n",
    ]
    assert len({digest(load_config(str(write(text)))) for text in texts}) == 1
    assert digest(load_config(str(write(texts[0])))) != digest(
        load_config(str(write(texts[0])), ["seed=2"])
    )


def test_every_shipped_config_is_valid_and_says_what_it_shows() -> None:
    assert "quickstart" in shipped_configs()
    for name, path in shipped_configs().items():
        assert load_config(name) == load_config(str(path))
        assert load_config(name).name == name
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# ")
        assert summary(path) == first[2:]


SCHEMA = json.loads(json.dumps(TypeAdapter(Config).json_schema()))
KINDS = ["vae", "gmm", "ppca", "fa"]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema, or what it refers to."""
    reference = schema.get("$ref")
    return SCHEMA["$defs"][reference.split("/")[-1]] if reference else schema


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """What a validator of JSON Schema, such as an editor has, says, as far as this one goes."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return any(accepts(choice, value) for choice in schema["anyOf"])
    types = {"string": str, "null": type(None), "array": list, "object": dict, "boolean": bool}
    types |= {"integer": int, "number": int | float}
    kind = schema.get("type")
    if kind and (not isinstance(value, types[kind]) or (kind != "boolean" and value is True)):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        known = schema["properties"]
        return (
            value.keys() <= known.keys()
            and value.keys() >= set(schema.get("required", []))
            and all(accepts(known[key], below) for key, below in value.items())
        )
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(
            accepts(schema["items"], item) for item in value
        )
    if isinstance(value, int | float):
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and value < schema.get("exclusiveMaximum", math.inf)
            and value > schema.get("exclusiveMinimum", -math.inf)
        )
    return True


def test_the_schema_documents_every_key() -> None:
    def check(schema: dict[str, Any], where: str) -> set[str]:
        keys = set()
        for key, entry in schema["properties"].items():
            if "$ref" in entry:
                keys |= check(resolved(entry), f"{where}{key}.")
            else:
                assert entry.get("description"), where + key
                keys.add(where + key)
        assert schema["additionalProperties"] is False
        return keys

    experiments = [resolved(choice) for choice in SCHEMA["anyOf"]]
    for experiment, kind in zip(experiments, KINDS, strict=True):
        extra = {"vae": ["train.weight_decay", "train.momentum"], "gmm": ["model.factors"]}
        assert check(experiment, "") == {*DEFAULTS[kind], *extra.get(kind, [])}
        assert experiment["required"] == ["model"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_accepts_the_smallest_config(kind: str) -> None:
    assert accepts(SCHEMA, {"model": {"kind": kind}})


def test_the_schema_accepts_every_shipped_config() -> None:
    for path in shipped_configs().values():
        document = YAML(typ="safe", pure=True).load(path)
        assert accepts(SCHEMA, document), path
        assert not accepts(SCHEMA, document | {"nam": "x"})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"model": {}},
        {"model": {"kind": "gan"}},
        {"model": {"kind": "gmm", "latent_dim": 2}},
        {"model": {"kind": "ppca", "components": 2}},
        {"model": {"kind": "gmm"}, "train": {"epochs": 2}},
        {"model": {"kind": "gmm"}, "evaluate": {"importance_samples": 2}},
        {"model": {"kind": "vae"}, "train": {"max_iter": 2}},
        {"model": {"kind": "gmm", "covariance_floor": -1}},
        {"model": {"kind": "ppca", "latent_dim": 784}},
    ],
)
def test_the_schema_knows_the_keys_of_each_kind(document: dict[str, Any]) -> None:
    assert not accepts(SCHEMA, document)


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


# Mixtures and probabilistic PCA


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "model: {kind: gmm, latent_dim: 2}",
            "1:20: model.latent_dim: does not apply when model.kind is gmm, only when it is "
            "vae or ppca or fa; the keys that apply here: kind, components, covariance, ",
        ),
        (
            "model: {kind: ppca, components: 2}",
            "1:21: model.components: does not apply when model.kind is ppca, only when it is gmm",
        ),
        (
            "model: {kind: gmm}\ntrain: {epochs: 2}",
            "2:9: train.epochs: does not apply when model.kind is gmm, only when it is vae; the "
            "keys that apply here: max_iter, tolerance, restarts",
        ),
        (
            "model: {kind: vae}\ntrain: {max_iter: 2}",
            "2:9: train.max_iter: does not apply when model.kind is vae, only when it is "
            "gmm or ppca",
        ),
        (
            "model: {kind: ppca}\nevaluate: {importance_samples: 2}",
            "2:1: evaluate: does not apply when model.kind is ppca, only when it is vae",
        ),
        (
            "model: {kind: gmm, factors: 3}",
            "1:29: model.factors: does not apply when covariance is full, only when it is lowrank",
        ),
        (
            "model: {kind: ppca, method: closed_form}\ntrain: {max_iter: 3}",
            "2:19: train.max_iter: does not apply when model.method is closed_form",
        ),
        (
            "model: {kind: gan}",
            "1:15: model.kind: should be 'vae' or 'gmm' or 'ppca' or 'fa', got \"gan\"",
        ),
        ("model: {kind: 3}", "1:15: model.kind: should be 'vae' or 'gmm' or 'ppca' or 'fa', got 3"),
        ("model: {kind: [gmm]}", "1:15: model.kind: should be 'vae' or 'gmm' or 'ppca' or 'fa'"),
        (
            "model: {kind: }",
            "1:9: model.kind: should be 'vae' or 'gmm' or 'ppca' or 'fa', got null",
        ),
        ("model: {}", "1:1: model.kind: this key is required: vae, gmm, ppca, fa"),
        (
            "model: {kind: gmm, init: labels, components: 9}",
            "1:46: model.components: init: labels starts one component per digit, so with 10 "
            "digits it needs components: 10, not 9",
        ),
        (
            "model: {kind: gmm, init: labels}\ndata: {labels: [4, 9]}",
            "1:1: model.components: init: labels starts one component per digit, so with 2 "
            "digits it needs components: 2, not 10",
        ),
        (
            "model: {kind: gmm, init: labels}\ntrain: {restarts: 2}",
            "2:19: train.restarts: init: labels starts every time from the same parameters",
        ),
        (
            "model: {kind: gmm, covariance_floor: -1}",
            "1:38: model.covariance_floor: should be greater than or equal to 0, got -1",
        ),
        ("model: {kind: gmm, covariance_floor: .inf}", "1:38: model.covariance_floor: should be a"),
        ("model: {kind: gmm, components: 0}", "1:32: model.components: should be greater than"),
        ("model: {kind: gmm, components: 1e9}", "1:32: model.components: should be a valid int"),
        ("model: {kind: gmm, component: 3}", "1:20: model.component: unknown key; did you mean co"),
        ("model: {kind: gmm, covariance: banded}", "1:32: model.covariance: should be 'full', "),
        ("model: {kind: gmm, init: k-means}", "1:26: model.init: should be 'kmeans', 'kmeans++', "),
        ("model: {kind: gmm, precision: 64}", "1:31: model.precision: should be 'float32' or"),
        (
            "model: {kind: gmm, covariance: lowrank, factors: 784}",
            "1:50: model.factors: should be less than 784, got 784",
        ),
        ("model: {kind: ppca, latent_dim: 784}", "1:33: model.latent_dim: should be less than 784"),
        ("model: {kind: ppca, method: svd}", "1:29: model.method: should be 'em' or 'closed_form'"),
        (
            "model: {kind: gmm}\ntrain: {max_iter: -1}",
            "2:19: train.max_iter: should be greater than or equal to 0, got -1",
        ),
        ("model: {kind: gmm}\ntrain: {tolerance: -1e-9}", "2:20: train.tolerance: should be gr"),
        ("model: {kind: ppca}\ntrain: {restarts: 0}", "2:19: train.restarts: should be greater"),
        (
            "model: {kind: ppca}\ntrain: {max_iters: 2}",
            "2:9: train.max_iters: unknown key; did you",
        ),
    ],
)
def test_a_complaint_about_another_kind_has_its_place(write: Write, text: str, line: str) -> None:
    [found] = complaints(write(text))
    assert found.startswith(f"experiment.yaml:{line}")


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


EXACT = [
    *[["model.kind=gmm", f"model.covariance={name}"] for name in ("full", "tied", "diag")],
    ["model.kind=gmm", "model.covariance=spherical", "model.covariance_floor=0"],
    ["model.kind=gmm", "model.covariance=lowrank", "model.factors=2", "train.tolerance=0"],
    ["model.kind=gmm", "model.init=labels", "data.labels=[4, 9]", "model.components=2"],
    ["model.kind=gmm", "model.precision=float64", "model.decode_mode=sweep", "train.max_iter=0"],
    ["model.kind=ppca", "model.latent_dim=783", "train.restarts=3"],
    ["model.kind=ppca", "model.method=closed_form", "data.transform=logit"],
]


@pytest.mark.parametrize("overrides", EXACT, ids=" ".join)
def test_dump_and_load_of_other_kinds(write: Write, overrides: list[str]) -> None:
    config = load_config(str(write("model: {kind: vae}")), overrides)
    text = dump(config)
    again = load_config(str(write(text)))
    assert type(again) is type(config)
    assert again == config
    assert dump(again) == text
    assert digest(again) == digest(config)
    assert accepts(SCHEMA, YAML(typ="safe", pure=True).load(text))
    written = flatten(config.model_dump())
    assert ("model.factors" in written) == ("model.covariance=lowrank" in overrides)
    assert ("train.max_iter" in written) == ("model.method=closed_form" not in overrides)


def test_a_key_of_another_kind_is_no_difference(write: Write) -> None:
    def settings(*overrides: str) -> dict[str, Any]:
        return flatten(load_config(str(write("model: {kind: vae}")), overrides).model_dump())

    gmm = settings("model.kind=gmm", "model.decode_mode=mean")
    ppca = settings("model.kind=ppca", "model.latent_dim=5")
    closed = settings("model.kind=ppca", "model.latent_dim=5", "model.method=closed_form")
    assert differing([gmm, ppca]) == ["model.kind"]
    assert differing([settings(), gmm]) == ["model.kind"]
    assert set(differing([settings(), ppca])) == {"model.kind", "model.latent_dim"}
    assert differing([ppca, closed]) == ["model.method"]
    restarts = settings("model.kind=gmm", "model.decode_mode=mean", "train.restarts=2")
    assert set(differing([restarts, ppca])) == {"model.kind", "train.restarts"}
