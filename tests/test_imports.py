"""Imports point one way, and what answers at once imports no torch: pyproject.toml says how."""

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def test_imports_point_one_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


LIGHT = [
    "vaexp.cli",
    "vaexp.comparison.compare",
    "vaexp.comparison.page",
    "vaexp.comparison.render",
    "vaexp.config",
    "vaexp.pages.page",
    "vaexp.progress",
    "vaexp.reproduction.reproduce",
    "vaexp.runs.folder",
    "vaexp.runs.keys",
    "vaexp.runs.overview",
    "vaexp.runs.tidy",
    "vaexp.sweeps.display",
    "vaexp.sweeps.summary",
    "vaexp.shown",
    "vaexp.tables",
]
HEAVY = ["torch", "torchvision", "matplotlib", "scipy", "sklearn", "pandas"]


def test_importing_the_light_modules_loads_no_heavy_library() -> None:
    """The linter lets some imports inside functions pass; this is what importing really loads."""
    script = f"""
import importlib, sys
for name in {LIGHT}:
    importlib.import_module(name)
    heavy = sorted(set({HEAVY}) & set(sys.modules))
    assert not heavy, (name, heavy)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
