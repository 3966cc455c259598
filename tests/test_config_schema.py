"""The JSON Schema of a config, as editors use it."""

from typing import Any

import pytest
from config_files import DEFAULTS, SCHEMA, accepts, resolved

from vaexp.config import shipped_configs
from vaexp.config.document import read_file

KINDS = ["vae", "gmm", "ppca", "fa"]


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
        extra = {
            "vae": ["train.weight_decay", "train.momentum", "model.factors"],
            "gmm": ["model.factors"],
        }
        assert check(experiment, "") == {*DEFAULTS[kind], *extra.get(kind, [])}
        assert experiment["required"] == ["model"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_accepts_the_smallest_config(kind: str) -> None:
    assert accepts(SCHEMA, {"model": {"kind": kind}})


def test_the_schema_accepts_every_shipped_config() -> None:
    for path in shipped_configs().values():
        document = read_file(path).data
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
