"""What people know from other tools: merge keys, ~ and $VARIABLES, # in a value, huge files."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from config_files import Write, complaints, value

from benchmarks import hostile_configs
from vaexp.config import (
    flatten,
    load_config,
    read_config,
    shipped_configs,
    shipped_sweeps,
)
from vaexp.errors import UserError


def test_merged_keys_count_unless_the_section_has_its_own(write: Write) -> None:
    path = write(
        "model: {kind: vae, <<: [{beta: 2, sigma: 3}, {beta: 4, latent_dim: 5}], sigma: 6}"
    )
    settings = flatten(load_config(str(path)).model_dump())
    keys = ("model.beta", "model.latent_dim", "model.sigma")
    assert [settings[key] for key in keys] == [2, 5, 6]
    path = write("train: &t {epochs: 3}\nmodel: {<<: *t, kind: vae}")
    assert complaints(path)[0].startswith("experiment.yaml:1:12: model.epochs: unknown key")


def test_bombs_of_merges_and_files_that_are_no_config_end_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 30)]
    began = time.perf_counter()
    for text, message in [
        ("\n".join(lines), "too large for a config"),
        ("".join(f"key{i}: 1\n" for i in range(50_000)), "larger than 256 kB"),
        ("".join(f"k{i}: 1\n" for i in range(20_000)), "too large for a config"),
        (
            "model:\n  kind: vae\n" + "".join(f"  k{i}: 1\n" for i in range(900)),
            "880 more",
        ),
        ("x" * 200_000 + ": 1", "not valid YAML"),
        ("{" * 100_000, "nested too deeply"),
        ("model: {kind: vae, beta: " + "9" * 200_000 + "}", "a number of 200,000 digits"),
    ]:
        path = tmp_path / "large.yaml"
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            load_config(str(path))
        assert message in str(caught.value)
        assert len(str(caught.value)) < 10_000
    assert time.perf_counter() - began < 7


def test_the_file_that_is_used_is_named_where_two_could_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config("quickstart")[1] == []
    (tmp_path / "quickstart.yaml").write_text("model: {kind: fa}")
    assert read_config("quickstart")[1] == [
        "quickstart is the shipped config, not ./quickstart.yaml"
    ]
    assert read_config("quickstart.yaml")[1] == []
    (tmp_path / "quickstart").write_text("model: {kind: fa}")
    config, [note] = read_config("quickstart")
    assert config.model.kind == "fa"
    assert note == "quickstart is the one here, not the shipped config"


def test_paths_are_expanded_and_made_absolute(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "sub/data")
    path = write("model: {kind: vae}")
    for given, meant in [
        ("~/x", "/home/me/x"),
        ("$HOME/x", "/home/me/x"),
        ("${DATA}/../y", f"{tmp_path}/sub/y"),
        ("data", f"{tmp_path}/data"),
        ("a$", f"{tmp_path}/a$"),
    ]:
        assert value(path, "data.root", f"data.root={given}") == meant
    (tmp_path / "$SET").mkdir()
    assert value(path, "data.root", "data.root=$SET") == f"{tmp_path}/$SET"


@pytest.mark.parametrize(
    ("override", "meaning"),
    [
        ("data.root=/data/my #1 set", "/data/my #1 set"),
        ("data.root=/data#1", "/data#1"),
        ("data.root='/my #1'", "/my #1"),
        ("data.root=/a # b # c", "/a # b # c"),
    ],
)
def test_a_hash_in_an_override_begins_no_comment(write: Write, override: str, meaning: str) -> None:
    assert value(write("model: {kind: vae}"), "data.root", override) == meaning


def test_what_a_hash_would_cut_off_is_refused(write: Write) -> None:
    path = write("model: {kind: vae}")
    [line] = complaints(path, "model.hidden=[32] # small")
    assert line.startswith("override model.hidden=[32] # small: what follows # would be lost")
    [line] = complaints(path, "model.beta=4 # four")
    assert line.endswith('model.beta: should be a valid number, got "4 # four"')


def test_an_override_says_which_keys_it_leaves_out(write: Write) -> None:
    path = write(
        "model: {kind: vae, beta: 2, hidden: [8], latent_dim: 3}\ntrain: {epochs: 3}\n"
        "evaluate: {importance_samples: 3}\n"
    )
    _, [note] = read_config(str(path), ["model.kind=ppca"])
    assert note == (
        "the overrides leave out what does not apply then: model.beta, model.hidden, "
        "train.epochs, evaluate.importance_samples"
    )
    path = write("model: {kind: vae, sigma_mode: pixel}\ntrain: {epochs: 3}\n")
    overrides = ["model.likelihood=bernoulli", "data.transform=binarize"]
    _, [note] = read_config(str(path), overrides)
    assert note.endswith(": model.sigma_mode")
    assert read_config(str(path), ["train.steps=5"])[1] == []


def test_commands_say_what_their_reader_might_not_expect(invoke: Any, elsewhere: Path) -> None:
    (elsewhere / "fa.yaml").write_text("model: {kind: fa}")
    for command in (["validate", "fa"], ["train", "fa", "--dry-run"]):
        done = invoke(*command)
        assert done.exit_code == 0
        assert done.stderr == "note: fa is the shipped config, not ./fa.yaml\n"


def test_validate_finds_what_training_would_refuse(invoke: Any, elsewhere: Path) -> None:
    for arguments, message in [
        (["fa", "data.labels=[3]", "data.limit=20000"], "data.limit: 20000 is larger than the "),
        (["fa", "data.labels=[3]", "data.validation_size=3"], "data.labels: [3] leaves the valid"),
        (["gmm-full", "data.limit=9"], "model.components: 50 are more than the 9 training images"),
        (["gmm-labels", "data.limit=12"], "model.init: labels starts one component per digit"),
    ]:
        refused = [invoke(command, *arguments) for command in ("validate", "train")]
        assert [done.exit_code for done in refused] == [2, 2]
        assert refused[0].stderr == f"{arguments[0]}: {refused[1].stderr}"
        assert refused[1].stderr.startswith(message)
    assert invoke("validate", "fa", "data.labels=[3]", "data.limit=100").exit_code == 0
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("shipped", [shipped_configs, shipped_sweeps])
def test_mutated_configs_are_refused_or_read(
    elsewhere: Path, shipped: Callable[[], dict[str, Path]]
) -> None:
    """The first of those that benchmarks/hostile_configs.py makes."""
    assert elsewhere.is_dir()
    path = Path("hostile.yaml")
    for seed in range(1, 61):
        path.write_bytes(hostile_configs.hostile(seed, shipped()))
        wrong, _, _ = hostile_configs.complaint(path, [])
        assert wrong is None, seed


@pytest.mark.parametrize("place", ["$HOME/.cache/x", "$HOME/.profile", "x"])
def test_the_benchmark_of_mutated_configs_notices_what_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    def writes(path: Path, _settings: list[str]) -> tuple[None, int, float]:
        if b"kind" in path.read_bytes():
            written = Path(os.path.expandvars(place))
            written.parent.mkdir(exist_ok=True)
            written.write_text("")
        return None, 0, 0.0

    for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):  # which it sets
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(sys, "argv", ["hostile_configs", "--configs", "50"])
    monkeypatch.setattr(hostile_configs, "complaint", writes)
    with pytest.raises(SystemExit, match="1"):
        hostile_configs.main()
    said = place.removeprefix("$HOME/")
    assert re.fullmatch(rf"seed \d+: written: \[.*'{said}'\]\n", capsys.readouterr().out)


def test_a_config_from_stdin(elsewhere: Path) -> None:
    from conftest import VAEXP

    def run(text: bytes, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([VAEXP, *arguments], input=text, capture_output=True, cwd=elsewhere)

    config = b"model: {kind: ppca}\n"
    done = run(config, "train", "-", "model.latent_dim=3", "--dry-run")
    assert done.returncode == 0, done.stderr
    (elsewhere / "resolved.yaml").write_bytes(done.stdout)
    settings = load_config(str(elsewhere / "resolved.yaml"))
    assert (settings.name, settings.model.kind, settings.model.latent_dim) == ("stdin", "ppca", 3)
    done = run(config, "validate", "-")
    assert (done.returncode, done.stdout) == (0, b"-: ok\n"), done.stderr
    for text, message in [
        (b"seed: 1\nmodel: {kind: vae, z_dim: 3}", b"<stdin>:2:20: model.z_dim: unknown key; did"),
        (b"", b"<stdin>:1:1: the file is empty"),
        (b"\xff", b"<stdin>:1:1: not a text file in UTF-8"),
        (b"x" * 300_000, b"<stdin>: larger than 256 kB"),
    ]:
        for command in (["train", "-"], ["validate", "-"]):
            done = run(text, *command)
            assert (done.returncode, done.stdout) == (2, b"")
            assert done.stderr.startswith(message)
    assert [path.name for path in elsewhere.iterdir()] == ["resolved.yaml"]


def test_a_run_from_stdin_keeps_its_config(elsewhere: Path) -> None:
    from conftest import VAEXP

    text = "model: {kind: ppca, method: closed_form}\ndata: {limit: 20}\nname: piped\n"
    command = [VAEXP, "train", "-", "--quick"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    config = load_config(str(elsewhere / done.stdout.strip()))
    assert (config.name, config.data.limit) == ("piped", 20)
