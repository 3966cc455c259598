"""The figures of what ``vaexp evaluate`` found, from a run's files alone: no model, no data."""

from pathlib import Path
from typing import assert_never

from vaexp import figures
from vaexp.config import Config, FAConfig, GMMConfig, PPCAConfig, VAEConfig
from vaexp.evaluation.groups import GROUPS
from vaexp.figures.evidence import About
from vaexp.runs.folder import RunFolder


def illustrate_evidence(run: RunFolder, groups: list[str]) -> list[Path]:
    """Draw figures/evidence-<group>.png of those groups that have a figure; returns their paths.

    A group without arrays, as not measured or absent for this model, is skipped, and so is one
    whose numbers a kill kept from metrics.json, and one that has nothing to show.
    """
    test = run.metrics().get("test", {})
    about = _about(run.config())
    drawn = []
    for name in groups:
        draw = GROUPS[name].draws()
        entries = {key: entry for key, entry in test.items() if entry.get("group") == name}
        arrays = run.evidence(name) if draw is not None and entries else {}
        figure = draw(arrays, entries, about) if draw is not None and arrays else None
        if figure is not None:
            drawn.append(run.path / "figures" / f"evidence-{name}.png")
            figures.save(figure, drawn[-1])
    return drawn


def _about(config: Config) -> About:
    match config.model:
        case VAEConfig() | PPCAConfig() | FAConfig():
            mixture = False
        case GMMConfig():
            mixture = True
        case _:
            assert_never(config.model)
    return About(config.describe(), config.model.floor, mixture)
