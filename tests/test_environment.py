"""What is recorded of the machine: all that can be found out, and nothing stops a run."""

import importlib.metadata
import os
import socket
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from own_images import write_own

from vaexp.runs import environment, parts
from vaexp.runs.folder import RunFolder


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with the module in it, to which the environment's own file belongs."""
    package = tmp_path / "vaexp"
    (package / "runs").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(environment, "__file__", str(package / "runs" / "environment.py"))
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    return tmp_path


def test_the_commit_of_a_clone(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    state: Any = environment.git_state()
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (clone / "new").write_text("")
    state = environment.git_state()
    assert state["dirty"] is True


def test_git_that_cannot_be_asked_is_unknown_with_the_reason(
    clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_state() == "unknown, because git is not installed"
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nprintf 'fatal: \\377 dubious ownership\\n' >&2; exit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    state = environment.git_state()
    assert state == "unknown, because git says: fatal: \ufffd dubious ownership"
    (clone / ".git").rename(clone / "moved")
    state = environment.git_state()
    assert state == "unknown, because vaexp runs from an installed package and no clone"


def test_a_package_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(environment, "version", missing)
    versions = environment.describe(seed=1, device="cpu")["versions"]
    assert versions["vaexp"]
    assert versions["torch"] == "unknown, because it is not installed as a package"


def test_what_the_system_does_not_say_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> str:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "gethostname", refused)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", refused)
    described = environment.describe(seed=1, device="cuda")
    assert described["host"] == "unknown, because Operation not permitted"
    assert described["cores"] == "unknown, because the system does not say"
    assert described["device"] == described["host"]
    assert (
        parts.complaint(parts.ENVIRONMENT, described | {"config_sha256": "x", "data_sha256": "x"})
        is None
    )


def test_a_measuring_records_its_versions(
    tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch, change_json: Any
) -> None:
    write_own(tmp_path / "own")
    data = f"{{name: own, root: {tmp_path / 'own'}, validation_size: 0}}"
    (tmp_path / "mine.yaml").write_text(
        f"model: {{kind: ppca, latent_dim: 2, method: closed_form}}\ndata: {data}\n"
    )
    where = ("--runs-dir", tmp_path, "--no-figures")
    run = RunFolder(Path(invoke("train", tmp_path / "mine.yaml", *where).stdout.strip()))
    trained = run.environment()["versions"]
    monkeypatch.setattr(environment, "__version__", "99.1")
    assert invoke("evaluate", run.path, "--only", "law", "--images", "5").exit_code == 0
    notes = run.evaluation()["law"]
    assert notes["versions"] == trained | {"vaexp": "99.1"}
    assert notes["device"] == "cpu"
    assert datetime.fromisoformat(notes["measured"]).tzinfo is not None
    change_json(run.path / "evaluation.json", law={"absent": {}})  # as earlier versions wrote it
    assert invoke("runs", "show", run.path).exit_code == 0
    assert invoke("evaluate", run.path, "--only", "law", "--images", "5").exit_code == 0
    assert run.environment()["versions"] == trained
