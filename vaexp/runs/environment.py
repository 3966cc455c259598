"""The machine, versions and commit of a run, which are needed to reproduce its numbers."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("vaexp", "torch", "numpy", "scikit-learn", "safetensors", "matplotlib", "pydantic")


def describe(*, seed: int, device: str) -> dict[str, Any]:
    """The contents of environment.json, except for the hashes of config and data."""
    import torch

    return {
        "git": git_state(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "argv": sys.argv,
        "seed": seed,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
    }


def git_state() -> dict[str, Any] | None:
    """The commit and dirty flag of the clone that vaexp runs from, or None without a clone."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        # Another repository may surround the package. In it this file is not known.
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
