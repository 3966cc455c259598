"""What YAML means, where complaints point, and that a config survives being written and read."""

import itertools
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_files import DEFAULTS, VAE_DEFAULTS, Write, complaints, value

from vaexp.config import (
    VAEExperiment,
    differing,
    digest,
    dump,
    flatten,
    json_schema,
    load_config,
    shipped_configs,
    summary,
)

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
    [
        ("1e-3", 0.001),
        ("1E3", 1000),
        ("+.5", 0.5),
        (".5e1", 5.0),
        ("1.", 1.0),
        ("1.5E+2", 150.0),
        ("1_000.5", 1000.5),
        ("3", 3.0),
        ("-0.0", 0.0),
        ("0o17", 15),
        ("!!float 3", 3.0),
        ("!!float '1e-3'", 0.001),
    ],
)
def test_numbers_are_those_of_yaml_1_2(write: Write, scalar: str, meaning: float) -> None:
    assert value(write(f"model: {{kind: vae, beta: {scalar}}}"), "model.beta") == meaning


@pytest.mark.parametrize(
    ("scalar", "meaning"),
    [("0o17", 15), ("0x1F", 31), ("010", 10), ("0", 0), ("+7", 7), ("1_000", 1000), ("0b11", 3)],
)
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


WORDS = ["12:30", "2026-11-22", "1:30:00", "190:20:30.15", "=", "<<", "0b", "0o8", "1e", "e3", "."]


@pytest.mark.parametrize("scalar", [*WORDS, "._1", "+", ".Nan", "tRue", "nuLL", "+.nan"])
def test_what_only_looks_like_something_else_is_a_string(write: Write, scalar: str) -> None:
    path = write(f"model: {{kind: vae}}\ndata: {{root: {scalar}}}\n")
    assert load_config(str(path)).data.root == os.path.abspath(scalar)


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


def test_an_anchor_given_twice_means_the_last(write: Write) -> None:
    path = write("seed: &n 3\ndata: {limit: &n 5}\nmodel: {kind: vae, latent_dim: *n}\n")
    assert value(path, "model.latent_dim") == 5


@pytest.mark.parametrize(("text", "meaning"), [("null", None), ("~", None), ("Null", None)])
def test_nulls(write: Write, text: str, meaning: None) -> None:
    assert value(write(f"model: {{kind: vae}}\ndata: {{limit: {text}}}"), "data.limit") is meaning


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "!!bool 'true'"])
def test_truths(write: Write, text: str) -> None:
    assert value(write(f"model: {{kind: vae, conditional: {text}}}"), "model.conditional") is True


# Complaints: the place, the key and what to do


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model: {kind: vae, bta: 4}", "1:20: model.bta: unknown key; did you mean beta?"),
        ("model: {kind: vae}\nsed: 4", "2:1: sed: unknown key; did you mean seed?"),
        (
            "model: {kind: vae}\nmodel.beta: 4",
            "2:1: model.beta: unknown key; write it as model: {beta: ...}",
        ),
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
            "1:32: model.likelihood: bernoulli is a mass on binary pixels",
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
        (
            "model: {kind: vae}\n---\nmodel: {kind: vae}",
            "2:1: not valid YAML: expected a single document in the stream, but found another",
        ),
        ("model: {kind: vae", "1:18: not valid YAML"),
        ("model:\n  kind: vae\n\tbeta: 1\n", "3:1: not valid YAML: found character '\\t'"),
        ("model: {kind: vae}\nseed: *n", "2:7: not valid YAML: found undefined alias"),
        ("model: {kind: vae}\nseed: \x00", "1:1: not valid YAML: the character U+0000 is not"),
        ("? [a, b]\n: 3\nmodel: {kind: vae}", "1:3: a key must be a word"),
        ("model: {kind: vae}\nseed: !mine 3", "2:7: the tag !mine means nothing in a config"),
        ("model: !!python/tuple {kind: vae}", "1:8: the tag !!python/tuple means nothing"),
        ("model: {kind: vae}\ndata: {labels: !digits [4]}", "2:16: the tag !digits means nothing"),
        ("model: {kind: vae}\nseed: !!int x", "2:7: 'x' is no int"),
        ("model: {kind: vae}\nseed: !!bool 1", "2:7: '1' is neither true nor false"),
        ("model: {kind: vae}\nseed: " + "9" * 5000, "2:7: a number of 5,000 digits"),
        ("model: {kind: vae}\nseed: !!float x", "2:7: 'x' is no float"),
        ("model: {kind: vae}\nseed: 0x" + "f" * 5000, "2:7: a number of 5,002 digits"),
        ("base: &b {beta: 2}\nmodel: {kind: vae, <<: *b}", "1:1: base: unknown key"),
        ("model:\n  <<: {bta: 2}\n  kind: vae", "2:8: model.bta: unknown key"),
        ("model:\n  <<: [{beta: 2}, {beta: -2}]\n  beta: -1\n  kind: vae", "3:9: model.beta: sh"),
        ("model: {kind: vae, <<: 3}", "1:20: <<: merges a section or a list"),
        ("model: {kind: vae, <<: }", "1:20: <<: merges a section or a list"),
        ("model: {kind: vae, <<: {}, <<: {}}", "1:20: <<: merges a section or a list"),
        ("model: {kind: vae, '<<': {}}", "1:20: model.<<: unknown key"),
        ("model: &m {kind: vae, <<: *m}", "1:"),
        ('model: {kind: vae}\ndata: {root: "a\\0b"}', "2:14: data.root: is not the name"),
        ("model: {kind: vae}\ndata: {root: $NO_SUCH/x}", "2:14: data.root: $NO_SUCH/x: the var"),
        ("model:", "1:1: model.kind: this key is required"),
    ],
)
def test_a_complaint_has_its_place(write: Write, text: str, line: str) -> None:
    assert any(found.startswith(f"experiment.yaml:{line}") for found in complaints(write(text)))


def test_a_section_whose_keys_are_commented_out_has_its_defaults(write: Write) -> None:
    path = write("data:\n  # limit: 100\ntrain:\nmodel: {kind: vae}\n")
    assert flatten(load_config(str(path)).model_dump()) == VAE_DEFAULTS


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


# Writing and reading back

GAUSSIAN = [
    ["model.likelihood=gaussian", f"model.sigma_mode={mode}"]
    for mode in ("fixed", "global", "shared", "pixel")
]
OTHERS = [
    ["model.likelihood=bernoulli", "data.transform=binarize"],
    ["model.likelihood=bernoulli", "data.transform=binarize_stochastic"],
    ["model.likelihood=bernoulli", "data.transform=binarize_static"],
    ["model.likelihood=continuous_bernoulli", "data.transform=dequantize"],
]
OPTIMIZERS = [
    ["train.optimizer=adam"],
    ["train.optimizer=adamw", "train.weight_decay=0.1"],
    ["train.optimizer=rmsprop"],
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


@pytest.mark.parametrize("number", [1e-300, 1e22, 0.1, 1e-5, 1e16, 1.5e-7, 1e5])
def test_readers_of_yaml_1_1_take_numbers_for_numbers(number: float) -> None:
    settings = {"name": "x", "model": {"kind": "vae", "beta": number}}
    text = dump(VAEExperiment.model_validate(settings))
    assert yaml.safe_load(text)["model"]["beta"] == number


@pytest.mark.parametrize("name", ["on", "yes", "No", "1e-3", "0o17", "1_000", "007", "true"])
def test_readers_of_yaml_1_1_take_words_for_words(name: str) -> None:
    text = dump(VAEExperiment.model_validate({"name": name, "model": {"kind": "vae"}}))
    assert yaml.safe_load(text)["name"] == name


DIGESTS = {
    "quickstart": "df319d68a3ec7b50",
    "gmm-full": "1ffe044f585c7d4f",
    "ppca": "46bf7fe90a6ff3e8",
}


def test_the_digest_of_a_config_stays_what_it_was() -> None:
    """It binds a run folder to its config: another one would make every old run foreign."""
    digests = {name: digest(load_config(name))[:16] for name in ("quickstart", "gmm-full", "ppca")}
    assert digests == DIGESTS


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
        assert load_config(name).name == name.replace("/", "-")
        second = path.read_text(encoding="utf-8").splitlines()[1]
        assert second.startswith("# ")
        assert summary(path) == second[2:]


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
        ("model: {kind: [gmm]}", "1:15: model.kind: should be 'vae' or 'gmm' or 'ppca'"),
        (
            "model: {kind: }",
            "1:9: model.kind: should be 'vae' or 'gmm' or 'ppca' or 'fa', got null",
        ),
        ("model: {}", "1:1: model.kind: this key is required: vae, gmm, ppca"),
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
    from jsonschema import Draft7Validator

    Draft7Validator(json_schema()).validate(yaml.safe_load(text))
    written = flatten(config.model_dump())
    assert ("model.factors" in written) == ("model.covariance=lowrank" in overrides)
    assert ("train.max_iter" in written) == ("model.method=closed_form" not in overrides)


def test_a_key_of_another_kind_is_no_difference(write: Write) -> None:
    def settings(*overrides: str) -> dict[str, Any]:
        return flatten(load_config(str(write("model: {kind: vae}")), overrides).model_dump())

    gmm = settings("model.kind=gmm", "model.decode_mode=mean")
    ppca = settings("model.kind=ppca", "model.latent_dim=5", "train.tolerance=1e-3")
    closed = settings("model.kind=ppca", "model.latent_dim=5", "model.method=closed_form")
    assert differing([gmm, ppca]) == ["model.kind"]
    assert differing([settings(), gmm]) == ["model.kind"]
    assert set(differing([settings(), ppca])) == {"model.kind", "model.latent_dim"}
    assert differing([ppca, closed]) == ["model.method"]
    restarts = settings("model.kind=gmm", "model.decode_mode=mean", "train.restarts=2")
    assert set(differing([restarts, ppca])) == {"model.kind", "train.restarts"}
