"""What the shell completes after TAB, through the command itself and through bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import VAEXP, _environment

from vaexp.config import shipped_configs, shipped_sweeps
from vaexp.config.experiments import EXPERIMENTS
from vaexp.evaluation.groups import GROUPS


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What may stand in place of the last word of a line. Completion is asked by variables."""

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_VAEXP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        from typer.testing import CliRunner

        from vaexp.cli import app

        done = CliRunner().invoke(app, [], prog_name="vaexp")
        assert done.exit_code == 0, done.output
        assert done.stderr == ""
        return done.stdout.split()

    return completed


def leaves(kind: str) -> set[str]:
    keys = set(EXPERIMENTS[kind].dotted_keys())
    return {f"{key}=" for key in keys if not any(k.startswith(f"{key}.") for k in keys)}


def test_commands(completed: Any) -> None:
    assert completed("vaexp ex") == ["export", "explore"]
    assert completed("vaexp runs tr") == ["trim"]
    assert completed("vaexp train --no-f") == ["--no-figures"]


def test_shipped_configs(completed: Any, elsewhere: Path) -> None:
    assert elsewhere.is_dir()
    assert completed("vaexp train ") == [*shipped_configs()]
    for command in ("train", "sweep", "validate", "configs show", "configs copy"):
        assert completed(f"vaexp {command} gmm-d") == ["gmm-diag"]
    assert completed("vaexp train report/beta-s") == ["report/beta-small"]
    for command in ("sweep", "validate", "configs show", "configs copy"):
        assert completed(f"vaexp {command} choo") == ["choose-k"]
        assert completed(f"vaexp {command} ") == [*shipped_configs(), *shipped_sweeps()]
    assert completed("vaexp train choo") == []  # which runs no sweep
    assert completed("vaexp train ./con") == []  # which leaves files to the shell


def test_keys_are_those_of_the_config(completed: Any, elsewhere: Path) -> None:
    (elsewhere / "bad.yaml").write_text("model: {kind: vea}")
    (elsewhere / "mine.yaml").write_text("model: {kind: gmm}")
    assert set(completed("vaexp train fa ")) == leaves("fa")
    assert set(completed("vaexp train mine.yaml seed=3 ")) == leaves("gmm")
    assert completed("vaexp train vae-fixed model.beta") == ["model.beta=", "model.beta_warmup="]
    assert completed("vaexp train fa model.beta") == []
    every = set().union(*map(leaves, EXPERIMENTS))
    assert set(completed("vaexp train bad.yaml ")) == every
    assert set(completed("vaexp train - ")) == every
    assert set(completed("vaexp sweep fa --grid model.late")) == {"model.latent_dim="}
    assert completed("vaexp validate gmm-full model.cov") == [
        "model.covariance=",
        "model.covariance_floor=",
    ]


def test_values_where_they_can_be_listed(completed: Any) -> None:
    modes = ["fixed", "global", "shared", "pixel", "lowrank"]
    whole = [f"model.sigma_mode={mode}" for mode in modes]
    assert completed("vaexp train vae-fixed model.sigma_mode=") == whole
    assert completed("vaexp train vae-fixed model.sigma_mode=p") == ["model.sigma_mode=pixel"]
    assert completed("vaexp train vae-fixed model.conditional=") == [
        "model.conditional=true",
        "model.conditional=false",
    ]
    assert completed("vaexp train fa data.transform=log") == ["data.transform=logit"]
    assert completed("vaexp train vae-fixed model.beta=") == []
    assert completed("vaexp train vae-fixed nope.nope=") == []
    # bash takes = for a word of its own
    assert completed("vaexp train vae-fixed model.sigma_mode =") == modes
    assert completed("vaexp train vae-fixed model.sigma_mode = p") == ["pixel"]


def test_runs(completed: Any, forge: Any, elsewhere: Path) -> None:
    for command in ("sample", "evaluate", "encode", "runs show", "compare", "train --resume"):
        assert completed(f"vaexp {command} ") == []  # there is no folder of runs
    first, second = forge("first"), forge("second")
    below = elsewhere / "runs" / "digits"
    below.mkdir(parents=True)
    second = second.rename(below / second.name)
    first = first.rename(elsewhere / "runs" / first.name)
    for command in ("sample", "evaluate", "encode", "runs show", "compare x", "train --resume"):
        assert set(completed(f"vaexp {command} ")) == {"latest", first.name, second.name}
        assert completed(f"vaexp {command} sec") == [second.name[16:]]
        assert completed(f"vaexp {command} la") == ["latest"]
        assert completed(f"vaexp {command} {second.name[:-2]}") == [second.name]
        assert completed(f"vaexp {command} runs/") == []


def test_keys_of_the_list_of_runs(completed: Any, forge: Any, elsewhere: Path) -> None:
    assert completed("vaexp runs --sort ") == []  # there is no folder of runs
    run = forge("mix", "model.kind=gmm")
    (elsewhere / "runs" / "sweep-1").mkdir(parents=True)
    run.rename(elsewhere / "runs" / "sweep-1" / run.name)
    for command in ("runs", "runs list", "runs list runs/sweep-1", "runs runs"):
        for option in ("--where", "--sort", "--columns"):
            assert completed(f"vaexp {command} {option} test.") == ["test.elbo"]
            assert completed(f"vaexp {command} {option} model.comp") == ["model.components"]
            assert completed(f"vaexp {command} {option} st") == ["status", "started", "steps"]
            assert completed(f"vaexp {command} {option} model.beta") == []  # no run has it
    assert completed("vaexp runs --where model.components>") == []
    assert completed("vaexp runs --columns status,st") == ["status,started", "status,steps"]
    assert completed("vaexp runs no-such-folder --sort st") == []
    assert completed("vaexp runs no-such-folder --where st") == []


def test_groups(completed: Any) -> None:
    assert completed("vaexp evaluate x --only ") == [*GROUPS]
    assert completed("vaexp evaluate x --only rate,qua") == ["rate,quality", "rate,quadrature"]
    assert "rate,rate" not in completed("vaexp evaluate x --only rate,")


def test_it_loads_no_torch_and_reads_no_stdin(tmp_path: Path) -> None:
    script = """
import sys
from vaexp.cli import app
try:
    app(prog_name="vaexp")
finally:
    heavy = {"torch", "matplotlib", "scipy"} & set(sys.modules)
    print("heavy", sorted(heavy), file=sys.stderr)
"""
    lines = ["vaexp train vae-pixel model.", "vaexp sample ", "vaexp evaluate x --only "]
    lines += ["vaexp runs --where model."]
    stdin, terminal = os.pipe()  # which stays open
    for line in (*lines, "vaexp train - model."):
        asked = {"_VAEXP_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | asked,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            stdin=stdin,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == "heavy []\n"
    os.close(stdin)
    os.close(terminal)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_after_what_show_completion_prints(elsewhere: Path) -> None:
    script = f"""
PATH={VAEXP.parent}:$PATH
eval "$(vaexp --show-completion)"
COMP_WORDS=(vaexp train vae-fi); COMP_CWORD=2
_vaexp_completion vaexp
echo "${{COMPREPLY[*]}}"
complete -p vaexp
"""
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=elsewhere, env=_environment()
    )
    first, second = done.stdout.splitlines()
    assert first == "vae-fixed", done.stderr
    assert "_vaexp_completion" in second
