"""The machine, versions and commit of a run, which are needed to reproduce its numbers.

What cannot be found out is recorded as unknown, with the reason. It never stops a run.
"""

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from vaexp import __version__
from vaexp.errors import in_a_line

T = TypeVar("T")

PACKAGES = ("torch", "numpy", "scikit-learn", "safetensors", "matplotlib", "pydantic")


def describe(*, seed: int, device: str) -> dict[str, Any]:
    """The contents of environment.json, except for the hashes of config and data."""
    import torch

    return {
        "git": git_state(),
        "versions": versions(),
        "platform": _asked(platform.platform),
        "host": _asked(socket.gethostname),
        "processor": _asked(torch.backends.cpu.get_cpu_capability),
        "cores": _asked(os.cpu_count),
        "argv": sys.argv,
        "seed": seed,
        "device": _asked(torch.cuda.get_device_name) if device == "cuda" else device,
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """The versions of Python, of vaexp and of the packages that its numbers depend on."""
    own = {"python": platform.python_version(), "vaexp": __version__}
    return own | {package: _version(package) for package in PACKAGES}


def _asked(ask: Callable[[], T | None]) -> T | str:
    """What the system answers, or why it is unknown."""
    try:
        answer = ask()
    except Exception as error:  # whatever a platform, a driver or a sandbox makes of the question
        return f"unknown, because {in_a_line(error)}"
    return "unknown, because the system does not say" if answer is None else answer


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown, because it is not installed as a package"


def git_state() -> dict[str, Any] | str:
    """The commit and dirty flag of the clone that vaexp runs from, or a text why they are unknown.

    In the environment.json of earlier versions a package without a clone has null here.
    """
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return "unknown, because vaexp runs from an installed package and no clone"
    # A hook of another repository sets variables, such as GIT_DIR, that point to that one.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=10,
            env=own | {"GIT_OPTIONAL_LOCKS": "0"},
        )
        return done.stdout.strip()

    try:
        # The package may lie, installed, in another repository, in which it is not known.
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except FileNotFoundError:
        return "unknown, because git is not installed"
    except subprocess.TimeoutExpired:
        return "unknown, because git did not answer within 10 seconds"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        return f"unknown, because git says: {lines[0] if lines else 'nothing'}"
    except OSError as error:
        return f"unknown, because git does not start: {error.strerror}"
