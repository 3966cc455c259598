"""The JSON Schema of a config, as editors use it: by the validator of the package jsonschema."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from config_files import DEFAULTS
from jsonschema import Draft7Validator

from vaexp.config import json_schema, load_config, shipped_configs
from vaexp.config.document import read_file
from vaexp.config.experiments import EXPERIMENTS
from vaexp.config.section import Section
from vaexp.errors import UserError

SCHEMA = json.loads(json.dumps(json_schema()))
VALIDATOR = Draft7Validator(SCHEMA)
KINDS = ["vae", "gmm", "ppca", "fa"]
LINE = "# yaml-language-server: $schema="


def accepts(document: Any) -> bool:
    return VALIDATOR.is_valid(document)


def loads(folder: Path, document: Any) -> bool:
    path = folder / "config.yaml"
    path.write_text(json.dumps(document))
    try:
        load_config(str(path))
    except UserError:
        return False
    return True


def test_it_is_a_schema_of_draft_07() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(SCHEMA)

    def check(part: Any) -> None:
        if isinstance(part, dict):
            assert "$defs" not in part  # of later drafts
            assert "prefixItems" not in part
            assert "$ref" not in part or len(part) == 1, "draft-07 overlooks what is beside a $ref"
            for below in part.values():
                check(below)
        elif isinstance(part, list):
            for below in part:
                check(below)

    check(SCHEMA)


def described(section: type[Section], schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """The dotted keys of a section's schema, each of which has a description."""
    for key, entry in schema["properties"].items():
        below = section.below(key)
        if below is None:
            assert entry.get("description"), where + key
            yield where + key
        else:
            name = below.__name__
            assert SCHEMA["definitions"][name]["description"], name
            yield from described(below, SCHEMA["definitions"][name], f"{where}{key}.")
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("kind", KINDS)
def test_it_documents_every_key(kind: str) -> None:
    section = EXPERIMENTS[kind]
    schema = SCHEMA["definitions"][section.__name__]
    extra = {
        "vae": ["train.weight_decay", "train.momentum", "model.factors"],
        "gmm": ["model.factors"],
    }
    assert {*described(section, schema)} == {*DEFAULTS[kind], *extra.get(kind, [])}
    assert schema["required"] == ["model"]


def test_it_accepts_every_shipped_config_and_no_misspelt_key_in_one() -> None:
    for path in shipped_configs().values():
        document = read_file(path).data
        VALIDATOR.validate(document)
        assert not accepts(document | {"nam": "x"})
        for key, section in document.items():
            if isinstance(section, dict):
                assert not accepts(document | {key: section | {"bta": 1}}), (path, key)


WRONG: list[dict[str, Any]] = [
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
    {"model": {"kind": "vae", "latent_dim": 785}, "data": {"name": "kmnist"}},
    {"model": {"kind": "vae", "latent_dim": 20_000}, "data": {"name": "own", "root": "x"}},
    {"model": {"kind": "vae"}, "data": {"name": "own"}},
    {"model": {"kind": "vae"}, "data": {"name": "own", "root": None}},
    {"model": {"kind": "vae"}, "data": {"labels": []}},
    {"model": {"kind": "vae"}, "data": {"labels": [11]}},
    {"model": {"kind": "vae", "beta": "4"}},
    {"model": {"kind": "vae", "hidden": [0]}},
    # Conditions between keys
    {"model": {"kind": "vae", "factors": 3}},
    {"model": {"kind": "vae", "sigma_mode": "pixel", "factors": 3}},
    {"model": {"kind": "vae", "hidden": [], "activation": "relu"}},
    {"model": {"kind": "vae", "likelihood": "bernoulli", "sigma": 1.0},
     "data": {"transform": "binarize"}},
    {"model": {"kind": "vae", "likelihood": "bernoulli"}},
    {"model": {"kind": "vae", "likelihood": "bernoulli"}, "data": {"transform": "scale"}},
    {"model": {"kind": "vae", "likelihood": "discretized_logistic"},
     "data": {"transform": "logit"}},
    {"model": {"kind": "vae", "likelihood": "truncated_gaussian", "decode_mode": "sweep"}},
    {"model": {"kind": "vae", "likelihood": "truncated_gaussian", "sigma_mode": "lowrank"}},
    {"model": {"kind": "vae"}, "train": {"momentum": 0.5}},
    {"model": {"kind": "vae"}, "train": {"optimizer": "adam", "weight_decay": 0.5}},
    {"model": {"kind": "vae"}, "train": {"epochs": 1, "steps": 1}},
    {"model": {"kind": "vae"}, "train": {"epochs": None}},
    {"model": {"kind": "vae"}, "train": {"sigma_weighting": 0.5}},
    {"model": {"kind": "vae"}, "train": {"patience": 3}, "data": {"validation_size": 0}},
    {"model": {"kind": "gmm", "factors": 3}},
    {"model": {"kind": "gmm", "covariance": "diag", "factors": 3}},
    {"model": {"kind": "gmm", "init": "labels"}, "train": {"restarts": 2}},
    {"model": {"kind": "ppca", "method": "closed_form"}, "train": {"restarts": 2}},
]  # fmt: skip

RIGHT: list[dict[str, Any]] = [
    *({"model": {"kind": kind}} for kind in KINDS),
    {"model": {"kind": "vae", "sigma_mode": "lowrank", "factors": 3}},
    {"model": {"kind": "vae", "hidden": [8], "activation": "relu"}},
    {"model": {"kind": "vae", "likelihood": "bernoulli"}, "data": {"transform": "binarize"}},
    {"model": {"kind": "vae", "decode_mode": "sweep"}},
    {"model": {"kind": "vae"}, "train": {"optimizer": "sgd", "momentum": 0.5}},
    {"model": {"kind": "vae"}, "train": {"steps": 1}},
    {"model": {"kind": "vae"}, "train": {"steps": 1, "epochs": None}},
    {"model": {"kind": "vae"}, "train": {"steps": None, "epochs": 1}},
    {"model": {"kind": "vae", "sigma_mode": "pixel", "sigma": 0.5},
     "train": {"sigma_weighting": 0.5}},
    {"model": {"kind": "vae"}, "train": {"sigma_weighting": 0, "patience": 3}},
    {"model": {"kind": "vae"}, "train": {"patience": None}, "data": {"validation_size": 0}},
    {"model": {"kind": "gmm", "covariance": "lowrank", "factors": 3}},
    {"model": {"kind": "gmm", "init": "labels"}, "train": {"restarts": 1}},
    {"model": {"kind": "ppca", "method": "em"}, "train": {"restarts": 2}},
    {"model": {"kind": "ppca", "method": "closed_form"}},
    {"model": {"kind": "ppca", "latent_dim": 1000}, "data": {"name": "own", "root": "x"}},
    {"model": {"kind": "vae"}, "data": {"name": "mnist", "root": None}},
]  # fmt: skip


@pytest.mark.parametrize("document", WRONG, ids=json.dumps)
def test_it_refuses_what_the_loader_refuses(document: dict[str, Any], tmp_path: Path) -> None:
    assert not accepts(document)
    assert not loads(tmp_path, document)


@pytest.mark.parametrize("document", RIGHT, ids=json.dumps)
def test_it_accepts_what_the_loader_accepts(document: dict[str, Any], tmp_path: Path) -> None:
    VALIDATOR.validate(document)
    assert loads(tmp_path, document)


VALUES: dict[str, list[Any]] = {
    "model.likelihood": ["gaussian", "bernoulli", "continuous_bernoulli", "discretized_logistic"],
    "model.sigma_mode": ["fixed", "global", "pixel", "lowrank"],
    "model.factors": [3],
    "model.hidden": [[], [8]],
    "model.activation": ["gelu"],
    "model.decode_mode": ["mean", "sample", "sweep"],
    "model.covariance": ["full", "tied", "lowrank"],
    "model.init": ["kmeans", "labels"],
    "model.method": ["em", "closed_form"],
    "data.transform": ["scale", "logit", "binarize"],
    "data.validation_size": [0, 100],
    "train.epochs": [None, 2],
    "train.steps": [None, 2],
    "train.optimizer": ["adam", "adamw", "sgd"],
    "train.momentum": [0.5],
    "train.weight_decay": [0.5],
    "train.sigma_weighting": [0.0, 0.5],
    "train.patience": [None, 2],
    "train.restarts": [1, 2],
}


def drawn(kind: str, seed: int) -> dict[str, Any]:
    """A config of a kind with some of its keys that conditions name, at some of their values."""
    random.seed(seed)
    document: dict[str, Any] = {"model": {"kind": kind}}
    for key in sorted(VALUES.keys() & set(EXPERIMENTS[kind].dotted_keys())):
        if random.random() < 0.3:
            section, _, name = key.partition(".")
            document.setdefault(section, {})[name] = random.choice(VALUES[key])
    return document


@pytest.mark.parametrize("kind", KINDS)
def test_it_and_the_loader_agree_on_configs_drawn_at_random(kind: str, tmp_path: Path) -> None:
    answers = []
    for seed in range(250):
        document = drawn(kind, seed)
        answers.append(accepts(document))
        assert answers[-1] == loads(tmp_path, document), document
    refused = len(answers) - sum(answers)
    assert refused > 5 or kind == "fa", refused  # whose keys have no conditions
    assert sum(answers) > 25


# The line by which an editor finds it


def test_shipped_configs_name_the_schema_beside_them(invoke: Any) -> None:
    for path in shipped_configs().values():
        first, second, *_ = path.read_text(encoding="utf-8").splitlines()
        assert first.startswith(LINE), path
        assert second.startswith("# "), path
        named = (path.parent / first.removeprefix(LINE)).read_text(encoding="utf-8")
        assert named == invoke("schema").stdout, f"vaexp schema > {first.removeprefix(LINE)}"


def test_a_copy_of_a_shipped_config_names_the_installed_schema(
    invoke: Any, elsewhere: Path
) -> None:
    for name in ("quickstart", "report/beta-small"):
        done = invoke("configs", "copy", name, "mine.yaml")
        assert done.exit_code == 0, done.stderr
        first, *rest = (elsewhere / "mine.yaml").read_text(encoding="utf-8").splitlines()
        assert first.startswith(f"{LINE}file:///")
        schema = Path(first.removeprefix(f"{LINE}file://"))
        assert json.loads(schema.read_text(encoding="utf-8")) == SCHEMA
        assert rest == invoke("configs", "show", name).stdout.splitlines()[1:]
        (elsewhere / "mine.yaml").unlink()
