"""The JSON Schema of a sweep's file, as editors use it, and the sweeps that ship with vaexp."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from jsonschema import Draft7Validator

from vaexp.config import shipped_configs, shipped_sweeps
from vaexp.config.document import read_file
from vaexp.config.experiments import EXPERIMENTS
from vaexp.errors import UserError
from vaexp.sweeps.plan import Plan
from vaexp.sweeps.request import Request
from vaexp.sweeps.schema import sweep_schema
from vaexp.sweeps.trials import check, numbered

SCHEMA = json.loads(json.dumps(sweep_schema()))
VALIDATOR = Draft7Validator(SCHEMA)
LINE = "# yaml-language-server: $schema="


def accepts(document: Any) -> bool:
    return VALIDATOR.is_valid(document)


def loads(folder: Path, document: Any) -> bool:
    """Whether ``vaexp sweep`` would start the trials."""
    (folder / "tiny.yaml").write_text(TINY)
    path = folder / "sweep.yaml"
    path.write_text(json.dumps(document))
    try:
        request = Request.of_file(path, [])
        check(request.base, numbered([request.asked], request.base))
    except UserError:
        return False
    return True


def test_it_is_a_schema_of_draft_07() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(SCHEMA)
    text = json.dumps(SCHEMA)
    assert "$defs" not in text
    assert "prefixItems" not in text


def test_it_describes_every_part_and_knows_every_key_of_a_config() -> None:
    parts = SCHEMA["properties"]
    assert parts.keys() == {"config", "set", *Plan.model_fields}
    assert all(part["description"] for part in parts.values())
    keys = {
        key
        for experiment in EXPERIMENTS.values()
        for key in experiment.dotted_keys()
        if "." in key or experiment.below(key) is None
    }
    ranges = SCHEMA["definitions"]["RandomSearch"]["properties"]["ranges"]["properties"]
    assert parts["set"]["properties"].keys() == keys
    for varied in (parts["grid"]["properties"], parts["zip"]["properties"], ranges):
        assert varied.keys() == keys - {"name"}
    for key in keys:
        assert SCHEMA["definitions"][key]["description"]
        assert ranges.get(key, {"description": "of the name"})["description"]


def of(**parts: Any) -> dict[str, Any]:
    return {"config": "tiny.yaml", **parts}


def drawn(**ranges: str) -> dict[str, Any]:
    return {"trials": 2, "ranges": {key.replace("__", "."): one for key, one in ranges.items()}}


WRONG: list[dict[str, Any]] = [
    {},
    {"grid": {"model.beta": [1, 2]}},
    {"config": 3, "seeds": 2},
    of(),
    of(grid={}),
    of(grid=None),
    of(seeds=None, random=None),
    of(sedes=2),
    of(seeds=0),
    of(seeds=1.5),
    of(seeds=20_000),
    of(grid={"model.bta": [1]}),
    of(grid={"model.beta": 1}),
    of(grid={"model.beta": []}),
    of(grid={"model.beta": [-1]}),
    of(grid={"model.beta": ["1"]}),
    of(grid={"model.beta": [1, 1.0]}),
    of(grid={"model.sigma_mode": ["fixd"]}),
    of(grid={"model.hidden": [[0]]}),
    of(grid={"model": [{"beta": 1}]}),
    of(grid={"name": ["a", "b"]}),
    of(grid={"seed": [1, 2]}, seeds=2),
    of(zip={"seed": [1, 2]}, seeds=2),
    of(zip={"model.beta": [1, "x"]}),
    of(random={"trials": 2}),
    of(random={"ranges": {"model.beta": "0..1"}}),
    of(random=drawn()),
    of(random=drawn(model__beta="0-1")),
    of(random=drawn(model__beta="ln:1..2")),
    of(random=drawn(model__bta="0..1")),
    of(random=drawn(name="0..1")),
    of(random=drawn(seed="0..9"), seeds=2),
    of(seeds=2, set={"model.bta": 1}),
    of(seeds=2, set={"model.beta": -1}),
    of(seeds=2, set={"model": {"beta": 1}}),
    of(seeds=2, set=[1]),
]

RIGHT: list[dict[str, Any]] = [
    of(seeds=2),
    of(grid={"model.beta": [0, 1, 4.5]}),
    of(grid={"model.kind": ["vae", "fa"]}),
    of(grid={"model.hidden": [[8], []], "data.limit": [100, None]}, seeds=None),
    of(zip={"model.sigma_mode": ["fixed", "pixel", "pixel"], "model.sigma": [1, 1, 0.3]}),
    of(grid={"seed": [1, 2]}),
    of(random=drawn(train__learning_rate="log:1e-4..1e-2", model__latent_dim="2..1_0")),
    of(random=drawn(model__beta=".5..1."), seeds=3),
    of(seeds=2, set={"model.beta": 4, "name": "mine", "train.steps": 3}),
    of(seeds=2, set={}, grid={}, zip={}, random=None),
]


@pytest.mark.parametrize("document", WRONG, ids=json.dumps)
def test_it_refuses_what_sweep_refuses(document: dict[str, Any], tmp_path: Path) -> None:
    assert not accepts(document)
    assert not loads(tmp_path, document)


@pytest.mark.parametrize("document", RIGHT, ids=json.dumps)
def test_it_accepts_what_sweep_accepts(document: dict[str, Any], tmp_path: Path) -> None:
    VALIDATOR.validate(document)
    assert loads(tmp_path, document)


# The sweeps that ship with vaexp


def test_the_schema_accepts_every_shipped_sweep_and_no_misspelt_key_in_one() -> None:
    assert shipped_sweeps()
    for path in shipped_sweeps().values():
        document = read_file(path).data
        VALIDATOR.validate(document)
        assert not accepts(document | {"gird": {}})
        for part in ("set", "grid"):
            assert not accepts(document | {part: document[part] | {"model.componets": [1]}})


def test_shipped_sweeps_name_the_schema_beside_them_and_say_what_they_show(invoke: Any) -> None:
    for path in shipped_sweeps().values():
        first, second, *rest = path.read_text(encoding="utf-8").splitlines()
        assert first.startswith(LINE), path
        assert second.startswith("# "), path
        assert any("Look for" in line for line in rest)
        named = (path.parent / first.removeprefix(LINE)).read_text(encoding="utf-8")
        printed = invoke("schema", "--sweep").stdout
        assert named == printed, f"vaexp schema --sweep > {first.removeprefix(LINE)}"


def test_shipped_sweeps_are_listed_apart_from_configs(invoke: Any, elsewhere: Path) -> None:
    assert shipped_configs().keys().isdisjoint(shipped_sweeps())
    assert not any("sweeps" in name for name in shipped_configs())
    listed = json.loads(invoke("configs", "list", "--sweeps", "--json").stdout)
    assert list(listed) == list(shipped_sweeps())
    assert invoke("configs", "list", "--sweeps").stdout.splitlines() == [
        f"{name}  {text}" for name, text in listed.items()
    ]
    done = invoke("configs", "list")
    assert "choose-k" not in done.stdout
    assert done.stderr == "vaexp configs list --sweeps lists the sweeps\n"
    shown = invoke("configs", "show", "choose-k").stdout
    assert shown == shipped_sweeps()["choose-k"].read_text(encoding="utf-8")
    assert invoke("configs", "copy", "choose-k", "mine.yaml").stdout == "mine.yaml\n"
    copied = (elsewhere / "mine.yaml").read_text(encoding="utf-8").splitlines()
    assert copied[1:] == shown.splitlines()[1:]
    schema = Path(copied[0].removeprefix(f"{LINE}file://"))
    assert json.loads(schema.read_text(encoding="utf-8")) == SCHEMA
    assert (
        invoke("sweep", "mine.yaml", "--dry-run").stdout
        == invoke("sweep", "choose-k", "--folder", "sweeps/mine", "--dry-run").stdout
    )


def test_a_shipped_sweep_is_taken_by_its_name(invoke: Any, elsewhere: Path) -> None:
    done = invoke("sweep", "choose-k", "data.limit=300", "--print-commands")
    assert done.exit_code == 0, done.stderr
    count = len(read_file(shipped_sweeps()["choose-k"]).data["grid"]["model.components"])
    assert done.stdout.splitlines() == [
        f"vaexp sweep sweeps/choose-k --trial {i}" for i in range(1, count + 1)
    ]
    done = invoke("sweep", "chose-k")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "did you mean the shipped sweep choose-k?" in done.stderr
    done = invoke("train", "choose-k")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "vaexp sweep choose-k runs its trials" in done.stderr
    (elsewhere / "choose-k").write_text("model: {kind: fa}\n")  # a file comes first
    done = invoke("sweep", "choose-k", "--seeds", 2, "--dry-run", "--json")
    assert [one["settings"] for one in json.loads(done.stdout)["trials"]] == [
        {"seed": 1},
        {"seed": 2},
    ]


def test_validate_takes_sweeps(invoke: Any, elsewhere: Path) -> None:
    for name in shipped_sweeps():
        done = invoke("validate", name, "quickstart")
        assert (done.exit_code, done.stdout) == (0, f"{name}: ok\nquickstart: ok\n"), done.stderr
    done = invoke("validate", "choose-k", "data.limit=60")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "choose-k, trial 5 (model.components=70): model.components: 70 are more" in done.stderr
    (elsewhere / "s.yaml").write_text("config: fa\nset: {train.epochs: 1}\nseeds: 0\n")
    done = invoke("validate", "s.yaml")
    assert done.exit_code == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [
        "s.yaml:3:8",
        "s.yaml:2:21",
    ]
