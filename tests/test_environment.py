"""What is recorded of the machine: all that can be found out, and nothing stops a run."""

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vaexp.runs import environment


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
    assert environment.git_state() is None


def test_a_package_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(environment, "version", missing)
    versions = environment.describe(seed=1, device="cpu")["versions"]
    assert versions["vaexp"]
    assert versions["torch"] == "unknown, because it is not installed as a package"
