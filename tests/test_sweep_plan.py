"""What a sweep is asked for: the trials that follow, and mistakes answered before any starts."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from vaexp.config import load_config
from vaexp.errors import UserError
from vaexp.sweeps.base import Base
from vaexp.sweeps.plan import Plan
from vaexp.sweeps.ranges import Range
from vaexp.sweeps.request import Options
from vaexp.sweeps.trials import check, numbered

# What is varied


def settings(options: Options, seed: int = 1) -> list[dict[str, Any]]:
    return [point.settings for point in options.asked().plan.points(seed)]


def test_a_grid_has_all_combinations_and_each_is_seen_once_before_any_is_repeated() -> None:
    options = Options(grid=["model.beta=0.1,1", "model.sigma_mode=fixed,pixel"], seeds=2)
    assert settings(options, seed=7) == [
        {"model.beta": beta, "model.sigma_mode": mode, "seed": seed}
        for seed in (7, 8)
        for beta in (0.1, 1)
        for mode in ("fixed", "pixel")
    ]


def test_values_are_yaml() -> None:
    options = Options(grid=["model.hidden=[512, 256],[],[16]", "data.labels=null,[4, 9]"])
    assert [tuple(one.values()) for one in settings(options)] == [
        (hidden, labels) for hidden in ([512, 256], [], [16]) for labels in (None, [4, 9])
    ]
    options = Options(grid=["train.learning_rate=1e-3,.1", "data.root='a,b',on"])
    first, *_, last = settings(options)
    assert first == {"train.learning_rate": 0.001, "data.root": "a,b"}
    assert last == {"train.learning_rate": 0.1, "data.root": "on"}


def test_zipped_keys_vary_in_step() -> None:
    options = Options(zip=["model.sigma_mode=fixed,pixel", "model.sigma=1,0.3"], grid=["seed=1,2"])
    assert settings(options) == [
        {"seed": seed, "model.sigma_mode": mode, "model.sigma": sigma}
        for mode, sigma in (("fixed", 1), ("pixel", 0.3))
        for seed in (1, 2)
    ]


def test_random_trials_are_the_same_again_and_more_of_them_keep_the_first() -> None:
    ranges = ["train.learning_rate=log:1e-4..1e-2", "model.latent_dim=2..64"]
    few = settings(Options(random=5, ranges=ranges))
    assert few == settings(Options(random=5, ranges=ranges))
    assert few == settings(Options(random=9, ranges=ranges))[:5]
    assert few != settings(Options(random=5, ranges=ranges), seed=2)
    rates = [one["train.learning_rate"] for one in few]
    more = settings(Options(random=5, ranges=["model.beta=0..1", *ranges]))
    assert rates == [one["train.learning_rate"] for one in more]
    for one in few:
        assert 1e-4 <= one["train.learning_rate"] <= 1e-2
        assert type(one["model.latent_dim"]) is int


@pytest.mark.parametrize(
    ("text", "quartiles"),
    [
        ("0..8", (2, 4, 6)),
        ("-1.0..1.0", (-0.5, 0, 0.5)),
        ("log:1e-4..1", (1e-3, 1e-2, 1e-1)),
        ("log:1.0..16.0", (2, 4, 8)),
    ],
)
def test_draws_have_the_quartiles_of_their_range(text: str, quartiles: tuple[float, ...]) -> None:
    one, generator = Range.parse(text), random.Random(3)
    drawn = [one.draw(generator) for _ in range(4000)]
    assert one.low <= min(drawn) <= max(drawn) <= one.high
    for level, quartile in zip((0.25, 0.5, 0.75), quartiles, strict=True):
        below = sum(x <= quartile for x in drawn) / len(drawn)
        smallest_step = 1 / 9 if one.whole else 0
        assert level - 0.03 <= below <= level + 0.03 + smallest_step


def test_whole_numbers_are_drawn_to_both_ends() -> None:
    for text in ("2..5", "log:2..5"):
        one, generator = Range.parse(text), random.Random(1)
        assert {one.draw(generator) for _ in range(300)} == {2, 3, 4, 5}


def test_no_two_random_trials_are_the_same() -> None:
    drawn = settings(Options(random=4, ranges=["model.latent_dim=2..5"]))
    assert sorted(one["model.latent_dim"] for one in drawn) == [2, 3, 4, 5]


# Mistakes


@pytest.fixture
def tiny(elsewhere: Path) -> Path:
    (elsewhere / "tiny.yaml").write_text(TINY)
    return elsewhere


MISTAKES = [
    (["--grid", "model.bta=1,2"], "--grid model.bta=1,2: model.bta: unknown key; did you mean"),
    (["--grid", "model.beta=1,-1"], "model.beta: should be greater than or equal to 0, got -1"),
    (["--grid", "model.beta=1,1.0"], "grid.model.beta: one of its values is there 2 times"),
    (["--grid", "model.beta=1,,2"], "not valid YAML"),
    (["--grid", "model.beta"], "--grid model.beta: write it as --grid KEY=A,B"),
    (["--grid", "model.beta="], "write it as --grid KEY=A,B"),
    (["--grid", "model={beta: 1}"], "to vary a section, name its keys"),
    (["--grid", "name=a,b"], "every trial gets a name of its own"),
    (["--grid", "model.beta=1", "--grid", "model.beta=2"], "model.beta is there already"),
    (["--grid", "model.beta=1", "--zip", "model.beta=2"], "it is in grid already"),
    (["--zip", "seed=1,2", "--zip", "model.beta=1,2,3"], "has 3 values, but seed has 2"),
    (["--zip", "seed=1,1", "--zip", "model.beta=2,2"], "has the same values twice"),
    (["--grid", "seed=1,2", "--seeds", "2"], "leave it out, or leave out seeds"),
    (["--random", "3"], "--random 3: from what?"),
    (["--range", "model.beta=1..2"], "how many draws?"),
    (["--random", "3", "--range", "model.beta=1-2"], "write it as LOW..HIGH"),
    (["--random", "3", "--range", "model.beta=2..1"], "2 is not below 1"),
    (["--random", "3", "--range", "model.beta=log:0..1"], "a logarithm needs numbers above 0"),
    (["--random", "3", "--range", "model.latent_dim=2..3"], "only 2 different points"),
    (["--random", "3", "--range", "train.epochs=0.5..2.5"], "train.epochs: should be"),
    (["model.beta=2", "--grid", "model.beta=1,2"], "the sweep varies this key"),
    (["--seeds", "10000", "--grid", "model.beta=1,2"], "20,000 trials are more than 10,000"),
    ([], "what is to be varied?"),
    (["--trial", "1"], "tiny.yaml: not the folder of a sweep"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_answered_before_anything_is_written(
    invoke: Any, tiny: Path, arguments: list[str], message: str
) -> None:
    done = invoke("sweep", "tiny.yaml", *arguments)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert [path.name for path in tiny.iterdir()] == ["tiny.yaml"]


def test_the_mistakes_of_a_config_that_are_not_shown_are_counted(
    invoke: Any, elsewhere: Path
) -> None:
    """By a sweep of it as by itself."""
    keys = "".join(f"  bta{i}: 1\n" for i in range(25))
    (elsewhere / "base.yaml").write_text(f"name: x\nmodel:\n  kind: vae\n{keys}")
    (elsewhere / "sweep.yaml").write_text("config: base.yaml\nseeds: 2\n")
    alone, swept = invoke("train", "base.yaml"), invoke("sweep", "sweep.yaml")
    assert (alone.exit_code, swept.exit_code) == (2, 2)
    assert "and 5 more mistakes" in alone.stderr
    assert "and 5 more mistakes" in swept.stderr


def test_a_sweep_takes_no_config_from_stdin(invoke: Any, elsewhere: Path) -> None:
    done = invoke("sweep", "-", "--seeds", "2")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "a sweep takes no config from stdin" in done.stderr
    assert list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("tiny")
def test_every_mistake_stands_on_its_own_line_once(invoke: Any) -> None:
    grid = ["--grid", "model.beta=-1,1,-2", "--grid", "model.likelihood=gaussian,bernoulli"]
    done = invoke("sweep", "tiny.yaml", *grid, "--seeds", 3)
    where = "--grid model.beta=-1,1,-2: model.beta: should be greater than or equal to 0, got"
    lines = done.stderr.splitlines()
    assert [line for line in lines if "beta" in line] == [f"{where} -1", f"{where} -2"]
    assert len([line for line in lines if "bernoulli is a mass" in line]) == 1


FILE = """\
config: tiny.yaml
set:
  train.epochs: 1
grid:
  model.beta: [0.1, 1]
  model.sigma_mode: [fixed, pixel]
seeds: 2
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.1, 1", "0.1, -1", "s.yaml:5:21: model.beta: should be greater"),
        ("fixed,", "fixd,", "s.yaml:6:22: model.sigma_mode: should be 'fixed', "),
        ("  train.epochs", "  train.epoch", "s.yaml:3:16: train.epoch: unknown key; did you mean"),
        ("seeds", "seds", "s.yaml:7:1: seds: unknown key; did you mean seeds?"),
        ("seeds: 2", "seeds: 0", "s.yaml:7:8: seeds: should be greater than or equal to 1, got 0"),
        ("[0.1, 1]", "3", "s.yaml:5:15: grid.model.beta: should be a valid list, got 3"),
        ("tiny.yaml", "tinny.yaml", "s.yaml:1:9: config: tinny.yaml: no such file"),
        ("config: tiny.yaml\n", "", "s.yaml:1:1: config: this key is required"),
        ("seeds: 2", "zip: {seed: [1], train.steps: [1, 2]}", "s.yaml:7:31: zip.train.steps: has"),
        ("seeds: 2", "random: {trials: 2, ranges: {seed: 1-2}}", "s.yaml:7:36: random.ranges.seed"),
        ("train.epochs: 1", "model.beta: 1", "s.yaml:3:15: model.beta: the sweep varies this key"),
        ("seeds: 2", "seeds: 2\nseeds: 3", "s.yaml:8:1: duplicate key 'seeds'"),
        ("seeds: 2", "seeds: [", "s.yaml:8:1: not valid YAML"),
    ],
)
def test_mistakes_in_a_file_have_their_places(
    invoke: Any, tiny: Path, old: str, new: str, message: str
) -> None:
    assert old in FILE
    (tiny / "s.yaml").write_text(FILE.replace(old, new))
    done = invoke("sweep", "s.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert not (tiny / "sweeps").exists()


MANY = """\
config: tiny.yaml
set:
  train.epoch: 1
  model.latent_dim: 0
  train: {steps: 3}
grid:
  model.beta: 3
  model.sigma_mode: [fixd, pixel]
  seed: [1, 1]
zip:
  model.hidden: [[8], [16]]
  data.limit: [100]
  name: [a, b]
random: {trials: 0, ranges: {train.learning_rate: 1-2, train.momentum: 2..1}}
seeds: 0
sedes: 3
"""


def test_all_mistakes_in_a_file_are_said_at_once_each_with_its_place(
    invoke: Any, tiny: Path
) -> None:
    (tiny / "s.yaml").write_text(MANY)
    done = invoke("sweep", "s.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    said = sorted((int(line.split(":")[1]), line.split(": ")[1]) for line in lines)
    assert said == [
        (3, "train.epoch"),
        (4, "model.latent_dim"),
        (5, "set.train"),
        (7, "grid.model.beta"),
        (8, "model.sigma_mode"),
        (9, "grid.seed"),
        (12, "zip.data.limit"),
        (13, "zip.name"),
        (14, "random.ranges.train.learning_rate"),
        (14, "random.ranges.train.momentum"),
        (14, "random.trials"),
        (15, "seeds"),
        (16, "sedes"),
    ]
    assert all(line.startswith("s.yaml:") for line in lines)
    assert not (tiny / "sweeps").exists()


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        # whether keys go together is not said where one of them is wrong, or left out
        ("set: {model.sigma_mode: lowrnk}\ngrid: {model.factors: [2, 3]}", ["model.sigma_mode"]),
        ("grid: {model.factors: [2, 3], model.sigma_mode: lowrank}", ["grid.model.sigma_mode"]),
        (
            "grid: {train.max_iter: [2, 3]}\nzip: {model.kind: [gmm, gmm], seed: [1]}",
            ["zip.seed"],
        ),
        ("set: {train.epoch: 1}\ngrid: {seed: 1}", ["grid.seed", "train.epoch"]),
        ("set: {seed: 3}\ngrid: {seed: [1, 2], train.epoch: [1]}", ["seed", "train.epoch"]),
        ("set: {train.epoch: 1}\nrandom: {trials: 9, ranges: {seed: 1..2}}",
         ["train.epoch", "the ranges have only 2 different points"]),
        ("grid: {seed: [1], name: [a]}\nzip: {seed: [2]}\nseeds: 20000",
         ["grid.name", "seeds", "zip.seed"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_does_not_follow_from_another(
    invoke: Any, tiny: Path, text: str, keys: list[str]
) -> None:
    (tiny / "s.yaml").write_text(f"config: tiny.yaml\n{text}\n")
    done = invoke("sweep", "s.yaml")
    assert done.exit_code == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == keys


# What is listed


def listed(invoke: Any, *arguments: Any) -> list[dict[str, Any]]:
    done = invoke("sweep", *arguments, "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    trials: list[dict[str, Any]] = answer["trials"]
    return trials


def test_a_file_and_options_ask_for_the_same(invoke: Any, tiny: Path) -> None:
    (tiny / "below").mkdir()
    (tiny / "below" / "s.yaml").write_text(FILE.replace("tiny.yaml", "../tiny.yaml"))
    grid = ["--grid", "model.beta=0.1,1", "--grid", "model.sigma_mode=fixed,pixel"]
    by_options = listed(invoke, "tiny.yaml", "train.epochs=1", *grid, "--seeds", 2)
    assert listed(invoke, "below/s.yaml") == by_options
    assert len(by_options) == 8
    assert sorted(path.name for path in tiny.iterdir()) == ["below", "tiny.yaml"]


@pytest.mark.usefixtures("tiny")
def test_a_trial_has_the_config_that_train_would_get() -> None:
    """Also where another kind of model has other defaults."""
    for config, kinds in (("gmm-lowrank", ["fa", "ppca"]), ("fa", ["gmm", "vae"])):
        base = Base.read(config, ["seed=3"])
        for kind in kinds:
            got = base.with_settings("t", {"model.kind": kind}, {"model.kind": "here"})
            overrides = ["seed=3", f"model.kind={kind}", "name=t"]
            assert got == load_config(config, overrides)
    base = Base.read("tiny.yaml", ["train.optimizer=sgd"])
    changes = {"train.optimizer": "adamw", "train.steps": 3, "model.likelihood": "bernoulli"}
    changes["data.transform"] = "binarize"
    got = base.with_settings("t", changes, dict.fromkeys(changes, "here"))
    overrides = ["train.optimizer=sgd", "name=t"]
    overrides += [f"{key}={value}" for key, value in changes.items()]
    assert got == load_config("tiny.yaml", overrides)


@pytest.mark.usefixtures("tiny")
def test_two_ways_to_ask_for_the_same_run_are_a_mistake() -> None:
    base = Base.read("tiny.yaml", [])
    asked = [
        Options(grid=["train.steps=5"]).asked(),
        Options(zip=["train.steps=6,5", "train.epochs=null,null"]).asked(),
    ]
    trials = numbered(asked, base)
    with pytest.raises(UserError, match=r"--zip train\.epochs=null,null: trial 3 .* as trial 1"):
        check(base, trials)


def test_a_plan_is_documented_for_editors() -> None:
    schema = Plan.model_json_schema()
    assert all("description" in part for part in schema["properties"].values())


def test_a_range_without_its_option_says_which(tmp_path: Path, invoke: Any) -> None:
    given = "train.learning_rate=log:1e-4..1e-2"
    done = invoke("sweep", "vae-fixed", "--random", 3, given, "--sweeps-dir", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--random N --range {given}" in done.stderr


def test_training_a_file_of_a_sweep_says_what_runs_it(tmp_path: Path, invoke: Any) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("config: quickstart\ngrid: {model.beta: [1, 4]}\n")
    done = invoke("train", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"vaexp sweep {path} runs its trials" in done.stderr
