"""What a finished run leaves behind, and when two runs have the same results."""

import json
import re
from pathlib import Path
from typing import Any

FILES = {
    "config.yaml",
    "run.json",
    "environment.json",
    "metrics.jsonl",
    "metrics.json",
    "per_example.npz",
    "evaluation.json",
    "train.log",
    "checkpoints/model.safetensors",
    "checkpoints/state.pt",
    "checkpoints/.lock",
    "figures/samples.png",
    "figures/decode_modes.png",
    "figures/reconstructions.png",
}
"""The files of a run of any kind."""
RESULTS = ("config.yaml", "metrics.json", "per_example.npz", "checkpoints/model.safetensors")


def files(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


def trained_files(run: Path) -> set[str]:
    """Without what was sampled since."""
    return {name for name in files(run) if not name.startswith("samples/")}


def assert_left_behind(run: Path, expected: set[str]) -> None:
    """These files and no other. A figure that is new may stand beside the expected ones."""
    left = trained_files(run)
    assert expected <= left
    assert all(re.fullmatch(r"figures/\w+\.png", name) for name in left - expected), left


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def logged(run: Path) -> str:
    """What train.log holds, without the time before each message."""
    text = (run / "train.log").read_text()
    time = r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "
    assert len(re.findall(time, text)) == len(text.splitlines()), "a message has no time"
    return re.sub(time, "", text)


def timeless(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [strict_json(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: line[key] for key in line if key not in ("seconds", "images_per_second")}
        for line in lines
    ]


def assert_same_results(one: Path, other: Path, names: set[str] | None = None) -> None:
    """Bit for bit: numbers, weights and pictures. ``names``: of which files, or of all."""
    if names is None:
        names = trained_files(one)
        assert names == trained_files(other)
    for name in sorted(names):
        if name.startswith("figures/") or name in RESULTS:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert timeless(one) == timeless(other)
