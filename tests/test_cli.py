"""The commands that need no training, and what every command promises: exit codes, help, speed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vaexp.cli import app
from vaexp.cli_common import print_answer
from vaexp.config import dump, load_config, shipped_configs
from vaexp.runs.folder import RunFolder

COMMANDS = [
    ["train"],
    ["sample"],
    ["encode"],
    ["export"],
    ["compare"],
    ["report"],
    ["explore"],
    ["evaluate"],
    ["sweep"],
    ["reproduce"],
    ["runs"],
    ["runs", "list"],
    ["runs", "show"],
    ["runs", "trim"],
    ["runs", "rm"],
    ["validate"],
    ["schema"],
    ["configs", "list"],
    ["configs", "show"],
    ["configs", "copy"],
]

BAD_CONFIGS = {
    "unknown key": (
        "model: {kind: vae, bta: 4}",
        "1:20: model.bta: unknown key; did you mean beta",
    ),
    "duplicate key": (
        "seed: 1\nmodel: {kind: vae}\nseed: 2",
        "3:1: duplicate key 'seed', first at",
    ),
    "wrong type": ("model: {kind: vae, beta: true}", "1:26: model.beta: should be a valid number"),
    "inapplicable": ("model: {kind: vae}\ntrain: {momentum: 0}", "2:19: train.momentum: does not"),
    "both": (
        "model: {kind: vae}\ntrain: {epochs: 1, steps: 1}",
        "2:27: train.steps: give epochs or",
    ),
    "no such digit": ("model: {kind: vae}\ndata: {labels: [11]}", "2:17: data.labels.0: should be"),
    "latent size": ("model: {kind: vae, latent_dim: 0}", "1:32: model.latent_dim: should be"),
    "not a number": ("model: {kind: vae, beta: .nan}", "1:26: model.beta: should be a finite"),
    "too much data": (
        "model: {kind: vae}\ndata: {limit: 70000}",
        "2:15: data.limit: 70,000 is larger",
    ),
    "unknown kind": ("model: {kind: vea}", "1:15: model.kind: should be"),
    "empty": ("", "1:1: the file is empty"),
    "only a comment": ("# soon\n", "1:1: the file is empty"),
    "not YAML": ("model: {kind: vae", "1:18: not valid YAML"),
    "in itself": ("model: &m {kind: *m}\n", "1:8: nested too deeply"),
    "python": ("model: {kind: vae}\nseed: !!python/name:os.system\n", "2:7: "),
}


def assert_refused(done: "subprocess.CompletedProcess[str]", *, code: int = 2) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def assert_refused_here(result: Any, message: str) -> None:
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr


# A user's mistake


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_train_refuses_a_bad_config(cli: Any, name: str) -> None:
    text, message = BAD_CONFIGS[name]
    (cli.cwd / "bad.yaml").write_text(text)
    done = cli("train", "bad.yaml", "--runs-dir", "new/runs")
    assert_refused(done)
    assert f"bad.yaml:{message}" in done.stderr
    assert [path.name for path in cli.cwd.iterdir()] == ["bad.yaml"]


def test_train_refuses_what_is_not_a_config(cli: Any) -> None:
    (cli.cwd / "binary.yaml").write_bytes(bytes(range(256)))
    (cli.cwd / "folder").mkdir()
    before = sorted(cli.cwd.rglob("*"))
    for arguments, message in [
        (["quickstrat"], "did you mean the shipped config quickstart?"),
        (["nope.yaml"], "nope.yaml: no such file"),
        (["binary.yaml"], "binary.yaml:1:1: not a text file in UTF-8"),
        (["folder"], "folder: is a directory without a config.yaml"),
        (["quickstart", "model.bta=3"], "override model.bta=3: model.bta: unknown key; did you"),
        (["quickstart", "model.beta"], "write it as KEY=VALUE"),
        (["quickstart", "--run-dir", "x"], "--run-dir"),
        ([], "which config?"),
    ]:
        done = cli("train", *arguments)
        assert_refused(done)
        assert message in done.stderr
    assert sorted(cli.cwd.rglob("*")) == before


def test_nested_aliases_end_at_once(cli: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (cli.cwd / "laughs.yaml").write_text("\n".join([*lines, "model: {kind: vae}"]))
    assert_refused(cli("validate", "laughs.yaml", timeout=5))


def test_every_problem_stands_on_its_own_line(cli: Any) -> None:
    (cli.cwd / "bad.yaml").write_text("seed: -1\nmodel: {kind: vae, sigma: 0}\nextra: 1\n")
    done = cli("validate", "bad.yaml")
    assert_refused(done)
    places = [line.split(": ")[0] for line in done.stderr.splitlines()]
    assert sorted(places) == ["bad.yaml:1:7", "bad.yaml:2:27", "bad.yaml:3:1"]


def test_settings_that_the_data_refuse(invoke: Any, elsewhere: Path) -> None:
    for settings, message in [
        (["data.labels=[3]", "data.limit=20000"], "data.limit"),
        (["data.labels=[3]", "data.validation_size=3"], "data.labels"),
    ]:
        assert_refused_here(invoke("train", "quickstart", *settings), message)
    assert list(elsewhere.iterdir()) == []


def test_a_runs_dir_that_cannot_be_made(invoke: Any, elsewhere: Path) -> None:
    (elsewhere / "file").write_text("")
    done = invoke("train", "quickstart", "data.limit=1", "--runs-dir", "file")
    assert_refused_here(done, "file: cannot create a run folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "nope"], "nope: no such run folder"),
        (["sample", "."], "run.json is missing"),
        (["compare", "nope", "nope"], "nope: no such run folder"),
        (["runs", "nope"], "nope: no such folder"),
        (["train", "--resume", "nope"], "nope: no such run folder"),
        (["configs", "show", "nope"], "nope: no such shipped config; there are"),
        (["configs", "copy", "nope"], "nope: no such shipped config"),
        (["validate", "nope"], "nope: no such file"),
        (["sample", "x" * 300], "x" * 300),
        (["validate", "x" * 300], "x" * 300),
        (["train", "x" * 300], "x" * 300),
        (["runs", "x" * 300], "x" * 300),
        (["configs", "copy", "quickstart", "x" * 300], "x" * 300),
        (["sample", ".", "-n", "0"], "-n"),
        (["sample", ".", "--decode", "median"], "--decode"),
        (["compare"], "RUN"),
        (["report"], "RUN"),
        (["explore"], "RUN"),
        (["trian"], "trian"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes_of_other_commands(
    invoke: Any, elsewhere: Path, arguments: list[str], message: str
) -> None:
    assert_refused_here(invoke(*arguments), message)
    assert list(elsewhere.iterdir()) == []


# Answers


def test_dry_run_prints_the_resolved_config_and_writes_nothing(cli: Any) -> None:
    text = cli.ok("train", "quickstart", "model.beta=4", "data.labels=[4]", "--dry-run")
    assert list(cli.cwd.iterdir()) == []
    (cli.cwd / "resolved.yaml").write_text(text)
    expected = load_config("quickstart", ["model.beta=4", "data.labels=[4]"])
    assert load_config(str(cli.cwd / "resolved.yaml")) == expected
    assert cli.ok("train", "resolved.yaml", "--dry-run") == text
    answer = json.loads(cli.ok("train", "resolved.yaml", "--dry-run", "--json"))
    assert answer == expected.model_dump()


def test_configs_with_unusual_names(cli: Any) -> None:
    for name in ("my config.yaml", "日本.yaml", "-x.yaml"):
        (cli.cwd / name).write_text("model: {kind: vae}")
        assert cli.ok("validate", "--", name) == f"{name}: ok\n"
        assert cli.ok("train", "--dry-run", "--", name).startswith("name: ")


def test_validate(cli: Any) -> None:
    (cli.cwd / "good.yaml").write_text("model: {kind: vae}")
    (cli.cwd / "bad.yaml").write_text("model: {}")
    assert cli.ok("validate", "good.yaml", "quickstart") == "good.yaml: ok\nquickstart: ok\n"
    done = cli("validate", "good.yaml", "bad.yaml")
    assert done.returncode == 2
    assert done.stdout == "good.yaml: ok\n"
    assert done.stderr.startswith("bad.yaml:1:")
    done = cli("validate", "good.yaml", "bad.yaml", "--json")
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["good.yaml"] is None
    assert answer["bad.yaml"].startswith("bad.yaml:1:")


def test_schema_is_that_of_every_kind(cli: Any) -> None:
    schema = json.loads(cli.ok("schema"))
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    kinds = [rule["if"]["properties"]["model"]["properties"]["kind"] for rule in schema["allOf"]]
    assert kinds == [{"const": kind} for kind in ("vae", "gmm", "ppca", "fa")]
    assert all(rule["then"].keys() == {"$ref"} for rule in schema["allOf"])


def test_shipped_configs_are_listed_shown_and_copied(cli: Any) -> None:
    listed = json.loads(cli.ok("configs", "list", "--json"))
    assert list(listed) == list(shipped_configs())
    assert all(text.endswith(".") for text in listed.values())  # a whole sentence
    lines = cli.ok("configs", "list").splitlines()
    assert [line.split()[0] for line in lines] == list(listed)
    shown = cli.ok("configs", "show", "quickstart")
    assert shown == shipped_configs()["quickstart"].read_text(encoding="utf-8")

    assert cli.ok("configs", "copy", "quickstart") == "quickstart.yaml\n"
    copied = (cli.cwd / "quickstart.yaml").read_text(encoding="utf-8")
    assert copied.splitlines()[1:] == shown.splitlines()[1:]  # the first names the schema
    (cli.cwd / "quickstart.yaml").write_text("mine")
    done = cli("configs", "copy", "quickstart")
    assert_refused(done)
    assert "quickstart.yaml: exists already" in done.stderr
    assert (cli.cwd / "quickstart.yaml").read_text() == "mine"
    (cli.cwd / "sub").mkdir()
    assert cli.ok("configs", "copy", "quickstart", "sub") == "sub/quickstart.yaml\n"
    assert cli.ok("configs", "copy", "quickstart", "sub/mine.yaml") == "sub/mine.yaml\n"
    assert_refused(cli("configs", "copy", "quickstart", "nowhere/mine.yaml"))


def test_version_and_module(cli: Any) -> None:
    version = cli.ok("--version")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", version)
    module = subprocess.run(
        [sys.executable, "-m", "vaexp", "--version"], capture_output=True, text=True, check=True
    )
    assert module.stdout == version


# Help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(invoke: Any, command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: vaexp {' '.join(command)}" in re.sub(
        r"\brun=\$\(", "", " ".join(result.stdout.split())
    )
    assert invoke(*command, "-h").stdout == result.stdout


def test_the_list_of_commands_here_is_complete() -> None:
    from typer.main import get_command

    def leaves(group: Any, path: list[str]) -> list[list[str]]:
        found = []
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                found += leaves(command, [*path, name])
            if not command.no_args_is_help:  # it does something by itself
                found.append([*path, name])
        return found

    assert sorted(leaves(get_command(app), [])) == sorted(COMMANDS)


# No torch where none is needed


@pytest.fixture(scope="session")
def two_forged_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from conftest import Forge  # the fixture of that name is per test

    forge = Forge(tmp_path_factory.mktemp("forged"))
    return [forge("first"), forge("second", "model.beta=2")]


def test_no_torch_for_what_needs_none(two_forged_runs: list[Path], tmp_path: Path) -> None:
    first, second = map(str, two_forged_runs)
    folder = str(two_forged_runs[0].parent)
    commands = [
        ["--help"],
        *[[*command, "--help"] for command in COMMANDS],
        ["validate", "quickstart"],
        ["validate", "nope"],
        ["schema"],
        ["configs", "list"],
        ["configs", "show", "quickstart"],
        ["configs", "copy", "quickstart"],
        ["train", "quickstart", "--dry-run"],
        ["train", "quickstart", "model.bta=1"],
        ["train", "--resume", first],
        ["sweep", "quickstart", "--seeds", "2", "--dry-run"],
        ["sweep", "quickstart", "--seeds", "2", "--folder", "s", "--print-commands"],
        ["sweep", "s", "--seeds", "nope"],
        *[["runs", folder, "--format", name] for name in ("table", "json", "csv", "md")],
        ["runs", folder, "--where", "model.beta>1", "--sort", "size", "--columns", "status"],
        ["runs", "show", first],
        ["runs", "trim", first],
        *[["compare", first, second, "--format", name] for name in ("table", "json", "csv", "md")],
    ]
    script = """
import json, sys
from vaexp.cli import app
for command in json.load(sys.stdin):
    try:
        app(command)
    except SystemExit as end:
        code = end.code
    heavy = {"torch", "torchvision", "matplotlib"} & set(sys.modules)
    print(json.dumps([command, code, sorted(heavy)]), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    ends = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[[")]
    assert [command for command, _, _ in ends] == commands
    for command, code, heavy in ends:
        assert heavy == [], command
        assert code == (2 if command[-1] in ("nope", "model.bta=1") else 0), command


# Where output goes


def test_a_reader_that_stops_early_is_no_error(cli: Any, two_forged_runs: list[Path]) -> None:
    for command in (["schema"], ["runs", two_forged_runs[0].parent], ["configs", "list"]):
        process = cli.start(*command)
        process.stdout.close()
        process.wait(timeout=30)
        assert process.stderr.read() == ""
        process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(cli: Any) -> None:
    from conftest import VAEXP

    for command in (["schema"], ["configs", "list"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [VAEXP, *command], stdout=full, stderr=subprocess.PIPE, text=True, cwd=cli.cwd
            )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "No space left" in done.stderr


def test_terminals_without_greek(cli: Any, two_forged_runs: list[Path]) -> None:
    folder = two_forged_runs[0].parent
    for command in (["runs", folder], ["compare", *two_forged_runs]):
        done = cli(*command, PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert "Traceback" not in done.stderr
        assert "700" in done.stdout or "696" in done.stdout


def test_no_home(cli: Any, two_forged_runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    cli.ok("runs", two_forged_runs[0].parent)
    cli.ok("validate", "quickstart")


def test_a_run_folder_is_a_config(cli: Any, two_forged_runs: list[Path]) -> None:
    run = RunFolder.open(two_forged_runs[1])
    for path in (f"{run.path}/", f"{run.path}/config.yaml", os.path.relpath(run.path, cli.cwd)):
        assert cli.ok("train", path, "--dry-run") == dump(run.config())


def test_validate_takes_overrides(invoke: Any) -> None:
    done = invoke("validate", "quickstart", "model.beta=4", "vae-pixel")
    assert (done.exit_code, done.stdout) == (0, "quickstart: ok\nvae-pixel: ok\n")
    done = invoke("validate", "quickstart", "model.beta=-4")
    assert done.exit_code == 2
    assert "override model.beta=-4: model.beta" in done.stderr


def test_a_folder_does_not_hide_the_shipped_config_of_its_name(
    invoke: Any, elsewhere: Path
) -> None:
    (elsewhere / "vae-pixel").mkdir()
    assert invoke("validate", "vae-pixel").exit_code == 0


def test_a_dry_run_refuses_what_training_would(invoke: Any) -> None:
    late = ["model.beta_warmup=1000", "train.epochs=null", "train.steps=5"]
    done = invoke("train", "vae-global", *late, "--dry-run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "beta would still be rising" in done.stderr


def test_a_terminal_is_told_no_escape_and_a_pipe_all_of_a_name(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    name = "evil\x1b[31m\n=cmd"
    for on_a_terminal, shown in ((True, "evil\\x1b[31m\n=cmd\n"), (False, f"{name}\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda on=on_a_terminal: on)
        print_answer(name)
        assert capsys.readouterr().out == shown


def test_help_keeps_brackets(invoke: Any) -> None:
    text = invoke("export", "--help").stdout + invoke("encode", "--help").stdout
    assert text.count("vaexp[parquet]") == 2
    assert "vaexp[mlflow]" in text
