"""Trials: ``--no-figures`` and ``--quick`` train the same, and measure and draw less."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def runs(session_cli: Any, fixed: Path) -> dict[str, Path]:
    made = {"whole": fixed}
    for name, flags in {"bare": ["--no-figures"], "quick": ["--quick"]}.items():
        done = session_cli("train", "tiny.yaml", f"name={name}", *flags)
        assert done.returncode == 0, done.stderr
        made[name] = session_cli.cwd / done.stdout.strip()
    return made


def metrics(run: Path) -> Any:
    return json.loads((run / "metrics.json").read_text())


def test_without_figures_the_numbers_are_the_same(runs: dict[str, Path]) -> None:
    assert [*(runs["bare"] / "figures").iterdir()] == []
    assert metrics(runs["bare"]) == metrics(runs["whole"])


def test_quick_measures_the_first_images_of_the_same_model(runs: dict[str, Path]) -> None:
    quick, whole = runs["quick"], runs["whole"]
    assert [*(quick / "figures").iterdir()] == []
    weights = "checkpoints/model.safetensors"
    assert (quick / weights).read_bytes() == (whole / weights).read_bytes()
    shorter, longer = metrics(quick), metrics(whole)
    assert shorter.keys() == longer.keys()
    for split, entries in shorter.items():
        assert entries.keys() == longer[split].keys()
        for name, entry in entries.items():
            n = longer[split][name]["n"]
            assert entry["n"] == min(n, 1000), name
            images = longer[split]["elbo"]["n"]
            assert entry.get("first_images") == (1000 if images > 1000 else None), name
    assert shorter["train"] == longer["train"]  # 256 images
    with np.load(quick / "per_example.npz") as some, np.load(whole / "per_example.npz") as every:
        assert {len(values) for values in some.values()} == {1000}
        np.testing.assert_array_equal(some["label"], every["label"][:1000])
    assert "measuring on the first 1,000 of 1,991 test images" in (quick / "train.log").read_text()


def test_quick_runs_are_compared_with_each_other(runs: dict[str, Path], comparison: Any) -> None:
    assert comparison(runs["quick"], runs["quick"])
